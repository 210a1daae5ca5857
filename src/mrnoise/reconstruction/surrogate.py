"""Cheap linear images of a scan, whose noise resembles that of any other reconstruction of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import add

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.calibration import with_coil_maps
from mrnoise.errors import InputError
from mrnoise.fourier import central
from mrnoise.reconstruction.normal_equations import NormalEquations, line_gram, on_lines, undersampled_axes, unfold

AXES = (-2, -1)
Shift = tuple[int, int]
# Sums over a voxel and over its neighbours: small local filters.
FILTERS: tuple[tuple[Shift, ...], ...] = (((0, 0),), ((0, 1), (0, -1), (1, 0), (-1, 0)))
# Of `unfold` where it takes transforms: with more the noise of some networks is explained better, at a price.
N_STEPS = 5


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Images that are linear in the noise of a slice, at a small part of the cost of a reconstruction.

    Parameters
    ----------
    n_images
        K.
    covariance
        E f fᴴ of the first k ≤ K images f in every voxel for unit noise, in closed form, (k, k, y, x).
    acquired
        Which samples of k-space are, (k1, k0), its centre at index 0.
    acquired_shape
        (coil, n), their number.
    """

    n_images: int
    covariance: Tensor
    acquired: Tensor
    acquired_shape: tuple[int, ...]
    _images: Callable[[Tensor], Tensor]

    def __call__(self, noise: Tensor) -> Tensor:
        """Unit noise (B, coil, k1, k0) → (B, K, y, x)."""
        return self._images(torch.fft.ifftshift(noise, dim=AXES) * self.acquired)

    def of_acquired(self, noise: Tensor) -> Tensor:
        """The same from unit noise of the acquired samples alone, (B, coil, n), which is drawn faster."""
        kspace = noise.new_zeros(*noise.shape[:2], *self.acquired.shape)
        kspace[..., self.acquired] = noise
        return self._images(kspace)


def surrogate(acquisition: Acquisition, image_shape: Sequence[int]) -> Surrogate | None:
    """The zero-filled and the unfolded image, which networks filter, each with sums over the neighbours of a voxel.

    Unfolded, by `normal_equations.unfold`, is x = p(H) z of the zero-filled z = Aᴴv. With H = AᴴA of unit maps and
    C = FᴴMF,

        E z zᴴ = H,   H_ij = C_ij Σ_c S_c*(i) S_c(j),   E x zᴴ = p(H) H,   E x xᴴ = p(H) H p(H)ᴴ.

    If sampling varies along one axis only, p(H) is a matrix for every line, and all of it is known in closed form;
    else the covariance of z.

    Parameters
    ----------
    acquisition
        One slice.
    image_shape
        Matrix of the image: that of k-space or its central part.

    Returns
    -------
    Surrogate
        ``None`` for volumes and batches, for larger images, and where the scan has no coil maps and no calibration
        lines.
    """
    shape = acquisition.spatial_shape
    if acquisition.batch_shape or len(shape) != 2 or len(image_shape) != 2:
        return None
    if any(n > full for n, full in zip(image_shape, shape, strict=True)):
        return None
    if acquisition.coil_maps is None:
        try:
            acquisition = with_coil_maps(acquisition)
        except InputError:
            return None
    assert acquisition.coil_maps is not None
    maps = torch.fft.ifftshift(acquisition.whiten(acquisition.coil_maps), dim=AXES)
    # Where no coil sees anything, there is no image.
    maps = torch.nan_to_num(maps / torch.linalg.vector_norm(maps, dim=0))
    mask = torch.fft.ifftshift(acquisition.mask, dim=AXES)
    axes = undersampled_axes(mask, 2)
    h = line_gram(maps, mask, axes)
    if h is None:
        equations = NormalEquations(axes, coil_axis=-3)
        covariance = _filtered(_of_zero_filled(maps, mask))

        def unfolded(z: Tensor) -> Tensor:
            return unfold(lambda x: equations.gram(x, maps, mask), z, N_STEPS)

    else:
        p = unfold(h.matmul, torch.eye(h.shape[-1], dtype=h.dtype, device=h.device))
        cross = p @ h
        rows = ((h, cross.mH), (cross, cross @ p.mH))
        blocks = [[_filtered(_of_lines(part, axes)) for part in row] for row in rows]
        covariance = torch.cat([torch.cat(row, 1) for row in blocks])

        def unfolded(z: Tensor) -> Tensor:
            return on_lines(p, z, axes)

    def of_kspace(kspace: Tensor) -> Tensor:
        zero_filled = (maps.conj() * torch.fft.ifft2(kspace, norm="ortho")).sum(-3)
        both = (zero_filled, unfolded(zero_filled))
        filtered = [_sum(image.roll(shift, AXES) for shift in shifts) for image in both for shifts in FILTERS]
        return central(torch.fft.fftshift(torch.stack(filtered, 1), dim=AXES), image_shape)

    covariance = central(torch.fft.fftshift(covariance, dim=AXES), image_shape)
    return Surrogate(2 * len(FILTERS), covariance, mask, (len(maps), int(mask.sum())), of_kspace)


def _sum(images: Iterable[Tensor]) -> Tensor:
    return reduce(add, images)


# E x(r - a) y*(r - b) for all r, (y, x), of two shifts a, b.
Covariance = Callable[[Shift, Shift], Tensor]


def _filtered(covariance: Covariance) -> Tensor:
    """Of all sums over the shifts of a filter, (filter, filter, y, x)."""
    rows = [[_sum(covariance(a, b) for a in left for b in right) for right in FILTERS] for left in FILTERS]
    return torch.stack([torch.stack(row) for row in rows])


def _of_zero_filled(maps: Tensor, mask: Tensor) -> Covariance:
    psf = torch.fft.ifft2(mask.to(maps.dtype))

    @cache
    def unshifted(dy: int, dx: int) -> Tensor:
        # E z(r) z*(r - d) = psf(d) Σ_c S_c*(r) S_c(r - d)
        return psf[dy, dx] * (maps.conj() * maps.roll((dy, dx), AXES)).sum(0)

    return lambda a, b: unshifted(b[0] - a[0], b[1] - a[1]).roll(a, AXES)


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
