"""Changes of bytes, arrays and single values."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

HUGE = (10**10, 10**6, 2**31 - 1, 2**31, 2**62, 65535)
NO_NUMBERS = (np.nan, np.inf, -np.inf)
TYPES = ("g", "G", "e", "f4", ">f8", "c8", ">c16", "?", "i1", "u8", ">i2", "S5", "U4", "M8[s]", "V3", "O", "struct")


@dataclass
class Case:
    """What one input does: ``act`` it, in a folder; ``damaged`` where accepting it would be wrong."""

    what: str
    act: Callable[[], Any]
    damaged: bool = False


class SilentlyAcceptedError(Exception):
    """Damage that shows only in what came out."""


def damage(data: bytes, rng: random.Random, tail: int = 0) -> tuple[bytes, str, bool]:
    """Bytes flipped, cut, zeroed, inserted or repeated; and whether that is certain damage.

    ``tail`` is the number of bytes at the end that hold nothing that is needed.
    """
    found, size = bytearray(data), len(data)
    head = rng.random() < 0.5
    end = rng.random() < 0.3

    def place() -> int:
        if head:
            return rng.randrange(min(size, 2048))
        return rng.randrange(max(size - 1024, 0), size) if end else rng.randrange(size)

    how = rng.choice(("flip", "flip", "flip", "cut", "zero", "insert", "repeat", "ones"))
    if how == "flip":
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            found[place()] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
        return bytes(found), "bytes flipped", False
    if how == "cut":
        left = rng.choice((rng.randrange(size), max(size - 1 - rng.randrange(64), 0)))
        return bytes(found[:left]), f"cut to {left} of {size} bytes", left < size - tail
    start = place()
    length = rng.choice((1, 4, 8, 64, 512, size))
    if how in ("zero", "ones"):
        stop = min(start + length, size)
        found[start:stop] = (b"\x00" if how == "zero" else b"\xff") * (stop - start)
        return bytes(found), f"bytes {start} to {stop} set", False
    if how == "insert":
        found[start:start] = rng.randbytes(min(length, 512))
    else:
        found[start:start] = found[start : start + length]
    return bytes(found), f"bytes put in at {start}", False


def other_type(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """The array as another type, as far as that is possible."""
    kind = rng.choice(TYPES)
    if kind == "struct":
        found = np.zeros(array.shape, dtype=[("a", "f8"), ("b", "i2")])
    elif kind == "O":
        found = np.full(array.shape, None, dtype=object)
    elif kind in ("V3", "M8[s]"):
        found = np.zeros(array.shape, dtype=kind)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = array.astype(kind)
            except (TypeError, ValueError):
                found = np.zeros(array.shape, dtype=kind)
    return found, f"type {kind}"


def other_shape(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """The array with another shape."""
    how = rng.choice(("empty", "scalar", "flat", "short", "more", "transposed", "none"))
    if how == "empty" and array.ndim:
        axis = rng.randrange(array.ndim)
        found = np.take(array, [], axis=axis)
    elif how == "scalar" and array.size:
        found = array.ravel()[:1].reshape(())
    elif how == "flat":
        found = array.ravel()
    elif how == "short" and array.ndim:
        found = array[: rng.randrange(1, 3)]
    elif how == "more":
        found = array[(None,) * rng.randrange(1, 5)]
    elif how == "none":
        found = np.zeros((0,), array.dtype)
    else:
        found = array.T
    return found, f"shape {found.shape}"


def other_values(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """The array with a value that cannot be."""
    found = np.array(array)
    if found.dtype.kind not in "fciu" or not found.size:
        return found, "as it was"
    value = rng.choice((*NO_NUMBERS, 0, -1, *HUGE, 1e300))
    at = rng.randrange(found.size) if rng.random() < 0.5 else slice(None)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if found.dtype.kind in "iu":
            value = int(value) if np.isfinite(value) else 2**62
            found = found.astype(object)
            found.ravel()[at] = value
            try:
                found = found.astype(np.int64)
            except OverflowError:
                found = found.astype(float)
        else:
            found.ravel()[at] = value
    return found, f"value {value}"


def other_array(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """Another type, shape or value."""
    return rng.choice((other_type, other_shape, other_values))(array, rng)


def no_scan(kspace: np.ndarray) -> bool:
    """Whether an array cannot be k-space: without samples, without axes, or with values that are no numbers."""
    return kspace.size == 0 or kspace.ndim < 2 or (kspace.dtype.kind in "fc" and not np.isfinite(kspace).all())


def other_field(record: np.ndarray, rng: random.Random) -> tuple[str, Any]:
    """Set a number of one field of a record, in place, to one that cannot be; its name and value."""
    name = rng.choice(record.dtype.names or ())
    field = record[name]
    if field.dtype.names:
        inner, value = other_field(field, rng)
        return f"{name}.{inner}", value
    kind, size = field.dtype.kind, field.dtype.itemsize
    value = rng.choice((0, 1, 2, 65535, *NO_NUMBERS, 1e38) if kind == "f" else (0, 1, 2**7, 65535, 2**64 - 1))
    if kind in "iu":
        value = int(value) % 2 ** (8 * size - (kind == "i"))
    at = np.unravel_index(rng.randrange(field.size), field.shape) if field.size and rng.random() < 0.5 else ...
    field[at] = rng.randbytes(size) if kind == "S" else value
    return name, value
