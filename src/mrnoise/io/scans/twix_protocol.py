"""The protocol of a Siemens measurement as the header of an MRD file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.opening import reading
from mrnoise.io.scans.mrd_header import Encoding, FieldOfView, Limit, Limits, Matrix, MrdHeader, Space, System

TRAJECTORIES = {1: "cartesian", 2: "radial", 4: "spiral", 8: "propeller"}
CALIBRATION_MODES = {2: "embedded", 4: "separate", 8: "separate", 16: "interleaved", 32: "interleaved"}
# Values of sKSpace.ucDimension and of alRegridMode.
VOLUME, TRAPEZOID, SINE = 4, 2, 4
USUAL_OVERSAMPLING = 2.0
RAMPS = {
    "rampUpTime": "alRegridRampupTime",
    "flatTopTime": "alRegridFlattopTime",
    "rampDownTime": "alRegridRampdownTime",
    "acqDelayTime": "alRegridDelaySamplesTime",
}
# Where the coil elements are listed, and the number that puts them in the order of the channels: VD and later, VB.
COILS = (
    (("sCoilSelectMeas", "aRxCoilSelectData", 0, "asList"), "lADCChannelConnected"),
    (("asCoilSelectMeas", 0, "asList"), "lRxChannelConnected"),
)


@dataclass(frozen=True)
class Protocol:
    """Parameters of a measurement: ``tree`` by their places in the protocol, ``tags`` by their names alone."""

    path: Path
    tree: Mapping[Any, Any]
    tags: Mapping[str, Any]

    def number(self, *place: str | int) -> float | None:
        """A number of the protocol; ``None`` where it is absent, as are those with their default."""
        return _number(self.tree.get(place))

    def positive(self, *place: str | int) -> float:
        """A number above zero.

        Raises
        ------
        InputError
            If there is none.
        """
        return self.above_zero(self.number(*place), ".".join(map(str, place)))

    def above_zero(self, value: float | None, name: str) -> float:
        """The value, as `positive`."""
        if value is None or value <= 0:
            raise InputError(
                f"the protocol of {self.path.name} cannot be used",
                expected="matrix sizes, fields of view and oversampling above zero",
                received=f"{name} = {'nothing' if value is None else f'{value:g}'}",
                remedy="Convert it to MRD and correct the header there.",
            )
        return value

    def tag(self, name: str, index: int = 0) -> float | None:
        """A number of the parameters of the reconstruction."""
        value = self.tags.get(name)
        values = value if isinstance(value, list) else [value]
        return _number(values[index]) if index < len(values) else None

    @property
    def dwell_us(self) -> float:
        """Time between samples of an image, with their oversampling; 0 where it is absent."""
        return (self.number("sRXSPEC", "alDwellTime", 0) or 0.0) / 1000


def read_protocol(buffers: Mapping[str, Any], path: Path) -> Protocol:
    """The protocol from the text buffers of a measurement, which are parsed as they are looked up."""
    tags: dict[str, Any] = {}
    with reading(path, "a Siemens protocol"):
        for name in ("Config", "Dicom", "Meas"):
            tags |= buffers.get(name) or {}
        return Protocol(path, buffers.get("MeasYaps") or buffers.get("Phoenix") or {}, tags)


def mrd_header(protocol: Protocol, image: np.ndarray, separate: bool, notes: Sequence[str]) -> MrdHeader:
    """The header of an MRD file.

    Parameters
    ----------
    protocol
        What the measurement says.
    image
        Heads of the lines of the image; without any the header has no encoding.
    separate
        Whether the lines that calibrate an echo-planar image are no echo-planar ones: an encoding space of their own.
    notes
        What there is to say already.

    Raises
    ------
    InputError
        If the protocol lacks a matrix size or field of view, or the gradient of the readout is a sine.
    """
    found = list(notes)
    trajectory = TRAJECTORIES.get(int(protocol.number("sKSpace", "ucTrajectory") or 0), "other")
    if trajectory == "cartesian" and (protocol.number("sFastImaging", "lEPIFactor") or 1) > 1:
        trajectory = "epi"
    kinds = [trajectory, *(["cartesian"] if trajectory == "epi" and separate else [])] if len(image) else []
    encodings = tuple(_encoding(protocol, image, kind, found) for kind in kinds)
    found += _other_dwell_times(protocol)
    vendor, channels = protocol.tags.get("Manufacturer"), protocol.tag("iMaxNoOfRxChannels")
    noise = protocol.tag("ReconMeasDependencies", 2)
    system = System(
        vendor if isinstance(vendor, str) and vendor else "Siemens",
        None,
        int(channels) if channels else None,
        coil_names(protocol),
    )
    return MrdHeader(encodings, system, f"{noise:.0f}" if noise else None, tuple(dict.fromkeys(found)))


def coil_names(protocol: Protocol) -> tuple[str, ...]:
    """Names of the coil elements in the order of the channels; none where one is absent or stands there twice."""
    for place, order in COILS:
        found: dict[float, str] = {}
        index = 0
        while (number := protocol.number(*place, index, order)) is not None:
            parts = [protocol.tree.get((*place, index, "sCoilElementID", key)) for key in ("tCoilID", "tElement")]
            if protocol.number(*place, index, "lElementSelected") != 0:
                found[number] = ":".join(map(str, parts)) if None not in parts else ""
            index += 1
        if found:
            names = tuple(found[number] for number in sorted(found))
            return names if "" not in names and len(set(names)) == len(names) else ()
    return ()


def _encoding(protocol: Protocol, image: np.ndarray, trajectory: str, notes: list[str]) -> Encoding:
    """With the oversampling of the readout in the encoded space; lines on ramps become those of the base resolution."""
    base = round(protocol.positive("sKSpace", "lBaseResolution"))
    lines = round(protocol.positive("sKSpace", "lPhaseEncodingLines"))
    width, height, depth = (
        protocol.positive("sSliceArray", "asSlice", 0, name) for name in ("dReadoutFOV", "dPhaseFOV", "dThickness")
    )
    height *= 1 + (protocol.number("sKSpace", "dPhaseOversamplingForDialog") or 0.0)
    volume, partitions = protocol.number("sKSpace", "ucDimension") == VOLUME, 1
    if volume:
        partitions = round(protocol.positive("sKSpace", "lPartitions"))
        depth *= 1 + (protocol.number("sKSpace", "dSliceOversamplingForDialog") or 0.0)
    ramps = _ramps(protocol) if trajectory == "epi" else {}
    stated = protocol.tag("flReadoutOSFactor") or USUAL_OVERSAMPLING
    factor = 1.0 if ramps else protocol.above_zero(stated, "flReadoutOSFactor")
    centres = image["idx"]["user"]
    return Encoding(
        Space(Matrix(round(base * factor), lines, partitions), FieldOfView(width * factor, height, depth)),
        Space(Matrix(base, lines, partitions), FieldOfView(width, height, depth)),
        Limits(
            _limit(centres[:, 5], protocol.tag("iNoOfFourierLines"), 1, notes),
            _limit(centres[:, 6], protocol.tag("iNoOfFourierPartitions"), 2, notes) if volume else None,
        ),
        trajectory,
        ramps,
        CALIBRATION_MODES.get(int(protocol.number("sPat", "ucRefScanMode") or 0), "other"),
        int(protocol.number("sSliceAcceleration", "lMultiBandFactor") or 1),
    )


def _ramps(protocol: Protocol) -> dict[str, float]:
    """Times in µs of the trapezoid on which lines were sampled; none where they need no regridding."""
    mode = protocol.tag("alRegridMode")
    if mode == SINE:
        raise InputError(
            f"the readout gradient of {protocol.path.name} is a sine",
            expected="a trapezoid, or lines that need no regridding",
            received=f"alRegridMode = {SINE}",
            remedy="Regrid the data first, or build an Acquisition from gridded k-space.",
        )
    return {name: protocol.tag(tag) or 0.0 for name, tag in RAMPS.items()} if mode == TRAPEZOID else {}


def _limit(centres: np.ndarray, count: float | None, axis: int, notes: list[str]) -> Limit:
    """Steps 0 to ``count`` - 1; the centre of k-space is that of most lines, where 0 means that they give none."""
    values, times = np.unique(centres, return_counts=True)
    centre = int(values[times.argmax()])
    if len(values) > 1:
        notes.append(f"The lines give {len(values)} centres of k{axis}: that of most, {centre}, was taken.")
    return Limit(0 if count else None, int(count) - 1 if count else None, centre or None)


def _other_dwell_times(protocol: Protocol) -> list[str]:
    """Says so where later contrasts may have another dwell time: some sequences use it, others that of the first."""
    count = min(int(protocol.number("lContrasts") or 1), 256)
    times = [protocol.number("sRXSPEC", "alDwellTime", i) for i in range(1, count)]
    others = sorted({time / 1000 for time in times if time} - {protocol.dwell_us})
    if not others:
        return []
    listed = ", ".join(f"{time:g}" for time in others)
    return [
        f"In doubt: the dwell time of the first contrast, {protocol.dwell_us:g} µs, was taken for all; the protocol "
        f"has {listed} µs for later ones."
    ]


def _number(value: Any) -> float | None:
    """A finite number, ``None`` for anything else."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < 2**53 else None
