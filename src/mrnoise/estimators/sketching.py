"""Jacobian sketching: the mean of |L v|² over random probes v in k-space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from mrnoise.estimators.batching.stream import Plan, stream
from mrnoise.estimators.control_variate import ControlledMoments, Features
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import Accumulator, Continued, SampleMoments
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.precision import CorrectedMoments, Correction, correction, require_half_precision
from mrnoise.estimators.protocol import Image, Method, as_before, cannot_go_on
from mrnoise.estimators.sampler import Distribution, sampler


def sketch(
    operator: NoiseOperator,
    plan: Plan,
    *,
    key: Key = Key(),
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
    key
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

    Returns
    -------
    Estimate
        Variance in squared image units. After Ctrl-C: that of the probes so far.

    Examples
    --------
    >>> from mrnoise.estimators import exact
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> estimate = sketch(operator, Plan(n_samples=100))
    >>> ratio = estimate.variance / exact(operator).variance
    >>> round(float(ratio.mean()), 2), round(float(ratio.std()), 1)  # spread at most 1 / √100
    (1.0, 0.1)
    """
    draw = sampler(
        operator.noise_shape,
        operator.noise_dtype,
        key=key,
        distribution=distribution,
        device=operator.device,
    )

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        probes = draw(indices)
        return operator.apply(probes), probes

    moments: Accumulator
    # Without its sums, what is fitted or corrected goes on as a mean of two.
    anew = start is not None and start.sums is None and (features is not None or correction is not None)
    begin = None if anew else start
    if features is None:
        moments = SampleMoments("sketch", known_mean=True, start=begin)
    else:
        moments = ControlledMoments(features, "sketch", known_mean=True, start=begin)
    if correction is not None:
        moments = CorrectedMoments(moments, correction)
    if anew:
        assert start is not None
        moments = Continued(moments, start)
    return stream(evaluate, moments, plan, operator)


@dataclass(frozen=True)
class Sketch(Method):
    """Jacobian sketching as a method, see `sketch`.

    Parameters
    ----------
    distribution
        Of its probes: ``"phase"``, ``"rademacher"`` or ``"gaussian"``, or a function that draws them.
    control_variate
        Subtract what the noise of cheap SENSE images of the same slice explains, whose variance is known in closed
        form: fewer samples for the same error. ``None``: where the map that is gone on from has them.
    half_precision
        Products with convolutions in bfloat16, and a few pairs with those in single precision, which remove the bias,
        see `mrnoise.estimators.precision.CorrectedMoments`. ``None``: where the map that is gone on from has them.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import random_1d
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 4, mask=random_1d((32, 24), 2, calibration=8))
    >>> for method in (Sketch(), Sketch(control_variate=True)):
    ...     nm = noise_map(CgSense(1e-2), scan, method=method, n_samples=100)
    ...     print(f"σ of the voxel known to {nm.relative_error[16, 12]:.1%}")
    σ of the voxel known to 5.1%
    σ of the voxel known to 0.9%
    """

    distribution: str | Distribution = "phase"
    control_variate: bool | None = None
    half_precision: bool | None = None
    resumable = True

    @property
    def name(self) -> str:
        """``"sketch"``."""
        return "sketch"

    @property
    def distribution_name(self) -> str:
        """That of its probes."""
        return self.distribution if isinstance(self.distribution, str) else self.distribution.__name__

    def going_on(self, earlier: str, options: Mapping[str, Any]) -> Sketch:
        """With control variates and half precision where the earlier map has them."""
        super().going_on(earlier, options)
        if self.distribution_name != options.get("distribution"):
            raise cannot_go_on(f"distribution {self.distribution_name}", str(options.get("distribution")))
        return replace(
            self,
            control_variate=as_before("control_variate", self.control_variate, options),
            half_precision=as_before("half_precision", self.half_precision, options),
        )

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """By products with the derivative, in half precision where asked for."""
        features = image.required_features() if self.control_variate else None
        operator, corrected = image.operator, None
        if self.half_precision:
            operator = image.in_half_precision()
            if image.known.pairs is None:
                require_half_precision(operator)
            # The same pairs once more where the run is the same one.
            own = key if start is None or start.sums is not None else key.of("continued", start.n_samples)
            corrected = correction(image.operator, operator, plan, key=own, start=image.known.pairs)
        return sketch(
            operator,
            plan,
            key=key,
            distribution=self.distribution,
            start=start,
            features=features,
            correction=corrected,
        )
