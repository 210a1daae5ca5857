"""What was measured: k-space, noise covariance, sampling, coil maps, geometry."""

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.multiband import simultaneous_slices
from mrnoise.acquisition.noise_agreement import disagreement
from mrnoise.acquisition.noise_covariance import NoiseCovariance, faulty_coils, noise_covariance_from_scan
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.acquisition.processed_kspace import processing_findings

__all__ = [
    "Acquisition",
    "Geometry",
    "NoiseCovariance",
    "disagreement",
    "estimate_noise_covariance",
    "faulty_coils",
    "noise_covariance_from_scan",
    "processing_findings",
    "simultaneous_slices",
]
