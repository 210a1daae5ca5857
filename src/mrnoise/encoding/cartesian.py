"""Data consistency: what a network knows of the measured samples."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.encoding.normal_equations import NormalEquations, undersampled_axes, unfold

AXES = (-2, -1)
# Relative residuals at which conjugate gradients stop; a derivative needs the converged solution.
TRAINING_TOLERANCE, TOLERANCE, MAX_ITERATIONS = 1e-2, 1e-6, 200


class Encoding:
    """A = M F S of one slice, in whitened units: Σ_c |S_c|² = 1.

    Parameters
    ----------
    maps
        Coil maps S, (coil, y, x).
    mask
        M, (k1, k0).
    tolerance
        Relative residual at which `solve` stops.
    """

    def __init__(self, maps: Tensor, mask: Tensor, tolerance: float = TOLERANCE) -> None:
        self.maps, self.mask = maps, mask
        # The centre at index 0 saves four shifts in every product.
        mask = torch.fft.ifftshift(mask, dim=AXES)
        self._maps, self._mask = torch.fft.ifftshift(maps, dim=AXES), mask[None]
        self._equations = NormalEquations(undersampled_axes(mask, 2), -3, tolerance, MAX_ITERATIONS)

    def forward(self, image: Tensor) -> Tensor:
        """A x, (y, x) → (coil, k1, k0)."""
        return self.mask * fourier.to_kspace(self.maps * image)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """Aᴴ y, (coil, k1, k0) → (y, x)."""
        return (self.maps.conj() * fourier.to_image(kspace)).sum(-3)

    def gram(self, image: Tensor) -> Tensor:
        """AᴴA x."""
        shifted = torch.fft.ifftshift(image, dim=AXES)
        return torch.fft.fftshift(self._equations.gram(shifted, self._maps, self._mask), dim=AXES)

    def unfold(self, image: Tensor) -> Tensor:
        """SENSE to start from: most of (AᴴA)⁻¹ b, b = Aᴴ y, see `normal_equations.unfold`."""
        shifted = torch.fft.ifftshift(image, dim=AXES)
        x = unfold(lambda step: self._equations.gram(step, self._maps, self._mask), shifted)
        return torch.fft.fftshift(x, dim=AXES)

    def solve(self, image: Tensor, regularization: Tensor) -> Tensor:
        """(AᴴA + λ)⁻¹ x by conjugate gradients, differentiated as converged."""
        shifted = torch.fft.ifftshift(image, dim=AXES)
        x = self._equations.solve(shifted, self._maps, self._mask, regularization)
        return torch.fft.fftshift(x, dim=AXES)
