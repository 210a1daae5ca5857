"""From scan and reconstruction to noise map: the one function most people call."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mrnoise import estimators
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.geometry import Geometry
from mrnoise.closed_form.sense import fully_sampled_std
from mrnoise.errors import InputError
from mrnoise.estimators import Estimate, Linearity, Plan, Progress, Sublattice
from mrnoise.estimators.choice.linearity import LINEAR, TOLERANCE, join
from mrnoise.estimators.estimate import GaussianError, stack, unknown, unstack
from mrnoise.estimators.sampler import Distribution, of_this_run, sampler
from mrnoise.foreground import foreground
from mrnoise.fourier import central
from mrnoise.linearization import NoiseToImage, linearize, n_images
from mrnoise.linearization.checks import refuse
from mrnoise.mapping.provenance import fingerprint, scan_record
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.sense import shared_mask
from mrnoise.result.noise_map import NOT_FIRST_ORDER as NONLINEAR
from mrnoise.result.noise_map import NoiseMap
from mrnoise.sampling.lattice import LARGEST_SET, alias_colours
from mrnoise.surrogate.sense_images import Surrogate, surrogate

# Where neither a count nor a target is given.
DEFAULT_TARGET_ERROR = 0.03
# Methods whose samples are noise images, for which control variates are known.
SAMPLING = ("auto", "sketch", "monte_carlo")
# Samples below which a pilot would cost a good part of the map.
FEWEST_AFTER_PILOT = 64
# Replicas have to be cheaper by this factor: a first-order map holds for every noise level, and says how linear it is.
FIRST_ORDER_PREFERRED = 1.1
# Pairs of the linearity check after which replicas, which need none, are as good.
MOST_PAIRS = 16
# Relative leakage into one colour of probes up to which alias sets count as apart: round-off and solver tolerance.
APART = 1e-3


class MapProgress(Protocol):
    """Told of slices and, within each, of samples."""

    def __call__(self, image: int, n_images: int, done: int, total: int, error: float) -> None:
        """Report."""
        ...


def noise_map(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    *,
    method: str = "auto",
    n_samples: int | None = None,
    target_error: float | None = None,
    seed: int = 0,
    distribution: str | Distribution = "phase",
    control_variate: bool | None = None,
    half_precision: bool | None = None,
    batch_size: int | None = None,
    progress: MapProgress | None = None,
    resume: NoiseMap | None = None,
) -> NoiseMap:
    """Voxel-wise noise of a reconstructed scan.

    cov(x) = J Ψ Jᴴ with J the derivative of the whole map from k-space to image, at the measured data.

    Parameters
    ----------
    reconstruction
        A `Reconstruction`, bound to each slice in turn, or any callable kspace → image, which gets the k-space of
        the acquisition with all its leading axes.
    acquisition
        The scan.
    method
        ``"sketch"``: mean |Jv|² over random probes. ``"lattice"``: image-space probing on alias sets, for sampling
        that is regular or varies along one axis; without error where the reconstruction is linear. ``"coloured"``: the
        same on a sublattice of voxels whose noise is not correlated, found from a pilot. ``"probe"``: of all voxels at
        once. ``"exact"``: row by row. ``"monte_carlo"``: replicas, the nonlinear truth at the noise level of the scan.
        ``"nonlinear"``: the same with first-order noise as control variate, and the noise-induced bias. ``"auto"``:
        ``lattice`` where it is exact at no more cost than samples; ``monte_carlo`` where no derivative passes the
        preflight or the noise is not first order; else what a pilot of 8 replicas on the first slice predicts to be
        cheapest, ``coloured``, ``sketch`` (in single or half precision) or ``monte_carlo``, these with or without
        control variates: ``provenance["why"]`` has the figures.
        A first-order map is checked at the noise level of the scan: `NoiseMap.linearity`.
    n_samples
        Number of probes or replicas per slice; with ``target_error``, the most.
    target_error
        Stop when the relative error of σ inside the object (root mean square) is certified to be below this with
        95 % probability, see `mrnoise.estimators.RegionError`; 0.03 where neither is given.
    seed
        Every probe has its own generator, seeded by (seed, slice, probe).
    distribution
        Probes of ``sketch``: ``"phase"``, ``"rademacher"`` or ``"gaussian"``.
    control_variate
        For ``sketch`` and ``monte_carlo``: subtract what the noise of cheap SENSE images of the same slice explains,
        whose variance is known in closed form, see `mrnoise.surrogate.surrogate`: fewer samples for the same
        error. ``None``: where ``auto`` finds that it pays, or the map that is gone on from has them.
    half_precision
        For ``sketch``: products with convolutions in bfloat16, and a few pairs with those in single precision, which
        remove the bias, see `mrnoise.estimators.precision.CorrectedMoments`. ``None``: where ``auto`` finds that it
        pays, or the map that is gone on from has them.
    batch_size
        Probes evaluated together; ``None``: from free memory. Does not change the result.
    progress
        Called after each batch.
    resume
        An earlier map of the same scan, reconstruction, method and seed, e.g. an interrupted one: its probes
        are not repeated, and the result is that of one uninterrupted run; with a target it may take more of them,
        since how voxels vary together is measured anew, and control variates are fitted anew. For ``sketch`` and
        ``monte_carlo``.

    Returns
    -------
    NoiseMap
        After Ctrl-C: the estimate so far, ``provenance["interrupted"]`` true, slices not reached NaN.

    Raises
    ------
    InputError
        If the reconstruction cannot be linearised by the method asked for, or an option is invalid.
    """
    if method not in estimators.names():
        raise InputError(
            "unknown method",
            expected=f"one of {', '.join(estimators.names())}",
            received=method,
            remedy='Use "auto" to have it chosen.',
        )
    if method == "exact" and not (n_samples is None and target_error is None):
        raise InputError(
            "exact takes no stopping rule",
            expected="neither n_samples nor target_error",
            received=f"n_samples={n_samples}, target_error={target_error}",
            remedy="Leave both out; the result has no sampling error.",
        )
    if control_variate and method not in SAMPLING:
        raise InputError(
            "control variates are not possible here",
            expected=f"one of {', '.join(SAMPLING)}",
            received=method,
            remedy="Leave control_variate out.",
        )
    if half_precision and method != "sketch":
        raise InputError(
            "half precision is not possible here",
            expected="method sketch",
            received=method,
            remedy="Leave half_precision out: auto takes it where it pays.",
        )
    if n_samples is None and target_error is None:
        target_error = DEFAULT_TARGET_ERROR

    started = time.perf_counter()
    done: list[tuple[Tensor, Estimate]] = []
    checks: dict[str, Any] = {}
    count = n_images(reconstruction, acquisition)
    checked: list[Linearity] = []
    earlier = _earlier(resume, reconstruction, acquisition, seed, distribution, count)
    if resume is not None:
        control_variate = _as_before(resume, "control_variate", control_variate)
        half_precision = _as_before(resume, "half_precision", half_precision)
    choice = _Choice(method, bool(control_variate), bool(half_precision), "asked for")
    try:
        for index, operator in enumerate(linearize(reconstruction, acquisition)):
            start, region = earlier[index], foreground(operator.value)
            plan = Plan(n_samples, target_error, region, batch_size, _within(progress, index, count))
            if index == 0:
                checks = operator.preflight.describe()
                if method == "auto":
                    choice = _choose(operator, plan, seed, control_variate, half_precision, start, count)
            else:
                choice = choice.for_another_image()
            chosen = choice.method
            _require(chosen, operator)
            if start is not None and start.method != chosen:
                raise _cannot_resume(f"method {chosen}", start.method)
            if choice.linearity is not None:
                checked.append(choice.linearity)
            elif chosen not in NONLINEAR:
                tolerance = _tolerance(plan) if method == "auto" else TOLERANCE
                checked.append(
                    estimators.linearity(
                        operator, region=region, seed=(seed, index), batch_size=batch_size, tolerance=tolerance
                    )
                )
            # One draw of all alias sets is all it takes.
            if (method, chosen) == ("auto", "lattice"):
                plan = dataclasses.replace(plan, n_samples=1)
            features = None
            if choice.control_variate:
                features = choice.features or _features(operator, region)
            estimate = _estimate(operator, choice, plan, (seed, index), distribution, start, features)
            done.append((operator.value.cpu(), estimate.cpu()))
            if estimate.interrupted:
                break
    except KeyboardInterrupt:
        # Whole slices are kept; before the first there is nothing to return.
        if not done:
            raise
    image, estimate = join_slices(done, count, acquisition)
    linearity = _join_linearity(checked[: len(done)], count, acquisition, image.shape)
    return NoiseMap(
        image=image,
        estimate=estimate,
        geometry=geometry_of(acquisition, image),
        spatial_dims=acquisition.spatial_dims,
        reference_std=reference_std_of(reconstruction, acquisition, image),
        acceleration=acquisition.acceleration,
        linearity=linearity,
        provenance={
            "method": choice.method,
            "why": choice.why,
            "seed": seed,
            "distribution": _distribution_name(choice.method, distribution),
            "control_variate": choice.control_variate,
            "half_precision": choice.half_precision,
            "n_samples": estimate.n_samples,
            "n_products": estimate.n_products,
            "target_error": target_error if choice.method != "exact" else None,
            "certified_error": _worst(estimate.certified_error),
            "interrupted": estimate.interrupted,
            "noise_model": "replicas at the noise level of the scan"
            if choice.method in NONLINEAR
            else "first order in the noise",
            "reconstruction": name_of(reconstruction),
            "preflight": checks,
            "linearity": None if linearity is None else linearity.describe(),
            **scan_record(acquisition, getattr(reconstruction, "estimates_coil_maps", False)),
            "seconds": round(time.perf_counter() - started, 3),
        },
    )


@dataclass(frozen=True)
class _Choice:
    """An estimator, the reason for it, and what was found of the image on the way."""

    method: str
    control_variate: bool
    half_precision: bool
    why: str
    linearity: Linearity | None = None
    sublattice: Sublattice | None = None
    features: Surrogate | None = None
    replicas: Tensor | None = None
    pairs: tuple[Tensor, Tensor] | None = None

    def for_another_image(self) -> _Choice:
        """The same, but for what belongs to one image."""
        return dataclasses.replace(self, linearity=None, features=None, replicas=None, pairs=None)


def _choose(
    operator: NoiseToImage,
    plan: Plan,
    seed: int,
    control_variate: bool | None,
    half_precision: bool | None,
    start: Estimate | None,
    count: int,
) -> _Choice:
    """Resolve ``"auto"`` on the first of ``count`` images."""
    controlled = bool(control_variate)
    mode = operator.preflight.jvp_mode
    if mode is None:
        why = "no derivative of the reconstruction agrees with finite differences"
        return _Choice("monte_carlo", controlled, False, why)
    if start is not None:
        return _Choice(start.method, controlled, bool(half_precision), "going on from a map by this method")
    assert plan.region is not None
    if not controlled and _alias_sets_are_apart(operator, plan, plan.region):
        why = "a linear reconstruction that keeps alias sets apart: no sampling error, at no more products than samples"
        return _Choice("lattice", False, False, why)
    if plan.n_samples is not None and plan.n_samples < FEWEST_AFTER_PILOT:
        why = f"the derivative passes the preflight ({mode}); too few samples for a pilot"
        return _Choice("sketch", controlled, False, why)
    features = _features(operator, plan.region) if controlled else None
    if control_variate is None:
        features = surrogate(operator.acquisition, plan.region)
    tried = estimators.pilot(
        operator,
        plan,
        features=features,
        approximate=None if half_precision is False else operator.in_half_precision(),
        with_adjoint=not controlled and operator.preflight.vjp_mode is not None,
        n_images=count,
        seed=(seed, 0),
    )
    predicted = ", ".join(str(prospect) for prospect in tried.prospects)
    goal = f"{plan.target_error:.2g} error" if plan.target_error is not None else f"{plan.n_samples} plain samples"
    why = f"cheapest in a pilot, predicted for {goal}: {predicted}"
    possible = [p for p in tried.prospects if p.control_variate or not controlled]
    best = min(possible, key=lambda p: p.seconds * (FIRST_ORDER_PREFERRED if p.method in NONLINEAR else 1))
    if tried.products is None:
        return _Choice("monte_carlo", best.control_variate, False, why, features=features, replicas=tried.replicas)
    # Where replicas are cheapest, the pairs of the pilot will do.
    checked = estimators.linearity(
        operator,
        region=plan.region,
        seed=(seed, 0),
        batch_size=plan.batch_size,
        tolerance=_tolerance(plan),
        start=(tried.replicas, tried.products),
        most_pairs=len(tried.products) if best.method in NONLINEAR else MOST_PAIRS,
    )
    if checked.verdict != LINEAR:
        why += f"; first order is {checked.verdict} at the noise level of the scan"
        best = next(p for p in possible if p.method in NONLINEAR)
    pairs = None if tried.approximations is None else (tried.products, tried.approximations)
    return _Choice(
        best.method,
        best.control_variate,
        best.half_precision,
        why,
        linearity=None if best.method in NONLINEAR else checked,
        sublattice=tried.sublattice,
        features=features,
        replicas=tried.replicas,
        pairs=pairs,
    )


def _tolerance(plan: Plan) -> float:
    """What ``auto`` lets first order be wrong by: no more than sampling is."""
    return min(TOLERANCE, plan.target_error or 0.5 / (plan.n_samples or 1) ** 0.5)


def _alias_sets_are_apart(operator: NoiseToImage, plan: Plan, inside: Tensor) -> bool:
    """Whether one draw of lattice probes has no error and costs no more than plain samples, judged on one colour."""
    if not operator.complex_linear or operator.preflight.vjp_mode is None:
        return False
    samples = [LARGEST_SET if plan.n_samples is None else plan.n_samples]
    samples += [] if plan.target_error is None else [int(0.25 / plan.target_error**2)]
    try:
        colours = _alias_colours(operator, most=min(samples) // 2).to(operator.device)
    except InputError:
        return False
    which = torch.bincount(colours[inside])
    if not len(which):
        return False
    inside = inside & (colours == which.argmax())
    probes = sampler(operator.image_shape, operator.image_dtype, seed=0, device=operator.device)([0])
    probes = probes * (colours == which.argmax())
    products = (probes.conj() * operator.apply(operator.adjoint(probes)))[0]
    # Im w*(LLᴴw) is leakage alone.
    return float(products[inside].imag.norm()) < APART * float(products[inside].real.norm())


def _features(operator: NoiseToImage, inside: Tensor) -> Surrogate:
    """Cheap images for control variates."""
    features = surrogate(operator.acquisition, inside)
    if features is None:
        raise InputError(
            "control variates need a Cartesian slice with coil maps",
            expected="slices mapped one by one (a Reconstruction, not a callable over a stack), with coil maps or "
            "calibration lines, and an image not larger than its k-space",
            received=f"image {operator.image_shape} of k-space {operator.noise_shape}",
            remedy="Leave control_variate out.",
        )
    return features


def _require(method: str, operator: NoiseToImage) -> None:
    """Refuse a method whose derivative the preflight does not trust."""
    if method in ("nonlinear", "sketch", "probe", "coloured", "lattice") and operator.preflight.jvp_mode is None:
        raise refuse(operator.preflight, "derivative")
    if method in ("probe", "coloured", "lattice", "exact") and operator.preflight.vjp_mode is None:
        raise refuse(operator.preflight, "adjoint")


def _estimate(
    operator: NoiseToImage,
    choice: _Choice,
    plan: Plan,
    seed: tuple[int, int],
    distribution: str | Distribution,
    start: Estimate | None,
    features: Surrogate | None,
) -> Estimate:
    method, correction = choice.method, None
    if choice.half_precision:
        exact, operator = operator, operator.in_half_precision()
        if choice.pairs is None:
            _require_half_precision(operator)
        entropy = of_this_run(seed, start)
        correction = estimators.correction(exact, operator, plan, seed=entropy, start=choice.pairs)
    if method == "sketch":
        return estimators.sketch(
            operator,
            plan,
            seed=seed,
            distribution=distribution,
            start=start,
            features=features,
            correction=correction,
        )
    if method == "probe":
        return estimators.probe(operator, plan, seed=seed)
    if method == "lattice":
        return estimators.probe(operator, plan, colours=_alias_colours(operator), seed=seed, method="lattice")
    if method == "coloured":
        return estimators.coloured(operator, plan, choice.sublattice, seed=seed)
    if method == "exact":
        return estimators.exact(operator, batch_size=plan.batch_size, progress=plan.progress)
    if method == "nonlinear":
        return estimators.nonlinear(operator, plan, seed=seed)
    return estimators.monte_carlo(operator, plan, seed=seed, start=start, features=features, known=choice.replicas)


def _require_half_precision(half: NoiseToImage) -> None:
    """Refuse a reconstruction that fails there, on one product."""
    try:
        tried = half.apply(torch.zeros(1, *half.noise_shape, dtype=half.noise_dtype, device=half.device))
    except Exception as error:
        raise _not_in_half_precision(f"{type(error).__name__}: {error}") from error
    if not bool(tried.isfinite().all()):
        raise _not_in_half_precision("values that are not finite")


def _not_in_half_precision(received: str) -> InputError:
    return InputError(
        "the reconstruction does not run in half precision",
        expected="a derivative under torch.autocast with bfloat16",
        received=received.splitlines()[0],
        remedy="Leave half_precision out.",
    )


def _alias_colours(operator: NoiseToImage, most: int = LARGEST_SET) -> Tensor:
    """Colours of the voxels of an image, whose matrix is that of k-space or its central part."""
    acquisition = operator.acquisition
    colours = alias_colours(shared_mask(acquisition), most)
    shape = _spatial(acquisition, operator.value)
    if any(n > full for n, full in zip(shape, colours.shape, strict=True)):
        raise InputError(
            "the image is larger than its k-space",
            expected=f"at most {tuple(colours.shape)} voxels",
            received=str(shape),
            remedy='Use method="sketch", which takes any image.',
        )
    return central(colours, shape)


def _earlier(
    resume: NoiseMap | None,
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    seed: int,
    distribution: str | Distribution,
    count: int,
) -> list[Estimate | None]:
    """For each image the estimate to go on from."""
    if resume is None:
        return [None] * count
    pooled = any(resume.provenance.get(name) for name in ("control_variate", "half_precision"))
    if not pooled and not isinstance(resume.estimate.error, GaussianError):
        raise _cannot_resume("a map by sketch or monte_carlo", resume.method)
    expected = {
        "input sha256": fingerprint(acquisition),
        "reconstruction": name_of(reconstruction),
        "seed": seed,
        "distribution": _distribution_name(resume.method, distribution),
        "noise_scale": None,
    }
    for name, wanted in expected.items():
        source = resume.provenance.get("input", {}) if name == "input sha256" else resume.provenance
        found = source.get(name.split()[-1])
        if found != wanted:
            raise _cannot_resume(f"{name} {wanted}", str(found))
    parts = unstack(resume.estimate, resume.image.ndim - acquisition.spatial_dims if count > 1 else 0)
    # Images that were not reached begin anew.
    return [part if part.n_samples > 0 else None for part in parts]


def _as_before(resume: NoiseMap, option: str, asked: bool | None) -> bool:
    """An option of the earlier map, which must not be asked for otherwise."""
    before = bool(resume.provenance.get(option))
    if asked is not None and asked != before:
        raise _cannot_resume(f"{option} {asked}", str(before))
    return before


def _cannot_resume(expected: str, received: str) -> InputError:
    return InputError(
        "cannot go on from this map",
        expected=expected,
        received=received,
        remedy="Repeat the command with the options of the earlier map, or start anew.",
    )


def name_of(reconstruction: Reconstruction | KspaceToImage) -> str:
    """What the record calls a reconstruction; networks print a page, so they go by their class."""
    name = getattr(reconstruction, "__name__", None) or repr(reconstruction)
    return type(reconstruction).__name__ if "\n" in name else name


def _within(progress: MapProgress | None, index: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, error: progress(index, count, done, total, error)


def join_slices(done: list[tuple[Tensor, Estimate]], count: int, acquisition: Acquisition) -> tuple[Tensor, Estimate]:
    """Slices as one result; those not reached are NaN."""
    first, estimate = done[0]
    if first.ndim == acquisition.spatial_dims + len(acquisition.batch_shape):
        return first, estimate
    missing = [(torch.full_like(first, torch.nan), unknown(estimate))] * (count - len(done))
    images, parts = zip(*done, *missing, strict=True)
    return torch.stack(images).reshape(*acquisition.batch_shape, *first.shape), stack(parts, acquisition.batch_shape)


def _join_linearity(
    checked: list[Linearity], count: int, acquisition: Acquisition, shape: torch.Size
) -> Linearity | None:
    if not checked or checked[0].departure.shape == shape:
        return checked[0] if checked else None
    return join(checked, count, acquisition.batch_shape)


def geometry_of(acquisition: Acquisition, image: Tensor) -> Geometry:
    """Geometry of an image whose matrix is that of k-space or its central part."""
    before = [n // 2 - m // 2 for n, m in zip(acquisition.spatial_shape, _spatial(acquisition, image), strict=True)]
    return acquisition.geometry.cropped(tuple([0] * (3 - len(before)) + before))  # type: ignore[arg-type]


def reference_std_of(
    reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, image: Tensor
) -> Tensor | None:
    """σ of the fully sampled SENSE image, where it may be compared with that of ``image``.

    Not for magnitude images, whose σ is that of one noise component, nor for images of another intensity.
    """
    if not image.is_complex() or not getattr(reconstruction, "unit_gain", True):
        return None
    averages = acquisition.averages
    if acquisition.coil_maps is None or _spatial(acquisition, image) != acquisition.spatial_shape:
        return None
    if averages is not None and len(averages[acquisition.mask].unique()) > 1:
        return None
    return fully_sampled_std(acquisition)


def _worst(certified_error: Tensor | None) -> float | None:
    """Over slices; ``None`` where one was not reached."""
    if certified_error is None or not bool(certified_error.isfinite().all()):
        return None
    return float(certified_error.max())


def _spatial(acquisition: Acquisition, image: Tensor) -> tuple[int, ...]:
    return tuple(image.shape[-acquisition.spatial_dims :])


def _distribution_name(method: str, distribution: str | Distribution) -> str:
    if method == "sketch":
        return distribution if isinstance(distribution, str) else distribution.__name__
    if method in ("probe", "coloured", "lattice"):
        return "phase (image space)"
    return "none" if method == "exact" else "gaussian"
