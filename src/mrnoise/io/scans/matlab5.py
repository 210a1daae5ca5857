"""Arrays of numbers in MATLAB files of version 5 to 7.

By the published format (MathWorks, MAT-File Level 5): elements of a tag and data, a matrix being one that holds flags,
dimensions, name, real and imaginary part. Not by scipy, which a damaged file can crash.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mrnoise.checks import check_memory

HEADER, ENDIAN = 128, 126
MATRIX, COMPRESSED = 14, 15
# Types of stored numbers, and classes of arrays.
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
CONTAINERS = {1: "cell array", 2: "struct", 3: "object"}
COMPLEX = 0x0800
# Bytes within which flags, dimensions and name of a matrix lie; most of a number, its tags aside.
HEAD, LARGEST = 4096, 16


@dataclass(frozen=True)
class Matrix:
    """An array of numbers in a file: shape and class, and where its numbers are."""

    shape: tuple[int, ...]
    flags: int
    content: bytes
    packed: bool
    order: str

    def values(self) -> np.ndarray:
        """The numbers, in the order of MATLAB's axes."""
        n = math.prod(self.shape)
        check_memory(3.0 * LARGEST * n, "an array of a MATLAB file")
        content = _unpacked(self.content, LARGEST * n + HEAD) if self.packed else self.content
        stored = list(_elements(content, self.order))[3:]
        parts = [np.frombuffer(part, self.order + TYPES[kind]) for kind, part in stored]
        kind = np.dtype(CLASSES[self.flags & 0xFF])
        if not self.flags & COMPLEX:
            return parts[0].astype(kind).reshape(self.shape, order="F")
        out = np.empty(parts[0].shape, np.result_type(kind, np.complex64))
        out.real, out.imag = parts
        return out.reshape(self.shape, order="F")


def matrices(data: bytes) -> tuple[dict[str, Matrix], dict[str, str]]:
    """The arrays of numbers in the bytes of a file, by name, and the kind of each container of others.

    Raises
    ------
    Exception
        Whatever damaged bytes lead to; call this, and `Matrix.values`, within the door for files of others.
    """
    order = "<" if data[ENDIAN:HEADER] == b"IM" else ">"
    found, containers = {}, {}
    for kind, content in _elements(data[HEADER:], order):
        packed = kind == COMPRESSED
        if packed or kind == MATRIX:
            (_, flags), (_, dimensions), (_, name) = _first(_unpacked(content, HEAD) if packed else content, order)
            number, shape = struct.unpack_from(order + "I", flags)[0], np.frombuffer(dimensions, order + "i4").tolist()
            if number & 0xFF in CLASSES and min(shape) >= 0:
                found[name.decode("latin1")] = Matrix(tuple(shape), number, content, packed, order)
            elif number & 0xFF in CONTAINERS:
                containers[name.decode("latin1")] = CONTAINERS[number & 0xFF]
    return found, containers


def _unpacked(content: bytes, most: int) -> bytes:
    """What a compressed element holds, without its tag: a matrix."""
    return zlib.decompressobj().decompress(content, most)[8:]


def _first(content: bytes, order: str) -> list[tuple[int, bytes]]:
    elements = _elements(content, order)
    return [next(elements) for _ in range(3)]


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and data of one element after the other; short ones lie within their tag."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + size + (0 if kind == COMPRESSED else -size % 8)
        if start + size > len(data):
            raise EOFError("it ends within an element")
        yield kind, data[start : start + size]
        at = end
