"""Coil maps from coil images (adaptive combination of Walsh), differentiable with respect to them."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.calibration.eigenvector import dominant_eigenvector, virtual_coil
from mrnoise.errors import InputError
from mrnoise.units import unit_of

CHUNK = 2**21  # matrix entries of one block of voxels, the working memory


def walsh(coil_images: Tensor, *, window: int = 7, crop: float = 0.05, spatial_dims: int = 2) -> Tensor:
    """Coil maps as the dominant eigenvector of the local covariance between coils.

    R(r) = Σ x(r') x(r')ᴴ over the voxels r' of a window around r; S(r) is its eigenvector to the largest
    eigenvalue λ(r).

    Parameters
    ----------
    coil_images
        Complex, (..., coil, y, x) or, with ``spatial_dims=3``, (..., coil, z, y, x). Whiten them first:
        the eigenvector is optimal for noise that is uncorrelated and equal between coils.
    window
        Voxels along each axis, odd. Maps are assumed constant within it.
    crop
        Voxels with √λ below this fraction of its maximum are outside the object and zero. The choice is
        held fixed in the derivative.
    spatial_dims
        2 or 3.

    Returns
    -------
    Tensor
        Shape and type of ``coil_images``; Σ_c |S_c|² = 1 inside the object and 0 outside.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    Walsh et al., Magn Reson Med 2000,
    doi:10.1002/(SICI)1522-2594(200005)43:5<682::AID-MRM10>3.0.CO;2-G

    Examples
    --------
    >>> from mrnoise import fourier
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 3)
    >>> images = fourier.to_image(scan.whiten(scan.kspace))
    >>> maps = walsh(images)
    >>> combined = (maps.conj() * images).sum(0)
    >>> round(float(combined.norm() / images.norm()), 2)  # what the maps explain
    1.0
    """
    _check(coil_images, window, crop, spatial_dims)
    if coil_images.ndim > spatial_dims + 1:
        return torch.stack([walsh(x, window=window, crop=crop, spatial_dims=spatial_dims) for x in coil_images])
    coil_images = coil_images / unit_of(coil_images)
    reference = virtual_coil(coil_images.flatten(1))
    volume = coil_images if spatial_dims == 3 else coil_images[:, None]
    parts = []
    for z in range(volume.shape[1]):
        slab = volume[:, max(z - window // 2, 0) : z + window // 2 + 1]
        parts.append(_eigenvectors_of_plane(slab, reference, window))
    vectors = torch.stack([v for v, _ in parts])
    amplitude = torch.stack([e for _, e in parts]).clamp_min(0).sqrt()
    inside = amplitude > crop * amplitude.max()
    maps = torch.where(inside[..., None], vectors, torch.zeros_like(vectors)).movedim(-1, 0)
    return maps if spatial_dims == 3 else maps[:, 0]


def _eigenvectors_of_plane(slab: Tensor, reference: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Of the central plane of a slab (coil, z, y, x): vectors (y, x, coil) and eigenvalues (y, x)."""
    n_coils, _, n_y, n_x = slab.shape
    near_y, near_x = _neighbours(n_y, window, slab), _neighbours(n_x, window, slab)
    rows = max(1, CHUNK // (n_x * n_coils**2))
    parts = []
    for start in range(0, n_y, rows):
        used = slice(max(start - window // 2, 0), start + rows + window // 2)
        some = slab[:, :, used].permute(2, 3, 0, 1)  # (y, x, coil, z)
        covariance = some @ some.mH
        covariance = torch.tensordot(near_y[start : start + rows, used], covariance, dims=1)
        covariance = torch.tensordot(near_x, covariance, dims=([1], [1])).movedim(0, 1)
        parts.append(dominant_eigenvector(covariance, reference))
    return torch.cat([v for v, _ in parts]), torch.cat([e for _, e in parts])


def _neighbours(n: int, window: int, like: Tensor) -> Tensor:
    """1 where two of n positions lie within the window, (n, n)."""
    position = torch.arange(n, device=like.device)
    return ((position[:, None] - position).abs() <= window // 2).to(like.dtype)


def _check(coil_images: Tensor, window: int, crop: float, spatial_dims: int) -> None:
    if spatial_dims not in (2, 3) or coil_images.ndim < spatial_dims + 1 or not coil_images.is_complex():
        raise InputError(
            "coil images do not fit the adaptive combination",
            expected="complex, (..., coil, y, x), or (..., coil, z, y, x) with spatial_dims=3",
            received=f"{coil_images.dtype}, shape {tuple(coil_images.shape)}, spatial_dims={spatial_dims}",
            remedy="Check the axis order and spatial_dims.",
        )
    if window < 1 or window % 2 == 0 or not 0 <= crop < 1:
        raise InputError(
            "adaptive combination is not possible with these settings",
            expected="an odd window of at least 1 voxel, crop from 0 to below 1",
            received=f"window {window}, crop {crop:g}",
            remedy="The defaults are window=7, crop=0.05.",
        )
