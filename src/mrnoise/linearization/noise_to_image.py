"""A reconstruction at the measured data: its value and its derivative."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.linearization.checks import Preflight, preflight, refuse
from mrnoise.linearization.derivatives import EVALUATION_MODES, JVP_MODES, VJP_MODES, Function, in_half_precision
from mrnoise.reconstruction.protocol import Reconstruction


@dataclass(frozen=True, eq=False)
class NoiseToImage:
    """Unit circular noise in, image noise out: L = J Ψ^{1/2}, and the nonlinear response beside it.

    All that estimators see. L is real-linear; its adjoint is that of the real inner product
    Re⟨L v, w⟩ = Re⟨v, Lᵀ w⟩.

    Parameters
    ----------
    function
        Reconstruction, k-space → image.
    acquisition
        The scan at which it is linearised.
    value
        Its image.
    preflight
        The derivatives that can be trusted.
    """

    function: Function
    acquisition: Acquisition
    value: Tensor
    preflight: Preflight

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of one noise realisation, that of k-space."""
        return tuple(self.acquisition.kspace.shape)

    @property
    def noise_dtype(self) -> torch.dtype:
        """Complex type of the noise."""
        return self.acquisition.kspace.dtype

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self.value.shape)

    @property
    def image_dtype(self) -> torch.dtype:
        """Type of the image, real or complex."""
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        """Where the arrays live."""
        return self.acquisition.kspace.device

    @property
    def complex_linear(self) -> bool:
        """Whether L(iv) = iLv."""
        return self.preflight.complex_linear

    @property
    def phase(self) -> Tensor:
        """Unit phase x / |x|, the direction of the noise of |x|; 1 where the image is zero."""
        unit = torch.sgn(self.value)
        return torch.where(unit == 0, torch.ones_like(unit), unit)

    def apply(self, noise: Tensor) -> Tensor:
        """L v for a batch (B, *noise_shape)."""
        return self.derivative(self.acquisition.colour(noise))

    def derivative(self, change: Tensor) -> Tensor:
        """J t for a batch (B, *noise_shape) of changes of k-space."""
        if self.preflight.jvp_mode is None:
            raise refuse(self.preflight, "derivative")
        jvp = JVP_MODES[self.preflight.jvp_mode]
        return jvp(self.function, self.acquisition.kspace, change).detach()

    def adjoint(self, image: Tensor) -> Tensor:
        """Lᵀ w for a batch (B, *image_shape)."""
        if self.preflight.vjp_mode is None:
            raise refuse(self.preflight, "adjoint")
        vjp = VJP_MODES[self.preflight.vjp_mode]
        return self.acquisition.colour_adjoint(vjp(self.function, self.acquisition.kspace, image)).detach()

    def replicas(self, noise: Tensor) -> Tensor:
        """g(y + Ψ^{1/2} v) - g(y) for a batch (B, *noise_shape)."""
        evaluate = EVALUATION_MODES[self.preflight.evaluation_mode]
        return evaluate(self.function, self.acquisition.kspace, self.acquisition.colour(noise)) - self.value

    def in_half_precision(self) -> NoiseToImage:
        """The same with bfloat16 in convolutions: an approximation, cheaper where a processor has units for it."""
        return dataclasses.replace(self, function=in_half_precision(self.function))

    def followed_by(self, readout: Callable[[Tensor], Tensor]) -> NoiseToImage:
        """The noise of a real-linear readout of the image, R L; only the image passed the preflight."""
        return NoiseToImage(
            lambda kspace: readout(self.function(kspace)),
            self.acquisition,
            readout(self.value),
            dataclasses.replace(self.preflight, complex_linear=False),
        )


def linearize(reconstruction: Reconstruction | Function, acquisition: Acquisition) -> Iterator[NoiseToImage]:
    """Linearise a reconstruction at the data of a scan, after a preflight.

    A `Reconstruction` is bound to each slice in turn and gives one operator a slice; any other callable gets
    the k-space with all its leading axes and gives one operator.

    Raises
    ------
    InputError
        If the reconstruction is random, not finite, or does not return an image.
    """
    if isinstance(reconstruction, Reconstruction):
        for scan in acquisition.slices():
            yield _linearize(reconstruction.bind(scan), scan)
    else:
        yield _linearize(reconstruction, acquisition)


def n_images(reconstruction: Reconstruction | Function, acquisition: Acquisition) -> int:
    """How many operators `linearize` yields."""
    return math.prod(acquisition.batch_shape) if isinstance(reconstruction, Reconstruction) else 1


def image_of(reconstruction: Reconstruction | Function, acquisition: Acquisition) -> Tensor:
    """The reconstructed image, with the leading axes of the acquisition."""
    with torch.no_grad():
        if not isinstance(reconstruction, Reconstruction):
            return reconstruction(acquisition.kspace)
        images = [reconstruction.bind(scan)(scan.kspace) for scan in acquisition.slices()]
    return torch.stack(images).reshape(*acquisition.batch_shape, *images[0].shape)


def _linearize(function: Function, acquisition: Acquisition) -> NoiseToImage:
    kspace = acquisition.kspace
    generator = torch.Generator().manual_seed(0)
    unit = torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator).to(kspace.device)
    value, report = preflight(
        function, kspace, acquisition.colour(unit), len(acquisition.batch_shape), acquisition.spatial_dims
    )
    return NoiseToImage(function, acquisition, value, report)
