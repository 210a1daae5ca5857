"""Which lines of an MRD file make the image, which calibrate, and which are left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_file import (
    CALIBRATION,
    CALIBRATION_AND_IMAGING,
    NOISE,
    NOT_IMAGING,
    SURFACE_COIL_CORRECTION,
    MrdFile,
    flagged,
)

# What an image is numbered by.
IMAGE_COUNTERS = ("repetition", "set", "phase", "contrast", "slice")
# What an acquisition calls the axis of each counter.
AXES = {"repetition": "frame", "contrast": "echo"}


@dataclass(frozen=True, eq=False)
class Roles:
    """Numbers of the lines of the image and of those that calibrate, and what there is to say about the others.

    ``calibration`` is empty where no line only calibrates: then the image itself does.
    """

    image: np.ndarray
    calibration: np.ndarray
    notes: tuple[str, ...]


def makes_image(flags: np.ndarray) -> np.ndarray:
    """Lines of an image, by their flags: no noise, correction or feedback, none that only calibrate.

    Where every one of them is flagged as surface coil correction they are the image: the converter of Siemens sets
    this flag from another bit, that of the raw data correction of turbo spin echoes.
    """
    others = [flag for flag in NOT_IMAGING if flag != SURFACE_COIL_CORRECTION]
    candidates = ~(flagged(flags, NOISE, *others) | only_calibrates(flags))
    plain = candidates & ~flagged(flags, SURFACE_COIL_CORRECTION)
    return np.asarray(plain if plain.any() else candidates)


def roles(file: MrdFile) -> Roles:
    """Sort the lines of a file.

    The image is that of the first encoding space with lines of an image, with the channels of ``receiverChannels`` or
    of most lines. Lines that only calibrate belong to it where the header says ``embedded`` and every image has some.

    Raises
    ------
    InputError
        If no line makes an image.
    """
    flags, spaces = file.heads["flags"], file.heads["encoding_space_ref"]
    image = makes_image(flags)
    if not image.any():
        raise InputError(
            f"{file.path.name} holds no image lines",
            expected="imaging lines of an encoding space",
            received=f"{len(file.heads)} lines, none of them imaging",
            remedy="This may be a noise scan: give it as noise=.",
        )
    notes = []
    excluded = [NOISE, *NOT_IMAGING]
    if flagged(flags[image], SURFACE_COIL_CORRECTION).any():
        excluded.remove(SURFACE_COIL_CORRECTION)
        notes.append(
            f"All {int(image.sum())} lines of the image are flagged as surface coil correction (29): read as imaging."
        )
    notes += _left_out(flags, image)
    space = int(spaces[image].min())
    others = image & (spaces != space)
    if others.any():
        notes.append(f"{int(others.sum())} imaging lines of other encoding spaces than {space} were left out.")
    lines = np.flatnonzero(image & ~others)
    chosen = file.with_channels(lines, file.header.acquisitionSystemInformation.receiverChannels)
    n_coils = int(file.heads["active_channels"][chosen[0]])
    if len(chosen) < len(lines):
        notes.append(f"{len(lines) - len(chosen)} lines with another number of channels than {n_coils} were left out.")
    usable, fits = ~flagged(flags, *excluded), file.heads["active_channels"] == n_coils
    only = only_calibrates(flags) & usable
    if foreign := int((only & ~fits).sum()):
        notes.append(f"{foreign} calibration lines with another number of channels than {n_coils} were left out.")
    usable, only = usable & fits, only & fits
    if only.any() and file.encoding(chosen).calibrationMode == "embedded":
        embedded = np.flatnonzero(only & (spaces == space))
        if _images(file, embedded) == _images(file, chosen):
            notes.append(f"{len(embedded)} calibration lines are part of the image: the header says embedded.")
            chosen, only = np.union1d(chosen, embedded), only & (spaces != space)
    calibration = np.zeros(0, np.int64)
    if only.any():
        both = flagged(flags, CALIBRATION_AND_IMAGING) & usable
        calibration = np.flatnonzero((only | both) & (spaces == spaces[only].min()))
    return Roles(chosen, calibration, tuple(notes))


def _left_out(flags: np.ndarray, image: np.ndarray) -> list[str]:
    """A sentence with the number of lines of each kind that is no part of an image."""
    rest = ~(image | flagged(flags, NOISE))
    counts = []
    for flag, name in NOT_IMAGING.items():
        found = rest & flagged(flags, flag)
        rest = rest & ~found
        if found.any():
            counts.append(f"{int(found.sum())} of {name}")
    return [f"Lines that are no part of the image were left out: {', '.join(counts)}."] if counts else []


def only_calibrates(flags: np.ndarray) -> np.ndarray:
    """Lines that calibrate and are no part of an image."""
    return np.asarray(flagged(flags, CALIBRATION) & ~flagged(flags, CALIBRATION_AND_IMAGING))


def _images(file: MrdFile, lines: np.ndarray) -> set[tuple[int, ...]]:
    idx = file.heads["idx"][lines]
    return set(zip(*(idx[name].tolist() for name in IMAGE_COUNTERS), strict=True))
