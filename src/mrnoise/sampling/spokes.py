"""Spokes through the centre of k-space, in a plane and in a volume."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

from mrnoise.checks import check_count
from mrnoise.errors import InputError
from mrnoise.sampling.cells import cells, check_size, checked_matrix, gaps, to_cycles
from mrnoise.sampling.trajectory import Trajectory

GOLDEN = (1 + 5**0.5) / 2
GOLDEN_MEAN = 0.6823278038280193  # x³ + x = 1; its square is the other one


def radial(
    image_shape: Sequence[int],
    n_spokes: int,
    n_samples: int | None = None,
    *,
    angles: str | Tensor = "golden",
    half: bool = False,
) -> Trajectory:
    """Spokes through the centre of k-space.

    Sample j of spoke i lies at k_d = n_d/2 · ρ_j u_d(θ_i) with u = (sin θ, cos θ) along (y, x) and ρ_j = 2 (j - m //
    2) / m of m samples; of half spokes ρ_j = j / m. The density is the area of the polar cell, ρ Δρ Δθ · n_y n_x / 4
    with the angle Δθ that is nearest to the spoke; all spokes share the disc of diameter Δρ around the centre. Spokes
    are a cycle per field of view apart at the edge, as full sampling asks, from π/2 · max(n) spokes (half: π ·
    max(n)) on.

    Parameters
    ----------
    image_shape
        Matrix (y, x). K-space is the ellipse that touches its edges: a disc where voxels are squares.
    n_spokes
        Number of spokes.
    n_samples
        Of each; ``None``: twice the larger side of the matrix, half of that for half spokes.
    angles
        ``"golden"``: 111.25° from one spoke to the next (half: 222.49°). ``"uniform"``: over 180° (half: 360°). Or the
        angles themselves in radians, (n_spokes,).
    half
        Spokes that start in the centre.

    Returns
    -------
    Trajectory
        Coordinates (2, spoke, sample), float64.

    Raises
    ------
    InputError
        If a number is not possible, or the angles are neither known nor numbers.

    References
    ----------
    Lauterbur, Nature 1973, doi:10.1038/242190a0; golden angle: Winkelmann et al., IEEE Trans Med Imaging 2007,
    doi:10.1109/TMI.2006.885337

    Examples
    --------
    >>> spokes = radial((16, 12), 5, angles="uniform")
    >>> spokes.sample_shape, spokes.coordinates[:, 0, [0, 16]].tolist()  # along x, then its centre
    ((5, 32), [[-0.0, 0.0], [-6.0, 0.0]])
    """
    shape = checked_matrix(image_shape, 2)
    check_count(n_spokes, "number of spokes")
    rho, edges = _along(max(shape), n_samples, half)
    check_size(n_spokes, len(rho), 2)
    period = 2 * pi if half else pi
    theta = _angles(angles, n_spokes, period)
    direction = torch.stack([theta.sin(), theta.cos()])
    density = cells(edges, gaps(theta, period), shape)
    return Trajectory(to_cycles(direction[..., None] * rho, shape), shape, density)


def radial_3d(
    image_shape: Sequence[int],
    n_spokes: int,
    n_samples: int | None = None,
    *,
    order: str = "golden",
    half: bool = False,
) -> Trajectory:
    """Spokes in all directions of a volume (koosh ball).

    k_d = n_d/2 · ρ_j u_d with u = (cos ϑ, sin ϑ sin φ, sin ϑ cos φ) along (z, y, x) and ρ_j as for `radial`.
    ``"golden"``: cos ϑ and φ/2π of spoke i are the fractions of 0.4656 i and 0.6823 i (golden means), which cover the
    sphere evenly after any number of spokes. ``"phyllotaxis"``: φ = 137.51° i and ϑ = π/2 √((i + ½) / N), from the
    pole to the equator; half spokes go on to the other pole. The density is the volume of the cell, Ω ρ² Δρ · n_z n_y
    n_x / 8, Ω the solid angle of the spoke at either side of the centre. Full sampling takes π/2 · max(n)² spokes,
    half ones twice as many.

    Parameters
    ----------
    image_shape
        Matrix (z, y, x). K-space is the ellipsoid that touches its faces.
    n_spokes, n_samples, half
        As for `radial`.
    order
        ``"golden"`` or ``"phyllotaxis"``.

    Returns
    -------
    Trajectory
        Coordinates (3, spoke, sample), float64.

    Raises
    ------
    InputError
        If a number or the order is not possible.

    References
    ----------
    Golden means: Chan et al., Magn Reson Med 2009, doi:10.1002/mrm.21837; phyllotaxis: Piccini et al., Magn Reson Med
    2011, doi:10.1002/mrm.22898

    Examples
    --------
    >>> ball = radial_3d((16, 12, 10), 50, order="phyllotaxis")
    >>> ball.sample_shape, round(float(ball.density.sum()) / (16 * 12 * 10), 2)  # π / 6
    ((50, 32), 0.53)
    """
    shape = checked_matrix(image_shape, 3)
    check_count(n_spokes, "number of spokes")
    rho, edges = _along(max(shape), n_samples, half)
    check_size(n_spokes, len(rho), 3)
    if order == "golden":
        polar, azimuth, solid = _golden_means(n_spokes, half)
    elif order == "phyllotaxis":
        polar, azimuth, solid = _phyllotaxis(n_spokes, half)
    else:
        raise InputError(
            "unknown order of spokes",
            expected="golden or phyllotaxis",
            received=repr(order),
            remedy="Choose one of them.",
        )
    direction = torch.stack([polar.cos(), polar.sin() * azimuth.sin(), polar.sin() * azimuth.cos()])
    return Trajectory(to_cycles(direction[..., None] * rho, shape), shape, cells(edges, solid, shape))


def _along(matrix: int, n_samples: int | None, half: bool) -> tuple[Tensor, Tensor]:
    """Radii of the samples of a spoke, and those between them."""
    count = n_samples if n_samples is not None else matrix if half else 2 * matrix
    check_count(count, "number of samples", least=2)
    index = torch.arange(count + 1, dtype=torch.float64)
    index, step = (index, 1 / count) if half else (index - count // 2, 2 / count)
    edges = (index - 0.5) * step
    return index[:-1] * step, edges.clamp(min=0) if half else edges


def _angles(angles: str | Tensor, n_spokes: int, period: float) -> Tensor:
    spoke = torch.arange(n_spokes, dtype=torch.float64)
    if isinstance(angles, Tensor):
        given = angles.double()
        if tuple(given.shape) == (n_spokes,) and bool(given.isfinite().all()):
            return given
    elif angles == "golden":
        return spoke * (period / GOLDEN) % (2 * pi)
    elif angles == "uniform":
        return spoke * (period / n_spokes)
    raise InputError(
        "angles of the spokes are not possible",
        expected=f"golden, uniform, or {n_spokes} finite numbers in radians",
        received=f"a tensor of shape {tuple(angles.shape)}" if isinstance(angles, Tensor) else repr(angles),
        remedy='Use angles="golden".',
    )


def _golden_means(n_spokes: int, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Polar angle, azimuth and solid angle."""
    spoke = torch.arange(n_spokes, dtype=torch.float64)
    height, turn = ((spoke * mean) % 1 for mean in (GOLDEN_MEAN**2, GOLDEN_MEAN))
    sphere = 4 * pi if half else 2 * pi
    return (2 * height - 1 if half else height).acos(), 2 * pi * turn, torch.full_like(turn, sphere / n_spokes)


def _phyllotaxis(n_spokes: int, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Polar angle, azimuth and solid angle: that of the ring between the polar angles half way to the next spokes."""

    def polar(part: Tensor) -> Tensor:
        if not half:
            return pi / 2 * part.sqrt()
        return torch.where(part < 0.5, pi / 2 * (2 * part).sqrt(), pi - pi / 2 * (2 - 2 * part).clamp(min=0).sqrt())

    spoke = torch.arange(n_spokes + 1, dtype=torch.float64)
    ring = -polar(spoke / n_spokes).cos().diff()
    return polar((spoke[:-1] + 0.5) / n_spokes), spoke[:-1] * (2 * pi / GOLDEN**2), 2 * pi * ring
