"""From scan and reconstruction to noise map: the one function most people call."""

from __future__ import annotations

import time
from typing import Protocol

import torch
from torch import Tensor

from mrnoise import estimators
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.geometry import Geometry
from mrnoise.baselines.sense import fully_sampled_std
from mrnoise.errors import InputError
from mrnoise.estimators import Estimate, Linearity, Plan, Progress
from mrnoise.estimators.estimate import GaussianError, stack, unknown, unstack
from mrnoise.estimators.linearity import join
from mrnoise.estimators.sampler import Distribution, sampler
from mrnoise.foreground import foreground
from mrnoise.fourier import central
from mrnoise.linearization import NoiseToImage, linearize, n_images
from mrnoise.linearization.preflight import refuse
from mrnoise.provenance import fingerprint, scan_record
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.sense import shared_lattice
from mrnoise.reconstruction.surrogate import Surrogate, surrogate
from mrnoise.result import NOT_FIRST_ORDER as NONLINEAR
from mrnoise.result import NoiseMap

# Where neither a count nor a target is given.
DEFAULT_TARGET_ERROR = 0.03
# Methods whose samples are noise images, for which control variates are known.
SAMPLING = ("auto", "sketch", "monte_carlo")
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
    control_variate: bool = False,
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
        ``"sketch"``: mean |Jv|² over random probes. ``"lattice"``: image-space probing on alias sets, for regular
        sampling; without error where the reconstruction is linear. ``"probe"``: image-space probing of all voxels at
        once. ``"exact"``: row by row. ``"monte_carlo"``: replicas, the nonlinear truth at the noise level of the scan.
        ``"nonlinear"``: the same with first-order noise as control variate, and the noise-induced bias. ``"auto"``:
        ``lattice`` where it is exact, else ``sketch`` where the derivative passes the preflight, else ``monte_carlo``.
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
        For ``sketch`` and ``monte_carlo``: subtract what the noise of a zero-filled or CG-SENSE image of the same
        slice explains, whose variance is known in closed form. Fewer samples for the same error; such a map cannot be
        gone on from.
    batch_size
        Probes evaluated together; ``None``: from free memory. Does not change the result.
    progress
        Called after each batch.
    resume
        An earlier map of the same scan, reconstruction, method and seed, e.g. an interrupted one: its probes
        are not repeated, and the result is that of one uninterrupted run; with a target it may take more of them,
        since how voxels vary together is measured anew. For ``sketch`` and ``monte_carlo``.

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
    if control_variate and (method not in SAMPLING or resume is not None):
        raise InputError(
            "control variates are not possible here",
            expected=f"one of {', '.join(SAMPLING)}, from the first sample on",
            received=method if resume is None else f"{method}, going on from an earlier map",
            remedy="Leave control_variate out.",
        )
    if n_samples is None and target_error is None:
        target_error = DEFAULT_TARGET_ERROR

    started = time.perf_counter()
    done: list[tuple[Tensor, Estimate]] = []
    chosen, why, checks = method, "", {}
    count = n_images(reconstruction, acquisition)
    checked: list[Linearity] = []
    earlier = _earlier(resume, reconstruction, acquisition, seed, distribution, count)
    try:
        for index, operator in enumerate(linearize(reconstruction, acquisition)):
            if index == 0:
                chosen, why = _choose(method, operator, resume, control_variate)
                checks = operator.preflight.describe()
            _require(chosen, operator)
            start = earlier[index]
            if start is not None and start.method != chosen:
                raise _cannot_resume(f"method {chosen}", start.method)
            region = foreground(operator.value)
            if chosen not in NONLINEAR:
                checked.append(estimators.linearity(operator, region=region, seed=(seed, index), batch_size=batch_size))
            # One draw of all alias sets is all it takes.
            most = 1 if (method, chosen) == ("auto", "lattice") else n_samples
            plan = Plan(most, target_error, region, batch_size, _within(progress, index, count))
            features = _features(operator) if control_variate else None
            estimate = _estimate(operator, chosen, plan, (seed, index), distribution, start, features)
            done.append((operator.value.cpu(), estimate.cpu()))
            if estimate.interrupted:
                break
    except KeyboardInterrupt:
        # Whole slices are kept; before the first there is nothing to return.
        if not done:
            raise
    image, estimate = _join(done, count, acquisition)
    linearity = _join_linearity(checked[: len(done)], count, acquisition, image.shape)
    return NoiseMap(
        image=image,
        estimate=estimate,
        geometry=_geometry(acquisition, image),
        spatial_dims=acquisition.spatial_dims,
        reference_std=_reference_std(reconstruction, acquisition, image),
        acceleration=acquisition.acceleration,
        linearity=linearity,
        provenance={
            "method": chosen,
            "why": why,
            "seed": seed,
            "distribution": _distribution_name(chosen, distribution),
            "control_variate": control_variate,
            "n_samples": estimate.n_samples,
            "n_products": estimate.n_products,
            "target_error": target_error if chosen != "exact" else None,
            "certified_error": _worst(estimate.certified_error),
            "interrupted": estimate.interrupted,
            "noise_model": "replicas at the noise level of the scan"
            if chosen in NONLINEAR
            else "first order in the noise",
            "reconstruction": name_of(reconstruction),
            "preflight": checks,
            "linearity": None if linearity is None else linearity.describe(),
            **scan_record(acquisition, getattr(reconstruction, "estimates_coil_maps", False)),
            "seconds": round(time.perf_counter() - started, 3),
        },
    )


def _choose(method: str, operator: NoiseToImage, resume: NoiseMap | None, control_variate: bool) -> tuple[str, str]:
    """Resolve ``"auto"`` on the first image, and say why."""
    mode = operator.preflight.jvp_mode
    if method != "auto":
        return method, "asked for"
    if mode is None:
        return "monte_carlo", "no derivative of the reconstruction agrees with finite differences"
    if resume is None and not control_variate and _alias_sets_are_apart(operator):
        return (
            "lattice",
            "a linear reconstruction that keeps the alias sets of regular sampling apart: no sampling error",
        )
    return "sketch", f"the derivative passes the preflight ({mode})"


def _alias_sets_are_apart(operator: NoiseToImage) -> bool:
    """Whether one draw of lattice probes has no error, judged on its first colour."""
    if not operator.complex_linear or operator.preflight.vjp_mode is None:
        return False
    try:
        first = _alias_colours(operator) == 0
    except InputError:
        return False
    probes = sampler(operator.image_shape, operator.image_dtype, seed=0, device=operator.device)([0]) * first
    products = (probes.conj() * operator.apply(operator.adjoint(probes)))[0]
    inside = foreground(operator.value) & first.to(operator.device)
    # Im w*(LLᴴw) is leakage alone.
    return float(products[inside].imag.norm()) < APART * float(products[inside].real.norm())


def _features(operator: NoiseToImage) -> Surrogate:
    """Cheap images for control variates."""
    features = surrogate(operator.acquisition, operator.image_shape)
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
    if method in ("nonlinear", "sketch", "probe", "lattice") and operator.preflight.jvp_mode is None:
        raise refuse(operator.preflight, "derivative")
    if method in ("probe", "lattice", "exact") and operator.preflight.vjp_mode is None:
        raise refuse(operator.preflight, "adjoint")


def _estimate(
    operator: NoiseToImage,
    method: str,
    plan: Plan,
    seed: tuple[int, int],
    distribution: str | Distribution,
    start: Estimate | None,
    features: Surrogate | None,
) -> Estimate:
    if method == "sketch":
        return estimators.sketch(operator, plan, seed=seed, distribution=distribution, start=start, features=features)
    if method == "probe":
        return estimators.probe(operator, plan, seed=seed)
    if method == "lattice":
        return estimators.probe(operator, plan, colours=_alias_colours(operator), seed=seed, method="lattice")
    if method == "exact":
        return estimators.exact(operator, batch_size=plan.batch_size, progress=plan.progress)
    if method == "nonlinear":
        return estimators.nonlinear(operator, plan, seed=seed)
    return estimators.monte_carlo(operator, plan, seed=seed, start=start, features=features)


def _alias_colours(operator: NoiseToImage) -> Tensor:
    """Colours of the voxels of an image, whose matrix is that of k-space or its central part."""
    acquisition = operator.acquisition
    colours = shared_lattice(acquisition).colours(acquisition.spatial_shape)
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
    if not isinstance(resume.estimate.error, GaussianError):
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
    return list(unstack(resume.estimate, resume.image.ndim - acquisition.spatial_dims if count > 1 else 0))


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


def _join(done: list[tuple[Tensor, Estimate]], count: int, acquisition: Acquisition) -> tuple[Tensor, Estimate]:
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


def _geometry(acquisition: Acquisition, image: Tensor) -> Geometry:
    before = [n // 2 - m // 2 for n, m in zip(acquisition.spatial_shape, _spatial(acquisition, image), strict=True)]
    return acquisition.geometry.cropped(tuple([0] * (3 - len(before)) + before))  # type: ignore[arg-type]


def _reference_std(
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
    image_space = "phase (image space)"
    return {"probe": image_space, "lattice": image_space, "exact": "none"}.get(method, "gaussian")
