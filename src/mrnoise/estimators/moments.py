"""Running sums of noise samples."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mrnoise.estimators.batching.running_sums import RunningSums
from mrnoise.estimators.estimate import Estimate, pooled
from mrnoise.estimators.sampling_error import GaussianError


class Accumulator(ABC):
    """Running sums of an estimator."""

    count: int
    """Samples so far."""

    @abstractmethod
    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in a batch of responses to a batch of probes."""

    @abstractmethod
    def estimate(self, interrupted: bool) -> Estimate:
        """What the samples so far say."""

    def sums(self) -> Mapping[str, Tensor] | None:
        """Themselves, from which a run goes on to the bit; ``None`` where that is not possible."""
        return None


class SampleMoments(Accumulator):
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
        An earlier estimate to go on from: it has the sums where it was interrupted, and else determines them but for
        round-off.
    first
        Index of the first sample, where others hold those before.
    """

    def __init__(self, method: str, known_mean: bool, start: Estimate | None = None, first: int = 0) -> None:
        self.method, self.known_mean, self._contrasted = method, known_mean, True
        self._sums = RunningSums(self._terms, first)
        # The estimate that nothing has been added to yet.
        self._unchanged: Estimate | None = None
        # From one sample nothing is gained.
        if start is not None and start.n_samples > known_mean:
            self._contrasted = start.error_sample is not None
            self._unchanged = start
            if start.sums is None:
                self._sums.go_on(_sums_of(start), start.n_samples)
            else:
                self._sums.restore(start.sums)

    @property
    def count(self) -> int:  # type: ignore[override]
        """Samples so far."""
        return self._sums.count

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in δ, (B, *image)."""
        self._sums.add(samples)
        self._unchanged = None

    def merge(self, other: SampleMoments) -> None:
        """Take in those of other samples, drawn in another process: the result is that of one run, to the bit."""
        self._sums.merge(other._sums)
        self._unchanged = None

    def sums(self) -> Mapping[str, Tensor]:
        """Themselves."""
        return self._sums.state()

    def _terms(self, samples: Tensor, indices: Sequence[int]) -> tuple[Tensor, ...]:
        z = samples.to(torch.complex128)
        power = z.real.square() + z.imag.square()
        sums = [power.sum(0), z.square().sum(0)]
        if not self.known_mean:
            sums.append(z.sum(0))
        if self._contrasted:
            even = indices[0] % 2
            sums.append(power[even::2].sum(0) - power[1 - even :: 2].sum(0))
        return tuple(sums)

    def estimate(self, interrupted: bool) -> Estimate:
        """Variance and pseudo-variance; NaN error from a single sample."""
        if self._unchanged is not None:
            return dataclasses.replace(self._unchanged, interrupted=interrupted, sums=None)
        n = self.count
        power, pseudo, *more = self._sums.totals()
        square, mean, nu = power, None, n
        if not self.known_mean:
            mean = more[0] / n
            square = square - n * mean.abs().square()
            pseudo = pseudo - n * mean.square()
            nu = n - 1
        error_sample = None
        if self._contrasted and n > 1:
            odd, scale = _contrast(n, nu)
            error_sample = (more[-1] - odd * power / n) / scale
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
            mean_error=None if mean is None else (variance / n).sqrt(),
            error_sample=error_sample,
        )


def _sums_of(start: Estimate) -> list[Tensor]:
    """Σ|δ|², Σδ², Σδ where the mean is not known, and Σ±|δ|² where it is, of an estimate from Gaussian samples."""
    n, mean = start.n_samples, start.mean
    nu = n if mean is None else n - 1
    power, pseudo = nu * start.variance, nu * start.pseudo_variance
    sums = [power, pseudo]
    if mean is not None:
        power = power + n * mean.abs().square()
        sums = [power, pseudo + n * mean.square(), n * mean]
    if start.error_sample is not None:
        odd, scale = _contrast(n, nu)
        sums.append(scale * start.error_sample + odd * power / n)
    return sums


class Continued(Accumulator):
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
    def count(self) -> int:  # type: ignore[override]
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
