"""Products in half precision, and the few pairs with single precision that remove their bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.batching.stream import MOST_SAMPLES, Plan, batches
from mrnoise.estimators.certificate import object_of
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import Accumulator
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.replicas import replica_noise
from mrnoise.estimators.sampling_error import EmpiricalError

# Pairs to begin with, and the part of the error of σ that may come from them.
N_PAIRS, SHARE = 8, 0.35


@dataclass(frozen=True, eq=False)
class Correction:
    """E(|δ|² - |s|²) and E(δ² - s²) of products δ and their approximations s of the same noise.

    Parameters
    ----------
    variance, pseudo_variance
        The means over the pairs.
    error
        Of these means.
    n_pairs
        Pairs of δ and s.

    Examples
    --------
    >>> from mrnoise.estimators import exact, sketch
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> rough = operator.followed_by(lambda image: 0.9 * image)
    >>> plan, truth = Plan(n_samples=200), exact(operator).variance
    >>> for made_up_for in (None, correction(operator, rough, plan)):
    ...     found = sketch(rough, plan, correction=made_up_for).variance
    ...     print(round(float((found / truth).mean()), 2))
    0.81
    1.0
    """

    variance: Tensor
    pseudo_variance: Tensor
    error: EmpiricalError
    n_pairs: int


def correction(
    operator: NoiseOperator,
    approximate: NoiseOperator,
    plan: Plan,
    *,
    key: Key = Key(),
    start: tuple[Tensor, Tensor] | None = None,
) -> Correction:
    """Pairs until their part of the error of σ is small.

    Parameters
    ----------
    operator
        L, with ``apply`` for δ = L v.
    approximate
        Its cheap approximation, linear or not.
    plan
        The stopping rule of the sketch of ``approximate`` that is corrected.
    key
        Entropy of the noise, as for `linearity`.
    start
        δ and s of the first pairs with the same seed, (B, *image), where they are known already.

    Returns
    -------
    Correction
        To be added to the moments of the approximation.

    Examples
    --------
    >>> from mrnoise.estimators import exact
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> rough = operator.followed_by(lambda image: 0.9 * image)
    >>> found = correction(operator, rough, Plan(n_samples=200))
    >>> missing = found.variance / exact(operator).variance
    >>> round(float(missing.mean()), 2)  # 1 - 0.9²
    0.19
    """
    draw = replica_noise(operator, key)

    def pair(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        return operator.apply(noise), approximate.apply(noise)

    inside = object_of(operator, plan.region)
    sums = _Sums()
    if start is not None:
        sums.add(*start)
    while sums.count < N_PAIRS or sums.relative_error(inside) > SHARE * _goal(plan):
        for products, approximations in batches(
            pair, range(sums.count, sums.count + N_PAIRS), plan.batch_size, operator
        ):
            sums.add(products, approximations)
        if sums.count >= MOST_SAMPLES:
            break
    return sums.correction()


def pairs_needed(products: Tensor, approximations: Tensor, inside: Tensor, plan: Plan) -> tuple[float, float]:
    """From some pairs, (B, *image): how many it takes, and the part of the squared error of σ that they then make."""
    sums = _Sums()
    sums.add(products, approximations)
    relative = sums.relative_error(inside) / _goal(plan)
    n_pairs = max(float(N_PAIRS), sums.count * (relative / SHARE) ** 2)
    return n_pairs, relative**2 * sums.count / n_pairs


def _goal(plan: Plan) -> float:
    """Relative error of σ that a plan is after: its target, or that of its samples."""
    return plan.target_error or 0.5 / (plan.n_samples or MOST_SAMPLES) ** 0.5


class _Sums:
    """Running sums of D = |δ|² - |s|², Q = δ² - s², their products, and |δ|²."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: list[Tensor | float] = [0.0] * 7

    def add(self, products: Tensor, approximations: Tensor) -> None:
        """Take in δ and s, (B, *image)."""
        d, s = products.to(torch.complex128), approximations.to(torch.complex128)
        power = d.abs().square()
        v, p = power - s.abs().square(), d.square() - s.square()
        terms = (*EmpiricalError.products(v, p), power)
        self._sums = [total + term.sum(0) for total, term in zip(self._sums, terms, strict=True)]
        self.count += len(d)

    def relative_error(self, inside: Tensor) -> float:
        """Root mean square over the object of the error that the mean of D puts into σ, relative."""
        n, found = self.count, self.correction()
        error = found.error.total(found.variance, found.pseudo_variance)[inside]
        power = torch.as_tensor(self._sums[6])[inside] / n
        known = power > 0
        if not bool(known.any()):
            return 0.0
        # The inverse square of a mean of n is too large by n²/(n-1)(n-2), that of proper Gaussian noise.
        too_large = n**2 / ((n - 1) * (n - 2))
        return 0.5 * float((error[known] / power[known]).square().mean() / too_large) ** 0.5

    def correction(self) -> Correction:
        """Means and the second moments of their errors."""
        *means, _ = (torch.as_tensor(total) / self.count for total in self._sums)
        return Correction(means[0], means[1], EmpiricalError.of_means(means, self.count), self.count)


class CorrectedMoments(Accumulator):
    """Moments of approximate samples s, made those of the exact δ.

        V = E|s|² + E(|δ|² - |s|²),    P = E s² + E(δ² - s²),

    two means over independent noise, the first over many samples, the second over few pairs: unbiased whatever the
    approximation, and as good as it is close (multilevel Monte Carlo: Giles 2008, doi:10.1287/opre.1070.0496).

    Parameters
    ----------
    samples
        Takes in s.
    correction
        The second mean.
    """

    def __init__(self, samples: Accumulator, correction: Correction) -> None:
        self._samples, self._correction = samples, correction

    @property
    def count(self) -> int:  # type: ignore[override]
        """Approximate samples so far."""
        return self._samples.count

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in a batch of s."""
        self._samples.add(samples, probes)

    def sums(self) -> Mapping[str, Tensor] | None:
        """Those of the first mean."""
        return self._samples.sums()

    def estimate(self, interrupted: bool) -> Estimate:
        """The sum of both means; its error has the degrees of freedom of the first, which is most of it."""
        estimate, of_pairs = self._samples.estimate(interrupted), self._correction.error
        return dataclasses.replace(
            estimate,
            variance=(estimate.variance + self._correction.variance).clamp_min(0),
            pseudo_variance=estimate.pseudo_variance + self._correction.pseudo_variance,
            error=estimate.second_moments().plus(of_pairs),
            n_products=estimate.n_products + 2 * self._correction.n_pairs,
            error_sample=None,
        )


def require_half_precision(approximate: NoiseOperator) -> None:
    """Raise `InputError` for an operator that fails in half precision, on one product."""
    noise = torch.zeros(1, *approximate.noise_shape, dtype=approximate.noise_dtype, device=approximate.device)
    try:
        tried = approximate.apply(noise)
    except Exception as error:  # whatever a reconstruction does where it does not expect other types of number
        raise _not_in_half_precision(f"{type(error).__name__}: {error}") from error
    if not bool(tried.isfinite().all()):
        raise _not_in_half_precision("values that are not finite")


def _not_in_half_precision(received: str) -> InputError:
    return InputError(
        "the reconstruction does not run in half precision",
        expected="a derivative under torch.autocast with bfloat16",
        received=received.splitlines()[0],
        remedy="Leave half_precision out.",
    )
