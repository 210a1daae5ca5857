"""Cheap linear images of a scan, whose noise resembles that of any other reconstruction of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from operator import add

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import with_coil_maps
from mrnoise.encoding.lines import line_gram, line_inverse, on_lines
from mrnoise.errors import InputError
from mrnoise.fourier import central
from mrnoise.sampling.grid import Grid, varying_axes
from mrnoise.sampling.trajectory import Trajectory
from mrnoise.surrogate.interpolation import Interpolation, interpolation
from mrnoise.surrogate.kriging import Kriging, kriging

AXES = (-2, -1)
Shift = tuple[int, int]
# λ of the image that knows the object, with the variance that it expects outside, relative to inside; and of the other.
REGULARIZATION, OUTSIDE = 0.05, 0.1
LEAST_REGULARIZATION = 0.01
# Which image, summed over which shifts: small local filters.
ITSELF, NEIGHBOURS = ((0, 0),), ((0, 1), (0, -1), (1, 0), (-1, 0))
FEATURES: tuple[tuple[int, tuple[Shift, ...]], ...] = ((0, ITSELF), (0, NEIGHBOURS), (1, ITSELF))
# Combinations of coils that see most of the object.
MOST_COILS = 8


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Images that are linear in the noise of a slice, at a small part of the cost of a reconstruction.

    Parameters
    ----------
    covariance
        E f fᴴ of the K images f in every voxel for unit noise, in closed form, (K, K, y, x).
    """

    covariance: Tensor
    _images: Callable[[Tensor], Tensor]

    @property
    def n_images(self) -> int:
        """K."""
        return len(self.covariance)

    def __call__(self, noise: Tensor) -> Tensor:
        """Unit noise (B, coil, k1, k0) or (B, coil, *samples) → (B, K, y, x)."""
        images = self._images(noise)
        filtered = [_sum(images[:, i].roll(shift, AXES) for shift in shifts) for i, shifts in FEATURES]
        return central(torch.fft.fftshift(torch.stack(filtered, 1), dim=AXES), self.covariance.shape[-2:])


def surrogate(acquisition: Acquisition, inside: Tensor, most_seconds: float = inf) -> Surrogate | None:
    """Two regularised SENSE images, as networks begin with or come to, one also summed over the neighbours of a voxel.

    x = (H + λ/w)⁻¹ z of the zero-filled z = Aᴴv, with H = AᴴA of unit maps and w the variance of the image that is
    expected: one knows where the object is, as networks do, the other does not. If sampling varies along one axis
    only, H is a matrix for every line, and

        E x_i x_jᴴ = (H + λ_i/w_i)⁻¹ H (H + λ_j/w_j)⁻¹;

    else every sample of k-space is interpolated from the nearest acquired ones, and the covariance is that of
    `Interpolation`, along a trajectory of `Kriging`.

    Parameters
    ----------
    acquisition
        One slice.
    inside
        Voxels of the object, bool, shaped like the image: the matrix of the scan or its central part.
    most_seconds
        That interpolation along a trajectory may take to prepare.

    Returns
    -------
    Surrogate
        ``None`` for volumes and batches, for larger images, where the scan has no coil maps and no calibration lines,
        and where it would take longer.
    """
    shape = acquisition.spatial_shape
    if acquisition.batch_shape or len(shape) != 2 or inside.ndim != 2:
        return None
    if any(n > full for n, full in zip(inside.shape, shape, strict=True)):
        return None
    if acquisition.coil_maps is None:
        try:
            acquisition = with_coil_maps(acquisition)
        except InputError:
            return None
    assert acquisition.coil_maps is not None
    maps = torch.fft.ifftshift(acquisition.whiten_maps(acquisition.coil_maps), dim=AXES)
    # Where no coil sees anything, there is no image.
    maps = torch.nan_to_num(maps / torch.linalg.vector_norm(maps, dim=0))

    variance = torch.full(shape, OUTSIDE, dtype=maps.real.dtype, device=maps.device)
    central(variance, inside.shape)[inside] = 1
    variance = torch.fft.ifftshift(variance)
    priors = ((variance, REGULARIZATION), (torch.ones_like(variance), LEAST_REGULARIZATION))

    seen = (variance.sqrt() * maps).flatten(1)
    combine = torch.linalg.eigh(seen @ seen.mH)[1][:, -MOST_COILS:].mH
    maps = torch.tensordot(combine, maps, 1)

    prepared = _prepared(maps, acquisition.sampling, priors, most_seconds)
    if prepared is None:
        return None
    covariance, images = prepared
    covariance = central(torch.fft.fftshift(covariance, dim=AXES), inside.shape)
    return Surrogate(covariance, lambda noise: images(combine @ noise.flatten(2)))


# w and λ of each image; noise of combined coils (B, coil, sample) → images with their centre at index 0, (B, 2, y, x).
Priors = Sequence[tuple[Tensor, float]]
Images = Callable[[Tensor], Tensor]


def _prepared(
    maps: Tensor, sampling: Grid | Trajectory, priors: Priors, most_seconds: float
) -> tuple[Tensor, Images] | None:
    """Covariance of the features, and images."""
    if isinstance(sampling, Trajectory):
        kriged = kriging(maps, sampling, priors, most_seconds)
        return None if kriged is None else (_covariance(kriged, maps), kriged)
    mask = torch.fft.ifftshift(sampling.mask, dim=AXES)
    axes = varying_axes(mask, 2)
    h = line_gram(maps, mask, axes)
    if h is not None:
        return _unfolded(maps, mask, priors, axes, h)
    local = interpolation(maps, mask, priors)
    place = torch.fft.ifftshift(torch.arange(mask.numel(), device=mask.device).reshape(mask.shape))[mask]
    return _covariance(local, maps), lambda noise: local(noise[..., place])


def _covariance(local: Interpolation | Kriging, maps: Tensor) -> Tensor:
    """Of the features."""
    return local.covariance([(i, _response(shifts, maps[0].real)) for i, shifts in FEATURES])


def _unfolded(maps: Tensor, mask: Tensor, priors: Priors, axes: tuple[int, ...], h: Tensor) -> tuple[Tensor, Images]:
    """Covariance of the features, and images, of sampling along one axis; H of its lines."""
    inverses = [line_inverse(maps, mask, axes, regularization / w) for w, regularization in priors]
    p = [inverse for inverse in inverses if inverse is not None]
    products = [[_of_lines(left @ h @ right, axes) for right in p] for left in p]
    rows = [[_filtered(products[i][j], a, b) for j, b in FEATURES] for i, a in FEATURES]

    def images(noise: Tensor) -> Tensor:
        kspace = torch.fft.ifftshift(noise.unflatten(-1, mask.shape), dim=AXES) * mask
        z = (maps.conj() * torch.fft.ifft2(kspace, norm="ortho")).sum(-3)
        return torch.stack([on_lines(one, z, axes) for one in p], 1)

    return torch.stack([torch.stack(row) for row in rows]), images


def _sum(images: Iterable[Tensor]) -> Tensor:
    return reduce(add, images)


def _response(shifts: Iterable[Shift], like: Tensor) -> Tensor:
    """Of a sum over shifts in k-space, its centre at index 0: real, since they come in pairs."""
    kernel = torch.zeros_like(like)
    for shift in shifts:
        kernel[shift] = 1
    return torch.fft.fft2(kernel).real


# E x(r - a) y*(r - b) for all r, (y, x), of two shifts a, b.
Covariance = Callable[[Shift, Shift], Tensor]


def _filtered(covariance: Covariance, left: Sequence[Shift], right: Sequence[Shift]) -> Tensor:
    """Of the sums of x and y over shifts, (y, x)."""
    return _sum(covariance(a, b) for a in left for b in right)


def _of_lines(lines: Tensor, axes: tuple[int, ...]) -> Covariance:
    """Of images whose lines are independent and have these covariances, (line, n, n)."""
    axis = axes[0] if axes else -1
    along, across = axis % 2, 1 - axis % 2
    n = lines.shape[-1]
    index = torch.arange(n, device=lines.device)

    def covariance(a: Shift, b: Shift) -> Tensor:
        if a[across] != b[across]:
            return torch.zeros_like(lines[:, 0]).movedim(-1, axis)
        pairs = lines[:, (index - a[along]) % n, (index - b[along]) % n]
        return pairs.roll(a[across], 0).movedim(-1, axis)

    return covariance
