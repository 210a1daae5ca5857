"""Numbers with an interval, and what their order is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mrnoise.quantiles import student

LEVEL = 0.95


@dataclass(frozen=True)
class Uncertain:
    """A number and how well it is known.

    Parameters
    ----------
    value
        The number, or the mean of its repetitions.
    error
        Standard error; 0 where the number is exact.
    interval
        95 % interval; the value twice where it is exact.

    Examples
    --------
    >>> a, b = Uncertain.repeated([1.0, 1.1, 0.9]), Uncertain.exact(1.2)
    >>> round(a.value, 2), round(a.error, 3), tuple(round(bound, 2) for bound in a.interval)
    (1.0, 0.058, (0.75, 1.25))
    >>> a.overlaps(b)
    True
    """

    value: float
    error: float
    interval: tuple[float, float]

    @classmethod
    def exact(cls, value: float) -> Uncertain:
        """A number without error."""
        return cls(value, 0.0, (value, value))

    @classmethod
    def repeated(cls, values: Sequence[float]) -> Uncertain:
        """Mean of n ≥ 2 independent repetitions, m ± t s/√n with Student's t of n - 1 degrees of freedom."""
        mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
        half = float(student(0.5 + 0.5 * LEVEL, len(values) - 1)) * error
        return cls(mean, error, (mean - half, mean + half))

    def overlaps(self, other: Uncertain) -> bool:
        """Whether the two intervals share a point, so that the order of the two numbers is undecided."""
        return self.interval[0] <= other.interval[1] and other.interval[0] <= self.interval[1]


def ranks(numbers: Sequence[Uncertain], *, largest_first: bool = False) -> list[int]:
    """For each number 1 + how many are better beyond doubt, their interval wholly below (above) its own.

    Numbers that cannot be told apart from the best are all of rank 1.

    Parameters
    ----------
    numbers
        One for each that is ranked.
    largest_first
        Whether a large number is good (SNR) or a small one (noise).

    Returns
    -------
    list of int
        In the order of the numbers.

    Examples
    --------
    >>> noise = [Uncertain.exact(2.0), Uncertain.repeated([0.9, 1.0, 1.1]), Uncertain.exact(1.1)]
    >>> ranks(noise)
    [3, 1, 1]
    """

    def better(a: Uncertain, b: Uncertain) -> bool:
        return not a.overlaps(b) and (a.value > b.value) == largest_first

    return [1 + sum(better(other, number) for other in numbers) for number in numbers]


def undecided(names: Sequence[str], numbers: Sequence[Uncertain]) -> list[tuple[str, str]]:
    """All pairs of names whose numbers cannot be told apart.

    Parameters
    ----------
    names, numbers
        What is ranked, and by what.

    Returns
    -------
    list of tuple of str
        In the order of the names.

    Examples
    --------
    >>> noise = [Uncertain.exact(2.0), Uncertain.repeated([0.9, 1.0, 1.1]), Uncertain.exact(1.1)]
    >>> undecided(["random_1d", "poisson", "caipi"], noise)
    [('poisson', 'caipi')]
    """
    pairs = combinations(zip(names, numbers, strict=True), 2)
    return [(a, b) for (a, first), (b, second) in pairs if first.overlaps(second)]
