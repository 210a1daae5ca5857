"""Lists of any length in a dataset of an HDF5 file, read one by one where they are needed.

HDF5 hands them over all at once, each allocated and copied for itself. A record holds only where its list lies: the
collection of a global heap and the index in it (HDF5 file format specification, IV.A.2.d and III.E).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.heaps import heap_objects
from mrnoise.files.opening import CONVERT_AGAIN, reading

if TYPE_CHECKING:
    import h5py

# As a list is referred to in a file with addresses of 64 bits.
REFERENCE = np.dtype([("count", "<u4"), ("collection", "<u8"), ("index", "<u4")])
# Collections whose objects are remembered: lists that follow each other lie in few.
COLLECTIONS = 64


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of numbers: how many numbers each has, their type, and where they lie.

    Parameters
    ----------
    counts
        (list,): numbers in each.
    dtype
        Type of all of them.
    path
        The file.
    places
        (list,): first byte of each list in the file; or the lists themselves.
    """

    counts: np.ndarray
    dtype: np.dtype
    path: Path
    places: np.ndarray | Sequence[np.ndarray]

    def read(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """These lists, one after the other.

        Raises
        ------
        InputError
            If the file ends before one does.
        """
        if not isinstance(self.places, np.ndarray):
            yield from (self.places[number] for number in numbers.tolist())
            return
        with reading(self.path, "a file that can be read"):
            file = self.path.open("rb", buffering=0)
        with file:
            for number, count, place in zip(
                numbers.tolist(), self.counts[numbers].tolist(), self.places[numbers].tolist(), strict=True
            ):
                values = np.empty(count, self.dtype)
                file.seek(place)
                if file.readinto(values) != values.nbytes:  # type: ignore[arg-type]
                    raise _damaged(self.path, number, "the file ends before it")
                yield values


def fields(data: h5py.Dataset, name: str) -> np.ndarray:
    """A field of the records of a dataset that is no list: without its lists, where they can be told apart.

    HDF5 reads the lists of a record whatever the field, and does not free them where it is another one.
    """
    records = _stored(data)
    return np.asarray((data[()] if records is None else records)[name])


def fields_and_lists(data: h5py.Dataset, name: str, listed: Sequence[str]) -> tuple[np.ndarray, list[Lists]]:
    """A field as `fields`, and the lists in others; of text or plain arrays too, which are no lists of numbers.

    They are read here and held where the records are stored in an unusual way, see `_stored`.

    Raises
    ------
    InputError
        If a list is not where its record says.
    """
    path, records = Path(data.file.filename), _stored(data)
    kinds = {one: _numbers(data.dtype[one]) for one in listed}
    if records is None or None in kinds.values():
        whole = data[()]
        return whole[name], [_held(whole[one], path) for one in listed]
    with path.open("rb", buffering=0) as file:
        find = _Finder(file, data.file.userblock_size, path)
        return records[name], [find.lists(records[one], kind) for one, kind in kinds.items() if kind is not None]


def _held(values: np.ndarray, path: Path) -> Lists:
    held = [np.asarray(one) for one in values]
    kind = held[0].dtype if held else np.dtype(np.float32)
    return Lists(np.array([one.size for one in held], np.int64), kind, path, held)


@dataclass
class _Finder:
    """Finds lists in the heaps of a file, the first byte of which is ``base``."""

    file: FileIO
    base: int
    path: Path
    known: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)

    def lists(self, references: np.ndarray, dtype: np.dtype) -> Lists:
        places = np.zeros(len(references), np.int64)
        for number, (count, collection, index) in enumerate(references.tolist()):
            if not count:
                continue
            if collection not in self.known:
                if len(self.known) == COLLECTIONS:
                    self.known.clear()
                self.known[collection] = heap_objects(self.file, self.base + collection, self.path)[0]
            at, size = self.known[collection].get(index, (0, 0))
            if size < count * dtype.itemsize:
                raise _damaged(self.path, number, f"{size} bytes for {count} numbers of type {dtype}")
            places[number] = at
        return Lists(references["count"].astype(np.int64), dtype, self.path, places)


def _stored(data: h5py.Dataset) -> np.ndarray | None:
    """Records as they lie in the file, lists of numbers as `REFERENCE`.

    ``None`` where they are packed, virtual, in another file or not all written, have fields of other kinds, or the file
    has other addresses than of 64 bits.
    """
    plist, dtype = data.id.get_create_plist(), _stored_dtype(data)
    if dtype is None or plist.get_nfilters() or data.file.id.get_create_plist().get_sizes() != (8, 8):
        return None
    if not data.chunks:
        start = data.id.get_offset()
        found = None if start is None else np.fromfile(data.file.filename, dtype, len(data), offset=start)
        return found if found is not None and len(found) == len(data) else None
    (rows,) = data.chunks
    starts = range(0, len(data), rows)
    if data.id.get_num_chunks() != len(starts):
        return None
    chunks = [data.id.read_direct_chunk((start,))[1] for start in starts]
    if any(len(chunk) != rows * dtype.itemsize for chunk in chunks):
        return None
    return np.frombuffer(b"".join(chunks), dtype)[: len(data)]


def _stored_dtype(data: h5py.Dataset) -> np.dtype | None:
    """Type of the records of `_stored`."""
    import h5py

    stored, names, kinds, offsets = data.id.get_type(), data.dtype.names or (), [], []
    for name in names:
        number = stored.get_member_index(name.encode())
        member, numbers = stored.get_member_type(number), _numbers(data.dtype[name])
        # HDF5 compares sizes, offsets and order of bytes, too.
        plain = isinstance(member, h5py.h5t.TypeVlenID) and member.get_super() == h5py.h5t.py_create(numbers)
        if not (plain if numbers else member == h5py.h5t.py_create(data.dtype[name])):
            return None
        kinds.append(REFERENCE if numbers else data.dtype[name])
        offsets.append(stored.get_member_offset(number))
    return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": stored.get_size()})


def _numbers(dtype: np.dtype) -> np.dtype | None:
    """Type of the numbers of a list."""
    import h5py

    found = h5py.check_vlen_dtype(dtype)
    return found if isinstance(found, np.dtype) else None


def _damaged(path: Path, number: int, received: str) -> InputError:
    return InputError(
        f"line {number} of {path.name} is damaged",
        expected="all of its numbers in the file",
        received=received,
        remedy=CONVERT_AGAIN,
    )
