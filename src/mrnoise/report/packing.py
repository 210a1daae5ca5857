"""Arrays as text that the viewer can read back."""

from __future__ import annotations

import base64
import gzip

import numpy as np

MANTISSA_BITS = 15  # relative rounding error below 2e-5: four digits are exact


def pack(array: np.ndarray, mantissa_bits: int = MANTISSA_BITS) -> str:
    """Base64 of the compressed float32 values, in C order.

    The mantissa is rounded and the bytes are sorted by significance (all low bytes, …, all high bytes), which
    makes noise compress to about half. What is not finite becomes NaN.
    """
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, dtype="<f4")
    dropped = 23 - mantissa_bits
    bits = values.view("<u4") + np.uint32(1 << (dropped - 1))
    bits &= np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))
    bits[~np.isfinite(values)] = 0x7FC00000
    planes = np.ascontiguousarray(bits).view(np.uint8).reshape(-1, 4).T.tobytes()
    return _text(planes)


def pack_mask(mask: np.ndarray) -> str:
    """Base64 of the compressed bytes 0 and 1."""
    return _text(mask.astype(np.uint8).tobytes())


def _text(data: bytes) -> str:
    # mtime 0: the same map gives the same file.
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")
