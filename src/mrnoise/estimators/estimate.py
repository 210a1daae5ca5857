"""What every estimator returns: the noise of each voxel and how well it is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.estimators.sampling_error import (
    EmpiricalError,
    SamplingError,
    component_variance,
)
from mrnoise.tensor_record import TensorRecord


@dataclass(frozen=True, eq=False)
class Estimate(TensorRecord):
    """Voxel-wise noise with its sampling error and its cost.

    Parameters
    ----------
    variance
        E|δx|², total complex variance, image-shaped, float64.
    pseudo_variance
        E δx², complex; zero for proper (circular) noise.
    error
        Their sampling error.
    method
        Name of the estimator.
    n_samples
        Probes, replicas or rows that were averaged.
    n_products
        Evaluations of the reconstruction, its jvp or its vjp that were averaged; the preflight's are not counted.
    interrupted
        True where the run was stopped before it reached its target.
    mean
        Mean of δx over replicas, the noise-induced bias; ``None`` for linearised estimators.
    certified_error
        What the run stopped on, see `mrnoise.estimators.RegionError`: one number an image, ``None`` without a
        target.
    mean_error
        Its standard error, √E|error|² of the complex value.
    error_sample
        One realisation of the sampling error of ``variance``, from samples of alternating sign: mean 0, the covariance
        of ``variance`` between any two voxels, uncorrelated with it; of replicas with the bias b, larger by about
        1 + 2|b|²/V without control variates. ``None`` where the estimator has no such samples.
    sums
        Running sums by name, of a run that was interrupted: what goes on from them ends with the bits of one run. Of
        several images those of the last that was reached.

    Examples
    --------
    >>> from mrnoise.estimators import Plan, sketch
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import RootSumOfSquares, Sense
    >>> from mrnoise.simulation import simulate
    >>> for method in (Sense(), RootSumOfSquares()):
    ...     (operator,) = linearize(method, simulate((16, 12), 4))
    ...     estimate = sketch(operator, Plan(n_samples=100))
    ...     error = (estimate.variance_error / estimate.variance).mean()
    ...     print(f"impropriety {estimate.impropriety.mean():.2f}, error of σ² {error:.2f}")
    impropriety 0.03, error of σ² 0.10
    impropriety 1.00, error of σ² 0.14
    """

    variance: Tensor
    pseudo_variance: Tensor
    error: SamplingError
    method: str
    n_samples: int
    n_products: int
    interrupted: bool = False
    mean: Tensor | None = None
    certified_error: Tensor | None = None
    mean_error: Tensor | None = None
    error_sample: Tensor | None = None
    sums: Mapping[str, Tensor] | None = None

    def scaled(self, alpha: float) -> Estimate:
        """To first order that of noise ``alpha`` times as strong: variances times α², relative errors as before."""
        return dataclasses.replace(
            self,
            variance=self.variance * alpha**2,
            pseudo_variance=self.pseudo_variance * alpha**2,
            error=self.error.scaled(alpha),
            error_sample=None if self.error_sample is None else self.error_sample * alpha**2,
            sums=None,
        )

    @property
    def variance_error(self) -> Tensor:
        """Standard error of ``variance``; NaN where one sample cannot tell."""
        return self.error.total(self.variance, self.pseudo_variance)

    @property
    def impropriety(self) -> Tensor:
        """κ = |E δx²| / E|δx|², sampling bias removed where the estimator allows it."""
        return self.error.impropriety_squared(self.variance, self.pseudo_variance).sqrt()

    def component(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Variance of the noise along the unit phase ``direction`` and its standard error."""
        value = component_variance(self.variance, self.pseudo_variance, direction)
        return value, self.error.component(self.variance, self.pseudo_variance, direction)

    def second_moments(self) -> EmpiricalError:
        """The error by its second moments."""
        return self.error.by_moments(self.variance, self.pseudo_variance)

    def effective_degrees_of_freedom(self, direction: Tensor | None = None, level: float = 0.95) -> Tensor:
        """ν of the interval ν V̂ / χ²_ν of ``variance``, or of the variance along ``direction``."""
        return self.error.effective_degrees_of_freedom(self.variance, self.pseudo_variance, direction, level)


def pooled(first: Estimate, second: Estimate) -> Estimate:
    """Mean of two independent estimates from samples, weighted by their numbers."""
    n = first.n_samples + second.n_samples
    a, b = first.n_samples / n, second.n_samples / n
    of_first, of_second = first.second_moments(), second.second_moments()
    error = of_first.times(a**2).plus(of_second.times(b**2))
    freedom = torch.full_like(error.degrees_of_freedom, n if first.mean is None else n - 1)
    error = dataclasses.replace(error, degrees_of_freedom=freedom)
    mean = mean_error = error_sample = None
    if first.error_sample is not None and second.error_sample is not None:
        error_sample = a * first.error_sample + b * second.error_sample
    if first.mean is not None and second.mean is not None:
        mean = a * first.mean + b * second.mean
    if first.mean_error is not None and second.mean_error is not None:
        mean_error = torch.hypot(a * first.mean_error, b * second.mean_error)
    return dataclasses.replace(
        second,
        variance=a * first.variance + b * second.variance,
        pseudo_variance=a * first.pseudo_variance + b * second.pseudo_variance,
        error=error,
        n_samples=n,
        n_products=first.n_products + second.n_products,
        mean=mean,
        mean_error=mean_error,
        error_sample=error_sample,
    )


def unknown(like: Estimate) -> Estimate:
    """An estimate shaped as ``like`` of which nothing is known: NaN, no samples."""
    nothing = like.map(lambda tensor: torch.full_like(tensor, torch.nan))
    return dataclasses.replace(
        nothing, error=like.error.unknown(like.variance), n_samples=0, n_products=0, interrupted=True
    )


def stack(estimates: Sequence[Estimate], batch_shape: Sequence[int]) -> Estimate:
    """Estimates of independent images joined along new leading axes."""
    if len({type(e.error) for e in estimates}) > 1:
        # Control variates are fitted after some samples only.
        estimates = [dataclasses.replace(e, error=e.second_moments()) for e in estimates]
    # A number of samples, one for each image, has to broadcast on them.
    ndim = estimates[0].variance.ndim
    joined = Estimate.stack([dataclasses.replace(e, error=e.error.of_image(ndim)) for e in estimates], batch_shape)
    return dataclasses.replace(
        joined,
        n_samples=min(e.n_samples for e in estimates),
        n_products=sum(e.n_products for e in estimates),
        interrupted=any(e.interrupted for e in estimates),
        sums=next((e.sums for e in estimates if e.sums is not None), None),
    )


def unstack(estimate: Estimate, batch_ndim: int) -> list[Estimate]:
    """The estimates that `stack` joined; how many independent samples each has its error knows."""
    if batch_ndim == 0:
        return [estimate]
    count = math.prod(estimate.variance.shape[:batch_ndim])
    parts = [_with_count(part) for part in estimate.unstack(count, batch_ndim)]
    samples = sum(part.n_samples for part in parts)
    parts = [
        dataclasses.replace(part, n_products=round(estimate.n_products * part.n_samples / max(1, samples)))
        for part in parts
    ]
    last = max((i for i, part in enumerate(parts) if part.n_samples), default=0)
    if estimate.sums is not None and int(estimate.sums["count"][0]) == parts[last].n_samples:
        parts[last] = dataclasses.replace(parts[last], sums=estimate.sums)
    return parts


def _with_count(part: Estimate) -> Estimate:
    """With the number of samples that the error of one image knows; of other kinds at least one, if it was reached."""
    if not part.error.continues:
        n = 0 if bool(part.variance.isnan().all()) else max(1, part.n_samples)
        return dataclasses.replace(part, n_samples=n, sums=None)
    n = int(part.error.freedom())
    n = n if n == 0 or part.mean is None else n + 1
    return dataclasses.replace(part, error=part.error.of_one(), n_samples=n, sums=None)
