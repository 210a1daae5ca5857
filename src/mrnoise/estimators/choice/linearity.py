"""Whether the reconstruction is linear enough at the noise level of the scan for a first-order map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mrnoise.estimators.batching.stream import batches
from mrnoise.estimators.certificate import object_of
from mrnoise.estimators.key import Key
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.replicas import replica_noise
from mrnoise.quantiles import student

LINEAR, UNDECIDED, NOT_LINEAR = "linear", "undecided", "not linear"
# Largest relative error of σ, root mean square over the object, that a first-order map may have.
TOLERANCE = 0.05
# The departure bounds the error of σ: from a single pair it is believed where it is this fraction of the tolerance.
NEGLIGIBLE = 0.2
# Numbers of pairs after which the verdict is tried, and the level of the interval that decides: 4 · 0.5 % a side.
LOOKS, LEVEL = (8, 16, 32, 64), 0.99
# Departure of a linear reconstruction: round-off and the tolerance of its solver; and how much louder noise tells.
SOLVER_TOLERANCE, LOUDER = 1e-2, 10.0
# How much rounding a solver amplifies: of CG-SENSE along trajectories with λ = 10⁻³, whose condition is 5·10⁴.
ROUNDING = 2e4
# What that takes: a product and two replicas.
EVALUATIONS = 3
# A voxel counts by its V₁, up to so many times the median: twice the σ. A few loud ones hide nothing of the others.
LOUDEST = 4.0
# Voxels of the object, evenly spaced, that are judged: memory does not grow with the image.
MOST_VOXELS = 2**14


@dataclass(frozen=True)
class Finding:
    """Verdict on one image. V is the variance of d = g(y+n) - g(y), V₁ that of Jn; sums are over the object.

    In all but ``ratio`` a voxel counts by its V₁, at most by 4 times the median of V₁: the weights are
    w = min(1, 4 median(V₁) / V₁), which is 1 but for a few voxels of an image. In a map of a fit, whose σ grows without
    bound where signal is lost, these would decide alone.

    Parameters
    ----------
    verdict
        ``"linear"`` where ``error_high`` is below the tolerance, ``"not linear"`` where ``error_low`` is above it,
        else ``"undecided"``.
    error_low, error_high
        99 % limits of ½ √(Σw²(V - V₁)² / Σw²V₁²), the root-mean-square relative error of the first-order σ. For the
        lower one |V - V₁| counts as V₁ at most: V without bound, as of a ratio of noisy numbers, would leave no limit.
    ratio
        √(ΣV / ΣV₁), true over first-order σ; errors of opposite sign cancel in it.
    ratio_error
        Its standard error; where the departure is negligible, that, which bounds |ratio - 1|.
    departure
        √(Σw E|d - Jn|² / Σw E|Jn|²).
    tolerance
        What was asked for.
    n_pairs
        Pairs of d and Jn that were evaluated.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import RootSumOfSquares
    >>> from mrnoise.simulation import simulated_head
    >>> for snr in (20.0, 2.0):
    ...     head = simulated_head((16, 12), 4, snr=snr)
    ...     (operator,) = linearize(RootSumOfSquares(), head.acquire())
    ...     finding = linearity(operator, region=head.foreground).worst
    ...     print(f"SNR {snr:g}: {finding.verdict}, true over first-order σ {finding.ratio:.2f}")
    SNR 20: linear, true over first-order σ 1.00
    SNR 2: not linear, true over first-order σ 0.87
    """

    verdict: str
    error_low: float
    error_high: float
    ratio: float
    ratio_error: float
    departure: float
    tolerance: float
    n_pairs: int


@dataclass(frozen=True, eq=False)
class Linearity:
    """How far g(y+n) - g(y) departs from Jn at the noise level of the scan.

    Parameters
    ----------
    departure
        rms|g(y+n) - g(y) - Jn| / rms|Jn| per voxel, over a few n; image-shaped, NaN for images not reached.
        By the triangle inequality no voxel's first-order σ is wrong by more than this fraction; the error itself
        is of second order in it and usually far smaller.
    findings
        One an image.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import RootSumOfSquares
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4, snr=20.0)
    >>> (operator,) = linearize(RootSumOfSquares(), head.acquire())
    >>> found = linearity(operator, region=head.foreground)
    >>> found.verdict, round(float(found.departure[8, 6]), 2), round(float(found.departure[0, 0]), 2)  # brain, air
    ('linear', 0.57, 1.24)
    """

    departure: Tensor
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """The finding that decides: not linear before undecided before linear, then the largest error."""
        order = (LINEAR, UNDECIDED, NOT_LINEAR)
        return max(self.findings, key=lambda found: (order.index(found.verdict), found.error_high))

    @property
    def verdict(self) -> str:
        """That of the worst image."""
        return self.worst.verdict

    @property
    def sentence(self) -> str:
        """The verdict in words, with its figures."""
        found = self.worst
        low, high = 100 * found.error_low, 100 * found.error_high
        error = {LINEAR: f"at most {high:.2g} %", NOT_LINEAR: f"at least {low:.2g} %"}.get(
            found.verdict, f"{low:.2g} to {high:.2g} %"
        )
        replicas = "1 replica" if found.n_pairs == 1 else f"{found.n_pairs} replicas"
        whole = f"{100 * (found.ratio - 1):+z.1f} ± {100 * found.ratio_error:.1f} %"
        where = f", image {self.findings.index(found) + 1} of {len(self.findings)}" if len(self.findings) > 1 else ""
        return (
            f"{found.verdict} at the noise level of the scan: first-order σ is wrong by {error} (root mean square; "
            f"true σ of the whole object {whole}; {replicas}{where}; tolerance {found.tolerance:.0%})"
        )

    def describe(self) -> dict[str, Any]:
        """JSON-able record of the worst image, and the cost of all."""
        n_pairs = sum(found.n_pairs for found in self.findings)
        return {**asdict(self.worst), "n_pairs": n_pairs, "n_products": 2 * n_pairs, "sentence": self.sentence}


def linearity(
    operator: NoiseOperator,
    *,
    region: Tensor | None = None,
    key: Key = Key(),
    batch_size: int | None = None,
    tolerance: float = TOLERANCE,
    start: tuple[Tensor, Tensor] | None = None,
    most_pairs: int = LOOKS[-1],
) -> Linearity:
    """Compare g(y+n) - g(y) with Jn for a few n at the noise level of the scan.

    One pair where the departure is below a fifth of the tolerance, as for every linear reconstruction; else 8, 16,
    32 or 64, until the 99 % interval of the error of σ lies on one side of the tolerance. The two halves of the
    pairs give independent V - V₁, whose product has the mean (V - V₁)² without the noise of either; d and Jn of
    the same n make both precise. Standard errors are jackknives over pairs: voxels are correlated, pairs are not.

    Parameters
    ----------
    operator
        Its `apply` and its `replicas`.
    region
        Bool, image-shaped: the object; ``None`` or all False: every voxel.
    key
        Entropy of the noise: that of replicas, apart from the probes of every other estimator.
    batch_size
        Pairs evaluated together; ``None``: from free memory.
    tolerance
        On the relative error of the first-order σ, root mean square over the object.
    start
        The first pairs with the same seed where they are known already: g(y+n) - g(y) and Jn, (B, *image).
    most_pairs
        Undecided after these.

    Returns
    -------
    Linearity
        Of this image, with one finding.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> found = linearity(operator)
    >>> found.verdict, found.worst.n_pairs, round(found.worst.departure, 3)
    ('linear', 1, 0.0)
    """
    draw = replica_noise(operator, key)

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        return operator.replicas(noise), operator.apply(noise)

    def pairs(indices: range) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(evaluate, indices, batch_size, operator)

    inside = object_of(operator, region)
    excess, power = (torch.zeros(operator.image_shape, dtype=torch.float64, device=operator.device) for _ in "ab")
    kept: list[tuple[Tensor, Tensor]] = []
    done = 0
    known = [] if start is None else [start]
    n_known = 0 if start is None else len(start[0])
    for n_pairs in (n_known or 1, *(look for look in LOOKS if n_known < look <= most_pairs)):
        for replicas, products in [*known, *pairs(range(max(done, n_known), n_pairs))]:
            excess, power = excess + _power(replicas - products), power + _power(products)
            kept.append((_some(replicas, inside), _some(products, inside)))
        known, done = [], n_pairs
        weights = _weights(power[inside])
        departure = float(_root_ratio((weights * excess[inside]).sum(), (weights * power[inside]).sum()))
        d, linear = (torch.cat(parts) for parts in zip(*kept, strict=True))
        if departure <= NEGLIGIBLE * tolerance:
            ratio = float(_root_ratio(_power(d).sum(), _power(linear).sum()))
            finding = Finding(LINEAR, 0.0, departure, ratio, departure, departure, tolerance, n_pairs)
            break
        if n_pairs > 1:
            finding = _judge(d, linear, departure, tolerance)
            if finding.verdict != UNDECIDED:
                break
    return Linearity(_root_ratio(excess, power).cpu(), (finding,))


def linear_throughout(operator: NoiseOperator, *, key: Key = Key()) -> tuple[Tensor, Tensor] | None:
    """The first pair of `linearity` where g(y+n) - g(y) = Jn at the noise level and at ten times it, else ``None``.

    Rare jumps and weak curvature that few pairs at the noise level miss show at the larger one. Its tenth is the pair:
    what is left of it is less of rounding, and no less of what is not linear.
    """
    noise = replica_noise(operator, key)([0])
    product = operator.apply(noise)
    quiet, loud = operator.replicas(torch.cat([noise, LOUDER * noise])).split(1)
    size = SOLVER_TOLERANCE * float(product.norm())
    rounding = ROUNDING * torch.finfo(product.real.dtype).eps * float(operator.value.norm())
    linear = float((quiet - product).norm()) <= size + rounding
    linear = linear and float((loud / LOUDER - product).norm()) <= size + rounding / LOUDER
    return (loud / LOUDER, product) if linear else None


def _power(samples: Tensor) -> Tensor:
    """Σ|·|² over the batch."""
    return samples.to(torch.complex128).abs().square().sum(0)


def _root_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """√(a/b), 0 where both are zero."""
    return torch.where(numerator == 0, 0.0, numerator / denominator).sqrt()


def _weights(power: Tensor) -> Tensor:
    """Min(1, 4 median(V₁) / V₁), the median over voxels with noise."""
    median = torch.where(power > 0, power, torch.nan).nanmedian()
    return (LOUDEST * median / power).nan_to_num(1.0).clamp_max(1.0)


def _some(samples: Tensor, inside: Tensor) -> Tensor:
    """Evenly spaced voxels of the object, (B, voxel)."""
    chosen = samples[:, inside]
    return chosen[:, :: -(-chosen.shape[1] // MOST_VOXELS)].to(torch.complex128).cpu()


def _judge(d: Tensor, linear: Tensor, departure: float, tolerance: float) -> Finding:
    """Ratio and squared error of σ with their jackknife errors, and what they say."""
    n = len(d)
    pairs = torch.arange(n, device=d.device)
    ratio, *squared = _statistics(d, linear, pairs >= 0)
    without = torch.stack([_statistics(d, linear, pairs != k) for k in range(n)])
    ratio_error, *errors = ((n - 1) / n * (without - without.mean(0)).square().sum(0)).sqrt()
    # Each half has estimated its own mean.
    t = float(student(0.5 + 0.5 * LEVEL, n - 2))
    limits = (squared[0] - t * errors[0], squared[1] + t * errors[1])
    low, high = (float(limit.clamp_min(0).sqrt()) for limit in limits)
    verdict = LINEAR if high < tolerance else NOT_LINEAR if low > tolerance else UNDECIDED
    return Finding(verdict, low, high, float(ratio), float(ratio_error), departure, tolerance, n)


def _statistics(d: Tensor, linear: Tensor, used: Tensor) -> Tensor:
    """√(ΣV/ΣV₁) and, with |V - V₁| ≤ V₁ and without that, Σw²(V - V₁)²/4Σw²V₁², even pairs against odd ones."""
    even = torch.arange(len(d), device=d.device) % 2 == 0
    true, first = (torch.stack([x[used & half].var(0) for half in (even, ~even)]) for x in (d, linear))
    ratio = (true.sum() / first.sum()).sqrt()
    mean = first.mean(0)
    weights = _weights(mean).square()
    excess = true - first
    power = 4 * (weights * first.prod(0)).sum()
    squared = [(weights * e.prod(0)).sum() / power for e in (excess.clamp(-mean, mean), excess)]
    return torch.stack([ratio, *squared])


def join(parts: Sequence[Linearity], count: int, batch_shape: Sequence[int]) -> Linearity:
    """One for ``count`` images; those not reached are NaN."""
    missing = [torch.full_like(parts[0].departure, torch.nan)] * (count - len(parts))
    departure = torch.stack([*(part.departure for part in parts), *missing])
    return Linearity(
        departure.reshape(*batch_shape, *departure.shape[1:]), tuple(found for part in parts for found in part.findings)
    )
