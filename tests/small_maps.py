"""Noise maps made by hand, small, with a different length on every axis."""

import numpy as np
import torch

from mrnoise.acquisition.geometry import Geometry
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.sampling_error import EmpiricalError, GaussianError, NoError
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance

OBLIQUE = np.array([[0.86, -0.47, 0.2, -30.0], [0.45, 0.84, -0.6, -25.0], [0.05, 0.3, 2.9, 7.0], [0, 0, 0, 1.0]])
OBLIQUE[:3, 2] = 3.0 * np.cross(OBLIQUE[:3, 0], OBLIQUE[:3, 1])
OBLIQUE[:3, 1] = np.cross(OBLIQUE[:3, 2], OBLIQUE[:3, 0]) / 3.0 / (OBLIQUE[:3, 0] ** 2).sum()


def small_map(
    shape=(5, 22, 17), *, error="gaussian", geometry=None, spatial_dims=2, reference=True, interrupted=False, scale=1.0
):
    """An elliptic object with improper noise."""
    random = torch.Generator().manual_seed(3)
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape[-2:])
    disc = ((y[:, None] / 0.8) ** 2 + (x / 0.7) ** 2 < 1).double()
    noise = torch.randn(*shape, 2, generator=random, dtype=torch.float64)
    image = scale * (disc * (1 + 0.3 * x) + 0.02 * torch.view_as_complex(noise)) * torch.exp(0.7j * x)
    variance = (0.05 * scale) ** 2 * (1 + 0.5 * torch.rand(shape, generator=random, dtype=torch.float64))
    pseudo = 0.4 * variance * torch.exp(1j * y)[:, None]
    errors = {
        "gaussian": GaussianError(torch.tensor(40.0)),
        "empirical": EmpiricalError(
            (0.1 * variance) ** 2 * (1 + disc),
            0.001 * variance**2 * torch.exp(1j * x),
            (0.1 * variance) ** 2,
            0.002 * variance**2 * torch.exp(2j * x),
            torch.tensor(39.0),
        ),
        "none": NoError(),
    }
    return NoiseMap(
        image=image.to(torch.complex64),
        estimate=Estimate(variance, pseudo, errors[error], "sketch", 40, 41, interrupted),
        geometry=geometry or Geometry((3.0, 0.9, 1.1)),
        spatial_dims=spatial_dims,
        reference_std=0.02 * scale * torch.ones(shape, dtype=torch.float64) if reference else None,
        acceleration=3.5,
        provenance=Provenance(
            why="asked for",
            seed=4,
            reconstruction="Sense()",
            preflight={
                "mode": "vmap(jvp)",
                "checks": [{"name": "adjoint_dot", "passed": False, "detail": "0.02"}],
            },
            noise_covariance={"source": "noise scan", "coils": 8, "condition_number": 12.5},
            input={"source": "brain.h5", "sha256": "ab" * 32},
            versions={"mrnoise": "0.1.0"},
        ),
    )
