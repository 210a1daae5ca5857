"""The patterns by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.phase_encodes import Calibration
from mrnoise.sampling.random import poisson_disc, random_1d, random_2d
from mrnoise.sampling.regular import caipi, equispaced, whole


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


def one_axis(calibration: Calibration) -> int:
    """The number of calibration lines of a pattern along k1."""
    if isinstance(calibration, tuple):
        raise InputError(
            "calibration has too many axes",
            expected="one number of central lines for a pattern along k1",
            received=str(calibration),
            remedy="Give a single number.",
        )
    return calibration


PATTERNS: dict[str, Callable[[Sequence[int], float, Calibration, int], Tensor]] = {
    "equispaced": lambda shape, r, c, seed: equispaced(shape, whole(r, "acceleration"), one_axis(c)),
    "caipi": lambda shape, r, c, seed: caipi(shape, whole(r, "acceleration"), calibration=c),
    "random_1d": lambda shape, r, c, seed: random_1d(shape, r, one_axis(c), seed),
    "random_2d": random_2d,
    "poisson": poisson_disc,
}
"""Patterns by name, called as (shape, acceleration, calibration, seed)."""
REGULAR = ("equispaced", "caipi")
"""Patterns that leave nothing to chance."""
