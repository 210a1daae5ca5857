"""Samples anywhere in k-space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.tensor_record import TensorRecord

# Samples that end near ±π are taken for radians, near ±½ for cycles per voxel, where the matrix reaches further.
NEAR, FURTHER = (0.9, 1.02), 4.0
# Largest centre along each axis: the calibration block of `espirit`.
LARGEST_CENTRE = 24


@dataclass(frozen=True, eq=False)
class Trajectory(TensorRecord):
    """Where samples lie in k-space.

    The sample at k of the image x with n_d voxels along axis d is

        y(k) = 1/√(Π n_d) Σ_r x(r) exp(-2πi Σ_d k_d r_d / n_d),   r_d counted from n_d // 2,

    so that a trajectory over all whole k is the orthonormal transform of a `Grid`.

    Parameters
    ----------
    coordinates
        k in cycles per field of view, (dimension, *samples), the dimensions ordered as the axes of the image, (y, x) or
        (z, y, x).
    image_shape
        Matrix of the image.
    density
        Weight of each sample for gridding, positive, shaped as the samples; ``None``: not known.

    Raises
    ------
    InputError
        If the dimensions do not fit, a coordinate is not finite, lies outside ±n/2 or is in another unit, all are the
        same, or a density does not fit or is not positive.

    Examples
    --------
    >>> k = torch.linspace(-8, 7.5, 32)
    >>> angle = torch.arange(5)[:, None] * 2.4
    >>> spokes = Trajectory(torch.stack([k * angle.sin(), k * angle.cos()]), image_shape=(16, 16))
    >>> spokes.n_samples, spokes.acceleration
    (160, 1.6)
    """

    coordinates: Tensor
    image_shape: tuple[int, ...]
    density: Tensor | None = None

    def __post_init__(self) -> None:
        coordinates = torch.as_tensor(self.coordinates)
        shape = tuple(int(n) for n in self.image_shape)
        object.__setattr__(self, "coordinates", coordinates)
        object.__setattr__(self, "image_shape", shape)
        fits = coordinates.ndim > 1 and len(coordinates) == len(shape) and coordinates.numel() > 0
        if len(shape) not in (2, 3) or min(shape) < 1 or not fits:
            raise InputError(
                "the trajectory does not fit the image",
                expected="coordinates (dimension, *samples) for an image of 2 or 3 axes",
                received=f"coordinates {tuple(coordinates.shape)}, image {shape}",
                remedy="Put the dimensions first, ordered as the image axes: (y, x) or (z, y, x).",
            )
        if not coordinates.is_floating_point() or not bool(coordinates.isfinite().all()):
            raise InputError(
                "the trajectory has coordinates that are no finite numbers",
                expected="real, finite cycles per field of view",
                received=f"{coordinates.dtype}, {int((~coordinates.isfinite()).sum())} that are not finite",
                remedy="Leave out samples without a position, and their k-space.",
            )
        self._check_places()
        self._check_units()
        self._check_density()

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.image_shape)

    @property
    def sample_ndim(self) -> int:
        """Axes of the samples of one coil."""
        return self.coordinates.ndim - 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of the samples of one coil."""
        return tuple(self.coordinates.shape[1:])

    @property
    def n_samples(self) -> int:
        """Samples of one coil."""
        return math.prod(self.sample_shape)

    @property
    def acceleration(self) -> float:
        """R, voxels of the image over samples, see C22 of the conventions: below 1 where sampling is dense."""
        return math.prod(self.image_shape) / self.n_samples

    @property
    def weight(self) -> Tensor:
        """1 for every sample."""
        return torch.ones(self.sample_shape, device=self.coordinates.device)

    @cached_property
    def centre(self) -> Tensor:
        """The largest centred block of the grid in which every point has a sample within its cell, bool, *image_shape.

        Within half the diagonal of a cell of one cycle per field of view, that is; at most 24 points along each axis.
        """
        from scipy.spatial import cKDTree

        tree = cKDTree(self.coordinates.detach().flatten(1).T.double().cpu().numpy())
        shape, reach = self.image_shape, 0.5 * self.spatial_dims**0.5
        for half in range(LARGEST_CENTRE // 2, 0, -1):
            axes = [np.arange(max(-half, -(n // 2)), min(half, (n + 1) // 2)) for n in shape]
            grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))
            if bool((tree.query(grid)[0] <= reach).all()):
                break
        else:
            half = 0
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[tuple(slice(max(n // 2 - half, 0), n // 2 + half) for n in shape)] = True
        return mask

    @property
    def extent(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest coordinate along each axis."""
        flat = self.coordinates.flatten(1)
        return tuple(zip(flat.amin(1).tolist(), flat.amax(1).tolist(), strict=True))

    def undetermined(self, n_coils: int = 1, n_voxels: int | None = None) -> int:
        """How many of the voxels the samples of so many coils leave undetermined, at least: unknowns less equations.

        Samples at one place count once. ``n_voxels`` are those that the coils see; ``None``: all.

        Examples
        --------
        >>> Trajectory(torch.tensor([[-2.0, 0, 0, 1], [0, 1, 1, 1]]), (4, 4)).undetermined(n_coils=2)
        10
        """
        different = len(torch.unique(self.coordinates.flatten(1), dim=1).T)
        return max(0, (math.prod(self.image_shape) if n_voxels is None else n_voxels) - n_coils * different)

    def undersample(self, mask: Tensor, axis: int = -2) -> Trajectory:
        """Some spokes or interleaves; their density is no longer known.

        Parameters
        ----------
        mask
            Bool, (n,): those to keep.
        axis
            Their axis among those of the samples.

        Raises
        ------
        InputError
            If the mask does not fit, or keeps none.

        Examples
        --------
        >>> from mrnoise.sampling import radial
        >>> spokes = radial((16, 12), 6, angles="uniform")
        >>> every_other = spokes.undersample(torch.arange(6) % 2 == 0)
        >>> every_other.sample_shape, every_other.acceleration / spokes.acceleration
        ((3, 32), 2.0)
        """
        index = self.kept(mask, axis)
        return Trajectory(self.coordinates.index_select(axis, index), self.image_shape)

    def kept(self, mask: Tensor, axis: int = -2) -> Tensor:
        """Index along this axis of the samples of what a mask (n,) keeps, see `undersample`."""
        mask = torch.as_tensor(mask, dtype=torch.bool, device=self.coordinates.device)
        axes = range(-self.sample_ndim, 0)
        if axis not in axes or tuple(mask.shape) != (self.sample_shape[axis],) or not bool(mask.any()):
            raise InputError(
                "mask does not fit the trajectory",
                expected=f"({self.sample_shape[axis]},), one of them True at least"
                if axis in axes
                else f"an axis of the samples, {axes[0]} to -1",
                received=f"shape {tuple(mask.shape)} with {int(mask.sum())} True, for axis {axis} of the samples "
                f"{self.sample_shape}",
                remedy="Give one value for each spoke or interleaf, and their axis.",
            )
        return mask.nonzero().flatten()

    def _check_places(self) -> None:
        places = self.coordinates.flatten(1)
        if self.n_samples > 1 and bool((places == places[:, :1]).all()):
            raise InputError(
                "all samples of the trajectory lie at one place",
                expected="samples all over k-space",
                received=f"{self.n_samples} at {', '.join(f'{k:g}' for k in places[:, 0].tolist())}",
                remedy="The coordinates may never have been written: write them again.",
            )

    def _check_units(self) -> None:
        reach = [max(-low, high) for low, high in self.extent]
        for unit, edge, factor in (("radians", math.pi, "n / 2π"), ("cycles per voxel", 0.5, "n")):
            factors = [n / 2 / edge for n in self.image_shape]
            if NEAR[0] * edge < max(reach) < NEAR[1] * edge and min(factors) > FURTHER:
                raise InputError(
                    f"the trajectory looks as if it were in {unit}",
                    expected=f"cycles per field of view, up to ±{', ±'.join(f'{n / 2:g}' for n in self.image_shape)}",
                    received=f"coordinates up to ±{max(reach):.4g}",
                    remedy=f"Multiply each axis by {factor}: {', '.join(f'{f:.5g}' for f in factors)}.",
                )
        for axis, (found, n) in enumerate(zip(reach, self.image_shape, strict=True)):
            if found > n / 2 * (1 + 1e-6):
                raise InputError(
                    "the trajectory leaves the k-space of the image",
                    expected=f"at most ±{n / 2:g} cycles per field of view along axis {axis} of {self.image_shape}",
                    received=f"±{found:.5g}",
                    remedy="Give the matrix that the trajectory resolves, or leave out the samples beyond it.",
                )

    def _check_density(self) -> None:
        density = self.density
        if density is None:
            return
        real = density.is_floating_point() and tuple(density.shape) == self.sample_shape
        if not real or not bool(((density > 0) & density.isfinite()).all()):
            raise InputError(
                "density does not fit the trajectory",
                expected=f"positive, finite numbers, shape {self.sample_shape}",
                received=f"{density.dtype}, shape {tuple(density.shape)}"
                + (f", smallest {float(density.min()):g}" if real else ""),
                remedy="Give one weight for each sample, or leave density out.",
            )
