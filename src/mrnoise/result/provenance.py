"""How a map was made, beside what its estimate says of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """How a map, or a measurement, was made; ``None`` where that is not known or does not apply.

    Parameters
    ----------
    reconstruction
        In words, with its settings.
    why
        Why this method.
    noise_model
        Whether the noise is first-order or that of replicas.
    seed, distribution
        Of the probes.
    control_variate, half_precision
        Whether they were used.
    target_error
        What was asked for.
    coil_maps
        Whose they are.
    noise_covariance
        Ψ: its source, coils, condition.
    sampling
        Acceleration and acquired fraction; the samples of a trajectory.
    input
        Source and SHA-256 of all that the map depends on.
    command
        The scan and the reconstruction in the options of `mrnoise map`, of a map that it made.
    notes
        What the reader of the scan had to say.
    preflight
        Which derivatives were trusted, and the checks.
    preview
        How the map was smoothed, see `mrnoise.preview`.
    noise_scale
        How many times the noise of the scan it is for, see `NoiseMap.scaled`.
    g_reference
        The reference of its g-factor, where that is another map.
    versions, created, seconds
        Of the software; when; how long it took.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4), method="sketch", n_samples=8)
    >>> nm.provenance.why, nm.provenance.distribution, nm.provenance.sampling["acceleration"]
    ('asked for', 'phase', 1.0)
    """

    reconstruction: str | None = None
    why: str | None = None
    noise_model: str | None = None
    seed: int | None = None
    distribution: str | None = None
    control_variate: bool | None = None
    half_precision: bool | None = None
    target_error: float | None = None
    coil_maps: str | None = None
    noise_covariance: Mapping[str, Any] | None = None
    sampling: Mapping[str, Any] | None = None
    input: Mapping[str, Any] | None = None
    command: Mapping[str, Any] | None = None
    notes: tuple[str, ...] | None = None
    preflight: Mapping[str, Any] | None = None
    preview: Mapping[str, Any] | None = None
    noise_scale: float | None = None
    g_reference: str | None = None
    versions: Mapping[str, str] | None = None
    created: str | None = None
    seconds: float | None = None

    def stated(self) -> dict[str, Any]:
        """What is known, by name."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Provenance:
        """From `stated`; what else the record of a file has is not of this."""
        names = {field.name for field in dataclasses.fields(cls)}
        known = {name: value for name, value in record.items() if name in names}
        return cls(**known | {"notes": tuple(known["notes"])} if "notes" in known else known)
