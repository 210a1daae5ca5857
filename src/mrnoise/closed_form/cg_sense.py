"""Closed-form noise of regularised least squares: by lines where sampling varies along one axis, else dense."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps
from mrnoise.checks import check_memory
from mrnoise.closed_form.averages import uniform_averages
from mrnoise.encoding.convolution import PointSpread
from mrnoise.encoding.lines import line_extent, line_grams
from mrnoise.encoding.non_cartesian import point_spread
from mrnoise.encoding.planes import dense_gram
from mrnoise.errors import InputError
from mrnoise.sampling.grid import Grid, varying_axes
from mrnoise.sampling.trajectory import Trajectory


def cg_sense_std(acquisition: Acquisition, regularization: float, most_voxels: int | None = None) -> Tensor:
    """σ of the converged CG-SENSE image of a scan, in closed form.

    With H = ψ AᴴΨ⁻¹A, P = (H + λ)⁻¹ and ψ the mean coil variance,

        cov(x) = ψ P H P = ψ (P - λ P²),   σ_i² = ψ (P_ii - λ Σ_j |P_ij|²),

    (Pruessmann 2001, doi:10.1002/mrm.1241); where a part of k-space was encoded, P is the inverse within it. Where
    sampling varies along one axis, every line along it is a system of its own. Else one dense factorization of the n
    voxels that a coil sees, 8 n³ operations and 32 n² bytes: a minute and 3 GB for 10⁴. In double precision.

    Parameters
    ----------
    acquisition
        One image with coil maps or separate calibration lines.
    regularization
        Tikhonov λ > 0, as in `mrnoise.reconstruction.CgSense`.
    most_voxels
        Of a dense factorization; ``None``: what fits into memory.

    Returns
    -------
    Tensor
        Total complex standard deviation, image-shaped, float64; zero where no coil sees the voxel.

    Raises
    ------
    InputError
        Without fixed coil maps, if averages differ between samples, without regularization, if the factorization is
        too large, or if a part of k-space was encoded and sampling varies along more axes.

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
    if maps is None or regularization <= 0 or acquisition.batch_shape:
        raise InputError(
            "there is no closed form of this noise",
            expected="CG-SENSE with λ > 0 of one image with fixed coil maps",
            received=f"λ = {regularization:g}, images {acquisition.image_shape}"
            + ("" if maps is not None else ", coil maps that follow the noise"),
            remedy='Use method="auto".',
        )
    variance = None
    if isinstance(acquisition.sampling, Grid):
        variance = _variance_of_lines(acquisition.sampling, maps, regularization)
    if variance is None:
        variance = _dense_variance(_point_spread(acquisition), maps, regularization, most_voxels)
    return (variance.clamp_min(0) * acquisition.noise_covariance.mean_variance / repeats).sqrt()


def _variance_of_lines(grid: Grid, maps: Tensor, regularization: float) -> Tensor | None:
    """In units of ψ; ``None`` if sampling varies along more than one axis, or lines are too long."""
    dims = grid.spatial_dims
    spatial = tuple(range(-dims, 0))
    mask, within = torch.fft.ifftshift(grid.mask, dim=spatial), None
    axes = varying_axes(mask, dims)
    if grid.extent is not None:
        extent = torch.fft.ifftshift(grid.extent, dim=spatial)
        axes = tuple(sorted({*axes, *varying_axes(extent, dims)}))
        within = line_extent(extent, axes) if len(axes) == 1 else None
    grams = line_grams(torch.fft.ifftshift(maps, dim=spatial), mask, axes, within)
    if grams is None:
        return None
    parts = []
    for h in grams:
        eye = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
        unseen = h.diagonal(dim1=-2, dim2=-1) == 0  # with an extent, noise of neighbours reaches there
        p = torch.cholesky_inverse(torch.linalg.cholesky(h + regularization * eye))
        p = p if within is None else within @ p @ within
        own = p.diagonal(dim1=-2, dim2=-1).real
        variance = own - regularization * (p.real.square() + p.imag.square()).sum(-1)
        parts.append(torch.where(unseen, 0, variance))
    axis = axes[0] if axes else -1
    across = [n for i, n in enumerate(grid.image_shape) if i != axis % dims]
    return torch.fft.fftshift(torch.cat(parts).reshape(*across, -1).movedim(-1, axis), dim=spatial)


def _point_spread(acquisition: Acquisition) -> PointSpread:
    sampling = acquisition.sampling
    if isinstance(sampling, Trajectory):
        return point_spread(sampling)
    if sampling.extent is not None or sampling.mask.ndim > sampling.spatial_dims:
        raise InputError(
            "there is no closed form of this noise",
            expected="k-space that was encoded as a whole, or sampling that varies along one axis",
            received=f"{int(sampling.mask.sum())} samples of a part of it, along more axes",
            remedy='Use method="auto".',
        )
    return PointSpread.of_mask(sampling.mask)


def _dense_variance(spread: PointSpread, maps: Tensor, regularization: float, most: int | None) -> Tensor:
    """In units of ψ, over the voxels that a coil sees."""
    seen = (maps != 0).any(0)
    voxels = seen.nonzero()
    n = len(voxels)
    if most is not None and n > most:
        raise InputError(
            "the closed form of this noise is too large",
            expected=f"at most {most} voxels",
            received=f"{n} that a coil sees",
            remedy='Use method="auto".',
        )
    check_memory(40.0 * n * n, f"the covariance of {n} voxels", 'Use method="auto".')
    h = dense_gram(spread, maps[:, seen], voxels)
    h.diagonal().add_(regularization)
    p = torch.cholesky_inverse(torch.linalg.cholesky(h, out=h))
    of_seen = p.diagonal().real - regularization * torch.linalg.vector_norm(p, dim=1).square()
    return torch.zeros(seen.shape, dtype=torch.float64, device=maps.device).masked_scatter(seen, of_seen)
