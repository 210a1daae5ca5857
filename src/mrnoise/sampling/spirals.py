"""Spirals from the centre of k-space outwards."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, pi

import torch

from mrnoise.checks import check_count
from mrnoise.sampling.cells import cells, check_positive, check_size, checked_matrix, equal_steps, to_cycles
from mrnoise.sampling.trajectory import Trajectory


def spiral(
    image_shape: Sequence[int],
    n_interleaves: int,
    n_samples: int | None = None,
    *,
    turns: float | None = None,
    power: float = 1.0,
) -> Trajectory:
    """Interleaved spirals, Archimedean or of variable density.

    Interleaf i runs along κ(τ) = τ^α exp(i 2π (T τ + i / n_interleaves)), τ from 0 to 1, with T turns and the power
    α, at samples of equal distance; k_d = n_d/2 · κ_d. α = 1 is the Archimedean spiral, whose turns lie 1/T apart; α
    > 1 samples the centre more densely. The density is the area that a sample stands for, the Jacobian κ dκ/dτ Δτ ·
    2π / n_interleaves · n_y n_x / 4 integrated from half way to the sample before to half way to the next; all
    interleaves share the centre.

    Parameters
    ----------
    image_shape
        Matrix (y, x). K-space is the ellipse that touches its edges.
    n_interleaves
        Number of spirals, turned against each other.
    n_samples
        Of each; ``None``: two for each cycle per field of view along the spiral.
    turns
        T; ``None``: max(n) / (2 n_interleaves), which puts neighbouring turns of all interleaves one cycle per field of
        view apart (of α > 1 on average). An R-th of that undersamples by R.
    power
        α.

    Returns
    -------
    Trajectory
        Coordinates (2, interleaf, sample), float64.

    Raises
    ------
    InputError
        If a number is not possible.

    References
    ----------
    Meyer et al., Magn Reson Med 1992, doi:10.1002/mrm.1910280204; variable density: Kim et al., Magn Reson Med 2003,
    50:214; Jacobian: Hoge et al., Magn Reson Med 1997, doi:10.1002/mrm.1910380117

    Examples
    --------
    >>> arms = spiral((24, 20), 4)
    >>> arms.sample_shape, round(float(arms.density.sum()) / (24 * 20), 2)  # π / 4
    ((4, 229), 0.78)
    """
    shape = checked_matrix(image_shape, 2)
    check_count(n_interleaves, "number of interleaves")
    turns = max(shape) / (2 * n_interleaves) if turns is None else turns
    check_positive(turns, "number of turns")
    check_positive(power, "power of the spiral")

    def speed(tau: torch.Tensor) -> torch.Tensor:
        return torch.hypot(power * tau ** (power - 1), 2 * pi * turns * tau**power)

    if n_samples is None:
        n_samples = ceil(equal_steps(speed, 1)[-1] * max(shape))
    check_count(n_samples, "number of samples", least=2)
    check_size(n_interleaves, n_samples, 2)
    tau, between, _ = equal_steps(speed, n_samples)
    turn = torch.arange(n_interleaves, dtype=torch.float64)[:, None] / n_interleaves
    angle = 2 * pi * (turns * tau + turn)
    kappa = tau**power * torch.stack([angle.sin(), angle.cos()])
    share = torch.full((n_interleaves,), 2 * pi / n_interleaves, dtype=torch.float64)
    return Trajectory(to_cycles(kappa, shape), shape, cells(between**power, share, shape))
