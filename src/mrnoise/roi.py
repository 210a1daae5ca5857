"""Exact error bar of a region-of-interest measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.linearization import linearize
from mrnoise.linearization.preflight import refuse
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction


def roi_std(reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, weights: Tensor) -> float:
    """Standard deviation of Σ_i w_i |x_i|, to first order and without sampling.

    var = ½ ‖Lᵀ (w x/|x|)‖²: one backward pass a slice, all correlations between voxels included.

    Parameters
    ----------
    reconstruction
        As for `mrnoise.noise_map`.
    acquisition
        The scan.
    weights
        Image-shaped. Bool: the mean over the voxels that are True. Real: any linear measurement, e.g.
        1/n inside one region and -1/m inside another for their difference.

    Returns
    -------
    float
        In image units.

    Raises
    ------
    InputError
        If the weights do not fit the image or are all zero, or the adjoint fails the preflight.
    """
    weights = torch.as_tensor(weights)
    if weights.is_complex() or not torch.isfinite(weights.double()).all() or not bool((weights != 0).any()):
        raise InputError(
            "invalid region of interest",
            expected="a bool mask or real finite weights, not all zero",
            received=f"{weights.dtype}, {int((weights != 0).sum())} non-zero voxels",
            remedy="Mark at least one voxel.",
        )
    values = weights / weights.sum() if weights.dtype == torch.bool else weights
    lead = len(acquisition.batch_shape)
    if tuple(values.shape[:lead]) != acquisition.batch_shape:
        raise _misfit(acquisition.image_shape, weights)
    pieces = values.flatten(0, lead - 1) if lead and isinstance(reconstruction, Reconstruction) else values[None]
    variance = 0.0
    for piece, operator in zip(pieces, linearize(reconstruction, acquisition), strict=True):
        if tuple(piece.shape) != operator.image_shape:
            raise _misfit(acquisition.batch_shape + operator.image_shape[-acquisition.spatial_dims :], weights)
        if operator.preflight.vjp_mode is None:
            raise refuse(operator.preflight, "adjoint")
        x = operator.value
        direction = torch.where(x.abs() > 0, x / x.abs().clamp_min(torch.finfo(x.real.dtype).tiny), 1)
        pulled = operator.adjoint((piece.to(x.device) * direction).to(x.dtype)[None])
        variance += 0.5 * float(pulled.abs().double().square().sum())
    return float(variance**0.5)


def _misfit(shape: tuple[int, ...], weights: Tensor) -> InputError:
    return InputError(
        "region of interest does not fit the image",
        expected=str(shape),
        received=str(tuple(weights.shape)),
        remedy="Draw the region on the reconstructed image.",
    )
