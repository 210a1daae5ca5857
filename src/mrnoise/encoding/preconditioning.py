"""Whether a circulant preconditioner saves iterations of the normal equations, and which."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mrnoise.encoding.convolution import PointSpread
from mrnoise.encoding.normal_equations import NormalEquations, Preconditioner

# Iterations after which plain and preconditioned ones are compared.
TRIAL_STEPS = 16


def preconditioned(equations: NormalEquations, spread: PointSpread, maps: Tensor, weight: float) -> NormalEquations:
    """With a preconditioner where some iterations with it leave a smaller residual than without.

    Parameters
    ----------
    equations
        Without one.
    spread
        Of their sampling.
    maps
        Coil maps, (coil, *spatial).
    weight
        λ.
    """
    both = equations, replace(equations, preconditioner=preconditioner(spread, maps, weight))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(maps.shape[1:], dtype=torch.complex128, generator=generator, device="cpu")
    b = equations.gram(noise.to(maps), maps)
    regularization = torch.tensor(weight, dtype=torch.float64, device=maps.device)
    residuals = []
    for each in both:
        x = each.conjugate_gradients(b, maps, regularization, most=TRIAL_STEPS)
        residuals.append(float(torch.linalg.vector_norm(b - equations.gram(x, maps) - regularization * x)))
    return both[residuals[1] < residuals[0]]


def preconditioner(spread: PointSpread, maps: Tensor, weight: float) -> Preconditioner:
    """That of the circulant matrix nearest to s H s, s = (diag H + λ)^{-1/2}.

    Parameters
    ----------
    spread
        T of H = SᴴTS.
    maps
        S, (coil, *spatial).
    weight
        λ.
    """
    diagonal = spread.at_zero * maps.abs().square().sum(0)
    scale = torch.where(diagonal > 0, (diagonal + weight).rsqrt(), 0.0)
    spectrum = spread.nearest_circulant(maps * scale).to(scale.dtype)
    return Preconditioner(scale, spectrum, spread.axes)
