"""MRD (ISMRMRD) raw data: lines sorted into k-space, on a grid or along a trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrnoise.acquisition import Acquisition
from mrnoise.acquisition.noise_estimation import ESTIMATED
from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io.scans.given_noise import NOTHING_GIVEN, GivenNoise
from mrnoise.io.scans.given_trajectory import NO_TRAJECTORY, GivenTrajectory
from mrnoise.io.scans.mrd_cartesian import on_grid
from mrnoise.io.scans.mrd_file import MrdFile
from mrnoise.io.scans.mrd_groups import Elsewhere, load_scan_group
from mrnoise.io.scans.mrd_non_cartesian import along_trajectory
from mrnoise.io.scans.mrd_roles import roles

# Part of the length of a line by which it may leave its row.
ROW = 1e-2


def read_mrd(
    path: str | Path,
    noise: GivenNoise = NOTHING_GIVEN,
    group: str | None = None,
    trajectory: GivenTrajectory = NO_TRAJECTORY,
) -> Acquisition:
    """Acquisition from an MRD HDF5 file with Cartesian, echo-planar or non-Cartesian lines.

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
    - Lines along a trajectory are readouts of it as they are, (…, coil, readout, sample) or (…, coil, partition,
      readout, sample), see `along_trajectory`.

    Parameters
    ----------
    path
        The file.
    noise
        What to use instead of the noise lines of the file, of the group of the scan or of another one. Without any, Ψ
        is estimated from k-space. The scaling to the bandwidth of the lines is that of `bandwidth_factor`.
    group
        HDF5 group of the scan, where several hold k-space.
    trajectory
        What to use instead of the trajectory of the file.

    Raises
    ------
    InputError
        If the file cannot be read, is neither Cartesian nor echo-planar and has no trajectory, is multiband, holds no
        image lines, or lines and header do not fit.
    """
    return mrd_acquisition(*load_scan_group(Path(path), group), noise, trajectory)


def mrd_acquisition(
    file: MrdFile, elsewhere: Elsewhere, noise: GivenNoise, trajectory: GivenTrajectory = NO_TRAJECTORY
) -> Acquisition:
    """Acquisition from the lines of a file and, where it has none, the noise lines elsewhere; see `read_mrd`."""
    chosen = roles(file)
    lines = chosen.image
    file.check_places(lines)
    file.check_samples(lines)
    cartesian, said = _kind(file, lines, trajectory)
    if cartesian:
        acquisition, variance, dwell = on_grid(file, chosen)
    else:
        acquisition, variance, dwell = along_trajectory(file, chosen, trajectory), 1.0, file.dwell_us(lines)
    notes = [*file.header.notes, *chosen.notes, *said, *acquisition.notes]
    own = file.noise_scans()
    if elsewhere is not None:
        place, other = elsewhere
        own = other.noise_scans()
        if not (noise.scans or noise.covariance is not None):
            notes.append(f"The noise scan is that of {place}.")
    if not (own or noise.scans or noise.covariance is not None) and file.header.noise_measurement:
        notes.append(f"The header names measurement {printable(file.header.noise_measurement)} as its noise scan.")
    geometry = acquisition.geometry
    if (
        acquisition.spatial_dims == 2
        and geometry.affine is None
        and len(np.unique(file.heads["position"][lines], axis=0)) > 1
    ):
        notes.append(
            "The slices are not parallel, not at one distance or without directions: the map has no place, and their "
            f"distance, {geometry.voxel_size[0]:.3g} mm, is that of the header."
        )
    acquisition = acquisition.replace(notes=tuple(dict.fromkeys(notes)))
    settled = noise.settled(acquisition, own, dwell_us=dwell, labels=file.labels(int(lines[0])))
    of_kspace = noise.covariance is not None or settled.noise_covariance.source.startswith(ESTIMATED)
    if variance == 1 or of_kspace:
        return settled
    after = f"{variance:.3g} after regridding, where fewest samples were averaged"
    return settled.replace(noise_covariance=settled.noise_covariance.scaled(variance, after))


def _kind(file: MrdFile, lines: np.ndarray, given: GivenTrajectory) -> tuple[bool, list[str]]:
    """Whether lines lie on a grid, and what is to say about the kind of encoding.

    Raises
    ------
    InputError
        If its lines are not of one slice, or their trajectory is not that of the header.
    """
    encoding, name = file.encoding(lines), file.path.name
    if encoding.multiband_factor > 1:
        raise InputError(
            f"{name} is a multiband scan",
            expected="lines of one slice at a time",
            received=f"a multiband factor of {encoding.multiband_factor}",
            remedy="Simultaneous slices are not supported yet: separate them first.",
        )
    trajectory, own = encoding.trajectory, bool(file.n_coordinates(lines).any())
    if trajectory not in ("cartesian", "epi"):
        if own or given.source is not None or trajectory not in ("", "other"):
            return False, []
        said = f"the trajectory {trajectory}" if trajectory else "no trajectory"
        _check_nothing_given(given, f"{said} in the header of {name}")
        return True, [f"The header gives {said}, the lines none: read as Cartesian."]
    _check_nothing_given(given, f"the trajectory {trajectory} in the header of {name}")
    notes = []
    if trajectory == "epi":
        notes += [
            "Echo-planar lines: the phase between odd and even ones is left as it is. It moves signal, not noise."
        ]
    if own:
        _check_straight(file, lines, trajectory)
        notes.append(f"Lines have coordinates, the header says {trajectory}: read as such, coordinates were not used.")
    return True, notes


def _check_nothing_given(given: GivenTrajectory, received: str) -> None:
    if given.anything:
        raise InputError(
            "a trajectory is given for Cartesian lines",
            expected="a header with a radial, spiral or other trajectory",
            received=received,
            remedy="Leave --trajectory, --trajectory-unit and --matrix out, or correct the header.",
        )


def _check_straight(file: MrdFile, lines: np.ndarray, trajectory: str) -> None:
    """Raise if a line is no row of k-space: more than one of its coordinates varies."""
    known = lines[file.n_coordinates(lines) > 1]
    for number, coordinates in zip(known.tolist(), file.trajectory(known), strict=True):
        varying = np.ptp(coordinates, axis=0) > ROW * np.ptp(coordinates)
        if coordinates.shape[1] <= 3 and varying.sum() > 1:
            raise InputError(
                f"header and lines of {file.path.name} do not agree",
                expected=f"rows of k-space: the header says {trajectory}",
                received=f"line {number}, along which {int(varying.sum())} of its coordinates vary",
                remedy="Correct the trajectory of the header: radial, spiral or other.",
            )
