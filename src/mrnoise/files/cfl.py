"""Arrays of BART: a pair of files, .cfl with numbers and .hdr with their dimensions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.files.opening import reading
from mrnoise.files.text import printable

SUFFIXES = (".cfl", ".hdr")
# BART's dimensions (src/misc/mri.h): its first is the fastest. Those without a name here hold no images.
DIMENSIONS = ("kx", "ky", "kz", "coil", "", "echo", "", "", "", "", "frame", "phase", "", "slice", "average", "")
COIL, SPATIAL = 3, 3


def read_cfl(path: Path) -> np.ndarray:
    """Array with the dimensions of its header, at least 16.

    Parameters
    ----------
    path
        Either file of the pair, or their name without a suffix.

    Raises
    ------
    InputError
        If a file of the pair is missing, or does not fit the other.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_cfl(Path(folder) / "image", np.ones((4, 3)))
    ...     read_cfl(Path(folder) / "image").shape
    (4, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
    """
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


def write_cfl(path: Path, values: np.ndarray) -> None:
    """Write an array as a pair of files in single precision, its first axis the fastest.

    Parameters
    ----------
    path
        Name of both without a suffix.
    values
        At most 16 axes, in the order of BART's dimensions.
    """
    shape = values.shape + (1,) * (len(DIMENSIONS) - values.ndim)
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n", encoding="utf-8")
    values.astype("<c8").ravel(order="F").tofile(path.with_suffix(".cfl"))
