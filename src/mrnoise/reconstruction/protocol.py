"""What a reconstruction is: a map from k-space to image, bound to an acquisition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.planes import planes
from mrnoise.errors import InputError

KspaceToImage = Callable[[Tensor], Tensor]


class Reconstruction:
    """A reconstruction method, independent of a scan.

    `bind` fixes everything that belongs to the scan (sampling, coil maps, Ψ) and returns the map whose derivative
    carries the noise. Subclasses say what is different about them.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import ZeroFilled
    >>> from mrnoise.simulation import simulate
    >>> class Smoothed(Reconstruction):
    ...     def bind(self, acquisition):
    ...         zero_filled = ZeroFilled().bind(acquisition)
    ...         def image(kspace):
    ...             x = zero_filled(kspace)
    ...             return (x.roll(1, -1) + 2 * x + x.roll(-1, -1)) / 4
    ...         return image
    >>> scan = simulate((16, 12), 4)
    >>> sharp, smooth = (noise_map(method, scan, method="exact") for method in (ZeroFilled(), Smoothed()))
    >>> round(float((smooth.std / sharp.std)[8, 6]), 2)  # √6 / 4 for white noise
    0.62
    """

    unit_gain: bool = True
    """Whether the image has the intensity of the SENSE image, the reference of its g-factor."""
    unit_weights: bool = False
    """Whether coils are whitened and combined with weights of norm 1: the reference of its g-factor is then the same of
    all that was encoded. Without either there is no g-factor."""
    estimates_coil_maps: bool = False
    """Whether the coil maps of the acquisition are ignored, because it has its own."""
    needs_coil_maps: bool = True
    """Whether it cannot do without the coil maps of the acquisition, or calibration lines for them."""
    joint: tuple[str, ...] = ()
    """Names of the leading axes of an acquisition that it needs whole; along the others images are independent."""

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Those of ``joint`` that this acquisition has."""
        return tuple(axis for axis in acquisition.axes if axis in self.joint)

    def image_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Those of the joint axes that its image has: all, unless it makes one image of several."""
        return self.joint_axes(acquisition)

    def planewise(self, volume: Acquisition, axis: int) -> Planewise | None:
        """The image of a volume as those of its planes across an axis that was sampled as a whole.

        Exactly the same image, or that of a 2D method, which has no other. ``None``: the volume is one problem.

        Parameters
        ----------
        volume
            Without leading axes.
        axis
            As `mrnoise.acquisition.planes.whole_axis` finds it.
        """
        return None

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return the map kspace (joint axes, coil, k1, k0) → image (image axes, y, x)."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What records call it."""
        text = repr(self)
        return type(self).__name__ if "\n" in text else text


@dataclass(frozen=True, eq=False)
class Planewise:
    """What reconstructs the planes of a volume.

    Parameters
    ----------
    scan
        Its planes, as `mrnoise.acquisition.planes.planes` makes them.
    of_plane
        The reconstruction of each, by its index.
    """

    scan: Acquisition
    of_plane: Callable[[int], Reconstruction]

    @classmethod
    def by(cls, reconstruction: Reconstruction, volume: Acquisition, axis: int) -> Planewise:
        """The same reconstruction for all."""
        return cls(planes(volume, axis), lambda index: reconstruction)


@dataclass(frozen=True, eq=False, repr=False)
class WholeKspace(Reconstruction):
    """A function of the whole k-space of an acquisition, all leading axes included.

    Parameters
    ----------
    function
        k-space → image.
    """

    function: KspaceToImage

    needs_coil_maps = False

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Every leading axis."""
        return acquisition.axes

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """The function itself."""
        return self.function

    @property
    def title(self) -> str:
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
