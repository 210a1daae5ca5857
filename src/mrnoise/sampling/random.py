"""Random patterns of variable density: lines, points and Poisson discs."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod

import numpy as np
import torch
from torch import Tensor

from mrnoise.checks import check_seed
from mrnoise.errors import InputError
from mrnoise.sampling.phase_encodes import (
    Calibration,
    centre,
    checked_calibration,
    checked_shape,
    expand_lines,
    expand_plane,
    phase_encodes,
    samples_allowed,
)

DENSITY_POWER = 3.0  # random samples fall off as (1 - |k|)³ towards the edge of k-space
DENSITY_FLOOR = 0.03  # and never below this, so that every high frequency can be drawn


def random_1d(shape: Sequence[int], acceleration: float, calibration: int = 0, seed: int = 0) -> Tensor:
    """Random lines along k1, denser towards the centre.

    Lines are drawn without replacement with weights (1 - |k|)³ + 0.03.

    Parameters
    ----------
    shape
        (k1, k0) or (k2, k1, k0). All of k0, and of k2, is acquired in every line.
    acceleration
        Net R, calibration lines counted: n1 / R lines, rounded, are acquired.
    calibration
        Number of central lines acquired in any case.
    seed
        Draws the lines; the same seed gives the same mask.

    Returns
    -------
    Tensor
        Bool, ``shape``; True where a sample is acquired.

    Raises
    ------
    InputError
        If R < 1, or the calibration alone exceeds the number of lines R allows.

    Examples
    --------
    >>> mask = random_1d((24, 8), 3, calibration=4, seed=1)
    >>> mask[:, 0].int().tolist()
    [0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    >>> float(mask.numel() / mask.sum())
    3.0
    """
    shape = checked_shape(shape)
    line = _weighted_draw((shape[-2],), acceleration, calibration, seed)
    return expand_lines(torch.from_numpy(line), shape)


def random_2d(shape: Sequence[int], acceleration: float, calibration: Calibration = 0, seed: int = 0) -> Tensor:
    """Random samples over two phase encodes, denser towards the centre.

    Samples are drawn without replacement with weights (1 - |k|)³ + 0.03, |k| the elliptical radius.

    Parameters
    ----------
    shape
        (k2, k1, k0), constant along the readout k0; or the plane of two phase encodes itself, (k1, k0).
    acceleration
        Net R, calibration samples counted.
    calibration
        Size of the fully sampled central block, one number or one for each axis.
    seed
        Draws the samples; the same seed gives the same mask.

    Returns
    -------
    Tensor
        Bool, ``shape``; True where a sample is acquired.

    Raises
    ------
    InputError
        If R < 1, or the calibration alone exceeds the number of samples R allows.

    Examples
    --------
    >>> mask = random_2d((24, 20, 8), 4, calibration=6)
    >>> float(mask.numel() / mask.sum()), bool(mask[9:15, 7:13].all())
    (4.0, True)
    """
    shape = checked_shape(shape)
    return expand_plane(torch.from_numpy(_weighted_draw(phase_encodes(shape), acceleration, calibration, seed)), shape)


def poisson_disc(shape: Sequence[int], acceleration: float, calibration: Calibration = 0, seed: int = 0) -> Tensor:
    """Random samples over two phase encodes that keep a distance growing towards the edge.

    No sample lies closer than 1 + s·|k| grid steps to one accepted before it, |k| the elliptical radius.
    The slope s is found by bisection and the few samples too many are dropped at random, so that R is met
    to within half a sample. Corners of k-space, |k| > 1, are never acquired outside the calibration.

    Parameters
    ----------
    shape
        (k2, k1, k0), constant along the readout k0; or the plane of two phase encodes itself, (k1, k0).
    acceleration
        Net R, calibration samples counted and the empty corners included: 4/π at least, or exactly 1.
    calibration
        Size of the fully sampled central block, one number or one for each axis.
    seed
        Draws the samples; the same seed gives the same mask.

    Returns
    -------
    Tensor
        Bool, ``shape``; True where a sample is acquired.

    Raises
    ------
    InputError
        If R is below what the missing corners allow, or the calibration alone exceeds the number of
        samples R allows.

    References
    ----------
    Bridson, ACM SIGGRAPH sketches 2007, doi:10.1145/1278780.1278807 (uniform density)

    Examples
    --------
    >>> mask = poisson_disc((24, 20, 8), 4, calibration=6)
    >>> float(mask.numel() / mask.sum()), bool(mask[9:15, 7:13].all())
    (4.0, True)
    """
    shape = checked_shape(shape)
    plane = phase_encodes(shape)
    block = centre(plane, checked_calibration(calibration, plane))
    target = samples_allowed(acceleration, plane, int(block.sum()))
    if target == prod(plane):
        return torch.ones(shape, dtype=torch.bool)
    radius = _radius(plane)
    if target > (most := int(((radius <= 1) | block).sum())):
        raise InputError(
            "acceleration too low for a pattern without corners",
            expected=f"at least {prod(plane) / most:.3g} on a {plane[0]} × {plane[1]} grid, or exactly 1",
            received=f"{acceleration:g}",
            remedy="Raise the acceleration, or use random_2d.",
        )
    check_seed(seed)
    generator = np.random.default_rng(seed)
    order = generator.permutation(prod(plane))
    order = order[radius.ravel()[order] <= 1]
    order = np.concatenate([np.flatnonzero(radius == 0), order])  # the centre of k-space is always acquired
    low, high, best = 0.0, float(max(plane)), (radius <= 1) | block
    for _ in range(30):
        slope = 0.5 * (low + high)
        acquired = _throw(order, radius, slope) | block
        if acquired.sum() < target:
            high = slope
            continue
        low, best = slope, acquired
        if acquired.sum() <= 1.005 * target:
            break
    surplus = int(best.sum()) - target
    free = np.flatnonzero(best & ~block & (radius > 0))
    best.ravel()[generator.permutation(free)[:surplus]] = False
    return expand_plane(torch.from_numpy(best), shape)


def _weighted_draw(shape: tuple[int, ...], acceleration: float, calibration: Calibration, seed: int) -> np.ndarray:
    block = centre(shape, checked_calibration(calibration, shape))
    target = samples_allowed(acceleration, shape, int(block.sum()))
    weight = np.clip(1 - _radius(shape), 0, None) ** DENSITY_POWER + DENSITY_FLOOR
    check_seed(seed)
    # The largest of u^(1/w) are a weighted draw without replacement (doi:10.1016/j.ipl.2005.11.003).
    key = np.log(np.random.default_rng(seed).random(shape)) / weight
    key[block] = np.inf
    acquired = np.zeros(shape, dtype=bool)
    acquired.ravel()[np.argsort(-key, axis=None, kind="stable")[:target]] = True
    return acquired


def _throw(order: np.ndarray, radius: np.ndarray, slope: float) -> np.ndarray:
    """Accept points in this order, each closing the disc of its radius to those after it."""
    # Two grid points are closer than r where their squared distance is at most ⌈r²⌉ - 1.
    reach = np.ceil((1 + slope * radius) ** 2).astype(int) - 1
    pad = isqrt(int(reach.ravel()[order].max()))
    height, width = radius.shape
    stride = width + 2 * pad
    closed = bytearray((height + 2 * pad) * stride)
    ones = b"\x01" * (2 * pad + 1)
    discs: dict[int, list[tuple[int, bytes]]] = {}
    accepted = []
    positions = (order // width + pad) * stride + order % width + pad
    for point, at, limit in zip(order.tolist(), positions.tolist(), reach.ravel()[order].tolist(), strict=True):
        if closed[at]:
            continue
        accepted.append(point)
        if limit not in discs:
            half = isqrt(limit)
            widths = [(dy, isqrt(limit - dy * dy)) for dy in range(-half, half + 1)]
            discs[limit] = [(dy * stride - w, ones[: 2 * w + 1]) for dy, w in widths]
        for start, row in discs[limit]:
            closed[at + start : at + start + len(row)] = row
    acquired = np.zeros(radius.shape, dtype=bool)
    acquired.ravel()[accepted] = True
    return acquired


def _radius(shape: tuple[int, ...]) -> np.ndarray:
    """Elliptical distance from the centre, 1 at the edges of k-space."""
    axes = [(np.arange(n) - n // 2) / max(n / 2, 1) for n in shape]
    return np.asarray(np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij"))))
