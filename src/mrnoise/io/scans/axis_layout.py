"""From the axes of a file to those of an acquisition."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mrnoise.io.scans.axis_order import SPATIAL


@dataclass(frozen=True)
class Layout:
    """Names and sizes of the axes of k-space as they lie in a file.

    Examples
    --------
    >>> layout = Layout(("kx", "ky", "coil", "slice"), (40, 32, 6, 3))
    >>> layout.wanted, layout.arranged(np.zeros((40, 32, 6)), "coil").shape, layout.arranged(np.zeros((40, 32))).shape
    (('slice', 'coil', 'ky', 'kx'), (6, 32, 40), (32, 40))
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def leading(self) -> tuple[str, ...]:
        """Axes of independent images, in the order of the file."""
        return tuple(name for name in self.names if name not in ("average", "coil", *SPATIAL))

    @property
    def spatial(self) -> tuple[str, ...]:
        """(ky, kx) or (kz, ky, kx)."""
        return tuple(name for name in SPATIAL if name in self.names)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Order of an acquisition, averages first."""
        there = ("average", *self.leading, "coil", *SPATIAL)
        return tuple(name for name in there if name in self.names)

    def arranged(self, values: np.ndarray, *others: str) -> np.ndarray:
        """An array of the spatial axes and ``others``, with leading axes or without, in the order of an acquisition.

        Its axes may lie in the order of the file or in that of an acquisition. What fits neither comes back as it is.
        """
        sizes = dict(zip(self.names, self.shape, strict=True))
        for leading in (self.leading, ()):
            there = {*leading, *others, *self.spatial} & set(self.names)
            wanted = [name for name in self.wanted if name in there]
            for order in ([name for name in self.names if name in there], wanted):
                if values.shape == tuple(sizes[name] for name in order):
                    return values.transpose([order.index(name) for name in wanted])
        return values


def averaged(kspace: Tensor, coil_axis: int) -> tuple[Tensor, Tensor]:
    """Mean over the first axis of the samples that are not zero in every coil, and how many there are."""
    counts = (kspace != 0).any(coil_axis).sum(0).float()
    return kspace.sum(0) / counts.clamp_min(1).unsqueeze(coil_axis), counts


def line_mask(mask: Tensor, acquired: Tensor, columns: bool) -> tuple[Tensor, int] | None:
    """A mask of lines (n,) spread over the spatial axes of ``acquired``, and the axis along which it runs.

    The axis is the one of its length; of two, the one along which nothing was acquired outside the mask; of two still,
    the last where a format is known for that (``columns``). Else ``None``.
    """
    dims = min(acquired.ndim, 3)
    found = [axis for axis in range(-dims, 0) if acquired.shape[axis] == len(mask)]
    if bool(mask.all()):  # along either axis the same
        found = found[-1:]
    if len(found) > 1:
        found = [axis for axis in found if not acquired.movedim(axis, -1)[..., ~mask].any()] or found
    if len(found) > 1 and columns:
        found = found[-1:]
    if len(found) != 1:
        return None
    shape = [1] * acquired.ndim
    shape[found[0]] = len(mask)
    return mask.reshape(shape).expand(acquired.shape).contiguous(), found[0]


def same_for_all(values: Tensor, dims: int) -> Tensor:
    """Without leading axes where all images agree."""
    images = values.reshape(math.prod(values.shape[:-dims]), *values.shape[-dims:])
    return images[0] if len(images) and bool((images == images[0]).all()) else values
