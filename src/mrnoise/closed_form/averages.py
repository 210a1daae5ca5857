"""How often the samples of an image were averaged, where a closed form needs one number."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError


def image_averages(acquisition: Acquisition) -> Tensor | None:
    """Averages of each image, (..., 1, 1) or (..., 1, 1, 1); ``None`` where they differ between samples of an image."""
    if acquisition.averages is None:
        return torch.ones(())
    axes = list(range(-acquisition.sampling.sample_ndim, 0))
    acquired = acquisition.sampling.weight > 0
    most = acquisition.averages.double().where(acquired, 1).amax(axes)
    least = acquisition.averages.double().where(acquired, torch.inf).amin(axes)
    return None if bool((least < most).any()) else most.reshape(*most.shape, *[1] * acquisition.spatial_dims)


def uniform_averages(acquisition: Acquisition) -> Tensor:
    """The one number of averages of all acquired samples of each image, as `image_averages`.

    Raises
    ------
    InputError
        If they differ.
    """
    averages = image_averages(acquisition)
    if averages is None:
        assert acquisition.averages is not None
        measured = acquisition.averages[acquisition.sampling.weight > 0]
        raise InputError(
            "averages differ between samples",
            expected="one number of averages for the closed form",
            received=f"{float(measured.min()):g} to {float(measured.max()):g}",
            remedy='Use noise_map(..., method="sketch"), which takes any weighting.',
        )
    return averages
