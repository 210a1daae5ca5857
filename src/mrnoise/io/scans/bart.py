"""Arrays of BART: a pair of files, .cfl with numbers and .hdr with their dimensions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.files.opening import reading
from mrnoise.files.text import printable
from mrnoise.io.scans.scan_arrays import ScanArrays

SUFFIXES = (".cfl", ".hdr")
# BART's dimensions (src/misc/mri.h): its first is the fastest. Those without a name here hold no images.
DIMENSIONS = ("kx", "ky", "kz", "coil", "", "echo", "", "", "", "", "frame", "phase", "", "slice", "average", "")
COIL, SPATIAL = 3, 3


def bart_arrays(path: Path) -> ScanArrays:
    """K-space of BART.

    Dimension 0 is the readout, 1 and 2 the phase encodings, 3 the coils, 5 echoes, 10 and 11 times, 13 slices, 14
    averages. With all of the first three in use it is that of a volume.

    Raises
    ------
    InputError
        If a file of the pair is missing or too short, or another dimension is in use.
    """
    values = _array(path)
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
    rest = [i for i in range(values.ndim) if i not in kept]
    kspace = values.transpose([*kept, *rest]).reshape([values.shape[i] for i in kept])
    return ScanArrays({"kspace": kspace}, path, "BART", axes=tuple(axes.get(i) or DIMENSIONS[i] for i in kept))


def bart_noise(path: Path) -> np.ndarray:
    """Noise samples (coil, sample): all dimensions but the coils are samples."""
    values = _array(path)
    return np.moveaxis(values, COIL, 0).reshape(values.shape[COIL], -1)


def _array(path: Path) -> np.ndarray:
    """Array with the dimensions of its header, at least 16."""
    header, numbers = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    with reading(header, "the header of BART, dimensions in its second line", "Both .cfl and .hdr are needed."):
        lines = header.read_text(encoding="utf-8").splitlines()
        place = next(i for i, line in enumerate(lines) if line.strip() == "# Dimensions")
        shape = tuple(int(n) for n in lines[place + 1].split())
    with reading(numbers, "complex numbers of BART", "Both .cfl and .hdr are needed."):
        size = numbers.stat().st_size
    if not 0 < len(shape) <= len(DIMENSIONS) or min(shape) < 1 or size != 8 * math.prod(shape):
        raise InputError(
            f"{printable(numbers.name)} does not fit its header",
            expected=f"8 bytes for each of {' × '.join(map(str, shape[: len(DIMENSIONS)]))} complex numbers",
            received=f"{size} bytes, {len(shape)} dimensions",
            remedy="The file may be truncated: copy both files again.",
        )
    check_memory(size, numbers.name)
    with reading(numbers, "complex numbers of BART"):
        values = np.fromfile(numbers, "<c8")
    return values.reshape(shape + (1,) * (len(DIMENSIONS) - len(shape)), order="F")
