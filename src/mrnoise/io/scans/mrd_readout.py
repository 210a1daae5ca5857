"""The readout of the lines of an MRD file: direction, centre, oversampling, ramps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.fourier import to_image, to_kspace
from mrnoise.io.scans.mrd_epi import RampSampling, ramp_sampling
from mrnoise.io.scans.mrd_file import REVERSE, MrdFile
from mrnoise.io.scans.mrd_phase_encoding import CLEAR, USUAL_DISTANCE

CHECK_MATRIX = "Check the encoded matrix size of the header."
# A longer readout is oversampled where the edges of its field of view have less than this part of its energy density.
EMPTY = 0.1
MOST_OVERSAMPLING = 8


@dataclass(frozen=True, eq=False)
class Readouts:
    """Lines on the grid of the image.

    Parameters
    ----------
    values
        (line, coil, k0), centre at n // 2, oversampling removed.
    weight
        (line, k0): 0 where nothing was acquired, else 1, or relative to the least of them the inverse variance of what
        was regridded.
    noise
        Variance of a value of weight 1, relative to a sample of the file.
    notes
        What was assumed or corrected.
    """

    values: Tensor
    weight: Tensor
    noise: float
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Line:
    """Usable samples (coil, sample) in the direction of growing k, and where they lie in the whole line.

    ``centre`` is the index of the centre of k-space in the whole line.
    """

    number: int
    samples: np.ndarray
    reverse: bool
    first: int
    centre: int

    @property
    def behind(self) -> int:
        return self.first + self.samples.shape[1]


def readouts(file: MrdFile, lines: np.ndarray) -> Readouts:
    """Put the samples of these lines, of one encoding space, on the grid along k0.

    ``center_sample`` is the index of a stored sample: in a reversed line it is counted from its stored beginning, and
    samples to be discarded are counted too. Zero counts as not given, and is the middle.

    Raises
    ------
    InputError
        If a line does not fit the encoded matrix, or the header leaves no voxel along the readout.
    """
    encoding = file.encoding(lines)
    n, width = encoding.encodedSpace.matrixSize.x, encoding.encodedSpace.fieldOfView_mm.x
    n_coils = int(file.heads["active_channels"][lines[0]])
    check_memory(8 * len(lines) * n_coils * n, f"k-space of {file.path.name}", CHECK_MATRIX)
    found = _directed(file, lines)
    ramps = ramp_sampling(file, lines)
    noise, notes = 1.0, []
    unknown = int((file.heads["center_sample"][lines] == 0).sum())
    if unknown:
        notes.append(f"{unknown} lines have a center_sample of 0: the middle of the line was taken.")
    if ramps is not None:
        values, weight, noise = _regridded(found, ramps)
        notes.append(
            "Samples on the ramps were regridded by least squares with the trapezoid of the header. The variance of "
            "each sample of the grid is accounted for, correlations of neighbours are not: σ holds within 1 % but for "
            "the outermost voxels along the readout."
        )
    else:
        longest = max(line.behind for line in found)
        factor = _oversampling(found, n, longest, encoding.trajectory == "epi")
        if factor > 1:
            notes.append(
                f"Lines have {longest} samples, the encoded matrix {n}: taken as a field of view {factor:g} times as "
                "wide."
            )
            n, width = round(factor * n), factor * width
        found, said = _centred(found, n)
        notes += said
        values, weight = _placed(file, found, n)
    kept = round(n * encoding.reconSpace.fieldOfView_mm.x / width)
    if kept < 1:
        raise InputError(
            f"the header of {file.path.name} leaves no voxel along the readout",
            expected=f"a reconstructed field of view of at least 1/{n} of the encoded one",
            received=f"{encoding.reconSpace.fieldOfView_mm.x:g} of {width:g} mm",
            remedy="Correct the fields of view of the header.",
        )
    if kept < n:
        before = n // 2 - kept // 2
        values = to_kspace(to_image(values, 1)[..., before : before + kept], 1)
        # Sample j of the short readout lies where this sample of the long one does.
        nearest = (n // 2 + (torch.arange(kept) - kept // 2) * n / kept).round().long().clamp(0, n - 1)
        weight = weight[:, nearest]
    return Readouts(values, weight, noise, tuple(notes))


def _directed(file: MrdFile, lines: np.ndarray) -> list[_Line]:
    """The lines, those that are reversed turned round, without the samples to be discarded."""
    reversed_ones = file.flagged(REVERSE)
    found = []
    for number in lines.tolist():
        head, samples, reverse = file.heads[number], file.samples[number], bool(reversed_ones[number])
        first, last = int(head["discard_pre"]), int(head["discard_post"])
        length, centre = samples.shape[1], int(head["center_sample"])
        if reverse:
            samples, first, last = samples[:, ::-1], last, first
            centre = length - 1 - centre if centre else 0
        usable = samples[:, first : max(length - last, first)]
        found.append(_Line(number, usable, reverse, first, centre or length // 2))
    return found


def _oversampling(found: list[_Line], n: int, longest: int, epi: bool) -> float:
    """How many times the field of view of lines that are longer than the matrix is as wide as in the header.

    The lines of an echo-planar image span the matrix of the header, whatever their number of samples. Others are
    oversampled where the edges of the wider image hold next to nothing; else 1.
    """
    if longest <= n:
        return 1.0
    if epi:
        return longest / n
    factor = -(-longest // n)
    strongest = max(found, key=lambda line: float(np.vdot(line.samples, line.samples).real))
    wide = torch.zeros(len(strongest.samples), factor * n, dtype=torch.complex64)
    if factor > MOST_OVERSAMPLING or strongest.samples.shape[1] > factor * n:
        return 1.0
    wide[:, : strongest.samples.shape[1]] = torch.from_numpy(strongest.samples.copy())
    density = to_image(wide, 1).abs().square().sum(0)
    before = (factor * n - n) // 2
    middle = density[before : before + n]
    edges = float(density.sum() - middle.sum()) / (factor * n - n)
    return float(factor) if edges < EMPTY * float(middle.mean()) else 1.0


def _centred(found: list[_Line], n: int) -> tuple[list[_Line], list[str]]:
    """The lines with the centre of those that are reversed checked, and what is to say about it.

    In a line of 128 samples with its centre at 64, turned round, the centre is 63 by the definition of MRD; the
    converters of scanners count 64 there, too. Which it is say the matrix, that has no room for the one or the other,
    or the strongest sample; else it is that of the definition.
    """
    turned = [line for line in found if line.reverse]
    straight = [line for line in found if not line.reverse]
    offset, expected = _strongest(turned), _strongest(straight)
    notes = []
    if turned:
        later = [_Line(line.number, line.samples, True, line.first, line.centre + 1) for line in turned]
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


def _strongest(found: list[_Line]) -> int | None:
    """Distance of the sample with most energy in all lines from their centre, ``None`` where none stands out."""
    if not found:
        return None
    reach = max(abs(line.centre) + line.behind for line in found)
    energy = np.zeros(2 * reach + 1)
    for line in found:
        start = reach + line.first - line.centre
        energy[start : start + line.samples.shape[1]] += (np.abs(line.samples) ** 2).sum(0)
    there = energy[energy > 0]
    return int(energy.argmax()) - reach if there.size and energy.max() > CLEAR * np.median(there) else None


def _fits(line: _Line, n: int) -> bool:
    start = n // 2 - line.centre
    return start + line.first >= 0 and start + line.behind <= n


def _placed(file: MrdFile, found: list[_Line], n: int) -> tuple[Tensor, Tensor]:
    values = np.zeros((len(found), len(found[0].samples), n), np.complex64)
    weight = torch.zeros(len(found), n)
    for row, line in enumerate(found):
        if not _fits(line, n):
            raise InputError(
                f"line {line.number} of {file.path.name} does not fit the encoded matrix",
                expected=f"samples within {n}, the centre at {n // 2}",
                received=f"{line.samples.shape[1]} samples, their centre at {line.centre - line.first}",
                remedy="Check center_sample and the encoded matrix size of the header.",
            )
        start = n // 2 - line.centre
        values[row, :, start + line.first : start + line.behind] = line.samples
        weight[row, start + line.first : start + line.behind] = 1
    return torch.from_numpy(values), weight


def _regridded(found: list[_Line], ramps: RampSampling) -> tuple[Tensor, Tensor, float]:
    """Values, weights and the variance of weight 1, see `Readouts`."""
    values = np.zeros((len(found), len(found[0].samples), ramps.size), np.complex64)
    variance = np.zeros((len(found), ramps.size))
    operators: dict[tuple[bool, int, int], np.ndarray] = {}
    for row, line in enumerate(found):
        kind = (line.reverse, line.first, line.behind)
        if kind not in operators:
            operators[kind] = ramps.operator(*kind)
        values[row] = line.samples @ operators[kind].T
        variance[row] = (operators[kind] ** 2).sum(1)
    noise = float(variance.max())
    weight = np.divide(noise, variance, out=np.zeros_like(variance), where=variance > 0)
    return torch.from_numpy(values), torch.from_numpy(weight).float(), noise
