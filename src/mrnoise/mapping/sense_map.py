"""The noise map of SENSE in closed form."""

from __future__ import annotations

import torch

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.closed_form.sense import fully_sampled_std, sense_std
from mrnoise.estimators.estimate import Estimate, NoError
from mrnoise.mapping.provenance import scan_record
from mrnoise.reconstruction.sense import Sense
from mrnoise.result.noise_map import NoiseMap


def sense_noise_map(acquisition: Acquisition, regularization: float = 0.0) -> NoiseMap:
    """SENSE image and its noise in closed form, as a map without sampling error.

    Raises
    ------
    InputError
        As `sense_std`.
    """
    sigma = sense_std(acquisition, regularization)
    estimate = Estimate(
        variance=sigma.square(),
        pseudo_variance=torch.zeros_like(sigma, dtype=torch.complex128),
        error=NoError(),
        method="closed_form",
        n_samples=0,
        n_products=0,
    )
    reconstruction = Sense(regularization)
    return NoiseMap(
        image=reconstruction.bind(acquisition)(acquisition.kspace),
        estimate=estimate,
        geometry=acquisition.geometry,
        spatial_dims=acquisition.spatial_dims,
        reference_std=fully_sampled_std(acquisition),
        acceleration=acquisition.acceleration,
        provenance={
            "method": "closed_form",
            "why": "regular sampling and SENSE",
            "n_samples": 0,
            "n_products": 0,
            "noise_model": "first order in the noise",
            "reconstruction": repr(reconstruction),
            **scan_record(acquisition),
        },
    )
