"""Cheap linear images of a scan, whose noise resembles that of any other reconstruction of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.calibration import with_coil_maps
from mrnoise.errors import InputError
from mrnoise.fourier import central
from mrnoise.reconstruction.normal_equations import NormalEquations, line_inverse, undersampled_axes

AXES = (-2, -1)
Shift = tuple[int, int]
NEIGHBOURS: tuple[Shift, ...] = ((0, 1), (0, -1), (1, 0), (-1, 0))
# Tikhonov weights of the CG-SENSE images: close to unfolding, and close to zero-filled. Between the two lies what
# networks do with noise.
REGULARIZATIONS = (0.01, 0.2)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Images that are linear in the noise of a slice, at a small part of the cost of a reconstruction.

    Parameters
    ----------
    covariance
        E f fᴴ of the images f in every voxel for unit noise, (K, K, y, x).
    """

    covariance: Tensor
    _images: Callable[[Tensor], Tensor]

    def __call__(self, noise: Tensor) -> Tensor:
        """Unit noise (B, coil, k1, k0) → (B, K, y, x)."""
        return self._images(noise)


def surrogate(acquisition: Acquisition, image_shape: Sequence[int]) -> Surrogate | None:
    """CG-SENSE images, or the zero-filled one, and the sum of the four neighbours of every voxel in each.

    CG-SENSE with two regularisations where sampling varies along one axis and the inverse of every line is at hand
    (see `CgSense`), else the zero-filled image. With its neighbours, an image makes a small local filter. Their
    covariance is known in closed form: with z = Aᴴv and H = AᴴA,

        E z zᴴ = H,   H_ij = C_ij Σ_c S_c*(i) S_c(j),   C = FᴴMF;    E x_λ x_μᴴ = (H+λ)⁻¹ H (H+μ)⁻¹.

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
    mask = torch.fft.ifftshift(acquisition.mask, dim=AXES)
    axes = undersampled_axes(mask, 2)
    inverses = [line_inverse(maps, mask, axes, regularization) for regularization in REGULARIZATIONS]
    solvers = [NormalEquations(axes, -3, inverse=inverse) for inverse in inverses if inverse is not None]

    def images(noise: Tensor) -> Tensor:
        kspace = torch.fft.ifftshift(noise * acquisition.mask, dim=AXES)
        zero_filled = (maps.conj() * torch.fft.ifft2(kspace, norm="ortho")).sum(-3)
        plain = [solver.multiply(zero_filled) for solver in solvers] or [zero_filled]
        both = torch.stack([part for image in plain for part in (image, _neighbours(image))], 1)
        return central(torch.fft.fftshift(both, dim=AXES), image_shape)

    blocks = _line_covariance(solvers) if solvers else {(0, 0): _zero_filled_covariance(maps, mask)}
    n = range(len(solvers) or 1)
    covariance = torch.cat([torch.cat([blocks[i, j] for j in n], 1) for i in n])
    return Surrogate(central(torch.fft.fftshift(covariance, dim=AXES), image_shape), images)


def _neighbours(image: Tensor) -> Tensor:
    return reduce(add, (image.roll(shift, AXES) for shift in NEIGHBOURS))


def _with_neighbours(covariance: Callable[[Shift, Shift], Tensor]) -> Tensor:
    """(2, 2, y, x) of an image and the sum of its neighbours, from E x(r - a) y*(r - b) of two shifts a, b."""
    own: Shift = (0, 0)
    sides = ((own,), NEIGHBOURS)
    rows = [
        torch.stack([reduce(add, (covariance(a, b) for a in left for b in right)) for right in sides]) for left in sides
    ]
    return torch.stack(rows)


def _zero_filled_covariance(maps: Tensor, mask: Tensor) -> Tensor:
    psf = torch.fft.ifft2(mask.to(maps.dtype))

    def covariance(a: Shift, b: Shift) -> Tensor:
        # E z(r - a) z*(r - b) = psf(b - a) Σ_c S_c*(r - a) S_c(r - b)
        return psf[b[0] - a[0], b[1] - a[1]] * (maps.roll(a, AXES).conj() * maps.roll(b, AXES)).sum(0)

    return _with_neighbours(covariance)


def _line_covariance(solvers: Sequence[NormalEquations]) -> dict[tuple[int, int], Tensor]:
    """Of CG-SENSE images, whose lines along the undersampled axis are independent of each other."""
    axis = solvers[0].axes[0] if solvers[0].axes else -1
    inverses = [solver.inverse for solver in solvers if solver.inverse is not None]
    eye = torch.eye(inverses[0].shape[-1], dtype=inverses[0].dtype, device=inverses[0].device)
    # (H+λ)⁻¹ H = 1 - λ (H+λ)⁻¹
    return {
        (i, j): _of_lines((eye - REGULARIZATIONS[i] * first) @ second, axis)
        for i, first in enumerate(inverses)
        for j, second in enumerate(inverses)
    }


def _of_lines(lines: Tensor, axis: int) -> Tensor:
    """`_with_neighbours` of images with these covariances (line, n, n) of lines along an axis."""
    along, across = axis % 2, 1 - axis % 2
    n = lines.shape[-1]
    index = torch.arange(n, device=lines.device)

    def covariance(a: Shift, b: Shift) -> Tensor:
        if a[across] != b[across]:
            return torch.zeros_like(lines[:, 0]).movedim(-1, axis)
        pairs = lines[:, (index - a[along]) % n, (index - b[along]) % n]
        return pairs.roll(a[across], 0).movedim(-1, axis)

    return _with_neighbours(covariance)
