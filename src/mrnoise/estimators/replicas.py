"""Pseudo multiple replica: the variance over reconstructions of the data with fresh noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrnoise.estimators.batching.stream import Plan, stream
from mrnoise.estimators.control_variate import ControlledMoments, Features
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import Accumulator, Continued, SampleMoments
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.protocol import Image, Method, as_before
from mrnoise.estimators.sampler import Draw, sampler


def monte_carlo(
    operator: NoiseOperator,
    plan: Plan,
    *,
    key: Key = Key(),
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
    key
        Entropy of the noise.
    start
        An earlier estimate of the same operator and seed to go on from, with ``features`` if that had them.
    features
        Cheap images for control variates, see `ControlledMoments`.
    known
        The first replicas, g(y+n) - g(y) of the noise of `replica_noise`, (B, *image), where a pilot took them.

    Returns
    -------
    Estimate
        With ``mean``, the noise-induced bias, and its error. After Ctrl-C: that of the replicas so far.

    Examples
    --------
    >>> from mrnoise.estimators import exact
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> estimate = monte_carlo(operator, Plan(n_samples=200))
    >>> ratio = estimate.variance / exact(operator).variance
    >>> round(float(ratio.mean()), 2), round(float(ratio.std()), 2)  # spread 1 / √199
    (1.0, 0.07)
    """
    draw = replica_noise(operator, key)
    n_known = 0 if known is None else len(known)

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        old = [index for index in indices if index < n_known]
        parts = [] if known is None else [known[old]]
        if len(old) < len(indices):
            parts.append(operator.replicas(noise[len(old) :]))
        return torch.cat(parts), noise

    moments: Accumulator
    if features is None:
        moments = SampleMoments("monte_carlo", known_mean=False, start=start)
    else:
        moments = ControlledMoments(features, "monte_carlo", known_mean=False, start=start)
        moments = moments if start is None or start.sums is not None else Continued(moments, start)
    return stream(evaluate, moments, plan, operator, smallest=3)


def replica_noise(operator: NoiseOperator, key: Key) -> Draw:
    """The noise of replicas, and of the products they are compared with, by their indices."""
    return sampler(
        operator.noise_shape,
        operator.noise_dtype,
        key=key.of("replicas"),
        distribution="gaussian",
        device=operator.device,
    )


@dataclass(frozen=True)
class MonteCarlo(Method):
    """Pseudo multiple replica as a method, see `monte_carlo`.

    Parameters
    ----------
    control_variate
        As for `mrnoise.estimators.Sketch`.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import RootSumOfSquares
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(RootSumOfSquares(), simulate((16, 12), 4, snr=5.0), method=MonteCarlo(), n_samples=200)
    >>> nm.method, round(float(nm.snr[8, 6]), 1), round(float(nm.bias[0, 0] / nm.image[8, 6]), 2)  # bias of air
    ('monte_carlo', 3.2, 0.34)
    """

    control_variate: bool | None = None
    first_order = False
    needs = frozenset()
    resumable = True

    @property
    def name(self) -> str:
        """``"monte_carlo"``."""
        return "monte_carlo"

    @property
    def distribution_name(self) -> str:
        """Noise is Gaussian."""
        return "gaussian"

    def going_on(self, earlier: str, options: Mapping[str, Any]) -> MonteCarlo:
        """With control variates where the earlier map has them."""
        super().going_on(earlier, options)
        return replace(self, control_variate=as_before("control_variate", self.control_variate, options))

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """By replicas, the first of them those that are known."""
        features = image.required_features() if self.control_variate else None
        return monte_carlo(image.operator, plan, key=key, start=start, features=features, known=image.known.replicas)
