"""Sampling anywhere in k-space of few voxels: a matrix for each system of equations."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.encoding.convolution import PointSpread
from mrnoise.encoding.lines import LARGEST_INVERSE

# Voxels of one system from which on the inversion takes longer than a few solves, half a second.
MOST_VOXELS = 1500
# Rows of H computed together.
ROWS = 256


def dense_gram(spread: PointSpread, maps: Tensor, voxels: Tensor) -> Tensor:
    """H_ij = t(i - j) Σ_c S_c*(i) S_c(j) over some voxels (n, dimension), (n, n) in double precision.

    Parameters
    ----------
    spread
        t.
    maps
        S at these voxels, (coil, n).
    voxels
        Their indices.
    """
    n, s = len(voxels), maps.to(torch.complex128)
    h = torch.empty((n, n), dtype=torch.complex128, device=maps.device)
    for rows in torch.arange(n, device=maps.device).split(ROWS):
        h[rows] = spread.between(voxels[rows], voxels) * (s[:, rows].mH @ s)
    return h


def plane_inverse(spread: PointSpread, maps: Tensor, regularization: float) -> Tensor | None:
    """(H + λ)⁻¹ of the voxels that sampling mixes, (plane, n, n) for `on_lines` over the axes of the point spread.

    A slice is one system, and so is a volume; of a stack every partition. 8 n³ operations each. ``None`` if the voxels
    are too many, or H + λ is singular.
    """
    axes = spread.axes or (-1,)
    last = tuple(range(-len(axes), 0))
    s = maps.movedim(axes, last).flatten(-len(axes))
    n, planes = s.shape[-1], s[0].numel() // s.shape[-1]
    if planes * n**3 > MOST_VOXELS**3 or planes * n**2 * maps.element_size() > LARGEST_INVERSE:
        return None
    within = [m if i - len(spread.image_shape) in axes else 1 for i, m in enumerate(spread.image_shape)]
    voxels = torch.ones(within, device=maps.device).nonzero()
    parts = []
    for of_plane in s.reshape(len(s), planes, n).unbind(1):
        h = dense_gram(spread, of_plane, voxels)
        h.diagonal().add_(regularization)
        factor, info = torch.linalg.cholesky_ex(h)
        if bool(info):
            return None
        parts.append(torch.cholesky_inverse(factor).to(maps.dtype))
    return torch.stack(parts)
