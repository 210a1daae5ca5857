"""The grid of k-space that all patterns are drawn on, and what they may be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from torch import Tensor

from mrnoise.checks import check_memory
from mrnoise.errors import InputError

Calibration = int | tuple[int, ...]


def phase_encodes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Size of the plane of the two phase encodes: the first two axes."""
    return shape[0], shape[1]


def expand_lines(line: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Acquired lines (k1,) repeated over all other axes."""
    return line[:, None].expand(shape).clone()


def expand_plane(plane: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A plane of phase encodes repeated along the readout of a volume."""
    return plane if len(shape) == 2 else plane[:, :, None].expand(shape).clone()


def centre(shape: tuple[int, ...], widths: tuple[int, ...]) -> np.ndarray:
    """Bool block of these widths around n // 2."""
    block = np.zeros(shape, dtype=bool)
    block[tuple(slice(n // 2 - w // 2, n // 2 - w // 2 + w) for n, w in zip(shape, widths, strict=True))] = True
    return block


# -- drawing -----------------------------------------------------------------------------------------------


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of k-space, or the error that it is none."""
    shape = tuple(int(n) for n in shape)
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(
            "sampling pattern has the wrong shape",
            expected="(k1, k0) or (k2, k1, k0), no axis empty",
            received=str(shape),
            remedy="Give the spatial axes of k-space, without coils and slices.",
        )
    check_memory(prod(shape), "the sampling pattern", "Give a smaller matrix.")
    return shape


def checked_calibration(calibration: Calibration, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Width of the fully sampled centre along each axis, or the error that it does not fit."""
    widths = tuple(calibration) if isinstance(calibration, Sequence) else (calibration,) * len(shape)
    if len(widths) != len(shape) or any(not 0 <= w <= n for w, n in zip(widths, shape, strict=False)):
        raise InputError(
            "calibration region does not fit the grid",
            expected="between 0 and " + " × ".join(str(n) for n in shape) + " samples",
            received=" × ".join(str(w) for w in widths),
            remedy="Reduce the calibration region.",
        )
    return widths


def samples_allowed(acceleration: float, plane: tuple[int, ...], calibration: int = 0) -> int:
    """Samples to acquire for a net acceleration, or the error that there is none, or none beside the calibration."""
    total = prod(plane)
    if not 1 <= acceleration <= total:
        raise InputError(
            "acceleration is not possible",
            expected=f"between 1 and {total}, the number of {'lines' if len(plane) == 1 else 'phase encodes'}",
            received=f"{acceleration:g}",
            remedy="Give the net acceleration, all samples over acquired samples.",
        )
    allowed = max(1, round(total / acceleration))
    if calibration > allowed:
        raise InputError(
            "calibration region leaves nothing for the rest of k-space",
            expected=f"at most {allowed} calibration samples at acceleration {acceleration:g}",
            received=f"{calibration}",
            remedy="Reduce the calibration region or the acceleration.",
        )
    return allowed
