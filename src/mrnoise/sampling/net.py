"""Patterns at equal net acceleration, calibration counted: what can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod

import numpy as np
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.named import pattern
from mrnoise.sampling.phase_encodes import checked_shape, phase_encodes
from mrnoise.sampling.regular import caipi, equispaced, whole


def sampling_mask(name: str, acceleration: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Mask of a pattern whose net acceleration, calibration counted, is R or the nearest that it can have.

    The calibration is a third of the acquired lines of a pattern along k1, and of a pattern over two phase encodes a
    block of up to 21×21 samples (17×17 from R = 6 on). A regular pattern takes the spacing that then comes nearest.

    Parameters
    ----------
    name
        One of `PATTERNS`.
    acceleration
        R, whole, all samples over acquired samples.
    shape
        (k1, k0) or (k2, k1, k0).
    seed
        Draws a random pattern; moves the lattice of a regular one.

    Returns
    -------
    Tensor
        Bool, ``shape``.

    Raises
    ------
    InputError
        If R is not whole or exceeds the number of lines, or as `pattern`.
    """
    shape = checked_shape(shape)
    if not 1 <= whole(acceleration, "acceleration") <= shape[-2]:
        raise InputError(
            "acceleration is not possible",
            expected=f"at most {shape[-2]}, the number of lines along k1",
            received=str(acceleration),
            remedy="Give a whole net acceleration, for example 4.",
        )
    if name == "equispaced":
        return _equispaced(acceleration, shape, seed)
    if name == "caipi":
        return _caipi(acceleration, shape, seed)
    calibration = _lines(acceleration, shape) if name == "random_1d" else _block(acceleration, shape)
    return pattern(name, shape, acceleration, calibration, seed)


def _lines(acceleration: int, shape: tuple[int, ...]) -> int:
    """Central lines: about a third of all, but 6 where there are as many."""
    allowed = shape[-2] / acceleration
    return min(max(6, round(0.32 * allowed)), max(1, int(0.6 * allowed)))


def _block(acceleration: int, shape: tuple[int, ...]) -> int:
    """Width of the central block, odd: symmetric about the centre, and the same when mirrored."""
    plane = phase_encodes(shape)
    largest = isqrt(int(0.4 * prod(plane) / acceleration))
    width = min(21 if acceleration < 6 else 17, largest, *plane)
    return max(1, width - (width + 1) % 2)


def _equispaced(acceleration: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Spacing such that the calibration lines are counted in R."""
    n, lines = shape[-2], _lines(acceleration, shape)
    if acceleration == 1:
        return equispaced(shape, 1)
    spacings = range(acceleration, min(3 * acceleration, n) + 1)
    masks = (equispaced((n, 1), spacing, lines, seed % spacing) for spacing in spacings)
    errors = [abs(np.log(acceleration * float(mask.float().mean()))) for mask in masks]
    spacing = spacings[int(np.argmin(errors))]
    return equispaced(shape, spacing, lines, seed % spacing)


def _caipi(acceleration: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Spacings (r2, r1) nearly alike, such that the calibration block is counted in R."""
    if acceleration == 1:
        return caipi(shape, 1)
    total, width = prod(phase_encodes(shape)), _block(acceleration, shape)

    def error(spacing: tuple[int, int]) -> float:
        lattice = prod(spacing)
        acquired = total / lattice + width**2 * (1 - 1 / lattice)
        return abs(float(np.log(acceleration * acquired / total)))

    sides = range(1, isqrt(2 * acceleration) + 3)
    r2, r1 = min(((a, b) for a in sides for b in sides if a <= b <= max(2 * a, 3)), key=error)
    return caipi(shape, (r2, r1), seed % max(r1 - 1, 1) + 1, width)
