"""The fully sampled centre of a trajectory, as a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.encoding.non_cartesian import NonCartesian
from mrnoise.sampling.trajectory import LARGEST_CENTRE, Trajectory

# Relative to one sample in each cell of k-space; the centre has more.
REGULARIZATION = 1e-2


def on_grid(trajectory: Trajectory, kspace: Tensor) -> Tensor:
    """The centre of k-space on the grid, (..., *samples) → (..., *image_shape), zero around it.

    The transform of the least-squares image of each coil, F (EᴴE + λ)⁻¹ Eᴴ y, from the samples in a centre of twice the
    calibration block, which what lies beyond does not reach. Linear in the samples and differentiable.
    """
    shape = tuple(min(2 * LARGEST_CENTRE, n) for n in trajectory.image_shape)
    k = trajectory.coordinates.flatten(1)
    inside = torch.stack([row.abs() <= n / 2 for row, n in zip(k, shape, strict=True)]).all(0)
    centre = Trajectory(k[:, inside], shape)
    encoding = NonCartesian(torch.ones((1, *shape), dtype=kspace.dtype, device=kspace.device), centre)
    y = kspace.flatten(-trajectory.sample_ndim)[..., inside].unsqueeze(-2)
    block = fourier.to_kspace(encoding.solve(encoding.adjoint(y), REGULARIZATION), trajectory.spatial_dims)
    around: list[int] = []
    for n, m in reversed(list(zip(trajectory.image_shape, shape, strict=True))):
        around += [n // 2 - m // 2, n - m - (n // 2 - m // 2)]
    return torch.nn.functional.pad(block, around)
