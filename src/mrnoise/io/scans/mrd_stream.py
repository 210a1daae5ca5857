"""Lines of MRD as they come over a network or lie in a file, byte for byte, and the `MrdFile` that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.lists import Lists, fields_and_lists
from mrnoise.files.opening import check_is_file, get, opened_hdf5, text
from mrnoise.io.scans.mrd_file import COUNTERS, NOISE, MrdFile, checked_acquisitions, flagged
from mrnoise.io.scans.mrd_groups import scan_group_names
from mrnoise.io.scans.mrd_header import MrdHeader

# The head of a line in ISMRMRD 1.4.1, 340 bytes without gaps.
HEAD = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("number_of_samples", "<u2"),
        ("available_channels", "<u2"),
        ("active_channels", "<u2"),
        ("channel_mask", "<u8", (16,)),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        *((name, "<f4", (3,)) for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")),
        (
            "idx",
            [
                *((name, "<u2") for name in (*COUNTERS[:2], "average", "slice", "contrast", "phase", "repetition")),
                ("set", "<u2"),
                ("segment", "<u2"),
                ("user", "<u2", (8,)),
            ],
        ),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
    ]
)
FLOAT = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class Line:
    """One line as it is sent: head, coordinates (sample, dimension) and samples (coil, sample), in bytes."""

    head: bytes
    coordinates: bytes | bytearray
    samples: bytes | bytearray

    @property
    def n_bytes(self) -> int:
        """Of all three."""
        return len(self.head) + len(self.coordinates) + len(self.samples)


def lengths(head: bytes) -> tuple[int, int]:
    """Bytes of the coordinates and of the samples that follow a head.

    Examples
    --------
    >>> head = np.zeros(1, HEAD)
    >>> head["number_of_samples"], head["active_channels"], head["trajectory_dimensions"] = 10, 4, 2
    >>> lengths(head.tobytes())
    (80, 320)
    """
    found = np.frombuffer(head, HEAD)[0]
    n = int(found["number_of_samples"])
    return 4 * n * int(found["trajectory_dimensions"]), 8 * n * int(found["active_channels"])


def heads_of(lines: Sequence[Line]) -> np.ndarray:
    """Heads (line,)."""
    return np.frombuffer(b"".join(line.head for line in lines), HEAD)


def file_of(lines: Sequence[Line], header: MrdHeader, name: str = "the stream") -> MrdFile:
    """What reads as an MRD file, from its lines."""
    heads, path = heads_of(lines), Path(name)

    def lists(parts: Sequence[bytes | bytearray]) -> Lists:
        values = [np.frombuffer(part, FLOAT) for part in parts]
        return Lists(np.array([one.size for one in values], np.int64), FLOAT, path, values)

    numbers, coordinates = lists([line.samples for line in lines]), lists([line.coordinates for line in lines])
    return MrdFile(path, header, heads, numbers, coordinates=coordinates)


def stored_lines(path: Path, group: str | None = None) -> tuple[bytes, Iterator[Line]]:
    """XML header and lines of the scan of an MRD file; noise lines of another group of it come first.

    Raises
    ------
    InputError
        If there is no such file, it is no MRD file with a header, or holds several scans and none is named.
    """
    check_is_file(path, "MRD (ISMRMRD HDF5)")
    chosen, noise = scan_group_names(path, group)
    with opened_hdf5(path) as file:
        header = text(file, f"{chosen}/xml")
    if header is None:
        raise InputError(
            f"{path.name} has no MRD header",
            expected=f"{chosen}/xml",
            received=f"{chosen}/data only",
            remedy="Write the XML header; matrix size and field of view are needed.",
        )
    groups = [chosen] if noise is None else [noise, chosen]
    return header, (line for name in groups for line in _lines(path, name, noise_only=name != chosen))


def _lines(path: Path, group: str, *, noise_only: bool) -> Iterator[Line]:
    with opened_hdf5(path) as file:
        data = checked_acquisitions(get(file, f"{group}/data"), path)
        found, (coordinates, samples) = fields_and_lists(data, "head", ["traj", "data"])
    heads = np.zeros(len(found), HEAD)
    for name in HEAD.names or ():
        if name == "idx":
            for counter in HEAD["idx"].names or ():
                heads["idx"][counter] = found["idx"][counter]
        elif name in (found.dtype.names or ()):
            heads[name] = found[name]
    numbers = np.flatnonzero(flagged(heads["flags"], NOISE)) if noise_only else np.arange(len(heads))
    for number, first, values in zip(numbers.tolist(), coordinates.read(numbers), samples.read(numbers), strict=True):
        parts = (np.ascontiguousarray(part, FLOAT).tobytes() for part in (first, values))
        line = Line(heads[number].tobytes(), *parts)
        if lengths(line.head) != (len(line.coordinates), len(line.samples)):
            raise InputError(
                f"line {number} of {path.name} is damaged",
                expected="as many samples and coordinates as its head says",
                received=f"{len(line.samples) // 8} samples, {len(line.coordinates) // 4} coordinates",
                remedy="Convert the raw data again.",
            )
        yield line
