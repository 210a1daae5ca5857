"""A reconstruction at the measured data: its value and its derivative."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.linearization.checks import Preflight, check_unchanged, last_words, preflight, refuse
from mrnoise.linearization.derivatives import (
    EVALUATION_MODES,
    JVP_MODES,
    VJP_MODES,
    Function,
    in_half_precision,
    own_jvp,
)
from mrnoise.sampling.trajectory import Trajectory


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

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(), simulate((16, 12), 4))
    >>> v = torch.randn(1, *operator.noise_shape, dtype=operator.noise_dtype)
    >>> w = torch.randn(1, *operator.image_shape, dtype=operator.image_dtype)
    >>> lv, ltw = operator.apply(v), operator.adjoint(w)
    >>> inner = (lv.conj() * w).real.sum(), (v.conj() * ltw).real.sum()
    >>> bool((inner[0] - inner[1]).abs() < 1e-4 * lv.norm() * w.norm())
    True
    """

    function: Function
    acquisition: Acquisition
    value: Tensor
    preflight: Preflight

    @classmethod
    def at(
        cls, function: Function, acquisition: Acquisition, batch_shape: tuple[int, ...] | None = None
    ) -> NoiseToImage:
        """Linearise a function of k-space at the data of a scan, after a preflight.

        Parameters
        ----------
        function
            k-space → image.
        acquisition
            The scan.
        batch_shape
            Of the leading axes of the image; ``None``: those of the acquisition.

        Raises
        ------
        InputError
            As `preflight`.
        """
        kspace = acquisition.kspace
        generator = torch.Generator().manual_seed(0)
        unit = torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator).to(kspace.device)
        batch_shape = acquisition.batch_shape if batch_shape is None else batch_shape
        function, value, report = preflight(
            function, kspace, acquisition.colour(unit), batch_shape, acquisition.spatial_dims
        )
        matrix = tuple(value.shape[-acquisition.spatial_dims :])
        if isinstance(acquisition.sampling, Trajectory) and matrix != acquisition.spatial_shape:
            raise InputError(
                "the image is not that of the trajectory",
                expected=f"a matrix of {acquisition.spatial_shape}, Trajectory.image_shape",
                received=str(matrix),
                remedy="Give the trajectory the matrix of the reconstruction.",
            )
        return cls(function, acquisition, value, report)

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
        with last_words(self.function, self.acquisition.kspace):
            return jvp(self.function, self.preflight.point, change).detach()

    def adjoint(self, image: Tensor) -> Tensor:
        """Lᵀ w for a batch (B, *image_shape)."""
        if self.preflight.vjp_mode is None:
            raise refuse(self.preflight, "adjoint")
        vjp = VJP_MODES[self.preflight.vjp_mode]
        with last_words(self.function, self.acquisition.kspace):
            pulled = vjp(self.function, self.preflight.point, image)
        return self.acquisition.colour_adjoint(pulled).detach()

    def replicas(self, noise: Tensor) -> Tensor:
        """g(y + Ψ^{1/2} v) - g(y) for a batch (B, *noise_shape)."""
        evaluate = EVALUATION_MODES[self.preflight.evaluation_mode]
        with last_words(self.function, self.acquisition.kspace):
            return evaluate(self.function, self.acquisition.kspace, self.acquisition.colour(noise)) - self.value

    def check_unchanged(self) -> None:
        """Raise `InputError` if the reconstruction gives another image than before: it keeps state between calls."""
        check_unchanged(self.function, self.acquisition.kspace, self.value, self.preflight.noise_in_image)

    def in_half_precision(self) -> NoiseToImage:
        """The same with bfloat16 in convolutions: an approximation, cheaper where a processor has units for it."""
        return dataclasses.replace(self, function=in_half_precision(self.function))

    def followed_by(self, readout: Callable[[Tensor], Tensor]) -> NoiseToImage:
        """The noise of a real-linear readout of the image, R L; only the image passed the preflight."""
        return NoiseToImage(
            Followed(self.function, readout),
            self.acquisition,
            readout(self.value),
            self.preflight.of_readout(),
        )


@dataclass(frozen=True, eq=False)
class Followed:
    """A function of k-space and a real-linear readout of its image, with the function's own derivative if it has one.

    Parameters
    ----------
    function, readout
        One after the other.
    """

    function: Function
    readout: Callable[[Tensor], Tensor]

    def __call__(self, kspace: Tensor) -> Tensor:
        """What is read from the image."""
        return self.readout(self.function(kspace))

    def jvp(self, point: Tensor, tangents: Tensor) -> Tensor:
        """R J t for a batch of tangents."""
        return torch.stack([self.readout(product) for product in own_jvp(self.function, point, tangents)])
