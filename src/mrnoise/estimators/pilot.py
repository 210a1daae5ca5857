"""A few samples of every kind, timed: what each estimator would cost on this scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from mrnoise.estimators.colouring import Sublattice, colouring, is_plane
from mrnoise.estimators.control_variate import SAMPLES_PER_COEFFICIENT, ControlledMoments, Features
from mrnoise.estimators.linearity import check_noise
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.region_error import object_of
from mrnoise.estimators.stream import MOST_SAMPLES, Plan, batches

# Of replica and product of the same noise; the first warms up and is not timed.
N_PAIRS = 8
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
    n_samples
        Predicted for the target.
    seconds
        Predicted for these samples.
    """

    method: str
    control_variate: bool
    n_samples: int
    seconds: float

    def __str__(self) -> str:
        names = {"sketch": "sketch", "monte_carlo": "replicas", "coloured": f"{self.n_samples} coloured probes"}
        name = names[self.method]
        return f"{name}{' with control variates' if self.control_variate else ''} {self.seconds:.2g} s"


@dataclass(frozen=True, eq=False)
class Pilot:
    """Outcome of `pilot`.

    Parameters
    ----------
    replicas, products
        g(y+n) - g(y) and Jn of the same n, (B, *image): the first pairs of `linearity` with the same seed.
    prospects
        The cheapest first.
    sublattice
        Of coloured probes, where they are cheapest.
    """

    replicas: Tensor
    products: Tensor
    prospects: tuple[Prospect, ...]
    sublattice: Sublattice | None


def pilot(
    operator: NoiseOperator,
    plan: Plan,
    *,
    features: Features | None = None,
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
    with_adjoint
        Whether coloured probes, which need the adjoint and a target error, are a choice for a complex image (y, x).
    seed
        Entropy of the noise, as for `linearity`.
    """
    noise = check_noise(operator, seed)(range(N_PAIRS))
    replicas, replica_seconds = _timed(operator.replicas, noise, plan.batch_size, operator)
    products, product_seconds = _timed(operator.apply, noise, plan.batch_size, operator)
    inside = object_of(operator, plan.region)
    d = products[:, inside].to(torch.complex128)
    wanted = float(plan.n_samples or MOST_SAMPLES)
    if plan.target_error is not None:
        wanted = min(wanted, (1 + _impropriety_squared(d)) / (4 * plan.target_error**2))

    costs = {"sketch": product_seconds, "monte_carlo": replica_seconds}
    found = [Prospect(name, False, ceil(wanted), wanted * seconds) for name, seconds in costs.items()]
    if features is not None:
        started = time.perf_counter()
        moments = ControlledMoments(features, "pilot", known_mean=True)
        moments.add(products, noise)
        moments.estimate(False)  # once a batch, to judge the error
        extra = (time.perf_counter() - started) / N_PAIRS
        explained = _explained_squared(d, features(noise)[..., inside], features.covariance[..., inside])
        fewer = _with_control_variates(wanted, explained, 2 * features.covariance.shape[0])
        found += [Prospect(name, True, ceil(fewer), fewer * (seconds + extra)) for name, seconds in costs.items()]
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
        found.append(Prospect("coloured", False, probes, chosen.seconds))
    cells = None if chosen is None else chosen.sublattice
    return Pilot(replicas, products, tuple(sorted(found, key=lambda prospect: prospect.seconds)), cells)


def _timed(
    respond: Callable[[Tensor], Tensor], noise: Tensor, batch_size: int | None, operator: NoiseOperator
) -> tuple[Tensor, float]:
    """Responses to all noises, and seconds for each after the first."""

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        part = noise[list(indices)]
        return respond(part), part

    parts = [samples for samples, _ in batches(evaluate, range(1), batch_size, operator)]
    started = time.perf_counter()
    parts += [samples for samples, _ in batches(evaluate, range(1, N_PAIRS), batch_size, operator)]
    if operator.device.type == "cuda":
        torch.cuda.synchronize(operator.device)
    return torch.cat(parts), (time.perf_counter() - started) / (N_PAIRS - 1)


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
