"""The header of an MRD file, as far as it is read: leniently, since every converter has its own dialect."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mrnoise.errors import InputError
from mrnoise.files.opening import reading

SCHEMA = "XML by the ISMRMRD schema, with matrix sizes and fields of view above zero"
WRITE_HEADER = "Write the header with a tool of the ISMRMRD project."
# Sizes are whole to this; some writers give "64.0".
WHOLE = 1e-3
# A field of view below this along every axis is in metres.
SMALLEST_FOV_MM = 1.0


@dataclass(frozen=True)
class Matrix:
    """Numbers of samples."""

    x: int
    y: int
    z: int


@dataclass(frozen=True)
class FieldOfView:
    """Lengths in mm."""

    x: float
    y: float
    z: float


@dataclass(frozen=True)
class Space:
    """Matrix and field of view of the encoded or the reconstructed image."""

    matrixSize: Matrix
    fieldOfView_mm: FieldOfView


@dataclass(frozen=True)
class Limit:
    """First and last number of a phase-encoding step, and that of the centre of k-space; ``None`` where not given."""

    minimum: int | None
    maximum: int | None
    center: int | None


@dataclass(frozen=True)
class Limits:
    """Those of the two phase-encoding steps, of the counters of images, and of the parts of one."""

    kspace_encoding_step_1: Limit | None = None
    kspace_encoding_step_2: Limit | None = None
    repetition: Limit | None = None
    set: Limit | None = None
    phase: Limit | None = None
    contrast: Limit | None = None
    slice: Limit | None = None
    average: Limit | None = None
    segment: Limit | None = None


@dataclass(frozen=True)
class Encoding:
    """How the lines of one encoding space lie in k-space.

    ``trajectory`` is in small letters, ``trajectoryDescription`` holds its numbers by name, ``identifier`` says what
    they are.
    """

    encodedSpace: Space
    reconSpace: Space
    encodingLimits: Limits
    trajectory: str
    trajectoryDescription: dict[str, float]
    calibrationMode: str
    multiband_factor: int
    identifier: str = ""


@dataclass(frozen=True)
class System:
    """Scanner and coils; ``coilLabel`` holds the names in the order of the document."""

    systemVendor: str | None
    relativeReceiverNoiseBandwidth: float | None
    receiverChannels: int | None
    coilLabel: tuple[str, ...]


@dataclass(frozen=True)
class MrdHeader:
    """What is read of a header, by the names of its schema.

    ``noise_measurement`` is the measurement with the noise scan that it depends on; ``notes`` tell what had to be
    filled or corrected.
    """

    encoding: tuple[Encoding, ...]
    acquisitionSystemInformation: System
    noise_measurement: str | None
    notes: tuple[str, ...]


def parse_header(text: bytes, path: Path) -> MrdHeader:
    """Header from its XML. Unknown elements and those that are not needed are passed over.

    Raises
    ------
    InputError
        If it is no XML, or a number that is needed is missing or makes no sense.
    """
    with reading(path, SCHEMA, WRITE_HEADER, problem=f"the ISMRMRD header of {path.name} cannot be used"):
        root = _tree(text)
    reader = _Reader(path)
    found = tuple(reader.encoding(element) for element in _children(root, "encoding"))
    if not found:
        raise reader.bad("a header without encoding")
    system = reader.system(_child(root, "acquisitionSystemInformation"))
    needed = _children(_child(root, "measurementInformation"), "measurementDependency")
    noise = next((_text(one, "measurementID") for one in needed if _text(one, "dependencyType") == "Noise"), None)
    return MrdHeader(found, system, noise, tuple(dict.fromkeys(reader.notes)))


@dataclass
class _Reader:
    """Reads elements, and collects what there is to say about them."""

    path: Path
    notes: list[str] = field(default_factory=list)

    def bad(self, received: str) -> InputError:
        return InputError(
            f"the ISMRMRD header of {self.path.name} cannot be used",
            expected=SCHEMA,
            received=received,
            remedy=WRITE_HEADER,
        )

    def number(self, parent: Element | None, name: str) -> float | None:
        """A number, ``None`` where there is no such element or it is empty."""
        words = _text(parent, name)
        if not words:
            return None
        try:
            value = float(words)
        except ValueError:
            value = math.nan
        if not abs(value) < 2**31:
            raise self.bad(f"the {name} {words!r}")
        return value

    def whole(self, parent: Element | None, name: str) -> int | None:
        value = self.number(parent, name)
        if value is not None and abs(value - round(value)) > WHOLE:
            raise self.bad(f"the {name} {value:g}, which is not whole")
        return None if value is None else round(value)

    def encoding(self, element: Element) -> Encoding:
        encoded = self.space(element, "encodedSpace")
        if encoded is None:
            raise self.bad("an encoding without encodedSpace")
        recon = self.space(element, "reconSpace")
        if recon is None:
            self.notes.append("The header has no reconSpace: the image is that of the encodedSpace.")
            recon = encoded
        encoded, recon = self.with_depth(encoded, recon)
        limits = _child(element, "encodingLimits")
        parallel = _child(element, "parallelImaging")
        description = _child(element, "trajectoryDescription")
        # Some writers give the name of the member of an enumeration, trajectoryType.CARTESIAN.
        trajectory = (_text(element, "trajectory") or "").rpartition(".")[2].lower()
        return Encoding(
            encoded,
            recon,
            Limits(**{part.name: self.limit(limits, part.name) for part in fields(Limits)}),
            trajectory,
            dict(self.parameters(description)),
            (_text(parallel, "calibrationMode") or "").lower(),
            self.whole(_child(parallel, "multiband"), "multiband_factor") or 1,
            _text(description, "identifier") or "",
        )

    def space(self, element: Element, name: str) -> Space | None:
        space = _child(element, name)
        if space is None:
            return None
        matrix = [self.whole(_child(space, "matrixSize"), axis) for axis in "xyz"]
        lengths = [self.number(_child(space, "fieldOfView_mm"), axis) for axis in "xyz"]
        # 2D writers leave z out, or write 0 for slices without a gap.
        x, y, z = matrix[0], matrix[1], 1 if matrix[2] is None else matrix[2]
        width, height, depth = lengths[0], lengths[1], lengths[2] or 0.0
        sizes = f"matrix size and field of view of the {name} {matrix + lengths}"
        if x is None or y is None or width is None or height is None:
            raise self.bad(sizes)
        if min(x, y, z) < 1 or min(width, height) <= 0 or depth < 0:
            raise self.bad(sizes)
        if max(width, height, depth) < SMALLEST_FOV_MM:
            self.notes.append("Fields of view below 1 mm along every axis were taken as metres.")
            width, height, depth = 1e3 * width, 1e3 * height, 1e3 * depth
        return Space(Matrix(x, y, z), FieldOfView(width, height, depth))

    def with_depth(self, encoded: Space, recon: Space) -> tuple[Space, Space]:
        """Both with a field of view along z, that of the other where one has none."""
        depths = [space.fieldOfView_mm.z for space in (encoded, recon)]
        if min(depths) > 0:
            return encoded, recon
        known = max(depths) or 1.0
        assumed = "" if max(depths) else "1 mm was assumed, "
        self.notes.append(f"The header gives 0 mm as field of view along z: {assumed}{known:g} mm is used.")

        def filled(space: Space) -> Space:
            fov = space.fieldOfView_mm
            return space if fov.z else Space(space.matrixSize, FieldOfView(fov.x, fov.y, known))

        return filled(encoded), filled(recon)

    def limit(self, limits: Element | None, name: str) -> Limit | None:
        element = _child(limits, name)
        if element is None:
            return None
        return Limit(*(self.whole(element, part) for part in ("minimum", "maximum", "center")))

    def parameters(self, description: Element | None) -> Iterator[tuple[str, float]]:
        for kind in ("userParameterLong", "userParameterDouble"):
            for element in _children(description, kind):
                with suppress(InputError):  # who needs one of them says that it is missing
                    value = self.number(element, "value")
                    if value is not None:
                        yield _text(element, "name") or "", value

    def system(self, element: Element | None) -> System:
        names = (_text(label, "coilName") or "" for label in _children(element, "coilLabel"))
        return System(
            _text(element, "systemVendor") or None,
            self.number(element, "relativeReceiverNoiseBandwidth"),
            self.whole(element, "receiverChannels"),
            tuple(names),
        )


def _tree(text: bytes) -> Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError:
        # A name in the encoding of the scanner, without a declaration.
        return ElementTree.fromstring(text.decode("latin-1").encode("utf-8"))


def _children(parent: Element | None, name: str) -> list[Element]:
    """Its elements of this name, with or without a namespace."""
    return [] if parent is None else [child for child in parent if child.tag.rpartition("}")[2] == name]


def _child(parent: Element | None, name: str) -> Element | None:
    return next(iter(_children(parent, name)), None)


def _text(parent: Element | None, name: str) -> str | None:
    element = _child(parent, name)
    return None if element is None else (element.text or "").strip()
