"""Dwell times of the lines of an image, which may differ between contrasts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_file import MrdFile
from mrnoise.io.scans.noise_scan import plausible_dwell

# Dwell times that differ by less are one.
SAME = 1e-3


def dwell_weights(file: MrdFile, lines: np.ndarray) -> tuple[float, Tensor, tuple[str, ...]]:
    """Shortest dwell time of these lines in µs, weights (line,) by which the others count, and what is to be said.

    White noise that the receiver averages over a dwell time T has the variance S / T (see `bandwidth_factor`): a line
    of T has Ψ / w where Ψ is that of the shortest T₀ and w = T / T₀, as if it were measured w times with T₀.

    Raises
    ------
    InputError
        If some of the dwell times are unknown, or one is no number.
    """
    stored = file.heads["sample_time_us"][lines]
    known = {time: plausible_dwell(float(time), "image") for time in np.unique(stored[np.isfinite(stored)])}
    times = np.array([known.get(time, (np.nan,))[0] for time in stored])
    if not np.ptp(times) > SAME * times.max():  # also where one is no number
        return file.dwell_us(lines), torch.ones(len(lines)), ()
    if times.min() == 0:
        raise InputError(
            f"the dwell time of a part of the lines of {file.path.name} is unknown",
            expected="one dwell time in µs for each line of the image, or none at all",
            received=f"{int((times == 0).sum())} of {len(times)} lines without, the others of {times.max():g} µs",
            remedy="Convert the raw data again.",
        )
    shortest = float(times.min())
    counts = " and ".join(f"{time:.6g} µs ({int((times == time).sum())} lines)" for time in np.unique(times))
    said = (
        f"Lines have dwell times of {counts}: Ψ is that of {shortest:.6g} µs, and a line of T counts as "
        f"T / {shortest:.6g} µs averages."
    )
    words = (word for _, found in known.values() for word in found)
    return shortest, torch.from_numpy(times / shortest).float(), (said, *words)
