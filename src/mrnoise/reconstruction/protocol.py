"""What a reconstruction is: a map from k-space to image, bound to an acquisition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import whitened_coil_maps, with_coil_maps

KspaceToImage = Callable[[Tensor], Tensor]


@runtime_checkable
class Reconstruction(Protocol):
    """A reconstruction method, independent of a scan.

    `bind` fixes everything that belongs to the scan (mask, coil maps, Ψ) and returns the map whose derivative
    carries the noise. A class whose image does not have the intensity of the SENSE image says so by
    ``unit_gain = False``: it has no g-factor.
    """

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return the map kspace (..., coil, k1, k0) → image (..., y, x); leading axes are batch."""
        ...


def coil_maps_of(acquisition: Acquisition, differentiate: bool) -> Callable[[Tensor], Tensor]:
    """Whitened coil maps as a function of k-space.

    The maps of the acquisition where it has some, or those of its separate calibration lines; else ESPIRiT maps
    of the fully sampled centre, estimated from each k-space it is called with (``differentiate``) or once from
    the acquisition's own.

    Returns
    -------
    Callable
        kspace → Ψ^{-1/2} S √ψ, (..., coil, *spatial), ψ the mean coil variance.
    """
    if not maps_are_fixed(acquisition, differentiate):
        return lambda kspace: whitened_coil_maps(acquisition, kspace)
    maps = acquisition.coil_maps
    if maps is None:
        maps = with_coil_maps(acquisition).coil_maps
        assert maps is not None
    fixed = acquisition.whiten(maps)
    return lambda kspace: fixed.to(kspace)


def maps_are_fixed(acquisition: Acquisition, differentiate: bool) -> bool:
    """Whether the coil maps do not depend on the k-space of the image."""
    return acquisition.coil_maps is not None or acquisition.calibration is not None or not differentiate
