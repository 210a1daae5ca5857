"""What coil maps are, and the eigenvector every estimate of them ends with.

Coil maps S, (coil, y, x) or (coil, z, y, x), have Σ_c |S_c|² = 1 inside the object and are 0 outside. Their
phase is that of a virtual coil u: Σ_c u_c* S_c is real and positive in every voxel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DOUBLINGS = 7  # N = 128 steps of power iteration


def dominant_eigenvector(matrix: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Unit eigenvector of the largest eigenvalue, its phase such that uᴴ v is real and positive.

    v = M^N u / ‖M^N u‖, N = 128 steps of power iteration in closed form. Where the two largest eigenvalues
    coincide the eigenvector is not defined, but v and its derivative stay finite.

    Parameters
    ----------
    matrix
        M, Hermitian and positive semidefinite, (..., coil, coil).
    reference
        u, (coil,), or (..., coil).

    Returns
    -------
    vector
        v, (..., coil), differentiable in both arguments; zero where M is zero.
    eigenvalue
        The largest one, (...), not differentiable.
    """
    vector, eigenvalues, *_ = _PowerIteration.apply(matrix, reference.expand(matrix.shape[:-1]))
    return vector, eigenvalues[..., -1]


def virtual_coil(samples: Tensor) -> Tensor:
    """First principal component over the coils of samples (coil, sample), as a unit vector (coil,).

    Its own phase is that of the coil with the most energy.
    """
    covariance = samples @ samples.mH
    energy = covariance.diagonal().real
    strongest = (energy == energy.max()).to(samples.dtype)
    return dominant_eigenvector(covariance, strongest)[0]


def divided_powers(q: Tensor, doublings: int) -> Tensor:
    """(q_i^N - q_j^N) / (q_i - q_j) with N = 2^doublings, (..., i, j).

    Computed as Π_s (q_i^{2^s} + q_j^{2^s}), in which no difference of eigenvalues is left.
    """
    product = torch.ones_like(q)[..., :, None] * torch.ones_like(q)[..., None, :]
    for _ in range(doublings):
        product = product * (q[..., :, None] + q[..., None, :])
        q = q * q
    return product


class _PowerIteration(torch.autograd.Function):
    """v = M^N u / ‖M^N u‖ of a Hermitian M = V λ Vᴴ.

    Daleckii-Krein: d(M^N) = V (F ∘ Vᴴ dM V) Vᴴ with F the divided differences of λ^N. All powers are of
    q = λ / λ_max; the scale cancels in v.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        eigenvalues, vectors = torch.linalg.eigh(matrix)
        q, _ = _scaled(eigenvalues)
        start = (vectors.mH @ reference[..., None])[..., 0]
        end = q.pow(2**DOUBLINGS) * start
        norm = torch.linalg.vector_norm(end, dim=-1, keepdim=True).clamp_min(torch.finfo(q.dtype).tiny)
        return (vectors @ (end / norm)[..., None])[..., 0], eigenvalues, vectors, start, norm

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def jvp(ctx: Any, d_matrix: Tensor, d_reference: Tensor) -> tuple[Tensor | None, ...]:
        vector, eigenvalues, vectors, start, norm = ctx.saved_tensors
        q, scale = _scaled(eigenvalues)
        change = divided_powers(q, DOUBLINGS) * (vectors.mH @ (d_matrix / scale[..., None]) @ vectors)
        d_end = (change @ start[..., None])[..., 0]
        d_end = d_end + q.pow(2**DOUBLINGS) * (vectors.mH @ d_reference[..., None])[..., 0]
        d_vector = (vectors @ (d_end / norm)[..., None])[..., 0]
        return _tangential(d_vector, vector), None, None, None, None

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        vector, eigenvalues, vectors, start, norm = ctx.saved_tensors
        q, scale = _scaled(eigenvalues)
        end = (vectors.mH @ _tangential(gradient, vector)[..., None])[..., 0] / norm
        change = divided_powers(q, DOUBLINGS) * (end[..., :, None] * start.conj()[..., None, :])
        g_reference = (vectors @ (q.pow(2**DOUBLINGS) * end)[..., None])[..., 0]
        return vectors @ change @ vectors.mH / scale[..., None], g_reference


def _scaled(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    scale = eigenvalues[..., -1:].clamp_min(torch.finfo(eigenvalues.dtype).tiny)
    return eigenvalues.clamp_min(0) / scale, scale


def _tangential(change: Tensor, unit: Tensor) -> Tensor:
    """The part of a change that keeps the norm of a unit vector."""
    return change - unit * (unit.conj() * change).real.sum(-1, keepdim=True)
