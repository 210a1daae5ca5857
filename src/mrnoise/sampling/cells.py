"""The cell of k-space that each sample stands for, in closed form where readouts sweep a disc or a ball evenly.

Lengths are in half matrices: κ_d = k_d / (n_d / 2), so that the ellipse that touches the edges of k-space is |κ| = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from mrnoise.checks import check_memory
from mrnoise.errors import InputError

FINE = 4096  # points along a curve, between which its length is interpolated


def checked_matrix(image_shape: Sequence[int], dims: int) -> tuple[int, ...]:
    """Matrix of an image with this number of axes, or the error that it is none."""
    shape = tuple(int(n) for n in image_shape)
    if len(shape) != dims or min(shape) < 1:
        raise InputError(
            "matrix does not fit the trajectory",
            expected="(y, x)" if dims == 2 else "(z, y, x)",
            received=str(shape),
            remedy="Give the axes of one slice." if dims == 2 else "Give the axes of one volume.",
        )
    return shape


def check_positive(value: float, what: str) -> None:
    """Raise `InputError` unless a number is finite and above zero."""
    if not 0 < value < float("inf"):
        raise InputError(
            f"invalid {what}",
            expected="a finite number above 0",
            received=f"{value:g}",
            remedy="Leave it out for the usual one.",
        )


def check_size(n_readouts: int, n_samples: int, dims: int) -> None:
    """Raise `InputError` where a trajectory does not fit into memory."""
    check_memory(24.0 * dims * n_readouts * n_samples, "the trajectory", "Give fewer readouts or samples.")


def to_cycles(kappa: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Cycles per field of view of κ (dimension, *samples)."""
    half = torch.tensor(image_shape, dtype=torch.float64) / 2
    return kappa * half.reshape(-1, *[1] * (kappa.ndim - 1))


def cells(edges: Tensor, angle: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Area or volume ∫|κ|^{d-1} dκ · angle between successive radii, in cycles per field of view.

    Parameters
    ----------
    edges
        Radii, signed, (..., sample + 1): a sample lies between two of them.
    angle
        Part of the circle in radians, or of the sphere in steradians, that each readout stands for at either side of
        the centre.
    image_shape
        Its length d is the dimension.
    """
    dims = len(image_shape)
    swept = edges.sign() * edges.abs() ** dims / dims
    return swept.diff() * angle[:, None] * prod(n / 2 for n in image_shape)


def gaps(angles: Tensor, period: float) -> Tensor:
    """Part of a circle nearer to each of these angles than to the others; equal angles share theirs."""
    order = (angles % period).argsort(stable=True)
    ahead = (angles % period)[order]
    ahead = torch.cat([ahead, ahead[:1] + period]).diff()
    return torch.empty_like(angles).index_copy(0, order, (ahead + ahead.roll(1)) / 2)


def equal_steps(speed: Callable[[Tensor], Tensor], n_samples: int) -> tuple[Tensor, Tensor, float]:
    """Parameters from 0 to 1 at equal distances along a curve, those half way between them, and its length.

    Parameters
    ----------
    speed
        |dκ/dτ| at the parameters τ.
    n_samples
        Sample j lies j / n_samples of the way.
    """
    tau = torch.linspace(0, 1, FINE + 1, dtype=torch.float64)
    middle = (tau[1:] + tau[:-1]) / 2
    length = torch.cat([torch.zeros(1, dtype=torch.float64), (speed(middle) / FINE).cumsum(0)])

    def at(part: Tensor) -> Tensor:
        target = part.clamp(0, 1) * length[-1]
        right = torch.searchsorted(length, target).clamp(1, FINE)
        left = right - 1
        return tau[left] + (target - length[left]) / (length[right] - length[left]) / FINE

    step = torch.arange(n_samples + 1, dtype=torch.float64)
    return at(step[:-1] / n_samples), at((step - 0.5) / n_samples), float(length[-1])
