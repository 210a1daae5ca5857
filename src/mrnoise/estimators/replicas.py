"""Pseudo multiple replica: the variance over reconstructions of the data with fresh noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrnoise.estimators.batching.stream import Plan, stream
from mrnoise.estimators.control_variate import ControlledMoments, Features
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.moments import Accumulator, Continued, SampleMoments
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.sampler import REPLICAS, Draw, sampler


def monte_carlo(
    operator: NoiseOperator,
    plan: Plan,
    *,
    seed: int | Sequence[int] = 0,
    start: Estimate | None = None,
    features: Features | None = None,
    known: Tensor | None = None,
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
    known
        The first replicas, g(y+n) - g(y) of the noise of `replica_noise`, (B, *image), where a pilot took them.
    """
    draw = replica_noise(operator, seed)
    n_known = 0 if known is None else len(known)

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        old = [index for index in indices if index < n_known]
        parts = [] if known is None else [known[old]]
        if len(old) < len(indices):
            parts.append(operator.replicas(noise[len(old) :]))
        return torch.cat(parts), noise

    moments: Accumulator = SampleMoments("monte_carlo", known_mean=False, start=start)
    if features is not None:
        moments = ControlledMoments(features, "monte_carlo", known_mean=False)
        moments = moments if start is None else Continued(moments, start)
    return stream(evaluate, moments, plan, operator, smallest=3)


def replica_noise(operator: NoiseOperator, seed: int | Sequence[int]) -> Draw:
    """The noise of replicas, and of the products they are compared with, by their indices."""
    return sampler(
        operator.noise_shape,
        operator.noise_dtype,
        seed=seed,
        use=REPLICAS,
        distribution="gaussian",
        device=operator.device,
    )
