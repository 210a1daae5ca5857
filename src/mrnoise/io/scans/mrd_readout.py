"""The readout of the lines of an MRD file: direction, centre, oversampling, ramps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.fourier import central, to_image, to_kspace
from mrnoise.io.scans.mrd_epi import ramp_sampling
from mrnoise.io.scans.mrd_file import REVERSE, MrdFile
from mrnoise.io.scans.mrd_phase_encoding import CLEAR, USUAL_DISTANCE

CHECK_MATRIX = "Check the encoded matrix size of the header."
# A longer readout is oversampled where the edges of its field of view have less than this part of its energy density.
EMPTY = 0.1
MOST_OVERSAMPLING = 8
# An echo that is asymmetric leaves out less than half; headers that count zeros of interpolation have a few times more.
MOST_ZERO_FILLED = 8
# Bytes of lines that are read at a time.
AT_ONCE = 2**20


@dataclass(frozen=True)
class _Line:
    """Usable samples of a line in the direction of growing k: where they lie in the whole line.

    ``centre`` is the index of the centre of k-space in the whole line.
    """

    number: int
    reverse: bool
    first: int
    behind: int
    centre: int

    def usable(self, samples: np.ndarray) -> np.ndarray:
        """Those of the whole line (..., sample)."""
        return (samples[..., ::-1] if self.reverse else samples)[..., self.first : self.behind]


@dataclass(frozen=True, eq=False)
class Readouts:
    """Lines on the grid of the image, which are read when they are asked for: memory holds some lines at a time.

    Parameters
    ----------
    file, lines
        Where the lines are from.
    encoded, size
        Samples of the encoded grid, and of it without oversampling.
    operators
        To the encoded grid, of each kind of line that is regridded; empty where samples are on it.
    weight
        (line, k0): 0 where nothing was acquired, else 1, or relative to the least of them the inverse variance of what
        was regridded.
    noise
        Variance of a value of weight 1, relative to a sample of the file.
    notes
        What was assumed or corrected.
    """

    file: MrdFile
    lines: list[_Line]
    encoded: int
    size: int
    operators: dict[tuple[bool, int, int], np.ndarray]
    weight: Tensor
    noise: float
    notes: tuple[str, ...]

    @cached_property
    def numbers(self) -> np.ndarray:
        """Numbers of the lines in the file."""
        return np.array([line.number for line in self.lines])

    @property
    def n_coils(self) -> int:
        """Number of coils of each line."""
        return int(self.file.heads["active_channels"][self.lines[0].number])

    def values(self, which: np.ndarray) -> Tensor:
        """These of the lines: (line, coil, k0), centre at n // 2, oversampling removed."""
        lines = [self.lines[i] for i in which]
        values = np.empty((len(lines), self.n_coils, self.encoded), np.complex64)
        for row, line, samples in zip(values, lines, self.file.samples(self.numbers[which]), strict=True):
            if self.operators:
                row[:] = line.usable(samples) @ self.operators[_kind(line)].T
            else:
                shift = self.encoded // 2 - line.centre
                first, behind = line.first + shift, line.behind + shift
                row[:, first:behind] = line.usable(samples)
                row[:, :first] = row[:, behind:] = 0
        if self.size == self.encoded:
            return torch.from_numpy(values)
        return to_kspace(central(to_image(torch.from_numpy(values), 1), [self.size]), 1)

    def parts(self, which: np.ndarray) -> list[np.ndarray]:
        """These of the lines in parts to be read at a time."""
        at_once = max(1, AT_ONCE // (8 * self.n_coils * self.encoded))
        return np.array_split(which, -(-len(which) // at_once)) if len(which) else []


def readouts(file: MrdFile, lines: np.ndarray) -> Readouts:
    """Put the samples of these lines, of one encoding space, on the grid along k0.

    ``center_sample`` is the index of a stored sample: in a reversed line it is counted from its stored beginning, and
    samples to be discarded are counted too. Zero counts as not given, and is the middle.

    Raises
    ------
    InputError
        If a line has no samples or does not fit the encoded matrix, or the header leaves no voxel along the readout.
    """
    encoding = file.encoding(lines)
    n, width = encoding.encodedSpace.matrixSize.x, encoding.encodedSpace.fieldOfView_mm.x
    n_coils = int(file.heads["active_channels"][lines[0]])
    check_memory(8 * len(lines) * n_coils * n, f"k-space of {file.path.name}", CHECK_MATRIX)
    file.check_samples(lines)
    found = _directed(file, lines)
    ramps = ramp_sampling(file, lines)
    noise, notes, operators = 1.0, [], {}
    unknown = int((file.heads["center_sample"][lines] == 0).sum())
    if unknown:
        notes.append(f"{unknown} lines have a center_sample of 0: the middle of the line was taken.")
    if ramps is not None:
        n = ramps.size
        operators = {kind: ramps.operator(*kind) for kind in set(map(_kind, found))}
        weight, noise = _regridded_weight(found, operators)
        notes.append(
            "Samples on the ramps were regridded by least squares with the trapezoid of the header. The variance of "
            "each sample of the grid is accounted for, correlations of neighbours are not: σ holds within 1 % but for "
            "the outermost voxels along the readout."
        )
    else:
        longest = max(line.behind for line in found)
        if n > MOST_ZERO_FILLED * longest:
            raise InputError(
                f"the encoded matrix of {file.path.name} does not fit its lines",
                expected=f"at most {MOST_ZERO_FILLED} times the {longest} samples of a line",
                received=f"{n} along the readout",
                remedy=CHECK_MATRIX,
            )
        factor = _oversampling(file, found, n, longest, encoding.trajectory == "epi")
        if factor > 1:
            notes.append(
                f"Lines have {longest} samples, the encoded matrix {n}: taken as a field of view {factor:g} times as "
                "wide."
            )
            n, width = round(factor * n), factor * width
        found, said = _centred(file, found, n)
        notes += said
        weight = _weight(file, found, n)
    kept = round(n * encoding.reconSpace.fieldOfView_mm.x / width)
    if kept < 1:
        raise InputError(
            f"the header of {file.path.name} leaves no voxel along the readout",
            expected=f"a reconstructed field of view of at least 1/{n} of the encoded one",
            received=f"{encoding.reconSpace.fieldOfView_mm.x:g} of {width:g} mm",
            remedy="Correct the fields of view of the header.",
        )
    kept = min(kept, n)
    # Sample j of the short readout lies where this sample of the long one does.
    nearest = (n // 2 + (torch.arange(kept) - kept // 2) * n / kept).round().long().clamp(0, n - 1)
    return Readouts(file, found, n, kept, operators, weight[:, nearest], noise, tuple(notes))


def _directed(file: MrdFile, lines: np.ndarray) -> list[_Line]:
    """The lines, those that are reversed turned round, without the samples to be discarded."""
    names = ("number_of_samples", "discard_pre", "discard_post", "center_sample")
    numbers = [lines, file.flagged(REVERSE)[lines], *(file.heads[name][lines] for name in names)]
    found = []
    for number, reverse, length, first, last, centre in zip(*(column.tolist() for column in numbers), strict=True):
        if reverse:
            first, last, centre = last, first, length - 1 - centre if centre else 0
        found.append(_Line(number, reverse, first, length - last, centre or length // 2))
    return found


def _kind(line: _Line) -> tuple[bool, int, int]:
    return line.reverse, line.first, line.behind


def _oversampling(file: MrdFile, found: list[_Line], n: int, longest: int, epi: bool) -> float:
    """How many times the field of view of lines that are longer than the matrix is as wide as in the header.

    The lines of an echo-planar image span the matrix of the header, whatever their number of samples. Others are
    oversampled where the edges of the wider image hold next to nothing; else 1.
    """
    if longest <= n:
        return 1.0
    if epi:
        return longest / n
    factor = -(-longest // n)
    line = max(found, key=lambda line: float(line.usable(file.profiles[line.number]).sum()))
    (samples,) = file.samples(np.array([line.number]))
    strongest = line.usable(samples)
    wide = torch.zeros(len(strongest), factor * n, dtype=torch.complex64)
    if factor > MOST_OVERSAMPLING or strongest.shape[1] > factor * n:
        return 1.0
    wide[:, : strongest.shape[1]] = torch.from_numpy(strongest.copy())
    density = to_image(wide, 1).abs().square().sum(0)
    before = (factor * n - n) // 2
    middle = density[before : before + n]
    edges = float(density.sum() - middle.sum()) / (factor * n - n)
    return float(factor) if edges < EMPTY * float(middle.mean()) else 1.0


def _centred(file: MrdFile, found: list[_Line], n: int) -> tuple[list[_Line], list[str]]:
    """The lines with the centre of those that are reversed checked, and what is to say about it.

    In a line of 128 samples with its centre at 64, turned round, the centre is 63 by the definition of MRD; the
    converters of scanners count 64 there, too. Which it is say the matrix, that has no room for the one or the other,
    or the strongest sample; else it is that of the definition.
    """
    turned = [line for line in found if line.reverse]
    straight = [line for line in found if not line.reverse]
    offset, expected = _strongest(file, turned), _strongest(file, straight)
    notes = []
    if turned:
        later = [replace(line, centre=line.centre + 1) for line in turned]
        fits, fits_later = (all(_fits(line, n) for line in lines) for lines in (turned, later))
        seen = offset is not None and offset - (expected or 0) == 1
        if fits_later and (seen or not fits):
            kept = {line.number: line for line in later}
            found = [kept.get(line.number, line) for line in found]
            offset = None if offset is None else offset - 1
            notes.append(f"center_sample of {len(turned)} reversed lines lies one sample behind the centre: corrected.")
    distance = max((abs(value) for value in (offset, expected) if value is not None), default=0)
    if distance > max(2, USUAL_DISTANCE * n):
        notes.append(f"In doubt: k-space is strongest {distance} samples from center_sample.")
    return found, notes


def _strongest(file: MrdFile, found: list[_Line]) -> int | None:
    """Distance of the sample with most energy in all lines from their centre, ``None`` where none stands out."""
    if not found:
        return None
    reach = max(abs(line.centre) + line.behind for line in found)
    energy = np.zeros(2 * reach + 1)
    for line in found:
        start = reach - line.centre
        energy[start + line.first : start + line.behind] += line.usable(file.profiles[line.number])
    there = energy[energy > 0]
    return int(energy.argmax()) - reach if there.size and energy.max() > CLEAR * np.median(there) else None


def _fits(line: _Line, n: int) -> bool:
    start = n // 2 - line.centre
    return start + line.first >= 0 and start + line.behind <= n


def _weight(file: MrdFile, found: list[_Line], n: int) -> Tensor:
    """(line, sample): 1 where a line has a sample of the encoded grid."""
    weight = np.zeros((len(found), n), np.float32)
    for row, line in zip(weight, found, strict=True):
        if not _fits(line, n):
            raise InputError(
                f"line {line.number} of {file.path.name} does not fit the encoded matrix",
                expected=f"samples within {n}, the centre at {n // 2}",
                received=f"{line.behind - line.first} samples, their centre at {line.centre - line.first}",
                remedy="Check center_sample and the encoded matrix size of the header.",
            )
        start = n // 2 - line.centre
        row[start + line.first : start + line.behind] = 1
    return torch.from_numpy(weight)


def _regridded_weight(found: list[_Line], operators: dict[tuple[bool, int, int], np.ndarray]) -> tuple[Tensor, float]:
    """Weights and the variance of weight 1, see `Readouts`."""
    variance = np.stack([(operators[_kind(line)] ** 2).sum(1) for line in found])
    noise = float(variance.max())
    weight = np.divide(noise, variance, out=np.zeros_like(variance), where=variance > 0)
    return torch.from_numpy(weight).float(), noise
