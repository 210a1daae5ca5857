"""Samples on the Cartesian grid of k-space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.lattice import AliasLattice, alias_lattice
from mrnoise.tensor_record import TensorRecord


@dataclass(frozen=True, eq=False)
class Grid(TensorRecord):
    """Which samples of the Cartesian grid were acquired.

    Parameters
    ----------
    mask
        Bool, (k1, k0) or (k2, k1, k0), with leading axes where images differ.
    spatial_dims
        2 or 3.

    Raises
    ------
    InputError
        If no sample was acquired.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> grid = Grid(equispaced((12, 8), 3))
    >>> grid.acceleration, grid.varying_axes, grid.extent
    (3.0, (-2,), ((0, 10), (0, 8)))
    """

    mask: Tensor
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", torch.as_tensor(self.mask).to(torch.bool))
        if not bool(self.mask.any()):
            raise InputError(
                "sampling mask is empty",
                expected="at least one acquired sample",
                received="no acquired sample",
                remedy="Check that True marks the samples that were acquired.",
            )

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
        """Net acceleration R: all samples over acquired samples, calibration lines counted."""
        return float(self.mask.numel() / self.mask.sum())

    @property
    def weight(self) -> Tensor:
        """1 where a sample was acquired, else 0, shaped as the mask."""
        return self.mask

    @property
    def varying_axes(self) -> tuple[int, ...]:
        """Spatial axes along which sampling varies; along the others whole lines were acquired."""
        mask = self.mask
        axes = range(-self.spatial_dims, 0)
        return tuple(axis for axis in axes if not bool((mask == mask.narrow(axis, 0, 1)).all()))

    @property
    def extent(self) -> tuple[tuple[int, int], ...]:
        """First acquired sample and the one behind the last, along each spatial axis, over all images."""
        anywhere = self.mask.reshape(-1, *self.image_shape).any(0).nonzero()
        low, high = anywhere.amin(0).tolist(), anywhere.amax(0).tolist()
        return tuple((a, b + 1) for a, b in zip(low, high, strict=True))

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
        """Alias sets of regular sampling, see `alias_lattice`."""
        return alias_lattice(self.shared())
