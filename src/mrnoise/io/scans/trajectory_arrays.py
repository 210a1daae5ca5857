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
from mrnoise.io.scans.scan_arrays import ScanArrays, geometry_of
from mrnoise.sampling import Trajectory


def along_trajectory(values: Mapping[str, np.ndarray], arrays: ScanArrays, axes: tuple[str, ...] | None) -> Acquisition:
    """Acquisition from ``kspace`` (..., coil, *samples) and ``trajectory`` (dimension, *samples), its Ψ to be found."""
    path = arrays.path
    if axes is not None:
        raise InputError(
            f"{path.name} holds a trajectory, whose samples are no axes of a grid",
            expected="kspace (..., coil, *samples) with trajectory (dimension, *samples)",
            received=f"the axes {', '.join(axes)}",
            remedy="Leave --axes out.",
        )
    trajectory = _trajectory(values, path)
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
        notes=arrays.notes,
    )


def _trajectory(values: Mapping[str, np.ndarray], path: Path) -> Trajectory:
    given = values.get("image_shape")
    if given is None or given.dtype.kind not in "iu" or given.ndim != 1:
        raise InputError(
            f"{path.name} holds a trajectory without its matrix",
            expected="an array image_shape of whole numbers, (y, x) or (z, y, x)",
            received="none" if given is None else f"{given.dtype}, shape {given.shape}",
            remedy="Save it too: numpy.savez(path, ..., image_shape=[220, 220]).",
        )
    shape = tuple(int(n) for n in given)
    density = as_tensor(values["density"]) if "density" in values else None
    return Trajectory(as_tensor(values["trajectory"]), shape, density)
