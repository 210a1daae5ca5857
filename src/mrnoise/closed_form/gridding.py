"""Closed-form noise of gridding."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps
from mrnoise.errors import InputError
from mrnoise.reconstruction.gridding import density_of


def gridding_std(acquisition: Acquisition) -> Tensor:
    """σ of `mrnoise.reconstruction.Gridding` with fixed coil maps, in closed form.

        σ² = ψ ψSᴴΨ⁻¹S · 1/N Σ_j w_j² / a_j,

    ψ the mean coil variance, N the voxels, w the density and a the averages of each sample.

    Parameters
    ----------
    acquisition
        Of a trajectory, with coil maps or separate calibration lines.

    Returns
    -------
    Tensor
        Total complex standard deviation, image-shaped, float64; zero where no coil sees the voxel.

    Raises
    ------
    InputError
        If the scan is Cartesian, or its coil maps follow the noise.

    Examples
    --------
    >>> from mrnoise.sampling import Trajectory
    >>> k, angle = torch.linspace(-6, 6, 24), torch.arange(20)[:, None] * torch.pi / 20
    >>> density = k.abs().expand(20, -1) + 0.1
    >>> spokes = Trajectory(torch.stack([k * angle.sin(), k * angle.cos()]), (16, 12), density)
    >>> maps = torch.ones(3, 16, 12, dtype=torch.complex64)
    >>> scan = Acquisition(torch.ones(3, 20, 24) + 0j, torch.eye(3), coil_maps=maps, sampling=spokes)
    >>> expected = (3 * density.square().sum() / (16 * 12)).sqrt()
    >>> torch.allclose(gridding_std(scan).float(), expected.expand(16, 12))
    True
    """
    density = density_of(acquisition.trajectory).double()
    maps = fixed_coil_maps(acquisition, differentiate=True)
    if maps is None:
        raise InputError(
            "there is no closed form of this noise",
            expected="gridding with fixed coil maps",
            received="coil maps that follow the noise",
            remedy='Use method="auto", or give coil maps.',
        )
    repeats = torch.ones_like(density) if acquisition.averages is None else acquisition.averages.to(density)
    power = maps.abs().double().square().sum(-acquisition.spatial_dims - 1)
    samples = (density.square() / repeats).sum() / density.new_tensor(acquisition.spatial_shape).prod()
    variance = acquisition.noise_covariance.mean_variance * power * samples.to(power.device)
    return variance.sqrt().expand(acquisition.image_shape)
