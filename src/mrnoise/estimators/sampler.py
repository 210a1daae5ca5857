"""Random probes, each drawn from its own seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.key import Key

Draw = Callable[[Sequence[int]], Tensor]
Distribution = Callable[[Sequence[int], torch.dtype, torch.Generator], Tensor]


def phase(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Unit magnitude, uniform phase: E|v|⁴ = 1, the smallest possible."""
    angle = 2 * math.pi * torch.rand(tuple(shape), dtype=dtype.to_real(), generator=generator)
    return torch.polar(torch.ones_like(angle), angle)


def rademacher(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Complex Rademacher, (±1 ± i)/√2."""
    signs = torch.randint(0, 2, (*shape, 2), generator=generator).to(dtype.to_real())
    return torch.view_as_complex((2 * signs - 1) * 0.5**0.5)


def gaussian(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Circular complex Gaussian with E|v|² = 1."""
    return torch.randn(tuple(shape), dtype=dtype, generator=generator)


# All have E[v vᴴ] = I and E[v vᵀ] = 0. Real ±1 probes do not, and are biased for real-linear maps.
DISTRIBUTIONS: Mapping[str, Distribution] = MappingProxyType(
    {"phase": phase, "rademacher": rademacher, "gaussian": gaussian}
)


def sampler(
    shape: Sequence[int],
    dtype: torch.dtype,
    *,
    key: Key,
    distribution: str | Distribution = "phase",
    device: torch.device | None = None,
) -> Draw:
    """Function from probe indices to probes (B, *shape).

    Every probe has a generator seeded by the words of its key, on the CPU, so that neither the batch size, nor the
    device, nor the split over workers changes it.

    Raises
    ------
    InputError
        If the distribution is unknown.
    """
    if isinstance(distribution, str):
        if distribution not in DISTRIBUTIONS:
            raise InputError(
                "unknown probe distribution",
                expected=f"one of {', '.join(DISTRIBUTIONS)}",
                received=distribution,
                remedy='Use "phase", the default.',
            )
        distribution = DISTRIBUTIONS[distribution]
    make = distribution

    def draw(indices: Sequence[int]) -> Tensor:
        probes = []
        for index in indices:
            state = np.random.SeedSequence(key.words(index)).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
            probes.append(make(shape, dtype, generator))
        return torch.stack(probes).to(device)

    return draw
