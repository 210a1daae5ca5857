"""What every estimator returns: the noise of each voxel and how well it is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy import stats
from torch import Tensor

# Above this level an interval does not rest on an impropriety estimated from the same samples.
MOST_TRUSTED_LEVEL = 0.99


class SamplingError(Protocol):
    """Standard error of the estimated variances, per voxel."""

    def total(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """Standard error of E|δx|²."""
        ...

    def component(self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
        """Standard error of the variance along the unit phase ``direction``."""
        ...

    def effective_degrees_of_freedom(
        self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor | None, level: float
    ) -> Tensor:
        """ν of the interval ν V̂ / χ²_ν: of E|δx|², or of the variance along ``direction``; infinite where exact."""
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

    def effective_degrees_of_freedom(
        self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor | None, level: float
    ) -> Tensor:
        """ν = S along one direction, which is exact, and 2S / (1+κ̂²) for the total of both.

        S V̂ is a sum of two χ²_S weighted with V (1±κ)/2; ν matches its first two moments (Satterthwaite 1946,
        doi:10.2307/3002019). κ̂ = |P̂| / V̂ keeps its sampling bias upwards, which makes up for the uncertainty of
        κ: without it 95 % intervals from few samples cover down to 92 %. Above `MOST_TRUSTED_LEVEL` κ = 1, which
        holds whatever the impropriety: among weights of the same sum, one alone has the heaviest tails
        (Roosta-Khorasani and Székely, arXiv:1601.04731).
        """
        nu = torch.where(self.degrees_of_freedom > 0, self.degrees_of_freedom, torch.nan).to(variance)
        if direction is not None or level > MOST_TRUSTED_LEVEL:
            return nu.expand(variance.shape)
        tiny = torch.finfo(variance.dtype).tiny
        return 2 * nu / (1 + (pseudo_variance.abs() / variance.clamp_min(tiny)).square().clamp_max(1))

    def by_moments(self, variance: Tensor, pseudo_variance: Tensor) -> MomentError:
        """The same by its second moments, from Isserlis' theorem."""
        v, p, nu = variance, pseudo_variance, self.degrees_of_freedom.to(variance)
        nu = torch.where(nu > 0, nu, torch.nan)
        moments = (v.square() + p.abs().square(), 2 * v * p, 2 * v.square(), 2 * p.square())
        total, cross, pseudo_abs, pseudo_square = (moment / nu for moment in moments)
        return MomentError(total, cross, pseudo_abs, pseudo_square, self.degrees_of_freedom)

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

    The first four are the estimated variances and covariances of the *means*: var V, cov(V, P), E|P-EP|²,
    E(P-EP)². ``degrees_of_freedom``, one less than the number of samples, is theirs.
    """

    variance: Tensor
    cross: Tensor
    pseudo_abs: Tensor
    pseudo_square: Tensor
    degrees_of_freedom: Tensor

    @classmethod
    def of_means(cls, means: Sequence[Tensor], n: int) -> EmpiricalError:
        """From the means of `products` over n samples; NaN where one sample has no spread to judge by."""
        v, p, vv, vp, pa, pp = means
        nu = n - 1 if n > 1 else math.nan
        return cls(
            (vv - v.square()) / nu,
            (vp - v * p) / nu,
            (pa - p.abs().square()) / nu,
            (pp - p.square()) / nu,
            torch.tensor(float(n - 1)),
        )

    @staticmethod
    def products(v: Tensor, p: Tensor) -> tuple[Tensor, ...]:
        """V, P, V², VP, |P|² and P² of samples."""
        return v, p, v.square(), v * p, p.abs().square(), p.square()

    def times(self, factor: float) -> EmpiricalError:
        """That of √factor times the estimate."""
        return dataclasses.replace(
            self,
            variance=self.variance * factor,
            cross=self.cross * factor,
            pseudo_abs=self.pseudo_abs * factor,
            pseudo_square=self.pseudo_square * factor,
        )

    def plus(self, other: EmpiricalError) -> EmpiricalError:
        """That of the sum with an independent estimate; the degrees of freedom stay, as if its error were small."""
        return dataclasses.replace(
            self,
            variance=self.variance + other.variance,
            cross=self.cross + other.cross,
            pseudo_abs=self.pseudo_abs + other.pseudo_abs,
            pseudo_square=self.pseudo_square + other.pseudo_square,
        )

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

    @property
    def freedom_of_error(self) -> Tensor:
        """Degrees of freedom of the standard error."""
        return self.degrees_of_freedom

    def effective_degrees_of_freedom(
        self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor | None, level: float
    ) -> Tensor:
        """ν = 2 (V̂ z / s.e. t)²: a χ² as wide as the Student interval with the same standard error.

        z and t are the quantiles of the normal distribution and of Student's with the degrees of freedom of the
        standard error. Unlike V̂ ± t s.e., the interval is never negative.
        """
        if direction is None:
            value, error = variance, self.total(variance, pseudo_variance)
        else:
            value = component_variance(variance, pseudo_variance, direction)
            error = self.component(variance, pseudo_variance, direction)
        upper = 0.5 + 0.5 * level
        # Without a degree of freedom Student's quantile is NaN, and ν with it.
        student = torch.as_tensor(stats.t.ppf(upper, self.freedom_of_error.cpu())).to(value)
        ratio = float(stats.norm.ppf(upper)) / student
        return torch.where(error == 0, torch.inf, 2 * (ratio * value / error).square())


@dataclass(frozen=True)
class MomentError(EmpiricalError):
    """The same where samples are Gaussian and the second moments follow from theirs, by Isserlis' theorem."""

    @property
    def freedom_of_error(self) -> Tensor:
        """Infinite: the standard error rises and falls with V̂, their ratio is known better than Student's law has it.

        95 % intervals with control variates cover 95 to 97 % from 32 samples on; with their number up to 98 %.
        """
        return torch.where(self.degrees_of_freedom > 0, torch.inf, 0.0)


@dataclass(frozen=True)
class NoError:
    """An exact result."""

    def total(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(variance)

    def component(self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(variance)

    def effective_degrees_of_freedom(
        self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor | None, level: float
    ) -> Tensor:
        """Infinite."""
        return torch.full_like(variance, torch.inf)


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
    certified_error
        What the run stopped on, see `mrnoise.estimators.RegionError`: one number an image, ``None`` without a
        target.
    mean_error
        Its standard error, √E|error|² of the complex value.
    error_sample
        One realisation of the sampling error of ``variance``, from samples of alternating sign: mean 0, the covariance
        of ``variance`` between any two voxels, uncorrelated with it; of replicas with the bias b, larger by about
        1 + 2|b|²/V. ``None`` where the estimator has no such samples.
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
            error_sample=None if self.error_sample is None else self.error_sample.cpu(),
        )

    def scaled(self, alpha: float) -> Estimate:
        """To first order that of noise ``alpha`` times as strong: variances times α², relative errors as before."""
        return dataclasses.replace(
            self,
            variance=self.variance * alpha**2,
            pseudo_variance=self.pseudo_variance * alpha**2,
            error=self.error.times(alpha**4) if isinstance(self.error, EmpiricalError) else self.error,
            error_sample=None if self.error_sample is None else self.error_sample * alpha**2,
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

    def second_moments(self) -> EmpiricalError:
        """The error by its second moments, of estimates from samples."""
        if isinstance(self.error, GaussianError):
            return self.error.by_moments(self.variance, self.pseudo_variance)
        assert isinstance(self.error, EmpiricalError)
        return self.error

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
    mean = mean_error = None
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
    )


def unknown(like: Estimate) -> Estimate:
    """An estimate shaped as ``like`` of which nothing is known: NaN, no samples."""
    nan = torch.full_like(like.variance, torch.nan)
    error = like.error
    if isinstance(error, GaussianError):
        error = GaussianError(torch.zeros_like(error.degrees_of_freedom))
    elif isinstance(error, EmpiricalError):
        error = type(error)(nan, nan, nan, nan, torch.zeros_like(error.degrees_of_freedom))
    return Estimate(
        variance=nan,
        pseudo_variance=torch.full_like(like.pseudo_variance, torch.nan),
        error=error,
        method=like.method,
        n_samples=0,
        n_products=0,
        interrupted=True,
        mean=None if like.mean is None else torch.full_like(like.mean, torch.nan),
        certified_error=None if like.certified_error is None else torch.full_like(like.certified_error, torch.nan),
        mean_error=None if like.mean_error is None else torch.full_like(like.mean_error, torch.nan),
        error_sample=None if like.error_sample is None else nan,
    )


def stack(estimates: Sequence[Estimate], batch_shape: Sequence[int]) -> Estimate:
    """Estimates of independent images joined along new leading axes."""
    if len({type(e.error) for e in estimates}) > 1:
        # Control variates are fitted after some samples only.
        estimates = [dataclasses.replace(e, error=e.second_moments()) for e in estimates]
    first = estimates[0]

    def join(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).reshape(*batch_shape, *parts[0].shape)

    error = first.error
    if isinstance(error, GaussianError | EmpiricalError):
        # A number of samples, one for each image, has to broadcast on them.
        fields = {f.name: [getattr(e.error, f.name) for e in estimates] for f in dataclasses.fields(error)}
        ones = [1] * first.variance.ndim
        values: dict[str, Any] = {
            k: join([v if v.ndim else v.reshape(ones) for v in parts]) for k, parts in fields.items()
        }
        error = dataclasses.replace(error, **values)

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
        certified_error=join_known([e.certified_error for e in estimates]),
        error_sample=join_known([e.error_sample for e in estimates]),
    )


def unstack(estimate: Estimate, batch_ndim: int) -> list[Estimate]:
    """The estimates that `stack` joined, of independent samples: their errors know how many."""
    if batch_ndim == 0:
        return [estimate]
    error = estimate.error
    if not isinstance(error, GaussianError | EmpiricalError):
        raise TypeError("only estimates from independent samples can be taken apart")

    def split(values: Tensor) -> list[Tensor]:
        return list(values.flatten(0, batch_ndim - 1))

    names = ("variance", "pseudo_variance", "mean", "mean_error", "certified_error", "error_sample")
    fields = {name: split(getattr(estimate, name)) for name in names if getattr(estimate, name) is not None}
    of_error = {f.name: split(getattr(error, f.name)) for f in dataclasses.fields(error)}
    of_error["degrees_of_freedom"] = [freedom.reshape(()) for freedom in of_error["degrees_of_freedom"]]
    parts = []
    for i, freedom in enumerate(of_error["degrees_of_freedom"]):
        its_error: dict[str, Any] = {name: values[i] for name, values in of_error.items()}
        its: dict[str, Any] = {name: values[i] for name, values in fields.items()}
        n = int(freedom)
        its["n_samples"] = n if n == 0 or estimate.mean is None else n + 1
        parts.append(dataclasses.replace(estimate, error=dataclasses.replace(error, **its_error), **its))
    return parts
