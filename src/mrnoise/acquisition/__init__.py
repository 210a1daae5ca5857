"""What was measured: k-space, noise covariance, sampling, coil maps, geometry."""

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.calibration import with_coil_maps
from mrnoise.acquisition.espirit import espirit
from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.lattice import AliasLattice, alias_colours, alias_lattice
from mrnoise.acquisition.noise_covariance import NoiseCovariance, noise_covariance_from_scan
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.acquisition.walsh import walsh

__all__ = [
    "Acquisition",
    "AliasLattice",
    "Geometry",
    "NoiseCovariance",
    "alias_colours",
    "alias_lattice",
    "espirit",
    "estimate_noise_covariance",
    "noise_covariance_from_scan",
    "walsh",
    "with_coil_maps",
]
