"""HDF5 files of the fastMRI kind: an array ``kspace`` and an ISMRMRD header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.errors import InputError
from mrnoise.files.opening import array, opened_hdf5, text
from mrnoise.files.text import printable
from mrnoise.io.scans.mrd_header import parse_header
from mrnoise.io.scans.noise_scan import NoiseScan
from mrnoise.io.scans.npz import as_tensor, noise_samples
from mrnoise.sampling import Grid, encoded_extent


def read_fastmri(path: str | Path, noise: NoiseScan | None = None) -> Acquisition:
    """Acquisition from a fastMRI HDF5 file.

    ``kspace`` is (slice, coil, ky, kx), or (slice, ky, kx) for a single coil, as fastMRI names its axes.
    There the **last** axis is the phase encoding and the one before it the readout; the axes are kept as
    they are, so k0 is the phase encoding and the image has the orientation of the file. ``mask`` (kx,) is
    spread over the readout. Samples that are zero in every coil and slice count as not acquired; columns before the
    first and behind the last, the padding of a partial acquisition, as never encoded.

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
    with opened_hdf5(path) as file:
        values, mask, header = array(file, "kspace"), array(file, "mask"), text(file, "ismrmrd_header")
        samples = array(file, "noise") if noise is None else None
    if samples is not None:
        noise = _scan(samples, path)
    if values is None or values.ndim not in (3, 4) or not values.size or not np.iscomplexobj(values):
        raise InputError(
            f"kspace in {path.name} has the wrong shape or type",
            expected="complex, (slice, coil, ky, kx) or (slice, ky, kx), no axis empty",
            received="no array" if values is None else f"{values.dtype}, shape {values.shape}",
            remedy="Add the missing axis, or save the array in an npz archive, which takes any leading axes.",
        )
    kspace = as_tensor(values if values.ndim == 4 else values[:, None])
    acquired = (kspace != 0).any(dim=1).any(dim=0)
    if mask is not None:
        acquired = acquired & _columns(mask, kspace.shape[-1], path)
    if noise is None:
        psi = estimate_noise_covariance(kspace, acquired)
    else:
        psi = noise.covariance(kspace.shape[1])
    encoding = None if header is None else parse_header(header, path).encoding[0]
    limits = (None, _encoded_columns(encoding, kspace.shape[-1]))
    return Acquisition(
        kspace=kspace,
        noise_covariance=psi,
        sampling=Grid(acquired, extent=encoded_extent(acquired, limits=limits)),
        geometry=_geometry(encoding, tuple(kspace.shape[-2:])),
        source=f"{printable(path.name)} (fastMRI)",
    )


def noise_from_fastmri(path: Path) -> NoiseScan | None:
    """The array ``noise`` (coil, ...) of an HDF5 file, ``None`` where there is none."""
    with opened_hdf5(path) as file:
        samples = array(file, "noise")
    return None if samples is None else _scan(samples, path)


def _scan(samples: np.ndarray, path: Path) -> NoiseScan:
    return NoiseScan(noise_samples(samples, path), f"noise scan of {printable(path.name)}")


def _columns(mask: np.ndarray, n: int, path: Path) -> torch.Tensor:
    if mask.size != n:
        raise InputError(
            f"mask in {path.name} does not fit its k-space",
            expected=f"{n} values, one for each kx",
            received=f"shape {mask.shape}",
            remedy="fastMRI masks choose columns, the last axis of kspace.",
        )
    return torch.from_numpy(mask.reshape(n).astype(bool))


def _encoded_columns(encoding: Any, n: int) -> tuple[int, int] | None:
    """First phase encoding and the one behind the last, of n columns, by the encoding limits; ``None`` without them."""
    limits = None if encoding is None else encoding.encodingLimits.kspace_encoding_step_1
    if limits is None or int(encoding.encodedSpace.matrixSize.y) != n:
        return None
    first = n // 2 - int(limits.center)
    return first, first + int(limits.maximum) + 1


def _geometry(encoding: Any, shape: tuple[int, ...]) -> Geometry:
    if encoding is None:
        return Geometry(measured=False)
    fov = encoding.encodedSpace.fieldOfView_mm
    return Geometry((fov.z, fov.x / shape[0], fov.y / shape[1]))
