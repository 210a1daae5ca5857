"""Noise maps for any MRI reconstruction, with an error bar."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrnoise import (
        acquisition,
        baselines,
        estimators,
        measurement,
        networks,
        ranking,
        reconstruction,
        simulation,
        training,
    )
    from mrnoise.acquisition import Acquisition, Geometry, NoiseCovariance
    from mrnoise.coilwise import CoilSketch, coil_sketch
    from mrnoise.errors import InputError
    from mrnoise.io import read, read_noise_map
    from mrnoise.mapping import noise_map
    from mrnoise.measurement import roi_std
    from mrnoise.ratio import GFactor, g_factor
    from mrnoise.result import NoiseMap

# Imported on first use: `mrnoise --help` must not wait for torch.
_HOME = {
    "Acquisition": "mrnoise.acquisition",
    "CoilSketch": "mrnoise.coilwise",
    "GFactor": "mrnoise.ratio",
    "Geometry": "mrnoise.acquisition",
    "InputError": "mrnoise.errors",
    "NoiseCovariance": "mrnoise.acquisition",
    "NoiseMap": "mrnoise.result",
    "coil_sketch": "mrnoise.coilwise",
    "g_factor": "mrnoise.ratio",
    "noise_map": "mrnoise.mapping",
    "read": "mrnoise.io",
    "read_noise_map": "mrnoise.io",
    "roi_std": "mrnoise.measurement",
}
_ROOMS = (
    "acquisition",
    "baselines",
    "estimators",
    "measurement",
    "networks",
    "ranking",
    "reconstruction",
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
    "baselines",
    "coil_sketch",
    "estimators",
    "g_factor",
    "measurement",
    "networks",
    "noise_map",
    "ranking",
    "read",
    "read_noise_map",
    "reconstruction",
    "roi_std",
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
