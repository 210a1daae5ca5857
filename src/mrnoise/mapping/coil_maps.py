"""Coil maps of a scan that is to be mapped: given, estimated and held fixed, or left to the reconstruction."""

from __future__ import annotations

from collections.abc import Mapping

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration import with_coil_maps
from mrnoise.calibration.interleaved import interleaved_calibration
from mrnoise.errors import InputError
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, as_reconstruction
from mrnoise.sampling import Grid

FIXED, PROPAGATED = "fixed", "propagated"


def check_choice(choice: str) -> None:
    """Raise `InputError` unless it is ``"fixed"`` or ``"propagated"``."""
    if choice not in (FIXED, PROPAGATED):
        raise InputError(
            "unknown choice of coil maps",
            expected="fixed or propagated",
            received=choice,
            remedy="Use fixed, the classical definition.",
        )


def with_chosen_maps(
    acquisition: Acquisition,
    choice: str,
    reconstruction: Reconstruction | KspaceToImage | None = None,
    whole: Acquisition | None = None,
    place: Mapping[str, int] | None = None,
) -> Acquisition:
    """The scan without coil maps (``"propagated"``), or with maps that are held fixed.

    These are its own, else ESPIRiT maps of its calibration lines, else those of the series that it is one of. A
    reconstruction that does without them goes on where there are no calibration lines.

    Parameters
    ----------
    acquisition
        The scan.
    choice
        ``"fixed"`` or ``"propagated"``.
    reconstruction
        Which needs them or not.
    whole, place
        The stack that it is a part of, and where.
    """
    if choice == PROPAGATED:
        return acquisition.replace(coil_maps=None)
    if acquisition.coil_maps is not None or acquisition.n_coils == 1:
        return acquisition
    try:
        return with_coil_maps(acquisition)
    except InputError as error:
        series = None
        if whole is not None and place and isinstance(whole.sampling, Grid):
            series = interleaved_calibration(whole)
        if series is not None:
            return with_coil_maps(series.at(**(place or {})))
        method = None if reconstruction is None else as_reconstruction(reconstruction)
        if method is None or (method.needs_coil_maps and not method.estimates_coil_maps):
            raise
        without = "no coil maps" + ("" if method.unit_weights else ", hence no g-factor")
        without += f": {error.problem} ({error.received})"
        return acquisition.replace(notes=(*acquisition.notes, without))
