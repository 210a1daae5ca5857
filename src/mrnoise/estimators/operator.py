"""What estimators need to know: a real-linear map from unit noise to image."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class NoiseOperator(Protocol):
    """L: unit circular noise v (E[vvᴴ] = I, E[vvᵀ] = 0) → image noise. Batches lead.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from mrnoise.estimators import Plan, exact, sketch
    >>> matrix = torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]], dtype=torch.complex64)
    >>> operator = SimpleNamespace(
    ...     noise_shape=(3,), noise_dtype=torch.complex64, image_shape=(2,), image_dtype=torch.complex64,
    ...     device=torch.device("cpu"), complex_linear=True,
    ...     apply=lambda noise: noise @ matrix.T, adjoint=lambda image: image @ matrix.conj(),
    ... )
    >>> exact(operator).variance.tolist()
    [5.0, 25.0]
    >>> [round(v, 1) for v in sketch(operator, Plan(n_samples=2000)).variance.tolist()]
    [4.9, 25.0]
    """

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
    def value(self) -> Tensor:
        """The noise-free image; what is asked for replicas has it."""
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
