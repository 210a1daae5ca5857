"""What every estimator returns: the noise of each voxel and how well it is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class SamplingError(Protocol):
    """Standard error of the estimated variances, per voxel."""

    def total(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """Standard error of E|δx|²."""
        ...

    def component(self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
        """Standard error of the variance along the unit phase ``direction``."""
        ...


@dataclass(frozen=True)
class GaussianError:
    """Error of a mean of |δx|² over samples whose δx is complex Gaussian, possibly improper.

    var(|δx|²) = (1 + κ²) (E|δx|²)² with the impropriety κ = |E δx²| / E|δx|²; along one direction,
    var = 2 (E δ²)². Random-phase probes have at most this variance, and reach it when many k-space samples
    contribute to a voxel.

    ``degrees_of_freedom`` is the number of independent complex samples, shaped to broadcast on the image.
    """

    degrees_of_freedom: Tensor

    def total(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """Standard error of E|δx|²."""
        nu = self.degrees_of_freedom.to(variance)
        kappa2 = self.impropriety_squared(variance, pseudo_variance)
        return variance * torch.where(nu > 0, (1 + kappa2) / nu, torch.nan).sqrt()

    def component(self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
        """Standard error of the variance along ``direction``."""
        nu = self.degrees_of_freedom.to(variance)
        value = component_variance(variance, pseudo_variance, direction)
        return value * torch.where(nu > 0, 2 / nu, torch.nan).sqrt()

    def impropriety_squared(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """κ², with the part removed that sampling alone puts into |mean of δx²|²."""
        nu = self.degrees_of_freedom.to(variance)
        squared = variance.square().clamp_min(torch.finfo(variance.dtype).tiny)
        raw = pseudo_variance.abs().square() / squared
        # E|P̂|² = |P|² + E|δx|⁴ - |P|²)/ν and E V̂² = V² (1 + (1+κ²)/ν) with E|δx|⁴ = V² (2 + κ²).
        return ((nu * raw + raw - 2) / (nu - raw).clamp_min(0.5)).clamp(0, 1)


@dataclass(frozen=True)
class EmpiricalError:
    """Error of a mean over samples (V, P) of any distribution, from their second moments.

    The tensors are the estimated variances and covariances of the *means*: var V, cov(V, P), E|P-EP|²,
    E(P-EP)².
    """

    variance: Tensor
    cross: Tensor
    pseudo_abs: Tensor
    pseudo_square: Tensor

    def total(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """Standard error of E|δx|²."""
        return self.variance.clamp_min(0).sqrt()

    def component(self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
        """Standard error of ½ (V + Re(P ū²))."""
        rotation = direction.conj().square()
        spread = (
            self.variance
            + 2 * (self.cross * rotation).real
            + 0.5 * (self.pseudo_abs + (self.pseudo_square * rotation.square()).real)
        )
        return 0.5 * spread.clamp_min(0).sqrt()


@dataclass(frozen=True)
class NoError:
    """An exact result."""

    def total(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(variance)

    def component(self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(variance)


def component_variance(variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
    """Variance of Re(ū δx), the noise along the unit phase u: ½ (E|δx|² + Re(ū² E δx²))."""
    return (0.5 * (variance + (pseudo_variance * direction.conj().square()).real)).clamp_min(0)


@dataclass(frozen=True, eq=False)
class Estimate:
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
    mean_error
        Its standard error, √E|error|² of the complex value.
    """

    variance: Tensor
    pseudo_variance: Tensor
    error: SamplingError
    method: str
    n_samples: int
    n_products: int
    interrupted: bool = False
    mean: Tensor | None = None
    mean_error: Tensor | None = None

    def cpu(self) -> Estimate:
        """The same in host memory, where results are kept."""
        error = self.error
        if isinstance(error, GaussianError | EmpiricalError):
            values = {f.name: getattr(error, f.name).cpu() for f in dataclasses.fields(error)}
            error = dataclasses.replace(error, **values)
        return dataclasses.replace(
            self,
            variance=self.variance.cpu(),
            pseudo_variance=self.pseudo_variance.cpu(),
            error=error,
            mean=None if self.mean is None else self.mean.cpu(),
            mean_error=None if self.mean_error is None else self.mean_error.cpu(),
        )

    @property
    def variance_error(self) -> Tensor:
        """Standard error of ``variance``; NaN where one sample cannot tell."""
        return self.error.total(self.variance, self.pseudo_variance)

    @property
    def impropriety(self) -> Tensor:
        """κ = |E δx²| / E|δx|², sampling bias removed where the estimator allows it."""
        if isinstance(self.error, GaussianError):
            return self.error.impropriety_squared(self.variance, self.pseudo_variance).sqrt()
        tiny = torch.finfo(self.variance.dtype).tiny
        return (self.pseudo_variance.abs() / self.variance.clamp_min(tiny)).clamp(0, 1)

    def component(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Variance of the noise along the unit phase ``direction`` and its standard error."""
        value = component_variance(self.variance, self.pseudo_variance, direction)
        return value, self.error.component(self.variance, self.pseudo_variance, direction)


def unknown(like: Estimate) -> Estimate:
    """An estimate shaped as ``like`` of which nothing is known: NaN, no samples."""
    nan = torch.full_like(like.variance, torch.nan)
    error = like.error
    if isinstance(error, GaussianError):
        error = GaussianError(torch.zeros_like(error.degrees_of_freedom))
    elif isinstance(error, EmpiricalError):
        error = EmpiricalError(nan, nan, nan, nan)
    return Estimate(
        variance=nan,
        pseudo_variance=torch.full_like(like.pseudo_variance, torch.nan),
        error=error,
        method=like.method,
        n_samples=0,
        n_products=0,
        interrupted=True,
        mean=None if like.mean is None else torch.full_like(like.mean, torch.nan),
        mean_error=None if like.mean_error is None else torch.full_like(like.mean_error, torch.nan),
    )


def stack(estimates: Sequence[Estimate], batch_shape: Sequence[int]) -> Estimate:
    """Estimates of independent images joined along new leading axes."""
    first = estimates[0]

    def join(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).reshape(*batch_shape, *parts[0].shape)

    errors = [e.error for e in estimates]
    error: SamplingError
    if all(isinstance(e, GaussianError) for e in errors):
        dims = first.variance.ndim
        dof = [e.degrees_of_freedom.reshape([1] * dims) for e in errors if isinstance(e, GaussianError)]
        error = GaussianError(join(dof))
    elif all(isinstance(e, EmpiricalError) for e in errors):
        kept = [e for e in errors if isinstance(e, EmpiricalError)]
        error = EmpiricalError(
            join([e.variance for e in kept]),
            join([e.cross for e in kept]),
            join([e.pseudo_abs for e in kept]),
            join([e.pseudo_square for e in kept]),
        )
    else:
        error = NoError()

    def join_known(parts: Sequence[Tensor | None]) -> Tensor | None:
        known = [part for part in parts if part is not None]
        return join(known) if len(known) == len(parts) else None

    return Estimate(
        variance=join([e.variance for e in estimates]),
        pseudo_variance=join([e.pseudo_variance for e in estimates]),
        error=error,
        method=first.method,
        n_samples=min(e.n_samples for e in estimates),
        n_products=sum(e.n_products for e in estimates),
        interrupted=any(e.interrupted for e in estimates),
        mean=join_known([e.mean for e in estimates]),
        mean_error=join_known([e.mean_error for e in estimates]),
    )


def unstack(estimate: Estimate, batch_ndim: int) -> list[Estimate]:
    """The estimates that `stack` joined; for Gaussian errors, which know their own number of samples."""
    if batch_ndim == 0:
        return [estimate]
    error = estimate.error
    if not isinstance(error, GaussianError):
        raise TypeError("only estimates from independent samples can be taken apart")

    def split(values: Tensor) -> list[Tensor]:
        return list(values.flatten(0, batch_ndim - 1))

    counts = split(error.degrees_of_freedom)
    means, errors = (
        [None] * len(counts) if values is None else split(values) for values in (estimate.mean, estimate.mean_error)
    )
    parts = zip(split(estimate.variance), split(estimate.pseudo_variance), counts, means, errors, strict=True)
    return [
        dataclasses.replace(
            estimate,
            variance=variance,
            pseudo_variance=pseudo,
            error=GaussianError(dof.reshape(())),
            mean=mean,
            mean_error=mean_error,
        )
        for variance, pseudo, dof, mean, mean_error in parts
    ]
