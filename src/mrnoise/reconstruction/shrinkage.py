"""Patches of a series with lower singular values, differentiable where singular values are equal too."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def patches_shrunk(series: Tensor, patch: int, offset: int, threshold: float, dims: int) -> Tensor:
    """Singular values of every patch lowered by a threshold, down to zero, (..., T, *spatial) → the same.

    Parameters
    ----------
    patch, offset
        Width of patches along every spatial axis, and where their grid begins. Those at the edge are smaller; one as
        wide as the image stays whole.
    """
    shape = series.shape[-dims:]
    widths = [min(patch, n) for n in shape]
    before = [(w - offset % w) % w if w < n else 0 for w, n in zip(widths, shape, strict=True)]
    behind = [-(n + b) % w for n, b, w in zip(shape, before, widths, strict=True)]
    padding = [m for both in zip(reversed(before), reversed(behind), strict=True) for m in both]
    padded = torch.nn.functional.pad(series, padding)
    grid = [(n + a + b) // w for n, a, b, w in zip(shape, before, behind, widths, strict=True)]
    lead = series.ndim - dims
    split = padded.reshape(*series.shape[:-dims], *(m for both in zip(grid, widths, strict=True) for m in both))
    # (..., T, patches, voxels) → (..., patches, voxels, T)
    order = [*range(lead - 1), *range(lead, lead + 2 * dims, 2), *range(lead + 1, lead + 2 * dims, 2), lead - 1]
    moved = split.permute(order)
    matrices = moved.reshape(*series.shape[: lead - 1], math.prod(grid), math.prod(widths), series.shape[lead - 1])
    shrunk = shrink(matrices, threshold).reshape(moved.shape)
    joined = shrunk.permute([order.index(i) for i in range(len(order))]).reshape(padded.shape)
    for axis, n, first in zip(range(-dims, 0), shape, before, strict=True):
        joined = joined.narrow(axis, first, n)
    return joined


def shrink(matrix: Tensor, threshold: float) -> Tensor:
    """Soft threshold of the singular values, Σ_i (s_i - τ)₊ u_i v_iᴴ of (..., n, m).

    X f(XᴴX) with f(s²) = (1 - τ/s)₊ = 1 - τ / max(s, τ): the derivative of a function of a Hermitian matrix is finite
    where singular values are equal, that of their vectors is not.

    Examples
    --------
    >>> x = torch.diag(torch.tensor([3.0, 2.0, 2.0]))
    >>> torch.func.jvp(lambda x: shrink(x, 1.0), (x,), (torch.eye(3),))
    (tensor([[2., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]]), tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]]))
    """
    if matrix.shape[-2] < matrix.shape[-1]:
        return shrink(matrix.mH, threshold).mH
    # Squares lose half of the digits.
    exact = matrix.to(torch.complex128 if matrix.is_complex() else torch.float64)
    kept = _Kept.apply(exact.mH @ exact, threshold)[0]
    return (exact @ kept).to(matrix.dtype)


class _Kept(torch.autograd.Function):
    """V f(Λ) Vᴴ of G = V Λ Vᴴ, f(λ) = 1 - τ / max(√λ, τ).

    d(V f Vᴴ) = V (Φ ∘ Vᴴ dG V) Vᴴ with the divided differences Φ_ij = (f_i - f_j) / (λ_i - λ_j) (Daleckii and Krein
    1965), which is self-adjoint.
    """

    @staticmethod
    def forward(gram: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(gram)
        s = values.clamp_min(0).sqrt()
        larger = s.clamp_min(threshold)
        kept = (vectors * (1 - threshold / larger).unsqueeze(-2)) @ vectors.mH
        # With a = max(s, τ): f_i - f_j = τ (a_i - a_j) / (a_i a_j), and a_i - a_j = s_i - s_j where both are above τ.
        a, b, t, u = larger.unsqueeze(-1), larger.unsqueeze(-2), s.unsqueeze(-1), s.unsqueeze(-2)
        share = torch.where(t == u, ((t + u) > 2 * threshold).to(s), (a - b) / torch.where(t == u, 1.0, t - u))
        differences = threshold * share / (a * b * (t + u).clamp_min(threshold))
        return kept, vectors, differences

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, vectors, differences = output
        ctx.mark_non_differentiable(vectors, differences)
        ctx.save_for_backward(vectors, differences)
        ctx.save_for_forward(vectors, differences)

    @staticmethod
    def _derivative(ctx: Any, change: Tensor) -> Tensor:
        v, differences = ctx.saved_tensors
        return v @ (differences * (v.mH @ (0.5 * (change + change.mH)) @ v)) @ v.mH

    @staticmethod
    def jvp(ctx: Any, change: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        return _Kept._derivative(ctx, change), None, None

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        return _Kept._derivative(ctx, grad_outputs[0]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], gram: Tensor, threshold: float) -> tuple[Any, tuple[int, int, int]]:
        return _Kept.apply(gram.movedim(in_dims[0], 0), threshold), (0, 0, 0)
