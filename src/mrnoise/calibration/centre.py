"""The fully sampled centre of a trajectory, as a grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.encoding.non_cartesian import NonCartesian
from mrnoise.sampling.trajectory import Trajectory

# Relative to one sample in each cell of k-space; the centre has more.
REGULARIZATION = 1e-2
# Largest calibration block along each axis, that of `espirit`.
LARGEST = 24


def centre_mask(trajectory: Trajectory) -> Tensor:
    """The largest centred block of the grid in which every point has a sample within its cell, bool, *image_shape.

    Within half the diagonal of a cell of one cycle per field of view, that is; at most 24 points along each axis.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(trajectory.coordinates.detach().flatten(1).T.double().cpu().numpy())
    shape, reach = trajectory.image_shape, 0.5 * trajectory.spatial_dims**0.5
    for half in range(LARGEST // 2, 0, -1):
        axes = [np.arange(max(-half, -(n // 2)), min(half, (n + 1) // 2)) for n in shape]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))
        if bool((tree.query(grid)[0] <= reach).all()):
            break
    else:
        half = 0
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(max(n // 2 - half, 0), n // 2 + half) for n in shape)] = True
    return mask


def on_grid(trajectory: Trajectory, kspace: Tensor) -> Tensor:
    """The centre of k-space on the grid, (..., *samples) → (..., *image_shape), zero around it.

    The transform of the least-squares image of each coil, F (EᴴE + λ)⁻¹ Eᴴ y, from the samples in a centre of twice the
    calibration block, which what lies beyond does not reach. Linear in the samples and differentiable.
    """
    shape = tuple(min(2 * LARGEST, n) for n in trajectory.image_shape)
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
