"""Networks from image to image, e.g. of MONAI."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.reconstruction.adapters.common import (
    Adapter,
    BoundAdapter,
    as_channels,
    check_choice,
    check_single,
    checked_output,
    from_channels,
    offset_and_scale,
)
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.zero_filled import RootSumOfSquares


@dataclass(frozen=True)
class ImageNetwork(Adapter):
    """An image-to-image network behind a conventional reconstruction, e.g. a U-Net of fastMRI, MONAI or deepinv.

    x = σ f((x₀ - μ) / σ) + μ, with x₀ the image of ``image_from`` and μ, σ computed from x₀ itself: they carry
    noise too.

    Parameters
    ----------
    model
        f: (1, channel, y, x) → the same shape. It pads inside where its strides do not divide the matrix.
    image_from
        Reconstruction that makes its input.
    channels
        1: the real image, or the magnitude of a complex one; the result is real. 2: real and imaginary part; the
        result is complex. ``None``: as many as the image has.
    normalization
        ``"standard"``: mean and standard deviation of each channel (unbiased), as fastMRI does. ``"maximum"``: the
        largest magnitude. ``"none"``.
    differentiate_normalization
        Propagate noise through μ and σ (True), or hold them at their values for this scan.
    clip
        Normalised values are clamped to ± this; fastMRI trains its U-Net with 6.

    Raises
    ------
    InputError
        If channels or normalisation are unknown; where the image is made, if its channels or shape do not fit.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((8, 6), 2)
    >>> real, imaginary = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Conv2d(2, 2, 3, padding=1)
    >>> ImageNetwork(real).bind(scan)(scan.kspace).dtype
    torch.float32
    >>> ImageNetwork(imaginary, CgSense(1e-2)).bind(scan)(scan.kspace).dtype
    torch.complex64
    """

    model: Callable[[Tensor], Tensor] = field(repr=False)
    image_from: Reconstruction = field(default_factory=RootSumOfSquares)
    channels: int | None = None
    normalization: str = "standard"
    differentiate_normalization: bool = True
    clip: float | None = None

    def __post_init__(self) -> None:
        check_choice("normalization", self.normalization, ("standard", "maximum", "none"))
        check_choice("channels", self.channels, (None, 1, 2))

    @property
    def unit_gain(self) -> bool:  # type: ignore[override]
        """Whether the image has the intensity of the SENSE image: that of ``image_from`` is kept."""
        return self.image_from.unit_gain

    def bind(self, acquisition: Acquisition) -> BoundImageNetwork:
        """Return kspace (coil, k1, k0) → image (y, x), real for one channel, complex for two."""
        check_single(acquisition)
        bound = BoundImageNetwork(self, acquisition, self.image_from.bind(acquisition), None)
        if self.differentiate_normalization:
            return bound
        with torch.no_grad():
            fixed = offset_and_scale(bound.input(acquisition.kspace), self.normalization)
        return dataclasses.replace(bound, fixed=fixed)


@dataclass(frozen=True, eq=False, repr=False)
class BoundImageNetwork(BoundAdapter):
    """`ImageNetwork` of one scan.

    Parameters
    ----------
    image_of
        ``image_from`` of this scan.
    fixed
        μ and σ of the measured data; ``None``: those of each k-space.
    """

    method: ImageNetwork
    image_of: KspaceToImage
    fixed: tuple[Tensor, Tensor] | None

    def __call__(self, kspace: Tensor) -> Tensor:
        """σ f((x₀ - μ) / σ) + μ, (coil, k1, k0) → (y, x)."""
        x = self.input(kspace)
        offset, scale = self.fixed or offset_and_scale(x, self.method.normalization)
        x = (x - offset) / scale
        if self.method.clip is not None:
            x = x.clamp(-self.method.clip, self.method.clip)
        y = checked_output(self.network(x), tuple(x.shape))
        return from_channels(y * scale + offset)

    def input(self, kspace: Tensor) -> Tensor:
        """x₀ as channels, not yet normalised, (coil, k1, k0) → (1, channel, y, x)."""
        image = self.image_of(kspace)
        if self.method.channels == 2 and not image.is_complex():
            raise InputError(
                "the image has no imaginary part for the second channel",
                expected=f"a complex image from {self.method.image_from!r}",
                received=str(image.dtype),
                remedy="Use image_from=ZeroFilled() or CgSense(), or channels=1.",
            )
        return as_channels(image.abs() if self.method.channels == 1 else image)
