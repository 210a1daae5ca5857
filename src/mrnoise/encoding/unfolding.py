"""The normal equations in a few products: a bound of their eigenvalues, a cheap approximate inverse."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Steps of `unfold`, and the smallest eigenvalue that it inverts: below, noise is amplified more than 20 times.
N_STEPS, SMALLEST = 8, 0.05
# Of power iterations towards the largest eigenvalue, below which they stop: steps, and by how much it may be larger.
POWER_STEPS, MARGIN = 12, 1.1
# What no image is smaller than, unless it is zero.
TINY = 1e-30


def largest_eigenvalue(gram: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of H by power iterations from x, and a margin.

    Parameters
    ----------
    gram
        x → H x.
    x
        Any image that is not zero.
    """
    for _ in range(POWER_STEPS):
        x = gram(x / torch.linalg.vector_norm(x).clamp_min(TINY))
    return MARGIN * torch.linalg.vector_norm(x)


def unfold(gram: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Most of H⁻¹ b: N steps of the Chebyshev iteration on the eigenvalues [a, 1] of H, which has none above 1.

    There the relative error is below 1/T_N((1+a)/(1-a)) = 5 %; smaller eigenvalues, which would amplify noise
    more, are inverted in part. Linear in b, at a fraction of the cost of convergence (Saad 2003, algorithm 12.1,
    doi:10.1137/1.9780898718003).

    Parameters
    ----------
    gram
        x → H x.
    b
        Anything ``gram`` takes.
    """
    middle, half = 0.5 * (1 + SMALLEST), 0.5 * (1 - SMALLEST)
    rho, residual = half / middle, b
    x = step = residual / middle
    for _ in range(N_STEPS - 1):
        residual = residual - gram(step)
        previous, rho = rho, 1 / (2 * middle / half - rho)
        step = rho * (previous * step + 2 / half * residual)
        x = x + step
    return x
