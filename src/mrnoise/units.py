"""A unit near the size of numbers, in which their squares neither vanish nor overflow."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_of(values: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """The power of two at or below the largest magnitude, over ``axes`` or all of them; 1 where all is zero.

    K-space comes in any unit, 10⁻¹⁶ or 10¹², and single precision squares 10⁻¹⁹ to 10¹⁹. Dividing by a power of two
    and multiplying in the end is exact. It is a choice of unit, not a function of the values: no derivative.

    Parameters
    ----------
    values
        Real or complex.
    axes
        Those that share a unit, kept with length 1. ``None``: all, and the unit is a scalar.

    Examples
    --------
    >>> float(unit_of(torch.tensor([3.0, -5.0]))), float(unit_of(torch.zeros(2)))
    (4.0, 1.0)
    """
    parts = torch.view_as_real(values.detach()) if values.is_complex() else values.detach().unsqueeze(-1)
    if axes is None:
        largest = torch.maximum(parts.amax(), -parts.amin())
    else:
        largest = parts.abs().amax(-1).amax(axes, keepdim=True)
    exponent = torch.where(largest > 0, largest, 1.0).log2().floor()
    return torch.exp2(exponent)
