"""From the options of a command to an acquisition and a reconstruction."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mrnoise.errors import InputError

if TYPE_CHECKING:
    from mrnoise.acquisition import Acquisition
    from mrnoise.reconstruction import KspaceToImage, Reconstruction

RECONSTRUCTIONS = ("sense", "cg-sense", "zero-filled", "rss")


def load_scan(
    path: Path,
    noise: Path | None,
    *,
    slice_index: int | None,
    acceleration: float | None,
    pattern: str,
    calibration: int,
    coil_maps: str,
    seed: int,
) -> Acquisition:
    """Read a scan, choose a slice, find its coil maps, undersample it; in this order.

    Fixed maps are those of the file, else ESPIRiT maps of the scan as read, before undersampling.
    """
    from mrnoise.calibration import with_coil_maps
    from mrnoise.io import read
    from mrnoise.sampling import pattern as sampling_pattern

    if coil_maps not in ("fixed", "propagated"):
        raise InputError(
            "unknown choice of coil maps",
            expected="fixed or propagated",
            received=coil_maps,
            remedy="Use fixed, the classical definition.",
        )
    acquisition = read(path, noise=noise)
    if slice_index is not None:
        slices = list(acquisition.slices())
        if not 0 <= slice_index < len(slices):
            raise InputError(
                "no such slice",
                expected=f"0 to {len(slices) - 1}",
                received=str(slice_index),
                remedy=f"Run mrnoise info {path} to see the shape of the scan.",
            )
        acquisition = slices[slice_index]
    if coil_maps == "propagated":
        acquisition = acquisition.replace(coil_maps=None)
    elif acquisition.coil_maps is None and acquisition.n_coils > 1:
        acquisition = with_coil_maps(acquisition)
    if acceleration is not None:
        shape = acquisition.spatial_shape
        acquisition = acquisition.undersample(sampling_pattern(pattern, shape, acceleration, calibration, seed))
    return acquisition


def load_reconstruction(
    name: str, regularization: float, weights: str, normalization: str
) -> Reconstruction | KspaceToImage:
    """One of ours by name, the user's own as ``module:name``, or the network in a file."""
    from mrnoise.networks import pretrained
    from mrnoise.networks.weights import SHIPPED
    from mrnoise.reconstruction import CgSense, RootSumOfSquares, Sense, ZeroFilled, from_file
    from mrnoise.reconstruction.adapters import NETWORK_FILES

    if name == "sense":
        return Sense(regularization)
    if name == "cg-sense":
        return CgSense(regularization)
    if name == "zero-filled":
        return ZeroFilled()
    if name == "rss":
        return RootSumOfSquares()
    if name in SHIPPED:
        return pretrained(name, weights, normalization=normalization)
    if name.endswith(NETWORK_FILES):
        return from_file(name)
    if ":" in name:
        return _load_callable(name)
    raise InputError(
        "unknown reconstruction",
        expected="one of "
        + ", ".join((*RECONSTRUCTIONS, *SHIPPED))
        + f", module:name, or a file ({', '.join(NETWORK_FILES)})",
        received=name,
        remedy="Put your own callable k-space → image in my_module.py and give my_module:my_function, or save your "
        "network with torch.jit.save or torch.export.save.",
    )


def _load_callable(name: str) -> Reconstruction | KspaceToImage:
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            "cannot load the reconstruction",
            expected="module:name, importable from the current folder or the environment",
            received=f"{name} ({error})",
            remedy="Check the spelling and that the module can be imported by python.",
        ) from error
    finally:
        sys.path.pop(0)
    # A class is a recipe for a reconstruction: make one with its defaults.
    made = found() if isinstance(found, type) else found
    if not callable(made) and not hasattr(made, "bind"):
        raise InputError(
            "the reconstruction cannot be called",
            expected="a callable k-space → image, or an object with bind(acquisition)",
            received=f"{name}, a {type(made).__name__}",
            remedy="Give the name of a function, a module instance or a class.",
        )
    return made
