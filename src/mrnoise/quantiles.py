"""Quantiles of the distributions that intervals rest on, without the seconds that importing scipy.stats takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special


def chi_square(probability: float, freedom: Any) -> Any:
    """Value that a χ² of so many degrees of freedom stays below with this probability; NaN without a degree."""
    nu = np.asarray(freedom, dtype=float)
    return np.where(nu > 0, special.chdtri(nu, 1 - probability), np.nan)


def chi_square_above(probability: float, freedom: Any) -> Any:
    """Value that a χ² exceeds with this probability: as `chi_square`, precise for small ones."""
    nu = np.asarray(freedom, dtype=float)
    return np.where(nu > 0, special.chdtri(nu, probability), np.nan)


def student(probability: float, freedom: Any) -> Any:
    """Of Student's t; the normal one for infinite freedom, NaN without a degree of freedom.

    Examples
    --------
    >>> float(student(0.975, 10).round(3)), float(student(0.975, float("inf")).round(3))
    (2.228, 1.96)
    """
    nu = np.asarray(freedom, dtype=float)
    finite = special.stdtrit(np.where(np.isfinite(nu) & (nu > 0), nu, 1.0), probability)
    return np.where(np.isinf(nu), normal(probability), np.where(nu > 0, finite, np.nan))


def normal(probability: float) -> float:
    """Of the standard normal distribution."""
    return float(special.ndtri(probability))
