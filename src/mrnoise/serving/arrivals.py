"""Lines as they arrive: which image each belongs to, and which images are complete."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field, replace

import numpy as np

from mrnoise.io.scans.mrd_file import (
    CALIBRATION,
    CALIBRATION_AND_IMAGING,
    NOISE,
    NOT_IMAGING,
    SURFACE_COIL_CORRECTION,
    MrdFile,
)
from mrnoise.io.scans.mrd_geometry import along_normal
from mrnoise.io.scans.mrd_header import Limit, MrdHeader
from mrnoise.io.scans.mrd_roles import IMAGE_COUNTERS
from mrnoise.io.scans.mrd_stream import FLOAT, HEAD, Line, file_of, heads_of

FIRST_IN_SLICE, LAST_IN_SLICE, LAST_IN_MEASUREMENT = 7, 8, 25
# Counters of an image: repetition, set, phase, contrast, slice.
Place = tuple[int, ...]
# Of a head: flags, and counters in the order of MRD.
_FLAGS, _COUNTERS = struct.Struct("<Q"), struct.Struct("<9H")
_NAMES = (HEAD["idx"].names or ())[:9]
assert HEAD.fields is not None
_FLAGS_AT, _COUNTERS_AT = HEAD.fields["flags"][1], HEAD.fields["idx"][1]
_PLACE_OF = [_NAMES.index(name) for name in IMAGE_COUNTERS]
# Counters of the parts of an image.
_PARTS = ("average", "segment")
_PARTS_OF = [_NAMES.index(name) for name in _PARTS]


def _has(flags: int, *wanted: int) -> bool:
    return any(flags >> (flag - 1) & 1 for flag in wanted)


@dataclass(eq=False)
class Arrivals:
    """The lines of a scan in the order of their arrival.

    An image is taken for complete with the line that is flagged as the last of its slice, or, where none is flagged
    as the first, when a line of another image arrives after at least two of it; either way only if all averages and
    segments that the header announces have begun. Where lines of an image come later than that, ``in_order`` is false.

    Parameters
    ----------
    header
        Of the scan; ``None`` until it has come.
    """

    header: MrdHeader | None = None
    lines: list[Line] = field(default_factory=list)
    n_bytes: int = 0
    images: dict[Place, list[int]] = field(default_factory=dict)
    complete: set[Place] = field(default_factory=set)
    in_order: bool = True
    late_noise: bool = False
    _noise: list[int] = field(default_factory=list)
    _calibration: dict[int, list[int]] = field(default_factory=dict)
    _flagged: set[Place] = field(default_factory=set)
    _parts: dict[Place, set[tuple[int, ...]]] = field(default_factory=dict)
    _current: Place | None = None
    _in_a_row: int = 0

    def add(self, line: Line) -> list[Place]:
        """Take a line; the images that are complete with it."""
        number = len(self.lines)
        self.lines.append(line)
        self.n_bytes += line.n_bytes
        (flags,) = _FLAGS.unpack_from(line.head, _FLAGS_AT)
        counters = _COUNTERS.unpack_from(line.head, _COUNTERS_AT)
        place = tuple(counters[i] for i in _PLACE_OF)
        if _has(flags, NOISE):
            self.late_noise = self.late_noise or bool(self.images)
            self._noise.append(number)
            return []
        if _has(flags, *(flag for flag in NOT_IMAGING if flag != SURFACE_COIL_CORRECTION)):
            return []
        if _has(flags, CALIBRATION) and not _has(flags, CALIBRATION_AND_IMAGING):
            self._calibration.setdefault(place[-1], []).append(number)
            self.in_order = self.in_order and not any(done[-1] == place[-1] for done in self.complete)
            return []
        if _has(flags, FIRST_IN_SLICE):
            self._flagged.add(place)
        self._parts.setdefault(place, set()).add(tuple(counters[i] for i in _PARTS_OF))
        return self._of_image(place, number, last=_has(flags, LAST_IN_SLICE, LAST_IN_MEASUREMENT))

    def _of_image(self, place: Place, number: int, *, last: bool) -> list[Place]:
        found: list[Place] = []
        before = self._current
        if place != before:
            unflagged = before is not None and before not in self._flagged and self._in_a_row > 1
            if before is not None and unflagged and before not in self.complete and self._all_parts(before):
                found.append(before)
            self._current, self._in_a_row = place, 0
        self._in_a_row += 1
        if place in self.complete:
            self.in_order = False
        self.images.setdefault(place, []).append(number)
        if last and place not in self.complete and self._all_parts(place):
            found.append(place)
        self.complete.update(found)
        return found

    def _all_parts(self, place: Place) -> bool:
        """Whether lines of all averages and segments that the header announces have come."""
        if self.header is None:
            return True
        limits = self.header.encoding[0].encodingLimits
        return len(self._parts[place]) >= math.prod(_count(getattr(limits, name)) for name in _PARTS)

    def end(self) -> list[Place]:
        """The images that were not complete before the last line of all."""
        found = [place for place in self.images if place not in self.complete]
        self.complete.update(found)
        return found

    def file(self, place: Place | None = None, *, finite: bool = False) -> MrdFile:
        """What reads as an MRD file: all lines, or those of an image with the noise lines so far.

        ``finite`` makes zeros of samples that are no numbers.
        """
        assert self.header is not None
        if place is None:
            return file_of(self.lines, self.header)
        own = [*self._noise, *self._calibration.get(place[-1], []), *self.images[place]]
        lines = [self.lines[number] for number in sorted(own)]
        return file_of([_finite(line) for line in lines] if finite else lines, self.header)

    def head(self, place: Place) -> np.void:
        """Of the first line of an image."""
        return np.void(heads_of([self.lines[self.images[place][0]]])[0])

    @property
    def has_noise(self) -> bool:
        """Whether noise lines came."""
        return bool(self._noise)

    def expected(self) -> tuple[int, ...] | None:
        """How many of each counter of images the header announces; ``None`` where it does not say so."""
        if self.header is None:
            return None
        limits = self.header.encoding[0].encodingLimits
        if limits.slice is None or limits.repetition is None:
            return None
        counts = [_count(getattr(limits, name)) for name in IMAGE_COUNTERS]
        return None if min(counts) < 1 else tuple(counts)

    def index(self, place: Place) -> tuple[int, int] | None:
        """The number that an image will have in the scan, and how many there will be, as far as the header tells.

        Slices are numbered by their position: where it does not grow with their counter, nothing is told.
        """
        counts = self.expected()
        if counts is None or self.header is None or not self._ascending():
            return None
        limits = self.header.encoding[0].encodingLimits
        at = [n - _least(getattr(limits, name)) for name, n in zip(IMAGE_COUNTERS, place, strict=True)]
        if any(not 0 <= n < count for n, count in zip(at, counts, strict=True)):
            return None
        return int(np.ravel_multi_index(at, counts)), int(np.prod(counts))

    def _ascending(self) -> bool:
        firsts = {place[-1]: numbers[0] for place, numbers in self.images.items()}
        slices = sorted(firsts)
        heads = heads_of([self.lines[firsts[number]] for number in slices])
        return bool((np.diff(along_normal(heads)) > 0).all())


def _finite(line: Line) -> Line:
    samples = np.nan_to_num(np.frombuffer(line.samples, FLOAT), nan=0.0, posinf=0.0, neginf=0.0)
    return replace(line, samples=bytearray(samples.tobytes()))


def _count(limit: Limit | None) -> int:
    if limit is None or limit.maximum is None:
        return 1
    return limit.maximum - _least(limit) + 1


def _least(limit: Limit | None) -> int:
    return 0 if limit is None or limit.minimum is None else limit.minimum
