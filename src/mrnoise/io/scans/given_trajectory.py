"""What is given beside a scan on where its samples lie: a trajectory from another file, its unit, the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.cfl import SUFFIXES
from mrnoise.files.opening import check_is_file, check_kind
from mrnoise.files.text import printable
from mrnoise.io.scans.bart import bart_trajectory
from mrnoise.io.scans.npz import npy_array, npz_trajectory
from mrnoise.io.scans.trajectory_units import CYCLES, UNITS
from mrnoise.sampling import Trajectory

FORMATS = "BART (.cfl with .hdr), npy, or npz with an array trajectory"


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Coordinates as a file has them, and what it says of them.

    Parameters
    ----------
    values
        (dimension, *samples), ordered as the axes of the image.
    density
        (*samples), in samples of the grid.
    matrix
        Of the image.
    unit
        One of `UNITS`; ``None``: the format has none.
    source
        Name of the file.
    """

    values: np.ndarray
    density: np.ndarray | None
    matrix: tuple[int, ...] | None
    unit: str | None
    source: str


@dataclass(frozen=True, eq=False)
class GivenTrajectory:
    """What is given on the trajectory of a scan; a reader asks it for what its file does not say.

    Parameters
    ----------
    source
        A file, or the trajectory itself; ``None``: that of the scan.
    matrix
        Of the image, (y, x) or (z, y, x); before any other.
    unit
        One of `UNITS`; before any other.
    """

    source: Path | Trajectory | None = None
    matrix: tuple[int, ...] | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and self.unit not in UNITS:
            raise InputError(
                "the unit of the trajectory is not known",
                expected=" or ".join(UNITS),
                received=self.unit,
                remedy="Give one of them.",
            )

    @property
    def anything(self) -> bool:
        """Whether anything is given."""
        return self.source is not None or self.matrix is not None or self.unit is not None

    def read(self) -> Coordinates | None:
        """What is given instead of the coordinates of the scan.

        Raises
        ------
        InputError
            If the file is missing, of another format, or holds no coordinates.
        """
        if self.source is None:
            return None
        if isinstance(self.source, Trajectory):
            one = self.source
            density = None if one.density is None else one.density.numpy()
            found = Coordinates(one.coordinates.numpy(), density, one.image_shape, CYCLES, "the given trajectory")
        else:
            found = _of_file(self.source)
        unit = self.unit or found.unit
        return Coordinates(found.values, found.density, self.matrix or found.matrix, unit, found.source)


NO_TRAJECTORY = GivenTrajectory()


def parsed_matrix(given: str | Sequence[int] | None) -> tuple[int, ...] | None:
    """A matrix, "128,128" or numbers.

    Raises
    ------
    InputError
        If it is none of two or three axes.

    Examples
    --------
    >>> parsed_matrix("32,128,128")
    (32, 128, 128)
    """
    if given is None:
        return None
    parts = [part.strip() for part in given.split(",")] if isinstance(given, str) else [str(n) for n in given]
    if len(parts) not in (2, 3) or not all(part.isdecimal() and 0 < int(part) < 2**16 for part in parts):
        raise InputError(
            "cannot read the matrix",
            expected="Y,X or Z,Y,X, whole numbers from 1 on",
            received=",".join(parts),
            remedy="For example: --matrix 128,128",
        )
    return tuple(int(part) for part in parts)


def _of_file(path: Path) -> Coordinates:
    source = printable(path.name)
    check_is_file(path, f"a trajectory: {FORMATS}")
    if path.suffix in SUFFIXES:
        return Coordinates(bart_trajectory(path), None, None, CYCLES, source)
    if path.suffix == ".npy":
        return Coordinates(
            dimension_first(check_kind(npy_array(path), "the trajectory", path), source), None, None, None, source
        )
    if path.suffix == ".npz":
        arrays = npz_trajectory(path)
        matrix = parsed_matrix(arrays["image_shape"].ravel().tolist()) if "image_shape" in arrays else None
        values = dimension_first(arrays["trajectory"], source)
        return Coordinates(values, arrays.get("density"), matrix, CYCLES, source)
    raise InputError(
        f"{source} is of no format that trajectories are read from",
        expected=FORMATS,
        received=f"the suffix {path.suffix!r}",
        remedy="Save it with numpy: (dimension, *samples), the dimensions ordered as the axes of the image.",
    )


def dimension_first(values: np.ndarray, source: str) -> np.ndarray:
    """Coordinates (dimension, *samples), of that or of (*samples, dimension) as SigPy has them.

    Raises
    ------
    InputError
        If they are no real numbers, or it is not clear which axis holds the dimensions.
    """
    first, last = (values.ndim > 1 and values.shape[end] in (2, 3) for end in (0, -1))
    if values.dtype.kind not in "fiu" or first == last or not values.size:
        both = "both may be meant" if first and last else "no array of coordinates"
        raise InputError(
            f"{source} holds no coordinates",
            expected="real numbers, (dimension, *samples) or (*samples, dimension) of 2 or 3 dimensions",
            received=f"{values.dtype}, shape {values.shape}: {both}",
            remedy="Save them as float, the dimensions first, ordered as the axes of the image.",
        )
    return values if first else np.moveaxis(values, -1, 0)
