"""Image-space probing: the diagonal of LLᵀ by Hutchinson's estimator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.moments import ProductMoments
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.sampler import sampler
from mrnoise.estimators.stream import Plan, stream


def probe(operator: NoiseOperator, plan: Plan, *, seed: int | Sequence[int] = 0) -> Estimate:
    """Voxel variance (LLᵀ)_ii as the mean of w*_i (LLᵀ w)_i over random-phase images w.

    Its error comes from the correlation between voxels alone, Σ_{j≠i}|Σ_ij|² / Σ_ii²: small for
    unregularised parallel imaging at low R, larger than that of `sketch` for networks. One vjp and one jvp
    a sample (Dalmaz et al. 2026, arXiv:2605.09590; Bekas et al. 2007, doi:10.1016/j.apnum.2007.01.003).

    Parameters
    ----------
    operator
        L and its adjoint.
    plan
        Stopping rule. The error is judged from 8 samples on, since it is measured from their spread.
    seed
        Entropy of the probes.
    """
    is_complex = operator.image_dtype.is_complex
    draw = sampler(
        operator.image_shape,
        operator.image_dtype if is_complex else operator.image_dtype.to_complex(),
        seed=seed,
        distribution="phase" if is_complex else _signs,
        device=operator.device,
    )

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        probes = draw(indices)
        return operator.apply(operator.adjoint(probes)), probes

    moments = ProductMoments("probe", products_per_sample=2)
    return stream(evaluate, moments, plan, operator, smallest=8)


def _signs(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Real ±1, the probes of a real image."""
    return 2.0 * torch.randint(0, 2, tuple(shape), generator=generator).to(dtype.to_real()) - 1.0
