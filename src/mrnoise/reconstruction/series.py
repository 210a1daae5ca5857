"""Series of images along a leading axis: frames, echoes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, as_reconstruction
from mrnoise.sampling.grid import Grid


def series_axis(acquisition: Acquisition, axis: str | None = None) -> str:
    """The leading axis that is meant; ``None``: the only one beside slices.

    Raises
    ------
    InputError
        If there is no such axis, or there are several.
    """
    possible = [name for name in acquisition.axes if name != "slice"]
    if axis in acquisition.axes:
        return axis
    if axis is None and len(possible) == 1:
        return possible[0]
    raise InputError(
        "this is no series" if len(possible) < 2 else "it is not clear which series is meant",
        expected=f"a leading axis {axis}" if axis else "one leading axis beside slices",
        received=f"leading axes {', '.join(acquisition.axes)}" if acquisition.axes else "a single image",
        remedy='Name the leading axes of the scan, Acquisition(axes=("frame",)); of several say which, axis="frame".',
    )


def place_of(acquisition: Acquisition, axis: str | None) -> int:
    """The leading axis of a series, counted from the first axis of k-space."""
    return acquisition.axes.index(series_axis(acquisition, axis))


def parts_along(acquisition: Acquisition, axis: str) -> list[Acquisition]:
    """The images of a series one by one."""
    n = acquisition.batch_shape[acquisition.axes.index(axis)]
    return [acquisition.at(**{axis: i}) for i in range(n)]


def encoded_together(acquisition: Acquisition, place: int) -> Acquisition:
    """A series whose images share what was encoded: where their samples interleave, each shows a part of it only."""
    grid = acquisition.sampling
    if not isinstance(grid, Grid) or grid.extent is None or grid.extent.ndim == grid.spatial_dims:
        return acquisition
    extent = grid.extent.any(place, keepdim=True).expand_as(grid.extent)
    return acquisition.replace(sampling=Grid(grid.mask, grid.spatial_dims, extent))


class OfSeries(Reconstruction):
    """What makes images along an axis of those of another reconstruction: a dataclass with these two fields.

    Parameters
    ----------
    inner
        Gives the images.
    axis
        Of the series.
    """

    inner: Reconstruction
    axis: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", as_reconstruction(self.inner))
        for name in ("estimates_coil_maps", "needs_coil_maps"):
            object.__setattr__(self, name, getattr(self.inner, name))

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """The axis of the series, and what the inner one needs."""
        needed = (self._series_axis(acquisition), *self.inner.joint_axes(acquisition))
        return tuple(name for name in acquisition.axes if name in needed)

    def image_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """The axis of the series, and what images of the inner one have."""
        kept = (self._series_axis(acquisition), *self.inner.image_axes(acquisition))
        return tuple(name for name in acquisition.axes if name in kept)

    def _series_axis(self, acquisition: Acquisition) -> str:
        """That of the series, along which the inner one has to leave images."""
        axis, inner = series_axis(acquisition, self.axis), self.inner
        if axis in inner.joint_axes(acquisition) and axis not in inner.image_axes(acquisition):
            raise InputError(
                "the inner reconstruction leaves no series",
                expected=f"one with an image for each {axis}",
                received=f"{inner.title}, which makes one image of all of them",
                remedy="Give what it is made of instead, or another axis of the scan, axis=….",
            )
        return axis


@dataclass(frozen=True)
class Series(OfSeries):
    """Images of another reconstruction, together along an axis."""

    inner: Reconstruction
    axis: str | None = None

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Together where the inner one needs them so, else one by one."""
        axis = series_axis(acquisition, self.axis)
        if axis in self.inner.joint_axes(acquisition):
            return self.inner.bind(acquisition)
        parts = parts_along(acquisition, axis)
        places = acquisition.axes.index(axis), self.image_axes(acquisition).index(axis)
        return Apart(tuple(self.inner.bind(part) for part in parts), *places)


class OneOfSeries(OfSeries):
    """What makes one image of those along the axis."""

    def image_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Those of the inner one without that of the series."""
        axis = series_axis(acquisition, self.axis)
        return tuple(name for name in super().image_axes(acquisition) if name != axis)

    def series(self, acquisition: Acquisition) -> tuple[KspaceToImage, int]:
        """k-space → images of the inner one, and the place of the axis in these."""
        series = Series(self.inner, self.axis)
        place = series.image_axes(acquisition).index(series_axis(acquisition, self.axis))
        return series.bind(acquisition), place


@dataclass(frozen=True, eq=False)
class Apart:
    """Images of a series, each by a reconstruction of its own.

    Parameters
    ----------
    images
        k-space → image, of each.
    place, image_place
        Of the axis of the series in k-space and in the image.
    """

    images: tuple[KspaceToImage, ...]
    place: int
    image_place: int

    @property
    def complex_linear(self) -> bool:
        """Whether all are, by their own word."""
        return all(getattr(one, "complex_linear", False) is True for one in self.images)

    def __call__(self, kspace: Tensor) -> Tensor:
        """(..., coil, k1, k0) → (..., y, x)."""
        parts = zip(self.images, kspace.unbind(self.place), strict=True)
        return torch.stack([one(part) for one, part in parts], self.image_place)
