"""Which samples of k-space are acquired: regular, CAIPIRINHA, random and Poisson-disc patterns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt, prod

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError

Calibration = int | tuple[int, int]

DENSITY_POWER = 3.0  # random samples fall off as (1 - |k|)³ towards the edge of k-space
DENSITY_FLOOR = 0.03  # and never below this, so that every high frequency can be drawn


def equispaced(shape: Sequence[int], acceleration: int, calibration: int = 0, offset: int = 0) -> Tensor:
    """Every R-th line along k1, with a fully sampled centre.

    Line j is acquired where (j - n1 // 2 - offset) mod R = 0, or within the ``calibration`` central lines.

    Parameters
    ----------
    shape
        (k1, k0) or (k2, k1, k0). All of k0, and of k2, is acquired in every line.
    acceleration
        R, the spacing of the lattice. Calibration lines come on top: the net acceleration is lower.
    calibration
        Number of central lines acquired in any case.
    offset
        Shift of the lattice in lines; 0 puts one line through the centre of k-space.

    Returns
    -------
    Tensor
        Bool, ``shape``; True where a sample is acquired.

    Raises
    ------
    InputError
        If the acceleration is not a whole number of at least 1, or the calibration exceeds k1.
    """
    shape = _checked_shape(shape)
    spacing = _whole(acceleration, "acceleration")
    n = shape[-2]
    (width,) = _checked_calibration(calibration, (n,))
    line = torch.arange(n)
    acquired = (line - n // 2 - offset) % spacing == 0
    acquired |= torch.from_numpy(_centre((n,), (width,)))
    return _expand_lines(acquired, shape)


def caipi(
    shape: Sequence[int],
    acceleration: tuple[int, int] | int = (2, 2),
    shift: int = 1,
    calibration: Calibration = 0,
) -> Tensor:
    """Sheared lattice over the two phase-encoding axes (2D CAIPIRINHA).

    Sample (a, b), counted from the centre, is acquired where a mod r2 = 0 and
    (b - shift · a / r2) mod r1 = 0.

    Parameters
    ----------
    shape
        (k2, k1, k0), constant along the readout k0; or the plane of two phase encodes itself, (k1, k0).
    acceleration
        (r2, r1), spacing along the first and second phase encode. A single R is split into its most
        nearly equal whole factors. Calibration samples come on top.
    shift
        Samples by which the lattice moves along the second axis from one row to the next.
    calibration
        Size of the fully sampled central block, one number or one for each axis.

    Raises
    ------
    InputError
        If an acceleration is not a whole number of at least 1, or the calibration exceeds the grid.

    References
    ----------
    Breuer et al., Magn Reson Med 2006, doi:10.1002/mrm.20787
    """
    shape = _checked_shape(shape)
    r2, r1 = _factors(acceleration)
    plane = _plane(shape)
    a, b = (torch.arange(n) - n // 2 for n in plane)
    row = torch.div(a, r2, rounding_mode="floor")
    acquired = (a[:, None] % r2 == 0) & ((b[None, :] - shift * row[:, None]) % r1 == 0)
    acquired |= torch.from_numpy(_centre(plane, _checked_calibration(calibration, plane)))
    return _expand_plane(acquired, shape)


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

    Raises
    ------
    InputError
        If R < 1, or the calibration alone exceeds the number of lines R allows.
    """
    shape = _checked_shape(shape)
    line = _weighted_draw((shape[-2],), acceleration, calibration, seed)
    return _expand_lines(torch.from_numpy(line), shape)


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

    Raises
    ------
    InputError
        If R < 1, or the calibration alone exceeds the number of samples R allows.
    """
    shape = _checked_shape(shape)
    return _expand_plane(torch.from_numpy(_weighted_draw(_plane(shape), acceleration, calibration, seed)), shape)


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

    Raises
    ------
    InputError
        If R is below what the missing corners allow, or the calibration alone exceeds the number of
        samples R allows.

    References
    ----------
    Bridson, ACM SIGGRAPH sketches 2007, doi:10.1145/1278780.1278807 (uniform density)
    """
    shape = _checked_shape(shape)
    plane = _plane(shape)
    block = _centre(plane, _checked_calibration(calibration, plane))
    target = _target(acceleration, plane, block)
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
    return _expand_plane(torch.from_numpy(best), shape)


def pattern(
    name: str,
    shape: Sequence[int],
    acceleration: float,
    calibration: Calibration = 0,
    seed: int = 0,
) -> Tensor:
    """Sampling mask by the name of its pattern.

    Parameters
    ----------
    name
        One of `PATTERNS`.
    shape, acceleration, calibration
        As the pattern of that name takes them.
    seed
        For the random patterns; the regular ones ignore it.

    Raises
    ------
    InputError
        If the name is unknown, or the pattern refuses its arguments.
    """
    if name not in PATTERNS:
        raise InputError(
            "unknown sampling pattern",
            expected="one of " + ", ".join(PATTERNS),
            received=repr(name),
            remedy="Choose a pattern from the list.",
        )
    return PATTERNS[name](shape, acceleration, calibration, seed)


def _one_axis(calibration: Calibration) -> int:
    if isinstance(calibration, tuple):
        raise InputError(
            "calibration has too many axes",
            expected="one number of central lines for a pattern along k1",
            received=str(calibration),
            remedy="Give a single number.",
        )
    return calibration


PATTERNS: dict[str, Callable[[Sequence[int], float, Calibration, int], Tensor]] = {
    "equispaced": lambda shape, r, c, seed: equispaced(shape, _whole(r, "acceleration"), _one_axis(c)),
    "caipi": lambda shape, r, c, seed: caipi(shape, _whole(r, "acceleration"), calibration=c),
    "random_1d": lambda shape, r, c, seed: random_1d(shape, r, _one_axis(c), seed),
    "random_2d": random_2d,
    "poisson": poisson_disc,
}
"""Patterns by name, called as (shape, acceleration, calibration, seed)."""


# -- geometry of the grid ----------------------------------------------------------------------------------


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], shape[1]


def _expand_lines(line: Tensor, shape: tuple[int, ...]) -> Tensor:
    return line[:, None].expand(shape).clone()


def _expand_plane(plane: Tensor, shape: tuple[int, ...]) -> Tensor:
    return plane if len(shape) == 2 else plane[:, :, None].expand(shape).clone()


def _radius(shape: tuple[int, ...]) -> np.ndarray:
    """Elliptical distance from the centre, 1 at the edges of k-space."""
    axes = [(np.arange(n) - n // 2) / max(n / 2, 1) for n in shape]
    return np.asarray(np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij"))))


def _centre(shape: tuple[int, ...], widths: tuple[int, ...]) -> np.ndarray:
    block = np.zeros(shape, dtype=bool)
    block[tuple(slice(n // 2 - w // 2, n // 2 - w // 2 + w) for n, w in zip(shape, widths, strict=True))] = True
    return block


# -- drawing -----------------------------------------------------------------------------------------------


def _weighted_draw(shape: tuple[int, ...], acceleration: float, calibration: Calibration, seed: int) -> np.ndarray:
    block = _centre(shape, _checked_calibration(calibration, shape))
    target = _target(acceleration, shape, block)
    weight = np.clip(1 - _radius(shape), 0, None) ** DENSITY_POWER + DENSITY_FLOOR
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


# -- checks ------------------------------------------------------------------------------------------------


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(n) for n in shape)
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(
            "sampling pattern has the wrong shape",
            expected="(k1, k0) or (k2, k1, k0), no axis empty",
            received=str(shape),
            remedy="Give the spatial axes of k-space, without coils and slices.",
        )
    return shape


def _whole(acceleration: float, what: str) -> int:
    if acceleration < 1 or acceleration != int(acceleration):
        raise InputError(
            f"{what} of a regular pattern is not possible",
            expected="a whole number of at least 1",
            received=f"{acceleration:g}",
            remedy="Use a random pattern for a fractional acceleration.",
        )
    return int(acceleration)


def _factors(acceleration: tuple[int, int] | int) -> tuple[int, int]:
    if isinstance(acceleration, Sequence):
        if len(acceleration) != 2:
            raise InputError(
                "CAIPIRINHA acceleration has the wrong length",
                expected="(r2, r1), or one R",
                received=str(acceleration),
                remedy="Give the spacing along both phase encodes.",
            )
        return _whole(acceleration[0], "acceleration r2"), _whole(acceleration[1], "acceleration r1")
    total = _whole(acceleration, "acceleration")
    r2 = next(r for r in range(isqrt(total), 0, -1) if total % r == 0)
    return r2, total // r2


def _checked_calibration(calibration: Calibration, shape: tuple[int, ...]) -> tuple[int, ...]:
    widths = tuple(calibration) if isinstance(calibration, Sequence) else (calibration,) * len(shape)
    if len(widths) != len(shape) or any(not 0 <= w <= n for w, n in zip(widths, shape, strict=False)):
        raise InputError(
            "calibration region does not fit the grid",
            expected="between 0 and " + " × ".join(str(n) for n in shape) + " samples",
            received=" × ".join(str(w) for w in widths),
            remedy="Reduce the calibration region.",
        )
    return widths


def _target(acceleration: float, shape: tuple[int, ...], block: np.ndarray) -> int:
    """Samples to acquire for a net acceleration."""
    total = prod(shape)
    if not 1 <= acceleration <= total:
        raise InputError(
            "acceleration is not possible",
            expected=f"between 1 and {total}, the size of the grid",
            received=f"{acceleration:g}",
            remedy="Give the net acceleration, all samples over acquired samples.",
        )
    target = max(1, round(total / acceleration))
    if int(block.sum()) > target:
        raise InputError(
            "calibration region leaves nothing for the rest of k-space",
            expected=f"at most {target} calibration samples at acceleration {acceleration:g}",
            received=f"{int(block.sum())}",
            remedy="Reduce the calibration region or the acceleration.",
        )
    return target
