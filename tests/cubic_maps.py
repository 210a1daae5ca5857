"""A reconstruction whose nonlinear noise is known in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

SHAPE = (6, 9)


@dataclass
class Cubic:
    """Voxels x = z + a z|z|², z = s + √v n, n circular with E|n|² = 1; the derivative may be that of another s.

    With A = 1 + 2a|s|² and B = a s², z|z|² = s|s|² + 2|s|²n + s²n̄ + 2s|n|² + s̄n² + n|n|² gives

        E δ = 2asv,   V = (A² + |B|²)v + (4aA + 6a²|s|²)v² + 6a²v³,   P = E(δ - Eδ)² = 2ABv + 8a²s²v².
    """

    s: Tensor
    a: Tensor
    v: float
    derivative_at: Tensor | None = None
    noise_dtype: torch.dtype = torch.complex128
    image_dtype: torch.dtype = torch.complex128
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    complex_linear: bool = False

    @property
    def noise_shape(self):
        return tuple(self.s.shape)

    image_shape = noise_shape

    def apply(self, noise):
        s = self.s if self.derivative_at is None else self.derivative_at
        return self.v**0.5 * ((1 + 2 * self.a * s.abs() ** 2) * noise + self.a * s**2 * noise.conj())

    def replicas(self, noise):
        z = self.s + self.v**0.5 * noise
        return z + self.a * z * z.abs() ** 2 - (self.s + self.a * self.s * self.s.abs() ** 2)

    @property
    def first_order_variance(self):
        return ((1 + 2 * self.a * self.s.abs() ** 2) ** 2 + (self.a * self.s**2).abs() ** 2) * self.v

    @property
    def variance(self):
        size = self.s.abs() ** 2
        second = 4 * self.a * (1 + 2 * self.a * size) + 6 * self.a**2 * size
        return self.first_order_variance + second * self.v**2 + 6 * self.a**2 * self.v**3

    @property
    def pseudo_variance(self):
        return (2 * self.a * (1 + 2 * self.a * self.s.abs() ** 2) * self.v + 8 * self.a**2 * self.v**2) * self.s**2

    @property
    def bias(self):
        return 2 * self.a * self.s * self.v

    @property
    def ratio(self):
        """σ over first-order σ of all voxels."""
        return float((self.variance.sum() / self.first_order_variance.sum()).sqrt())

    @property
    def error(self):
        """Root-mean-square relative error of the first-order σ."""
        first = self.first_order_variance
        return 0.5 * float(((self.variance - first).square().sum() / first.square().sum()).sqrt())


def cubic(snr: float, *, shape=SHAPE, strength=4.0, wrong=False) -> Cubic:
    """Objects of magnitude 1 and random phase, a between ½ and 1 of the strength."""
    g = torch.Generator().manual_seed(1)
    phase = torch.rand(2, *shape, generator=g, dtype=torch.float64) * 6.28
    s, other = torch.polar(torch.ones_like(phase), phase)
    a = strength * (0.5 + 0.5 * torch.rand(shape, generator=g, dtype=torch.float64))
    return Cubic(s, a, snr**-2, 1.5 * other if wrong else None)
