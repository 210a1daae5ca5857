"""Samples on the Cartesian grid of k-space."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.extent import box
from mrnoise.sampling.lattice import AliasLattice, alias_lattice
from mrnoise.tensor_record import TensorRecord


@dataclass(frozen=True, eq=False)
class Grid(TensorRecord):
    """Which samples of the Cartesian grid were acquired, and which part of it was encoded.

    Parameters
    ----------
    mask
        Bool, (k1, k0) or (k2, k1, k0), with leading axes where images differ.
    spatial_dims
        2 or 3.
    extent
        Bool, (k1, k0) or (k2, k1, k0), or shaped as ``mask`` where images differ: the part of k-space that was encoded,
        see `encoded_extent`; the rest of the grid is zero-filled. ``None``: all of it.

    Raises
    ------
    InputError
        If no sample was acquired, or one outside the extent.

    Examples
    --------
    >>> from mrnoise.sampling import encoded_extent, equispaced
    >>> mask = equispaced((18, 8), 3)
    >>> Grid(mask).acceleration, Grid(mask).varying_axes
    (3.0, (-2,))
    >>> mask[:6] = False  # partial Fourier
    >>> partial = Grid(mask, extent=encoded_extent(mask))
    >>> partial.acceleration, partial.box
    (2.5, ((6, 16), (0, 8)))
    """

    mask: Tensor
    spatial_dims: int = 2
    extent: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", torch.as_tensor(self.mask).to(torch.bool))
        if not bool(self.mask.any()):
            raise InputError(
                "sampling mask is empty",
                expected="at least one acquired sample",
                received="no acquired sample",
                remedy="Check that True marks the samples that were acquired.",
            )
        if self.extent is None:
            return
        extent = torch.as_tensor(self.extent, device=self.mask.device).to(torch.bool)
        if extent.shape not in (self.image_shape, self.mask.shape) or bool((self.mask & ~extent).any()):
            raise InputError(
                "samples lie outside the encoded extent",
                expected=f"an extent of shape {self.image_shape} that holds every sample",
                received=f"shape {tuple(extent.shape)}"
                + (f", {int((self.mask & ~extent).sum())} samples outside" if extent.ndim == self.spatial_dims else ""),
                remedy="Leave it out for the whole grid, or take mrnoise.sampling.encoded_extent(mask).",
            )
        images = extent.reshape(-1, *self.image_shape)
        extent = images[0] if bool((images == images[0]).all()) else extent
        # Nothing is said where nothing is left out.
        object.__setattr__(self, "extent", None if bool(extent.all()) else extent)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Matrix, (y, x) or (z, y, x): that of k-space."""
        return tuple(self.mask.shape[-self.spatial_dims :])

    @property
    def sample_ndim(self) -> int:
        """Axes of the samples of one coil."""
        return self.spatial_dims

    @property
    def acceleration(self) -> float:
        """Net acceleration R: all samples that were encoded over acquired samples, calibration lines counted."""
        n = int(self.mask.numel()) if self.extent is None else int(self.extent.expand(self.mask.shape).sum())
        return n / int(self.mask.sum())

    @property
    def encoded_fraction(self) -> Tensor:
        """Part of the grid that was encoded, (), or of each image where they differ, float64."""
        extent = torch.ones(self.image_shape, device=self.mask.device) if self.extent is None else self.extent
        return extent.double().flatten(-self.spatial_dims).mean(-1)

    @property
    def weight(self) -> Tensor:
        """1 where a sample was acquired, else 0, shaped as the mask."""
        return self.mask

    @property
    def varying_axes(self) -> tuple[int, ...]:
        """Spatial axes along which sampling varies; along the others whole lines were acquired."""
        return varying_axes(self.mask, self.spatial_dims)

    @property
    def box(self) -> tuple[tuple[int, int], ...]:
        """First sample that was encoded and the one behind the last, along each spatial axis, over all images."""
        every = torch.ones(self.image_shape) if self.extent is None else self.extent
        return box(every.reshape(-1, *self.image_shape).any(0))

    def encoded(self) -> str | None:
        """What was encoded, in words; ``None``: everything."""
        if self.extent is None:
            return None
        images = self.extent.reshape(-1, *self.image_shape)
        counts = Counter(self._in_words(one) for one in images)
        of_some = [f"{words} (in {count} of {len(images)} images)" for words, count in counts.items()]
        found = " or ".join(of_some if len(of_some) > 1 else counts)
        return f"{found}; the other {1 - float(self.encoded_fraction.mean()):.1%} zero-filled"

    def _in_words(self, extent: Tensor) -> str:
        ends, names = box(extent), ("k2", "k1", "k0")[-self.spatial_dims :]
        parts = [
            f"{name} {first} to {behind - 1} of {n}"
            for name, (first, behind), n in zip(names, ends, self.image_shape, strict=True)
            if behind - first < n
        ]
        if not bool(extent[tuple(slice(*both) for both in ends)].all()):
            parts.append("corners left out")
        return ", ".join(parts) or "everything"

    def with_mask(self, mask: Tensor) -> Grid:
        """Other samples of the same extent."""
        return Grid(mask, self.spatial_dims, self.extent)

    def shared(self) -> Tensor:
        """The one mask of all images, without leading axes.

        Raises
        ------
        InputError
            If sampling differs between images.
        """
        flat = self.mask.reshape(-1, *self.image_shape)
        if not bool((flat == flat[0]).all()):
            raise InputError(
                "sampling differs between images",
                expected="one mask for all slices and frames",
                received=f"{len(flat)} masks that are not equal",
                remedy="Map the images one by one (acquisition.slices()) or use CgSense.",
            )
        return flat[0]

    def lattice(self) -> AliasLattice:
        """Alias sets of regular sampling, see `alias_lattice`; within the extent, where there is one."""
        return alias_lattice(self.continued())

    def continued(self) -> Tensor:
        """The one mask of all images, continued beyond the extent as it began: regular spacing along each axis."""
        mask = self.shared()
        if self.extent is None:
            return mask
        lines = [mask.movedim(axis, -1).flatten(0, -2).any(0) for axis in range(self.spatial_dims)]
        found = torch.ones_like(mask)
        for axis, line in enumerate(lines):
            places = line.nonzero().flatten().tolist()
            spacing = places[1] - places[0] if len(places) > 1 else 1
            index = torch.arange(len(line), device=mask.device)
            row = (index - places[0]) % spacing == 0
            found = found & row.reshape([-1 if i == axis else 1 for i in range(self.spatial_dims)])
        # Samples of another pattern stay what they are, and are refused.
        return found if bool((found & self.extent).equal(mask)) else mask


def varying_axes(samples: Tensor, dims: int) -> tuple[int, ...]:
    """Of the last ``dims`` axes those along which values vary, counted from the end.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> varying_axes(equispaced((12, 8), 2), 2)
    (-2,)
    """
    return tuple(axis for axis in range(-dims, 0) if not bool((samples == samples.narrow(axis, 0, 1)).all()))
