"""Image-space probing: the diagonal of LLᵀ, one colour of voxels at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from mrnoise.estimators.batching.stream import Plan, stream
from mrnoise.estimators.certificate import CERTIFIED_LEVEL
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import Accumulator, local_mean
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.protocol import Image, Method
from mrnoise.estimators.sampler import sampler
from mrnoise.estimators.sampling_error import EmpiricalError, LeakageError
from mrnoise.quantiles import student

# A voxel knows its own leakage from as many values as draws. Where these are few, the mean over its neighbourhood,
# so many voxels wide, counts as so many draws more.
NEIGHBOURHOOD, NEIGHBOURS_COUNT_AS = 5, 5
# Colours from which on the error of a region is judged by how they differ.
FEWEST_COLOURS = 6


def probe(
    operator: NoiseOperator,
    plan: Plan,
    *,
    colours: Tensor | None = None,
    key: Key = Key(),
    method: str = "probe",
) -> Estimate:
    """Voxel variance (LLᵀ)_ii from random-phase images w that are zero but on one colour of voxels.

    V_i = Re w*_i (LLᵀ w)_i is unbiased; its error is leakage, what the other voxels of the same colour are
    correlated with voxel i, Σ_{j≠i} |Σ_ij|² / 2Σ_ii² a draw. Without colours that is Hutchinson's estimator. Where
    no two voxels of a colour are correlated, one draw is exact. One vjp and one jvp a colour; for real-linear L two,
    of w and iw, whose mean has no part of the pseudo-variance (Bekas et al. 2007, doi:10.1016/j.apnum.2007.01.003;
    Tang and Saad 2012, doi:10.1002/nla.779; Dalmaz et al. 2026, arXiv:2605.09590).

    Parameters
    ----------
    operator
        L and its adjoint.
    plan
        Stopping rule; a sample is one draw of all colours.
    colours
        Colour of every voxel, integers from 0, shaped to broadcast on the image; ``None``: one colour.
    key
        Entropy of the probes.
    method
        Name recorded in the estimate.

    Returns
    -------
    Estimate
        With the error of leakage; the pseudo-variance of a complex-linear operator is zero.

    Notes
    -----
    The imaginary part of w*_i (LLᵀ w)_i is leakage alone, with the spread that the real part has: the error bar
    comes from there, and one draw suffices. A real image has no imaginary part; it takes two draws.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import alias_colours, equispaced
    >>> from mrnoise.simulation import simulate
    >>> mask = equispaced((16, 12), 2)
    >>> (operator,) = linearize(Sense(), simulate((16, 12), 4, mask=mask))
    >>> for colours in (None, alias_colours(mask)):
    ...     estimate = probe(operator, Plan(n_samples=1), colours=colours)
    ...     print(estimate.n_products, round(float((estimate.variance_error / estimate.variance).median()), 3))
    2 0.498
    4 0.0
    """
    if colours is None:
        colours = torch.zeros((), dtype=torch.long)
    colours = colours.expand(operator.image_shape).to(operator.device)
    n_colours = int(colours.max()) + 1
    is_complex = operator.image_dtype.is_complex
    moments = _Diagonal(operator, colours, n_colours, method)
    # The error of a draw is known when all colours had their turn.
    enough = n_colours if is_complex else 2 * n_colours
    limit = None if plan.n_samples is None else plan.n_samples * n_colours
    certificate = None
    if is_complex and n_colours >= FEWEST_COLOURS:
        certificate = _ColourError(moments, plan.region)
    return stream(
        _evaluation(operator, colours, n_colours, key),
        moments,
        replace(plan, n_samples=limit),
        operator,
        smallest=enough,
        first=enough,
        certificate=certificate,
    )


def leakage(
    operator: NoiseOperator, colours: Tensor, which: Sequence[int], inside: Tensor, *, key: Key = Key()
) -> float:
    """Σ(V̂-V)² / ΣV² of one draw, expected from the imaginary part, over voxels of some colours of a complex image.

    Parameters
    ----------
    operator, colours, key
        As for `probe`.
    which
        Colours to try.
    inside
        Bool, image-shaped.
    """
    colours = colours.to(operator.device)
    n_colours = int(colours.max()) + 1
    moments = _Diagonal(operator, colours, n_colours, "probe")
    moments.add(*_evaluation(operator, colours, n_colours, key)(list(which)))
    tried = inside.to(operator.device) & torch.isin(colours, torch.tensor(list(which), device=operator.device))
    square, power = (float(values[tried].sum()) for values in (moments.square, moments.variance.square()))
    return square / power if power > 0 else 0.0


def _evaluation(
    operator: NoiseOperator, colours: Tensor, n_colours: int, key: Key
) -> Callable[[Sequence[int]], tuple[Tensor, Tensor]]:
    """Indices of probes, colours fastest → what `_Diagonal` takes in."""
    is_complex = operator.image_dtype.is_complex
    draw = sampler(
        operator.image_shape,
        operator.image_dtype if is_complex else operator.image_dtype.to_complex(),
        key=key,
        distribution="phase" if is_complex else _signs,
        device=operator.device,
    )

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.tensor([index % n_colours for index in indices], device=operator.device)
        probes = draw([index // n_colours for index in indices])
        probes = probes * (colours == chosen.reshape(-1, *[1] * colours.ndim))
        sides = [probes] if operator.complex_linear or not is_complex else [probes, 1j * probes]
        through = operator.apply(operator.adjoint(torch.cat(sides)))
        return torch.stack(through.chunk(len(sides)), 1), probes

    return evaluate


class _ColourError:
    """As `RegionError`, from a single draw on: colours are probed independently of each other.

    The mean square error of a colour is that of its imaginary part. Over K colours its mean is known to s/√K, and
    what the real parts came to scatters as much again.
    """

    def __init__(self, moments: _Diagonal, region: Tensor | None) -> None:
        self._moments, self._region = moments, region

    def add(self, estimate: Estimate) -> None:
        """Nothing is kept."""

    def bound(self, estimate: Estimate) -> float:
        """The bound for an estimate."""
        inside = estimate.variance > 0
        if self._region is not None:
            inside = inside & self._region.to(inside.device)
        relative = 0.25 * (self._moments.square / self._moments.variance.square())[inside]
        which = self._moments.colours[inside]
        count = torch.bincount(which)
        mean = torch.bincount(which, relative)[count > 0] / count[count > 0]
        if len(mean) < 2:
            return float("nan")
        reach = float(student(CERTIFIED_LEVEL, len(mean) - 1)) * (2 / len(mean)) ** 0.5
        return float((relative.mean() + reach * mean.std()).sqrt())


class _Diagonal(Accumulator):
    """Running sums, for each voxel over the draws of its colour, of V, P and the squares that tell the error of V."""

    def __init__(self, operator: NoiseOperator, colours: Tensor, n_colours: int, method: str) -> None:
        self._operator, self.colours, self._n_colours, self._method = operator, colours, n_colours, method
        self.count = 0
        zero = torch.zeros(operator.image_shape, dtype=torch.float64, device=operator.device)
        self.variance, self.square = zero, zero
        self._p = zero.to(torch.complex128)

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in LLᵀw, and LLᵀ(iw) for improper noise, (B, 1 or 2, *image), with w, (B, *image)."""
        s, w = samples.to(torch.complex128), probes.to(torch.complex128)
        a = w.conj() * s[:, 0]
        if not self._operator.image_dtype.is_complex:
            # Unit-variance real probes see twice the variance of one real noise component.
            v = p = 0.5 * a
            square = v.real.square()
        elif self._operator.complex_linear:
            v, p, square = a, torch.zeros_like(a), a.imag.square()
        else:
            # LLᵀw = Vw + Pw̄ + leakage.
            b = w.conj() * s[:, 1]
            v, p = 0.5 * (a - 1j * b), 0.5 * w.square() * (a + 1j * b)
            square = v.imag.square()
        self.variance = self.variance + v.real.sum(0)
        self._p = self._p + p.sum(0)
        self.square = self.square + square.sum(0)
        self.count += len(probes)

    def estimate(self, interrupted: bool) -> Estimate:
        """Means over the draws; voxels whose colour had no turn are NaN."""
        whole, part = divmod(self.count, self._n_colours)
        draws = whole + (self.colours < part).double()
        draws = torch.where(draws > 0, draws, torch.nan)
        v, p = self.variance / draws, self._p / draws
        if self._operator.image_dtype.is_complex:
            nearby = _local_mean(self.square / draws) / _local_mean(v.square()) * v.square()
            weight = NEIGHBOURS_COUNT_AS / (NEIGHBOURS_COUNT_AS + draws)
            error = torch.lerp(self.square / draws, nearby, weight) / draws
        else:
            error = torch.where(draws > 1, (self.square / draws - v.square()) / (draws - 1), torch.nan)
        improper = error if not self._operator.complex_linear else torch.zeros_like(error)
        real = not self._operator.image_dtype.is_complex
        return Estimate(
            variance=v.clamp_min(0),
            pseudo_variance=p,
            # The leakage into P has no imaginary part of its own to judge it by; it is at most that into V.
            error=(EmpiricalError if self._n_colours == 1 else LeakageError)(
                variance=error,
                cross=(error if real else torch.zeros_like(error)).to(torch.complex128),
                pseudo_abs=error if real else 2 * improper,
                pseudo_square=(error if real else torch.zeros_like(error)).to(torch.complex128),
                degrees_of_freedom=draws - 1 if real else draws + NEIGHBOURS_COUNT_AS,
            ),
            method=self._method,
            n_samples=max(whole, 1),
            n_products=self.count * (4 if not (real or self._operator.complex_linear) else 2),
            interrupted=interrupted,
        )


def _local_mean(values: Tensor) -> Tensor:
    """Mean over the neighbours of each voxel in its plane, of those that are known; tiny rather than zero."""
    planes = values.reshape((1,) * (2 - values.ndim) + tuple(values.shape))
    known = ~planes.isnan()
    mean = local_mean(planes.nan_to_num(0), NEIGHBOURHOOD) / local_mean(known.double(), NEIGHBOURHOOD)
    return mean.reshape(values.shape).clamp_min(torch.finfo(torch.float64).tiny)


def _signs(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Real ±1, the probes of a real image."""
    return 2.0 * torch.randint(0, 2, tuple(shape), generator=generator).to(dtype.to_real()) - 1.0


class Colours(Protocol):
    """A way to colour the voxels of an image."""

    @property
    def name(self) -> str:
        """What the method is called with them."""
        ...

    def of(self, image: Image, plan: Plan, key: Key) -> Tensor:
        """Colour of every voxel, integers from 0."""
        ...


@dataclass(frozen=True)
class AliasSets:
    """Colours by which the voxels of every alias set differ: within one, the noise of SENSE is not correlated.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> nm = noise_map(Sense(), scan, method=Probe(AliasSets(), draws=1))
    >>> nm.method, nm.n_products, round(float(nm.relative_error.max()), 3)
    ('lattice', 4, 0.0)
    """

    name: ClassVar[str] = "lattice"

    def of(self, image: Image, plan: Plan, key: Key) -> Tensor:
        """Those of the sampling, or the `InputError` that its alias sets are too large."""
        return image.alias_colours()


@dataclass(frozen=True)
class Probe(Method):
    """Image-space probing as a method, see `probe`.

    Parameters
    ----------
    colours
        `AliasSets` (method ``lattice``), `Sublattice` or `Uncorrelated` (method ``coloured``); ``None``: all voxels at
        once (method ``probe``).
    draws
        Of all colours, whatever the plan; ``None``: as it says.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.estimators import Sublattice
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> method = Probe(Sublattice(2, 2, shear=1))
    >>> nm = noise_map(CgSense(1e-3), simulate((16, 12), 4), method=method, n_samples=2)
    >>> nm.method, nm.n_products
    ('coloured', 16)
    """

    colours: Colours | None = None
    draws: int | None = None
    needs = frozenset({"derivative", "adjoint"})

    @property
    def name(self) -> str:
        """That of the colours, or ``"probe"``."""
        return "probe" if self.colours is None else self.colours.name

    @property
    def distribution_name(self) -> str:
        """Of images."""
        return "phase (image space)"

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """One colour of voxels after the other."""
        colours = None if self.colours is None else self.colours.of(image, plan, key)
        if self.draws is not None:
            plan = replace(plan, n_samples=self.draws)
        return probe(image.operator, plan, colours=colours, key=key, method=self.name)
