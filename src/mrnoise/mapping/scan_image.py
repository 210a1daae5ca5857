"""One image of a scan, as methods see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import inf

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.closed_form import cg_sense_voxel_variance, closed_form_std
from mrnoise.errors import InputError
from mrnoise.estimators.protocol import Derivative, Known
from mrnoise.foreground import foreground
from mrnoise.fourier import central
from mrnoise.linearization import Images, NoiseToImage
from mrnoise.linearization.checks import refuse
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.sampling.lattice import LARGEST_SET, alias_colours
from mrnoise.sampling.trajectory import Trajectory
from mrnoise.surrogate.sense_images import Surrogate, surrogate


class ScanImage:
    """A linearised image, its object, and what its scan has for each method: made where a method asks for it.

    Parameters
    ----------
    operator
        The image.
    reconstruction
        That it is of.
    """

    def __init__(self, operator: NoiseToImage, reconstruction: Reconstruction) -> None:
        self.operator, self.reconstruction = operator, reconstruction
        self.known = Known()
        self._surrogate: Surrogate | None = None

    @property
    def acquisition(self) -> Acquisition:
        """Its part of the scan."""
        return self.operator.acquisition

    @cached_property
    def region(self) -> Tensor:
        """The object."""
        known: Tensor | None = getattr(self.operator.function, "region", None)
        return foreground(self.operator.value) if known is None else known

    def mode(self, derivative: Derivative) -> str | None:
        """As the preflight found."""
        checked = self.operator.preflight
        return checked.jvp_mode if derivative == "derivative" else checked.vjp_mode

    def require(self, *derivatives: Derivative) -> None:
        """Raise `InputError` for the first that the preflight does not trust."""
        for derivative in sorted(derivatives, reverse=True):  # the derivative before its adjoint
            if self.mode(derivative) is None:
                raise refuse(self.operator.preflight, derivative)

    @property
    def seconds(self) -> float:
        """As the preflight measured."""
        return self.operator.preflight.seconds

    def loud_pair(self) -> tuple[Tensor, Tensor] | None:
        """That of the preflight."""
        pair = self.operator.preflight.loud_pair
        return None if pair is None else (pair[0][None], pair[1][None])

    def features(self, most_seconds: float = inf) -> Surrogate | None:
        """Two cheap SENSE images of the same noise."""
        if self._surrogate is None:
            self._surrogate = surrogate(self.acquisition, self.region, most_seconds)
        return self._surrogate

    def required_features(self) -> Surrogate:
        """The same, or the `InputError` that says what they need."""
        features = self.features()
        if features is None:
            raise InputError(
                "control variates need a slice with coil maps",
                expected="slices mapped one by one (a Reconstruction, not a callable over a stack), with coil maps or "
                "calibration lines, and an image not larger than its matrix; no volumes",
                received=f"image {self.operator.image_shape} of k-space {self.operator.noise_shape}",
                remedy="Leave control_variate out.",
            )
        return features

    def alias_colours(self, most: int | None = None) -> Tensor:
        """Colours of the voxels of an image, whose matrix is that of k-space or its central part."""
        scan = self.acquisition
        if len(self.operator.image_shape) > scan.spatial_dims:
            raise InputError(
                "alias sets are those of one image",
                expected="images mapped one by one: a Reconstruction, not a callable over a stack",
                received=f"an image of shape {self.operator.image_shape}",
                remedy='Use method="sketch", which takes any image.',
            )
        if isinstance(scan.sampling, Trajectory):
            raise InputError(
                "along a trajectory there are no alias sets",
                expected="samples on a grid",
                received=f"a trajectory of {scan.sampling.n_samples} samples",
                remedy='Use method="auto".',
            )
        colours = alias_colours(scan.grid.shared(), LARGEST_SET if most is None else most)
        shape = self.operator.image_shape[-scan.spatial_dims :]
        if any(n > full for n, full in zip(shape, colours.shape, strict=True)):
            raise InputError(
                "the image is larger than its k-space",
                expected=f"at most {tuple(colours.shape)} voxels",
                received=str(shape),
                remedy='Use method="sketch", which takes any image.',
            )
        return central(colours, shape)

    def in_half_precision(self) -> NoiseToImage:
        """The operator with convolutions in bfloat16."""
        return self.operator.in_half_precision()

    def closed_form(self, most_voxels: int | None = None) -> Tensor:
        """Variance of `Sense`, `CgSense` and `Gridding`."""
        if self.known.closed_form is None:
            std = closed_form_std(self.reconstruction, self.acquisition, most_voxels)
            self.known.closed_form = std.square()
        return self.known.closed_form

    def voxel_variance(self, error: float) -> Callable[[Tensor], Tensor] | None:
        """That of `CgSense`."""
        return cg_sense_voxel_variance(self.reconstruction, self.acquisition, error)


def scan_image(images: Images, index: int) -> ScanImage:
    """One of the images of a scan."""
    return ScanImage(images.operator(index), images.reconstruction_of(index))
