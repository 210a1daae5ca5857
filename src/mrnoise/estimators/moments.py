"""Running sums of noise samples."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mrnoise.estimators.estimate import Estimate, GaussianError, pooled


class Accumulator(Protocol):
    """Running sums of an estimator."""

    @property
    def count(self) -> int:
        """Samples so far."""
        ...

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in a batch of responses to a batch of probes."""
        ...

    def estimate(self, interrupted: bool) -> Estimate:
        """What the samples so far say."""
        ...


class SampleMoments:
    """Running Σ|δ|², Σδ², Σ±|δ|² and, where the mean is unknown, Σδ of image noise samples δ.

    The signs alternate. Σ±|δ|² holds the sampling error of Σ|δ|² without its mean: `Estimate.error_sample`.

    Parameters
    ----------
    method
        Name recorded in the estimate.
    known_mean
        True for linear responses, whose mean is zero; False for replicas, whose mean is estimated at the
        price of one degree of freedom.
    start
        An earlier estimate to go on from: it determines the sums.
    """

    def __init__(self, method: str, known_mean: bool, start: Estimate | None = None) -> None:
        self.method, self.known_mean = method, known_mean
        self.count = 0
        self._square: Tensor | float = 0.0
        self._pseudo: Tensor | float = 0.0
        self._sum: Tensor | float = 0.0
        self._alternating: Tensor | float | None = 0.0
        self._certified_error: Tensor | None = None
        if start is not None and isinstance(start.error, GaussianError):
            nu = int(start.error.degrees_of_freedom)
            if nu > 1:  # from fewer samples nothing is gained
                self.count = nu if known_mean else nu + 1
                mean = torch.zeros_like(start.pseudo_variance) if start.mean is None else start.mean
                self._sum = self.count * mean
                self._square = nu * start.variance + self.count * mean.abs().square()
                self._pseudo = nu * start.pseudo_variance + self.count * mean.square()
                self._alternating = None
                if start.error_sample is not None:
                    odd, scale = _contrast(self.count, nu)
                    self._alternating = scale * start.error_sample + odd * self._square / self.count
                self._certified_error = start.certified_error

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in δ, (B, *image)."""
        z = samples.to(torch.complex128)
        power = z.real.square() + z.imag.square()
        self._square = _on(self._square, z) + power.sum(0)
        if self._alternating is not None:
            even = self.count % 2
            self._alternating = _on(self._alternating, z) + power[even::2].sum(0) - power[1 - even :: 2].sum(0)
        self._pseudo = _on(self._pseudo, z) + z.square().sum(0)
        if not self.known_mean:
            self._sum = _on(self._sum, z) + z.sum(0)
        self._certified_error = None
        self.count += len(samples)

    def estimate(self, interrupted: bool) -> Estimate:
        """Variance and pseudo-variance; NaN error from a single sample."""
        n = self.count
        square, pseudo = torch.as_tensor(self._square), torch.as_tensor(self._pseudo)
        mean = None
        nu = n
        if not self.known_mean:
            mean = torch.as_tensor(self._sum) / n
            square = square - n * mean.abs().square()
            pseudo = pseudo - n * mean.square()
            nu = n - 1
        error_sample = None
        if self._alternating is not None and n > 1:
            odd, scale = _contrast(n, nu)
            error_sample = (torch.as_tensor(self._alternating) - odd * torch.as_tensor(self._square) / n) / scale
        undefined = torch.nan if nu == 0 else 1.0
        # One sample has no spread to judge by: its error is NaN, never zero.
        dof = torch.tensor(float(nu if n > 1 else 0))
        variance = (square / max(nu, 1)).clamp_min(0) * undefined
        return Estimate(
            variance=variance,
            pseudo_variance=pseudo / max(nu, 1) * undefined,
            error=GaussianError(dof),
            method=self.method,
            n_samples=n,
            n_products=n,
            interrupted=interrupted,
            mean=mean,
            certified_error=self._certified_error,
            mean_error=None if mean is None else (variance / n).sqrt(),
            error_sample=error_sample,
        )


class Continued:
    """Samples after those of an earlier estimate, whose result is averaged with theirs.

    Parameters
    ----------
    own
        Takes in the samples; its estimate has an `EmpiricalError`.
    start
        The earlier estimate, of the samples before.
    """

    def __init__(self, own: Accumulator, start: Estimate) -> None:
        self._own, self._start = own, start

    @property
    def count(self) -> int:
        """Samples, those of the earlier estimate included."""
        return self._start.n_samples + self._own.count

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in a batch."""
        self._own.add(samples, probes)

    def estimate(self, interrupted: bool) -> Estimate:
        """That of all samples."""
        if self._own.count == 0:
            return dataclasses.replace(self._start, interrupted=interrupted, certified_error=None)
        return pooled(self._start, self._own.estimate(interrupted).cpu())


def local_mean(values: Tensor, window: int) -> Tensor:
    """Mean over the window of ``window``² voxels around each in its plane, (..., y, x), real or complex."""
    if values.is_complex():
        return torch.complex(local_mean(values.real, window), local_mean(values.imag, window))
    planes = values.reshape(-1, 1, *values.shape[-2:])
    return avg_pool2d(planes, window, 1, window // 2, count_include_pad=False).reshape(values.shape)


def _contrast(n: int, nu: int) -> tuple[int, float]:
    """Of n alternating signs ±1 their sum p, 0 or 1, and the scale with var(Σ(±1 - p/n) x / scale) = var(x) / ν."""
    odd = n % 2
    return odd, (nu * (n - odd / n)) ** 0.5


def _on(total: Tensor | float, like: Tensor) -> Tensor:
    """A running sum where the samples are; one that was read from a file starts in host memory."""
    return torch.as_tensor(total, device=like.device)
