"""The content of an MRD (ISMRMRD) file: header, line heads, samples, flags, coil labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from mrnoise.errors import InputError
from mrnoise.files.lists import fields_and_lists
from mrnoise.files.opening import get, opened_hdf5, text
from mrnoise.files.text import printable
from mrnoise.io.scans.mrd_header import Encoding, MrdHeader, parse_header
from mrnoise.io.scans.noise_lines import clean_samples, copied, no_noise
from mrnoise.io.scans.noise_scan import NoiseScan

if TYPE_CHECKING:
    import h5py

NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE = 19, 20, 21, 22
SURFACE_COIL_CORRECTION = 29
# Lines that are no part of an image, by flag.
NOT_IMAGING = {
    23: "navigation",
    24: "phase correction",
    26: "high-priority feedback",
    27: "dummy scans",
    28: "real-time feedback",
    SURFACE_COIL_CORRECTION: "surface coil correction",
    30: "phase stabilisation reference",
    31: "phase stabilisation",
}
DEFAULT_BANDWIDTH = 0.793
# What is read of the head of a line: kind of number and shape of each field.
STEPS = ("kspace_encode_step_1", "kspace_encode_step_2")
COUNTERS = (*STEPS, "repetition", "set", "phase", "contrast", "slice", "average", "segment")
WHOLE = ("active_channels", "number_of_samples", "center_sample", "discard_pre", "discard_post", "encoding_space_ref")
TRAJECTORY, DIMENSIONS = "traj", "trajectory_dimensions"
PLACE = ("position", "read_dir", "phase_dir", "slice_dir")
HEAD: dict[str, tuple[str, tuple[int, ...]]] = {
    "flags": ("u", ()),
    "channel_mask": ("u", (16,)),
    "sample_time_us": ("f", ()),
    **dict.fromkeys(WHOLE, ("iu", ())),
    **dict.fromkeys(PLACE, ("f", (3,))),
}


class Numbers(Protocol):
    """What holds the numbers of each line, real and imaginary parts in turn, one channel after the other."""

    def read(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Those of these lines."""


@dataclass(frozen=True, eq=False)
class MrdFile:
    """Header, line heads (line,), numbers and coordinates of each line, of an MRD file or what reads as one.

    Samples are read when they are asked for.
    """

    path: Path
    header: MrdHeader
    heads: np.ndarray
    numbers: Numbers
    noise_notes: tuple[str, ...] = ()
    coordinates: Numbers | None = None

    def samples(self, lines: np.ndarray) -> Iterator[np.ndarray]:
        """Samples (coil, sample) of these lines, one line after the other."""
        shapes = (self.heads[name][lines].tolist() for name in ("active_channels", "number_of_samples"))
        for *shape, values in zip(*shapes, self.numbers.read(lines), strict=True):
            yield np.ascontiguousarray(values, np.float32).view(np.complex64).reshape(shape)

    def n_coordinates(self, lines: np.ndarray) -> np.ndarray:
        """Coordinates that each sample of these lines has; 0: the line has no trajectory."""
        if self.coordinates is None:
            return np.zeros(len(lines), np.int64)
        return np.asarray(self.heads[DIMENSIONS][lines].astype(np.int64))

    def trajectory(self, lines: np.ndarray) -> Iterator[np.ndarray]:
        """Coordinates (sample, dimension) of these lines as the file has them, one line after the other.

        Raises
        ------
        InputError
            If a line has not as many as its head says.
        """
        assert self.coordinates is not None
        shapes = zip(self.heads["number_of_samples"][lines].tolist(), self.n_coordinates(lines).tolist(), strict=True)
        for number, shape, values in zip(lines.tolist(), shapes, self.coordinates.read(lines), strict=True):
            if values.dtype.kind not in "fiu" or values.size != shape[0] * shape[1]:
                raise InputError(
                    f"the trajectory of line {number} of {self.path.name} is damaged",
                    expected=f"{shape[1]} coordinates of each of {shape[0]} samples",
                    received=f"{values.size} numbers of type {values.dtype}",
                    remedy="Convert the raw data again.",
                )
            yield values.reshape(shape)

    @cached_property
    def profiles(self) -> list[np.ndarray]:
        """Σ |sample|² over the coils at each sample of each line."""
        return [
            np.square(np.abs(samples), dtype=np.float64).sum(0) for samples in self.samples(np.arange(len(self.heads)))
        ]

    @cached_property
    def energy(self) -> np.ndarray:
        """Σ |sample|² of each line over all coils and samples."""
        return np.array([profile.sum() for profile in self.profiles])

    def encoding(self, lines: np.ndarray) -> Encoding:
        """The encoding space of these lines, which is one; that of the header where it has only one."""
        encodings = self.header.encoding
        return encodings[min(int(self.heads["encoding_space_ref"][lines[0]]), len(encodings) - 1)]

    def flagged(self, *flags: int) -> np.ndarray:
        """Lines with any of these flags."""
        return flagged(self.heads["flags"], *flags)

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

    def check_samples(self, lines: np.ndarray) -> None:
        """Raise if a line has no samples but those that it discards."""
        length, first, last = (
            self.heads[name][lines].astype(int) for name in ("number_of_samples", "discard_pre", "discard_post")
        )
        for i in np.flatnonzero(first + last >= length)[:1]:
            raise InputError(
                f"line {lines[i]} of {self.path.name} has no samples",
                expected="at least one that is not to be discarded",
                received=f"{length[i]} samples, {first[i]} to be discarded before and {last[i]} after",
                remedy="Convert the raw data again.",
            )

    def labels(self, line: int) -> tuple[str, ...]:
        """Coil names in the order of the channels of this line, empty where the header names none.

        Names are in the order of the document, which is that of the channels: coilNumber is no index (the
        stylesheet of Siemens fills it from a list in another order). Where there are more names than channels, the
        channel mask says which coils were active.
        """
        names = self.header.acquisitionSystemInformation.coilLabel
        n_coils = int(self.heads["active_channels"][line])
        if len(names) == n_coils:
            return names
        words = self.heads["channel_mask"][line]
        active = [64 * w + b for w, word in enumerate(words) for b in range(64) if int(word) >> b & 1]
        if len(active) == n_coils and all(number < len(names) for number in active):
            return tuple(names[number] for number in active)
        return ()

    def noise_scans(self, *, unflagged: bool = False) -> tuple[NoiseScan, ...]:
        """The noise lines, one scan for each number of channels and dwell time; none where there are no such lines.

        Samples that a line discards are left out. The relative receiver noise bandwidth is 0.793 where the header names
        a vendor but gives no value, and 1 where it names no vendor: simulated noise is white.

        Parameters
        ----------
        unflagged
            Where no line is flagged as noise, take those of the image: they were acquired without excitation.
        """
        flagged = self.flagged(NOISE)
        lines, notes = np.flatnonzero(flagged), self.noise_notes
        if not lines.size and unflagged:
            lines = np.flatnonzero(~self.flagged(*NOT_IMAGING))
            notes = (f"no line of {printable(self.path.name)} is flagged as noise: its {lines.size} lines were taken",)
        if not lines.size:
            return ()
        self.check_samples(lines)
        bandwidth, bandwidth_source = self._noise_bandwidth()
        source, scans = f"noise scan of {printable(self.path.name)}", []
        keys = np.stack([self.heads["active_channels"][lines], self.heads["sample_time_us"][lines]], 1)
        for key in np.unique(keys, axis=0):
            group = lines[(keys == key).all(1) | np.isnan(keys).any(1)]
            dwell, whole = self.dwell_us(group), list(self._tensors(group))
            kept = [self._kept(line, samples) for line, samples in zip(group, whole, strict=True)]
            image = self._of_equal_energy(np.flatnonzero(~flagged), group) if flagged.any() else group[:0]
            fault = copied(whole, self._tensors(image)) or no_noise(kept)
            samples, left_out = clean_samples(kept, source)
            labels = self.labels(int(group[0]))
            scans.append(
                NoiseScan(samples, source, dwell, bandwidth, bandwidth_source, labels, notes + left_out, fault)
            )
        return tuple(scans)

    def _tensors(self, lines: np.ndarray) -> Iterator[torch.Tensor]:
        return map(torch.from_numpy, self.samples(lines))

    def _of_equal_energy(self, lines: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Those of the lines that have the energy of one of the others: no other line can be equal to one."""
        known, energy = np.unique(self.energy[others]), self.energy[lines]
        nearest = np.searchsorted(known, energy)
        below, above = (known[np.clip(i, 0, len(known) - 1)] for i in (nearest - 1, nearest))
        return np.asarray(lines[np.isclose(energy, below, atol=0) | np.isclose(energy, above, atol=0)])

    def _kept(self, line: int, samples: torch.Tensor) -> torch.Tensor:
        """Samples of a line without those that it discards."""
        first, last = int(self.heads["discard_pre"][line]), int(self.heads["discard_post"][line])
        return samples[:, first : samples.shape[1] - last]

    def _noise_bandwidth(self) -> tuple[float, str]:
        """Relative receiver noise bandwidth of the header, and where it is from."""
        system = self.header.acquisitionSystemInformation
        given = system.relativeReceiverNoiseBandwidth
        if given is not None and not 0 < given <= 1.5:
            raise InputError(
                f"relativeReceiverNoiseBandwidth in {self.path.name} makes no sense",
                expected="a ratio near 1, such as 0.793",
                received=f"{given:g}",
                remedy="Correct the header.",
            )
        vendor = system.systemVendor
        if given is not None:
            return float(given), "header"
        return (DEFAULT_BANDWIDTH, f"default, {vendor} gives none") if vendor else (1.0, "no vendor named")

    def with_channels(self, lines: np.ndarray, n_coils: int | None) -> np.ndarray:
        """Those of the lines with this number of channels; where there are none, with the most common one."""
        channels = self.heads["active_channels"][lines]
        numbers, times = np.unique(channels, return_counts=True)
        if n_coils not in numbers:
            n_coils = int(numbers[::-1][np.argmax(times[::-1])])
        if not n_coils:
            raise InputError(
                f"the lines of {self.path.name} hold no channel",
                expected="samples of at least one coil",
                received="0 channels",
                remedy="Convert the raw data again.",
            )
        return np.asarray(lines[channels == n_coils])


def empty_heads(n_lines: int) -> np.ndarray:
    """Line heads of zeros with all that is read of them."""
    numbers = {"u": np.uint64, "f": np.float64, "iu": np.int64}
    counters = [*((name, np.int64) for name in COUNTERS), ("user", np.int64, (8,))]
    fields = [(name, numbers[kinds], shape) for name, (kinds, shape) in HEAD.items()]
    return np.zeros(n_lines, [*fields, ("idx", counters)])


def flagged(bits: np.ndarray, *flags: int) -> np.ndarray:
    """Where any of these flags is set; MRD counts flags from 1."""
    return np.asarray((bits & np.uint64(sum(1 << (flag - 1) for flag in flags))) != 0)


def load_mrd(path: Path, group: str) -> MrdFile:
    """Read a scan of an MRD file: the header of the group and the heads of its lines.

    Raises
    ------
    InputError
        If the file is truncated, has no header, or a line holds another number of samples than it says.
    """
    with opened_hdf5(path) as file:
        header, data = text(file, f"{group}/xml"), checked_acquisitions(get(file, f"{group}/data"), path)
        own = [TRAJECTORY] if _has_trajectory(data.dtype) else []
        heads, (numbers, *coordinates) = fields_and_lists(data, "head", ["data", *own])
    if header is None:
        raise InputError(
            f"{path.name} has no MRD header",
            expected=f"{group}/xml",
            received=f"{group}/data only",
            remedy="Write the XML header; matrix size and field of view are needed.",
        )
    shapes = np.stack([heads["active_channels"], heads["number_of_samples"]], 1).astype(np.int64)
    wrong = np.flatnonzero((numbers.counts != 2 * shapes.prod(1)) | (numbers.dtype.kind not in "fiu"))
    if wrong.size:
        line = wrong[0]
        raise InputError(
            f"line {line} of {path.name} is damaged",
            expected=f"{shapes[line, 0]} coils × {shapes[line, 1]} complex samples",
            received=f"{numbers.counts[line]} numbers of type {numbers.dtype}",
            remedy="Convert the raw data again.",
        )
    return MrdFile(path, parse_header(header, path), heads, numbers, coordinates=next(iter(coordinates), None))


def _has_trajectory(record: np.dtype) -> bool:
    """Whether lines may have coordinates: some writers leave no place for them."""
    head = record["head"]
    if TRAJECTORY not in (record.names or ()) or DIMENSIONS not in (head.names or ()):
        return False
    return head[DIMENSIONS].kind in "iu" and head[DIMENSIONS].shape == ()


def checked_acquisitions(data: h5py.Dataset | None, path: Path) -> h5py.Dataset:
    """A dataset, if it holds MRD acquisitions with all that is read of them."""
    if data is None or data.ndim != 1 or not {"head", "data"} <= set(data.dtype.names or ()):
        raise InputError(
            f"dataset/data in {path.name} does not hold MRD acquisitions",
            expected="records with the fields head, traj and data",
            received="no dataset" if data is None else f"{data.dtype}, shape {data.shape}",
            remedy="Convert the raw data with a tool of the ISMRMRD project.",
        )
    head = data.dtype["head"]
    counters = head["idx"] if "idx" in (head.names or ()) else np.dtype([])
    fields = [(head, name, *wanted) for name, wanted in HEAD.items()]
    numbers = [(counters, name, "iu", ()) for name in COUNTERS]
    for record, name, kinds, shape in [*fields, *numbers, (counters, "user", "iu", (8,))]:
        found = record[name] if name in (record.names or ()) else None
        if found is None or found.base.kind not in kinds or found.shape != shape:
            raise InputError(
                f"the lines of {path.name} are not those of MRD",
                expected=f"a field {name} of {'real' if kinds == 'f' else 'whole'} numbers, shape {shape}",
                received="none" if found is None else str(found),
                remedy="Convert the raw data with a tool of the ISMRMRD project.",
            )
    return data
