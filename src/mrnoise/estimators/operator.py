"""What estimators need to know: a real-linear map from unit noise to image."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class NoiseOperator(Protocol):
    """L: unit circular noise v (E[vvᴴ] = I, E[vvᵀ] = 0) → image noise. Batches lead."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of one v."""
        ...

    @property
    def noise_dtype(self) -> torch.dtype:
        """Complex type of v."""
        ...

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        ...

    @property
    def image_dtype(self) -> torch.dtype:
        """Real or complex type of the image."""
        ...

    @property
    def device(self) -> torch.device:
        """Where v lives."""
        ...

    @property
    def complex_linear(self) -> bool:
        """Whether L(iv) = iLv, so that image noise is proper."""
        ...

    def apply(self, noise: Tensor) -> Tensor:
        """L v."""
        ...

    def adjoint(self, image: Tensor) -> Tensor:
        """Lᵀ w in the real inner product."""
        ...

    def replicas(self, noise: Tensor) -> Tensor:
        """The nonlinear response to noise v, minus the noise-free image."""
        ...
