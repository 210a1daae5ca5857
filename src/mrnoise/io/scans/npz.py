"""NumPy archives of k-space."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.files.atomic import replacing
from mrnoise.files.opening import check_kind, reading
from mrnoise.files.text import printable
from mrnoise.io.scans.noise_scan import NoiseScan
from mrnoise.sampling import Grid, Trajectory, encoded_extent

ARRAYS = (
    "kspace",
    "noise",
    "mask",
    "extent",
    "coil_maps",
    "voxel_size",
    "spatial_dims",
    "axes",
    "trajectory",
    "density",
    "image_shape",
)


def read_npz(path: str | Path, noise: NoiseScan | None = None) -> Acquisition:
    """Acquisition from an ``.npz`` archive.

    Arrays: ``kspace`` (..., coil, y, x), complex; optional ``noise`` (coil, sample), ``mask`` (y, x),
    ``coil_maps`` (coil, y, x), ``voxel_size`` in mm (z, y, x), ``spatial_dims``, 2 or 3, and ``axes``, the names of
    the leading axes. With 3 the spatial axes are (z, y, x). ``extent``, shaped as the mask of one image, says what was
    encoded; without it, that is found from the samples. Of a trajectory: ``trajectory`` (dimension, *samples) in
    cycles per field of view, ``image_shape`` and optional ``density``, see `mrnoise.sampling.Trajectory`; ``kspace`` is
    (..., coil, *samples). Other arrays are ignored.

    Parameters
    ----------
    path
        The archive.
    noise
        Noise scan to use instead of the archive's own. Without either, Ψ is estimated from k-space.

    Raises
    ------
    InputError
        If the file cannot be read, ``kspace`` is missing, or an array does not fit.
    """
    path = Path(path)
    arrays = _load(path, ARRAYS)
    if "kspace" not in arrays:
        raise _missing("kspace", path)
    kspace = as_tensor(arrays["kspace"])
    dims = _spatial_dims(arrays, path)
    mask = as_tensor(arrays["mask"]) if "mask" in arrays else None
    trajectory = _trajectory(arrays, path)
    if noise is None and "noise" in arrays:
        noise = _scan(arrays["noise"], path)
    if trajectory is not None:
        dims = trajectory.sample_ndim
    if noise is None and trajectory is not None:
        raise InputError(
            f"{path.name} says nothing of the noise of its trajectory",
            expected="an array noise (coil, sample), or a noise scan given beside it",
            received="neither",
            remedy="Give --noise: Ψ is estimated from k-space on a grid only.",
        )
    if noise is None:
        psi = estimate_noise_covariance(kspace, mask, spatial_dims=dims)
    else:
        # Too few axes are reported by Acquisition; any coil count will do until then.
        psi = noise.covariance(kspace.shape[-dims - 1] if kspace.ndim > dims else len(noise.samples))
    sampling = trajectory or _grid(arrays, dims)
    return Acquisition(
        kspace=kspace,
        noise_covariance=psi,
        mask=mask if sampling is None else None,  # None: what is not zero
        coil_maps=as_tensor(arrays["coil_maps"]) if "coil_maps" in arrays else None,
        geometry=_geometry(arrays, path),
        spatial_dims=dims,
        source=f"{printable(path.name)} (npz)",
        axes=[str(name) for name in np.atleast_1d(arrays["axes"])] if "axes" in arrays else None,
        sampling=sampling,
    )


def noise_from_npz(path: Path) -> NoiseScan:
    """The array ``noise`` (coil, ...) of an archive."""
    arrays = _load(path, ("noise",))
    if "noise" not in arrays:
        raise _missing("noise", path)
    return _scan(arrays["noise"], path)


def noise_samples(array: np.ndarray, path: Path) -> Tensor:
    """Noise samples (coil, sample) from an array (coil, ...)."""
    if array.ndim < 2 or not array.size or not np.iscomplexobj(array):
        raise InputError(
            f"the noise samples in {path.name} have the wrong shape or type",
            expected="a complex array (coil, sample)",
            received=f"{array.dtype}, shape {array.shape}",
            remedy="Put the coil axis first; combine real and imaginary parts.",
        )
    return as_tensor(array.reshape(array.shape[0], -1))


def as_tensor(array: np.ndarray) -> Tensor:
    """Tensor of a numeric array of any byte order; long complex numbers become complex128."""
    kind = np.complex128 if array.dtype.kind == "c" and array.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))


def _scan(array: np.ndarray, path: Path) -> NoiseScan:
    return NoiseScan(noise_samples(array, path), f"noise scan of {printable(path.name)}")


def _load(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    remedy = "The file may be truncated or hold pickled objects; write it again with numpy.savez."
    with reading(path, "an npz archive of numeric arrays", remedy), np.load(path, allow_pickle=False) as archive:
        arrays = {}
        for name in names:
            if name in archive.files:
                _check_declared(archive.zip, name, path)
                arrays[name] = archive[name]
    return {
        name: check_kind(values, name, path, "U") if name == "axes" else check_kind(values, name, path)
        for name, values in arrays.items()
    }


def _check_declared(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    """Raise if an array declares more than its entry holds, or than there is memory: numpy allocates it unseen."""
    entry = next(entry for entry in archive.infolist() if entry.filename in (name, f"{name}.npy"))
    check_memory(entry.file_size, f"{name} in {path.name}")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in header:  # 3.0: names of fields that are no Latin 1
            return
        shape, _, dtype = header[version](file)
    if math.prod(shape) * dtype.itemsize > entry.file_size:
        raise InputError(
            f"{name} in {path.name} declares more than its entry holds",
            expected=f"at most {entry.file_size} bytes",
            received=f"{dtype}, shape {shape}",
            remedy="The file is damaged; write it again with numpy.savez.",
        )


def _missing(name: str, path: Path) -> InputError:
    with reading(path, "an npz archive"), zipfile.ZipFile(path) as archive:
        found = [entry.removesuffix(".npy") for entry in archive.namelist()]
    return InputError(
        f"{path.name} holds no array {name}",
        expected=f"an array named {name}",
        received=", ".join(found) if found else "an empty archive",
        remedy=f"Rename the array: numpy.savez(path, {name}=...).",
    )


def _spatial_dims(arrays: dict[str, np.ndarray], path: Path) -> int:
    value = arrays.get("spatial_dims", np.array(2))
    if value.size != 1 or value.dtype.kind not in "iu":
        raise InputError(
            f"spatial_dims in {path.name} is not a whole number",
            expected="2 or 3",
            received=f"{value.dtype}, {value.tolist()}",
            remedy="Use 2 for slices (coil, y, x), 3 for volumes (coil, z, y, x).",
        )
    return int(value.item())


def _grid(arrays: dict[str, np.ndarray], dims: int) -> Grid | None:
    """The mask of the archive and what was encoded; ``None`` without a mask that could be one."""
    if "mask" not in arrays or arrays["mask"].ndim < dims or not arrays["mask"].any():
        return None
    mask = as_tensor(arrays["mask"]).bool()
    return Grid(mask, dims, as_tensor(arrays["extent"]) if "extent" in arrays else encoded_extent(mask, dims))


def _trajectory(arrays: dict[str, np.ndarray], path: Path) -> Trajectory | None:
    if "trajectory" not in arrays:
        return None
    given = arrays.get("image_shape")
    if given is None or given.dtype.kind not in "iu" or given.ndim != 1:
        raise InputError(
            f"{path.name} holds a trajectory without its matrix",
            expected="an array image_shape of whole numbers, (y, x) or (z, y, x)",
            received="none" if given is None else f"{given.dtype}, shape {given.shape}",
            remedy="Save it too: numpy.savez(path, ..., image_shape=[220, 220]).",
        )
    shape = tuple(int(n) for n in given)
    density = as_tensor(arrays["density"]) if "density" in arrays else None
    return Trajectory(as_tensor(arrays["trajectory"]), shape, density)


def _geometry(arrays: dict[str, np.ndarray], path: Path) -> Geometry:
    if "voxel_size" not in arrays:
        return Geometry(measured=False)
    size = arrays["voxel_size"]
    if size.shape != (3,) or size.dtype.kind not in "iuf":
        raise InputError(
            f"voxel_size in {path.name} has the wrong shape or type",
            expected="three lengths in mm, (z, y, x)",
            received=f"{size.dtype}, shape {size.shape}",
            remedy="For 2D slices z is the distance between slice centres.",
        )
    z, y, x = (float(v) for v in size)
    return Geometry((z, y, x))


def write_npz(acquisition: Acquisition, path: str | Path, noise: Tensor | None = None) -> None:
    """Write an acquisition as `read_npz` reads it, with a noise scan (coil, sample) if there is one."""
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
