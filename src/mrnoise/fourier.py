"""Centred, orthonormal Fourier transforms between k-space and image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def _axes(dims: int) -> tuple[int, ...]:
    return tuple(range(-dims, 0))


def central(values: Tensor, shape: Sequence[int]) -> Tensor:
    """The central part of the last axes, of this shape, with the origin at index n // 2 of both."""
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
        values = values.narrow(axis, values.shape[axis] // 2 - n // 2, n)
    return values


def to_image(kspace: Tensor, dims: int = 2) -> Tensor:
    """Inverse Fourier transform of the last ``dims`` axes.

    x = Fᴴ y with FᴴF = I; the origin of both domains is at index n // 2.

    Parameters
    ----------
    kspace
        Complex, (..., k1, k0) or (..., k2, k1, k0).
    dims
        Number of spatial axes, 2 or 3.
    """
    axes = _axes(dims)
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(kspace, dim=axes), dim=axes, norm="ortho"), dim=axes)


def to_kspace(image: Tensor, dims: int = 2) -> Tensor:
    """Forward Fourier transform of the last ``dims`` axes, the inverse and adjoint of `to_image`."""
    axes = _axes(dims)
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(image, dim=axes), dim=axes, norm="ortho"), dim=axes)
