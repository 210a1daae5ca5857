"""The patterns by name, at a net acceleration: what can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isqrt, log, prod
from types import MappingProxyType

from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.phase_encodes import (
    Calibration,
    checked_calibration,
    checked_shape,
    phase_encodes,
    samples_allowed,
)
from mrnoise.sampling.random import poisson_disc, random_1d, random_2d
from mrnoise.sampling.regular import caipi, equispaced

TOLERANCE = 0.25
"""A pattern whose net acceleration misses the one asked for by a larger factor than 1 + this is refused."""


def sampling_mask(
    name: str,
    acceleration: float,
    shape: Sequence[int],
    seed: int = 0,
    calibration: Calibration | None = None,
) -> Tensor:
    """Mask of a pattern whose net acceleration, calibration counted, is R or the nearest that it can have.

    A regular pattern takes the spacing that comes nearest, a random one as many samples as R says, rounded. What is
    more than a quarter away from R is refused.

    Parameters
    ----------
    name
        One of `PATTERNS`.
    acceleration
        Net R, all samples over acquired samples.
    shape
        (k1, k0) or (k2, k1, k0).
    seed
        Draws a random pattern; moves the lattice of a regular one.
    calibration
        Central lines of a pattern along k1; size of the central block over two phase encodes, one number or one for
        each axis. ``None``: about a third of the acquired lines, or a block of up to 21×21 (17×17 from R = 6 on).

    Returns
    -------
    Tensor
        Bool, ``shape``.

    Raises
    ------
    InputError
        If the name is unknown, or R is not a number from 1 to that of lines (of samples over two phase encodes), or
        the pattern does not come near R with this calibration.

    Examples
    --------
    >>> mask = sampling_mask("equispaced", 4, (128, 96), calibration=16)
    >>> mask.numel() / int(mask.sum())
    4.0
    """
    shape = checked_shape(shape)
    if name not in PATTERNS:
        raise InputError(
            "unknown sampling pattern",
            expected="one of " + ", ".join(PATTERNS),
            received=repr(name),
            remedy="Choose a pattern from the list.",
        )
    along_lines = name in LINES
    plane = (shape[-2],) if along_lines else phase_encodes(shape)
    samples_allowed(acceleration, plane)
    if calibration is None:
        calibration = _lines(acceleration, plane) if along_lines else _block(acceleration, plane)
    widths = checked_calibration(calibration, plane)
    samples_allowed(acceleration, plane, prod(widths))
    mask = _DRAWN[name](shape, acceleration, widths, seed)
    net = mask.numel() / int(mask.sum())
    if max(net / acceleration, acceleration / net) > 1 + TOLERANCE:
        raise InputError(
            "acceleration is not possible",
            expected=f"about {net:.3g}, the nearest of {name} on {' × '.join(map(str, plane))} with "
            f"{' × '.join(map(str, widths))} for calibration",
            received=f"{acceleration:g}",
            remedy="Give another acceleration or calibration, or take a random pattern.",
        )
    return mask


# -- calibration that is a fair part of the acquired samples --------------------------------------------------


def _lines(acceleration: float, plane: tuple[int, ...]) -> int:
    """Central lines: about a third of all, but 6 where there are as many."""
    allowed = plane[0] / acceleration
    return min(max(6, round(0.32 * allowed)), max(1, int(0.6 * allowed)))


def _block(acceleration: float, plane: tuple[int, ...]) -> int:
    """Width of the central block, odd: symmetric about the centre, and the same when mirrored."""
    largest = isqrt(int(0.4 * prod(plane) / acceleration))
    width = min(21 if acceleration < 6 else 17, largest, *plane)
    return max(1, width - (width + 1) % 2)


# -- patterns (shape, acceleration, widths of the calibration, seed) ------------------------------------------


def _sparsity(total: int, acceleration: float, block: int) -> float:
    """Of the lattice around a calibration block, one of so many samples, such that R is met."""
    return (total - block) / max(total / acceleration - block, 1)


def _equispaced(shape: tuple[int, ...], acceleration: float, calibration: tuple[int, ...], seed: int) -> Tensor:
    n, lines = shape[-2], calibration[0]

    def error(spacing: int) -> float:
        return abs(log(acceleration * float(equispaced((n, 1), spacing, lines, seed % spacing).double().mean())))

    widest = min(int(2 * _sparsity(n, acceleration, lines)) + 2, n)
    spacing = min(range(int(acceleration), widest + 1), key=error)
    return equispaced(shape, spacing, lines, seed % spacing)


def _caipi(shape: tuple[int, ...], acceleration: float, calibration: tuple[int, ...], seed: int) -> Tensor:
    """Spacings (r2, r1) that are nearly alike."""
    plane = phase_encodes(shape)
    total, block = prod(plane), prod(calibration)
    longest = isqrt(int(2 * _sparsity(total, acceleration, block))) + 2
    r2s, r1s = (range(1, min(longest, n) + 1) for n in plane)

    def error(spacing: tuple[int, int]) -> float:
        lattice = prod(spacing)
        return abs(log(acceleration * (total / lattice + block * (1 - 1 / lattice)) / total))

    r2, r1 = min(((a, b) for a in r2s for b in r1s if a <= b <= max(2 * a, 3)), key=error)
    return caipi(shape, (r2, r1), seed % max(r1 - 1, 1) + 1, calibration)


_DRAWN: Mapping[str, Callable[[tuple[int, ...], float, tuple[int, ...], int], Tensor]] = MappingProxyType(
    {
        "equispaced": _equispaced,
        "caipi": _caipi,
        "random_1d": lambda shape, acceleration, widths, seed: random_1d(shape, acceleration, widths[0], seed),
        "random_2d": random_2d,
        "poisson": poisson_disc,
    }
)
PATTERNS = tuple(_DRAWN)
"""Names of the patterns."""
REGULAR = ("equispaced", "caipi")
"""Patterns that have a spacing, and leave nothing to chance."""
LINES = ("equispaced", "random_1d")
"""Patterns of whole lines along k1; the others are over two phase encodes."""
