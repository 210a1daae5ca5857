"""Where tensors can live."""

from __future__ import annotations

import torch

from mrnoise.errors import InputError


def checked_device(device: torch.device | str, *, valueless: bool = True) -> torch.device:
    """A device by its name, or the `InputError` that it is not there.

    Tensors of the meta device are ``valueless``: for tests of what would move.
    """
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if len(there) > 1:
        there.append("cuda")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or not (str(found) in there or (valueless and found.type == "meta")):
        raise InputError(
            "no such device",
            expected=f"one of {', '.join(there)}",
            received=str(device),
            remedy="Leave --device out to compute on the CPU.",
        )
    return found
