"""Spirals on cones around one axis of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, cos, pi, sin

import torch
from torch import Tensor

from mrnoise.checks import check_count
from mrnoise.sampling.cells import cells, check_positive, check_size, checked_matrix, equal_steps, to_cycles
from mrnoise.sampling.trajectory import Trajectory


def cones(
    image_shape: Sequence[int],
    n_cones: int,
    n_interleaves: int,
    n_samples: int | None = None,
    *,
    turns: float = 1.0,
) -> Trajectory:
    """Spirals from the centre outwards on cones around z.

    Cone c has the polar angle ϑ = (c + ½) π / n_cones. Its interleaves run along κ(ρ) = ρ (cos ϑ, sin ϑ sin φ, sin ϑ
    cos φ) on (z, y, x) with φ = 2π (T ρ + i / N_c), ρ from 0 to 1 at samples of equal distance; k_d = n_d/2 · κ_d.
    N_c is ``n_interleaves`` · sin ϑ, rounded up. The density is the volume that a sample stands for, ρ² Δρ Ω / N_c
    with the solid angle Ω between the cones half way to the next, times n_z n_y n_x / 8. Full sampling takes π/2 ·
    max(n) cones, and about max(n) / (2 √(T² + 1/(2π)²)) interleaves.

    Parameters
    ----------
    image_shape
        Matrix (z, y, x). K-space is the ellipsoid that touches its faces.
    n_cones
        Number of cones, from one pole to the other.
    n_interleaves
        Of a cone at the equator.
    n_samples
        Of each interleaf; ``None``: two for each cycle per field of view along the longest.
    turns
        T, of each interleaf.

    Returns
    -------
    Trajectory
        Coordinates (3, interleaf, sample), float64, cone by cone.

    Raises
    ------
    InputError
        If a number is not possible.

    References
    ----------
    Irarrazabal and Nishimura, Magn Reson Med 1995, 33:656; Gurney et al., Magn Reson Med 2006,
    doi:10.1002/mrm.20796

    Examples
    --------
    >>> arms = cones((12, 10, 8), n_cones=19, n_interleaves=6)
    >>> arms.sample_shape, round(float(arms.density.sum()) / (12 * 10 * 8), 2)  # π / 6
    ((82, 41), 0.51)
    """
    shape = checked_matrix(image_shape, 3)
    check_count(n_cones, "number of cones")
    check_count(n_interleaves, "number of interleaves")
    check_positive(turns, "number of turns")

    def speed(polar: float, rho: Tensor) -> Tensor:
        return torch.hypot(torch.ones_like(rho), 2 * pi * turns * sin(polar) * rho)

    if n_samples is None:
        n_samples = ceil(equal_steps(lambda rho: speed(pi / 2, rho), 1)[-1] * max(shape))
    check_count(n_samples, "number of samples", least=2)
    check_size(n_cones * n_interleaves, n_samples, 3)
    curves, densities = [], []
    for cone in range(n_cones):
        polar, half = (cone + 0.5) * pi / n_cones, pi / (2 * n_cones)
        count = ceil(n_interleaves * sin(polar))
        rho, between, _ = equal_steps(lambda rho, polar=polar: speed(polar, rho), n_samples)  # type: ignore[misc]
        turn = torch.arange(count, dtype=torch.float64)[:, None] / count
        azimuth = 2 * pi * (turns * rho + turn)
        height = torch.full_like(azimuth, cos(polar))
        curves.append(rho * torch.stack([height, sin(polar) * azimuth.sin(), sin(polar) * azimuth.cos()]))
        solid = 2 * pi * (cos(polar - half) - cos(polar + half)) / count
        densities.append(cells(between, torch.full((count,), solid, dtype=torch.float64), shape))
    return Trajectory(to_cycles(torch.cat(curves, 1), shape), shape, torch.cat(densities))
