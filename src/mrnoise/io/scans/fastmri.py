"""HDF5 files of the fastMRI kind: an array ``kspace`` and an ISMRMRD header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_file import parse_header, unreadable
from mrnoise.io.scans.noise_scan import NoiseScan
from mrnoise.io.scans.npz import as_tensor, noise_samples


def read_fastmri(path: str | Path, noise: NoiseScan | None = None) -> Acquisition:
    """Acquisition from a fastMRI HDF5 file.

    ``kspace`` is (slice, coil, ky, kx), or (slice, ky, kx) for a single coil, as fastMRI names its axes.
    There the **last** axis is the phase encoding and the one before it the readout; the axes are kept as
    they are, so k0 is the phase encoding and the image has the orientation of the file. ``mask`` (kx,) is
    spread over the readout. Samples that are zero in every coil and slice (padding of a partial
    acquisition) count as not acquired.

    fastMRI keeps the oversampling of the readout: k-space covers the encoded field of view, not the
    reconstructed one. It stays so here, and the voxel size is that of the whole grid: the encoded field of
    view over the length of each axis (readout along y, phase encoding along x). The file says nothing of
    position and orientation, nor of gaps between slices.

    Parameters
    ----------
    path
        The file.
    noise
        Noise scan to use instead of the file's own array ``noise`` (coil, ...). Without either, Ψ is
        estimated from k-space.

    Raises
    ------
    InputError
        If the file cannot be read, or an array does not fit.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            array = np.asarray(file["kspace"])
            mask = np.asarray(file["mask"]) if "mask" in file else None
            header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
            if noise is None and "noise" in file:
                noise = _scan(np.asarray(file["noise"]), path)
    except (OSError, RuntimeError, TypeError, KeyError) as error:
        raise unreadable(path, error) from error
    if array.ndim not in (3, 4) or not np.iscomplexobj(array):
        raise InputError(
            f"kspace in {path.name} has the wrong shape or type",
            expected="complex, (slice, coil, ky, kx) or (slice, ky, kx)",
            received=f"{array.dtype}, shape {array.shape}",
            remedy="Add the missing axis, or save the array in an npz archive, which takes any leading axes.",
        )
    kspace = as_tensor(array if array.ndim == 4 else array[:, None])
    acquired = (kspace != 0).any(dim=1).any(dim=0)
    if mask is not None:
        acquired = acquired & _columns(mask, kspace.shape[-1], path)
    if noise is None:
        psi = estimate_noise_covariance(kspace, acquired)
    else:
        psi = noise.covariance(kspace.shape[1])
    return Acquisition(
        kspace=kspace,
        noise_covariance=psi,
        mask=acquired,
        geometry=_geometry(header, path, tuple(kspace.shape[-2:])),
        source=f"{path.name} (fastMRI)",
    )


def noise_from_fastmri(path: Path) -> NoiseScan:
    """The array ``noise`` (coil, ...) of an HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            return _scan(np.asarray(file["noise"]), path)
    except (OSError, RuntimeError, TypeError) as error:
        raise unreadable(path, error) from error


def _scan(array: np.ndarray, path: Path) -> NoiseScan:
    return NoiseScan(noise_samples(array, path), f"noise scan of {path.name}")


def _columns(mask: np.ndarray, n: int, path: Path) -> torch.Tensor:
    if mask.size != n:
        raise InputError(
            f"mask in {path.name} does not fit its k-space",
            expected=f"{n} values, one for each kx",
            received=f"shape {mask.shape}",
            remedy="fastMRI masks choose columns, the last axis of kspace.",
        )
    return torch.from_numpy(mask.reshape(n).astype(bool))


def _geometry(header: Any, path: Path, shape: tuple[int, ...]) -> Geometry:
    if header is None:
        return Geometry(measured=False)
    fov = parse_header(header, path).encoding[0].encodedSpace.fieldOfView_mm
    return Geometry((fov.z, fov.x / shape[0], fov.y / shape[1]))
