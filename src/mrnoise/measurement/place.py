"""Where something is measured: regions and voxels, slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.linearization import Images, NoiseToImage
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction


def operators_over(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    weights: Tensor,
    *,
    planewise: bool = True,
) -> Iterator[tuple[int, NoiseToImage, Tensor]]:
    """Each image with some of weights (k, *image): its index, itself linearised, and its part (k, *part).

    ``planewise`` as `Images` has it.

    Raises
    ------
    InputError
        If the weights are not real and finite, one is all zero, or they do not fit the image.
    """
    each = weights.flatten(1)
    if weights.is_complex() or not torch.isfinite(each.double()).all() or not bool((each != 0).any(1).all()):
        raise InputError(
            "invalid region of interest",
            expected="a bool mask or real finite weights, not all zero",
            received=f"{weights.dtype}, {int((weights != 0).sum())} non-zero voxels",
            remedy="Mark at least one voxel.",
        )
    images = Images.of(reconstruction, acquisition, planewise=planewise)
    batch_shape = images.batch_shape
    if tuple(weights.shape[1 : len(batch_shape) + 1]) != batch_shape:
        raise misfit((*batch_shape, *acquisition.spatial_shape), weights.shape[1:])
    pieces = [torch.stack(parts) for parts in zip(*(images.split(one) for one in weights), strict=True)]
    if len(pieces) != images.count:
        raise misfit((*batch_shape, *acquisition.spatial_shape), weights.shape[1:])
    for index, piece in enumerate(pieces):
        if not bool((piece != 0).any()):
            continue
        operator = images.operator(index)
        if tuple(piece.shape[1:]) != operator.image_shape:
            raise misfit(batch_shape + operator.image_shape[-acquisition.spatial_dims :], weights.shape[1:])
        yield index, operator, piece.to(operator.device)


def operator_at(
    reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, voxel: Sequence[int]
) -> tuple[NoiseToImage, tuple[int, ...]]:
    """The linearised image that holds a voxel, volumes whole, and the place of the voxel in it.

    Raises
    ------
    InputError
        If there is no such voxel.
    """
    images = Images.of(reconstruction, acquisition, planewise=False)
    expected = (*images.batch_shape, *acquisition.spatial_shape)
    found = images.place(voxel) if len(voxel) == len(expected) else None
    if found is None:
        raise no_such_voxel(expected, tuple(int(i) for i in voxel))
    index, within = found
    operator = images.operator(index)
    if not _inside(within, operator.image_shape):
        spatial = operator.image_shape[-acquisition.spatial_dims :]
        raise no_such_voxel((*images.batch_shape, *spatial), tuple(int(i) for i in voxel))
    return operator, within


def central_voxel(region: Tensor) -> tuple[int, ...]:
    """Index of the voxel of a bool region that is nearest to its centre."""
    places = region.nonzero().double()
    nearest = (places - places.mean(0)).square().sum(1).argmin()
    return tuple(int(i) for i in places[nearest])


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


def misfit(expected: tuple[int, ...], received: Sequence[int]) -> InputError:
    """The error for a region of another shape."""
    return InputError(
        "region of interest does not fit the image",
        expected=str(expected),
        received=str(tuple(received)),
        remedy="Draw the region on the reconstructed image.",
    )


def no_such_voxel(shape: tuple[int, ...], voxel: tuple[int, ...]) -> InputError:
    """The error for a voxel outside the image."""
    return InputError(
        "no such voxel",
        expected=f"an index into the image {shape}",
        received=str(voxel),
        remedy="Voxels are counted from 0, in the order of the image axes: (y, x), or (slice, y, x).",
    )
