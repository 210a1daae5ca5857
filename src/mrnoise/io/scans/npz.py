"""NumPy archives and single arrays of k-space."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition
from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.files.atomic import replacing
from mrnoise.files.opening import check_kind, reading
from mrnoise.io.scans.complex_arrays import KINDS
from mrnoise.io.scans.scan_arrays import ScanArrays, chosen_arrays, unused
from mrnoise.sampling import Grid

KIND = "npz"
TRAJECTORY = ("trajectory", "density", "image_shape")
SAVE_AGAIN = "The file may be truncated or hold pickled objects; write it again with numpy."


def npz_arrays(path: Path) -> ScanArrays:
    """Arrays of an ``.npz`` archive.

    ``kspace`` (..., coil, y, x), complex; optional ``noise`` (coil, sample), ``noise_covariance`` (coil, coil),
    ``mask`` (y, x), ``coil_maps`` (coil, y, x), ``voxel_size`` in mm (z, y, x), ``spatial_dims``, 2 or 3, and ``axes``,
    the names of the leading axes. With 3 the spatial axes are (z, y, x). Of a trajectory: ``trajectory`` (dimension,
    *samples) in cycles per field of view, ``image_shape`` and optional ``density``, see `mrnoise.sampling.Trajectory`;
    ``kspace`` is (..., coil, *samples).

    Raises
    ------
    InputError
        If the file cannot be read or none of its arrays is k-space.
    """
    values = {}
    with reading(path, "an npz archive of numeric arrays", SAVE_AGAIN), np.load(path, allow_pickle=False) as archive:
        names = archive.files
        chosen = chosen_arrays(names, path)
        for ours, name in chosen.items():
            _check_declared(archive.zip, name, path)
            values[ours] = archive[name]
    return ScanArrays(
        {name: check_kind(array, name, path, "U" if name == "axes" else KINDS) for name, array in values.items()},
        path,
        KIND,
        documented=(("coil", "ky", "kx"), ("slice", "coil", "ky", "kx")),
        notes=unused(names, chosen),
    )


def npz_noise(path: Path) -> np.ndarray:
    """The array ``noise`` of an archive."""
    with reading(path, "an npz archive of numeric arrays", SAVE_AGAIN), np.load(path, allow_pickle=False) as archive:
        if "noise" in archive.files:
            _check_declared(archive.zip, "noise", path)
            return archive["noise"]
        names = archive.files
    raise InputError(
        f"{path.name} holds no array noise",
        expected="an array named noise",
        received=", ".join(names) if names else "an empty archive",
        remedy="Rename the array: numpy.savez(path, noise=...).",
    )


def npz_trajectory(path: Path) -> dict[str, np.ndarray]:
    """The arrays ``trajectory``, ``density`` and ``image_shape`` of an archive, as far as there are any.

    Raises
    ------
    InputError
        If the file cannot be read, or holds no trajectory.
    """
    found = {}
    with reading(path, "an npz archive of numeric arrays", SAVE_AGAIN), np.load(path, allow_pickle=False) as archive:
        names = archive.files
        for name in TRAJECTORY:
            if name in names:
                _check_declared(archive.zip, name, path)
                found[name] = check_kind(archive[name], name, path, "fiu")
    if "trajectory" not in found:
        raise InputError(
            f"{path.name} holds no trajectory",
            expected="an array named trajectory",
            received=", ".join(names) if names else "an empty archive",
            remedy="Rename the array: numpy.savez(path, trajectory=...).",
        )
    return found


def npy_array(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file."""
    with reading(path, "an npy file with a numeric array", SAVE_AGAIN), path.open("rb") as file:
        _check_size(file, path.stat().st_size, path.name, path)
        file.seek(0)
        return np.load(file, allow_pickle=False)


def npy_arrays(path: Path) -> ScanArrays:
    """K-space of an ``.npy`` file, whose axes have no order that everybody uses."""
    return ScanArrays({"kspace": npy_array(path)}, path, "npy")


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    return next(entry for entry in archive.infolist() if entry.filename in (name, f"{name}.npy"))


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    # 3.0 (names of fields that are no Latin 1) is laid out as 2.0.
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _check_declared(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    """Raise if an array declares more than its entry holds, or than there is memory: numpy allocates it unseen."""
    entry = _entry(archive, name)
    with archive.open(entry) as file:
        _check_size(file, entry.file_size, name, path)


def _check_size(file: IO[bytes], size: int, name: str, path: Path) -> None:
    check_memory(size, f"{name} in {path.name}")
    shape, dtype = _head(file)
    if math.prod(shape) * dtype.itemsize > size:
        raise InputError(
            f"{name} in {path.name} declares more than its entry holds",
            expected=f"at most {size} bytes",
            received=f"{dtype}, shape {shape}",
            remedy="The file is damaged; write it again with numpy.",
        )


def write_npz(acquisition: Acquisition, path: str | Path, noise: Tensor | None = None) -> None:
    """Write an acquisition as `npz_arrays` reads it, with a noise scan (coil, sample) if there is one."""
    arrays: dict[str, Any] = {
        "kspace": acquisition.kspace.numpy(),
        "axes": np.array(acquisition.axes, dtype=str),
        "voxel_size": np.array(acquisition.geometry.voxel_size),
        "spatial_dims": np.array(acquisition.spatial_dims),
    }
    sampling = acquisition.sampling
    if isinstance(sampling, Grid):
        extent = torch.ones(sampling.image_shape, dtype=torch.bool) if sampling.extent is None else sampling.extent
        arrays |= {"mask": sampling.mask.numpy(), "extent": extent.numpy()}
    else:
        arrays |= {"trajectory": sampling.coordinates.numpy(), "image_shape": np.array(sampling.image_shape)}
        if sampling.density is not None:
            arrays["density"] = sampling.density.numpy()
    if acquisition.coil_maps is not None:
        arrays["coil_maps"] = acquisition.coil_maps.numpy()
    if noise is not None:
        arrays["noise"] = noise.numpy()
    with replacing(Path(path)) as (partial,), partial.open("wb") as file:
        np.savez(file, **arrays)
