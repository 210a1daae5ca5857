"""Going on from an earlier map."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mrnoise.estimators import Auto, Choice, Estimate, Linearity, Method, method
from mrnoise.estimators.estimate import unstack
from mrnoise.estimators.protocol import cannot_go_on
from mrnoise.linearization import Images
from mrnoise.mapping.assembly import MappedImage
from mrnoise.mapping.provenance import fingerprint
from mrnoise.result.noise_map import NoiseMap

WHY = "going on from a map by this method"


def choice_of(earlier: NoiseMap, asked: Method) -> Choice | None:
    """The method of an earlier map with its options, if it is what is asked for.

    ``None``: it goes on with images that were not reached, by the method that is chosen for them as if anew.

    Raises
    ------
    InputError
        If it is another, or cannot be gone on from.
    """
    if earlier.provenance.preview is not None:
        raise cannot_go_on("a map by sketch or monte_carlo, or with images that are done", "a preview")
    if not earlier.estimate.error.continues:
        if not isinstance(asked, Auto) and asked.name != earlier.method:
            raise cannot_go_on(f"method {asked.name}", earlier.method)
        return None
    if isinstance(asked, Auto):
        options: dict[str, Any] = {"control_variate": asked.control_variate, "half_precision": asked.half_precision}
        if earlier.method == "sketch":
            options["distribution"] = earlier.provenance.distribution
        if earlier.method in ("sketch", "monte_carlo"):
            asked = method(earlier.method, **options)
    return Choice(asked.going_on(earlier.method, earlier.provenance.stated()), WHY)


def images_of(
    earlier: NoiseMap, images: Images, seed: int, n_samples: int | None, target_error: float | None
) -> tuple[list[MappedImage | None], list[Estimate | None]]:
    """For each image what stays as it is, or the estimate to go on from; ``None`` for those that were not reached.

    Raises
    ------
    InputError
        If the map is of another scan, reconstruction or seed, of another noise level, or nothing of it can be kept.
    """
    before = earlier.provenance
    expected = {
        "input sha256": (fingerprint(images.acquisition), (before.input or {}).get("sha256")),
        "reconstruction": (images.reconstruction.title, before.reconstruction),
        "seed": (seed, before.seed),
        "noise scale": (None, before.noise_scale),
    }
    for name, (wanted, found) in expected.items():
        if found != wanted:
            raise cannot_go_on(f"{name} {wanted}", str(found))
    parts = unstack(earlier.estimate.map(images.taken_apart), len(images.shape))
    reached = [not bool(part.variance.isnan().all()) for part in parts]
    last = max((index for index, found in enumerate(reached) if found), default=-1)
    checked = _linearity_of(earlier, images)
    kept: list[MappedImage | None] = [None] * images.count
    begun: list[Estimate | None] = [None] * images.count
    for index, (value, part) in enumerate(zip(images.split(earlier.image), parts, strict=True)):
        if not reached[index]:
            continue
        whole = index < last or not earlier.interrupted
        if _is_finished(part, n_samples, target_error, whole):
            kept[index] = MappedImage(value, replace(part, interrupted=False), checked[index])
        elif part.error.continues:
            begun[index] = part
    if all(part is None for part in (*kept, *begun)):
        raise cannot_go_on("a map by sketch or monte_carlo, or images that are as good as asked for", earlier.method)
    return kept, begun


def _is_finished(part: Estimate, n_samples: int | None, target_error: float | None, whole: bool) -> bool:
    """Whether an image is as good as asked for; ``whole``: it is not the last that an interrupted run reached."""
    if target_error is not None:
        certified = part.certified_error
        if certified is not None and float(certified) <= target_error:
            return True
    elif n_samples is None:
        return True  # of a method without samples
    elif not part.error.continues:
        return whole
    return n_samples is not None and part.error.continues and part.n_samples >= n_samples


def _linearity_of(earlier: NoiseMap, images: Images) -> list[Linearity | None]:
    """That of each image; those that were reached are the first ones."""
    if earlier.linearity is None:
        return [None] * images.count
    departures, findings = images.split(earlier.linearity.departure), earlier.linearity.findings
    found: list[Linearity | None] = [Linearity(d, (f,)) for d, f in zip(departures, findings, strict=False)]
    return found + [None] * (images.count - len(found))
