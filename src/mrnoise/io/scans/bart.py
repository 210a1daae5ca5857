"""K-space, trajectories and noise in arrays of BART."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.cfl import COIL, DIMENSIONS, SPATIAL, SUFFIXES, read_cfl
from mrnoise.io.scans.scan_arrays import ScanArrays

# Of non-Cartesian k-space and trajectories: readouts and their samples. Dimension 0 of a trajectory is (x, y, z).
READOUTS = (2, 1)


def bart_arrays(path: Path) -> ScanArrays:
    """K-space of BART.

    Dimension 0 is the readout, 1 and 2 the phase encodings, 3 the coils, 5 echoes, 10 and 11 times, 13 slices, 14
    averages. With all of the first three in use it is that of a volume.

    Raises
    ------
    InputError
        If a file of the pair is missing or too short, or another dimension is in use.
    """
    values = read_cfl(path)
    used = [i for i, n in enumerate(values.shape) if n > 1]
    others = [i for i in used if i >= len(DIMENSIONS) or not DIMENSIONS[i]]
    plane = [i for i in range(SPATIAL) if values.shape[i] > 1]
    if others or len(plane) < 2:
        raise InputError(
            f"{path.name} does not hold Cartesian k-space",
            expected="at least two of dimensions 0 to 2, coils, echoes, times, slices and averages",
            received=f"shape {values.shape} with dimensions {', '.join(map(str, others or plane)) or 'none'} in use",
            remedy="Select one set of the other dimensions: bart slice.",
        )
    names = ("kz", "ky", "kx")[-len(plane) :]
    axes = dict(zip(reversed(plane), names, strict=True))
    kept = [i for i in range(values.ndim - 1, -1, -1) if i in axes or i == COIL or (i in used and i > COIL)]
    kspace = _ordered(values, kept)
    notes = (
        ()
        if values.shape[0] > 1
        else (
            "dimension 0 is not used: read as a plane of two phase encodings; samples "
            "along a trajectory need it beside them, --trajectory",
        )
    )
    names = tuple(axes.get(i) or DIMENSIONS[i] for i in kept)
    return ScanArrays({"kspace": kspace}, path, "BART", axes=names, notes=notes)


def bart_samples(path: Path) -> ScanArrays:
    """K-space of BART along a trajectory, (..., coil, readout, sample), without the axis of a single readout.

    Dimension 0 is 1, 1 are the samples of a readout, 2 the readouts, 3 the coils; others as for `bart_arrays`.

    Raises
    ------
    InputError
        If a file of the pair is missing or too short, or another dimension is in use.
    """
    values = read_cfl(path)
    leading = [i for i in range(values.ndim - 1, COIL, -1) if values.shape[i] > 1]
    others = [i for i in (0, *leading) if values.shape[i] > 1 and (i >= len(DIMENSIONS) or not DIMENSIONS[i])]
    if others or values.shape[0] > 1:
        raise InputError(
            f"{path.name} does not hold samples along a trajectory",
            expected="dimensions 1 (samples), 2 (readouts), 3 (coils), echoes, times, slices and averages",
            received=f"shape {values.shape} with dimension {', '.join(map(str, others))} in use",
            remedy="Leave --trajectory out for Cartesian k-space; bart slice selects one set of other dimensions.",
        )
    kspace = _ordered(values, [*leading, COIL, *_readouts(values)])
    return ScanArrays({"kspace": kspace, "axes": np.array([DIMENSIONS[i] for i in leading], str)}, path, "BART")


def bart_trajectory(path: Path) -> np.ndarray:
    """Coordinates of BART in cycles per field of view, (dimension, readout, sample), ordered (y, x) or (z, y, x).

    A trajectory whose z is 0 everywhere is one of two dimensions; one that repeats itself along further dimensions is
    taken once.

    Raises
    ------
    InputError
        If a file of the pair is missing or too short, or it holds no such coordinates.
    """
    values = read_cfl(path)
    sets = values.reshape(*values.shape[:SPATIAL], -1)
    if len(values) != SPATIAL or bool(values.imag.any()) or bool((sets != sets[..., :1]).any()):
        raise InputError(
            f"{path.name} does not hold one trajectory",
            expected="real numbers, dimension 0 of 3 (x, y, z), 1 samples and 2 readouts, the same for all images",
            received=f"shape {values.shape}" + (", complex" if values.imag.any() else ""),
            remedy="Give what bart traj writes; bart slice selects one of several.",
        )
    xyz = _ordered(sets[..., 0].real, [0, *_readouts(values)])[::-1]
    return xyz if xyz[0].any() else xyz[1:]


def _readouts(values: np.ndarray) -> list[int]:
    return [i for i in READOUTS if i == 1 or values.shape[i] > 1]


def _ordered(values: np.ndarray, kept: list[int]) -> np.ndarray:
    """These dimensions in this order, all others being 1."""
    rest = [i for i in range(values.ndim) if i not in kept]
    return values.transpose([*kept, *rest]).reshape([values.shape[i] for i in kept])


def completed(path: Path) -> Path:
    """The file of a pair that is named as BART names it, without a suffix."""
    numbers = f"{path}{SUFFIXES[0]}"
    return Path(numbers) if os.path.isfile(numbers) and not os.path.exists(path) else path  # whatever the name


def bart_noise(path: Path) -> np.ndarray:
    """Noise samples (coil, sample): all dimensions but the coils are samples."""
    values = read_cfl(path)
    return np.moveaxis(values, COIL, 0).reshape(values.shape[COIL], -1)
