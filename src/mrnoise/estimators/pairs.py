"""The nonlinear truth with first-order noise as control variate: variance and noise-induced bias of replicas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.estimators.batching.stream import MOST_SAMPLES, Plan, batches, check_finite, stream
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import Accumulator
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.protocol import Image, Method
from mrnoise.estimators.replicas import replica_noise
from mrnoise.estimators.sampler import sampler
from mrnoise.estimators.sampling_error import EmpiricalError

# Pairs from which the number of additional products, their weight and a first guess of the bias are taken.
PILOT = 8
MOST_ADDITIONAL = 8


def nonlinear(operator: NoiseOperator, plan: Plan, *, key: Key = Key()) -> Estimate:
    """Variance E|d - E d|² and bias E d of d = g(y+n) - g(y), with Jn as control variate.

    A sample is a pair (d, Jn) of the same n and c further products Jv:

        V = mean[ |d|² - w (|Jn|² - mean_c |Jv|²) ] - |E d|²,   E d = mean[ d - Jn ],

    and the same with squares instead of |·|² for the pseudo-variance. What is subtracted has mean zero whatever
    J is, so a poor derivative costs precision and never correctness. In d = Jn + e with e independent of Jn the
    best weight is w = c/(c+1); it is lowered where Jn exceeds d.

    With the correlation ρ of |d|² and |Jn|² the relative variance of V falls to 1 - ρ²c/(c+1) of that of as many
    replicas, and that of the bias to var(d - Jn) / var(d). c is √(ρ²/(1-ρ²)) - 1 from the first 8 pairs, which
    minimises variance times cost where a product costs as much as a reconstruction (Giles 2015,
    doi:10.1017/S096249291500001X). At equal cost the bias is better known than by `monte_carlo`, the variance
    is not: E|Jn|² has to be sampled too.

    Parameters
    ----------
    operator
        Its `replicas` and its `apply`.
    plan
        Stopping rule; ``n_samples`` counts pairs.
    key
        Entropy of the noise.

    Returns
    -------
    Estimate
        With ``mean``, the bias, and its error. Standard errors come from the spread of the samples: δx need not
        be Gaussian.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import RootSumOfSquares
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(RootSumOfSquares(), simulate((16, 12), 4, snr=5.0))
    >>> estimate = nonlinear(operator, Plan(n_samples=100))
    >>> bias, error = estimate.mean[8, 6].real, estimate.mean_error[8, 6]
    >>> print(f"{bias:.3f} ± {error:.3f}, image {operator.value[8, 6]:.3f}")
    0.062 ± 0.004, image 0.243
    """
    draw = replica_noise(operator, key)
    draw_additional = sampler(
        operator.noise_shape, operator.noise_dtype, key=key.of("additional"), device=operator.device
    )

    def pair(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        return operator.replicas(noise), operator.apply(noise)[:, None]

    limit = plan.n_samples if plan.n_samples is not None else MOST_SAMPLES
    pilot = list(batches(pair, range(min(PILOT, limit)), plan.batch_size, operator))
    replicas, products = (torch.cat(parts) for parts in zip(*pilot, strict=True))
    check_finite(replicas)
    moments = _PairMoments(replicas, products, plan.region)

    def sample(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        replicas, products = pair(indices)
        c = moments.additional
        further = [operator.apply(draw_additional([c * k + j for k in indices]))[:, None] for j in range(c)]
        return replicas, torch.cat([products, *further], dim=1)

    return stream(sample, moments, plan, operator, smallest=PILOT)


class _PairMoments(Accumulator):
    """Running sums of pairs; begun with those of the pilot, which decide how the others are used."""

    def __init__(self, replicas: Tensor, products: Tensor, region: Tensor | None) -> None:
        d, linear = replicas.to(torch.complex128), products[:, 0].to(torch.complex128)
        power, linear_power = d.abs().square(), linear.abs().square()
        self.additional = _additional(power, linear_power, region)
        exaggeration = (linear_power.mean(0) / power.mean(0).clamp_min(1e-300)).clamp_min(1)
        self._weight = self.additional / (self.additional + 1) / exaggeration
        # Any centre gives the same variance. One near E d keeps the bias out of its standard error.
        self._centre = (d - linear / exaggeration.sqrt()).mean(0)
        self.count = self._n_products = 0
        self._sums: list[Tensor | float] = [0.0] * 9
        self.add(replicas, products)

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in d, (B, *image), with Jn and the additional products, (B, 1 + c, *image)."""
        d, linear = samples.to(torch.complex128) - self._centre, probes.to(torch.complex128)
        v, p = d.abs().square(), d.square()
        if linear.shape[1] > 1:
            own, further = linear[:, 0], linear[:, 1:]
            v = v - self._weight * (own.abs().square() - further.abs().square().mean(1))
            p = p - self._weight * (own.square() - further.square().mean(1))
        e = d - linear[:, 0]
        terms = (*EmpiricalError.products(v, p), d, e, e.abs().square())
        self._sums = [total + term.sum(0) for total, term in zip(self._sums, terms, strict=True)]
        self.count += len(d)
        self._n_products += len(d) * (1 + linear.shape[1])

    def estimate(self, interrupted: bool) -> Estimate:
        """Centred variance and pseudo-variance, the bias, and their errors from the spread of the samples."""
        n = self.count
        *means, d, e, ee = (torch.as_tensor(total) / n for total in self._sums)
        v, p = means[:2]
        # One pair has no spread to judge by.
        nu = n - 1 if n > 1 else math.nan
        return Estimate(
            variance=((v - d.abs().square()) * (n / nu)).clamp_min(0),
            pseudo_variance=(p - d.square()) * (n / nu),
            error=EmpiricalError.of_means(means, n),
            method="nonlinear",
            n_samples=n,
            n_products=self._n_products,
            interrupted=interrupted,
            mean=self._centre + e,
            mean_error=((ee - e.abs().square()).clamp_min(0) / nu).sqrt(),
        )


def _additional(power: Tensor, linear_power: Tensor, region: Tensor | None) -> int:
    """C = √(ρ²/(1-ρ²)) - 1 with the correlation ρ of |d|² and |Jn|² pooled over the object."""
    if region is not None and region.any():
        power, linear_power = power[:, region], linear_power[:, region]
    # Every voxel counts alike, whatever its noise.
    scale = linear_power.mean(0)
    a, b = (torch.where(scale > 0, (x - x.mean(0)) / scale, 0) for x in (power, linear_power))
    product, norm = float((a * b).sum()), float((a.square().sum() * b.square().sum()).sqrt())
    rho_squared = (product / norm) ** 2 if norm > 0 and product > 0 else 0.0
    best = math.sqrt(rho_squared / max(1 - rho_squared, 1e-12))
    return min(max(round(best) - 1, 0), MOST_ADDITIONAL)


@dataclass(frozen=True)
class Nonlinear(Method):
    """Replicas with first-order noise as control variate, and the noise-induced bias, see `nonlinear`.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import RootSumOfSquares
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(RootSumOfSquares(), simulate((16, 12), 4, snr=5.0), method=Nonlinear(), n_samples=100)
    >>> nm.method, bool(nm.bias.real.mean() > 0)
    ('nonlinear', True)
    """

    first_order = False

    @property
    def name(self) -> str:
        """``"nonlinear"``."""
        return "nonlinear"

    @property
    def distribution_name(self) -> str:
        """Noise is Gaussian."""
        return "gaussian"

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """By pairs of replica and product."""
        return nonlinear(image.operator, plan, key=key)
