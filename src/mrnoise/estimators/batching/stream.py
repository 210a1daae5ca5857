"""The loop behind every sampling estimator: batches, running sums, stopping, interruption."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil
import torch
from torch import Tensor

from mrnoise.checks import check_count
from mrnoise.errors import InputError
from mrnoise.estimators.batching.memory import freed_blocks_kept
from mrnoise.estimators.certificate import RegionError, region_error
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.moments import Accumulator
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.interruption import without_interruption

# A sampling run that has not met its target by then is reported as it stands.
MOST_SAMPLES = 100_000
LARGEST_BATCH, LARGEST_CHANGE = 32, 8
# Once the error is known, no fewer samples at once than this share of those taken.
SMALLEST_SHARE = 32
# Bytes held for each byte of a probe while a batch passes through a reconstruction, measured generously.
WORKING_COPIES = 24
# On a CPU larger batches only move data through memory. An unrolled network at 256² with 8 coils: a probe costs 1.5
# reconstructions with 3 at a time, 1.1 with 8.
CPU_BATCH_BYTES = 32 * 2**20


class Progress(Protocol):
    """Told after each batch: samples, their expected total, and the error of σ, certified if there is a target.

    Examples
    --------
    >>> from mrnoise.estimators import sketch
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> def report(done, total, error):
    ...     print(f"{done} of {total} probes, σ known to {error:.0%}")
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> _ = sketch(operator, Plan(n_samples=100, batch_size=50, progress=report))
    50 of 100 probes, σ known to 7%
    100 of 100 probes, σ known to 5%
    """

    def __call__(self, done: int, total: int, error: float) -> None:
        """Report."""
        ...


class Certificate(Protocol):
    """Upper confidence bound of the error of a region, see `RegionError`."""

    def add(self, estimate: Estimate) -> None:
        """Take in the estimate after one more batch."""
        ...

    def bound(self, estimate: Estimate) -> float:
        """The bound for an estimate."""
        ...


@dataclass(frozen=True)
class Plan:
    """When to stop and how much to do at once.

    Parameters
    ----------
    n_samples
        Number of samples; with ``target_error``, the most.
    target_error
        Stop when the root-mean-square relative error of σ over ``region`` is below this, with 95 % probability.
    region
        Bool, image-shaped; ``None``: all voxels with noise.
    batch_size
        Samples evaluated together; ``None``: from free memory. Never changes the result beyond round-off.
    progress
        Called after each batch.

    Examples
    --------
    >>> from mrnoise.estimators import sketch
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> for target in (0.1, 0.05):
    ...     estimate = sketch(operator, Plan(target_error=target))
    ...     print(estimate.n_samples, bool(estimate.certified_error < target))
    40 True
    125 True
    """

    n_samples: int | None = None
    target_error: float | None = None
    region: Tensor | None = None
    batch_size: int | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.n_samples is None and self.target_error is None:
            raise InputError(
                "no stopping rule",
                expected="n_samples or target_error",
                received="neither",
                remedy="Give n_samples=200 or target_error=0.03.",
            )
        for name, value in (("n_samples", self.n_samples), ("batch_size", self.batch_size)):
            if value is not None:
                check_count(value, name)
        if self.target_error is not None and not 0 < self.target_error < 1:
            raise InputError(
                "invalid target error",
                expected="a relative error of σ between 0 and 1",
                received=str(self.target_error),
                remedy="Use 0.03 for 3 %.",
            )


def stream(
    evaluate: Callable[[Sequence[int]], tuple[Tensor, Tensor]],
    accumulator: Accumulator,
    plan: Plan,
    operator: NoiseOperator,
    *,
    smallest: int = 2,
    first: int = 8,
    certificate: Certificate | None = None,
) -> Estimate:
    """Feed batches to an accumulator until the plan is met.

    Parameters
    ----------
    evaluate
        Sample indices → (responses, probes), each with a leading batch axis.
    accumulator
        Running sums; memory does not grow with the number of samples. What it already holds is not repeated.
    plan
        Stopping rule.
    operator
        What is evaluated; the batch size depends on its size and its device.
    smallest
        Samples below which the error is not judged.
    first
        Samples of the first batch, if there is a target: hardly more work than two where a call has its price.
    certificate
        Judges the error of the region; ``None``: `RegionError`.

    Notes
    -----
    Ctrl-C returns the estimate so far, marked as interrupted; before the first batch it is passed on.
    """
    limit = plan.n_samples if plan.n_samples is not None else MOST_SAMPLES
    done, interrupted = accumulator.count, False
    certificate, error_now = certificate or RegionError(plan.region), math.nan
    # Some estimates are good enough as soon as they can be judged.
    first = min(max(smallest, first), limit) if plan.target_error is not None else 0

    if plan.target_error is not None and done >= smallest:
        start = accumulator.estimate(False)
        if start.certified_error is not None and float(start.certified_error) <= plan.target_error:
            return start
        certificate.add(start)
    try:
        with freed_blocks_kept():
            while done < limit:
                # Until the error can be judged, then as far as it is expected to take.
                expected = first if done < first else _expected_total(done, error_now, limit, plan.target_error)
                end = min(limit, max(expected, done + 1 + done // SMALLEST_SHARE))
                for samples, probes in batches(evaluate, range(done, end), plan.batch_size, operator):
                    check_finite(samples)
                    # A batch is taken in whole: an interruption leaves no sums with half of it.
                    with without_interruption():
                        # The certificate learns from how estimates change: more often than once a large batch.
                        for some, theirs in zip(
                            samples.split(LARGEST_CHANGE), probes.split(LARGEST_CHANGE), strict=True
                        ):
                            accumulator.add(some, theirs)
                            done += len(theirs)
                            if done >= smallest and plan.target_error is not None:
                                estimate = accumulator.estimate(False)
                                certificate.add(estimate)
                                error_now = certificate.bound(estimate)
                    if done >= smallest and plan.target_error is None and plan.progress is not None:
                        error_now = region_error(accumulator.estimate(False), plan.region)
                    expected = _expected_total(done, error_now, limit, plan.target_error)
                    if plan.progress is not None:
                        plan.progress(done, expected, error_now)
                    if plan.target_error is not None and error_now <= plan.target_error:
                        return _certified(accumulator.estimate(False), error_now)
                    if first <= done < expected < end:
                        break
    except KeyboardInterrupt:
        if done == 0:
            raise
        interrupted = True
    estimate = accumulator.estimate(interrupted)
    if interrupted:
        estimate = dataclasses.replace(estimate, sums=accumulator.sums())
    return estimate if plan.target_error is None else _certified(estimate, error_now)


def batches(
    evaluate: Callable[[Sequence[int]], tuple[Tensor, Tensor]],
    indices: range,
    batch_size: int | None,
    operator: NoiseOperator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Responses and probes of the samples ``indices``, batch by batch, each half as large once memory runs out."""
    batch = batch_size or batch_from_memory(operator)
    with freed_blocks_kept():
        while indices:
            try:
                evaluated = evaluate(indices[:batch])
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if batch == 1 or not _out_of_memory(error):
                    raise
                batch //= 2
                continue
            yield evaluated
            indices = indices[batch:]


def check_finite(samples: Tensor) -> None:
    """Raise `InputError` where a noise image has no value: σ would have none, and no error that tells.

    Examples
    --------
    >>> check_finite(torch.zeros(2, 3))
    """
    finite = samples.isfinite()
    if not bool(finite.all()):
        raise InputError(
            "with noise added the image has NaN or infinite voxels",
            expected="a finite image, whatever the noise",
            received=f"{int((~finite.all(0)).sum())} of {finite[0].numel()} voxels that are not in each of "
            f"{len(samples)} noise images",
            remedy="Guard divisions, logarithms and roots where noise may cross zero; a fit leaves voxels out by its "
            'region. To first order, method="sketch", such voxels may have σ.',
        )


def responses(
    respond: Callable[[Tensor], Tensor], noise: Tensor, batch_size: int | None, operator: NoiseOperator
) -> Tensor:
    """Responses to all noises (B, *noise), batch by batch."""

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        part = noise[list(indices)]
        return respond(part), part

    return torch.cat([samples for samples, _ in batches(evaluate, range(len(noise)), batch_size, operator)])


def _certified(estimate: Estimate, error: float) -> Estimate:
    return dataclasses.replace(estimate, certified_error=torch.tensor(error, dtype=torch.float64))


def _expected_total(done: int, error: float, limit: int, target: float | None) -> int:
    if target is None or not math.isfinite(error):
        return limit
    return min(limit, max(done, math.ceil(done * (error / target) ** 2)))


def batch_from_memory(operator: NoiseOperator) -> int:
    """Samples at once, from the size of one and the free memory."""
    probe_bytes = math.prod(operator.noise_shape) * operator.noise_dtype.itemsize
    if operator.device.type == "cuda":
        room = torch.cuda.mem_get_info(operator.device)[0] // 4
    else:
        room = min(psutil.virtual_memory().available // 4, CPU_BATCH_BYTES * WORKING_COPIES)
    return int(min(LARGEST_BATCH, max(1, room // max(1, probe_bytes * WORKING_COPIES))))


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)
