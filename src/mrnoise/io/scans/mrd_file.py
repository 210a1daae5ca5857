"""The content of an MRD (ISMRMRD) file: header, line heads, samples, flags, coil labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from mrnoise.errors import InputError
from mrnoise.io.scans.noise_scan import NoiseScan

NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE = 19, 20, 21, 22
# Navigation, phase correction, high-priority feedback, dummy, real-time feedback, surface coil correction,
# phase stabilisation reference and phase stabilisation.
NOT_IMAGING = (23, 24, 26, 27, 28, 29, 30, 31)
DEFAULT_BANDWIDTH = 0.793


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
        if times.size and np.ptp(times) > 1e-3 * times.max():
            raise InputError(
                f"the lines of {self.path.name} have different dwell times",
                expected="one dwell time, hence one noise covariance",
                received=f"{times.min():g} to {times.max():g} µs",
                remedy="Split the file by dwell time.",
            )
        return float(times[0]) if times.size else 0.0

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
            f"noise scan of {self.path.name}",
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
    try:
        with h5py.File(path, "r") as file:
            group = file["dataset"]
            header = group["xml"][()] if "xml" in group else None
            lines = group["data"][()]
    except (OSError, RuntimeError, TypeError, KeyError) as error:
        raise unreadable(path, error) from error
    if lines.dtype.names is None or not {"head", "data"} <= set(lines.dtype.names):
        raise InputError(
            f"dataset/data in {path.name} does not hold MRD acquisitions",
            expected="records with the fields head, traj and data",
            received=f"{lines.dtype}",
            remedy="Convert the raw data with a tool of the ISMRMRD project.",
        )
    if header is None:
        raise InputError(
            f"{path.name} has no MRD header",
            expected="dataset/xml",
            received="dataset/data only",
            remedy="Write the XML header; matrix size and field of view are needed.",
        )
    heads = lines["head"]
    samples = []
    for i, (head, data) in enumerate(zip(heads, lines["data"], strict=True)):
        shape = (int(head["active_channels"]), int(head["number_of_samples"]))
        if data.size != 2 * shape[0] * shape[1]:
            raise InputError(
                f"line {i} of {path.name} is damaged",
                expected=f"{shape[0]} coils × {shape[1]} complex samples",
                received=f"{data.size} real numbers",
                remedy="Convert the raw data again.",
            )
        samples.append(np.ascontiguousarray(data, dtype=np.float32).view(np.complex64).reshape(shape))
    return MrdFile(path, parse_header(header, path), heads, samples)


def parse_header(text: Any, path: Path) -> Any:
    """ISMRMRD header from its XML, as `ismrmrd.xsd` gives it."""
    import ismrmrd.xsd

    try:
        header = ismrmrd.xsd.CreateFromDocument(np.asarray(text).ravel()[0])
    except (ValueError, TypeError, AttributeError, IndexError) as error:  # all that a bad document raises
        raise _bad_header(path, str(error)) from error
    if not header.encoding:
        raise _bad_header(path, "a header without encoding")
    for name in ("encodedSpace", "reconSpace"):
        space = getattr(header.encoding[0], name)
        sizes = [getattr(part, axis) for part in (space.matrixSize, space.fieldOfView_mm) for axis in "xyz"]
        if not all(isinstance(size, int | float) and 0 < size < float("inf") for size in sizes):
            raise _bad_header(path, f"matrix size and field of view of the {name} {sizes}")
    return header


def same_coils(file: MrdFile, lines: np.ndarray) -> int:
    """Number of channels shared by these lines."""
    counts = np.unique(file.heads["active_channels"][lines])
    if len(counts) != 1:
        raise InputError(
            f"the lines of {file.path.name} have different numbers of coils",
            expected="the same coils in every line",
            received=f"{counts.tolist()} channels",
            remedy="Split the file by coil configuration.",
        )
    return int(counts[0])


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for an HDF5 file that cannot be read to its end."""
    return InputError(
        f"cannot read {path.name}",
        expected="a complete HDF5 file",
        received=f"{path.stat().st_size} bytes, of which HDF5 says: {error}",
        remedy="The file may be truncated: copy or convert it again.",
    )


def _bad_header(path: Path, received: str) -> InputError:
    return InputError(
        f"the ISMRMRD header of {path.name} cannot be used",
        expected="XML by the ISMRMRD schema, with matrix sizes and fields of view above zero",
        received=received,
        remedy="Write the header with a tool of the ISMRMRD project.",
    )
