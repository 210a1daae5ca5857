"""Jacobian sketching: the mean of |L v|² over random probes v in k-space."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mrnoise.estimators.batching.stream import Plan, stream
from mrnoise.estimators.control_variate import ControlledMoments, Features
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.moments import Accumulator, Continued, SampleMoments
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.precision import CorrectedMoments, Correction
from mrnoise.estimators.sampler import Distribution, sampler


def sketch(
    operator: NoiseOperator,
    plan: Plan,
    *,
    seed: int | Sequence[int] = 0,
    distribution: str | Distribution = "phase",
    start: Estimate | None = None,
    features: Features | None = None,
    correction: Correction | None = None,
) -> Estimate:
    """Voxel variance (LLᴴ)_ii as the mean of |(L v)_i|².

    Unbiased for any real-linear L when E[vvᴴ] = I and E[vvᵀ] = 0; relative variance at most (1+κ²)/S.
    One jvp a sample (Dalmaz et al., ICML 2025, arXiv:2505.02007).

    Parameters
    ----------
    operator
        L.
    plan
        Stopping rule.
    seed
        Entropy of the probes.
    distribution
        One of `DISTRIBUTIONS`, or a function with the same signature.
    start
        An earlier estimate of the same operator, seed and distribution to go on from, with ``features`` and
        ``correction`` if that had them.
    features
        Cheap images for control variates, see `ControlledMoments`.
    correction
        Where ``operator`` is an approximation: what makes up for it, see `CorrectedMoments`. Its noise must differ
        from that of the correction of ``start``.
    """
    draw = sampler(
        operator.noise_shape,
        operator.noise_dtype,
        seed=seed,
        distribution=distribution,
        device=operator.device,
    )

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        probes = draw(indices)
        return operator.apply(probes), probes

    plain = features is None and correction is None
    moments: Accumulator = SampleMoments("sketch", known_mean=True, start=start if plain else None)
    if features is not None:
        moments = ControlledMoments(features, "sketch", known_mean=True)
    if correction is not None:
        moments = CorrectedMoments(moments, correction)
    if start is not None and not plain:
        moments = Continued(moments, start)
    return stream(evaluate, moments, plan, operator)
