"""MRD lines along a trajectory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.checks import check_memory
from mrnoise.encoding.density import unit_gain
from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io.scans.given_trajectory import GivenTrajectory
from mrnoise.io.scans.mrd_file import STEPS, MrdFile
from mrnoise.io.scans.mrd_geometry import mrd_geometry
from mrnoise.io.scans.mrd_header import Encoding, FieldOfView, Matrix, Space
from mrnoise.io.scans.mrd_phase_encoding import phase_encoding
from mrnoise.io.scans.mrd_positions import positions
from mrnoise.io.scans.mrd_roles import AXES, IMAGE_COUNTERS, Roles
from mrnoise.io.scans.mrd_sorting import numbered
from mrnoise.io.scans.trajectory_units import ImageSpace, in_cycles
from mrnoise.sampling import Trajectory


def along_trajectory(file: MrdFile, chosen: Roles, given: GivenTrajectory) -> Acquisition:
    """Acquisition with its Ψ to be found; see `read_mrd`.

    All images share one trajectory; their readouts are in the order of their encoding steps, or of the file where the
    trajectory is given. The image is that of the reconstructed field of view at the encoded resolution, or with the
    reconstructed matrix where only that fits the trajectory. Coordinates of lines are (x, y) or (x, y, z), and one more
    the density, which is scaled to unit gain. Partitions of a volume whose coordinates are (x, y) lie at the whole k_z
    of their second encoding step. Samples to be discarded are left out.

    Raises
    ------
    InputError
        If images have different trajectories or numbers of readouts, lines different lengths, nothing says where the
        samples lie, or that does not fit.
    """
    lines, notes = chosen.image, []
    kept, names = _kept(file, lines), list(IMAGE_COUNTERS)
    counters = [numbered(file, lines, name) for name in names]
    lead = [int(values.max()) + 1 for values in counters]
    images = lines[_order(file, lines, counters, lead, by_step=given.source is None)]
    partitions = phase_encoding(file, lines, 2)
    found = positions(file, images, given, partitions.size > 1)
    kept = slice(kept.start, min(kept.stop, found.values.shape[-1]))
    values = found.values[..., kept]
    stacked = partitions.size > 1 and len(values) == 2
    spaces = _spaces(file.encoding(lines), found.matrix, len(values), stacked)
    coordinates, space, said = in_cycles(values, spaces, found.unit, found.source)
    shape = space.shape
    if stacked:
        rows = np.stack([partitions.rows(file, image) for image in images])
        _check_alike(rows, file)
        kz = np.broadcast_to((rows[0] - partitions.size // 2)[:, None], coordinates.shape[1:])
        coordinates = np.concatenate([kz[None], coordinates])
        shape = (found.matrix[0] if found.matrix is not None else partitions.size, *shape)
        notes.append(f"{len(np.unique(rows))} partitions lie at the whole k_z of their second encoding step.")
    kspace = _samples(file, images, kept)
    layout = (*_folded(file, images[0]), kspace.shape[-1])
    density = None if found.density is None else torch.from_numpy(found.density[..., kept].reshape(layout))
    trajectory = Trajectory(torch.from_numpy(coordinates).reshape(-1, *layout), shape)
    if density is not None:
        trajectory = replace(trajectory, density=unit_gain(trajectory, density))
        notes.append("The density of the lines was scaled to unit gain.")
    return Acquisition(
        kspace=kspace.reshape(*[n for n in lead if n > 1], kspace.shape[1], *layout),
        noise_covariance=torch.eye(kspace.shape[1]),
        sampling=trajectory,
        geometry=_geometry(file, lines, counters[-1], shape, stacked),
        axes=[AXES.get(name, name) for name, n in zip(names, lead, strict=True) if n > 1],
        source=f"{printable(file.path.name)} (MRD)",
        notes=[*partitions.notes, *found.notes, said, *notes, *_said(file, chosen)],
    )


def _kept(file: MrdFile, lines: np.ndarray) -> slice:
    """The samples that lines do not discard, the same of all."""
    names = ("number_of_samples", "discard_pre", "discard_post")
    shapes = np.unique(np.stack([file.heads[name][lines].astype(np.int64) for name in names], 1), axis=0)
    n, first, last = shapes[0].tolist()
    if len(shapes) > 1 or n - last <= first:
        listed = " and ".join(f"{a} samples, of which {b} + {c} are to be discarded" for a, b, c in shapes[:2].tolist())
        raise InputError(
            f"the lines of {file.path.name} are not readouts of one trajectory",
            expected="lines of one length, with samples that are not to be discarded",
            received=listed,
            remedy="Split the file by the length of its lines.",
        )
    return slice(first, n - last)


def _order(
    file: MrdFile, lines: np.ndarray, counters: Sequence[np.ndarray], lead: Sequence[int], *, by_step: bool
) -> np.ndarray:
    """(image, readout): which of the lines.

    Raises
    ------
    InputError
        If images have different numbers of lines.
    """
    image = np.ravel_multi_index(counters, lead)
    counts = np.bincount(image, minlength=math.prod(lead))
    if (counts != counts[0]).any():
        other = int(np.flatnonzero(counts != counts[0])[0])
        place = np.unravel_index(other, lead)
        words = ", ".join(f"{name} {i}" for name, i, n in zip(IMAGE_COUNTERS, place, lead, strict=True) if n > 1)
        raise InputError(
            f"the images of {file.path.name} do not share one trajectory",
            expected=f"{counts[0]} readouts for each image, as for the first",
            received=f"{counts[other]} for {words}",
            remedy="Split the file: a noise map is one of images that are sampled alike.",
        )
    idx = file.heads["idx"][lines]
    steps = [idx[name] for name in ("segment", "average", *STEPS)] if by_step else []
    return np.lexsort([np.arange(len(lines)), *steps, image]).reshape(len(counts), -1)


def _check_alike(rows: np.ndarray, file: MrdFile) -> None:
    if (rows != rows[0]).any():
        raise InputError(
            f"the images of {file.path.name} do not share one trajectory",
            expected="the same second encoding steps in each image",
            received="others than in the first image",
            remedy="Split the file: a noise map is one of images that are sampled alike.",
        )


def _spaces(encoding: Encoding, matrix: tuple[int, ...] | None, dims: int, stacked: bool) -> list[ImageSpace]:
    """Images that may be meant, of the axes of the coordinates."""
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    fov, encoded_fov = (
        (space.fieldOfView_mm.z, space.fieldOfView_mm.y, space.fieldOfView_mm.x)[-dims:] for space in (recon, encoded)
    )
    sizes = [(s.matrixSize.z, s.matrixSize.y, s.matrixSize.x)[-dims:] for s in (encoded, recon)]
    resolved = tuple(max(1, round(n * f / e)) for n, f, e in zip(sizes[0], fov, encoded_fov, strict=True))
    if matrix is not None:
        if len(matrix) != dims + stacked:
            raise InputError(
                "the matrix does not fit the trajectory",
                expected=f"{dims + stacked} numbers, {'Z,Y,X' if dims + stacked > 2 else 'Y,X'}",
                received=",".join(map(str, matrix)),
                remedy="Give one number for each axis of the image.",
            )
        return [ImageSpace(matrix[-dims:], fov, encoded_fov, resolved)]
    return [ImageSpace(shape, fov, encoded_fov, resolved) for shape in dict.fromkeys((resolved, sizes[1]))]


def _samples(file: MrdFile, images: np.ndarray, kept: slice) -> Tensor:
    """(image, coil, readout, sample)."""
    n_coils, count = int(file.heads["active_channels"][images[0, 0]]), kept.stop - kept.start
    check_memory(8 * images.size * n_coils * count, f"k-space of {file.path.name}")
    kspace = np.empty((len(images), n_coils, images.shape[1], count), np.complex64)
    for image, lines in zip(kspace, images, strict=True):
        for readout, samples in enumerate(file.samples(lines)):
            image[:, readout] = samples[:, kept]
    return torch.from_numpy(kspace)


def _folded(file: MrdFile, lines: np.ndarray) -> tuple[int, ...]:
    """(partition, readout) where lines are those of one partition after the other, as many of each, else (readout,)."""
    steps = file.heads["idx"][STEPS[1]][lines]
    count = len(np.unique(steps))
    blocks = steps.reshape(count, -1) if len(steps) % count == 0 else steps[None]
    return blocks.shape if count > 1 and bool((blocks == blocks[:, :1]).all()) else steps.shape


def _geometry(file: MrdFile, lines: np.ndarray, slices: np.ndarray, shape: tuple[int, ...], stacked: bool) -> Geometry:
    """Of the reconstructed field of view, across partitions and slices of the encoded one."""
    encoding = file.encoding(lines)
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    heads = file.heads[[lines[np.argmax(slices == s)] for s in range(int(slices.max()) + 1)]]
    depth = (recon if len(shape) == 3 and not stacked else encoded).fieldOfView_mm.z
    partitions = shape[0] if len(shape) == 3 else encoded.matrixSize.z
    space = Space(
        Matrix(shape[-1], shape[-2], partitions), FieldOfView(recon.fieldOfView_mm.x, recon.fieldOfView_mm.y, depth)
    )
    own = replace(encoding, encodedSpace=space, reconSpace=space)
    if len(shape) == 2:
        return mrd_geometry(own, (len(heads), *shape), heads)
    volume = mrd_geometry(own, (shape[0], shape[1], shape[2]), heads[:1])
    # Several slabs lie apart from each other: no single affine.
    return volume if len(heads) == 1 else Geometry(volume.voxel_size)


def _said(file: MrdFile, chosen: Roles) -> list[str]:
    """What is to be said of lines that are used in another way than on a grid."""
    notes = []
    averages = len(np.unique(file.heads["idx"]["average"][chosen.image]))
    if averages > 1:
        notes.append(f"{averages} averages are readouts of their own, not averaged; R counts them.")
    only = np.setdiff1d(chosen.calibration, chosen.image).size
    if only:
        notes.append(f"{only} lines that only calibrate were left out: coil maps come from the centre of k-space.")
    return notes
