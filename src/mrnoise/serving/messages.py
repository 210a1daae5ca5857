"""Messages of the MRD streaming protocol: what is read from a connection, what is written to it.

All numbers are little-endian. A message is its number (uint16) and, by number:

    1     name of a configuration, 1024 bytes, zero-terminated
    2     configuration as text, 3 header as XML, 5 text for people: length (uint32), text in UTF-8, zero-terminated
    4     nothing: all has been sent
    1008  a line: head (340 bytes), coordinates, samples (float32)
    1022  an image: head (198 bytes), length (uint64) and text of its attributes (XML), values
    1026  a waveform: head (40 bytes), values (uint32)

The structures are those of ISMRMRD 1.4.1.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_stream import HEAD, Line, lengths

CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT = 1, 2, 3, 4, 5
ACQUISITION, IMAGE, WAVEFORM = 1008, 1022, 1026
NAMES = {
    CONFIG_FILE: "configuration name",
    CONFIG_TEXT: "configuration",
    HEADER: "header",
    CLOSE: "close",
    TEXT: "text",
    ACQUISITION: "line",
    IMAGE: "image",
    WAVEFORM: "waveform",
}
CONFIG_NAME_BYTES = 1024
NUMBER, LENGTH, LONG_LENGTH = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
# The head of an image in ISMRMRD 1.4.1, 198 bytes without gaps.
IMAGE_HEAD = np.dtype(
    [
        ("version", "<u2"),
        ("data_type", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", (3,)),
        ("field_of_view", "<f4", (3,)),
        ("channels", "<u2"),
        *((name, "<f4", (3,)) for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")),
        *((name, "<u2") for name in ("average", "slice", "contrast", "phase", "repetition", "set")),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("image_type", "<u2"),
        ("image_index", "<u2"),
        ("image_series_index", "<u2"),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
        ("attribute_string_len", "<u4"),
    ]
)
# Kind of number of an image by its data_type.
DATA_TYPES = {
    number: np.dtype(name)
    for number, name in enumerate(("<u2", "<i2", "<u4", "<i4", "<f4", "<f8", "<c8", "<c16"), start=1)
}
INT16, FLOAT32 = 2, 5
MAGNITUDE = 1
WAVEFORM_HEAD_BYTES, WAVEFORM_COUNTS = 40, struct.Struct("<28xHH")
# Of a text or a header, and of a line, an image or a waveform: nothing real is larger.
MOST_TEXT, MOST_DATA = 2**24, 2**28

Meta = Mapping[str, str | float | Sequence[str | float]]


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """An image as it was received: head, attributes with all their values, numbers (channel, z, y, x)."""

    head: np.void
    meta: dict[str, list[str]]
    values: np.ndarray

    def attribute(self, name: str, otherwise: str = "") -> str:
        """The first value of an attribute."""
        return next(iter(self.meta.get(name, [])), otherwise)

    @property
    def rescaled(self) -> np.ndarray:
        """Its numbers in their unit, RescaleSlope and RescaleIntercept applied where there are some."""
        slope, intercept = (float(self.attribute(f"Rescale{part}", "nan")) for part in ("Slope", "Intercept"))
        return self.values if np.isnan(slope) else self.values * slope + (0.0 if np.isnan(intercept) else intercept)


@dataclass(frozen=True, eq=False)
class Message:
    """What was received: its number, and what came with it."""

    number: int
    text: str = ""
    line: Line | None = None
    image: ReceivedImage | None = None


async def read_message(reader: asyncio.StreamReader, most_bytes: int = MOST_DATA) -> Message | None:
    """The next message; ``None`` where the connection has ended.

    Parameters
    ----------
    reader
        Of the connection.
    most_bytes
        That a line may have.

    Raises
    ------
    InputError
        If it is none of the protocol or larger than it may be: what follows cannot be read.
    asyncio.IncompleteReadError
        If the connection ends within a message.
    """
    start = await reader.read(1)
    if not start:
        return None
    (number,) = NUMBER.unpack(start + await reader.readexactly(1))
    if number == CONFIG_FILE:
        return Message(number, _text(await reader.readexactly(CONFIG_NAME_BYTES)))
    if number in (CONFIG_TEXT, HEADER, TEXT):
        (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        _check(size, MOST_TEXT, NAMES[number])
        return Message(number, _text(await reader.readexactly(size)))
    if number == CLOSE:
        return Message(number)
    if number == ACQUISITION:
        head = await reader.readexactly(HEAD.itemsize)
        sizes = lengths(head)
        _check(sum(sizes), min(most_bytes, MOST_DATA), "line")
        both = await reader.readexactly(sum(sizes))
        # Arrays of what may be written to: torch takes no others.
        return Message(number, line=Line(head, bytearray(both[: sizes[0]]), bytearray(both[sizes[0] :])))
    if number == IMAGE:
        return Message(number, image=await _image(reader))
    if number == WAVEFORM:
        channels, samples = WAVEFORM_COUNTS.unpack((await reader.readexactly(WAVEFORM_HEAD_BYTES))[:32])
        _check(4 * channels * samples, MOST_DATA, "waveform")
        await reader.readexactly(4 * channels * samples)
        return Message(number)
    raise InputError(
        "this is no message of the MRD streaming protocol",
        expected=f"a message of number {', '.join(map(str, NAMES))}",
        received=str(number),
        remedy="Send the messages of the protocol one after the other, each with all of its bytes.",
    )


async def _image(reader: asyncio.StreamReader) -> ReceivedImage:
    head = np.frombuffer(await reader.readexactly(IMAGE_HEAD.itemsize), IMAGE_HEAD)[0]
    (size,) = LONG_LENGTH.unpack(await reader.readexactly(LONG_LENGTH.size))
    _check(size, MOST_TEXT, "text of the attributes of an image")
    attributes = _text(await reader.readexactly(size))
    kind = DATA_TYPES.get(int(head["data_type"]))
    if kind is None:
        raise InputError(
            "an image has numbers of no known kind",
            expected=f"a data_type from 1 to {len(DATA_TYPES)}",
            received=str(head["data_type"]),
            remedy="Send the images with a library of the ISMRMRD project.",
        )
    shape = [int(head["channels"]), *(int(n) for n in head["matrix_size"][::-1])]
    n_bytes = kind.itemsize * int(np.prod(shape, dtype=object))
    _check(n_bytes, MOST_DATA, "image")
    values = np.frombuffer(await reader.readexactly(n_bytes), kind).reshape(shape)
    return ReceivedImage(head, parsed_meta(attributes), values)


def _check(size: int, most: int, what: str) -> None:
    if size > most:
        raise InputError(
            f"a {what} is too large",
            expected=f"at most {most} bytes",
            received=f"{size} bytes",
            remedy="Check that each message has all of its bytes, or allow more (--scan-mib).",
        )


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode("utf-8", errors="replace")


def with_text(number: int, text: str) -> bytes:
    r"""A message of text, zero-terminated; the length counts the zero.

    Examples
    --------
    >>> with_text(TEXT, "DBG µ")
    b'\x05\x00\x07\x00\x00\x00DBG \xc2\xb5\x00'
    """
    content = text.replace("\0", " ").encode() + b"\0"
    return NUMBER.pack(number) + LENGTH.pack(len(content)) + content


def with_config_name(name: str) -> bytes:
    """A message with the name of a configuration."""
    return NUMBER.pack(CONFIG_FILE) + name.encode()[: CONFIG_NAME_BYTES - 1].ljust(CONFIG_NAME_BYTES, b"\0")


def with_line(line: Line) -> bytes:
    """A message with a line."""
    return NUMBER.pack(ACQUISITION) + line.head + line.coordinates + line.samples


def with_image(head: np.ndarray, meta: Meta, values: np.ndarray) -> bytes:
    """A message with an image; its head says here of what kind and size it is.

    Parameters
    ----------
    head
        A record of `IMAGE_HEAD`.
    meta
        Name → value or values.
    values
        int16 or float32, (z, y, x).
    """
    attributes = written_meta(meta).encode()
    head = head.copy()
    head["version"], head["channels"], head["matrix_size"] = 1, 1, values.shape[::-1]
    head["data_type"] = next(number for number, kind in DATA_TYPES.items() if kind == values.dtype)
    head["attribute_string_len"] = len(attributes)
    parts = (NUMBER.pack(IMAGE), head.tobytes(), LONG_LENGTH.pack(len(attributes)), attributes, values.tobytes())
    return b"".join(parts)


CLOSING = NUMBER.pack(CLOSE)


def written_meta(meta: Meta) -> str:
    """Attributes as XML.

    Examples
    --------
    >>> written_meta({"unit": "%", "size": [1, 2]})
    '<ismrmrdMeta><meta><name>unit</name><value>%</value></meta><meta><name>size</name><value>1</value><value>2</value></meta></ismrmrdMeta>'
    """
    root = ElementTree.Element("ismrmrdMeta")
    for name, values in meta.items():
        element = ElementTree.SubElement(root, "meta")
        ElementTree.SubElement(element, "name").text = name
        for value in [values] if isinstance(values, str | int | float) else values:
            ElementTree.SubElement(element, "value").text = _printed(value)
    return ElementTree.tostring(root, encoding="unicode")


def _printed(value: str | float) -> str:
    return "".join(c for c in value if c.isprintable()) if isinstance(value, str) else repr(value)


def parsed_meta(text: str) -> dict[str, list[str]]:
    """Attributes from XML; none where it is no XML."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return {}
    found: dict[str, list[str]] = {}
    for element in root.iter("meta"):
        found.setdefault(element.findtext("name", ""), []).extend(value.text or "" for value in element.iter("value"))
    return found
