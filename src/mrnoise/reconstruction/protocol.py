"""What a reconstruction is: a map from k-space to image, bound to an acquisition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.espirit import espirit

KspaceToImage = Callable[[Tensor], Tensor]


@runtime_checkable
class Reconstruction(Protocol):
    """A reconstruction method, independent of a scan.

    `bind` fixes everything that belongs to the scan (mask, coil maps, Ψ) and returns the map whose derivative
    carries the noise.
    """

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return the map kspace (..., coil, k1, k0) → image (..., y, x); leading axes are batch."""
        ...


def coil_maps_of(acquisition: Acquisition, differentiate: bool) -> Callable[[Tensor], Tensor]:
    """Whitened coil maps as a function of k-space.

    The maps of the acquisition where it has some; else ESPIRiT maps of the whitened calibration lines,
    estimated from each k-space it is called with (``differentiate``) or once from the acquisition's own.

    Returns
    -------
    Callable
        kspace → Ψ^{-1/2} S √ψ, (..., coil, *spatial), ψ the mean coil variance.
    """

    def estimate(kspace: Tensor) -> Tensor:
        return espirit(acquisition.whiten(kspace), mask=acquisition.mask, spatial_dims=acquisition.spatial_dims)

    if acquisition.coil_maps is not None:
        fixed = acquisition.whiten(acquisition.coil_maps)
        return lambda kspace: fixed.to(kspace)
    if differentiate:
        return estimate
    fixed = estimate(acquisition.kspace)
    return lambda kspace: fixed.to(kspace)
