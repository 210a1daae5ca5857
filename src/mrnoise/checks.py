"""Checks of numbers that many functions take: seeds, counts, sizes that fit into memory."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import psutil

from mrnoise.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


def check_seed(seed: Any, below: str = "") -> None:
    """Raise `InputError` unless the seed is a whole number ≥ 0; ``below`` "2³²" puts an end to the range.

    Examples
    --------
    >>> check_seed(7)
    """
    value = _whole(seed)
    if value is None or value < 0 or (below and value >= 2**32):
        raise InputError(
            "invalid seed",
            expected="a whole number, 0 ≤ seed" + (f" < {below}" if below else ""),
            received=str(seed),
            remedy="Use 0, 1, 2, … for independent repetitions.",
        )


def check_count(value: Any, what: str, least: int = 1, most: int = 2**31 - 1) -> None:
    """Raise `InputError` unless a count is a whole number within its range.

    Examples
    --------
    >>> check_count(8, "number of coils")
    """
    number = _whole(value)
    if number is None or not least <= number <= most:
        raise InputError(
            f"invalid {what}",
            expected=f"a whole number, at least {least}" + ("" if number is None or number < least else f", ≤ {most}"),
            received=str(value),
            remedy=f"Give {least} or more." if number is None or number < least else "Give a smaller number.",
        )


def check_memory(n_bytes: float, what: str, remedy: str = "Give less data at a time.") -> None:
    """Raise `InputError` where so many bytes are more than there is free memory.

    Examples
    --------
    >>> check_memory(1e6, "k-space")
    """
    free = float(psutil.virtual_memory().available)
    if resource is not None:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, limit - psutil.Process().memory_info().vms)
    if n_bytes > free:
        raise InputError(
            f"{what} is too large for this computer",
            expected=f"at most the {free / 2**30:.3g} GiB of memory that are free",
            received=f"{n_bytes / 2**30:.3g} GiB",
            remedy=remedy,
        )


def all_finite(values: Tensor) -> bool:
    """Whether no number of a complex tensor is NaN or infinite.

    Their sum tells, without memory for an answer for each; only where it overflows they are looked at one by one.

    Examples
    --------
    >>> import torch
    >>> all_finite(torch.tensor([1j, 3e38, 3e38])), all_finite(torch.tensor([1j, complex("nan")]))
    (True, False)
    """
    import torch

    parts = torch.view_as_real(values)
    return bool(parts.sum().isfinite()) or bool(parts.isfinite().all())


def _whole(value: Any) -> int | None:
    try:
        return operator.index(value)
    except TypeError:
        return None
