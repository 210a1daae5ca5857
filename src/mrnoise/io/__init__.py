"""Reading acquisitions and masks, writing and reading noise maps."""

from mrnoise.io.maps.hdf5 import read_noise_map
from mrnoise.io.maps.masks import read_mask
from mrnoise.io.scans.scan_file import read

__all__ = ["read", "read_mask", "read_noise_map"]
