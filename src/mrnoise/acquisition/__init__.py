"""What was measured: k-space, noise covariance, sampling, coil maps, geometry."""

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.noise_covariance import NoiseCovariance, noise_covariance_from_scan

__all__ = ["Acquisition", "Geometry", "NoiseCovariance", "noise_covariance_from_scan"]
