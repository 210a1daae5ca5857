"""What calibration lines give: coil maps."""

from mrnoise.calibration.espirit_maps import espirit
from mrnoise.calibration.maps_of_scan import with_coil_maps
from mrnoise.calibration.walsh_maps import walsh

__all__ = ["espirit", "walsh", "with_coil_maps"]
