"""The images of a scan: which axes a reconstruction needs whole, and where each image lies in the result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.planes import whole_axis
from mrnoise.linearization.checks import evaluate
from mrnoise.linearization.noise_to_image import NoiseToImage
from mrnoise.reconstruction.protocol import KspaceToImage, Planewise, Reconstruction, as_reconstruction

SPATIAL = ("z", "y", "x")


@dataclass(frozen=True, eq=False)
class Images:
    """The images that a reconstruction makes of a scan, each from its own k-space.

    Leading axes that the reconstruction does not need whole (`Reconstruction.joint`) are taken apart: one image for
    each of their indices, with those of the joint axes that it keeps (`Reconstruction.image_axes`) before its spatial
    ones. A function of k-space gets all of it: one image. A volume that was sampled as a whole along an axis is taken
    apart into planes across it, where that is the same image (`Reconstruction.planewise`).

    Parameters
    ----------
    reconstruction
        How.
    acquisition
        Of what.
    planewise
        Whether volumes may be taken apart.

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
    planewise: bool = True
    # Planes of the volume that was asked for last, by its place.
    _kept: dict[tuple[int, ...], Planewise | None] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls, reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, *, planewise: bool = True
    ) -> Images:
        """With any callable k-space → image as the reconstruction."""
        return cls(as_reconstruction(reconstruction), acquisition, planewise)

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
        """Number of images along each of these, then of planes."""
        return (*self._lengths(self.apart), *self._planes)

    @property
    def count(self) -> int:
        """Number of images."""
        return math.prod(self.shape)

    @cached_property
    def plane_axis(self) -> int | None:
        """The axis across which planes are taken apart; ``None``: they are not."""
        axis = whole_axis(self.acquisition) if self.planewise else None
        return None if axis is None or self._planewise((0,) * len(self.apart), axis) is None else axis

    @property
    def typical(self) -> int:
        """Which image may stand for all: the first, of planes that in the middle, where the object is."""
        return self._planes[0] // 2 if self._planes else 0

    # -- images ----------------------------------------------------------------------------------------------

    def scan(self, index: int) -> Acquisition:
        """The part of the acquisition that one image is made of."""
        where = self._where(index)
        if self.plane_axis is None:
            return self._part(where)
        return self._planes_at(where[:-1]).scan.at(plane=where[-1])

    def reconstruction_of(self, index: int) -> Reconstruction:
        """That of one image, for its part of the acquisition."""
        where = self._where(index)
        return self.reconstruction if self.plane_axis is None else self._planes_at(where[:-1]).of_plane(where[-1])

    def operator(self, index: int) -> NoiseToImage:
        """One image, linearised."""
        scan = self.scan(index)
        return NoiseToImage.at(self.reconstruction_of(index).bind(scan), scan, self._lengths(self.within))

    def __iter__(self) -> Iterator[NoiseToImage]:
        """All of them, linearised one after the other."""
        return (self.operator(index) for index in range(self.count))

    def reconstruct(self) -> Tensor:
        """All of them, not linearised, with the leading axes of the acquisition."""
        with torch.no_grad():
            return self.join([self._image(index) for index in range(self.count)])

    # -- places ----------------------------------------------------------------------------------------------

    def join(self, images: Sequence[Tensor]) -> Tensor:
        """One tensor a image, (image axes, *trailing), as one with the leading axes of the whole."""
        first = images[0]
        if not self.shape:
            return first
        return self.ordered(torch.stack(list(images)).reshape(*self.shape, *first.shape))

    def ordered(self, values: Tensor) -> Tensor:
        """Values of all images, the axes apart before those of an image, in the order of the axes of the whole.

        What has one number an image, (*apart), stays.
        """
        order = self._order()
        if order == tuple(range(len(order))) or values.ndim <= len(self.shape) + len(self.within):
            return values
        return values.permute(*order, *range(len(order), values.ndim))

    def taken_apart(self, values: Tensor) -> Tensor:
        """The inverse of `ordered`."""
        order = self._order()
        if order == tuple(range(len(order))) or values.ndim <= len(self.shape) + len(self.within):
            return values
        return values.permute(*np.argsort(order).tolist(), *range(len(order), values.ndim))

    def split(self, values: Tensor, before: int = 0) -> list[Tensor]:
        """The inverse of `join`, for values with so many axes before those of the whole: one tensor a image."""
        if not self.shape:
            return [values]
        n = len(self.shape)
        names = self._names()
        source = tuple(before + names.index(name) for name in self._made()[:n])
        return list(values.movedim(source, tuple(range(n))).flatten(0, n - 1))

    def place(self, voxel: Sequence[int]) -> tuple[int, tuple[int, ...]] | None:
        """Which image holds a voxel of the whole, and where in it; ``None`` if there is no such image."""
        names, made = self._names(), self._made()
        if len(voxel) < len(names):
            return None
        along = dict(zip(names, (int(i) for i in voxel), strict=False))
        outer = tuple(along[name] for name in made[: len(self.shape)])
        if any(not 0 <= i < n for i, n in zip(outer, self.shape, strict=True)):
            return None
        index = int(np.ravel_multi_index(outer, self.shape)) if self.shape else 0
        return index, (*(along[name] for name in made[len(self.shape) :]), *(int(i) for i in voxel[len(names) :]))

    def _names(self) -> tuple[str, ...]:
        """Axes of the whole: leading ones, of planes also the spatial ones."""
        return (*self.axes, *(SPATIAL if self._planes else ()))

    def _made(self) -> tuple[str, ...]:
        """The same in the order in which images are made: those apart, then those of an image."""
        if self.plane_axis is None:
            return (*self.apart, *self.within)
        across = SPATIAL[self.plane_axis]
        return (*self.apart, across, *self.within, *(axis for axis in SPATIAL if axis != across))

    def _order(self) -> tuple[int, ...]:
        """For each axis of the whole its place as made."""
        made = self._made()
        return tuple(made.index(name) for name in self._names())

    @property
    def _planes(self) -> tuple[int, ...]:
        return () if self.plane_axis is None else (self.acquisition.spatial_shape[self.plane_axis],)

    def _where(self, index: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(index, self.shape)) if self.shape else ()

    def _part(self, where: tuple[int, ...]) -> Acquisition:
        return self.acquisition.at(**dict(zip(self.apart, where, strict=True)))

    def _planes_at(self, where: tuple[int, ...]) -> Planewise:
        assert self.plane_axis is not None
        found = self._planewise(where, self.plane_axis)
        assert found is not None  # as of the first volume
        return found

    def _planewise(self, where: tuple[int, ...], axis: int) -> Planewise | None:
        if where not in self._kept:
            self._kept.clear()  # a volume is large: not two at once
            self._kept[where] = self.reconstruction.planewise(self._part(where), axis)
        return self._kept[where]

    def _image(self, index: int) -> Tensor:
        scan = self.scan(index)
        return evaluate(self.reconstruction_of(index).bind(scan), scan.kspace)

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
