"""Global heaps of HDF5 files: where text and lists of any length lie (HDF5 file format specification, III.E)."""

from __future__ import annotations

import os
import struct
from io import FileIO
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.files.opening import CONVERT_AGAIN

# Signature and version of a collection; its size follows.
COLLECTION = b"GCOL\1\0\0\0"
# Index and size of an object, behind them references and padding.
OBJECT = struct.Struct("<H6xQ")
# Bytes that are read at a time: behind a collection, where another one often follows, and at most.
BLOCK, LARGEST_BLOCK = 2**12, 2**20


def check_heaps(path: Path) -> None:
    """Raise `InputError` where the objects of a heap do not fill it.

    Text and lists of any length lie in global heaps. Where blocks of a file were never written, as after an interrupted
    transfer, a heap goes on with zeros; what is erased is all ones. What lies in a whole collection is not searched for
    others.
    """
    if not os.path.isfile(path):
        return
    with path.open("rb", buffering=0) as file:
        at, size = 0, BLOCK
        while block := _at(file, at, size):
            found = block.find(COLLECTION)
            if found >= 0:
                _, end = heap_objects(file, at + found, path)
                at, size = end or at + found + len(COLLECTION), BLOCK
            else:
                at, size = at + max(len(block) - len(COLLECTION) + 1, 1), min(2 * size, LARGEST_BLOCK)


def heap_objects(file: FileIO, start: int, path: Path) -> tuple[dict[int, tuple[int, int]], int]:
    """First byte and size of each object in the collection at this byte, by index, and the end of the collection.

    No objects where there is no collection, or one that goes beyond the file. The end is 0 where the objects do not
    end with the collection.

    Raises
    ------
    InputError
        If an object has no size, or one at which HDF5 runs in circles.
    """
    block = _at(file, start, BLOCK)
    size = int.from_bytes(block[8:16], "little")
    found: dict[int, tuple[int, int]] = {}
    if not block.startswith(COLLECTION) or start + size > os.fstat(file.fileno()).st_size:
        return found, 0
    at, end = start + 16, start + size
    while at + OBJECT.size <= end:
        head = block[at - start :][: OBJECT.size]
        index, length = OBJECT.unpack(head if len(head) == OBJECT.size else _at(file, at, OBJECT.size))
        if (not index and not length) or length >= 2**63:
            raise InputError(
                f"cannot read {path.name}",
                expected="a complete HDF5 file",
                received=f"{path} ({path.stat().st_size} bytes: a heap with an object of {length} bytes at byte {at})",
                remedy=CONVERT_AGAIN,
            )
        if index:
            found[index] = at + OBJECT.size, length
        # Free space, index 0, counts its own head.
        at += OBJECT.size + (length + 7) // 8 * 8 if index else length
    return found, end if at <= end else 0


def _at(file: FileIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
