"""Colours of voxels for image-space probing, from how far noise is correlated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.batching.clock import Stopwatch
from mrnoise.estimators.batching.stream import Plan, responses
from mrnoise.estimators.certificate import object_of
from mrnoise.estimators.key import Key
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.probing import leakage
from mrnoise.estimators.protocol import Image
from mrnoise.estimators.sampler import sampler

# Without a pilot: products that colours are found from.
N_PRODUCTS = 8
# Numbers of colours, and how many of them are tried.
FEWEST, MOST, MOST_TRIES = 3, 42, 4
# Offsets of strong correlation of which all pairs are considered.
MOST_STRONG = 64
# Squared correlations above so many standard deviations of their sampling noise count.
SIGNIFICANT = 4.0
# Draws are planned for so much more leakage than measured: it is certified, not expected, to be below the target.
MARGIN = 1.3
GOAL = 0.03


@dataclass(frozen=True)
class Sublattice:
    """Voxels (y, x) of one colour differ by (a i, s i + b j): a·b colours.

    Parameters
    ----------
    rows, columns, shear
        a, b and s.

    Examples
    --------
    >>> cells = Sublattice(2, 3, shear=1)
    >>> cells.n_colours
    6
    >>> cells.colours((4, 6))
    tensor([[0, 1, 2, 0, 1, 2],
            [3, 4, 5, 3, 4, 5],
            [2, 0, 1, 2, 0, 1],
            [5, 3, 4, 5, 3, 4]])
    """

    rows: int
    columns: int
    shear: int
    name: ClassVar[str] = "coloured"

    def of(self, image: Image, plan: Plan, key: Key) -> Tensor:
        """Its colours of an image, which has to be a complex plane."""
        _require_plane(image.operator)
        return self.colours(image.operator.image_shape)

    @property
    def n_colours(self) -> int:
        """a·b."""
        return self.rows * self.columns

    def colours(self, shape: Sequence[int]) -> Tensor:
        """Colour of every voxel of an image (y, x), integers from 0."""
        y, x = torch.arange(shape[0])[:, None], torch.arange(shape[1])
        cell = torch.div(y, self.rows, rounding_mode="floor")
        return (y % self.rows) * self.columns + (x - self.shear * cell) % self.columns


@dataclass(frozen=True)
class Colouring:
    """A sublattice that was tried.

    Parameters
    ----------
    sublattice
        Of the colours.
    draws
        Of all colours, for the target.
    seconds
        For these.
    """

    sublattice: Sublattice
    draws: int
    seconds: float


@dataclass(frozen=True)
class Uncorrelated:
    """Colours of voxels whose noise is not correlated, by `colouring` from eight products.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.estimators import Probe
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(CgSense(1e-3), simulate((16, 12), 4), method=Probe(Uncorrelated()), n_samples=2)
    >>> nm.method, bool(nm.relative_error.nanmedian() < 0.1)
    ('coloured', True)
    """

    name: ClassVar[str] = "coloured"

    def of(self, image: Image, plan: Plan, key: Key) -> Tensor:
        """Those with which probing to the target of the plan, or 3 %, costs least.

        Raises
        ------
        InputError
            If the image is not complex with two axes.
        """
        operator = image.operator
        _require_plane(operator)
        draw = sampler(operator.noise_shape, operator.noise_dtype, key=key.of("colouring"), device=operator.device)
        products = responses(operator.apply, draw(range(N_PRODUCTS)), plan.batch_size, operator)
        found = colouring(operator, products, object_of(operator, plan.region), plan.target_error or GOAL, key=key)
        assert found is not None
        return found.sublattice.colours(operator.image_shape)


def _require_plane(operator: NoiseOperator) -> None:
    if not is_plane(operator):
        raise InputError(
            "coloured probes need a complex image of two axes",
            expected="complex (y, x), slices mapped one by one",
            received=f"{operator.image_dtype} {tuple(operator.image_shape)}",
            remedy='Use method="sketch".',
        )


def is_plane(operator: NoiseOperator) -> bool:
    """Whether the image is one that a sublattice colours: complex (y, x)."""
    return len(operator.image_shape) == 2 and operator.image_dtype.is_complex


def colouring(
    operator: NoiseOperator,
    samples: Tensor,
    inside: Tensor,
    target_error: float,
    *,
    key: Key = Key(),
    probe_seconds: float = 0.0,
    most_seconds: float = math.inf,
) -> Colouring | None:
    """The colouring with which probing to a target costs least; each is tried on one of its colours.

    Parameters
    ----------
    operator
        L and its adjoint.
    samples
        Noise images, complex (B, y, x), B ≥ 2: where their correlation stands out, offsets are avoided.
    inside
        Bool, (y, x): the object.
    target_error
        Relative error of σ. A draw gives V̂/V the variance ½ Σ|ρ|², the sum over voxels of the same colour.
    key
        Entropy of the probes.
    probe_seconds
        For one probe, until one was timed.
    most_seconds
        What costs more is not tried.

    Returns
    -------
    Colouring
        ``None`` where all cost more.
    """
    best: Colouring | None = None
    # Among colourings probes are compared, not seconds: a probe of each costs the same.
    fewest = math.inf
    most = MOST if probe_seconds == 0 else min(MOST, int(most_seconds / probe_seconds))
    untried = _candidates(samples, inside, most)
    local, tried = 0.0, 1
    for _ in range(min(MOST_TRIES, len(untried))):
        # What was not expected is of nearby voxels, and falls at least so fast with their distance.
        leaks = [expected + local * (tried / cells.n_colours) ** 2 for cells, expected in untried]
        cost = [_draws(leak, target_error) * cells.n_colours for leak, (cells, _) in zip(leaks, untried, strict=True)]
        chosen = min(range(len(untried)), key=lambda i: (cost[i], leaks[i]))
        if cost[chosen] >= fewest or cost[chosen] * probe_seconds >= most_seconds:
            break
        cells, expected = untried.pop(chosen)
        colours = cells.colours(operator.image_shape)
        stopwatch = Stopwatch(operator.device)
        leaked = leakage(operator, colours, [cells.n_colours // 2], inside, key=key)
        probe_seconds = stopwatch.seconds()
        local, tried = max(0.0, leaked - expected), cells.n_colours
        draws = _draws(leaked, target_error)
        probes = draws * cells.n_colours
        if probes < fewest and probes * probe_seconds < most_seconds:
            best, fewest = Colouring(cells, draws, probes * probe_seconds), probes
    return best


def _draws(leaked: float, target_error: float) -> int:
    return max(1, math.ceil(MARGIN * leaked / (4 * target_error**2)))


def _candidates(samples: Tensor, inside: Tensor, most: int = MOST) -> list[tuple[Sublattice, float]]:
    """For every number of colours up to ``most`` the sublattice with the least squared correlation, and its leakage.

    Among equals, the one whose shortest offset is longest.

    The mean over the object of |ρ(r, r+d)|² comes from pairs i ≠ j of noise images: the autocorrelation of u_i u_j* at
    d, which has no bias however few they are. Where it stands out at a and b, it is taken for twice their product at
    a + b, if it does not stand out there: neighbours of an alias.
    """
    squared, density = _squared_correlation(samples, inside)
    n_y, n_x = inside.shape
    dy, dx = torch.meshgrid(_offsets(n_y), _offsets(n_x), indexing="ij")
    away = ((dy != 0) | (dx != 0)) & (density > 0.01)
    spread = squared / density.clamp_min(1e-12).sqrt()
    noise = float(spread[away].abs().median()) / 0.6745
    strong = away & (spread > SIGNIFICANT * noise)
    expected = torch.where(strong, squared, _beside(torch.where(strong, squared, 0)))
    known = away & (expected > 0)
    weight, known_dy, known_dx = expected[known], dy[known], dx[known]
    near = away & (dy.abs() <= MOST) & (dx.abs() <= MOST)
    length, near_dy, near_dx = torch.hypot(dy[near].double(), dx[near].double()), dy[near], dx[near]

    best = []
    for n_colours in range(FEWEST, most + 1):
        found: list[tuple[float, float, Sublattice]] = []
        for a in (a for a in range(1, n_colours + 1) if n_colours % a == 0):
            b = n_colours // a
            leaked = (_of_one_colour(known_dy, known_dx, a, b) * weight).sum(1)
            shortest = torch.where(_of_one_colour(near_dy, near_dx, a, b), length, math.inf).amin(1)
            found += [(float(leaked[s]), -float(shortest[s]), Sublattice(a, b, s)) for s in range(b)]
        squared_sum, _, cells = min(found, key=lambda one: one[:2])
        best.append((cells, 0.5 * squared_sum))
    return best


def _beside(strong: Tensor) -> Tensor:
    """Largest product of two strong values whose offsets add up to each offset, in either order."""
    value, index = strong.flatten().sort(descending=True)
    value, index = value[:MOST_STRONG], index[:MOST_STRONG]
    n_y, n_x = strong.shape
    y, x = torch.div(index, n_x, rounding_mode="floor"), index % n_x
    at = ((y[:, None] + y) % n_y) * n_x + (x[:, None] + x) % n_x
    product = value[:, None] * value * torch.where(index[:, None] == index, 1, 2)
    beside = torch.zeros_like(strong).flatten()
    return beside.scatter_reduce(0, at.flatten(), product.flatten(), "amax").reshape(strong.shape)


def _of_one_colour(dy: Tensor, dx: Tensor, a: int, b: int) -> Tensor:
    """Whether offsets join voxels of one colour, for every shear, (b, offset)."""
    shear = torch.arange(b)[:, None]
    return (dy % a == 0) & ((dx - shear * torch.div(dy, a, rounding_mode="floor")) % b == 0)


def _squared_correlation(samples: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_r |ρ(r, r+d)|² / N over voxels r and r+d of the object, at every offset d, and the fraction of such voxels."""
    inside, d = inside.cpu(), samples.to(torch.complex128).cpu()
    tiny = torch.finfo(torch.float64).tiny
    u = torch.where(inside, d / d.abs().square().mean(0).sqrt().clamp_min(tiny), 0)
    size = [2 * n for n in inside.shape]

    def autocorrelation(x: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x, size).abs().square()).real

    total = torch.zeros(size, dtype=torch.float64)
    for i in range(len(u) - 1):
        total += autocorrelation(u[i] * u[i + 1 :].conj()).sum(0)
    total = total / float(total[0, 0].clamp_min(tiny))
    return total, autocorrelation(inside.to(torch.float64)) / float(inside.sum())


def _offsets(n: int) -> Tensor:
    """Of the entries of an autocorrelation of length 2n."""
    return (torch.arange(2 * n) + n) % (2 * n) - n
