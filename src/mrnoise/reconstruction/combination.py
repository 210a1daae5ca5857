"""One image of the images of coils, whitened before."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.calibration.espirit_maps import calibration_block
from mrnoise.calibration.walsh_maps import walsh
from mrnoise.errors import InputError
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.units import unit_of

Combination = Literal["rss", "adaptive", "sense"]


class CombinesCoils(Reconstruction):
    """What combines images of whitened coils at the end: a dataclass with this field.

    Parameters
    ----------
    combination
        How.
    """

    combination: Combination

    @property
    def unit_gain(self) -> bool:  # type: ignore[override]
        """With coil maps."""
        return self.combination == "sense"

    @property
    def unit_weights(self) -> bool:  # type: ignore[override]
        """Of the other combinations."""
        return self.combination != "sense"

    @property
    def needs_coil_maps(self) -> bool:  # type: ignore[override]
        """For that combination."""
        return self.combination == "sense"

    @property
    def estimates_coil_maps(self) -> bool:  # type: ignore[override]
        """Those of the adaptive combination."""
        return self.combination == "adaptive"

    def check_combination(self) -> None:
        """Raise `InputError` unless there is one of this name."""
        if self.combination not in get_args(Combination):
            raise InputError(
                "unknown combination of coils",
                expected=f"one of {', '.join(get_args(Combination))}",
                received=self.combination,
                remedy="rss gives a magnitude image, adaptive and sense complex ones.",
            )


def combined(images: Tensor, weights: Tensor | None, coil_axis: int) -> Tensor:
    """Σ_c w_c z_c; without weights the root sum of squares."""
    return root_sum_of_squares(images, coil_axis) if weights is None else (weights * images).sum(coil_axis)


def root_sum_of_squares(images: Tensor, coil_axis: int) -> Tensor:
    """√Σ_c |z_c|², with a derivative everywhere."""
    unit = unit_of(images)
    images = images / unit
    power = (images.real.square() + images.imag.square()).sum(coil_axis)
    # √ has no derivative at zero; there the image and its first-order noise are zero.
    present = power > 0
    return unit * torch.where(present, torch.where(present, power, 1.0).sqrt(), 0.0)


def adaptive_weights(lines: Tensor, region: Tensor) -> Tensor:
    """Conjugate of the `walsh` maps of the fully sampled centre of calibration lines, (..., coil, *spatial)."""
    shape = tuple(region.shape)
    block = calibration_block(shape, region, max(shape))
    centre = torch.zeros_like(region)
    centre[tuple(slice(n // 2 - w // 2, n // 2 - w // 2 + w) for n, w in zip(shape, block, strict=True))] = True
    return walsh(fourier.to_image(lines * centre, region.ndim), spatial_dims=region.ndim).conj()


def sense_weights(maps: Tensor, coil_axis: int) -> Tensor:
    """(SᴴS)⁻¹Sᴴ of whitened coil maps, 0 where no coil sees the voxel."""
    power = (maps.real.square() + maps.imag.square()).sum(coil_axis, keepdim=True)
    return maps.conj() / torch.where(power > 0, power, 1.0)
