"""What a reconstruction is: a map from k-space to image, bound to an acquisition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import whitened_coil_maps, with_coil_maps
from mrnoise.errors import InputError

KspaceToImage = Callable[[Tensor], Tensor]


class Reconstruction:
    """A reconstruction method, independent of a scan.

    `bind` fixes everything that belongs to the scan (sampling, coil maps, Ψ) and returns the map whose derivative
    carries the noise. Subclasses say what is different about them.
    """

    unit_gain: bool = True
    """Whether the image has the intensity of the SENSE image; without it, there is no g-factor."""
    estimates_coil_maps: bool = False
    """Whether the coil maps of the acquisition are ignored, because it has its own."""
    joint: tuple[str, ...] = ()
    """Names of the leading axes of an acquisition that it needs whole; along the others images are independent."""

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Those of ``joint`` that this acquisition has."""
        return tuple(axis for axis in acquisition.axes if axis in self.joint)

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return the map kspace (joint axes, coil, k1, k0) → image (joint axes, y, x)."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What records call it."""
        text = repr(self)
        return type(self).__name__ if "\n" in text else text


@dataclass(frozen=True, eq=False, repr=False)
class WholeKspace(Reconstruction):
    """A function of the whole k-space of an acquisition, all leading axes included.

    Parameters
    ----------
    function
        k-space → image.
    """

    function: KspaceToImage

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Every leading axis."""
        return acquisition.axes

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """The function itself."""
        return self.function

    @property
    def name(self) -> str:
        """That of the function; networks print a page, so they go by their class."""
        text = getattr(self.function, "__name__", None) or repr(self.function)
        return type(self.function).__name__ if "\n" in text else text


def as_reconstruction(given: Reconstruction | KspaceToImage) -> Reconstruction:
    """A `Reconstruction` itself, any other callable as one of the whole k-space.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(given, Reconstruction):
        return given
    if not callable(given) or hasattr(given, "bind"):
        raise InputError(
            "this is no reconstruction",
            expected="a mrnoise.reconstruction.Reconstruction, or a callable k-space → image",
            received=type(given).__name__ + (", which has bind but is none" if hasattr(given, "bind") else ""),
            remedy="Derive a class with bind(acquisition) from mrnoise.reconstruction.Reconstruction.",
        )
    return WholeKspace(given)


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
