"""How far the σ of a whole region is from the truth: expected, and with an upper confidence bound."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.quantiles import chi_square, chi_square_above

CERTIFIED_LEVEL = 0.95
# Changes by earlier batches that each is compared with.
MOST_CHANGES = 8


def region_error(estimate: Estimate, region: Tensor | None) -> float:
    """Root mean square over a region of the relative standard error of σ, s.e.(σ²) / 2σ².

    Parameters
    ----------
    estimate
        Of an image.
    region
        Bool, image-shaped; ``None``: all voxels with noise.

    Returns
    -------
    float
        Relative to σ: 0.03 for 3 %; 0 where no voxel of the region has noise.

    Examples
    --------
    >>> from mrnoise.estimators import Plan, sketch
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> round(region_error(sketch(operator, Plan(n_samples=100)), None), 3)  # 1 / √(4 · 100)
    0.05
    """
    inside = _inside(estimate, region)
    if not bool(inside.any()):
        return 0.0
    return float(0.5 * _relative_variance(estimate, inside).mean().sqrt())


def object_of(operator: NoiseOperator, region: Tensor | None) -> Tensor:
    """The region on the device of the operator; every voxel where there is none, or no voxel in it."""
    everywhere = torch.ones(operator.image_shape, dtype=torch.bool)
    return (everywhere if region is None or not bool(region.any()) else region).to(operator.device)


class RegionError:
    """Upper confidence bound of the root-mean-square relative error of σ over a region, batch by batch.

    The realised mean square ε² = mean_i (σ̂_i/σ_i - 1)² over N voxels has the expectation m, the square of
    `region_error`, and scatters about it as m χ²_n / n (Satterthwaite 1946, doi:10.2307/3002019) with
    n = (tr C)² / tr C² effective voxels, C the covariance between voxels of the relative error of V̂ from one
    sample. Correlated noise has n < N.

    n is measured without C: the relative changes e, e' of V̂ by two batches have covariances ∝ C, so that the squared
    cosine of the angle between them, (e · e')² / (|e|² |e'|²), has the mean 1/n; their size, which falls once control
    variates are fitted, does not matter. Half of the tail goes to the upper bound of 1/n from K pairs of batches, as
    χ²_K / K, the other half to χ²_n / n. Without a pair n is 1, the value of fully correlated voxels.

    Parameters
    ----------
    region
        Bool, image-shaped; ``None``: all voxels with noise.
    level
        Probability with which the error is below the bound.

    Examples
    --------
    >>> from mrnoise.estimators import Plan, sketch
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> certificate = RegionError(None)
    >>> for n in (32, 64, 96):
    ...     estimate = sketch(operator, Plan(n_samples=n))
    ...     certificate.add(estimate)
    >>> print(f"expected {region_error(estimate, None):.3f}, with 95 % below {certificate.bound(estimate):.3f}")
    expected 0.051, with 95 % below 0.115
    """

    def __init__(self, region: Tensor | None, level: float = CERTIFIED_LEVEL) -> None:
        self._region, self._tail = region, 0.5 * (1 - level)
        self._variance: Tensor | None = None
        self._count = 0
        self._changes: deque[Tensor] = deque(maxlen=MOST_CHANGES)
        self._squared_cosines = 0.0
        self._pairs = 0

    def add(self, estimate: Estimate) -> None:
        """Take in the estimate after one more batch."""
        count = estimate.n_samples
        if self._variance is not None and count > self._count:
            inside = _inside(estimate, self._region)
            change = torch.where(inside, 1 - self._variance / estimate.variance, 0.0)
            change = change / torch.linalg.vector_norm(change).clamp_min(torch.finfo(change.dtype).tiny)
            self._squared_cosines += sum(float((change * earlier).sum()) ** 2 for earlier in self._changes)
            self._pairs += len(self._changes)
            self._changes.append(change)
        self._variance, self._count = estimate.variance, count

    def bound(self, estimate: Estimate) -> float:
        """The bound for an estimate; NaN where one sample cannot tell."""
        expected = region_error(estimate, self._region)
        if not expected > 0:
            return expected
        n = 1.0
        if self._squared_cosines > 0:
            most = float(_inside(estimate, self._region).sum())
            n = min(max(float(chi_square(self._tail, self._pairs)) / self._squared_cosines, 1.0), most)
        return expected * float(chi_square_above(self._tail, n) / n) ** 0.5


def _inside(estimate: Estimate, region: Tensor | None) -> Tensor:
    inside = estimate.variance > 0
    return inside if region is None else inside & region.to(inside.device)


def _relative_variance(estimate: Estimate, inside: Tensor) -> Tensor:
    return (estimate.variance_error[inside] / estimate.variance[inside]).square()
