"""Lines at their places in k-space, those of one place averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


def numbered(file: MrdFile, lines: np.ndarray, name: str) -> np.ndarray:
    """A counter of each line, numbered without gaps; slices by position."""
    values, numbers = np.unique(file.heads["idx"][name][lines], return_inverse=True)
    if name != "slice" or len(values) == 1:
        return np.asarray(numbers)
    firsts = np.array([lines[np.argmax(numbers == s)] for s in range(len(values))])
    rank = np.argsort(np.argsort(along_normal(file.heads[firsts]), kind="stable"), kind="stable")
    return np.asarray(rank[numbers])


@dataclass(frozen=True, eq=False)
class Repeats:
    """Lines that were measured again, compared with the first of their place: c = ⟨first, line⟩.

    Parameters
    ----------
    first, later
        (repeat,): numbers of the two lines.
    common
        (repeat,): c where the two share their signal, |c| > ½ ‖first‖ ‖line‖; else zero.
    """

    first: np.ndarray
    later: np.ndarray
    common: Tensor

    def out_of_phase(self, numbers: np.ndarray) -> bool:
        """Whether lines that differ in this number lose signal when averaged: Re Σ c < 0.9 Σ |c|."""
        common = self.common[torch.from_numpy(numbers[self.first] != numbers[self.later])].to(torch.complex128)
        return bool(common.real.sum() < IN_PHASE * common.abs().sum())


def repeats(places: np.ndarray, found: Readouts) -> Repeats:
    """The lines of each place but its first, by place."""
    order = np.argsort(places, kind="stable")
    starts = np.diff(places[order], prepend=-1) != 0
    first, later = order[starts][np.cumsum(starts) - 1][~starts], order[~starts]
    common = torch.zeros(len(later), dtype=torch.complex64)
    for part in found.parts(np.arange(len(later))):
        firsts, which = np.unique(first[part], return_inverse=True)
        a, b = found.values(firsts)[which].flatten(1), found.values(later[part]).flatten(1)
        most = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
        c = (a.conj() * b).sum(1)
        common[part] = torch.where(c.abs() > SAME_SIGNAL * most, c, 0)
    return Repeats(first, later, common)


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
    cells = math.prod(lead) * n2 * n1
    check_memory(8 * cells * found.n_coils * found.size, f"k-space of {file.path.name}", CHECK_MATRIX)
    at = (*counters, rows[1], rows[0])
    places = torch.from_numpy(np.asarray(np.ravel_multi_index(at, (*lead, n2, n1))))
    weight = torch.zeros(cells, found.size).index_add_(0, places, found.weight)
    kspace = torch.zeros(*lead, found.n_coils, n2, n1, found.size, dtype=torch.complex64)
    lines = np.moveaxis(kspace.numpy(), len(lead), -2)  # a view
    for part in found.parts(np.arange(len(found.lines))):
        values, own = found.values(part), found.weight[part]
        if bool((own != 1).any()):
            values *= own.unsqueeze(1)
        for value, *place in zip(values.numpy(), *(numbers[part] for numbers in at), strict=True):
            lines[tuple(place)] += value
    if float(weight.max()) > 1:
        kspace /= weight.clamp_min(1).reshape(*lead, 1, n2, n1, found.size)
    shape = [n for n in lead if n > 1]
    volume = [n2, n1] if n2 > 1 else [n1]
    return kspace.reshape(*shape, found.n_coils, *volume, found.size), weight.reshape(*shape, *volume, found.size)
