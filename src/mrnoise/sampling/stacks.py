"""The same trajectory in every partition of a volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrnoise.sampling.cells import checked_matrix
from mrnoise.sampling.spirals import spiral
from mrnoise.sampling.spokes import radial
from mrnoise.sampling.trajectory import Trajectory


def stack_of_stars(
    image_shape: Sequence[int],
    n_spokes: int,
    n_samples: int | None = None,
    *,
    angles: str | Tensor = "golden",
    half: bool = False,
) -> Trajectory:
    """Spokes in the plane of y and x, whole k_z from -(n_z // 2) on across it.

    Parameters
    ----------
    image_shape
        Matrix (z, y, x).
    n_spokes, n_samples, angles, half
        As for `radial`; the same in every partition.

    Returns
    -------
    Trajectory
        Coordinates (3, partition, spoke, sample), float64, with the density of `radial`.

    Raises
    ------
    InputError
        As `radial`.

    References
    ----------
    Block et al., J Korean Soc Magn Reson Med 2014, doi:10.13104/jksmrm.2014.18.2.87

    Examples
    --------
    >>> stars = stack_of_stars((4, 16, 12), 5)
    >>> stars.sample_shape, stars.coordinates[0, :, 0, 0].tolist()
    ((4, 5, 32), [-2.0, -1.0, 0.0, 1.0])
    """
    shape = checked_matrix(image_shape, 3)
    return _stack(radial(shape[1:], n_spokes, n_samples, angles=angles, half=half), shape[0])


def stack_of_spirals(
    image_shape: Sequence[int],
    n_interleaves: int,
    n_samples: int | None = None,
    *,
    turns: float | None = None,
    power: float = 1.0,
) -> Trajectory:
    """Spirals in the plane of y and x, whole k_z from -(n_z // 2) on across it.

    Parameters
    ----------
    image_shape
        Matrix (z, y, x).
    n_interleaves, n_samples, turns, power
        As for `spiral`; the same in every partition.

    Returns
    -------
    Trajectory
        Coordinates (3, partition, interleaf, sample), float64, with the density of `spiral`.

    Raises
    ------
    InputError
        As `spiral`.

    References
    ----------
    Irarrazabal and Nishimura, Magn Reson Med 1995, 33:656

    Examples
    --------
    >>> stack_of_spirals((4, 16, 12), 2, 100).sample_shape
    (4, 2, 100)
    """
    shape = checked_matrix(image_shape, 3)
    return _stack(spiral(shape[1:], n_interleaves, n_samples, turns=turns, power=power), shape[0])


def _stack(plane: Trajectory, n_partitions: int) -> Trajectory:
    kz = torch.arange(n_partitions, dtype=torch.float64) - n_partitions // 2
    across = kz.reshape(-1, 1, 1).expand(n_partitions, *plane.sample_shape)
    within = plane.coordinates.unsqueeze(1).expand(-1, n_partitions, -1, -1)
    assert plane.density is not None
    density = plane.density.expand(n_partitions, -1, -1).clone()
    return Trajectory(torch.cat([across[None], within]), (n_partitions, *plane.image_shape), density)
