"""Tensors and provenance in the plain forms that files hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

UPCAST = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64}


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A tensor of any device as an array; formats numpy does not have are widened."""
    plain = tensor.detach().cpu().to(UPCAST.get(tensor.dtype, tensor.dtype))
    array: np.ndarray = plain.resolve_conj().resolve_neg().numpy()
    return array


def plain(value: Any) -> Any:
    """``value`` in types that every JSON reader knows; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, Tensor)):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        number = float(value)  # `item` of extended precision is the same again
        return number if math.isfinite(number) else None
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or isinstance(value, (bool, int)):
        return value
    # Names of files need not be text.
    return str(value).encode("utf-8", "backslashreplace").decode()


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text of a provenance record."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
