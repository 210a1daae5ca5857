"""Regular patterns: equispaced lines and CAIPIRINHA lattices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.phase_encodes import (
    Calibration,
    centre,
    checked_calibration,
    checked_shape,
    expand_lines,
    expand_plane,
    phase_encodes,
)


def equispaced(shape: Sequence[int], spacing: int, calibration: int = 0, offset: int = 0) -> Tensor:
    """Lines along k1 at equal distance, with a fully sampled centre.

    Line j is acquired where (j - n1 // 2 - offset) mod spacing = 0, or within the ``calibration`` central lines.

    Parameters
    ----------
    shape
        (k1, k0) or (k2, k1, k0). All of k0, and of k2, is acquired in every line.
    spacing
        Distance between lines. Calibration lines come on top: the net acceleration is lower.
    calibration
        Number of central lines acquired in any case.
    offset
        Shift of the lattice in lines; 0 puts one line through the centre of k-space.

    Returns
    -------
    Tensor
        Bool, ``shape``; True where a sample is acquired.

    Raises
    ------
    InputError
        If the spacing is not a whole number of at least 1, or the calibration exceeds k1.

    Examples
    --------
    >>> equispaced((12, 8), 3, calibration=2)[:, 0].int().tolist()
    [1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0]
    """
    shape = checked_shape(shape)
    spacing = _whole(spacing)
    n = shape[-2]
    (width,) = checked_calibration(calibration, (n,))
    line = torch.arange(n)
    acquired = (line - n // 2 - offset) % spacing == 0
    acquired |= torch.from_numpy(centre((n,), (width,)))
    return expand_lines(acquired, shape)


def caipi(
    shape: Sequence[int],
    spacing: int | tuple[int, int] = 2,
    shift: int = 1,
    calibration: Calibration = 0,
) -> Tensor:
    """Sheared lattice over the two phase-encoding axes (2D CAIPIRINHA).

    Sample (a, b), counted from the centre, is acquired where a mod r2 = 0 and
    (b - shift · a / r2) mod r1 = 0.

    Parameters
    ----------
    shape
        (k2, k1, k0), constant along the readout k0; or the plane of two phase encodes itself, (k1, k0).
    spacing
        (r2, r1), distance between samples along the first and second phase encode, or one number for both.
        Calibration samples come on top: the net acceleration is lower than r2 r1.
    shift
        Samples by which the lattice moves along the second axis from one row to the next.
    calibration
        Size of the fully sampled central block, one number or one for each axis.

    Returns
    -------
    Tensor
        Bool, ``shape``; True where a sample is acquired.

    Raises
    ------
    InputError
        If a spacing is not a whole number of at least 1, or the calibration exceeds the grid.

    References
    ----------
    Breuer et al., Magn Reson Med 2006, doi:10.1002/mrm.20787

    Examples
    --------
    >>> caipi((4, 6, 8), (2, 2))[..., 0].int()
    tensor([[1, 0, 1, 0, 1, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 1, 0, 1, 0, 1],
            [0, 0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    shape = checked_shape(shape)
    r2, r1 = _pair(spacing)
    plane = phase_encodes(shape)
    a, b = (torch.arange(n) - n // 2 for n in plane)
    row = torch.div(a, r2, rounding_mode="floor")
    acquired = (a[:, None] % r2 == 0) & ((b[None, :] - shift * row[:, None]) % r1 == 0)
    acquired |= torch.from_numpy(centre(plane, checked_calibration(calibration, plane)))
    return expand_plane(acquired, shape)


def _whole(spacing: int) -> int:
    if spacing < 1 or spacing != int(spacing):
        raise InputError(
            "spacing of a regular pattern is not possible",
            expected="a whole number of at least 1",
            received=f"{spacing:g}",
            remedy="For a fractional acceleration take a random pattern.",
        )
    return int(spacing)


def _pair(spacing: int | tuple[int, int]) -> tuple[int, int]:
    both = tuple(spacing) if isinstance(spacing, Sequence) else (spacing, spacing)
    if len(both) != 2:
        raise InputError(
            "CAIPIRINHA spacing has the wrong length",
            expected="(r2, r1), or one number for both",
            received=str(spacing),
            remedy="Give the spacing along both phase encodes.",
        )
    return _whole(both[0]), _whole(both[1])
