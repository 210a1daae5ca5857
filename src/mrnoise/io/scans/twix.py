"""Siemens raw data (twix, .dat): lines and protocol as line heads, samples and header of an MRD file."""

from __future__ import annotations

import contextlib
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mrnoise.checks import check_memory
from mrnoise.errors import InputError, require_extra
from mrnoise.files.opening import CONVERT_AGAIN, reading
from mrnoise.files.text import printable
from mrnoise.io.scans.mrd_file import (
    CALIBRATION,
    CALIBRATION_AND_IMAGING,
    NOISE,
    NOT_IMAGING,
    REVERSE,
    MrdFile,
    empty_heads,
    flagged,
)
from mrnoise.io.scans.mrd_groups import Elsewhere, scan_and_noise
from mrnoise.io.scans.mrd_roles import makes_image, only_calibrates
from mrnoise.io.scans.twix_protocol import Protocol, mrd_header, read_protocol

EXPECTED = "a complete Siemens raw data file (twix, .dat)"
# A file of VD or later starts with two small numbers, the second that of its measurements; one of VB with the length of
# its text.
SHORTEST_TEXT, MOST_MEASUREMENTS = 10_000, 64
# The MRD flag of each bit of EvalInfoMask that says what a line is.
FLAGS = {
    1: 28,  # RTFEEDBACK
    2: 26,  # HPFEEDBACK
    14: 30,  # REFPHASESTABSCAN
    15: 31,  # PHASESTABSCAN
    21: 24,  # PHASCOR
    22: CALIBRATION,  # PATREFSCAN
    23: CALIBRATION_AND_IMAGING,  # PATREFANDIMASCAN
    24: REVERSE,  # REFLECT
    25: NOISE,  # NOISEADJSCAN
    39: 24,  # SLICE_ACCEL_PHASCOR
    51: 27,  # RETRO_DUMMYSCAN
    60: 23,  # has no name: navigators without encoding
}
COUNTERS = {
    "repetition": "Rep",
    "set": "Set",
    "phase": "Phs",
    "contrast": "Eco",
    "slice": "Sli",
    "average": "Ave",
    "segment": "Seg",
}
# Measurements of the scanner for itself; the names of those with noise lines, and their dwell time in µs as
# siemens_to_ismrmrd has it.
ADJUSTMENT = "Adj"
ADJUSTMENT_DWELL_US = {"AdjCoilSens": 5.0, "AdjQuietCoilSens": 4.0}
# Bandwidth in Hz of a pixel of noise lines among those of an image: no header has their dwell time.
PIXEL_BANDWIDTH = 130.0
# The reader makes room for as many entries as an index of the protocol says.
HUGE_INDEX = re.compile(rb"\w\[\d{5,}\]\S*\s*=")
# Heads of lines that are read at a time: an index of each byte is made.
HEADS_AT_ONCE = 10_000


def is_twix(path: Path) -> bool:
    """Whether the name of a text buffer stands where a Siemens raw data file has the first of a measurement."""
    with path.open("rb") as file:
        first, count, offset = struct.unpack("<II8xQ", file.read(24).ljust(24, b"\0"))
        if first >= SHORTEST_TEXT:
            offset = 0
        elif not 0 < count <= MOST_MEASUREMENTS:
            return False
        file.seek(min(offset, path.stat().st_size) + 8)
        return re.match(rb"\w{4,}\0", file.read(48)) is not None


def load_twix(path: Path, group: str | None) -> tuple[MrdFile, Elsewhere]:
    """The scan of a file, and the measurement with its noise lines where that is another one.

    ``group`` is the number of the scan, counted from 1. Measurements of the scanner for itself (``Adj…``) are none
    unless they are asked for.

    Raises
    ------
    InputError
        If turbotwix is not installed, the file is cut or otherwise damaged, there is no such measurement, or several
        are scans and none is named.
    """
    found = _measurements(path)
    flags = {
        name: one.flags[flagged(one.flags, NOISE)] if one.adjustment and name != group else one.flags
        for name, one in found.items()
    }
    chosen, noise = scan_and_noise(flags, group, path, {name: one.title for name, one in found.items()})
    elsewhere = None if noise is None else (found[noise].label, found[noise].as_mrd(noise_only=True))
    notes = [f"Of {len(found)} measurements {found[chosen].label} was read."] if len(found) > 1 else []
    return found[chosen].as_mrd(notes), elsewhere


def load_twix_noise(path: Path) -> MrdFile:
    """The measurement of a file that holds noise lines, the last of several; without any the last one."""
    found = list(_measurements(path).values())
    holding = [one for one in found if flagged(one.flags, NOISE).any()]
    return [*found, *holding][-1].as_mrd(noise_only=True)


@dataclass(frozen=True, eq=False)
class _Measurement:
    """Protocol, the head of each line (``scans``) and where it lies in the bytes of the file (``offsets``)."""

    number: int
    title: str
    protocol: Protocol
    scans: np.ndarray
    offsets: np.ndarray
    content: Any

    @property
    def label(self) -> str:
        return f"measurement {self.number} ({printable(self.title)})"

    @property
    def adjustment(self) -> bool:
        return self.title.startswith(ADJUSTMENT)

    @cached_property
    def flags(self) -> np.ndarray:
        """MRD flags of each line."""
        bits, flags = self.scans["EvalInfoMask"].astype(np.uint64), np.zeros(len(self.scans), np.uint64)
        for bit, flag in FLAGS.items():
            flags |= (bits >> np.uint64(bit) & np.uint64(1)) << np.uint64(flag - 1)
        return flags

    def as_mrd(self, notes: list[str] | None = None, *, noise_only: bool = False) -> MrdFile:
        """As an MRD file; one for its noise only needs no encoding."""
        heads, (times, said) = self._heads(), self._dwell_us()
        heads["sample_time_us"] = times
        image = makes_image(self.flags) & (not noise_only)
        calibration = only_calibrates(self.flags) & ~flagged(self.flags, NOISE, *NOT_IMAGING)
        separate = bool(calibration.any()) and not flagged(self.flags[calibration], REVERSE).any()
        header = mrd_header(self.protocol, heads[image], separate, notes or [])
        if len(header.encoding) > 1:
            heads["encoding_space_ref"][calibration] = 1
        return MrdFile(self.protocol.path, header, heads, self._samples(), said)

    def _heads(self) -> np.ndarray:
        from scipy.spatial.transform import Rotation

        scans, heads = self.scans, empty_heads(len(self.scans))
        heads["flags"], heads["center_sample"] = self.flags, scans["CenterCol"]
        heads["number_of_samples"], heads["active_channels"] = scans["SamplesInScan"], scans["UsedChannels"]
        heads["discard_pre"], heads["discard_post"] = scans["CutOff"]["Pre"], scans["CutOff"]["Post"]
        for name, counter in COUNTERS.items():
            heads["idx"][name] = scans["Counter"][counter]
        for axis, counter in enumerate(("Lin", "Par"), 1):
            # Calibration may start before line 0.
            heads["idx"][f"kspace_encode_step_{axis}"] = scans["Counter"][counter].astype(np.uint16).view(np.int16)
            heads["idx"]["user"][:, 4 + axis] = scans[f"Center{counter}"]
        place = scans["SliceData"]
        heads["position"] = np.stack([place["SlicePos"][name] for name in ("Sag", "Cor", "Tra")], 1)
        # The rotation (w, x, y, z) has the directions of phase encoding, readout and slice as columns.
        turn = place["Quaternion"][:, [1, 2, 3, 0]]
        given = np.isfinite(turn).all(1) & turn.any(1)
        axes = Rotation.from_quat(turn[given]).as_matrix() if given.any() else np.zeros((0, 3, 3))
        for column, name in enumerate(("phase_dir", "read_dir", "slice_dir")):
            heads[name][given] = axes[:, :, column]
        return heads

    def _dwell_us(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Dwell time of each line, and what is to say about that of noise lines.

        The header has that of the image. Noise lines of an adjustment have that of their own header, those among the
        lines of an image another one, which follows from their length: about 130 Hz a pixel.
        """
        stated, noise = self.protocol.dwell_us, flagged(self.flags, NOISE)
        times, said = np.full(len(self.scans), stated), ""
        if not noise.any():
            return times, ()
        usual = ADJUSTMENT_DWELL_US.get(self.title, stated)
        if self.adjustment:
            times[noise] = stated or usual
            if stated != usual:
                said = f"{stated:g} µs by its header, siemens_to_ismrmrd has" if stated else "in no header, taken as"
                said += f" {usual:g} µs"
        elif makes_image(self.flags).any():
            samples = np.maximum(self.scans["SamplesInScan"][noise], 1)
            exact = 1e6 / PIXEL_BANDWIDTH / samples
            times[noise] = exact if self._vb else np.floor(76800 / samples) / 10
            said = f"in no header, {times[noise][0]:g} µs follow from {PIXEL_BANDWIDTH:g} Hz a pixel"
        return times, ((f"the dwell time of the noise lines of {self.label} is {said}",) if said else ())

    @property
    def _vb(self) -> bool:
        """Whether the file is of VB, with the whole head before each channel."""
        return "ChannelId" in (self.scans.dtype.names or ())

    def _samples(self) -> _Samples:
        from turbotwix.dtypes import VB_HEADER, VD_CHANNEL_HEADER

        shapes = np.stack([self.scans["UsedChannels"], self.scans["SamplesInScan"]], 1).astype(np.int64)
        check_memory(8.0 * float(shapes.prod(1).sum()), f"k-space of {self.protocol.path.name}")
        if self._vb:
            head, length, before = VB_HEADER, "SamplesInScan", 0
        else:
            head, length, before = VD_CHANNEL_HEADER, "TypeAndChannelLength", self.scans.dtype.itemsize
        return _Samples(self.protocol.path, self.content, self.offsets + before, shapes, head, length)


@dataclass(frozen=True, eq=False)
class _Samples:
    """Where the samples of each line lie in the bytes of a file.

    Parameters
    ----------
    path, content
        The file and its bytes.
    starts
        (line,): where the first channel begins.
    shapes
        (line, 2): channels and samples.
    head, length
        What lies before the samples of each channel, and which part of it says how many they are.
    """

    path: Path
    content: Any
    starts: np.ndarray
    shapes: np.ndarray
    head: np.dtype
    length: str

    def read(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Real and imaginary parts of these lines, channels in the order of their numbers.

        Raises
        ------
        InputError
            If the channels of a line say that they have different lengths.
        """
        for line in numbers.tolist():
            coils, samples = self.shapes[line].tolist()
            block = np.dtype([("head", self.head), ("samples", "<c8", (samples,))])
            start = int(self.starts[line])
            channels = np.frombuffer(self.content[start : start + coils * block.itemsize], block)
            heads = channels["head"]
            if (heads[self.length] != heads[self.length][:1]).any():
                raise _damaged(self.path, f"line {line} has channels of different lengths")
            yield channels["samples"][np.argsort(heads["ChannelId"], kind="stable")].view(np.float32)


def _measurements(path: Path) -> dict[str, _Measurement]:
    """Those of a file by their numbers.

    Raises
    ------
    InputError
        If one of them is damaged or ends before it should.
    """
    require_extra("twix", "turbotwix")
    from turbotwix.data import build_table, open_twix, read_headers
    from turbotwix.header import parse_protocol

    found = {}
    # A progress bar is drawn where tqdm is installed.
    with reading(path, EXPECTED), contextlib.redirect_stderr(io.StringIO()):
        file = open_twix(str(path))
        for one in file.measurements:
            number, end = one.index + 1, one.offset + one.length
            cut = end > len(file.mm)
            if not cut:
                buffers, text = parse_protocol(file.mm, one.offset)
                if HUGE_INDEX.search(bytes(file.mm[one.offset : one.offset + text])):
                    raise _damaged(path, f"the protocol of measurement {number} has an index of five digits or more")
                rows, _, cut = build_table(file.mm, one.offset + text, end, file.version)
            if cut:
                raise _damaged(path, f"{len(file.mm)} bytes: measurement {number} ends before its last line")
            protocol = read_protocol(buffers, path)
            title = one.protocol_name or str(protocol.tags.get("tProtocolName") or "")
            parts = np.array_split(rows["offset"], len(rows) // HEADS_AT_ONCE + 1)
            scans = np.concatenate([read_headers(file.mm, part, file.version) for part in parts])
            empty = np.flatnonzero((scans["SamplesInScan"] == 0) | (scans["UsedChannels"] == 0))
            if empty.size:
                raise _damaged(path, f"line {empty[0]} of measurement {number} holds no samples")
            found[str(number)] = _Measurement(number, title, protocol, scans, rows["offset"], file.mm)
    return found


def _damaged(path: Path, found: str) -> InputError:
    return InputError(f"cannot read {path.name}", expected=EXPECTED, received=f"{path} ({found})", remedy=CONVERT_AGAIN)
