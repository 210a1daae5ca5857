"""MRD (ISMRMRD) raw data: lines sorted into k-space."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.acquisition.noise_estimation import ESTIMATED
from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io.scans.given_noise import NOTHING_GIVEN, GivenNoise
from mrnoise.io.scans.mrd_calibration import calibration_kspace
from mrnoise.io.scans.mrd_dwell import dwell_weights
from mrnoise.io.scans.mrd_file import MrdFile
from mrnoise.io.scans.mrd_geometry import mrd_geometry
from mrnoise.io.scans.mrd_groups import Elsewhere, load_scan_group
from mrnoise.io.scans.mrd_phase_encoding import PhaseEncoding, phase_encoding
from mrnoise.io.scans.mrd_readout import Readouts, readouts
from mrnoise.io.scans.mrd_roles import IMAGE_COUNTERS, roles
from mrnoise.io.scans.mrd_sorting import Repeats, numbered, repeats, sort_lines
from mrnoise.sampling import Grid, encoded_extent

# What an acquisition calls the axis of each counter.
AXES = {"repetition": "frame", "contrast": "echo"}
# Lines that differ in these alone are averaged, unless their signal would be lost.
AVERAGED = ("average", "segment")


def read_mrd(path: str | Path, noise: GivenNoise = NOTHING_GIVEN, group: str | None = None) -> Acquisition:
    """Acquisition from an MRD HDF5 file with Cartesian or echo-planar lines.

    K-space is (frame, set, phase, echo, slice, coil, k1, k0), or (…, coil, k2, k1, k0) for a volume; frames are
    repetitions, echoes contrasts; counters with a single value have no axis. Slices are in the order of their
    positions. ``notes`` tell what of the file was left out, filled, corrected or is in doubt.

    - Lines of noise, navigation, phase correction, feedback and dummy scans are left out, and those of other encoding
      spaces than the first with an image, or with another number of channels; see `roles`.
    - Lines that only calibrate are not part of the image, unless the header says ``embedded``; together with those
      that calibrate and image they become ``calibration``, averaged over everything but slices.
    - Readout oversampling is removed: k-space is cut to the reconstructed field of view in image space,
      which leaves Ψ as it is. Phase-encoding directions keep the encoded field of view. Samples on the ramps of an
      echo-planar readout are regridded, and ``averages`` has what this does to their noise; see `readouts`.
    - The centre of k-space is put at n // 2 by ``center_sample`` and the encoding limits, which are compared with the
      data; see `phase_encoding`.
    - Lines measured more than once are averaged; ``averages`` counts them. Averages or segments out of phase have an
      axis instead. Where contrasts have different bandwidths ``averages`` says so too; see `dwell_weights`.

    Parameters
    ----------
    path
        The file.
    noise
        What to use instead of the noise lines of the file, of the group of the scan or of another one. Without any, Ψ
        is estimated from k-space. The scaling to the bandwidth of the lines is that of `bandwidth_factor`.
    group
        HDF5 group of the scan, where several hold k-space.

    Raises
    ------
    InputError
        If the file cannot be read, is neither Cartesian nor echo-planar or multiband, holds no image lines, or lines
        and header do not fit.
    """
    return mrd_acquisition(*load_scan_group(Path(path), group), noise)


def mrd_acquisition(file: MrdFile, elsewhere: Elsewhere, noise: GivenNoise) -> Acquisition:
    """Acquisition from the lines of a file and, where it has none, the noise lines elsewhere; see `read_mrd`."""
    chosen = roles(file)
    lines = chosen.image
    notes = [*file.header.notes, *chosen.notes, *_checked(file, lines)]
    file.check_places(lines)
    encodings = [phase_encoding(file, lines, axis) for axis in (1, 2)]
    rows = [encoding.rows(file, lines) for encoding in encodings]
    found = readouts(file, lines)
    dwell, weights, said = dwell_weights(file, lines)
    found = dataclasses.replace(found, weight=found.weight * weights.unsqueeze(1))
    notes += [*encodings[0].notes, *encodings[1].notes, *found.notes, *said]
    names, counters, words = _counters(file, lines, rows, found)
    notes += words
    lead = [int(values.max()) + 1 for values in counters]
    kspace, counts = sort_lines(file, found, counters, lead, rows, encodings)
    dims = 3 if encodings[1].size > 1 else 2
    missing = int((counts.flatten(-dims).amax(-1) == 0).sum())
    if missing:
        notes.append(f"{missing} of {counts.flatten(-dims)[..., 0].numel()} images have no lines.")
    counts = _shared(counts, dims)
    mask, averages = counts > 0, counts if float(counts.max()) > 1 else None
    own = file.noise_scans()
    if elsewhere is not None:
        place, other = elsewhere
        own = other.noise_scans()
        if not (noise.scans or noise.covariance is not None):
            notes.append(f"The noise scan is that of {place}.")
    if not (own or noise.scans or noise.covariance is not None) and file.header.noise_measurement:
        notes.append(f"The header names measurement {printable(file.header.noise_measurement)} as its noise scan.")
    calibration = None
    if chosen.calibration.size:
        calibration, words = calibration_kspace(file, lines, chosen.calibration, encodings, kspace)
        notes += words
    acquisition = Acquisition(
        kspace=kspace,
        noise_covariance=torch.eye(int(kspace.shape[-dims - 1])),
        sampling=_sampling(mask, dims, encodings),
        averages=averages,
        calibration=calibration,
        geometry=_geometry(file, lines, counters[-1], tuple(kspace.shape[-3:]), dims),
        spatial_dims=dims,
        axes=[AXES.get(name, name) for name, n in zip(names, lead, strict=True) if n > 1],
        source=f"{printable(file.path.name)} (MRD)",
        notes=tuple(dict.fromkeys(notes)),
    )
    settled = noise.settled(acquisition, own, dwell_us=dwell, labels=file.labels(int(lines[0])))
    of_kspace = noise.covariance is not None or settled.noise_covariance.source.startswith(ESTIMATED)
    if found.noise == 1 or of_kspace:
        return settled
    after = f"{found.noise:.3g} after regridding, where fewest samples were averaged"
    return settled.replace(noise_covariance=settled.noise_covariance.scaled(found.noise, after))


def _checked(file: MrdFile, lines: np.ndarray) -> list[str]:
    """What is to say about the kind of encoding.

    Raises
    ------
    InputError
        If its lines are no rows of k-space of one slice.
    """
    encoding, name = file.encoding(lines), file.path.name
    if encoding.multiband_factor > 1:
        raise InputError(
            f"{name} is a multiband scan",
            expected="lines of one slice at a time",
            received=f"a multiband factor of {encoding.multiband_factor}",
            remedy="Simultaneous slices are not supported yet: separate them first.",
        )
    trajectory, has = encoding.trajectory, file.heads.dtype.names or ()
    with_own = "trajectory_dimensions" in has and bool(file.heads["trajectory_dimensions"][lines].any())
    unclear = trajectory in ("", "other") and not with_own
    if trajectory not in ("cartesian", "epi") and not unclear:
        raise InputError(
            f"{name} is not Cartesian",
            expected="the trajectory cartesian or epi",
            received=trajectory or "lines with trajectories of their own",
            remedy="Grid the data first, or build an Acquisition from gridded k-space.",
        )
    if unclear:
        said = f"the trajectory {trajectory}" if trajectory else "no trajectory"
        return [f"The header gives {said}, the lines none: read as Cartesian."]
    if trajectory == "epi":
        return ["Echo-planar lines: the phase between odd and even ones is left as it is. It moves signal, not noise."]
    return []


def _counters(
    file: MrdFile, lines: np.ndarray, rows: list[np.ndarray], found: Readouts
) -> tuple[list[str], list[np.ndarray], list[str]]:
    """Names of the leading axes, the number of each line along them, and what is to say about it."""
    names, notes = list(IMAGE_COUNTERS), []
    counters = [numbered(file, lines, name) for name in names]

    def repeated() -> Repeats:
        return repeats(np.unique(np.stack([*counters, *rows]), axis=1, return_inverse=True)[1].ravel(), found)

    again = repeated()
    for name in AVERAGED:
        numbers = numbered(file, lines, name)
        if again.out_of_phase(numbers):
            names.insert(-1, name)
            counters.insert(-1, numbers)
            again = repeated()
            notes.append(f"Lines of {int(numbers.max()) + 1} {name}s are out of phase: kept apart, as an axis.")
    if again.out_of_phase(np.arange(len(lines))):
        notes.append(
            "In doubt: lines of one place are out of phase, and no counter tells them apart. They are averaged."
        )
    return names, counters, notes


def _sampling(mask: Tensor, dims: int, encodings: list[PhaseEncoding]) -> Grid:
    """With what was encoded, by lines and limits."""
    limits = [(encoding.first, encoding.last + 1) for encoding in reversed(encodings[: dims - 1])]
    return Grid(mask, dims, encoded_extent(mask, dims, [*limits, None]))


def _shared(counts: Tensor, dims: int) -> Tensor:
    """Counts without leading axes where all images share them."""
    images = counts.reshape(-1, *counts.shape[-dims:])
    return images[0] if bool((images == images[0]).all()) else counts


def _geometry(file: MrdFile, lines: np.ndarray, slices: np.ndarray, shape: tuple[int, ...], dims: int) -> Geometry:
    heads = file.heads[[lines[np.argmax(slices == s)] for s in range(int(slices.max()) + 1)]]
    encoding = file.encoding(lines)
    if dims == 2:
        return mrd_geometry(encoding, (len(heads), shape[-2], shape[-1]), heads)
    volume = mrd_geometry(encoding, (shape[-3], shape[-2], shape[-1]), heads[:1])
    # Several slabs lie apart from each other: no single affine.
    return volume if len(heads) == 1 else Geometry(volume.voxel_size)
