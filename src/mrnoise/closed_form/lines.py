"""Closed-form noise of regularised least squares where sampling varies along one axis."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps
from mrnoise.closed_form.averages import uniform_averages
from mrnoise.encoding.lines import line_extent, line_grams, undersampled_axes
from mrnoise.errors import InputError


def cg_sense_std(acquisition: Acquisition, regularization: float) -> Tensor:
    """σ of the converged CG-SENSE image of a slice whose sampling varies along one axis, in closed form.

    Every line along that axis is a system of its own, with H = ψ AᴴΨ⁻¹A, P = (H + λ)⁻¹ and

        cov(x) = ψ P H P = ψ (P - λ P²),   σ_i² = ψ (P_ii - λ Σ_j |P_ij|²),

    ψ the mean coil variance (Pruessmann 2001, doi:10.1002/mrm.1241); where a part of k-space was encoded, P is the
    inverse within it. Cost: one factorization of each line, in double precision.

    Parameters
    ----------
    acquisition
        One slice with coil maps or separate calibration lines.
    regularization
        Tikhonov λ > 0, as in `mrnoise.reconstruction.CgSense`.

    Returns
    -------
    Tensor
        Total complex standard deviation, (y, x), float64; zero where no coil sees the voxel.

    Raises
    ------
    InputError
        Without fixed coil maps, if sampling varies along more axes, if averages differ between samples, or without
        regularization.

    Examples
    --------
    >>> from mrnoise.sampling import random_1d
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=random_1d((16, 12), 2, calibration=4))
    >>> sigma = cg_sense_std(scan, 1e-3)
    >>> strong = cg_sense_std(scan, 1e-1)
    >>> tuple(sigma.shape), round(float(strong.mean() / sigma.mean()), 2)
    ((16, 12), 0.17)
    """
    repeats = uniform_averages(acquisition)
    maps = fixed_coil_maps(acquisition, differentiate=True)
    extent = acquisition.grid.extent
    mask = torch.fft.ifftshift(acquisition.mask, dim=(-2, -1))
    axes = undersampled_axes(mask, acquisition.spatial_dims)
    grams = within = None
    if extent is not None:
        extent = torch.fft.ifftshift(extent, dim=(-2, -1))
        axes = tuple(sorted({*axes, *undersampled_axes(extent, acquisition.spatial_dims)}))
        within = line_extent(extent, axes) if len(axes) == 1 else None
    if maps is not None and regularization > 0 and not acquisition.batch_shape:
        grams = line_grams(torch.fft.ifftshift(maps, dim=(-2, -1)), mask, axes, within)
    if grams is None:
        raise InputError(
            "there is no closed form of this noise",
            expected="CG-SENSE with λ > 0 of a slice with fixed coil maps, whose sampling varies along one axis",
            received=f"λ = {regularization:g}, sampling along {len(axes)} of {acquisition.spatial_dims} axes"
            + ("" if maps is not None else ", coil maps that follow the noise"),
            remedy='Use method="auto".',
        )
    parts = []
    for h in grams:
        eye = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
        unseen = h.diagonal(dim1=-2, dim2=-1) == 0  # with an extent, noise of neighbours reaches there
        factor = torch.linalg.cholesky(h + regularization * eye)
        p = torch.cholesky_inverse(factor)
        p = p if within is None else within @ p @ within
        own = p.diagonal(dim1=-2, dim2=-1).real
        variance = own - regularization * (p.real.square() + p.imag.square()).sum(-1)
        parts.append(torch.where(unseen, 0, variance))
    axis = axes[0] if axes else -1
    lines = torch.cat(parts).clamp_min(0) * acquisition.noise_covariance.mean_variance / repeats
    across = [n for i, n in enumerate(acquisition.spatial_shape) if i != axis % acquisition.spatial_dims]
    return torch.fft.fftshift(lines.reshape(*across, -1).movedim(-1, axis), dim=(-2, -1)).sqrt()
