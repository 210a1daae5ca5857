"""Lines at their places in k-space, those of one place averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mrnoise.checks import check_memory
from mrnoise.io.scans.mrd_file import MrdFile
from mrnoise.io.scans.mrd_geometry import along_normal
from mrnoise.io.scans.mrd_phase_encoding import PhaseEncoding
from mrnoise.io.scans.mrd_readout import CHECK_MATRIX, Readouts

# Lines are compared where they hold the same signal up to a phase: normalised correlation.
SAME_SIGNAL = 0.5
# Part of the signal that is left in their mean.
IN_PHASE = 0.9
# Lines that are compared at a time.
AT_ONCE = 1024


def numbered(file: MrdFile, lines: np.ndarray, name: str) -> np.ndarray:
    """A counter of each line, numbered without gaps; slices by position."""
    values, numbers = np.unique(file.heads["idx"][name][lines], return_inverse=True)
    if name != "slice" or len(values) == 1:
        return np.asarray(numbers)
    firsts = np.array([lines[np.argmax(numbers == s)] for s in range(len(values))])
    rank = np.argsort(np.argsort(along_normal(file.heads[firsts]), kind="stable"), kind="stable")
    return np.asarray(rank[numbers])


def out_of_phase(places: np.ndarray, numbers: np.ndarray, values: Tensor) -> bool:
    """Whether lines (line, coil, k0) of one place that differ in a number lose signal when averaged.

    Each is compared with the first of its place, c = ⟨first, line⟩: they are out of phase where
    Re Σ c < 0.9 Σ |c|, over the pairs that share their signal, |c| > ½ ‖first‖ ‖line‖.
    """
    _, first, which = np.unique(places, return_index=True, return_inverse=True)
    later = np.flatnonzero(numbers != numbers[first[which]])
    real = total = 0.0
    for part in np.array_split(later, -(-later.size // AT_ONCE)) if later.size else []:
        a, b = values[first[which[part]]].flatten(1), values[part].flatten(1)
        most = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
        common = (a.conj() * b).sum(1)
        common = common[common.abs() > SAME_SIGNAL * most]
        real, total = real + float(common.real.sum()), total + float(common.abs().sum())
    return real < IN_PHASE * total


def sort_lines(
    file: MrdFile,
    found: Readouts,
    counters: Sequence[np.ndarray],
    lead: Sequence[int],
    rows: Sequence[np.ndarray],
    encodings: Sequence[PhaseEncoding],
) -> tuple[Tensor, Tensor]:
    """Weighted mean of the lines at each place, (..., coil, [k2,] k1, k0), and its weight, (..., [k2,] k1, k0).

    Parameters
    ----------
    file, found
        The file and its readouts.
    counters, lead
        Numbers of each line along the leading axes, and how many there are; axes of one are left out.
    rows, encodings
        Row of each line along k1 and k2, and their phase encodings.
    """
    n1, n2 = encodings[0].size, encodings[1].size
    n_coils, n0 = found.values.shape[1:]
    cells = math.prod(lead) * n2 * n1
    check_memory(8 * cells * n_coils * n0, f"k-space of {file.path.name}", CHECK_MATRIX)
    at = np.ravel_multi_index((*counters, rows[1], rows[0]), (*lead, n2, n1))
    places = torch.from_numpy(np.asarray(at))
    total = found.values.new_zeros(cells, n_coils, n0)
    total.index_add_(0, places, found.values * found.weight.unsqueeze(1))
    weight = torch.zeros(cells, n0).index_add_(0, places, found.weight)
    mean = total / weight.clamp_min(1).unsqueeze(1)
    shape = [n for n in lead if n > 1]
    volume = [n2, n1] if n2 > 1 else [n1]
    kspace = mean.reshape(*shape, *volume, n_coils, n0).movedim(-2, len(shape))
    return kspace.contiguous(), weight.reshape(*shape, *volume, n0)
