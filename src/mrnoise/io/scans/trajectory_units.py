"""In which unit the coordinates of a file are, and what they are in cycles per field of view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mrnoise.errors import InputError

CYCLES = "cycles/fov"
UNITS = (CYCLES, "cycles/encoded-fov", "cycles/voxel", "radians/voxel", "1/m")
# A unit may be meant where it makes the trajectory end at such a part of k-space; near the edge, along all axes, first.
POSSIBLE, NEAR = (0.75, 1.1), (0.97, 1.01)
# Cycles per field of view that no image resolves.
MOST = 2**15


@dataclass(frozen=True)
class ImageSpace:
    """The image of a trajectory, axes (y, x) or (z, y, x).

    Parameters
    ----------
    shape
        Matrix.
    fov_mm
        Its field of view; ``None``: not known.
    encoded_fov_mm
        Another one that coordinates may refer to, that with oversampling.
    resolved
        The matrix whose voxels coordinates may refer to; ``None``: that of the image.
    """

    shape: tuple[int, ...]
    fov_mm: tuple[float, ...] | None = None
    encoded_fov_mm: tuple[float, ...] | None = None
    resolved: tuple[int, ...] | None = None

    @property
    def factors(self) -> dict[str, tuple[float, ...]]:
        """Cycles per field of view that each unit comes to, along each axis; of the units that are different."""
        found = {CYCLES: (1.0,) * len(self.shape)}
        if self.fov_mm is not None and self.encoded_fov_mm is not None and self.encoded_fov_mm != self.fov_mm:
            pairs = zip(self.fov_mm, self.encoded_fov_mm, strict=True)
            found["cycles/encoded-fov"] = tuple(own / encoded for own, encoded in pairs)
        voxels = self.resolved or self.shape
        found["cycles/voxel"] = tuple(float(n) for n in voxels)
        found["radians/voxel"] = tuple(n / (2 * math.pi) for n in voxels)
        if self.fov_mm is not None:
            found["1/m"] = tuple(length / 1000 for length in self.fov_mm)
        return found

    def parts(self, reach: Sequence[float], unit: str) -> list[float]:
        """Where coordinates up to ``reach`` end in this unit, as a part of k-space along each axis."""
        return [2 * r * f / n for r, f, n in zip(reach, self.factors[unit], self.shape, strict=True)]


def in_cycles(
    coordinates: np.ndarray, spaces: Sequence[ImageSpace], unit: str | None, source: str
) -> tuple[np.ndarray, ImageSpace, str]:
    """Coordinates in cycles per field of view, the image that they are of, and what is to be said about it.

    Parameters
    ----------
    coordinates
        (dimension, *samples), ordered as the axes of the image.
    spaces
        Images that may be meant, the likeliest first.
    unit
        One of `UNITS`; ``None``: that in which the coordinates end near the edge of k-space.
    source
        What errors call the file.

    Raises
    ------
    InputError
        If a coordinate is no number, the unit is not known here or cannot be told, or the trajectory leaves k-space.

    Examples
    --------
    >>> k = np.stack(np.meshgrid(np.arange(-8, 8) / 16, np.arange(-6, 6) / 12))
    >>> found, space, note = in_cycles(k, [ImageSpace((16, 12))], None, "scan.h5")
    >>> float(found.min()), note
    (-8.0, 'The trajectory was read as cycles/voxel: it ends at ±0.5, ±0.5 along y, x.')
    """
    if not np.isfinite(coordinates).all():
        raise InputError(
            f"the trajectory of {source} has coordinates that are no finite numbers",
            expected="a position of each sample",
            received=f"{int((~np.isfinite(coordinates)).sum())} that are not finite",
            remedy="Leave out samples without a position, and their k-space.",
        )
    reach = np.abs(coordinates.reshape(len(coordinates), -1)).max(1).tolist()
    space, unit, said = _chosen(reach, spaces, unit, source)
    factor = np.array(space.factors[unit]).reshape(-1, *[1] * (coordinates.ndim - 1))
    found = coordinates.astype(np.float64) * factor
    grown = _grown(space.shape, [r * f for r, f in zip(reach, space.factors[unit], strict=True)], source)
    if grown != space.shape:
        said += f" The matrix {_times(space.shape)} has no room for it: it is {_times(grown)}."
    return found, replace(space, shape=grown), said


def matrix_of(coordinates: np.ndarray, unit: str | None, source: str) -> tuple[int, ...]:
    """The matrix that coordinates in cycles per field of view resolve, 2 ⌈max |k|⌉, as BART has it.

    Raises
    ------
    InputError
        If they are not finite, are or may be in another unit, as they end at ±π or nearer to 0, or end beyond ±2¹⁵.
    """
    reach = np.abs(coordinates.reshape(len(coordinates), -1)).max(1) if coordinates.size else np.zeros(1)
    sensible = np.isfinite(reach).all() and reach.max() <= MOST
    if sensible and (unit == CYCLES or (unit is None and reach.max() > 2 * math.pi)):
        return tuple(max(1, 2 * math.ceil(r - 1e-3)) for r in reach.tolist())
    raise InputError(
        f"the matrix of the image of {source} cannot be told",
        expected=f"{CYCLES}, coordinates that end before ±{MOST}, beyond ±6 if no unit is given; or the matrix",
        received=f"coordinates that end at {_reached(reach.tolist())}" + (f" {unit}" if unit else ""),
        remedy="Give it: --matrix Y,X or Z,Y,X, matrix= in Python, or an array image_shape in the file.",
    )


def _chosen(
    reach: Sequence[float], spaces: Sequence[ImageSpace], unit: str | None, source: str
) -> tuple[ImageSpace, str, str]:
    """The image that is meant, the unit, and a sentence."""
    if unit is not None:
        for space in spaces:
            if unit in space.factors and max(space.parts(reach, unit)) <= POSSIBLE[1]:
                return space, unit, f"The trajectory is in {unit}, as given: it ends at {_along(reach)}."
        if unit not in spaces[0].factors:
            raise InputError(
                "the unit of the trajectory is not known",
                expected=" or ".join(spaces[0].factors),
                received=unit,
                remedy="Give one of them; 1/m and cycles/encoded-fov need the fields of view of a header.",
            )
        return spaces[0], unit, ""
    for space in spaces:
        parts = {name: space.parts(reach, name) for name in space.factors}
        for ends, (low, high) in ((min, NEAR), (max, NEAR), (max, POSSIBLE)):
            found = [name for name, part in parts.items() if low <= ends(part) and max(part) <= high]
            if len(found) == 1:
                return space, found[0], f"The trajectory was read as {found[0]}: it ends at {_along(reach)}."
    edges = [
        f"{_reached([n / 2 / f for n, f in zip(spaces[0].shape, factor, strict=True)])} ({name})"
        for name, factor in spaces[0].factors.items()
    ]
    raise InputError(
        f"the unit of the trajectory of {source} cannot be told",
        expected=f"coordinates that end near one of {'; '.join(edges)}, for the matrix {_times(spaces[0].shape)}",
        received=_reached(reach),
        remedy="Name it: --trajectory-unit, trajectory_unit= in Python; or give the --matrix that the trajectory "
        "resolves. Cycles per field of view are n times cycles/voxel, n / 2π times radians/voxel.",
    )


def _grown(shape: tuple[int, ...], reach: Sequence[float], source: str) -> tuple[int, ...]:
    """The matrix, with room for a trajectory that ends a little beyond it."""
    if any(2 * r > n * POSSIBLE[1] for r, n in zip(reach, shape, strict=True)):
        raise InputError(
            f"the trajectory of {source} leaves the k-space of the image",
            expected=f"cycles per field of view up to {_reached([n / 2 for n in shape])}, matrix {_times(shape)}",
            received=_reached(reach),
            remedy="Give the matrix that it resolves, --matrix, or its unit, --trajectory-unit.",
        )
    return tuple(
        n if 2 * r <= n * (1 + 1e-6) else max(n + 1, 2 * math.ceil(r)) for n, r in zip(shape, reach, strict=True)
    )


def _reached(reach: Sequence[float]) -> str:
    return ", ".join(f"±{r:.4g}" for r in reach)


def _along(reach: Sequence[float]) -> str:
    return f"{_reached(reach)} along {', '.join('zyx'[-len(reach) :])}"


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
