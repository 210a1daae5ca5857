"""Which spokes or interleaves of a trajectory are left at an acceleration."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.checks import check_count
from mrnoise.errors import InputError
from mrnoise.sampling.named import TOLERANCE
from mrnoise.sampling.trajectory import Trajectory

# Samples of a readout that are looked at for the hole that a choice leaves.
LOOKED_AT = 32


def readout_mask(trajectory: Trajectory, acceleration: float | None = None, spacing: int | None = None) -> Tensor:
    """Mask of some readouts, for `Trajectory.undersample` and `Acquisition.undersample`.

    So many that R, voxels over samples, comes nearest to what was asked for. Of the first ones and of ones that are
    evenly spaced in the order of acquisition, those that leave the smaller hole in k-space, by the root mean square
    distance of the samples left out to the nearest kept one: the first ones of golden angles, evenly spaced ones of
    equal steps.

    Parameters
    ----------
    trajectory
        With an axis of spokes or interleaves, the last but one of the samples.
    acceleration
        R of what is left.
    spacing
        Instead: every so many readouts, from the first.

    Returns
    -------
    Tensor
        Bool, (n,).

    Raises
    ------
    InputError
        If the trajectory has no such axis, not exactly one of acceleration and spacing is given, or it is not possible.

    Examples
    --------
    >>> from mrnoise.sampling import radial
    >>> readout_mask(radial((16, 12), 8, 16), acceleration=3.0).int().tolist()  # golden angle
    [1, 1, 1, 1, 0, 0, 0, 0]
    >>> readout_mask(radial((16, 12), 8, 16, angles="uniform"), acceleration=3.0).int().tolist()
    [1, 0, 1, 0, 1, 0, 1, 0]
    """
    if trajectory.sample_ndim < 2:
        raise InputError(
            "the trajectory has no readouts to leave out",
            expected="samples with an axis of spokes or interleaves before that of the samples of each",
            received=f"samples {trajectory.sample_shape}",
            remedy="Reshape coordinates and k-space: (readout, sample).",
        )
    if (acceleration is None) == (spacing is None):
        raise InputError(
            "which readouts are meant cannot be told",
            expected="an acceleration or a spacing",
            received="both" if spacing is not None else "neither",
            remedy="Give one of them.",
        )
    n, full = trajectory.sample_shape[-2], trajectory.acceleration
    every = torch.arange(n)
    if spacing is not None:
        check_count(spacing, "spacing", most=n)
        return every % spacing == 0
    assert acceleration is not None
    possible = acceleration == acceleration and 0 < acceleration < float("inf")
    kept = min(n, max(1, round(n * full / acceleration))) if possible else n
    if not possible or max(full * n / kept / acceleration, acceleration * kept / (full * n)) > 1 + TOLERANCE:
        raise InputError(
            "acceleration is not possible",
            expected=f"voxels over samples, from {full:.3g}, that of all {n} readouts, to {n * full:.3g}, that of one",
            received=f"{acceleration:g}",
            remedy="Give another acceleration.",
        )
    even = torch.zeros(n, dtype=torch.bool)
    even[(torch.arange(kept) * n) // kept] = True
    return min((every < kept, even), key=lambda mask: _hole(trajectory, mask))


def _hole(trajectory: Trajectory, mask: Tensor) -> float:
    """Root mean square distance of the samples that are left out to the nearest that is kept."""
    from scipy.spatial import cKDTree

    if bool(mask.all()):
        return 0.0
    # Of a stack one partition, of a readout some samples.
    k = trajectory.coordinates.detach().cpu()
    k = k.reshape(len(k), -1, *k.shape[-2:])[:, 0]
    k = k[..., :: max(1, k.shape[-1] // LOOKED_AT)]
    kept, left = (k[:, part].flatten(1).T.numpy() for part in (mask, ~mask))
    return float((cKDTree(kept).query(left)[0] ** 2).mean() ** 0.5)
