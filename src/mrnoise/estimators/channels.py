"""Noise for any covariance between channels, from the covariance of the responses to one probe in each of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.sampling_error import EmpiricalError

# Voxels whose quadratic forms are evaluated together.
BLOCK = 2**13


class ChannelMoments:
    """Running Σ u uᴴ of the responses to a white probe w, put into each of C channels in turn.

    J (e_c ⊗ w) = A_c w + B_c w*. With u = (A_1 w, …, A_C w, (B_1 w*)*, …, (B_C w*)*), which is complex-linear in w, the
    covariance Γ = E u uᴴ of a voxel holds its noise for every covariance between channels: that of J n is a sum over
    entries of Γ. Where J is complex-linear, B = 0 and u ends after A_C w.

    Parameters
    ----------
    n_channels
        C.
    """

    def __init__(self, n_channels: int) -> None:
        self.n_channels, self.count = n_channels, 0
        self._sum: Tensor | float = 0.0

    def add(self, responses: Tensor, responses_to_i: Tensor | None) -> None:
        """Take in one probe: J (e_c ⊗ w), (C, *image), and J (e_c ⊗ i w); ``None`` where J is complex-linear."""
        u = responses
        if responses_to_i is not None:
            a, b = responses - 1j * responses_to_i, responses + 1j * responses_to_i
            u = 0.5 * torch.cat([a, b.conj()])
        self._sum = self._sum + u.unsqueeze(1) * u.conj()
        self.count += 1

    def covariance(self) -> ChannelCovariance:
        """Γ of the probes so far, on the CPU."""
        return ChannelCovariance(torch.as_tensor(self._sum).cpu() / self.count, self.n_channels, self.count)


@dataclass(frozen=True, eq=False)
class ChannelCovariance:
    """Γ̂ = mean of u uᴴ over S probes, see `ChannelMoments`.

    Parameters
    ----------
    matrix
        (K, K, *image) with K = C where J is complex-linear, else 2C.
    n_channels
        C.
    n_samples
        S.
    """

    matrix: Tensor
    n_channels: int
    n_samples: int

    def estimate(self, psi: Tensor, method: str, n_products: int, interrupted: bool) -> Estimate:
        """Variance and pseudo-variance of J n for circular n with E n_c n_d* = Ψ_cd, white otherwise.

        V = Σ_cd Ψ_cd (A_c A_dᴴ + B_d B_cᴴ)_rr and P = 2 Σ_cd Ψ_cd (A_c B_dᵀ)_rr, both of the form q = Σ F_ij Γ_ij,
        unbiased for any Ψ. The responses of one probe to C channels are not independent: errors follow from Γ̂ for
        Gaussian u by Isserlis' theorem, cov(q, q') = tr(FᵀΓ F'ᵀΓ) / S, without the bias of Γ̂ itself. Random-phase
        probes have at most this variance.

        Parameters
        ----------
        psi
            (C, C), Hermitian.
        method, n_products, interrupted
            Recorded in the estimate.
        """
        c, s = self.n_channels, self.n_samples
        shape = self.matrix.shape[2:]
        psi = psi.to(torch.complex128)
        proper = len(self.matrix) == c
        forms = [psi if proper else torch.block_diag(psi, psi)]
        if not proper:
            forms.append(torch.zeros_like(forms[0]))
            forms[1][:c, c:] = 2 * psi
        parts = [_moments(block.to(torch.complex128), forms, s) for block in self.matrix.flatten(2).split(BLOCK, dim=2)]
        v, p, vv, vp, pa, pp = (torch.cat(part).reshape(shape) for part in zip(*parts, strict=True))
        return Estimate(
            variance=v.real.clamp_min(0),
            pseudo_variance=p,
            error=EmpiricalError(vv.real, vp, pa.real.clamp_min(0), pp, torch.tensor(float(s - 1))),
            method=method,
            n_samples=s,
            n_products=n_products,
            interrupted=interrupted,
        )


def _moments(gamma: Tensor, forms: list[Tensor], s: int) -> tuple[Tensor, ...]:
    """V, P, and var V, cov(V, P), E|P-EP|², E(P-EP)² of their means, each (voxel,), from Γ̂ (K, K, voxel)."""

    def value(form: Tensor) -> Tensor:
        return torch.einsum("ij,ijr->r", form, gamma)

    def through(form: Tensor) -> Tensor:
        return torch.einsum("ij,ilr->jlr", form, gamma)  # FᵀΓ

    def covariance(first: Tensor, second: Tensor) -> Tensor:
        # E tr(FᵀΓ̂F'ᵀΓ̂) = t + q q'/S and E q̂ q̂' = q q' + t/S.
        trace = torch.einsum("jlr,ljr->r", through(first), through(second))
        product = value(first) * value(second)
        return (trace - product / s) / (1 - 1 / s**2) / s if s > 1 else torch.full_like(product, torch.nan)

    total = forms[0]
    v = value(total)
    # Of K independent channels of equal strength: the smallest variance there is.
    vv = covariance(total, total).real.clamp_min(0)
    vv = torch.maximum(vv, v.real.square() / (s * len(gamma))) if s > 1 else vv
    if len(forms) == 1:
        zero = torch.zeros_like(v)
        return v, zero, vv, zero, zero, zero
    pseudo = forms[1]
    return (
        v,
        value(pseudo),
        vv,
        covariance(total, pseudo),
        covariance(pseudo, pseudo.mH),
        covariance(pseudo, pseudo),
    )
