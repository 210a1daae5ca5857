"""Volumes plane by plane, by reconstructions with coil maps."""

from __future__ import annotations

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps_in_units_of_coils
from mrnoise.reconstruction.protocol import Planewise, Reconstruction


def with_fixed_maps(
    reconstruction: Reconstruction, volume: Acquisition, axis: int, differentiate: bool
) -> Planewise | None:
    """By a linear reconstruction; ``None`` where coil maps follow the noise, which then is in all planes together.

    Maps that are estimated are those of the volume.
    """
    maps = fixed_coil_maps_in_units_of_coils(volume, differentiate)
    return None if maps is None else Planewise.by(reconstruction, volume.replace(coil_maps=maps), axis)
