"""The images of a scan: which axes a reconstruction needs whole, and where each image lies in the result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.linearization.checks import evaluate
from mrnoise.linearization.noise_to_image import NoiseToImage
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, as_reconstruction


@dataclass(frozen=True, eq=False)
class Images:
    """The images that a reconstruction makes of a scan, each from its own k-space.

    Leading axes that the reconstruction does not need whole (`Reconstruction.joint`) are taken apart: one image for
    each of their indices, with those of the joint axes that it keeps (`Reconstruction.image_axes`) before its spatial
    ones. A function of k-space gets all of it: one image.

    Parameters
    ----------
    reconstruction
        How.
    acquisition
        Of what.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> images = Images.of(CgSense(), simulate((16, 12), 4, n_slices=3))
    >>> images.count, images.apart, tuple(images.reconstruct().shape)
    (3, ('slice',), (3, 16, 12))
    >>> images.operator(1).image_shape
    (16, 12)
    """

    reconstruction: Reconstruction
    acquisition: Acquisition

    @classmethod
    def of(cls, reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition) -> Images:
        """With any callable k-space → image as the reconstruction."""
        return cls(as_reconstruction(reconstruction), acquisition)

    # -- axes ------------------------------------------------------------------------------------------------

    @property
    def joint(self) -> tuple[str, ...]:
        """Leading axes that each image is made of."""
        return self.reconstruction.joint_axes(self.acquisition)

    @property
    def within(self) -> tuple[str, ...]:
        """Leading axes that each image has."""
        return self.reconstruction.image_axes(self.acquisition)

    @property
    def axes(self) -> tuple[str, ...]:
        """Leading axes of all images together."""
        return tuple(axis for axis in self.acquisition.axes if axis in (*self.apart, *self.within))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Their lengths."""
        return self._lengths(self.axes)

    @property
    def apart(self) -> tuple[str, ...]:
        """Leading axes along which images differ."""
        return tuple(axis for axis in self.acquisition.axes if axis not in self.joint)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images along each of these."""
        return self._lengths(self.apart)

    @property
    def count(self) -> int:
        """Number of images."""
        return math.prod(self.shape)

    # -- images ----------------------------------------------------------------------------------------------

    def scan(self, index: int) -> Acquisition:
        """The part of the acquisition that one image is made of."""
        where = np.unravel_index(index, self.shape) if self.shape else ()
        return self.acquisition.at(**{axis: int(i) for axis, i in zip(self.apart, where, strict=True)})

    def operator(self, index: int) -> NoiseToImage:
        """One image, linearised."""
        scan = self.scan(index)
        return NoiseToImage.at(self.reconstruction.bind(scan), scan, self._lengths(self.within))

    def __iter__(self) -> Iterator[NoiseToImage]:
        """All of them, linearised one after the other."""
        return (self.operator(index) for index in range(self.count))

    def reconstruct(self) -> Tensor:
        """All of them, not linearised, with the leading axes of the acquisition."""
        with torch.no_grad():
            scans = [self.scan(index) for index in range(self.count)]
            return self.join([evaluate(self.reconstruction.bind(scan), scan.kspace) for scan in scans])

    # -- places ----------------------------------------------------------------------------------------------

    def join(self, images: Sequence[Tensor]) -> Tensor:
        """One tensor a image, (image axes, *trailing), as one with the leading axes of the whole."""
        first = images[0]
        if not self.shape:
            return first
        return self.ordered(torch.stack(list(images)).reshape(*self.shape, *first.shape))

    def ordered(self, values: Tensor) -> Tensor:
        """Values of all images, the axes apart before those of an image, with the leading axes of the whole.

        What has one number an image, (*apart), stays.
        """
        order = self._order()
        if order == tuple(range(len(order))) or values.ndim <= len(order):
            return values
        return values.movedim(order, tuple(range(len(order))))

    def taken_apart(self, values: Tensor) -> Tensor:
        """The inverse of `ordered`."""
        order = self._order()
        if order == tuple(range(len(order))) or values.ndim <= len(order):
            return values
        return values.movedim(tuple(range(len(order))), order)

    def split(self, values: Tensor, before: int = 0) -> list[Tensor]:
        """The inverse of `join`, for values with so many axes before those of the whole: one tensor a image."""
        if not self.shape:
            return [values]
        n = len(self.shape)
        source = tuple(before + self.axes.index(axis) for axis in self.apart)
        return list(values.movedim(source, tuple(range(n))).flatten(0, n - 1))

    def place(self, voxel: Sequence[int]) -> tuple[int, tuple[int, ...]] | None:
        """Which image holds a voxel of the whole, and where in it; ``None`` if there is no such image."""
        axes = self.axes
        if len(voxel) < len(axes):
            return None
        along = dict(zip(axes, (int(i) for i in voxel), strict=False))
        outer = tuple(along[axis] for axis in self.apart)
        if any(not 0 <= i < n for i, n in zip(outer, self.shape, strict=True)):
            return None
        index = int(np.ravel_multi_index(outer, self.shape)) if self.shape else 0
        return index, (*(along[axis] for axis in self.within), *(int(i) for i in voxel[len(axes) :]))

    def _order(self) -> tuple[int, ...]:
        """For each leading axis of the whole its place among those apart followed by those of an image."""
        made = (*self.apart, *self.within)
        return tuple(made.index(axis) for axis in self.axes)

    def _lengths(self, axes: Sequence[str]) -> tuple[int, ...]:
        sizes = dict(zip(self.acquisition.axes, self.acquisition.batch_shape, strict=True))
        return tuple(sizes[axis] for axis in axes)


def linearize(reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition) -> Iterator[NoiseToImage]:
    """Linearise a reconstruction at the data of a scan, after a preflight, one operator an image of `Images`.

    Parameters
    ----------
    reconstruction
        A `Reconstruction`, or any callable k-space → image.
    acquisition
        The scan.

    Raises
    ------
    InputError
        If the reconstruction is random, not finite, or does not return an image.

    Examples
    --------
    >>> from mrnoise.reconstruction import ZeroFilled
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(ZeroFilled(), simulate((8, 6), 2))
    >>> operator.image_shape, operator.complex_linear
    ((8, 6), True)
    """
    return iter(Images.of(reconstruction, acquisition))


def image_of(reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition) -> Tensor:
    """The reconstructed image, with the leading axes of the acquisition.

    Parameters
    ----------
    reconstruction, acquisition
        As for `linearize`.

    Returns
    -------
    Tensor
        Real or complex, (..., y, x) or (..., z, y, x).

    Examples
    --------
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4, snr=20.0)
    >>> noise = image_of(Sense(), head.acquire(seed=1)) - head.image
    >>> round(float((noise.abs() / head.optimal_std).square().mean()), 1)
    1.0
    """
    return Images.of(reconstruction, acquisition).reconstruct()
