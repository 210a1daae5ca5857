"""Estimators of voxel-wise noise. They know no MRI: unit noise in, image out."""

from mrnoise.estimators.batching.stream import Plan, Progress
from mrnoise.estimators.certificate import RegionError, region_error
from mrnoise.estimators.choice.auto import Auto
from mrnoise.estimators.choice.colouring import Sublattice, Uncorrelated
from mrnoise.estimators.choice.linearity import Finding, Linearity, linearity
from mrnoise.estimators.choice.pilot import Pilot, Prospect, pilot
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.methods import METHODS, method, names
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.pairs import Nonlinear, nonlinear
from mrnoise.estimators.precision import Correction, correction
from mrnoise.estimators.probing import AliasSets, Probe, probe
from mrnoise.estimators.protocol import Choice, Image, Method
from mrnoise.estimators.replicas import MonteCarlo, monte_carlo
from mrnoise.estimators.rows import ClosedForm, Exact, exact
from mrnoise.estimators.sampler import DISTRIBUTIONS
from mrnoise.estimators.sampling_error import EmpiricalError, GaussianError, NoError
from mrnoise.estimators.sketching import Sketch, sketch
from mrnoise.estimators.spotting import Spots, spots

__all__ = [
    "DISTRIBUTIONS",
    "METHODS",
    "AliasSets",
    "Auto",
    "Choice",
    "ClosedForm",
    "Correction",
    "EmpiricalError",
    "Estimate",
    "Exact",
    "Finding",
    "GaussianError",
    "Image",
    "Key",
    "Linearity",
    "Method",
    "MonteCarlo",
    "NoError",
    "NoiseOperator",
    "Nonlinear",
    "Pilot",
    "Plan",
    "Probe",
    "Progress",
    "Prospect",
    "RegionError",
    "Sketch",
    "Spots",
    "Sublattice",
    "Uncorrelated",
    "correction",
    "exact",
    "linearity",
    "method",
    "monte_carlo",
    "names",
    "nonlinear",
    "pilot",
    "probe",
    "region_error",
    "sketch",
    "spots",
]
