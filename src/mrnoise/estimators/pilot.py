"""A few samples of every kind, timed: what each estimator would cost on this scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from mrnoise.estimators.clock import Stopwatch
from mrnoise.estimators.colouring import Sublattice, colouring, is_plane
from mrnoise.estimators.control_variate import SAMPLES_PER_COEFFICIENT, ControlledMoments, Features
from mrnoise.estimators.linearity import check_noise
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.precision import pairs_needed
from mrnoise.estimators.region_error import object_of
from mrnoise.estimators.stream import MOST_SAMPLES, Plan, batch_from_memory, batches

# Of replica and product of the same noise.
N_PAIRS = 8
# A sample more in a batch costs no less than this part of the mean of a small one.
LEAST_SLOPE = 0.4
# Coefficients fitted to n samples explain ρ⁴ (1 - FITTING p/n) of the variance of |δ|², p the number of them.
FITTING = 0.5
ITERATIONS = 8


@dataclass(frozen=True)
class Prospect:
    """What a way to sample would cost.

    Parameters
    ----------
    method
        ``"sketch"``, ``"monte_carlo"`` or ``"coloured"``.
    control_variate
        Whether with control variates.
    half_precision
        Whether most products are in half precision.
    n_samples
        Predicted for the target.
    seconds
        Predicted for these samples.
    """

    method: str
    control_variate: bool
    half_precision: bool
    n_samples: int
    seconds: float

    def __str__(self) -> str:
        names = {"sketch": "sketch", "monte_carlo": "replicas", "coloured": f"{self.n_samples} coloured probes"}
        precision = " in half precision" if self.half_precision else ""
        controlled = " with control variates" if self.control_variate else ""
        return f"{names[self.method]}{precision}{controlled} {self.seconds:.2g} s"


@dataclass(frozen=True, eq=False)
class Pilot:
    """Outcome of `pilot`.

    Parameters
    ----------
    replicas, products
        g(y+n) - g(y) and Jn of the same n, (B, *image): the first pairs of `linearity` with the same seed.
    approximations
        The products in half precision; ``None`` where that changes nothing, or they cannot be used.
    prospects
        The cheapest first.
    sublattice
        Of coloured probes, where they are cheapest.
    """

    replicas: Tensor
    products: Tensor
    approximations: Tensor | None
    prospects: tuple[Prospect, ...]
    sublattice: Sublattice | None


def pilot(
    operator: NoiseOperator,
    plan: Plan,
    *,
    features: Features | None = None,
    approximate: NoiseOperator | None = None,
    with_adjoint: bool = False,
    seed: Sequence[int] = (0,),
) -> Pilot:
    """Time replicas, products and control variates, and predict what each way costs.

    The relative error of σ from S samples is √((1+κ²) q / 4S), with q = 1 without and, where features explain the
    fraction ρ² of the noise, q = 1 - ρ⁴ with control variates, less what fitting them costs. κ² and ρ⁴ are means over
    the object of U-statistics over the pairs: with the covariance C of the features f known, the mean over i ≠ j of
    (δ_i f_iᴴ) C⁻¹ (f_j δ_j*) has no bias however few samples there are.

    Parameters
    ----------
    operator
        Its `apply` and its `replicas`.
    plan
        Costs are predicted for its target error; without one, for the error of its samples without control variates.
    features
        Of the control variates, if there are any.
    approximate
        The operator in half precision, where that is a choice.
    with_adjoint
        Whether coloured probes, which need the adjoint and a target error, are a choice for a complex image (y, x).
    seed
        Entropy of the noise, as for `linearity`.
    """
    noise = check_noise(operator, seed)(range(N_PAIRS))
    replicas, replica_seconds = _Timed(operator.replicas, noise, plan, operator).finish()
    products, product_seconds = _Timed(operator.apply, noise, plan, operator).finish()
    inside = object_of(operator, plan.region)
    d = products[:, inside].to(torch.complex128)
    wanted = float(plan.n_samples or MOST_SAMPLES)
    if plan.target_error is not None:
        wanted = min(wanted, (1 + _impropriety_squared(d)) / (4 * plan.target_error**2))

    # Samples needed, and the seconds that each takes more, without and with control variates.
    ways = {False: (wanted, 0.0)}
    if features is not None:
        stopwatch = Stopwatch(operator.device)
        moments = ControlledMoments(features, "pilot", known_mean=True)
        moments.add(products, noise)
        moments.estimate(False)  # once a batch, to judge the error
        extra = stopwatch.seconds() / N_PAIRS
        explained = _explained_squared(d, features(noise)[..., inside], features.covariance[..., inside])
        ways[True] = (_with_control_variates(wanted, explained, 2 * features.covariance.shape[0]), extra)
    approximations = None
    if approximate is not None:
        approximations, approximate_seconds = _approximations(approximate, noise, products, plan)
    found = []
    for controlled, (n, extra) in ways.items():
        for method, cost in (("sketch", product_seconds), ("monte_carlo", replica_seconds)):
            found.append(Prospect(method, controlled, False, ceil(n), n * (cost + extra)))
        if approximations is not None:
            n_pairs, share = pairs_needed(products, approximations, inside, plan)
            more = n / (1 - share)
            cost = more * (approximate_seconds + extra) + (n_pairs - N_PAIRS) * (product_seconds + approximate_seconds)
            found.append(Prospect("sketch", controlled, True, ceil(more), cost))
    chosen = None
    if with_adjoint and plan.target_error is not None and plan.n_samples is None and is_plane(operator):
        sides = 1 if operator.complex_linear else 2
        chosen = colouring(
            operator,
            products,
            inside,
            plan.target_error,
            seed=seed,
            probe_seconds=2 * sides * product_seconds,
            most_seconds=min(prospect.seconds for prospect in found),
        )
    if chosen is not None:
        probes = chosen.draws * chosen.sublattice.n_colours
        found.append(Prospect("coloured", False, False, probes, chosen.seconds))
    cells = None if chosen is None else chosen.sublattice
    found.sort(key=lambda prospect: prospect.seconds)
    return Pilot(replicas, products, approximations, tuple(found), cells)


class _Timed:
    """Responses to all noises, and what they cost: those to the first and to the others, each at once if it can be."""

    def __init__(self, respond: Callable[[Tensor], Tensor], noise: Tensor, plan: Plan, operator: NoiseOperator) -> None:
        self._respond, self._plan, self._operator = respond, plan, operator
        self._rest = noise[1:]
        self.samples, self._first = self._run(noise[:1])

    def _run(self, noise: Tensor) -> tuple[Tensor, float]:
        def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            part = noise[list(indices)]
            return self._respond(part), part

        stopwatch = Stopwatch(self._operator.device)
        found = batches(evaluate, range(len(noise)), self._plan.batch_size, self._operator)
        return torch.cat([samples for samples, _ in found]), stopwatch.seconds()

    def finish(self) -> tuple[Tensor, float]:
        """All responses, and seconds for each in a batch as large as will be.

        A call costs a + b n for n samples. The first may have taken longer than later ones of its size.
        """
        samples, seconds = self._run(self._rest)
        n, batch = len(self._rest), self._plan.batch_size or batch_from_memory(self._operator)
        each = seconds / n
        if batch > n:
            more = min(max((seconds - self._first) / (n - 1), LEAST_SLOPE * each), each)
            each = more + n * (each - more) / batch
        return torch.cat([self.samples, samples]), each


def _approximations(
    approximate: NoiseOperator, noise: Tensor, products: Tensor, plan: Plan
) -> tuple[Tensor | None, float]:
    """Approximate products and seconds for each; ``None`` where they are exact, fail or are not finite."""
    try:
        timed = _Timed(approximate.apply, noise, plan, approximate)
        if torch.equal(timed.samples, products[:1]):
            return None, 0.0
        samples, each = timed.finish()
    except Exception:  # whatever a reconstruction does where it does not expect other types of number
        return None, 0.0
    return (samples if bool(samples.isfinite().all()) else None), each


def _impropriety_squared(d: Tensor) -> float:
    """Σ|E δ²|² / Σ(E|δ|²)² over voxels, from δ (B, voxel)."""
    pseudo, power = d.square(), d.abs().square()
    numerator = (pseudo.sum(0).abs().square() - pseudo.abs().square().sum(0)).sum()
    denominator = (power.sum(0).square() - power.square().sum(0)).sum()
    return float((numerator / denominator).clamp(0, 1)) if float(denominator) > 0 else 0.0


def _explained_squared(d: Tensor, f: Tensor, covariance: Tensor) -> float:
    """ρ⁴: Σ W² / ΣV² over voxels, W the part of V that f (B, K, voxel) and f* explain; halves keep it unbiased."""
    halves = []
    scale = covariance.diagonal().real.mean().clamp_min(torch.finfo(torch.float64).tiny)
    ridge = 1e-6 * scale * torch.eye(covariance.shape[0], dtype=torch.complex128, device=d.device)
    inverse = torch.linalg.inv(covariance.to(torch.complex128).movedim(-1, 0) + ridge)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        some, features = d[half], f[half].to(torch.complex128)
        n = len(some)
        explained = torch.zeros(d.shape[1], dtype=torch.float64, device=d.device)
        # f is proper, so that f and f* are uncorrelated and explain each its own part.
        for a in (features * some.conj().unsqueeze(1), features * some.unsqueeze(1)):
            forms = [torch.einsum("vk,vkl,vl->v", x.conj().mT, inverse, x.mT).real for x in (a.sum(0), *a)]
            explained = explained + (forms[0] - torch.stack(forms[1:]).sum(0)) / (n * (n - 1))
        halves.append((explained, some.abs().square().mean(0)))
    (w1, v1), (w2, v2) = halves
    denominator = (v1 * v2).sum()
    return float(((w1 * w2).sum() / denominator).clamp(0, 1)) if float(denominator) > 0 else 0.0


def _with_control_variates(wanted: float, explained: float, n_coefficients: int) -> float:
    """Samples that are worth ``wanted`` of them without control variates."""
    first = SAMPLES_PER_COEFFICIENT * n_coefficients
    count = wanted
    for _ in range(ITERATIONS):
        # Half of the samples are fitted to.
        fitted = max(0.0, 1 - FITTING * n_coefficients / (0.5 * max(count, 1.0)))
        count = max(min(wanted, first), wanted * (1 - explained * fitted))
    return count
