"""Differences between neighbouring voxels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Differences:
    """(D x)_a = x(r + e_a) - x(r) along some axes a, zero at the last voxel; D x has the axis a before those of x.

    Parameters
    ----------
    axes
        From the end.
    image_ndim
        Number of axes of the image; batches lead.

    Examples
    --------
    >>> ramp = torch.arange(4.0).expand(3, 4)
    >>> Differences((-2, -1), 2).forward(ramp)[:, 0].tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
    """

    axes: tuple[int, ...]
    image_ndim: int

    inner_steps = 10

    @property
    def norm2(self) -> float:
        """‖D‖² ≤ 4 an axis."""
        return 4.0 * len(self.axes)

    def extended(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def cropped(self, image: Tensor) -> Tensor:
        """The image itself."""
        return image

    def forward(self, image: Tensor) -> Tensor:
        """D x, (..., *image) → (..., axis, *image)."""
        along = [torch.diff(image, dim=a, append=image.narrow(a, -1, 1)) for a in self.axes]
        return torch.stack(along, -self.image_ndim - 1)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Dᴴ u."""
        along = coefficients.unbind(-self.image_ndim - 1)
        terms = [
            torch.diff(_between_zeros(u.narrow(axis, 0, u.shape[axis] - 1), axis), dim=axis)
            for u, axis in zip(along, self.axes, strict=True)
        ]
        return -reduce(torch.add, terms)

    def grouped(self, values: Tensor) -> Tensor:
        """Σ_a, differences of a voxel along all axes together."""
        return values.sum(-self.image_ndim - 1, keepdim=True)


def _between_zeros(values: Tensor, axis: int) -> Tensor:
    """One zero before and one behind."""
    return pad(values, [0, 0] * (-axis - 1) + [1, 1])
