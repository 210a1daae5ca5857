"""The trajectories by name, at an acceleration: what can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, pi, prod, sqrt
from types import MappingProxyType

from mrnoise.errors import InputError
from mrnoise.sampling.conical import cones
from mrnoise.sampling.named import TOLERANCE
from mrnoise.sampling.petals import rosette
from mrnoise.sampling.spirals import spiral
from mrnoise.sampling.spokes import radial, radial_3d
from mrnoise.sampling.stacks import stack_of_spirals, stack_of_stars
from mrnoise.sampling.trajectory import Trajectory

INTERLEAVES = 8  # of a spiral, which winds the wider the higher R


def sampling_trajectory(name: str, acceleration: float, image_shape: Sequence[int]) -> Trajectory:
    """Trajectory with N / R samples of N voxels, or as many as whole readouts come to.

    It has as many samples as a mask of `sampling_mask` of the same R: those of a spoke are a cycle per field of view
    apart, those of a spiral about as much.

    Parameters
    ----------
    name
        One of `TRAJECTORIES`.
    acceleration
        R, voxels over samples.
    image_shape
        (y, x) or (z, y, x).

    Returns
    -------
    Trajectory
        With its density.

    Raises
    ------
    InputError
        If the name is unknown, is not one of an image of this shape, or R is not possible.

    Examples
    --------
    >>> spokes = sampling_trajectory("radial", 4, (128, 128))
    >>> spokes.sample_shape, spokes.acceleration
    ((32, 128), 4.0)
    """
    shape = tuple(int(n) for n in image_shape)
    drawn = _DRAWN.get(name)
    if drawn is None or len(shape) != drawn[0]:
        fitting = [each for each, (dims, _) in _DRAWN.items() if dims == len(shape)]
        raise InputError(
            "unknown trajectory" if drawn is None else f"{name} is no trajectory of {len(shape)} axes",
            expected="one of " + (", ".join(fitting) or "2 or 3 axes"),
            received=f"{name!r} for {shape}",
            remedy="Choose a trajectory from the list.",
        )
    if not 0 < acceleration < float("inf"):
        raise InputError(
            "acceleration is not possible",
            expected="a finite number above 0",
            received=f"{acceleration:g}",
            remedy="Use 1 for as many samples as voxels.",
        )
    trajectory = drawn[1](shape, prod(shape) / acceleration)
    net = trajectory.acceleration
    if max(net / acceleration, acceleration / net) > 1 + TOLERANCE:
        raise InputError(
            "acceleration is not possible",
            expected=f"about {net:.3g}, the nearest of {name} on {' × '.join(map(str, shape))}",
            received=f"{acceleration:g}",
            remedy="Give another acceleration, or a trajectory by its own constructor.",
        )
    return trajectory


def _readouts(n_samples: float, length: int) -> int:
    return max(1, round(n_samples / length))


def _radial(shape: tuple[int, ...], n_samples: float) -> Trajectory:
    return radial(shape, _readouts(n_samples, max(shape)), max(shape))


def _spiral(shape: tuple[int, ...], n_samples: float) -> Trajectory:
    turns = max(shape) / (2 * INTERLEAVES) * n_samples / prod(shape)
    return spiral(shape, INTERLEAVES, max(2, round(n_samples / INTERLEAVES)), turns=turns)


def _rosette(shape: tuple[int, ...], n_samples: float) -> Trajectory:
    length = ceil(pi / 2 * max(shape))
    return rosette(shape, _readouts(n_samples, length), length)


def _stack_of_stars(shape: tuple[int, ...], n_samples: float) -> Trajectory:
    length = max(shape[1:])
    return stack_of_stars(shape, _readouts(n_samples / shape[0], length), length)


def _stack_of_spirals(shape: tuple[int, ...], n_samples: float) -> Trajectory:
    turns = max(shape[1:]) / (2 * INTERLEAVES) * n_samples / prod(shape)
    return stack_of_spirals(shape, INTERLEAVES, max(2, round(n_samples / shape[0] / INTERLEAVES)), turns=turns)


def _radial_3d(shape: tuple[int, ...], n_samples: float) -> Trajectory:
    return radial_3d(shape, _readouts(n_samples, max(shape)), max(shape))


def _cones(shape: tuple[int, ...], n_samples: float) -> Trajectory:
    """Fewer cones and fewer interleaves of each, alike."""
    thinner = sqrt(min(1.0, n_samples / prod(shape)))
    n_cones = max(1, round(pi / 2 * max(shape) * thinner))
    n_interleaves = max(1, round(max(shape) / (2 * sqrt(1 + 1 / (2 * pi) ** 2)) * thinner))
    drawn = cones(shape, n_cones, n_interleaves, 2)
    return cones(shape, n_cones, n_interleaves, max(2, round(n_samples / drawn.sample_shape[0])))


_DRAWN: Mapping[str, tuple[int, Callable[[tuple[int, ...], float], Trajectory]]] = MappingProxyType(
    {
        "radial": (2, _radial),
        "spiral": (2, _spiral),
        "rosette": (2, _rosette),
        "stack_of_stars": (3, _stack_of_stars),
        "stack_of_spirals": (3, _stack_of_spirals),
        "radial_3d": (3, _radial_3d),
        "cones": (3, _cones),
    }
)
TRAJECTORIES = tuple(_DRAWN)
"""Names of the trajectories: three of a plane, four of a volume."""
