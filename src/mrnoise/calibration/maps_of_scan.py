"""Coil maps of an acquisition."""

from __future__ import annotations

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.centre import on_grid
from mrnoise.calibration.espirit_maps import espirit
from mrnoise.calibration.interleaved import interleaved_calibration
from mrnoise.errors import InputError
from mrnoise.sampling.grid import Grid
from mrnoise.sampling.trajectory import Trajectory


def whitened_coil_maps(acquisition: Acquisition, kspace: Tensor) -> Tensor:
    """ESPIRiT maps Ψ^{-1/2} S √ψ from this k-space, differentiable in it; ψ is the mean coil variance.

    The calibration region is what every image of the acquisition has sampled; of a trajectory its centre.
    """
    if isinstance(acquisition.sampling, Trajectory):
        kspace, mask = on_grid(acquisition.sampling, kspace), acquisition.sampling.centre
    else:
        mask = acquisition.sampling.mask
    return _espirit(acquisition, kspace, mask)


def coil_maps_in_units_of_coils(acquisition: Acquisition, kspace: Tensor) -> Tensor:
    """ESPIRiT maps S from this k-space, see `whitened_coil_maps`."""
    return _coloured(acquisition, whitened_coil_maps(acquisition, kspace))


def fixed_coil_maps(acquisition: Acquisition, differentiate: bool) -> Tensor | None:
    """Whitened coil maps that do not depend on the k-space of the image, Ψ^{-1/2} S √ψ; ψ is the mean coil variance.

    Those of `fixed_coil_maps_in_units_of_coils`.
    """
    maps = fixed_coil_maps_in_units_of_coils(acquisition, differentiate)
    return None if maps is None else acquisition.whiten_maps(maps).to(acquisition.kspace)


def fixed_coil_maps_in_units_of_coils(acquisition: Acquisition, differentiate: bool) -> Tensor | None:
    """Coil maps S that do not depend on the k-space of the image.

    Those of the acquisition where it has some, or of its separate calibration lines. Where it has neither, ESPIRiT
    maps of the fully sampled centre of its own k-space, unless these are to be differentiated.

    Returns
    -------
    Tensor
        (..., coil, *spatial). ``None``: the maps follow from each k-space, see `whitened_coil_maps`.

    Raises
    ------
    InputError
        If maps have to be estimated and the fully sampled centre is too small.
    """
    maps = acquisition.coil_maps
    if maps is None:
        if acquisition.calibration is None and differentiate:
            if isinstance(acquisition.sampling, Trajectory):
                _ = acquisition.sampling.centre  # found now: within a derivative tensors have no array
            return None
        maps = with_coil_maps(acquisition).coil_maps
    return maps


def with_coil_maps(acquisition: Acquisition) -> Acquisition:
    """Acquisition with ESPIRiT maps of its own calibration lines, held fixed from here on.

    The separate calibration lines where there are some, else the fully sampled centre of k-space, else that of the mean
    of a series whose images interleave. The maps are
    estimated from whitened data and given back in the units of the coils, so that
    ψ Σ_c |(Ψ^{-1/2} S)_c|² = 1 inside the object, ψ the mean coil variance.

    Parameters
    ----------
    acquisition
        With calibration lines of its own or separate ones, or the dense centre of a trajectory.

    Returns
    -------
    Acquisition
        The same with ``coil_maps``, (..., coil, *spatial).

    Raises
    ------
    InputError
        If the fully sampled centre is too small.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 3, mask=equispaced((32, 24), 2, calibration=16)).replace(coil_maps=None)
    >>> mapped = with_coil_maps(scan)
    >>> tuple(mapped.coil_maps.shape)
    (3, 32, 24)
    >>> round(float(mapped.whiten_maps(mapped.coil_maps)[:, 16, 12].norm()), 3)
    1.0
    """
    if acquisition.calibration is None:
        try:
            maps = whitened_coil_maps(acquisition, acquisition.kspace)
        except InputError:
            grid = isinstance(acquisition.sampling, Grid)
            series = interleaved_calibration(acquisition) if grid else None
            if series is None:
                raise
            acquisition = series
    lines = acquisition.calibration
    if lines is not None:
        maps = _espirit(acquisition, lines, (lines != 0).any(acquisition.coil_axis))
    return acquisition.replace(coil_maps=_coloured(acquisition, maps))


def _coloured(acquisition: Acquisition, maps: Tensor) -> Tensor:
    psi = acquisition.noise_covariance
    return psi.colour(maps, -acquisition.spatial_dims - 1) / psi.mean_variance**0.5


def _espirit(acquisition: Acquisition, kspace: Tensor, mask: Tensor) -> Tensor:
    dims = acquisition.spatial_dims
    everywhere = mask.reshape(-1, *mask.shape[-dims:]).all(0)
    return espirit(acquisition.whiten_maps(kspace), mask=everywhere, spatial_dims=dims)
