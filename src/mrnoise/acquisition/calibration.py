"""Coil maps of an acquisition."""

from __future__ import annotations

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.espirit import espirit


def with_coil_maps(acquisition: Acquisition) -> Acquisition:
    """Acquisition with ESPIRiT maps of its own calibration region, held fixed from here on.

    The maps are estimated from whitened k-space and given back in the units of the coils, so that
    Σ_c |(Ψ^{-1/2} S)_c|² ψ = 1 inside the object, ψ the mean coil variance.

    Raises
    ------
    InputError
        If the fully sampled centre of k-space is too small.
    """
    psi = acquisition.noise_covariance
    maps = espirit(acquisition.whiten(acquisition.kspace), mask=acquisition.mask, spatial_dims=acquisition.spatial_dims)
    return acquisition.replace(coil_maps=psi.colour(maps, acquisition.coil_axis) / psi.mean_variance**0.5)
