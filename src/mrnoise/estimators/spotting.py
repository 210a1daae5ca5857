"""Spots: exact noise of single voxels, interpolated between them, and checked at others that were drawn at random."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.batching.clock import Stopwatch
from mrnoise.estimators.batching.stream import Plan, batches
from mrnoise.estimators.certificate import CERTIFIED_LEVEL, object_of
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.operator import NoiseOperator
from mrnoise.estimators.polyharmonic import PolyharmonicSpline
from mrnoise.estimators.protocol import Image, Method
from mrnoise.estimators.rows import rows_per_voxel, voxel_moments
from mrnoise.estimators.sampling_error import EmpiricalError
from mrnoise.quantiles import chi_square

# Spots and draws to begin with; draws that are added after each look that fails.
FIRST_SPOTS, FIRST_DRAWS, MORE_DRAWS = 24, 24, 12
# Times as many spots at most in one step.
GROWTH = 1.5
# Draws where their number is not a matter of the target, as a part of all voxels that are evaluated.
DRAWN = 0.25
# Voxels are drawn when the predicted error is this part of the target: the bound is 1.5 to 1.7 times the error. More
# draws instead of more spots where the error is below this part.
GOAL, CLEAR = 0.55, 0.7
# The least relative variance of the squared error of a drawn voxel; 2 for Gaussian errors.
LEAST_SPREAD = 3.0
# The power function grows with this power of the distance to the nearest spot.
POWER = 3
# All residuals at spots count as this part of the draws, for each look, in what is expected of a voxel: a run stops on
# draws that came out small, the more so the more looks it had.
LEFT_OUT = 0.1
# Parts of the mean square error that may not depend on the distance.
EVEN_PARTS = torch.linspace(0, 1, 41, dtype=torch.float64, device="cpu")
# Parts of the target: how far a shortcut may be from the row of L.
SHORTCUT = 0.2
# How exact it is asked to be, as a part of the target, or without one; where it is not, so many times more exactly.
EXACT, EXACT_ENOUGH = 0.1, 1e-3
MORE_EXACT = (1, 4, 16)
# Relative to the largest variance: less counts as none.
NO_VARIANCE = 1e-12

# Voxels (B, dims) → E|δx|², (B,), of a complex-linear operator.
Shortcut = Callable[[Tensor], Tensor]
# Relative error of σ → one that is so exact; None where there is no way but a row of L.
Shortcuts = Callable[[float], Shortcut | None]


def spots(
    operator: NoiseOperator,
    plan: Plan,
    *,
    key: Key = Key(),
    shortcuts: Shortcuts | None = None,
    most_seconds: float = inf,
) -> Estimate:
    """Exact noise of some voxels, interpolated inside the object: for linear reconstructions whose σ is smooth.

    **Exact.** The variance of voxel i is ‖Lᵀe_i‖², one vjp, and for real-linear L a second one, of i e_i, tells the
    pseudo-variance (see `mrnoise.estimators.exact`). Incoherent sampling leaves no alias edges: σ then varies over
    many voxels, and how many spots it takes follows from the coils, not from the matrix.

    **Interpolated.** ln V, and the real and imaginary part of P / V where noise is improper, by a
    `PolyharmonicSpline`. Its residual at a spot that is left out is known in closed form.

    **Placed.** The first spots fill the object: each is the voxel farthest from those before, in voxels (Gonzalez
    1985, doi:10.1016/0304-3975(85)90224-5). Further ones have the largest d^1.5 √(1 + z²), d the distance to the
    nearest spot and z its residual when left out, relative to what its distance from the others explains.

    **Certified.** Voxels are drawn at random that the spline does not use and that do not guide it, with
    probability p_i, half of it even, half as P². With their exact errors e = σ̂/σ - 1, e² / (N p) has the mean square
    error over the N voxels of the object as expectation (Hansen and Hurwitz 1943, doi:10.1214/aoms/1177731356). The
    certified error is √(mean · ν / χ²_ν) at the tail that is left, with ν twice the number of draws divided by the
    relative variance of e² / (N p): the larger of that of the draws and that of z², and at least 3. Draws that fail
    are kept, more spots and draws are taken, and the k-th look spends 2⁻ᵏ of the 5 %. Nothing is assumed about the
    map but that the draws meet the errors there are: what is smaller than the gaps between spots and rarer than
    one in the number of draws can be missed.

    **Intervals.** The relative error of σ in a voxel has the mean square a P² + b, which grows with the distance to the
    nearest spot: a and b of greatest likelihood for what the draws come to, as near to spots as any voxel, and the
    residuals of spots that are left out, far from others. Intervals are Student's with ν over the number of looks,
    since a run stops on draws that came out small.

    Parameters
    ----------
    operator
        Its adjoint.
    plan
        A sample is a voxel that is evaluated. With a target: stop when certified. Without one a quarter of the
        samples is drawn.
    key
        Entropy of the draws.
    shortcuts
        Variance of voxels (B, dims) of a complex-linear operator to a relative error of σ, cheaper than a vjp. The
        first voxel is compared with its row: where they differ a more exact one is tried, and at last none.
    most_seconds
        Give up where it is predicted to take longer; without it, where more voxels are needed than replicas.

    Returns
    -------
    Estimate
        NaN outside the object. With a target, ``certified_error`` is above it where σ is not smooth enough for
        fewer voxels than replicas would take samples; infinite where that was clear before a draw.

    Raises
    ------
    InputError
        If the image is neither a slice nor a volume, or if there are too few samples.

    Examples
    --------
    >>> from mrnoise.estimators import exact
    >>> from mrnoise.foreground import foreground
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import poisson_disc
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 6, mask=poisson_disc((32, 24), 3, calibration=6))
    >>> (operator,) = linearize(CgSense(1e-2), scan)
    >>> inside = foreground(operator.value)
    >>> estimate = spots(operator, Plan(target_error=0.05, region=inside))
    >>> error = (estimate.variance / exact(operator).variance).sqrt()[inside] - 1
    >>> bool(error.square().mean().sqrt() < estimate.certified_error < 0.05)
    True
    >>> estimate.n_samples < 60, int(inside.sum())
    (True, 391)
    """
    inside = object_of(operator, plan.region).cpu()
    if inside.ndim not in (2, 3):
        raise InputError(
            "spots are interpolated in slices and volumes",
            expected="an image (y, x) or (z, y, x)",
            received=f"shape {operator.image_shape}",
            remedy='Map images one by one, or use method="sketch".',
        )
    if plan.n_samples is not None and plan.n_samples < FIRST_SPOTS:
        raise InputError(
            "too few spots",
            expected=f"n_samples of at least {FIRST_SPOTS}",
            received=str(plan.n_samples),
            remedy="Give a target_error instead, or more samples.",
        )
    field = _Field(operator, inside, plan, key, shortcuts)
    bound, interrupted = inf, False
    try:
        for bound in _looks(field, plan, most_seconds):
            if plan.progress is not None:
                plan.progress(field.count, field.count, bound)
    except KeyboardInterrupt:
        if field.spline is None:
            raise
        interrupted = True
    estimate = field.estimate(interrupted)
    if plan.target_error is None:
        return estimate
    return dataclasses.replace(estimate, certified_error=torch.tensor(bound, dtype=torch.float64))


def _looks(field: _Field, plan: Plan, most_seconds: float) -> Iterator[float]:
    """Place and draw; the certified error after each look. The last one is that of the map."""
    if plan.target_error is None:
        assert plan.n_samples is not None
        draws = ceil(DRAWN * plan.n_samples)
        field.fill(plan.n_samples - draws)
        field.draw(draws)
        yield field.bound(1 - CERTIFIED_LEVEL)
        return
    clock = Stopwatch(field.operator.device)
    by_samples = max(ceil(0.25 / plan.target_error**2), 2 * (FIRST_SPOTS + FIRST_DRAWS))
    most = min(field.n_voxels, plan.n_samples or (by_samples if most_seconds == inf else field.n_voxels))

    def too_dear(n: int) -> bool:
        """Whether so many voxels are; all of the object never are too many."""
        slow = field.count > 0 and clock.seconds() * min(n, most) / field.count > most_seconds
        return slow or (most < field.n_voxels and n > most)

    field.fill(FIRST_SPOTS)
    while True:
        # The error falls at least as 1/n.
        needed = max(field.n_spots, ceil(field.n_spots * field.error() / (GOAL * plan.target_error)))
        if too_dear(needed + FIRST_DRAWS):
            return
        if needed == field.n_spots:
            break
        field.fill(min(needed, ceil(GROWTH * field.n_spots)))
    tail, n_draws = 1 - CERTIFIED_LEVEL, FIRST_DRAWS
    while True:
        field.draw(n_draws)
        tail /= 2
        yield (bound := field.bound(tail))
        # As many draws again, where only they do not tell that the map is good enough.
        n_spots, n_draws = field.n_spots, field.n_draws
        if field.error() > CLEAR * plan.target_error:
            n_spots, n_draws = ceil(min(GROWTH, bound / plan.target_error) * n_spots), MORE_DRAWS
        if bound <= plan.target_error or too_dear(n_spots + field.n_draws + n_draws):
            return
        field.fill(n_spots)


class _Field:
    """Variance of the voxels of an object: where it is known, and the spline through the spots."""

    def __init__(
        self, operator: NoiseOperator, inside: Tensor, plan: Plan, key: Key, shortcuts: Shortcuts | None
    ) -> None:
        self.operator = operator
        self._inside, self._plan, self._shortcuts = inside, plan, shortcuts
        self._shortcut: Shortcut | None = None
        self._places = inside.nonzero()
        self._points = self._places.double()
        self.n_voxels = len(self._points)
        self._flat = inside.flatten().nonzero().squeeze(1)
        self._random = np.random.default_rng(np.random.SeedSequence(key.of("spots").words(0)))
        # Of each voxel; NaN where it was not evaluated.
        self._variance = self._points.new_full((self.n_voxels,), torch.nan)
        self._pseudo = torch.zeros_like(self._variance, dtype=torch.complex128)
        self._spots: list[int] = []
        # Distance of each voxel to the nearest spot, and which that is; how much worse than others a spot is explained.
        self._distance = torch.full_like(self._variance, torch.inf)
        self._nearest = torch.zeros_like(self._flat)
        self._weights = torch.ones_like(self._variance)
        self._drawn: list[int] = []
        self._probability: list[float] = []
        self._looks = 0
        self.spline: PolyharmonicSpline | None = None
        self.n_rows = 0

    @property
    def n_spots(self) -> int:
        """Voxels that the spline goes through."""
        return len(self._spots)

    @property
    def is_exact(self) -> bool:
        """Whether all voxels are spots."""
        return self.n_spots == self.n_voxels

    @property
    def n_draws(self) -> int:
        """Voxels that check it."""
        return len(self._drawn)

    @property
    def count(self) -> int:
        """Voxels that were evaluated."""
        return int((~self._variance.isnan()).sum())

    # -- placing -------------------------------------------------------------------------------------------------

    def fill(self, n: int) -> None:
        """Place spots until there are n, in steps: residuals of those before lead the next ones."""
        n = min(n, self.n_voxels)
        while self.n_spots < n:
            step = min(n, max(FIRST_SPOTS, ceil(GROWTH * self.n_spots)))
            placed = list(self._spots)
            while len(placed) < step:
                self._place(placed)
            self._evaluate(placed)
            self._spots = placed
            self._fit()

    def _place(self, placed: list[int]) -> None:
        """The voxel of the largest weighted distance; the first is that in the middle."""
        if placed:
            chosen = int((self._distance**POWER * self._weights[self._nearest].square()).argmax())
            self._weights[len(placed)] = self._weights[self._nearest[chosen]]
        else:
            chosen = int((self._points - self._points.mean(0)).square().sum(1).argmin())
        distance = (self._points - self._points[chosen]).square().sum(1).sqrt()
        nearer = distance < self._distance
        self._distance = torch.where(nearer, distance, self._distance)
        self._nearest[nearer] = len(placed)
        placed.append(chosen)

    def _fit(self) -> None:
        self.spline = PolyharmonicSpline(self._points[self._spots], self._columns(self._spots))
        if self.is_exact:
            return
        z2 = self._left_out_squares()[:, 0] / self.spline.left_out_power
        self._weights[: self.n_spots] = (1 + z2 / z2.mean().clamp_min(torch.finfo(z2.dtype).tiny)).sqrt()

    def _columns(self, voxels: list[int]) -> Tensor:
        """What is interpolated: ln V, Re P/V and Im P/V, (n, 3)."""
        v = self._floored(voxels)
        ratio = self._pseudo[voxels] / v
        return torch.stack([v.log(), ratio.real, ratio.imag], 1)

    def _floored(self, voxels: list[int]) -> Tensor:
        most = self._variance.nan_to_num(0).max().clamp_min(torch.finfo(torch.float64).tiny)
        return torch.maximum(self._variance[voxels], NO_VARIANCE * most)

    # -- drawing -------------------------------------------------------------------------------------------------

    def draw(self, n: int) -> None:
        """Evaluate n more voxels, drawn at random with replacement."""
        weight = self._power()[1]
        total = float(weight.sum())
        p = torch.full_like(weight, 1 / self.n_voxels)
        p = 0.5 * p + 0.5 * weight / total if total > 0 else p
        p = p / p.sum()
        drawn = [int(i) for i in self._random.choice(self.n_voxels, n, p=p.numpy())]
        self._evaluate(drawn)
        self._drawn += drawn
        self._probability += p[drawn].tolist()
        self._looks += 1

    def _drawn_squares(self) -> Tensor:
        """(σ̂/σ - 1)² and |P̂/V̂ - P/V|² of the draws, (m, 2)."""
        assert self.spline is not None
        predicted, truth = self.spline(self._points[self._drawn])[0], self._columns(self._drawn)
        of_sigma = ((predicted[:, 0] - truth[:, 0]) / 2).expm1().square()
        return torch.stack([of_sigma, (predicted[:, 1:] - truth[:, 1:]).square().sum(1)], 1)

    def _errors(self) -> Tensor:
        """The mean of (σ̂/σ - 1)² over the object as each draw has it, (m,)."""
        return self._drawn_squares()[:, 0] / (self.n_voxels * self._points.new_tensor(self._probability))

    def _left_out_squares(self) -> Tensor:
        """The same of the spots, each left out, to first order; (n, 2)."""
        assert self.spline is not None
        r = self.spline.left_out
        return torch.stack([(r[:, 0] / 2).square(), r[:, 1:].square().sum(1)], 1)

    def _freedom(self) -> float:
        """ν of the mean square error; infinite where there is none."""
        assert self.spline is not None
        if self.is_exact:
            return inf
        z2 = self._left_out_squares()[:, 0] / self.spline.left_out_power
        spread, n = _spread(z2), len(z2)
        if self._drawn:
            n = len(self._drawn)
            # That of few draws comes out too small.
            spread = max(spread, (1 + 12 / n) * _spread(self._errors()))
        return 2 * n / max(spread, LEAST_SPREAD)

    def bound(self, tail: float) -> float:
        """What the root-mean-square relative error of σ exceeds with the probability ``tail``."""
        if self.is_exact:
            return 0.0
        nu = self._freedom()
        return float((float(self._errors().mean()) * nu / chi_square(tail, nu)) ** 0.5)

    # -- what it says --------------------------------------------------------------------------------------------

    def error(self) -> float:
        """The root-mean-square relative error of σ as the draws have it, before them as the spline expects it."""
        if self.is_exact:
            return 0.0
        mean = self._errors() if self._drawn else self._mean_squares(self._power()[1])[:, 0]
        return float(mean.mean()) ** 0.5

    def _power(self) -> tuple[Tensor, Tensor]:
        """The spline and P² in every voxel; zero at spots."""
        assert self.spline is not None
        values, power = self.spline(self._points)
        power[self._spots] = 0
        return values, power

    def _mean_squares(self, power: Tensor) -> Tensor:
        """Mean squares a P² + b of the errors of σ and of P / V in every voxel, (N, 2); of spots zero."""
        assert self.spline is not None
        squares, powers = self._left_out_squares(), self.spline.left_out_power
        of_draws = power[self._drawn]
        guessed = of_draws > 0
        n_guessed = int(guessed.sum())
        if not n_guessed:
            return power[:, None] * (squares.mean(0) / powers.mean())
        weights = torch.full_like(powers, LEFT_OUT * self._looks * n_guessed / len(powers))
        squares = torch.cat([squares, self._drawn_squares()[guessed]])
        powers = torch.cat([powers, of_draws[guessed]])
        weights = torch.cat([weights, torch.ones_like(of_draws[guessed])])
        found = [a * power + b for a, b in (_linear(column, powers, weights) for column in squares.unbind(1))]
        return torch.where(power > 0, 1.0, 0.0)[:, None] * torch.stack(found, 1)

    def estimate(self, interrupted: bool) -> Estimate:
        """The spline inside the object, the exact values where there are some."""
        values, power = self._power()
        squares = self._mean_squares(power)
        known = ~self._variance.isnan()
        squares[known] = 0
        v = torch.where(known, self._variance, values[:, 0].exp())
        ratio = torch.complex(values[:, 1], values[:, 2])
        p = torch.where(known, self._pseudo, v * ratio / ratio.abs().clamp_min(1.0))
        # P = V q: δP = q δV + V δq, with δV = 2V δσ/σ.
        of_v, of_q = 4 * squares[:, 0] * v.square(), squares[:, 1] * v.square()
        q = p / v.clamp_min(torch.finfo(v.dtype).tiny)
        return Estimate(
            variance=self._on_image(v),
            pseudo_variance=self._on_image(p),
            error=EmpiricalError(
                variance=self._on_image(of_v),
                cross=self._on_image(q * of_v),
                pseudo_abs=self._on_image(q.abs().square() * of_v + of_q),
                pseudo_square=self._on_image(q.square() * of_v),
                # A run stops on draws that came out small: every look has a share of what they know.
                degrees_of_freedom=torch.tensor(self._freedom() / max(self._looks, 1), dtype=torch.float64),
            ),
            method="spots",
            n_samples=self.count,
            n_products=self.n_rows,
            interrupted=interrupted,
        )

    def _on_image(self, values: Tensor) -> Tensor:
        image = values.new_full(self._inside.shape, torch.nan)
        image[self._inside] = values
        return image

    # -- exact values --------------------------------------------------------------------------------------------

    def _evaluate(self, voxels: Sequence[int]) -> None:
        """Exact moments of those voxels that have none yet."""
        new = self._flat.new_tensor(sorted({i for i in voxels if bool(self._variance[i].isnan())}))
        if not len(new):
            return
        if self._shortcuts is not None and self.n_rows == 0:
            self._shortcut = self._confirmed(self._shortcuts, new[:1])
        if self._shortcut is None:
            variance, pseudo = voxel_moments(self.operator, self._flat[new], self._plan.batch_size)
            self._pseudo[new] = pseudo
            self.n_rows += len(new) * rows_per_voxel(self.operator)
        else:
            variance = self._by_shortcut(self._shortcut, new)
            self.n_rows += len(new)
        self._variance[new] = variance

    def _confirmed(self, shortcuts: Shortcuts, voxel: Tensor) -> Shortcut | None:
        """The first that has the variance of a row of L; ``None`` where none has."""
        error = error_of_voxels(self._plan)
        shortcut = shortcuts(error) if self.operator.complex_linear else None
        if shortcut is None:
            return None
        row = float(voxel_moments(self.operator, self._flat[voxel], 1)[0])
        self.n_rows += 1
        tolerance = SHORTCUT * (self._plan.target_error or 0.05)
        for times in MORE_EXACT:
            shortcut = shortcut if times == 1 else shortcuts(error / times)
            found = 0.0 if shortcut is None else float(self._by_shortcut(shortcut, voxel))
            if row > 0 and found > 0 and abs((found / row) ** 0.5 - 1) <= tolerance:
                return shortcut
        return None

    def _by_shortcut(self, shortcut: Shortcut, voxels: Tensor) -> Tensor:
        def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            places = self._places[voxels[list(indices)]]
            return shortcut(places).double().cpu(), places

        found = batches(evaluate, range(len(voxels)), self._plan.batch_size, self.operator)
        return torch.cat([variance for variance, _ in found]).clamp_min(0)


def _linear(squares: Tensor, powers: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the mean square a P² + b of Gaussian errors, of greatest likelihood with these weights."""
    scale = powers.mean()
    shapes = torch.lerp(powers / scale, torch.ones_like(powers), EVEN_PARTS[:, None])
    sizes = (weights * squares / shapes).sum(1) / weights.sum()
    likelihood = -(weights * (sizes[:, None] * shapes).log()).sum(1)
    best = int(likelihood.nan_to_num(-inf, posinf=-inf).argmax())
    return sizes[best] * (1 - EVEN_PARTS[best]) / scale, sizes[best] * EVEN_PARTS[best]


def _spread(squares: Tensor) -> float:
    """Relative variance of squared errors, 2 where these are Gaussian; 0 of none."""
    mean = float(squares.mean())
    return float(squares.var()) / mean**2 if mean > 0 and len(squares) > 1 else 0.0


def error_of_voxels(plan: Plan) -> float:
    """Relative error of σ that counts as none in a voxel that is evaluated."""
    return EXACT_ENOUGH if plan.target_error is None else EXACT * plan.target_error


def is_certified(estimate: Estimate, plan: Plan) -> bool:
    """Whether a map by spots keeps to the target; without one, or where it was interrupted, it is as it is."""
    if plan.target_error is None or plan.n_samples is not None or estimate.interrupted:
        return True
    return estimate.certified_error is not None and float(estimate.certified_error) <= plan.target_error


@dataclass(frozen=True)
class Spots(Method):
    """Exact voxels, interpolated and checked, as a method; see `spots`.

    Parameters
    ----------
    otherwise
        The method where a map is not smooth, which keeps the exact voxels; ``None``: that is an error.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import poisson_disc
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 6, mask=poisson_disc((32, 24), 3, calibration=6))
    >>> nm = noise_map(CgSense(1e-2), scan, method=Spots(), target_error=0.05)
    >>> nm.method, nm.n_samples < 60, bool(nm.certified_error < 0.05)
    ('spots', True, True)
    """

    otherwise: Method | None = None
    needs = frozenset({"adjoint"})

    @property
    def name(self) -> str:
        """``"spots"``."""
        return "spots"

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """By spots, or otherwise."""
        found = image.known.spots
        if found is None:
            found = spots(image.operator, plan, key=key, shortcuts=image.voxel_variance)
        if is_certified(found, plan):
            return found
        if self.otherwise is None:
            raise InputError(
                "σ of this image is not smooth",
                expected=f"a map that fewer exact voxels than replicas tell to {plan.target_error:.2g}",
                received=f"none after {found.n_samples} voxels",
                remedy='Use method="auto", or give n_samples as well, the most voxels to be evaluated.',
            )
        image.known.spots = found
        return self.otherwise.estimate(image, plan, key, start)
