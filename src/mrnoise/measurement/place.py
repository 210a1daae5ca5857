"""Where something is measured: regions and voxels, slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.linearization import NoiseToImage, linearize
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction


def operators_over(
    reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, weights: Tensor
) -> Iterator[tuple[NoiseToImage, Tensor]]:
    """Each linearised image with its part of image-shaped weights.

    Raises
    ------
    InputError
        If the weights are not real and finite, are all zero, or do not fit the image.
    """
    if weights.is_complex() or not torch.isfinite(weights.double()).all() or not bool((weights != 0).any()):
        raise InputError(
            "invalid region of interest",
            expected="a bool mask or real finite weights, not all zero",
            received=f"{weights.dtype}, {int((weights != 0).sum())} non-zero voxels",
            remedy="Mark at least one voxel.",
        )
    lead = len(acquisition.batch_shape)
    if tuple(weights.shape[:lead]) != acquisition.batch_shape:
        raise _misfit(acquisition.image_shape, weights)
    pieces = weights.flatten(0, lead - 1) if lead and isinstance(reconstruction, Reconstruction) else weights[None]
    for piece, operator in zip(pieces, linearize(reconstruction, acquisition), strict=True):
        if tuple(piece.shape) != operator.image_shape:
            raise _misfit(acquisition.batch_shape + operator.image_shape[-acquisition.spatial_dims :], weights)
        yield operator, piece.to(operator.device)


def operator_at(
    reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, voxel: Sequence[int]
) -> tuple[NoiseToImage, tuple[int, ...]]:
    """The linearised image that holds a voxel, and the place of the voxel in it.

    Raises
    ------
    InputError
        If there is no such voxel.
    """
    index = tuple(int(i) for i in voxel)
    lead = len(acquisition.batch_shape) if isinstance(reconstruction, Reconstruction) else 0
    outer = acquisition.batch_shape[:lead]
    if len(index) != len(acquisition.image_shape) or not _inside(index[:lead], outer):
        raise _no_such_voxel(acquisition.image_shape, index)
    if lead:
        acquisition = list(acquisition.slices())[int(np.ravel_multi_index(index[:lead], outer))]
    (operator,) = linearize(reconstruction, acquisition)
    if not _inside(index[lead:], operator.image_shape):
        raise _no_such_voxel((*outer, *operator.image_shape), index)
    return operator, index[lead:]


def spacing(acquisition: Acquisition) -> tuple[tuple[float, ...], str]:
    """Distance between voxels along the spatial axes and its unit: mm, or voxel where the scan gives no size."""
    dims = acquisition.spatial_dims
    if acquisition.geometry.measured:
        return acquisition.geometry.spacing[-dims:], "mm"
    return (1.0,) * dims, "voxel"


def full_width_at_half_maximum(values: Tensor, centre: Sequence[int], spacing: Sequence[float]) -> tuple[float, ...]:
    """Width of a peak at half of its value at ``centre``, along each spatial axis.

    Both flanks are found by linear interpolation between voxels, so that a single voxel is one voxel wide.

    Parameters
    ----------
    values
        Real, (..., *spatial).
    centre
        Index of the peak, all axes.
    spacing
        Distance between voxels along the spatial axes.

    Returns
    -------
    tuple of float
        In the unit of ``spacing``; infinite where a flank does not fall to half within the image, NaN without a
        peak.
    """
    widths = []
    for axis, step in zip(range(-len(spacing), 0), spacing, strict=True):
        place = list(centre)
        at = place[axis]
        place[axis] = slice(None)  # type: ignore[call-overload]
        line = values[tuple(place)].tolist()
        widths.append(step * (_half_width(line[at:]) + _half_width(line[at::-1])))
    return tuple(widths)


def _half_width(flank: list[float]) -> float:
    peak = flank[0]
    if not peak > 0:
        return math.nan
    for k, (before, after) in enumerate(pairwise(flank)):
        if after <= peak / 2:
            return k + (before - peak / 2) / (before - after)
    return math.inf


def _inside(index: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(index) == len(shape) and all(0 <= i < n for i, n in zip(index, shape, strict=True))


def _misfit(shape: tuple[int, ...], weights: Tensor) -> InputError:
    return InputError(
        "region of interest does not fit the image",
        expected=str(shape),
        received=str(tuple(weights.shape)),
        remedy="Draw the region on the reconstructed image.",
    )


def _no_such_voxel(shape: tuple[int, ...], voxel: tuple[int, ...]) -> InputError:
    return InputError(
        "no such voxel",
        expected=f"an index into the image {shape}",
        received=str(voxel),
        remedy="Voxels are counted from 0, in the order of the image axes: (y, x), or (slice, y, x).",
    )
