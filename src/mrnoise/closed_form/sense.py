"""Closed-form noise of SENSE: the classical baseline, and the reference of the g-factor."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.closed_form.averages import uniform_averages
from mrnoise.errors import InputError
from mrnoise.reconstruction.sense import check_regularization
from mrnoise.sampling.grid import Grid


def sense_std(acquisition: Acquisition, regularization: float = 0.0) -> Tensor:
    """σ of a SENSE image from regular sampling, in closed form.

    Within each alias set, H = ψ AᴴΨ⁻¹A = R ψ BᴴΨ⁻¹B with B_cj = p_j S_c(r - s_j), and

        cov(x) = ψ (H + λ)⁻¹ H (H + λ)⁻¹,

    ψ the mean coil variance (Pruessmann 1999,
    doi:10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S).

    Parameters
    ----------
    acquisition
        With coil maps and a regular mask.
    regularization
        Tikhonov λ, as in `mrnoise.reconstruction.Sense`.

    Returns
    -------
    Tensor
        Total complex standard deviation, (..., *spatial), float64; zero where no coil sees the voxel.

    Raises
    ------
    InputError
        Without coil maps, for irregular sampling, or for averages that differ between samples.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> full = simulate((16, 12), 4)
    >>> half = full.undersample(equispaced((16, 12), 2))
    >>> ratio = sense_std(half) / sense_std(full)
    >>> round(float(ratio.min()), 2), round(float(ratio.max()), 2)  # √2 g
    (1.42, 4.57)
    """
    check_regularization(regularization)
    h, repeats = _gram(acquisition)
    eye = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    unseen = (h.diagonal(dim1=-2, dim2=-1).real == 0).to(h.dtype)
    inverse = torch.linalg.inv(h + regularization * eye + torch.diag_embed(unseen))
    psi = acquisition.noise_covariance.mean_variance
    # Of a lattice that ends with what was encoded, a part of the samples has noise.
    measured = float(acquisition.grid.shared().sum() / acquisition.grid.continued().sum())
    variance = measured * psi * (inverse @ h @ inverse)[..., 0, 0].real.clamp_min(0) / repeats
    return variance.sqrt()


def fully_sampled_std(acquisition: Acquisition) -> Tensor:
    """σ of the fully sampled, optimally combined image, √e (SᴴΨ⁻¹S)^{-1/2}: the reference of the g-factor.

    e is the part of the grid that was encoded. With averages, those of each image. For any sampling: σ does not depend
    on it.

    Parameters
    ----------
    acquisition
        With coil maps.

    Returns
    -------
    Tensor
        Total complex standard deviation, image-shaped, float64; zero where no coil sees the voxel.

    Raises
    ------
    InputError
        Without coil maps.

    Examples
    --------
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> sigma = fully_sampled_std(head.acquire())
    >>> torch.allclose(sigma.float(), head.optimal_std)
    True
    """
    if acquisition.coil_maps is None:
        raise _no_coil_maps()
    axis, psi = -acquisition.spatial_dims - 1, acquisition.noise_covariance
    return _of_power(acquisition, psi.whiten(acquisition.coil_maps.to(torch.complex128), axis).abs().square().sum(axis))


def combined_std(acquisition: Acquisition) -> Tensor:
    """σ of the fully sampled image of whitened coils, combined with weights of norm 1: √e √ψ, ψ the mean coil variance.

    e and averages as in `fully_sampled_std`, which this is where coil maps S have ψ SᴴΨ⁻¹S = 1.

    Parameters
    ----------
    acquisition
        Any.

    Returns
    -------
    Tensor
        Total complex standard deviation, image-shaped, float64. That of a root sum of squares is 1/√2 of it.

    Examples
    --------
    >>> from mrnoise.calibration import with_coil_maps
    >>> from mrnoise.simulation import simulate
    >>> scan = with_coil_maps(simulate((32, 24), 4))
    >>> ratio = combined_std(scan) / fully_sampled_std(scan)
    >>> round(float(ratio[16, 12]), 3)
    1.0
    """
    psi, device = acquisition.noise_covariance.mean_variance, acquisition.kspace.device
    return _of_power(acquisition, torch.full(acquisition.spatial_shape, 1 / psi, dtype=torch.float64, device=device))


def _of_power(acquisition: Acquisition, power: Tensor) -> Tensor:
    """√(e / (averages · power)), power SᴴΨ⁻¹S of a fully sampled image."""
    repeats = torch.ones(())
    if acquisition.averages is not None:
        most = acquisition.averages.double().flatten(-acquisition.sampling.sample_ndim).amax(-1)
        repeats = most.reshape(*most.shape, *[1] * acquisition.spatial_dims)
    # Where a part of k-space was encoded, a part of the noise is there.
    encoded = torch.ones(())
    if isinstance(acquisition.sampling, Grid):
        encoded = acquisition.sampling.encoded_fraction
        encoded = encoded.reshape(*encoded.shape, *[1] * acquisition.spatial_dims).to(power.device)
    sigma = torch.where(power > 0, (power * repeats / encoded).rsqrt(), 0.0)
    return sigma.expand(acquisition.image_shape)


def sense_g_factor(acquisition: Acquisition, regularization: float = 0.0) -> Tensor:
    """The g-factor σ / (√R σ_full); without regularisation √([H⁻¹]_ii H_ii), at least 1.

    Parameters
    ----------
    acquisition, regularization
        As for `sense_std`.

    Returns
    -------
    Tensor
        Image-shaped, float64; NaN where no coil sees the voxel.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> for r in (1, 2, 3):
    ...     g = sense_g_factor(simulate((24, 20), 8, mask=equispaced((24, 20), r)))
    ...     print(f"R = {r}: mean g {g.mean():.2f}, largest {g.max():.2f}")
    R = 1: mean g 1.00, largest 1.00
    R = 2: mean g 1.22, largest 1.72
    R = 3: mean g 2.08, largest 4.21
    """
    reference = fully_sampled_std(acquisition)
    sigma = sense_std(acquisition, regularization)
    g = sigma / (acquisition.acceleration**0.5 * reference)
    return torch.where(reference > 0, g, torch.nan)


def _gram(acquisition: Acquisition) -> tuple[Tensor, Tensor]:
    """H of every alias set, (..., *spatial, R, R) with the voxel itself first, and the uniform averages."""
    if acquisition.coil_maps is None:
        raise _no_coil_maps()
    repeats = uniform_averages(acquisition)
    lattice = acquisition.grid.lattice()
    dims, psi = acquisition.spatial_dims, acquisition.noise_covariance
    maps = acquisition.coil_maps.to(torch.complex128).movedim(acquisition.coil_axis, 0)
    b = lattice.aliases(maps)  # (R, coil, ..., *spatial)
    b = b * lattice.coefficients.reshape(-1, *[1] * (b.ndim - 1))
    weighted = torch.einsum("cd,rd...->rc...", torch.linalg.inv(psi.matrix), b)
    h = torch.einsum("ic...,jc...->...ij", b.conj(), weighted)
    if h.ndim != dims + 2 + len(acquisition.batch_shape):
        h = h.expand(*acquisition.batch_shape, *h.shape)
    return lattice.acceleration * psi.mean_variance * h, repeats


def _no_coil_maps() -> InputError:
    return InputError(
        "no coil maps",
        expected="an acquisition with coil maps",
        received="none",
        remedy="Estimate them, e.g. with mrnoise.calibration.espirit.",
    )
