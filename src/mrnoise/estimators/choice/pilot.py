"""A few samples of every kind, timed: what each estimator would cost on this scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor

from mrnoise.estimators.batching.clock import Stopwatch
from mrnoise.estimators.batching.stream import MOST_SAMPLES, Plan, batch_from_memory, responses
from mrnoise.estimators.certificate import object_of
from mrnoise.estimators.choice.colouring import Sublattice, colouring, is_plane
from mrnoise.estimators.control_variate import SAMPLES_PER_COEFFICIENT, ControlledMoments, Features
from mrnoise.estimators.key import Key
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.precision import pairs_needed
from mrnoise.estimators.replicas import replica_noise

# Of replica and product of the same noise.
N_PAIRS = 8
# A sample more in a batch costs no less than this part of the mean of a small one.
LEAST_SLOPE = 0.6
# Coefficients fitted to n samples explain ρ⁴ (1 - FITTING p/n) of the variance of |δ|², p the number of them.
FITTING = 0.5
# What may be cheaper is tried while all trials cost less than this part of the cheapest way known for all images;
# before it was timed, a product counts as so many replicas, and as one where the derivative is complex-linear.
TRIALS, PRODUCT = 0.05, 2
# Control variates are prepared where that takes less than this part of the time of all replicas of an image.
PREPARATION = 0.2


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
        Predicted for these samples, but for those that the pilot took.

    Examples
    --------
    >>> prospect = Prospect("sketch", control_variate=True, half_precision=False, n_samples=120, seconds=2.5)
    >>> print(prospect)
    sketch with control variates 2.5 s
    >>> prospect.first_order
    True
    """

    method: str
    control_variate: bool
    half_precision: bool
    n_samples: int
    seconds: float

    @property
    def first_order(self) -> bool:
        """Whether its map is."""
        return self.method != "monte_carlo"

    @property
    def way(self) -> str:
        """In words."""
        names = {"sketch": "sketch", "monte_carlo": "replicas", "coloured": f"{self.n_samples} coloured probes"}
        precision = " in half precision" if self.half_precision else ""
        controlled = " with control variates" if self.control_variate else ""
        return f"{names[self.method]}{precision}{controlled}"

    def __str__(self) -> str:
        return f"{self.way} {self.seconds:.2g} s"


@dataclass(frozen=True, eq=False)
class Pilot:
    """Outcome of `pilot`.

    Parameters
    ----------
    replicas, products
        g(y+n) - g(y) and Jn of the same n, (B, *image): the first of `monte_carlo`, and the first pairs of
        `linearity`, with the same seed. Products are ``None`` where replicas were so cheap that nothing else was tried.
    approximations
        The products in half precision; ``None`` where that changes nothing, or they cannot be used.
    prospects
        The cheapest first.
    sublattice
        Of coloured probes, where they are cheapest.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> found = pilot(operator, Plan(target_error=0.03))
    >>> tuple(found.replicas.shape), found.approximations
    ((8, 16, 12), None)
    """

    replicas: Tensor
    products: Tensor | None
    approximations: Tensor | None
    prospects: tuple[Prospect, ...]
    sublattice: Sublattice | None


def pilot(
    operator: NoiseOperator,
    plan: Plan,
    *,
    features: Callable[[float], Features | None] | None = None,
    first_order: bool = True,
    approximate: NoiseOperator | None = None,
    with_adjoint: Callable[[], bool] = lambda: False,
    n_images: int = 1,
    key: Key = Key(),
) -> Pilot:
    """Time replicas, products and control variates, and predict what each way costs.

    The relative error of σ from S samples is √((1+κ²) q / 4S), with q = 1 without and, where features explain the
    fraction ρ² of the noise, q = 1 - ρ⁴ with control variates, less what fitting them costs. κ² and ρ⁴ are means over
    the object of U-statistics over the replicas: with the covariance C of the features f known, the mean over i ≠ j of
    (δ_i f_iᴴ) C⁻¹ (f_j δ_j*) has no bias however few samples there are. Products, half precision and coloured probes
    are tried one after the other while that costs little beside the cheapest way known.

    Parameters
    ----------
    operator
        Its `apply` and its `replicas`.
    plan
        Costs are predicted for its target error; without one, for the error of its samples without control variates.
    features
        Asked for those of control variates, which may take so many seconds to prepare.
    first_order
        Whether products with the derivative are a choice.
    approximate
        The operator in half precision, where that is a choice.
    with_adjoint
        Asked whether coloured probes, which need the adjoint and a target error, are a choice for an image (y, x).
    n_images
        That the choice is for: trials may cost so many times more.
    key
        Entropy of the noise, as for `linearity`.

    Returns
    -------
    Pilot
        What each way costs, and the samples that it took to tell.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> found = pilot(operator, Plan(target_error=0.03))
    >>> {prospect.method: prospect.n_samples for prospect in found.prospects}["monte_carlo"]  # 1 / 4ε²
    278
    """
    noise = replica_noise(operator, key)(range(N_PAIRS))
    inside = object_of(operator, plan.region)
    replicas, replica = _Timed(operator.replicas, noise, plan, operator).finish()
    ways = _ways(replicas, replica, noise, inside, plan, features, operator, n_images)
    # Those of the pilot are the first of a map of replicas.
    taken = N_PAIRS * replica.each
    found = [
        Prospect("monte_carlo", way.controlled, False, way.samples, max(0.0, way.seconds(replica) - taken))
        for way in ways
    ]

    trials = Stopwatch(operator.device)

    def worth_it(seconds: float) -> bool:
        return trials.seconds() + seconds < TRIALS * n_images * min(prospect.seconds for prospect in found)

    products = approximations = cells = None
    if first_order and worth_it(N_PAIRS * (1 if operator.complex_linear else PRODUCT) * replica.each):
        products, product = _Timed(operator.apply, noise, plan, operator).finish()
        found += [Prospect("sketch", way.controlled, False, way.samples, way.seconds(product)) for way in ways]
        if approximate is not None and worth_it(N_PAIRS * product.each):
            tried = _approximations(approximate, noise, products, plan)
            if tried is not None:
                approximations, approximation = tried
                n_pairs, share = pairs_needed(products, approximations, inside, plan)
                pairs = (n_pairs - N_PAIRS) * (product.each + approximation.each)
                more = [replace(way, n=way.n / (1 - share)) for way in ways]
                found += [
                    Prospect("sketch", way.controlled, True, way.samples, way.seconds(approximation) + pairs)
                    for way in more
                ]
        n_products = 2 if operator.complex_linear else 4
        possible = plan.target_error is not None and plan.n_samples is None and is_plane(operator)
        if possible and worth_it(product.of(n_products)) and with_adjoint():
            assert plan.target_error is not None
            chosen = colouring(
                operator,
                products,
                inside,
                plan.target_error,
                key=key,
                probe_seconds=n_products * product.each,
                most_seconds=min(prospect.seconds for prospect in found),
            )
            if chosen is not None:
                cells, probes = chosen.sublattice, chosen.draws * chosen.sublattice.n_colours
                found.append(Prospect("coloured", False, False, probes, chosen.seconds))
    found.sort(key=lambda prospect: prospect.seconds)
    return Pilot(replicas, products, approximations, tuple(found), cells)


@dataclass(frozen=True)
class _Cost:
    """Seconds of a call and of each sample in it, and the size of a batch."""

    call: float
    sample: float
    batch: int

    @property
    def each(self) -> float:
        """Of a sample in a full batch."""
        return self.sample + self.call / self.batch

    def of(self, n: float) -> float:
        """Of n samples; the batches at the beginning and at the end are not full."""
        return n * self.each + self.call


@dataclass(frozen=True)
class _Way:
    """Samples to the target, with or without control variates, and what each and all cost besides their evaluation."""

    controlled: bool
    n: float
    extra_seconds: float = 0.0
    preparation: float = 0.0

    @property
    def samples(self) -> int:
        return ceil(self.n)

    def seconds(self, cost: _Cost) -> float:
        """Of all samples."""
        return cost.of(self.n) + self.n * self.extra_seconds + self.preparation


def _ways(
    replicas: Tensor,
    replica: _Cost,
    noise: Tensor,
    inside: Tensor,
    plan: Plan,
    prepare: Callable[[float], Features | None] | None,
    operator: NoiseOperator,
    n_images: int,
) -> list[_Way]:
    d = replicas[:, inside].to(torch.complex128)
    wanted = float(plan.n_samples or MOST_SAMPLES)
    if plan.target_error is not None:
        wanted = min(wanted, (1 + _impropriety_squared(d)) / (4 * plan.target_error**2))
    ways = [_Way(False, wanted)]
    stopwatch = Stopwatch(operator.device)
    features = None if prepare is None else prepare(PREPARATION * replica.of(wanted))
    if features is not None:
        # Each image needs its own; that of the first is there.
        preparation = stopwatch.seconds() * (1 - 1 / n_images)
        stopwatch = Stopwatch(operator.device)
        moments = ControlledMoments(features, "pilot", known_mean=True)
        moments.add(replicas, noise)
        moments.estimate(False)  # once a batch, to judge the error
        extra = stopwatch.seconds() / N_PAIRS
        explained = _explained_squared(d, features(noise)[..., inside], features.covariance[..., inside])
        n = _with_control_variates(wanted, explained, 2 * features.n_images)
        ways.append(_Way(True, n, extra, preparation))
    return ways


class _Timed:
    """Responses to all noises, and what they cost: those to the first and to the others, each at once if it can be."""

    def __init__(self, respond: Callable[[Tensor], Tensor], noise: Tensor, plan: Plan, operator: NoiseOperator) -> None:
        self._respond, self._plan, self._operator = respond, plan, operator
        self._rest = noise[1:]
        self.samples, self._first = self._run(noise[:1])

    def _run(self, noise: Tensor) -> tuple[Tensor, float]:
        stopwatch = Stopwatch(self._operator.device)
        return responses(self._respond, noise, self._plan.batch_size, self._operator), stopwatch.seconds()

    def finish(self) -> tuple[Tensor, _Cost]:
        """All responses, and what they cost: a call for n samples takes a + b n.

        The first may have taken longer than later ones of its size.
        """
        samples, seconds = self._run(self._rest)
        n, batch = len(self._rest), self._plan.batch_size or batch_from_memory(self._operator)
        cost = _Cost(0.0, seconds / n, batch)
        if batch > n:
            each = min(max((seconds - self._first) / (n - 1), LEAST_SLOPE * seconds / n), seconds / n)
            cost = _Cost(seconds - n * each, each, batch)
        return torch.cat([self.samples, samples]), cost


def _approximations(
    approximate: NoiseOperator, noise: Tensor, products: Tensor, plan: Plan
) -> tuple[Tensor, _Cost] | None:
    """Approximate products and their cost; ``None`` where they are exact, fail or are not finite."""
    try:
        timed = _Timed(approximate.apply, noise, plan, approximate)
        if torch.equal(timed.samples, products[:1]):
            return None
        samples, cost = timed.finish()
    except Exception:  # whatever a reconstruction does where it does not expect other types of number
        return None
    return (samples, cost) if bool(samples.isfinite().all()) else None


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
    """Samples that are worth ``wanted`` of them without control variates.

    n = wanted (1 - ρ⁴ (1 - FITTING p / ½n)), since half of the samples are fitted to: the positive root of a square.
    """
    a, b = wanted * (1 - explained), wanted * explained * 2 * FITTING * n_coefficients
    n = 0.5 * (a + (a**2 + 4 * b) ** 0.5)
    return max(min(wanted, SAMPLES_PER_COEFFICIENT * n_coefficients), min(wanted, n))
