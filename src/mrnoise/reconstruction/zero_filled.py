"""Reconstructions without unfolding: zero-filled coil combination."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, coil_maps_of


@dataclass(frozen=True)
class ZeroFilled(Reconstruction):
    """Zero-filled adjoint, x = ψ Sᴴ Ψ⁻¹ Fᴴ y with Ψ's mean variance ψ.

    Parameters
    ----------
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.
    """

    unit_gain = False  # undersampling lowers the intensity
    differentiate_coil_maps: bool = True

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (..., coil, k1, k0) → complex image (..., y, x)."""
        maps_of = coil_maps_of(acquisition, self.differentiate_coil_maps)

        def reconstruct(kspace: Tensor) -> Tensor:
            images = fourier.to_image(acquisition.whiten(kspace), acquisition.spatial_dims)
            return (maps_of(kspace).conj() * images).sum(acquisition.coil_axis)

        return reconstruct


@dataclass(frozen=True)
class RootSumOfSquares(Reconstruction):
    """Root sum of squares of the zero-filled coil images, x = √Σ_c |Fᴴ y_c|²; real and non-negative."""

    unit_gain = False  # the coils are not weighted by their maps

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (..., coil, k1, k0) → real image (..., y, x)."""

        def reconstruct(kspace: Tensor) -> Tensor:
            images = fourier.to_image(kspace, acquisition.spatial_dims)
            power = (images.real.square() + images.imag.square()).sum(acquisition.coil_axis)
            # √ has no derivative at zero; there the image and its first-order noise are zero.
            present = power > 0
            return torch.where(present, torch.where(present, power, 1.0).sqrt(), 0.0)

        return reconstruct
