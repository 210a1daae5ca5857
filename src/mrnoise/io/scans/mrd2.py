"""MRD version 2: a binary stream, rewritten as the HDF5 file of version 1, which `read_mrd` reads."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from mrnoise.checks import check_memory
from mrnoise.errors import InputError, require_extra
from mrnoise.files.opening import reading
from mrnoise.files.text import printable

START = b"yardl"
NAMESPACE = 'xmlns="http://www.ismrm.org/ISMRMRD"'
OTHER_VERSION = (
    "Install the mrd-python that wrote the stream: 2.1 and 2.2 do not read each other's, and 2.2 needs Python 3.12. Or "
    "write an ISMRMRD HDF5 file."
)
SECTIONS = ("acquisition_system_information", "experimental_conditions", "encoding")
# Names of version 1 that do not follow from those of version 2 by leaving out underscores.
NAMES = {
    "field_of_view_mm": "fieldOfView_mm",
    "h1resonance_frequency_hz": "H1resonanceFrequency_Hz",
    "system_field_strength_t": "systemFieldStrength_T",
    "multiband_factor": "multiband_factor",
    "calibration_encoding": "calibration_encoding",
    **{f"kspace_encoding_step_{i}": f"kspace_encoding_step_{i}" for i in range(3)},
    **{f"user_{i}": f"user_{i}" for i in range(8)},
}
COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
WHOLE = ("measurement_uid", "scan_counter", "discard_pre", "discard_post", "center_sample", "encoding_space_ref")
PLACE = ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")
MASK_BITS = 1024


def as_version1(path: Path, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The same scan as an HDF5 file of version 1 in a folder, and what has to be said of what was left out.

    Raises
    ------
    InputError
        If mrd-python is not installed, or not the version that wrote the stream; if the stream is damaged, has no
        header or no lines.
    """
    require_extra("mrd2", "mrd")
    check_memory(3.0 * path.stat().st_size, path.name)
    header, items = _items(path)
    lines = [item.value for item in items if item.tag == "Acquisition"]
    if header is None or not lines:
        raise InputError(
            f"{path.name} holds no raw data",
            expected="an MRD stream with a header and acquisitions",
            received=f"{len(items)} items, {'no' if header is None else 'a'} header",
            remedy="Write the raw data, not images made of them.",
        )
    import h5py
    import ismrmrd.hdf5

    records = np.zeros(len(lines), ismrmrd.hdf5.acquisition_dtype)
    for record, line in zip(records, lines, strict=True):
        _fill(record, line, path)
    new = folder / path.name  # errors name it
    with reading(path, "a header and lines that HDF5 can hold"), h5py.File(new, "w") as file:
        file["dataset/xml"] = "".join((f"<ismrmrdHeader {NAMESPACE}>", *_header(header), "</ismrmrdHeader>"))
        file.create_dataset("dataset/data", data=records, dtype=ismrmrd.hdf5.acquisition_dtype)
    others = len(items) - len(lines)
    return new, (f"left out: {others} images and waveforms of the stream",) if others else ()


def _items(path: Path) -> tuple[Any, list[Any]]:
    import mrd

    expected = "an MRD stream of the version of mrd-python that is installed"
    with (
        reading(path, expected, OTHER_VERSION),
        _no_longer_than(path.stat().st_size),
        path.open("rb") as file,
        mrd.BinaryMrdReader(file) as stream,
    ):
        return stream.read_header(), list(stream.read_data())


@contextmanager
def _no_longer_than(size: int) -> Iterator[None]:
    """Within, mrd-python reads no value of more bytes: it fills the memory of a declared length before it reads."""
    from mrd import _binary

    usual = _binary.CodedInputStream

    class Bounded(_binary.CodedInputStream):  # type: ignore[misc]  # mrd-python is not typed
        def read_view(self, count: int) -> memoryview:
            found: memoryview = super().read_view(_checked(count))
            return found

        def read_bytearray(self, count: int) -> bytearray:
            found: bytearray = super().read_bytearray(_checked(count))
            return found

    def _checked(count: int) -> int:
        if count > size:
            raise EOFError(f"a value of {count} bytes")
        return count

    _binary.CodedInputStream = Bounded
    try:
        yield
    finally:
        _binary.CodedInputStream = usual


def _fill(record: Any, line: Any, path: Path) -> None:
    """An acquisition of version 1 from one of version 2; what is not given is 0 there."""
    head, old = line.head, record["head"]
    n_coils, n_samples = line.data.shape
    numbers = {name: getattr(head, name) or 0 for name in WHOLE}
    counters = {name: getattr(head.idx, name) or 0 for name in COUNTERS}
    numbers |= {"number_of_samples": n_samples, "active_channels": n_coils, "available_channels": n_coils}
    numbers["trajectory_dimensions"] = line.trajectory.shape[0]
    for part, values in ((old, numbers), (old["idx"], counters)):
        for name, value in values.items():
            if value > np.iinfo(part.dtype[name]).max:
                raise InputError(
                    f"a line of {printable(path.name)} has a {name} that ISMRMRD cannot hold",
                    expected=f"at most {np.iinfo(part.dtype[name]).max}",
                    received=str(value),
                    remedy="Split the scan.",
                )
            part[name] = value
    old["version"], old["flags"] = 1, int(head.flags)
    old["sample_time_us"] = head.sample_time_us or 0
    for name in PLACE:
        old[name] = getattr(head, name)
    for channel in head.channel_order:
        if channel < MASK_BITS:
            old["channel_mask"][channel // 64] |= np.uint64(1 << channel % 64)
    record["data"] = np.ascontiguousarray(line.data, np.complex64).view(np.float32).ravel()
    record["traj"] = np.ascontiguousarray(line.trajectory.T, np.float32).ravel()


def _header(header: Any) -> Iterator[str]:
    for name in SECTIONS:
        yield from _xml(name, getattr(header, name))


def _xml(name: str, value: Any) -> Iterator[str]:
    """Elements of version 1: lists repeat them, what is not given is left out."""
    if value is None:
        return
    if isinstance(value, list):
        for part in value:
            yield from _xml(name, part)
        return
    first, *rest = name.split("_")
    tag = NAMES.get(name, first + "".join(word.capitalize() for word in rest))
    yield f"<{tag}>"
    if isinstance(value, enum.Enum):
        yield value.name.lower()
    elif hasattr(value, "__dict__"):
        for inner, part in vars(value).items():
            yield from _xml(inner, part)
    else:
        yield escape(str(value))
    yield f"</{tag}>"
