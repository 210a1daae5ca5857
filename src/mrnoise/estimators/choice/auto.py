"""The method that chooses one: by what is exact, what can be trusted, and what a pilot predicts to be cheapest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.batching.clock import Stopwatch
from mrnoise.estimators.batching.stream import Plan
from mrnoise.estimators.certificate import object_of
from mrnoise.estimators.choice.linearity import (
    EVALUATIONS,
    LINEAR,
    LOOKS,
    TOLERANCE,
    Linearity,
    linear_throughout,
    linearity,
)
from mrnoise.estimators.choice.pilot import Pilot, Prospect, pilot
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.key import Key
from mrnoise.estimators.probing import AliasSets, Probe
from mrnoise.estimators.protocol import Choice, Image, Method
from mrnoise.estimators.replicas import MonteCarlo, replica_noise
from mrnoise.estimators.rows import ClosedForm
from mrnoise.estimators.sampler import sampler
from mrnoise.estimators.sketching import Sketch
from mrnoise.estimators.spotting import Spots, is_certified, spots

# Samples below which a pilot would cost a good part of the map.
FEWEST_AFTER_PILOT = 64
# Replicas have to be cheaper by this factor: a first-order map holds for every noise level, and says how linear it is.
FIRST_ORDER_PREFERRED = 1.1
# Pairs of the linearity check after which replicas, which need none, are as good.
MOST_PAIRS = 16
# Relative leakage into one colour of probes up to which alias sets count as apart: round-off and solver tolerance.
APART = 1e-3
# Voxels up to which a dense covariance costs less than samples, a few seconds.
MOST_VOXELS = 4000
# How far the mean of |Jn|² over the object and a few products may be from a closed form, relative.
PRODUCTS, CONFIRMED = 8, 0.4
# Spots are tried where replicas would be at least so many; they are given up where they would take more than this part
# of the time of these.
FEWEST_FOR_SPOTS, SPOTS_SHARE = 100, 0.5


@dataclass(frozen=True)
class Auto(Method):
    """The method that is predicted to be cheapest, and may be believed.

    Image-space probing on alias sets where that is exact at no more cost than samples, else the closed form of a
    reconstruction that has one; where σ is smooth, exact voxels and interpolation between them; replicas where no
    derivative passes the preflight or the noise is not first order; else what a pilot of 8 replicas on the first image
    predicts to be cheapest: `Probe` on a sublattice, `Sketch` (in single or half precision) or `MonteCarlo`, these with
    or without control variates.

    Parameters
    ----------
    control_variate
        Only with control variates, or without; ``None``: where they pay.
    half_precision
        False: not in half precision; else where it pays.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> nm = noise_map(Sense(), scan, method=Auto(half_precision=False), target_error=0.02)
    >>> nm.method, nm.n_products, round(float(nm.relative_error.max()), 3)
    ('lattice', 4, 0.0)
    """

    control_variate: bool | None = None
    half_precision: bool | None = None
    needs = frozenset()

    @property
    def name(self) -> str:
        """``"auto"``."""
        return "auto"

    def estimate(self, image: Image, plan: Plan, key: Key, start: Estimate | None = None) -> Estimate:
        """By the method that is chosen for this image."""
        return self.choose(image, plan, key).method.estimate(image, plan, key, start)

    def choose(self, image: Image, plan: Plan, key: Key, *, n_images: int = 1) -> Choice:
        """Choose for ``n_images``, of which this is the first; what is sampled on the way stays in ``image.known``."""
        controlled = bool(self.control_variate)
        mode = image.mode("derivative")
        if mode is None:
            return self._by_replicas(
                image, plan, key, n_images, "no derivative of the reconstruction agrees with finite differences"
            )
        tolerance, pair = _tolerance(plan), None
        if image.operator.complex_linear:
            pair, seconds = image.loud_pair(), image.seconds
            if pair is None:
                clock = Stopwatch(image.operator.device)
                pair = linear_throughout(image.operator, key=key)
                seconds = clock.seconds() / EVALUATIONS
            if pair is None:
                why = "the derivative is complex-linear, the reconstruction is not, or rounding upsets its solver (a "
                why += "larger λ or double precision helps): first order says little of its noise"
                return self._by_replicas(image, plan, key, n_images, why)
            if not controlled and _alias_sets_are_apart(image, plan):
                why = "a linear reconstruction that keeps alias sets apart: "
                why += "no sampling error, at no more products than samples"
                checked = _checked(image, plan, key, pair)
                return Choice(Probe(AliasSets(), draws=1), why, linearity=checked, tolerance=tolerance)
            if not controlled and plan.n_samples is None and _closed_form_holds(image, key):
                why = "its closed form, which products with its derivative confirm: no sampling error"
                checked = _checked(image, plan, key, pair)
                return Choice(ClosedForm(), why, linearity=checked, tolerance=tolerance)
            if not controlled and plan.n_samples is None and _is_smooth(image, plan, key, seconds):
                assert image.known.spots is not None
                why = f"a linear reconstruction whose σ is smooth: {image.known.spots.n_samples} exact voxels tell it"
                why += " inside the object, those of them that were drawn at random certify it"
                checked = _checked(image, plan, key, pair)
                return Choice(Spots(otherwise=MonteCarlo()), why, linearity=checked, tolerance=tolerance)
        elif not controlled and plan.n_samples is None and _closed_form_holds(image, key):
            checked = _checked(image, plan, key)
            if checked.verdict == LINEAR:
                why = "its closed form to first order, which products with its derivative confirm: no sampling error"
                return Choice(ClosedForm(), why, linearity=checked, tolerance=tolerance)
        if plan.n_samples is not None and plan.n_samples < FEWEST_AFTER_PILOT:
            checked = _checked(image, plan, key, pair, MOST_PAIRS)
            if checked.verdict != LINEAR:
                why = f"first order is {checked.verdict} at the noise level of the scan; too few samples for a pilot"
                return Choice(MonteCarlo(controlled), why)
            why = f"the derivative passes the preflight ({mode}); too few samples for a pilot"
            return Choice(Sketch(control_variate=controlled), why, linearity=checked, tolerance=tolerance)
        choice = self._by_pilot(image, plan, key, n_images)
        if image.known.spots is None:
            return choice
        return replace(choice, why=f"σ is not smooth, see method spots; {choice.why}")

    def _by_replicas(self, image: Image, plan: Plan, key: Key, n_images: int, why: str) -> Choice:
        """Replicas, with control variates where a pilot says that these pay."""
        if plan.n_samples is not None and plan.n_samples < FEWEST_AFTER_PILOT:
            return Choice(MonteCarlo(bool(self.control_variate)), why)
        choice = self._by_pilot(image, plan, key, n_images, first_order=False)
        return replace(choice, why=f"{why}; {choice.why}")

    def _by_pilot(self, image: Image, plan: Plan, key: Key, n_images: int, *, first_order: bool = True) -> Choice:
        """The cheapest prospect, if first order holds where it needs that."""
        controlled, tolerance = bool(self.control_variate), _tolerance(plan)
        if controlled:
            image.required_features()
        tried = pilot(
            image.operator,
            plan,
            features=None if self.control_variate is False else image.features,
            first_order=first_order,
            approximate=None if self.half_precision is False else image.in_half_precision(),
            with_adjoint=lambda: not controlled and image.mode("adjoint") is not None,
            n_images=n_images,
            key=key,
        )
        image.known.replicas = tried.replicas
        goal = f"{plan.target_error:.2g} error" if plan.target_error is not None else f"{plan.n_samples} plain samples"
        predicted = ", ".join(str(prospect) for prospect in tried.prospects)
        why = f"cheapest in a pilot, predicted for {goal}: {predicted}"
        possible = [p for p in tried.prospects if p.control_variate or not controlled]
        best = min(possible, key=lambda p: p.seconds * (1 if p.first_order else FIRST_ORDER_PREFERRED))
        if tried.products is None:
            return Choice(MonteCarlo(best.control_variate), why, tried.prospects)
        # Where replicas are cheapest, the pairs of the pilot will do.
        most_pairs = MOST_PAIRS if best.first_order else len(tried.products)
        checked = _checked(image, plan, key, (tried.replicas, tried.products), most_pairs)
        if checked.verdict != LINEAR:
            why += f"; first order is {checked.verdict} at the noise level of the scan"
            best = next(p for p in possible if not p.first_order)
        if tried.approximations is not None:
            image.known.pairs = (tried.products, tried.approximations)
        return Choice(_method(best, tried), why, tried.prospects, checked if best.first_order else None, tolerance)


def _method(best: Prospect, tried: Pilot) -> Method:
    if best.method == "coloured":
        return Probe(tried.sublattice)
    if best.method == "sketch":
        return Sketch(control_variate=best.control_variate, half_precision=best.half_precision)
    return MonteCarlo(best.control_variate)


def _tolerance(plan: Plan) -> float:
    """What first order may be wrong by: no more than sampling is."""
    return min(TOLERANCE, plan.target_error or 0.5 / (plan.n_samples or 1) ** 0.5)


def _checked(
    image: Image,
    plan: Plan,
    key: Key,
    start: tuple[Tensor, Tensor] | None = None,
    most_pairs: int = LOOKS[-1],
) -> Linearity:
    """Whether first order holds, as closely as sampling is asked for."""
    return linearity(
        image.operator,
        region=plan.region,
        key=key,
        batch_size=plan.batch_size,
        tolerance=_tolerance(plan),
        start=start,
        most_pairs=most_pairs,
    )


def _closed_form_holds(image: Image, key: Key) -> bool:
    """Whether there is one, and its noise has the size of products Jn: a wrong convention is a factor of 2."""
    try:
        variance = image.closed_form(MOST_VOXELS)
    except InputError:
        return False
    inside = object_of(image.operator, image.region) & (variance > 0)
    if not bool(inside.any()):
        return False
    products = image.operator.apply(replica_noise(image.operator, key)(range(PRODUCTS)))
    ratio = products[:, inside].abs().double().square() / variance[inside]
    return abs(float(ratio.mean()) - 1) < CONFIRMED


def _is_smooth(image: Image, plan: Plan, key: Key, seconds: float) -> bool:
    """Whether spots map it in less time than replicas, one of which takes so many seconds; what is found is kept."""
    assert plan.target_error is not None
    replicas = 0.25 / plan.target_error**2
    if replicas < FEWEST_FOR_SPOTS or image.region.ndim not in (2, 3) or image.mode("adjoint") is None:
        return False
    most_seconds = SPOTS_SHARE * replicas * seconds
    image.known.spots = spots(image.operator, plan, key=key, shortcuts=image.voxel_variance, most_seconds=most_seconds)
    return is_certified(image.known.spots, plan)


def _alias_sets_are_apart(image: Image, plan: Plan) -> bool:
    """Whether one draw of lattice probes has no error and costs no more than plain samples, judged on one colour."""
    operator = image.operator
    if not operator.complex_linear:
        return False
    samples = [] if plan.n_samples is None else [plan.n_samples]
    samples += [] if plan.target_error is None else [int(0.25 / plan.target_error**2)]
    try:
        colours = image.alias_colours(most=min(samples) // 2).to(operator.device)
    except InputError:
        return False
    inside = image.region
    which = torch.bincount(colours[inside])
    if not len(which) or image.mode("adjoint") is None:
        return False
    inside = inside & (colours == which.argmax())
    probes = sampler(operator.image_shape, operator.image_dtype, key=Key(), device=operator.device)([0])
    probes = probes * (colours == which.argmax())
    products = (probes.conj() * operator.apply(operator.adjoint(probes)))[0]
    # Im w*(LLᴴw) is leakage alone.
    return float(products[inside].imag.norm()) < APART * float(products[inside].real.norm())
