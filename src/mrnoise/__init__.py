"""Noise maps for any MRI reconstruction, with an error bar."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrnoise import (
        acquisition,
        calibration,
        closed_form,
        estimators,
        export,
        figures,
        measurement,
        networks,
        ranking,
        reconstruction,
        sampling,
        simulation,
        training,
    )
    from mrnoise.acquisition import Acquisition, Geometry, NoiseCovariance
    from mrnoise.errors import InputError
    from mrnoise.io import read, read_noise_map
    from mrnoise.mapping.coilwise import CoilSketch, coil_sketch
    from mrnoise.mapping.run import choose, noise_map
    from mrnoise.measurement import roi_std
    from mrnoise.progress import progress_bar
    from mrnoise.result.noise_map import NoiseMap
    from mrnoise.result.preview import preview
    from mrnoise.result.ratio import GFactor, g_factor
    from mrnoise.saving import save

# Imported on first use: `mrnoise --help` must not wait for torch.
_HOME = {
    "Acquisition": "mrnoise.acquisition",
    "CoilSketch": "mrnoise.mapping.coilwise",
    "GFactor": "mrnoise.result.ratio",
    "Geometry": "mrnoise.acquisition",
    "InputError": "mrnoise.errors",
    "NoiseCovariance": "mrnoise.acquisition",
    "NoiseMap": "mrnoise.result.noise_map",
    "choose": "mrnoise.mapping.run",
    "coil_sketch": "mrnoise.mapping.coilwise",
    "g_factor": "mrnoise.result.ratio",
    "noise_map": "mrnoise.mapping.run",
    "preview": "mrnoise.result.preview",
    "progress_bar": "mrnoise.progress",
    "read": "mrnoise.io",
    "read_noise_map": "mrnoise.io",
    "roi_std": "mrnoise.measurement",
    "save": "mrnoise.saving",
}
_ROOMS = (
    "acquisition",
    "calibration",
    "closed_form",
    "estimators",
    "export",
    "figures",
    "io",
    "measurement",
    "networks",
    "ranking",
    "reconstruction",
    "sampling",
    "simulation",
    "training",
)

__all__ = [
    "Acquisition",
    "CoilSketch",
    "GFactor",
    "Geometry",
    "InputError",
    "NoiseCovariance",
    "NoiseMap",
    "acquisition",
    "calibration",
    "choose",
    "closed_form",
    "coil_sketch",
    "estimators",
    "export",
    "figures",
    "g_factor",
    "io",
    "measurement",
    "networks",
    "noise_map",
    "preview",
    "progress_bar",
    "ranking",
    "read",
    "read_noise_map",
    "reconstruction",
    "roi_std",
    "sampling",
    "save",
    "simulation",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _ROOMS:
        return import_module(f"mrnoise.{name}")
    raise AttributeError(f"module 'mrnoise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
