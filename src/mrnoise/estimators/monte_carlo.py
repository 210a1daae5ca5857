"""Pseudo multiple replica: the variance over reconstructions of the data with fresh noise."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mrnoise.estimators.control_variate import ControlledMoments, Features
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.moments import Accumulator, Continued, SampleMoments
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.sampler import sampler
from mrnoise.estimators.stream import Plan, stream


def monte_carlo(
    operator: NoiseOperator,
    plan: Plan,
    *,
    seed: int | Sequence[int] = 0,
    start: Estimate | None = None,
    features: Features | None = None,
) -> Estimate:
    """Sample variance of N reconstructions of y + Ψ^{1/2} v with circular Gaussian v.

    The nonlinear truth at the noise level of the scan; relative variance (1+κ²)/(N-1). One reconstruction
    a sample (Robson et al. 2008, doi:10.1002/mrm.21728).

    Parameters
    ----------
    operator
        Its `replicas`.
    plan
        Stopping rule.
    seed
        Entropy of the noise.
    start
        An earlier estimate of the same operator and seed to go on from, with ``features`` if that had them.
    features
        Cheap images for control variates, see `ControlledMoments`.
    """
    draw = sampler(
        operator.noise_shape, operator.noise_dtype, seed=seed, distribution="gaussian", device=operator.device
    )

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        return operator.replicas(noise), noise

    moments: Accumulator = SampleMoments("monte_carlo", known_mean=False, start=start)
    if features is not None:
        moments = ControlledMoments(features, "monte_carlo", known_mean=False)
        moments = moments if start is None else Continued(moments, start)
    return stream(evaluate, moments, plan, operator, smallest=3)
