"""Estimators of voxel-wise noise. They know no MRI: unit noise in, image out."""

from mrnoise.estimators.colouring import Sublattice, coloured
from mrnoise.estimators.estimate import EmpiricalError, Estimate, GaussianError, NoError
from mrnoise.estimators.exact import exact
from mrnoise.estimators.linearity import Finding, Linearity, linearity
from mrnoise.estimators.monte_carlo import monte_carlo
from mrnoise.estimators.nonlinear import nonlinear
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.pilot import Pilot, Prospect, pilot
from mrnoise.estimators.precision import Correction, correction
from mrnoise.estimators.probe import probe
from mrnoise.estimators.region_error import RegionError, region_error
from mrnoise.estimators.sampler import DISTRIBUTIONS
from mrnoise.estimators.sketch import sketch
from mrnoise.estimators.stream import Plan, Progress


def names() -> tuple[str, ...]:
    """What ``method=`` accepts."""
    return ("auto", "monte_carlo", "nonlinear", "sketch", "probe", "coloured", "lattice", "exact")


__all__ = [
    "DISTRIBUTIONS",
    "Correction",
    "EmpiricalError",
    "Estimate",
    "Finding",
    "GaussianError",
    "Linearity",
    "NoError",
    "NoiseOperator",
    "Pilot",
    "Plan",
    "Progress",
    "Prospect",
    "RegionError",
    "Sublattice",
    "coloured",
    "correction",
    "exact",
    "linearity",
    "monte_carlo",
    "names",
    "nonlinear",
    "pilot",
    "probe",
    "region_error",
    "sketch",
]
