"""Exact noise, one row of L at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.estimators.batching.stream import Plan, Progress, batches, stream
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import Accumulator
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.protocol import Image, Method
from mrnoise.estimators.sampling_error import NoError


class _Rows(Accumulator):
    """Squared norms and inner product of the rows of L that belong to the real and imaginary part of each voxel."""

    def __init__(self, operator: NoiseOperator, n_voxels: int) -> None:
        self._operator = operator
        self.count = 0
        # In host memory: a row at a time is no work.
        self._variance = torch.full((n_voxels,), torch.nan, dtype=torch.float64, device="cpu")
        self._pseudo = torch.full((n_voxels,), torch.nan, dtype=torch.complex128, device="cpu")

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in the rows, (B, rows_per_voxel, *noise)."""
        rows = samples.flatten(2).to(torch.complex128)
        index = slice(self.count, self.count + len(rows))
        squares = rows.abs().square().sum(-1).cpu()
        if self._operator.complex_linear:
            variance, pseudo = squares[:, 0], torch.zeros(len(rows), dtype=torch.complex128, device="cpu")
        elif rows_per_voxel(self._operator) == 1:
            # Each real component of v has variance 1/2.
            variance = 0.5 * squares[:, 0]
            pseudo = variance.to(torch.complex128)
        else:
            cross = (rows[:, 0].conj() * rows[:, 1]).sum(-1).real.cpu()
            variance = 0.5 * squares.sum(1)
            pseudo = torch.complex(0.5 * (squares[:, 0] - squares[:, 1]), cross)
        self._variance[index], self._pseudo[index] = variance, pseudo
        self.count += len(rows)

    def moments(self) -> tuple[Tensor, Tensor]:
        """E|δx|² and E δx² of the voxels; NaN where not reached."""
        return self._variance, self._pseudo

    def estimate(self, interrupted: bool) -> Estimate:
        """The rows so far; voxels not reached are NaN."""
        shape = self._operator.image_shape
        return Estimate(
            variance=self._variance.reshape(shape),
            pseudo_variance=self._pseudo.reshape(shape),
            error=NoError(),
            method="exact",
            n_samples=self.count,
            n_products=self.count * rows_per_voxel(self._operator),
            interrupted=interrupted,
        )


def exact(operator: NoiseOperator, *, batch_size: int | None = None, progress: Progress | None = None) -> Estimate:
    """Voxel variance ‖row i of L‖², without sampling.

    One vjp a voxel for complex-linear maps and real images, two otherwise: for small images and as an
    oracle.

    Parameters
    ----------
    operator
        The adjoint of L.
    batch_size
        Rows computed together; ``None``: from free memory.
    progress
        Called after each batch.

    Returns
    -------
    Estimate
        With `NoError`.

    Examples
    --------
    >>> from mrnoise.closed_form import sense_std
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> (operator,) = linearize(Sense(), scan)
    >>> sigma = exact(operator).variance.sqrt()
    >>> torch.allclose(sigma, sense_std(scan), rtol=1e-3)
    True
    """
    n = torch.Size(operator.image_shape).numel()
    every_voxel = Plan(n_samples=n, batch_size=batch_size, progress=progress)
    return stream(_evaluation(operator, torch.arange(n, device="cpu")), _Rows(operator, n), every_voxel, operator)


def voxel_moments(operator: NoiseOperator, voxels: Tensor, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Exact E|δx|² and E δx² of single voxels, (n,) each in host memory, at `rows_per_voxel` vjps a voxel.

    Parameters
    ----------
    operator
        The adjoint of L.
    voxels
        Their indices in the flattened image, (n,).
    batch_size
        Rows computed together; ``None``: from free memory.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(CgSense(1e-3), simulate((16, 12), 4))
    >>> variance, pseudo_variance = voxel_moments(operator, torch.tensor([70, 90]))
    >>> torch.equal(variance, exact(operator).variance.flatten()[[70, 90]]), pseudo_variance.tolist()
    (True, [0j, 0j])
    """
    rows = _Rows(operator, len(voxels))
    for samples, probes in batches(_evaluation(operator, voxels), range(len(voxels)), batch_size, operator):
        rows.add(samples, probes)
    return rows.moments()


def rows_per_voxel(operator: NoiseOperator) -> int:
    """Two, unless one tells the other."""
    return 1 if operator.complex_linear or not operator.image_dtype.is_complex else 2


def _evaluation(operator: NoiseOperator, voxels: Tensor) -> Callable[[Sequence[int]], tuple[Tensor, Tensor]]:
    """Places in the list of voxels → their rows, and the images that have a one there."""
    n = torch.Size(operator.image_shape).numel()

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        units = torch.zeros(len(indices), n, dtype=operator.image_dtype, device=operator.device)
        units[list(range(len(indices))), voxels[list(indices)]] = 1
        units = units.reshape(-1, *operator.image_shape)
        parts = [operator.adjoint(units)]
        if rows_per_voxel(operator) == 2:
            parts.append(operator.adjoint(1j * units))
        return torch.stack(parts, dim=1), units

    return evaluate


@dataclass(frozen=True)
class Exact(Method):
    """Row by row, without sampling error, see `exact`.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(CgSense(1e-3), simulate((16, 12), 4), method=Exact())
    >>> nm.n_products, float(nm.relative_error.max())
    (192, 0.0)
    """

    needs = frozenset({"adjoint"})
    exhaustive = True

    @property
    def name(self) -> str:
        """``"exact"``."""
        return "exact"

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """All rows."""
        return exact(image.operator, batch_size=plan.batch_size, progress=plan.progress)


@dataclass(frozen=True)
class ClosedForm(Method):
    """The closed form of the reconstruction, where it has one.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(CgSense(1e-2), simulate((16, 12), 4), method=ClosedForm())
    >>> nm.method, nm.n_products, float(nm.relative_error.max())
    ('closed_form', 0, 0.0)
    """

    needs = frozenset()
    exhaustive = True

    @property
    def name(self) -> str:
        """``"closed_form"``."""
        return "closed_form"

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """Its variance; the noise of a complex image is proper, that of a real one all along the real axis."""
        variance = image.closed_form()
        proper = image.operator.image_dtype.is_complex
        return Estimate(
            variance=variance,
            pseudo_variance=(0 if proper else 1) * variance.to(torch.complex128),
            error=NoError(),
            method="closed_form",
            n_samples=0,
            n_products=0,
            certified_error=torch.zeros((), dtype=torch.float64),
        )
