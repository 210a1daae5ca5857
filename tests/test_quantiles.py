"""Quantiles against scipy.stats, far out in the tails and at the ends of the degrees of freedom."""

import numpy as np
import pytest
from scipy import stats

from mrnoise.quantiles import chi_square, chi_square_above, normal, student

FREEDOM = np.array([1, 2.5, 7, 30, 400, 1e5])


@pytest.mark.parametrize("p", [1e-6, 0.025, 0.5, 0.975, 1 - 1e-6])
def test_they_are_those_of_scipy(p):
    np.testing.assert_allclose(chi_square(p, FREEDOM), stats.chi2.ppf(p, FREEDOM), rtol=1e-8)
    np.testing.assert_allclose(chi_square_above(p, FREEDOM), stats.chi2.isf(p, FREEDOM), rtol=1e-8)
    np.testing.assert_allclose(student(p, FREEDOM), stats.t.ppf(p, FREEDOM), rtol=1e-8, atol=1e-12)
    assert float(student(p, np.inf)) == pytest.approx(stats.norm.ppf(p), abs=1e-12) == normal(p)


def test_without_a_degree_of_freedom_nothing_is_known():
    assert np.isnan(chi_square(0.5, 0)) and np.isnan(student(0.5, 0)) and np.isnan(chi_square_above(0.5, np.nan))
