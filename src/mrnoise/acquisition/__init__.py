"""What was measured: k-space, noise covariance, sampling, coil maps, geometry."""

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.noise_covariance import NoiseCovariance, noise_covariance_from_scan
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance

__all__ = [
    "Acquisition",
    "Geometry",
    "NoiseCovariance",
    "estimate_noise_covariance",
    "noise_covariance_from_scan",
]
