"""What calibration lines give: coil maps and GRAPPA kernels; and what opposed spokes do: gradient delays."""

from mrnoise.calibration.espirit_maps import espirit
from mrnoise.calibration.gradient_delays import GradientDelays, correct_gradient_delays, estimate_gradient_delays
from mrnoise.calibration.grappa_kernels import KernelShape, fit_grappa_kernels
from mrnoise.calibration.maps_of_scan import with_coil_maps
from mrnoise.calibration.walsh_maps import walsh

__all__ = [
    "GradientDelays",
    "KernelShape",
    "correct_gradient_delays",
    "espirit",
    "estimate_gradient_delays",
    "fit_grappa_kernels",
    "walsh",
    "with_coil_maps",
]
