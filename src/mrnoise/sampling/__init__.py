"""Where samples lie in k-space: patterns on the grid and what aliases with them, and trajectories."""

from mrnoise.sampling.conical import cones
from mrnoise.sampling.extent import encoded_extent
from mrnoise.sampling.grid import Grid
from mrnoise.sampling.lattice import AliasLattice, alias_colours, alias_lattice
from mrnoise.sampling.named import PATTERNS, REGULAR, sampling_mask
from mrnoise.sampling.named_trajectories import TRAJECTORIES, sampling_trajectory
from mrnoise.sampling.petals import rosette
from mrnoise.sampling.phase_encodes import Calibration
from mrnoise.sampling.random import poisson_disc, random_1d, random_2d
from mrnoise.sampling.readouts import readout_mask
from mrnoise.sampling.regular import caipi, equispaced
from mrnoise.sampling.regular_lattice import RegularLattice
from mrnoise.sampling.spirals import spiral
from mrnoise.sampling.spokes import radial, radial_3d
from mrnoise.sampling.stacks import stack_of_spirals, stack_of_stars
from mrnoise.sampling.trajectory import Trajectory
from mrnoise.sampling.voronoi import voronoi_density

__all__ = [
    "PATTERNS",
    "REGULAR",
    "TRAJECTORIES",
    "AliasLattice",
    "Calibration",
    "Grid",
    "RegularLattice",
    "Trajectory",
    "alias_colours",
    "alias_lattice",
    "caipi",
    "cones",
    "encoded_extent",
    "equispaced",
    "poisson_disc",
    "radial",
    "radial_3d",
    "random_1d",
    "random_2d",
    "readout_mask",
    "rosette",
    "sampling_mask",
    "sampling_trajectory",
    "spiral",
    "stack_of_spirals",
    "stack_of_stars",
    "voronoi_density",
]
