"""Arrays of a scan along a trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io.scans.complex_arrays import as_tensor
from mrnoise.io.scans.given_trajectory import Coordinates, GivenTrajectory
from mrnoise.io.scans.scan_arrays import ScanArrays, geometry_of
from mrnoise.io.scans.trajectory_units import CYCLES, ImageSpace, in_cycles, matrix_of
from mrnoise.sampling import Trajectory


def along_trajectory(
    values: Mapping[str, np.ndarray], arrays: ScanArrays, axes: tuple[str, ...] | None, given: GivenTrajectory
) -> Acquisition:
    """Acquisition from ``kspace`` (..., coil, *samples) and a trajectory (dimension, *samples), its Ψ to be found.

    The trajectory is the one given, else that of the arrays.
    """
    path = arrays.path
    if axes is not None:
        raise InputError(
            f"{path.name} is read along a trajectory, whose samples are no axes of a grid",
            expected="kspace (..., coil, *samples) with trajectory (dimension, *samples)",
            received=f"the axes {', '.join(axes)}",
            remedy="Leave --axes out.",
        )
    trajectory, notes = _trajectory(given.read() or _of_file(values, path, given))
    kspace, coil = as_tensor(values["kspace"]), -trajectory.sample_ndim - 1
    maps, names = values.get("coil_maps"), arrays.values.get("axes")
    return Acquisition(
        kspace=kspace,
        # Too few axes are reported by Acquisition; any coil count will do until then.
        noise_covariance=torch.eye(kspace.shape[coil] if kspace.ndim >= -coil else 1),
        coil_maps=None if maps is None else as_tensor(maps),
        geometry=geometry_of(values, path) or Geometry(measured=False),
        source=f"{printable(path.name)} ({arrays.kind})",
        axes=None if names is None else [str(name) for name in np.atleast_1d(names)],
        sampling=trajectory,
        notes=(*arrays.notes, *notes),
    )


def _of_file(values: Mapping[str, np.ndarray], path: Path, given: GivenTrajectory) -> Coordinates:
    """The trajectory of the arrays, which is in cycles per field of view unless another unit is given."""
    shape = values.get("image_shape")
    if shape is not None and (shape.dtype.kind not in "iu" or shape.ndim != 1):
        raise InputError(
            f"image_shape in {path.name} is no matrix",
            expected="whole numbers, (y, x) or (z, y, x)",
            received=f"{shape.dtype}, shape {shape.shape}",
            remedy="Correct it, or leave it out and give --matrix.",
        )
    matrix = None if shape is None else tuple(int(n) for n in shape)
    coordinates, unit = values["trajectory"], given.unit or CYCLES
    return Coordinates(coordinates, values.get("density"), given.matrix or matrix, unit, printable(path.name))


def _trajectory(found: Coordinates) -> tuple[Trajectory, tuple[str, ...]]:
    """With the matrix and in the unit that are known, and what is to be said of what was not."""
    values, matrix = found.values, found.matrix
    density = None if found.density is None else as_tensor(found.density)
    if matrix is None:
        matrix = matrix_of(values, found.unit, found.source)
        size = " × ".join(map(str, matrix))
        said = f"The matrix {size} is the one that the trajectory resolves; --matrix gives another one."
        return Trajectory(as_tensor(values), matrix, density), (said,)
    if found.unit == CYCLES or len(matrix) != len(values):
        return Trajectory(as_tensor(values), matrix, density), ()
    coordinates, space, said = in_cycles(values, [ImageSpace(matrix)], found.unit, found.source)
    return Trajectory(as_tensor(coordinates), space.shape, density), (said,)
