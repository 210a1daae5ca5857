"""Whether the reconstruction is linear enough at the noise level of the scan for a first-order map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.sampler import sampler
from mrnoise.estimators.stream import batches

LINEAR, UNDECIDED, NOT_LINEAR = "linear", "undecided", "not linear"
# Largest relative error of σ that a first-order map may have.
TOLERANCE = 0.05
# The departure bounds the error of σ: from a single pair it is believed where it is this fraction of the tolerance.
NEGLIGIBLE = 0.2
# Pairs are centred and judged in blocks, so that memory holds one block.
BLOCK, MOST_PAIRS = 8, 64
# Of the interval that decides. It is looked at after every block, up to eight times: 8 · 0.5 % on each side.
LEVEL = 0.99
# Keeps the noise apart from that of the estimators, which use (seed, slice, probe).
STREAM = (0, 2)


@dataclass(frozen=True)
class Finding:
    """Verdict on one image.

    Parameters
    ----------
    verdict
        ``"linear"``, ``"not linear"``, or ``"undecided"`` where the pairs do not tell.
    ratio
        √(Σ E|d - E d|² / Σ E|Jn|²), d = g(y+n) - g(y), sums over the object: true σ over first-order σ.
    ratio_error
        Its standard error; after a single pair the departure, which bounds |ratio - 1|.
    departure
        √(Σ E|d - Jn|² / Σ E|Jn|²).
    tolerance
        The verdict is "linear" where |ratio - 1| is below this.
    n_pairs
        Pairs of d and Jn that were evaluated.
    """

    verdict: str
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
    """

    departure: Tensor
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """The finding that decides: not linear before undecided before linear, then the ratio farthest from 1."""
        order = (LINEAR, UNDECIDED, NOT_LINEAR)
        return max(self.findings, key=lambda found: (order.index(found.verdict), abs(found.ratio - 1)))

    @property
    def verdict(self) -> str:
        """That of the worst image."""
        return self.worst.verdict

    @property
    def sentence(self) -> str:
        """The verdict in words, with its figures."""
        found = self.worst
        where = f" in image {self.findings.index(found) + 1} of {len(self.findings)}" if len(self.findings) > 1 else ""
        if found.n_pairs == 1:
            figures = f"g(y+n) - g(y) and Jn differ by {100 * found.departure:.2g} % of σ{where}"
        else:
            side = "above" if found.ratio > 1 else "below"
            figures = (
                f"the true σ is {100 * abs(found.ratio - 1):.1f} ± {100 * found.ratio_error:.1f} % {side} "
                f"the first-order σ{where}"
            )
        pairs = "1 replica" if found.n_pairs == 1 else f"{found.n_pairs} replicas"
        return f"{found.verdict} at the noise level of the scan: {figures} ({pairs}, tolerance {found.tolerance:.0%})"

    def describe(self) -> dict[str, Any]:
        """JSON-able record of the worst image, and the cost of all."""
        n_pairs = sum(found.n_pairs for found in self.findings)
        return {**asdict(self.worst), "n_pairs": n_pairs, "n_products": 2 * n_pairs, "sentence": self.sentence}


def linearity(
    operator: NoiseOperator,
    *,
    region: Tensor | None = None,
    seed: Sequence[int] = (0,),
    batch_size: int | None = None,
    tolerance: float = TOLERANCE,
) -> Linearity:
    """Compare g(y+n) - g(y) with Jn for a few n at the noise level of the scan.

    One pair where the departure is below a fifth of the tolerance, as for every linear reconstruction; else blocks
    of 8 until the 99 % interval of the ratio lies inside or outside of 1 ± tolerance, at most 64. The ratio is
    precise because d and Jn share n; its standard error is a jackknife over pairs.

    Parameters
    ----------
    operator
        Its `apply` and its `replicas`.
    region
        Bool, image-shaped: the object; ``None`` or all False: every voxel.
    seed
        Entropy of the noise, which differs from that of every estimator with the same seed.
    batch_size
        Pairs evaluated together; ``None``: from free memory.
    tolerance
        On the relative error of the first-order σ.
    """
    draw = sampler(
        operator.noise_shape,
        operator.noise_dtype,
        seed=(*seed, *STREAM),
        distribution="gaussian",
        device=operator.device,
    )

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        return operator.replicas(noise), operator.apply(noise)

    def pairs(indices: range) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(evaluate, indices, batch_size, operator)

    inside = torch.ones(operator.image_shape, dtype=torch.bool) if region is None or not region.any() else region
    inside = inside.to(operator.device)
    replica, first_order = next(pairs(range(1)))
    excess, power = _power(replica - first_order), _power(first_order)
    departure = float(_root_ratio(excess[inside].sum(), power[inside].sum()))
    if departure <= NEGLIGIBLE * tolerance:
        ratio = float(_root_ratio(_power(replica)[inside].sum(), power[inside].sum()))
        finding = Finding(LINEAR, ratio, departure, departure, tolerance, 1)
        return Linearity(_root_ratio(excess, power).cpu(), (finding,))

    true_sums, first_order_sums = torch.empty(0), torch.empty(0)
    verdict = UNDECIDED
    while verdict == UNDECIDED and len(true_sums) < MOST_PAIRS:
        done = len(true_sums)
        block = list(pairs(range(max(done, 1), done + BLOCK)))
        replicas, responses = (torch.cat(parts) for parts in zip(*block, strict=True))
        excess, power = excess + _power(replicas - responses), power + _power(responses)
        if done == 0:
            replicas, responses = torch.cat([replica, replicas]), torch.cat([first_order, responses])
        true_sums = torch.cat([true_sums, _centred_sums(replicas, inside)])
        first_order_sums = torch.cat([first_order_sums, _centred_sums(responses, inside)])
        ratio, error = _jackknife(true_sums, first_order_sums)
        verdict = _decide(ratio, error, len(true_sums), tolerance)
    departure = float(_root_ratio(excess[inside].sum(), power[inside].sum()))
    finding = Finding(verdict, ratio, error, departure, tolerance, len(true_sums))
    return Linearity(_root_ratio(excess, power).cpu(), (finding,))


def _power(samples: Tensor) -> Tensor:
    """Σ|·|² over the batch."""
    return samples.to(torch.complex128).abs().square().sum(0)


def _root_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """√(a/b), 0 where both are zero."""
    return torch.where(numerator == 0, 0.0, numerator / denominator).sqrt()


def _centred_sums(samples: Tensor, inside: Tensor) -> Tensor:
    """Σ over the object of |d - mean d|² for each sample of a block.

    Jn is centred like d although its mean is known: then their errors cancel.
    """
    kept = samples[:, inside].to(torch.complex128)
    return (kept - kept.mean(0)).abs().square().sum(1).cpu()


def _jackknife(true_sums: Tensor, first_order_sums: Tensor) -> tuple[float, float]:
    """√(Σ true / Σ first order) and its standard error, leaving out one pair at a time.

    Without pair k the centred sum of its block falls by BLOCK/(BLOCK - 1) times its own share.
    """
    a, b = true_sums.sum(), first_order_sums.sum()
    share = BLOCK / (BLOCK - 1)
    without = ((a - share * true_sums) / (b - share * first_order_sums)).sqrt()
    n = len(true_sums)
    error = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt()
    return float((a / b).sqrt()), float(error)


def _decide(ratio: float, error: float, n_pairs: int, tolerance: float) -> str:
    """Where the interval of the ratio lies."""
    reach = float(stats.t.ppf(0.5 + 0.5 * LEVEL, n_pairs - n_pairs // BLOCK)) * error
    if abs(ratio - 1) + reach < tolerance:
        return LINEAR
    if abs(ratio - 1) - reach > tolerance:
        return NOT_LINEAR
    return UNDECIDED


def join(parts: Sequence[Linearity], count: int, batch_shape: Sequence[int]) -> Linearity:
    """One for ``count`` images; those not reached are NaN."""
    missing = [torch.full_like(parts[0].departure, torch.nan)] * (count - len(parts))
    departure = torch.stack([*(part.departure for part in parts), *missing])
    return Linearity(
        departure.reshape(*batch_shape, *departure.shape[1:]), tuple(found for part in parts for found in part.findings)
    )
