"""Which axis of an image is which, and where its voxels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrnoise.acquisition.geometry import Geometry

# Of leading axes without names, the last first.
DEFAULT_AXES = ("slice", "frame", "echo", "set", "phase")


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """The axes of an image, in the order that other programs expect.

    Slices of a 2D image are its z; of volumes, the leading axis ``slice`` counts slabs, which lie apart. All other
    leading axes are numbers of a voxel: frames over time, echoes, and so on.

    Parameters
    ----------
    shape
        Of the image, (..., y, x) or (..., z, y, x).
    spatial_dims
        2 for slices, 3 for volumes.
    axes
        Names of its leading axes. Of another number than these: the usual ones.
    geometry
        Where it lies.

    Examples
    --------
    >>> grid = ImageGrid((3, 2, 5, 16, 12), 2, ("frame", "echo", "slice"), Geometry((4.0, 1.0, 2.0)))
    >>> grid.spatial_shape, grid.other_axes, grid.volumes(np.zeros(grid.shape)).shape
    ((5, 16, 12), ('echo', 'frame'), (2, 3, 5, 16, 12))
    >>> ImageGrid((3, 16, 12), 2, ("echo",), Geometry()).spatial_shape
    (1, 16, 12)
    """

    shape: tuple[int, ...]
    spatial_dims: int
    axes: tuple[str, ...]
    geometry: Geometry

    def __post_init__(self) -> None:
        leading = len(self.shape) - self.spatial_dims
        usual = DEFAULT_AXES if self.spatial_dims == 2 else DEFAULT_AXES[1:]
        more = tuple(f"axis_{i}" for i in range(len(usual), leading))
        if len(self.axes) != leading:
            object.__setattr__(self, "axes", (*usual, *more)[:leading][::-1])

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """Length along (z, y, x)."""
        ny, nx = self.shape[-2:]
        if self.spatial_dims == 3:
            return self.shape[-3], ny, nx
        return (self.shape[self.axes.index("slice")] if "slice" in self.axes else 1), ny, nx

    @property
    def other_axes(self) -> tuple[str, ...]:
        """Names of the axes that are not spatial, slowest first: that of time is the fastest."""
        others = [axis for axis in self.axes if axis != "slice" or self.spatial_dims == 3]
        return tuple(sorted(others, key=lambda axis: axis == "frame"))

    @property
    def volumes_shape(self) -> tuple[int, ...]:
        """Length along (*other_axes, z, y, x)."""
        return (*(self.shape[self.axes.index(axis)] for axis in self.other_axes), *self.spatial_shape)

    @property
    def affine(self) -> np.ndarray:
        """4×4, voxel (x, y, z) → mm (R, A, S)."""
        return self.geometry.affine_for(self.spatial_shape)

    @property
    def placed(self) -> bool:
        """Whether the affine was measured, not assumed."""
        return self.geometry.measured and self.geometry.affine is not None

    def volumes(self, values: np.ndarray) -> np.ndarray:
        """An array of the image as (*other_axes, z, y, x)."""
        names = self._names()
        return values.transpose([names.index(axis) for axis in self._order()]).reshape(self.volumes_shape)

    def from_volumes(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `volumes`."""
        names, order = self._names(), self._order()
        lengths = [self.shape[names.index(axis)] for axis in order]
        return values.reshape(lengths).transpose([order.index(axis) for axis in names])

    def _names(self) -> list[str]:
        return [*self.axes, *("z", "y", "x")[-self.spatial_dims :]]

    def _order(self) -> list[str]:
        spatial = [name for name in self._names() if name not in self.other_axes]
        return [*self.other_axes, *spatial]
