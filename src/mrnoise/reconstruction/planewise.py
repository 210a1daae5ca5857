"""Volumes plane by plane, by reconstructions with coil maps."""

from __future__ import annotations

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import with_coil_maps
from mrnoise.reconstruction.protocol import Planewise, Reconstruction


def with_fixed_maps(
    reconstruction: Reconstruction, volume: Acquisition, axis: int, differentiate: bool
) -> Planewise | None:
    """By a linear reconstruction; ``None`` where coil maps follow the noise, which then is in all planes together.

    Maps that are estimated are those of the volume.
    """
    if volume.coil_maps is None:
        if differentiate and volume.calibration is None:
            return None
        volume = with_coil_maps(volume)
    return Planewise.by(reconstruction, volume, axis)
