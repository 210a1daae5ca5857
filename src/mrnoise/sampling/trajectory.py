"""Samples anywhere in k-space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.tensor_record import TensorRecord

# Samples that end within this of ±π are taken for radians where the matrix reaches at least so much further.
RADIANS, FURTHER = 1.02, 4.0


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
        If the dimensions do not fit, a coordinate is not finite, lies outside ±n/2 or is in radians, or a density does
        not fit or is not positive.

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
        """R, voxels of the image over samples: below 1 where sampling is dense."""
        return math.prod(self.image_shape) / self.n_samples

    @property
    def weight(self) -> Tensor:
        """1 for every sample."""
        return torch.ones(self.sample_shape, device=self.coordinates.device)

    @property
    def extent(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest coordinate along each axis."""
        flat = self.coordinates.flatten(1)
        return tuple(zip(flat.amin(1).tolist(), flat.amax(1).tolist(), strict=True))

    def _check_units(self) -> None:
        reach = [max(-low, high) for low, high in self.extent]
        ratio = min(n / 2 / math.pi for n in self.image_shape)
        if 0.9 * math.pi < max(reach) < RADIANS * math.pi and ratio > FURTHER:
            raise InputError(
                "the trajectory looks as if it were in radians",
                expected=f"cycles per field of view, up to ±{', ±'.join(f'{n / 2:g}' for n in self.image_shape)}",
                received=f"coordinates up to ±{max(reach):.4g}",
                remedy="Multiply each axis by n / 2π: "
                + ", ".join(f"{n / 2 / math.pi:.5g}" for n in self.image_shape)
                + ".",
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
