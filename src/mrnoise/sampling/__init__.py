"""Where samples lie in k-space: regular, CAIPIRINHA, random and Poisson-disc patterns, and what aliases with them."""

from mrnoise.sampling.extent import encoded_extent
from mrnoise.sampling.grid import Grid
from mrnoise.sampling.lattice import AliasLattice, alias_colours, alias_lattice
from mrnoise.sampling.named import PATTERNS, REGULAR, sampling_mask
from mrnoise.sampling.phase_encodes import Calibration
from mrnoise.sampling.random import poisson_disc, random_1d, random_2d
from mrnoise.sampling.regular import caipi, equispaced
from mrnoise.sampling.trajectory import Trajectory

__all__ = [
    "PATTERNS",
    "REGULAR",
    "AliasLattice",
    "Calibration",
    "Grid",
    "Trajectory",
    "alias_colours",
    "alias_lattice",
    "caipi",
    "encoded_extent",
    "equispaced",
    "poisson_disc",
    "random_1d",
    "random_2d",
    "sampling_mask",
]
