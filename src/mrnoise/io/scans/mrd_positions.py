"""Where the samples of MRD lines lie: by their own coordinates, by the header, or by a trajectory given beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io.scans.given_trajectory import Coordinates, GivenTrajectory
from mrnoise.io.scans.mrd_file import STEPS, MrdFile
from mrnoise.io.scans.mrd_spiral import described_spiral
from mrnoise.io.scans.trajectory_units import CYCLES

# Coordinates that differ by less than this part of their reach are the same.
SAME = 1e-4


@dataclass(frozen=True, eq=False)
class Positions:
    """Coordinates of the readouts of an image, which all images share.

    Parameters
    ----------
    values
        (dimension, readout, sample), (y, x) or (z, y, x), samples to be discarded counted; a readout may be shorter
        than its line.
    density
        (readout, sample) in any unit; ``None``: not known.
    unit
        One of `trajectory_units.UNITS`; ``None``: not known.
    matrix
        Of the image; ``None``: not given.
    source
        What errors call them.
    notes
        What is to be said of them.
    """

    values: np.ndarray
    density: np.ndarray | None
    unit: str | None
    matrix: tuple[int, ...] | None
    source: str
    notes: tuple[str, ...]


def positions(file: MrdFile, images: np.ndarray, given: GivenTrajectory, stacked: bool) -> Positions:
    """Those given, else those of the lines, else those of the spiral that the header describes.

    Parameters
    ----------
    file
        The file.
    images
        (image, readout): numbers of the lines; in the order of the file where coordinates are given.
    given
        Coordinates, unit or matrix from beside the file.
    stacked
        Whether partitions are encoded one by one, by the second encoding step.

    Raises
    ------
    InputError
        If nothing says where the samples lie, or not the same of all images, or not of each sample.
    """
    coordinates = given.read()
    if coordinates is not None:
        return _given(coordinates, images, int(file.heads["number_of_samples"][images[0, 0]]))
    if file.n_coordinates(images.ravel()).any():
        return _own(file, images, given, stacked)
    return _described(file, images[0], given)


def _given(found: Coordinates, images: np.ndarray, n_samples: int) -> Positions:
    """For the readouts of an image, or for all lines of the file."""
    fits = found.values.ndim > 1 and found.values.shape[-1] == n_samples
    count = math.prod(found.values.shape[1:-1]) if fits else 0
    if count not in (images.shape[1], images.size):
        raise InputError(
            "the trajectory does not fit the lines",
            expected=f"coordinates (dimension, {images.shape[1]}, {n_samples}): of each sample of each readout of an "
            "image, those to be discarded counted",
            received=f"shape {found.values.shape} in {found.source}",
            remedy="Give one position for each sample of each line, in the order of the file.",
        )
    values = found.values.reshape(len(found.values), count, n_samples)
    density = None if found.density is None else found.density.reshape(count, n_samples)
    if count == images.size:
        order = np.argsort(np.argsort(images.ravel())).reshape(images.shape)  # number of each line among all
        first = values[:, order[0]]
        for image in order[1:]:
            _check_same(values[:, image], first, found.source)
        values, density = first, None if density is None else density[order[0]]
    said = f"Samples lie where {found.source} says."
    return Positions(values, density, found.unit, found.matrix, found.source, (said,))


def _own(file: MrdFile, images: np.ndarray, given: GivenTrajectory, stacked: bool) -> Positions:
    name = printable(file.path.name)
    numbers = np.unique(file.n_coordinates(images.ravel()))
    if len(numbers) > 1 or not 2 <= numbers[0] <= 4:
        raise InputError(
            f"the lines of {name} are not readouts of one trajectory",
            expected="2 to 4 coordinates of each sample: x, y, z, density",
            received=f"{' and '.join(map(str, numbers))} coordinates",
            remedy="Give the trajectory beside the file: --trajectory FILE, trajectory= in Python.",
        )
    first = np.stack(list(file.trajectory(images[0])))
    for image in images[1:]:
        _check_same(np.stack(list(file.trajectory(image))), first, f"line {image[0]} and following of {name}")
    values = np.moveaxis(first, -1, 0)
    encoded = file.encoding(images[0]).encodedSpace.matrixSize.z
    z, density, notes = _meaning(values[2:], SAME * float(np.abs(values[:2]).max()), encoded > 1 and not stacked)
    values = values[[1, 0]] if z is None else np.stack([z, values[1], values[0]])
    return Positions(values, density, given.unit, given.matrix, name, notes)


def _meaning(
    rest: np.ndarray, nothing: float, volume: bool
) -> tuple[np.ndarray | None, np.ndarray | None, tuple[str, ...]]:
    """k_z and density among the coordinates behind x and y, and what is to be said of those that are neither.

    The first is k_z where it varies and is negative somewhere, is followed by another one, or is of a volume whose
    partitions are not encoded in another way.
    """
    z = density = None
    notes = []
    if len(rest):
        if np.ptp(rest[0]) <= max(SAME * np.abs(rest[0]).max(), nothing if rest[0].min() <= 0 else 0.0):
            notes.append("The third coordinate is the same everywhere and was not used.")
        elif len(rest) > 1 or volume or rest[0].min() < 0:
            z = rest[0]
        else:
            density = rest[0]
    if len(rest) > 1:
        density = rest[1]
    if density is not None and _is_time(density):
        notes.append("The last coordinate grows evenly, alike in all lines: taken for time and not used.")
        density = None
    if density is not None and density.min() <= 0:
        notes.append("The density of the lines is not above zero everywhere: not used, gridding finds its own.")
        density = None
    return z, density, tuple(notes)


def _is_time(values: np.ndarray) -> bool:
    steps = np.diff(values, axis=-1)
    return bool(steps.size and steps.min() > 0 and np.ptp(steps) <= SAME * steps.max() and (values == values[0]).all())


def _described(file: MrdFile, lines: np.ndarray, given: GivenTrajectory) -> Positions:
    """Those of a spiral, the interleaf of which is the first encoding step."""
    encoding, name = file.encoding(lines), printable(file.path.name)
    spiral = described_spiral(encoding, name)
    interleaf = file.heads["idx"][STEPS[0]][lines].astype(np.int64)
    if interleaf.max() >= spiral.interleaves:
        raise InputError(
            f"lines of {name} do not fit the spiral of its header",
            expected=f"encoding steps 0 to {spiral.interleaves - 1}, one for each interleaf",
            received=f"step {int(interleaf.max())}",
            remedy="Give the trajectory: --trajectory FILE, trajectory= in Python.",
        )
    designed = spiral.coordinates(int(file.heads["number_of_samples"][lines[0]]))
    fov = encoding.reconSpace.fieldOfView_mm
    values = np.stack([designed[1] * fov.y, designed[0] * fov.x])[:, interleaf] / 10  # of cm
    said = (
        f"The trajectory is the spiral that the header describes ({encoding.identifier}), as designed, without delays "
        f"of the gradients; it ends after {designed.shape[-1]} samples."
    )
    return Positions(values, None, CYCLES, given.matrix, f"the header of {name}", (said,))


def _check_same(values: np.ndarray, first: np.ndarray, received: str) -> None:
    if not np.isfinite(first).all():
        return  # said when they become cycles per field of view
    if not bool((np.abs(values - first) <= SAME * np.abs(first).max()).all()):
        raise InputError(
            "the images do not share one trajectory",
            expected="readouts of the same coordinates in each image",
            received=f"other ones in {received} than in the first image",
            remedy="Split the file: a noise map is one of images that are sampled alike.",
        )
