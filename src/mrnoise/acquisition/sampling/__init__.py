"""Which samples of k-space are acquired: regular, CAIPIRINHA, random and Poisson-disc patterns."""

from mrnoise.acquisition.sampling.grid import Calibration
from mrnoise.acquisition.sampling.named import PATTERNS, REGULAR, pattern
from mrnoise.acquisition.sampling.net import sampling_mask
from mrnoise.acquisition.sampling.random import poisson_disc, random_1d, random_2d
from mrnoise.acquisition.sampling.regular import caipi, equispaced

__all__ = [
    "PATTERNS",
    "REGULAR",
    "Calibration",
    "caipi",
    "equispaced",
    "pattern",
    "poisson_disc",
    "random_1d",
    "random_2d",
    "sampling_mask",
]
