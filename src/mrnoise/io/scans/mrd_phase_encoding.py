"""Rows of the lines of an MRD file along k1 and k2: header and lines compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_file import STEPS, MrdFile

# The strongest row tells the centre of k-space where it has this many times the energy of a usual one.
CLEAR = 10
# Largest distance of the two, as a part of the matrix, that is not worth a word; at least two rows.
USUAL_DISTANCE = 1 / 16


@dataclass(frozen=True)
class PhaseEncoding:
    """Phase encoding along one axis: number n of rows, the encoding step in row n // 2, first and last encoded row."""

    axis: int
    size: int
    centre: int
    first: int
    last: int
    notes: tuple[str, ...] = ()

    def rows(self, file: MrdFile, lines: np.ndarray) -> np.ndarray:
        """Row of each line, centre at n // 2.

        Raises
        ------
        InputError
            If one lies outside.
        """
        rows = _steps(file, lines, self.axis) - self.centre + self.size // 2
        if rows.min() < 0 or rows.max() >= self.size:
            raise InputError(
                f"phase encodings of {file.path.name} do not fit the encoded matrix",
                expected=f"rows 0 to {self.size - 1} of k{self.axis}, the centre of k-space at {self.size // 2}",
                received=f"rows {rows.min()} to {rows.max()} with the centre of the encoding limits, {self.centre}",
                remedy="Check the encoding limits and the encoded matrix size of the header.",
            )
        return np.asarray(rows)


def phase_encoding(file: MrdFile, lines: np.ndarray, axis: int) -> PhaseEncoding:
    """How these lines of one encoding space are encoded along k1 (axis 1) or k2 (axis 2).

    - The step in the centre of k-space is that of the encoding limits, or the one in ``idx.user[5]`` (k1) and
      ``idx.user[6]`` (k2), where the converter of Siemens writes it, if the strongest row is nearer to it.
    - The matrix is that of the header, or larger where the limits of the header admit more rows than it has.
    - One step along k2 alone is a slice, whatever the matrix says.
    """
    encoding, steps = file.encoding(lines), _steps(file, lines, axis)
    size = getattr(encoding.encodedSpace.matrixSize, "yz"[axis - 1])
    low, high = int(steps.min()), int(steps.max())
    if axis == 2 and low == high:
        ignored = f"The header encodes {size} partitions, the lines one: read as slices." if size > 1 else None
        return PhaseEncoding(axis, 1, low, 0, 0, (ignored,) if ignored else ())
    limit = getattr(encoding.encodingLimits, f"kspace_encoding_step_{axis}")
    least = low if limit is None or limit.minimum is None else limit.minimum
    most = high if limit is None or limit.maximum is None else limit.maximum
    centre, notes = _centre(file, lines, axis, size // 2, (min(low, least), max(high, most)))
    beyond = int(((steps < least) | (steps > most)).sum())
    if beyond:
        notes.append(f"{beyond} lines lie beyond the encoding limits of k{axis}, {least} to {most}; they are used.")
    elif limit is not None and None not in (limit.minimum, limit.maximum) and high - low >= size:
        # Rows are as far apart as the field of view says: there are more of them.
        needed = 2 * max(centre - low, high + 1 - centre)
        notes.append(
            f"Limits and lines have {high - low + 1} rows along k{axis}, the matrix {size}: {needed} are used."
        )
        size = needed
    offset = size // 2 - centre
    first, last = min(low, least) + offset, max(high, most) + offset
    return PhaseEncoding(axis, size, centre, max(first, 0), min(last, size - 1), tuple(notes))


def _centre(file: MrdFile, lines: np.ndarray, axis: int, middle: int, within: tuple[int, int]) -> tuple[int, list[str]]:
    """The encoding step in the centre of k-space, and what is to say about it."""
    limit = getattr(file.encoding(lines).encodingLimits, f"kspace_encoding_step_{axis}")
    stated = None if limit is None else limit.center
    notes: list[str] = []
    if stated is not None and not within[0] <= stated <= within[1]:
        notes.append(f"The centre of k{axis} in the header, {stated}, is no step of it: {middle} was taken.")
        stated = None
    centre = middle if stated is None else stated
    peak = _strongest(file, lines, axis)
    if peak is None:
        return centre, notes
    users = np.unique(file.heads["idx"]["user"][lines, 4 + axis])
    user = int(users[0]) if len(users) == 1 else 0
    if user and within[0] <= user <= within[1] and abs(user - peak) < abs(centre - peak):
        notes = [
            f"The centre of k{axis} was taken from the lines, {user}: k-space is strongest at {peak}, the header says "
            f"{centre if stated is not None else 'nothing'}."
        ]
        centre = user
    if abs(peak - centre) > max(2, USUAL_DISTANCE * 2 * middle):
        notes.append(f"In doubt: k-space is strongest at step {peak} of k{axis}, its centre is said to be {centre}.")
    return centre, notes


def _strongest(file: MrdFile, lines: np.ndarray, axis: int) -> int | None:
    """The step with most energy a line, ``None`` where no step stands out."""
    steps = _steps(file, lines, axis)
    numbers, place = np.unique(steps, return_inverse=True)
    mean = np.bincount(place, file.energy[lines]) / np.bincount(place)
    return int(numbers[mean.argmax()]) if mean.max() > CLEAR * np.median(mean) else None


def _steps(file: MrdFile, lines: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(file.heads["idx"][STEPS[axis - 1]][lines].astype(np.int64))
