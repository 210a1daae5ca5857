"""What people read from an image and its noise: regions, contrast, correlation, noise power, resolution, leakage."""

from mrnoise.measurement.correlation import NoiseCorrelation, noise_correlation
from mrnoise.measurement.leakage import slice_leakage
from mrnoise.measurement.lesion import PointSpread, point_spread
from mrnoise.measurement.measurements import Measurements, measure
from mrnoise.measurement.noise_power import NoisePowerSpectrum, noise_power_spectrum
from mrnoise.measurement.roi import Measurement, contrast_to_noise, roi_difference, roi_mean, roi_std
from mrnoise.measurement.temporal import temporal_snr

__all__ = [
    "Measurement",
    "Measurements",
    "NoiseCorrelation",
    "NoisePowerSpectrum",
    "PointSpread",
    "contrast_to_noise",
    "measure",
    "noise_correlation",
    "noise_power_spectrum",
    "point_spread",
    "roi_difference",
    "roi_mean",
    "roi_std",
    "slice_leakage",
    "temporal_snr",
]
