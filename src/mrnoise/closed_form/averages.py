"""How often samples were averaged, where a closed form needs one number."""

from __future__ import annotations

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError


def uniform_averages(acquisition: Acquisition) -> float:
    """The one number of averages of all acquired samples.

    Raises
    ------
    InputError
        If they differ.
    """
    if acquisition.averages is None:
        return 1.0
    measured = acquisition.averages[acquisition.sampling.weight > 0].double()
    if bool((measured != measured[0]).any()):
        raise InputError(
            "averages differ between samples",
            expected="one number of averages for the closed form",
            received=f"{float(measured.min()):g} to {float(measured.max()):g}",
            remedy='Use noise_map(..., method="sketch"), which takes any weighting.',
        )
    return float(measured[0])
