"""How well an estimate from samples is known, voxel by voxel."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mrnoise.quantiles import normal, student
from mrnoise.tensor_record import TensorRecord

# Above this level an interval does not rest on an impropriety estimated from the same samples.
MOST_TRUSTED_LEVEL = 0.99


class SamplingError(TensorRecord, ABC):
    """Standard error of the estimated variances, per voxel; its tensors broadcast on the image."""

    simultaneous: bool = True
    """Whether intervals hold as far out in the tails as simultaneous ones need."""
    continues: bool = False
    """Whether more samples can be averaged with those that it describes."""

    @abstractmethod
    def total(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """Standard error of E|δx|²."""

    @abstractmethod
    def component(self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
        """Standard error of the variance along the unit phase ``direction``."""

    @abstractmethod
    def effective_degrees_of_freedom(
        self, variance: Tensor, pseudo_variance: Tensor, direction: Tensor | None, level: float
    ) -> Tensor:
        """ν of the interval ν V̂ / χ²_ν: of E|δx|², or of the variance along ``direction``; infinite where exact."""

    @abstractmethod
    def by_moments(self, variance: Tensor, pseudo_variance: Tensor) -> EmpiricalError:
        """The same by its second moments."""

    def impropriety_squared(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """κ², sampling bias removed where the kind of error allows it."""
        tiny = torch.finfo(variance.dtype).tiny
        return (pseudo_variance.abs() / variance.clamp_min(tiny)).clamp(0, 1).square()

    def scaled(self, alpha: float) -> Self:
        """That of the variance of noise ``alpha`` times as strong."""
        return self

    def unknown(self, like: Tensor) -> Self:
        """The same kind of which nothing is known, for a variance shaped as ``like``."""
        return self

    def freedom(self) -> Tensor:
        """Degrees of freedom of one image, a scalar: infinite without sampling."""
        return torch.tensor(torch.inf)

    def of_one(self) -> Self:
        """With that number as a scalar again, of an image that was one of several."""
        return self

    def of_image(self, ndim: int) -> Self:
        """With numbers as tensors that broadcast on an image of so many axes once it is one of several."""
        return self.map(lambda tensor: tensor if tensor.ndim else tensor.reshape([1] * ndim))


@dataclass(frozen=True)
class GaussianError(SamplingError):
    """Error of a mean of |δx|² over samples whose δx is complex Gaussian, possibly improper.

    var(|δx|²) = (1 + κ²) (E|δx|²)² with the impropriety κ = |E δx²| / E|δx|²; along one direction,
    var = 2 (E δ²)². Random-phase probes have at most this variance, and reach it when many k-space samples
    contribute to a voxel.

    ``degrees_of_freedom`` is the number of independent complex samples, shaped to broadcast on the image.

    Examples
    --------
    >>> error = GaussianError(torch.tensor(100.0))  # of 100 samples
    >>> variance, pseudo_variance = torch.tensor(4.0), torch.tensor(0j)
    >>> round(float(error.total(variance, pseudo_variance)), 3)
    0.4
    >>> round(float(error.component(variance, pseudo_variance, torch.tensor(1 + 0j))), 3)
    0.283
    """

    degrees_of_freedom: Tensor
    continues = True

    def freedom(self) -> Tensor:
        """That of its samples."""
        return self.degrees_of_freedom.reshape(())

    def of_one(self) -> Self:
        """With that number as a scalar."""
        return dataclasses.replace(self, degrees_of_freedom=self.freedom())

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

    def unknown(self, like: Tensor) -> GaussianError:
        """No samples."""
        return GaussianError(torch.zeros_like(self.degrees_of_freedom))

    def impropriety_squared(self, variance: Tensor, pseudo_variance: Tensor) -> Tensor:
        """κ², with the part removed that sampling alone puts into |mean of δx²|²."""
        nu = self.degrees_of_freedom.to(variance)
        squared = variance.square().clamp_min(torch.finfo(variance.dtype).tiny)
        raw = pseudo_variance.abs().square() / squared
        # E|P̂|² = |P|² + E|δx|⁴ - |P|²)/ν and E V̂² = V² (1 + (1+κ²)/ν) with E|δx|⁴ = V² (2 + κ²).
        return ((nu * raw + raw - 2) / (nu - raw).clamp_min(0.5)).clamp(0, 1)


@dataclass(frozen=True)
class EmpiricalError(SamplingError):
    """Error of a mean over samples (V, P) of any distribution, from their second moments.

    The first four are the estimated variances and covariances of the *means*: var V, cov(V, P), E|P-EP|²,
    E(P-EP)². ``degrees_of_freedom``, one less than the number of samples, is theirs.

    Examples
    --------
    >>> variance, pseudo_variance = torch.tensor([1.0, 3.0, 2.0, 2.0]), torch.zeros(4, dtype=torch.complex64)
    >>> moments = EmpiricalError.products(variance, pseudo_variance)
    >>> error = EmpiricalError.of_means([moment.mean(0) for moment in moments], n=4)
    >>> round(float(error.total(variance.mean(), pseudo_variance.mean())), 3)  # s / √4
    0.408
    """

    variance: Tensor
    cross: Tensor
    pseudo_abs: Tensor
    pseudo_square: Tensor
    degrees_of_freedom: Tensor
    simultaneous = False

    def freedom(self) -> Tensor:
        """That of its samples."""
        return self.degrees_of_freedom.reshape(())

    def of_one(self) -> Self:
        """With that number as a scalar."""
        return dataclasses.replace(self, degrees_of_freedom=self.freedom())

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

    def times(self, factor: float) -> Self:
        """That of √factor times the estimate."""
        return dataclasses.replace(
            self,
            variance=self.variance * factor,
            cross=self.cross * factor,
            pseudo_abs=self.pseudo_abs * factor,
            pseudo_square=self.pseudo_square * factor,
        )

    def plus(self, other: EmpiricalError) -> Self:
        """That of the sum with an independent estimate; the degrees of freedom stay, as if its error were small."""
        return dataclasses.replace(
            self,
            variance=self.variance + other.variance,
            cross=self.cross + other.cross,
            pseudo_abs=self.pseudo_abs + other.pseudo_abs,
            pseudo_square=self.pseudo_square + other.pseudo_square,
        )

    def by_moments(self, variance: Tensor, pseudo_variance: Tensor) -> EmpiricalError:
        """Itself."""
        return self

    def scaled(self, alpha: float) -> Self:
        """Second moments times α⁴."""
        return self.times(alpha**4)

    def unknown(self, like: Tensor) -> Self:
        """NaN, from no samples."""
        nan = torch.full_like(like, torch.nan)
        return type(self)(nan, nan, nan, nan, torch.zeros_like(self.degrees_of_freedom))

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

    def freedom_of_error(self, level: float) -> Tensor:
        """Degrees of freedom of the standard error, for an interval of this level."""
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
        quantile = torch.as_tensor(student(upper, self.freedom_of_error(level).cpu())).to(value)
        ratio = normal(upper) / quantile
        return torch.where(error == 0, torch.inf, 2 * (ratio * value / error).square())


@dataclass(frozen=True)
class MomentError(EmpiricalError):
    """The same where samples are Gaussian and the second moments follow from theirs, by Isserlis' theorem."""

    simultaneous = True
    continues = True

    def freedom_of_error(self, level: float) -> Tensor:
        """Infinite: the standard error rises and falls with V̂, their ratio is known better than Student's law has it.

        95 % intervals with control variates cover 95 to 97 % from 32 samples on; with their number up to 98 %. In the
        tails of simultaneous intervals, above `MOST_TRUSTED_LEVEL`, the error of the error counts: half the samples,
        as many as each of the two fits leaves to itself. Bands of 54 voxels then cover 94.5 to 100 % from 32 samples on
        (92.5 where nearly all is explained); with infinite freedom they cover down to 84 %.
        """
        known = torch.where(self.degrees_of_freedom > 0, torch.inf, 0.0)
        return 0.5 * self.degrees_of_freedom if level > MOST_TRUSTED_LEVEL else known


@dataclass(frozen=True)
class LeakageError(EmpiricalError):
    """The same of image-space probes of one colour of voxels at a time.

    Few draws tell it, hence Student's quantile with few degrees of freedom: far out in the tails, where leakage, a sum
    over many voxels, is nearly Gaussian, intervals are wider than they need be.
    """

    simultaneous = True


@dataclass(frozen=True)
class NoError(SamplingError):
    """An exact result.

    Examples
    --------
    >>> variance, pseudo_variance = torch.tensor([4.0, 9.0]), torch.zeros(2, dtype=torch.complex64)
    >>> NoError().total(variance, pseudo_variance)
    tensor([0., 0.])
    >>> NoError().effective_degrees_of_freedom(variance, pseudo_variance, None, 0.95)
    tensor([inf, inf])
    """

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

    def by_moments(self, variance: Tensor, pseudo_variance: Tensor) -> EmpiricalError:
        """All zero."""
        zero, pseudo = torch.zeros_like(variance), torch.zeros_like(pseudo_variance)
        return EmpiricalError(zero, pseudo, zero, pseudo, torch.tensor(math.inf, device=variance.device))


def component_variance(variance: Tensor, pseudo_variance: Tensor, direction: Tensor) -> Tensor:
    """Variance of Re(ū δx), the noise along the unit phase u: ½ (E|δx|² + Re(ū² E δx²))."""
    return (0.5 * (variance + (pseudo_variance * direction.conj().square()).real)).clamp_min(0)
