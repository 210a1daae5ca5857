"""Sampling that varies along one axis: every line of the image is a system of its own, small enough for a matrix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Bytes of the inverted lines: 256 × 256 needs half of it.
LARGEST_INVERSE = 2**28
LINES_AT_ONCE = 16


def line_gram(maps: Tensor, mask: Tensor, axes: tuple[int, ...]) -> Tensor | None:
    """H = SᴴFᴴMFS of every line along the one undersampled axis, (line, n, n).

    On a line, FᴴMF is the circulant matrix C of the mask, and H_ij = C_ij Σ_c S_c*(i) S_c(j).

    ``None`` if sampling varies along more axes, or the matrices would be too large.
    """
    parts = line_grams(maps, mask, axes)
    return None if parts is None else torch.cat([part.to(maps.dtype) for part in parts])


def line_inverse(
    maps: Tensor, mask: Tensor, axes: tuple[int, ...], regularization: float | Tensor, extent: Tensor | None = None
) -> Tensor | None:
    """(H + λ)⁻¹ of every line, as `line_gram`, λ a number or an image (y, x); ``None`` also if H is singular.

    With an extent, P = FᴴEF along the lines: P (P H P + λ)⁻¹ P.
    """
    p = None if extent is None else line_extent(extent, axes)
    added = torch.as_tensor(regularization, dtype=torch.float64, device=maps.device).expand(mask.shape)
    added = added.movedim(axes[0] if axes else -1, -1).flatten(0, -2)
    parts = []
    for h, some in zip(line_grams(maps, mask, axes, p) or (), added.split(LINES_AT_ONCE), strict=False):
        # Without λ, a voxel that no coil sees has no equation: its solution is zero.
        unseen = (h.diagonal(dim1=-2, dim2=-1) == 0) & (some == 0)
        # Beyond the extent any number will do.
        beyond = 0 if p is None else torch.eye(len(p), dtype=p.dtype, device=p.device) - p
        factor, info = torch.linalg.cholesky_ex(h + beyond + torch.diag_embed(some + unseen))
        if bool(info.any()):
            return None
        inverse = torch.cholesky_inverse(factor)
        parts.append((inverse if p is None else p @ inverse @ p).to(maps.dtype))
    return torch.cat(parts) if parts else None


def line_extent(extent: Tensor, axes: tuple[int, ...]) -> Tensor:
    """P = FᴴEF along a line, (n, n), of an extent that varies along this axis alone, its centre at index 0."""
    line = extent.movedim(axes[0] if axes else -1, -1).flatten(0, -2)[0]
    return _circulant(line)


def line_grams(
    maps: Tensor, mask: Tensor, axes: tuple[int, ...], extent: Tensor | None = None
) -> Iterator[Tensor] | None:
    """H, or P H P with P of `line_extent`; some lines at a time, in double precision."""
    if len(axes) > 1 or maps.ndim != mask.ndim + 1:
        return None
    axis = axes[0] if axes else -1
    n = mask.shape[axis]
    if mask.numel() * n * maps.element_size() > LARGEST_INVERSE:
        return None
    weights = mask.movedim(axis, -1).reshape(-1, n)[0]
    circulant = _circulant(weights.to(maps.device))
    s = maps.movedim(axis, -1).flatten(1, -2).movedim(0, -1)  # (line, n, coil)
    some = (part.to(torch.complex128) for part in s.split(LINES_AT_ONCE))
    grams = (circulant * (part.conj() @ part.mT) for part in some)
    return grams if extent is None else (extent @ h @ extent for h in grams)


def _circulant(weights: Tensor) -> Tensor:
    """FᴴWF of weights along a line, (n, n)."""
    response = torch.fft.ifft(weights.to(torch.complex128))
    index = torch.arange(len(weights), device=weights.device)
    return response[(index[:, None] - index) % len(weights)]


def on_lines(matrices: Tensor, images: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Product of (line, n, n) with every line of images (..., y, x) along the undersampled axis, or plane along two."""
    axes = axes or (-1,)
    last = tuple(range(-len(axes), 0))
    lines = images.movedim(axes, last)
    flat = lines.reshape(-1, *matrices.shape[:2])
    product = torch.einsum("lij,blj->bli", matrices.to(images), flat)
    return product.reshape(lines.shape).movedim(last, axes)
