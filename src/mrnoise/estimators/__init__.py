"""Estimators of voxel-wise noise. They know no MRI: unit noise in, image out."""

from mrnoise.estimators.batching.stream import Plan, Progress
from mrnoise.estimators.certificate import RegionError, region_error
from mrnoise.estimators.choice.colouring import Sublattice, coloured
from mrnoise.estimators.choice.linearity import Finding, Linearity, linearity
from mrnoise.estimators.choice.pilot import Pilot, Prospect, pilot
from mrnoise.estimators.estimate import EmpiricalError, Estimate, GaussianError, NoError
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.pairs import nonlinear
from mrnoise.estimators.precision import Correction, correction
from mrnoise.estimators.probing import probe
from mrnoise.estimators.replicas import monte_carlo
from mrnoise.estimators.rows import exact
from mrnoise.estimators.sampler import DISTRIBUTIONS
from mrnoise.estimators.sketching import sketch


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
