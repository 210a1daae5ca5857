"""CG-SENSE: regularised least squares for any Cartesian sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding.normal_equations import NormalEquations, line_inverse, undersampled_axes
from mrnoise.errors import InputError
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, coil_maps_of, maps_are_fixed
from mrnoise.reconstruction.sense import check_regularization


@dataclass(frozen=True)
class CgSense(Reconstruction):
    """CG-SENSE with Tikhonov term, x = (H + λ)⁻¹ ψ AᴴΨ⁻¹ y with H = ψ AᴴΨ⁻¹A, ψ the mean coil variance.

    Its derivative is that of the converged solution, found by one more conjugate-gradient solve on the
    tangent (Pruessmann 2001, doi:10.1002/mrm.1241). A solver stopped early by ``max_iterations`` has another
    derivative; the preflight then refuses it.

    Where sampling varies along one axis only and the coil maps are fixed, the lines along that axis are
    independent systems small enough to be inverted once, on `bind`: the same solution without iterations.

    Parameters
    ----------
    regularization
        Tikhonov λ ≥ 0, relative to |S|² = 1.
    tolerance
        Relative residual at which the iteration stops.
    max_iterations
        Bound on the iterations.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.
    """

    regularization: float = 1e-3
    tolerance: float = 1e-6
    max_iterations: int = 200
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        check_regularization(self.regularization)
        if not 0 < self.tolerance < 1 or self.max_iterations < 1:
            raise InputError(
                "invalid stopping rule",
                expected="0 < tolerance < 1 and at least 1 iteration",
                received=f"tolerance {self.tolerance}, max_iterations {self.max_iterations}",
                remedy="Leave both out for the defaults.",
            )

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (..., coil, k1, k0) → complex image (..., y, x)."""
        maps_of = coil_maps_of(acquisition, self.differentiate_coil_maps)
        dims, coil_axis = acquisition.spatial_dims, acquisition.coil_axis
        spatial = tuple(range(-dims, 0))
        mask = torch.fft.ifftshift(acquisition.mask, dim=spatial)
        axes = undersampled_axes(mask, dims)
        fixed = inverse = None
        if maps_are_fixed(acquisition, self.differentiate_coil_maps):
            fixed = torch.fft.ifftshift(maps_of(acquisition.kspace), dim=spatial)
            if mask.ndim == dims:
                inverse = line_inverse(fixed, mask, axes, self.regularization)
        equations = NormalEquations(axes, coil_axis, self.tolerance, self.max_iterations, inverse)
        regularization = torch.tensor(self.regularization, dtype=torch.float64, device=acquisition.kspace.device)

        def reconstruct(kspace: Tensor) -> Tensor:
            maps = maps_of(kspace)
            images = fourier.to_image(acquisition.whiten(kspace), dims)
            b = torch.fft.ifftshift((maps.conj() * images).sum(coil_axis), dim=spatial)
            maps = torch.fft.ifftshift(maps, dim=spatial) if fixed is None else fixed.to(kspace)
            x = equations.solve(b, maps, mask.unsqueeze(coil_axis).to(kspace.device), regularization)
            return torch.fft.fftshift(x, dim=spatial)

        return reconstruct
