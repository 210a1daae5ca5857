"""Going on from an earlier map."""

from __future__ import annotations

from typing import Any

from mrnoise.estimators import Auto, Estimate, Method, method
from mrnoise.estimators.estimate import unstack
from mrnoise.estimators.protocol import cannot_go_on
from mrnoise.linearization import Images
from mrnoise.mapping.provenance import fingerprint
from mrnoise.result.noise_map import NoiseMap


def method_of(earlier: NoiseMap, asked: Method) -> Method:
    """The method of an earlier map with its options, if it is what is asked for.

    Raises
    ------
    InputError
        If it is another, or cannot be gone on from.
    """
    if isinstance(asked, Auto):
        options: dict[str, Any] = {"control_variate": asked.control_variate, "half_precision": asked.half_precision}
        if earlier.method == "sketch":
            options["distribution"] = earlier.provenance.distribution
        if earlier.method in ("sketch", "monte_carlo"):
            asked = method(earlier.method, **options)
    return asked.going_on(earlier.method, earlier.provenance.stated())


def estimates_of(earlier: NoiseMap, images: Images, seed: int) -> list[Estimate | None]:
    """For each image the estimate to go on from; ``None`` for those that were not reached.

    Raises
    ------
    InputError
        If the map is of another scan, reconstruction or seed, or of another noise level.
    """
    if not earlier.estimate.error.continues:
        raise cannot_go_on("a map by sketch or monte_carlo", earlier.method)
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
    return [part if part.n_samples > 0 else None for part in parts]
