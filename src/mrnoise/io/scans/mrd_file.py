"""The content of an MRD (ISMRMRD) file: header, line heads, samples, flags, coil labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrnoise.errors import InputError
from mrnoise.files.opening import get, opened_hdf5, reading, text
from mrnoise.files.text import printable
from mrnoise.io.scans.noise_scan import NoiseScan

NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE = 19, 20, 21, 22
# Navigation, phase correction, high-priority feedback, dummy, real-time feedback, surface coil correction,
# phase stabilisation reference and phase stabilisation.
NOT_IMAGING = (23, 24, 26, 27, 28, 29, 30, 31)
DEFAULT_BANDWIDTH = 0.793
SCHEMA = "XML by the ISMRMRD schema, with matrix sizes and fields of view above zero"
WRITE_HEADER = "Write the header with a tool of the ISMRMRD project."
# What is read of the head of a line: kind of number and shape of each field.
COUNTERS = ("kspace_encode_step_1", "kspace_encode_step_2", "repetition", "set", "phase", "contrast", "slice")
WHOLE = ("active_channels", "number_of_samples", "center_sample", "discard_pre", "discard_post", "encoding_space_ref")
PLACE = ("position", "read_dir", "phase_dir", "slice_dir")
HEAD: dict[str, tuple[str, tuple[int, ...]]] = {
    "flags": ("u", ()),
    "channel_mask": ("u", (16,)),
    "sample_time_us": ("f", ()),
    **dict.fromkeys(WHOLE, ("iu", ())),
    **dict.fromkeys(PLACE, ("f", (3,))),
}


@dataclass(frozen=True, eq=False)
class MrdFile:
    """Header, line heads (line,) and the samples of each line (coil, sample)."""

    path: Path
    header: Any
    heads: np.ndarray
    samples: list[np.ndarray]

    def flagged(self, *flags: int) -> np.ndarray:
        """Lines with any of these flags; MRD counts flags from 1."""
        bits = np.uint64(sum(1 << (flag - 1) for flag in flags))
        return np.asarray((self.heads["flags"] & bits) != 0)

    def imaging(self) -> np.ndarray:
        """Lines of the image: no noise, correction or feedback, no lines that only calibrate."""
        return np.asarray(~(self.flagged(NOISE, *NOT_IMAGING) | self.only_calibration()))

    def only_calibration(self) -> np.ndarray:
        """Lines for coil maps that are not part of the image."""
        return np.asarray(self.flagged(CALIBRATION) & ~self.flagged(CALIBRATION_AND_IMAGING))

    def calibration(self) -> np.ndarray:
        """All lines for coil maps, those of the image among them."""
        return np.asarray(self.flagged(CALIBRATION, CALIBRATION_AND_IMAGING) & ~self.flagged(NOISE, *NOT_IMAGING))

    def dwell_us(self, lines: np.ndarray) -> float:
        """Dwell time of these lines in µs, 0 where the file gives none."""
        times = self.heads["sample_time_us"][lines]
        if not np.isfinite(times).all():
            raise InputError(
                f"the dwell time of a line of {self.path.name} is no number",
                expected="microseconds, 0 where it is not known",
                received=f"{times[~np.isfinite(times)][0]:g}",
                remedy="Convert the raw data again.",
            )
        if times.size and np.ptp(times) > 1e-3 * times.max():
            raise InputError(
                f"the lines of {self.path.name} have different dwell times",
                expected="one dwell time, hence one noise covariance",
                received=f"{times.min():g} to {times.max():g} µs",
                remedy="Split the file by dwell time.",
            )
        return float(times[0]) if times.size else 0.0

    def check_places(self, lines: np.ndarray) -> None:
        """Raise if position or direction of a line is no number."""
        for name in PLACE:
            values = self.heads[name][lines]
            if not np.isfinite(values).all():
                raise InputError(
                    f"the {name} of a line of {self.path.name} is no number",
                    expected="millimetres, or a unit vector",
                    received=str(values[~np.isfinite(values).all(1)][0]),
                    remedy="Convert the raw data again.",
                )

    def labels(self, line: int) -> tuple[str, ...]:
        """Coil names in the order of the channels of this line, empty where the header names none.

        Names are sorted by coil number. Where there are more names than channels, the channel mask says
        which coils were active.
        """
        system = self.header.acquisitionSystemInformation
        entries = sorted(system.coilLabel, key=lambda label: label.coilNumber) if system else []
        names = tuple(str(label.coilName) for label in entries)
        n_coils = int(self.heads["active_channels"][line])
        if len(names) == n_coils:
            return names
        words = self.heads["channel_mask"][line]
        active = [64 * w + b for w, word in enumerate(words) for b in range(64) if int(word) >> b & 1]
        if len(active) == n_coils and all(number < len(names) for number in active):
            return tuple(names[number] for number in active)
        return ()

    def noise_scan(self) -> NoiseScan | None:
        """The noise lines, ``None`` where there are none.

        The relative receiver noise bandwidth is 0.793 where the header names a vendor but gives no value,
        and 1 where it names no vendor: simulated noise is white.
        """
        lines = np.flatnonzero(self.flagged(NOISE))
        if not lines.size:
            return None
        same_coils(self, lines)
        system = self.header.acquisitionSystemInformation
        given = system.relativeReceiverNoiseBandwidth if system else None
        if given is not None and not 0 < given <= 1.5:
            raise InputError(
                f"relativeReceiverNoiseBandwidth in {self.path.name} makes no sense",
                expected="a ratio near 1, such as 0.793",
                received=f"{given:g}",
                remedy="Correct the header.",
            )
        vendor = system.systemVendor if system else None
        if given is not None:
            bandwidth, source = float(given), "header"
        elif vendor:
            bandwidth, source = DEFAULT_BANDWIDTH, f"default, {vendor} gives none"
        else:
            bandwidth, source = 1.0, "no vendor named"
        return NoiseScan(
            torch.from_numpy(np.concatenate([self.samples[i] for i in lines], axis=1)),
            f"noise scan of {printable(self.path.name)}",
            self.dwell_us(lines),
            bandwidth,
            source,
            self.labels(int(lines[0])),
        )


def load_mrd(path: Path) -> MrdFile:
    """Read a whole MRD file at once.

    Raises
    ------
    InputError
        If the file is truncated, has no header, or a line holds another number of samples than it says.
    """
    with opened_hdf5(path) as file:
        header, data = text(file, "dataset/xml"), get(file, "dataset/data")
        lines: Any = np.zeros(0) if data is None or data.shape is None else np.asarray(data[()])
    _check_record(lines, path)
    if header is None:
        raise InputError(
            f"{path.name} has no MRD header",
            expected="dataset/xml",
            received="dataset/data only",
            remedy="Write the XML header; matrix size and field of view are needed.",
        )
    heads = lines["head"]
    samples = []
    for i, (head, data) in enumerate(zip(heads, map(np.asarray, lines["data"]), strict=True)):
        shape = (int(head["active_channels"]), int(head["number_of_samples"]))
        if data.size != 2 * shape[0] * shape[1] or data.dtype.kind not in "fiu":
            raise InputError(
                f"line {i} of {path.name} is damaged",
                expected=f"{shape[0]} coils × {shape[1]} complex samples",
                received=f"{data.size} numbers of type {data.dtype}",
                remedy="Convert the raw data again.",
            )
        samples.append(np.ascontiguousarray(data, dtype=np.float32).view(np.complex64).reshape(shape))
    return MrdFile(path, parse_header(header, path), heads, samples)


def parse_header(text: bytes, path: Path) -> Any:
    """ISMRMRD header from its XML, as `ismrmrd.xsd` gives it; what is read of it later are numbers."""
    with reading(path, SCHEMA, WRITE_HEADER, problem=f"the ISMRMRD header of {path.name} cannot be used"):
        # Within, because importing it has Python show all warnings from then on.
        import ismrmrd.xsd

        header = ismrmrd.xsd.CreateFromDocument(text)
    if not header.encoding:
        raise _bad_header(path, "a header without encoding")
    for name in ("encodedSpace", "reconSpace"):
        space = getattr(header.encoding[0], name)
        sizes = [getattr(part, axis) for part in (space.matrixSize, space.fieldOfView_mm) for axis in "xyz"]
        if not all(isinstance(size, int | float) and 0 < size < float("inf") for size in sizes):
            raise _bad_header(path, f"matrix size and field of view of the {name} {sizes}")
    numbers = [
        (f"center of the {name}", limits.center)
        for name in ("kspace_encoding_step_1", "kspace_encoding_step_2")
        if (limits := getattr(header.encoding[0].encodingLimits, name)) is not None
    ]
    if system := header.acquisitionSystemInformation:
        if (bandwidth := system.relativeReceiverNoiseBandwidth) is not None:
            numbers.append(("relativeReceiverNoiseBandwidth", bandwidth))
        numbers += [(f"coilNumber of {label.coilName}", label.coilNumber) for label in system.coilLabel]
    # A value that is none of its type stays text.
    for name, value in numbers:
        if not isinstance(value, int | float) or not abs(value) < 2**31:
            raise _bad_header(path, f"the {name} {value!r}")
    return header


def same_coils(file: MrdFile, lines: np.ndarray) -> int:
    """Number of channels shared by these lines."""
    counts = np.unique(file.heads["active_channels"][lines])
    if len(counts) != 1 or not counts[0]:
        raise InputError(
            f"the lines of {file.path.name} have different numbers of coils, or none",
            expected="the same coils in every line",
            received=f"{counts.tolist()} channels",
            remedy="Split the file by coil configuration.",
        )
    return int(counts[0])


def _check_record(lines: np.ndarray, path: Path) -> None:
    """Raise unless ``lines`` are MRD acquisitions with all that is read of them."""
    names = lines.dtype.names or ()
    if lines.ndim != 1 or not {"head", "data"} <= set(names):
        raise InputError(
            f"dataset/data in {path.name} does not hold MRD acquisitions",
            expected="records with the fields head, traj and data",
            received=f"{lines.dtype}, shape {lines.shape}",
            remedy="Convert the raw data with a tool of the ISMRMRD project.",
        )
    head = lines.dtype["head"]
    counters = head["idx"] if "idx" in (head.names or ()) else np.dtype([])
    fields = [(head, name, *wanted) for name, wanted in HEAD.items()]
    for record, name, kinds, shape in [*fields, *((counters, name, "iu", ()) for name in COUNTERS)]:
        found = record[name] if name in (record.names or ()) else None
        if found is None or found.base.kind not in kinds or found.shape != shape:
            raise InputError(
                f"the lines of {path.name} are not those of MRD",
                expected=f"a field {name} of {'real' if kinds == 'f' else 'whole'} numbers, shape {shape}",
                received="none" if found is None else str(found),
                remedy="Convert the raw data with a tool of the ISMRMRD project.",
            )


def _bad_header(path: Path, received: str) -> InputError:
    return InputError(
        f"the ISMRMRD header of {path.name} cannot be used",
        expected=SCHEMA,
        received=received,
        remedy=WRITE_HEADER,
    )
