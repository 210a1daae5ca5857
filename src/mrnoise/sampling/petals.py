"""Petals that leave the centre of k-space and come back to it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, pi, prod

import torch

from mrnoise.checks import check_count
from mrnoise.sampling.cells import check_positive, check_size, checked_matrix, to_cycles
from mrnoise.sampling.trajectory import Trajectory


def rosette(
    image_shape: Sequence[int], n_petals: int, n_samples: int | None = None, *, twist: float = 1.0
) -> Trajectory:
    """Rosette: every petal crosses k-space twice, from the centre to the edge and back.

    Petal i is κ(τ) = sin τ exp(i (ω τ + 2π i / n_petals)), τ from 0 to π at equal steps, k_d = n_d/2 · κ_d; ω is the
    twist, the ratio of Noll's two frequencies: 0 gives spokes, 1 circles through the centre. The density is half the
    area that a sample sweeps as the petal turns, ½ |sin τ cos τ| Δτ · 2π / n_petals · n_y n_x / 4, integrated over
    its step: all of k-space is swept twice.

    Parameters
    ----------
    image_shape
        Matrix (y, x). K-space is the ellipse that touches its edges.
    n_petals
        Number of petals, turned against each other.
    n_samples
        Of each petal; ``None``: two for each cycle per field of view where it is fastest.
    twist
        ω.

    Returns
    -------
    Trajectory
        Coordinates (2, petal, sample), float64.

    Raises
    ------
    InputError
        If a number is not possible.

    References
    ----------
    Noll, IEEE Trans Med Imaging 1997, 16:372

    Examples
    --------
    >>> petals = rosette((24, 20), 30)
    >>> petals.sample_shape, round(float(petals.density.sum()) / (24 * 20), 2)  # π / 4
    ((30, 76), 0.79)
    """
    shape = checked_matrix(image_shape, 2)
    check_count(n_petals, "number of petals")
    if twist:
        check_positive(twist, "twist of the petals")
    # Speed |dκ/dτ| = √(cos² τ + ω² sin² τ).
    n_samples = ceil(pi * max(1.0, twist) * max(shape)) if n_samples is None else n_samples
    check_count(n_samples, "number of samples", least=2)
    check_size(n_petals, n_samples, 2)
    step = torch.arange(n_samples + 1, dtype=torch.float64)
    tau, edges = step[:-1] * (pi / n_samples), (step - 0.5) * (pi / n_samples)
    angle = twist * tau + torch.arange(n_petals, dtype=torch.float64)[:, None] * (2 * pi / n_petals)
    kappa = tau.sin() * torch.stack([angle.sin(), angle.cos()])
    # ∫|sin τ cos τ| dτ, which grows from -π/2 on.
    outward = edges < pi / 2
    swept = torch.where(outward, edges.sign() * edges.sin() ** 2 / 2, 1 - edges.sin() ** 2 / 2)
    density = swept.diff() * (pi / n_petals) * prod(n / 2 for n in shape)
    return Trajectory(to_cycles(kappa, shape), shape, density.expand(n_petals, -1).clone())
