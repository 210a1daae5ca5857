"""Read a scan, whatever its file format."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from mrnoise.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.files.cfl import SUFFIXES
from mrnoise.files.heaps import check_heaps
from mrnoise.files.opening import check_is_file, opened_hdf5, reading
from mrnoise.files.text import printable
from mrnoise.io.maps.hdf5 import FORMAT as MAP_FORMAT
from mrnoise.io.scans.axis_order import parsed_axes
from mrnoise.io.scans.bart import bart_arrays, bart_noise, bart_samples, completed
from mrnoise.io.scans.covariance_file import read_covariance
from mrnoise.io.scans.fastmri import fastmri_arrays, fastmri_noise
from mrnoise.io.scans.given_noise import GivenNoise
from mrnoise.io.scans.given_trajectory import GivenTrajectory, parsed_matrix
from mrnoise.io.scans.matlab import START as MATLAB
from mrnoise.io.scans.matlab import matlab_arrays, matlab_noise
from mrnoise.io.scans.mrd import mrd_acquisition, read_mrd
from mrnoise.io.scans.mrd2 import START as STREAM
from mrnoise.io.scans.mrd2 import as_version1
from mrnoise.io.scans.mrd_groups import holds_mrd, load_noise_group
from mrnoise.io.scans.noise_scan import NoiseScan
from mrnoise.io.scans.npz import npy_array, npy_arrays, npz_arrays, npz_noise
from mrnoise.io.scans.scan_arrays import ScanArrays
from mrnoise.io.scans.scan_of_arrays import noise_scan, scan_of
from mrnoise.io.scans.twix import is_twix, load_twix, load_twix_noise
from mrnoise.sampling import Trajectory

MRD, MRD2, TWIX = "MRD", "MRD v2", "twix"
# Readers of arrays: of a scan, and of a noise scan, by the name of the format.
ARRAYS: dict[str, tuple[Callable[[Path], ScanArrays], Callable[[Path], np.ndarray | None]]] = {
    "npz": (npz_arrays, npz_noise),
    "npy": (npy_arrays, npy_array),
    "HDF5": (fastmri_arrays, fastmri_noise),
    "MATLAB": (matlab_arrays, matlab_noise),
    "BART": (bart_arrays, bart_noise),
}
FORMATS = (
    "MRD (ISMRMRD HDF5, or a stream of version 2), Siemens raw data (twix, .dat), fastMRI or other HDF5, npz, npy, "
    "MATLAB, BART (.cfl with .hdr)"
)
# How files start; HDF5 may have something before it, as MATLAB files have.
STARTS = {b"PK\x03\x04": "npz", b"PK\x05\x06": "npz", b"\x93NUMPY": "npy", MATLAB: "MATLAB", STREAM: MRD2}


def read(
    path: str | Path,
    *,
    noise: str | Path | None = None,
    noise_covariance: str | Path | Tensor | None = None,
    drop_coils: Sequence[int] | Literal["auto"] = (),
    group: str | None = None,
    axes: str | Sequence[str] | None = None,
    trajectory: str | Path | Trajectory | None = None,
    matrix: str | Sequence[int] | None = None,
    trajectory_unit: str | None = None,
) -> Acquisition:
    """Acquisition from a file: MRD, Siemens raw data (twix), or arrays in HDF5 (fastMRI), npz, npy, MATLAB, BART.

    The format is told by the content; only BART's, which has no mark, by the name. See `read_mrd`, `fastmri_arrays`,
    `npz_arrays`, `matlab_arrays` and `bart_arrays` for what each takes from the file and how axes are ordered. Streams
    of MRD version 2 need mrnoise[mrd2]; twix files need mrnoise[twix] and are read as `read_mrd` reads the same lines.

    Parameters
    ----------
    path
        File with k-space.
    noise
        File with a noise scan, of any of these formats: noise lines of an MRD or twix file, or an array ``noise``
        (coil, ...), in BART and npy files the only one. Its Ψ replaces what ``path`` itself says about noise. Between
        two files of lines coils are matched by name and Ψ is scaled to the bandwidth of the image lines. Where no line
        is flagged as noise, those of its image are taken: they were acquired without excitation.
    group
        HDF5 group of the scan in an MRD file, or number of the measurement in a twix file, where several hold k-space.
    axes
        Names of all axes of an array, as they lie in the file: "slice,ky,kx,coil", of slice, frame, echo, set, phase,
        average, coil, kz, ky and kx. Images are those of the order (..., coil, [kz,] ky, kx); averages are averaged.
        ``None``: those that file or format give, or that follow from a noise scan, a mask or coil maps beside it.
    trajectory
        Where the samples lie: a file of BART's ``traj`` (.cfl), an array (dimension, *samples) or (*samples, dimension)
        in an npy file, the arrays ``trajectory``, ``density`` and ``image_shape`` of an npz file, or a `Trajectory`.
        K-space is then (..., coil, *samples); of an MRD or twix file one readout for each line of an image.
    matrix
        Of the image of a trajectory, "128,128" or numbers, (y, x) or (z, y, x). ``None``: that of file or header, else
        the one that the trajectory resolves.
    trajectory_unit
        "cycles/fov", "cycles/voxel", "radians/voxel", "1/m" or "cycles/encoded-fov". ``None``: that of the format, or
        the only one in which the trajectory ends near the edge of k-space.
    noise_covariance
        Ψ instead of a noise scan: a (coil, coil) tensor, or a file that holds one (.npy, .npz, or text with commas),
        total complex variance in squared units of this k-space. It is taken as it is.
    drop_coils
        Coils to leave out of k-space, Ψ and coil maps, counted from 0, or "auto" for those that are dead or copies of
        another. ``notes`` says which.

    Returns
    -------
    Acquisition
        Without a noise scan in either file, Ψ is estimated from k-space by `estimate_noise_covariance`;
        ``noise_covariance.source`` says so.

    Raises
    ------
    InputError
        If a file is missing, of another format, damaged, or does not fit, or if two sources of Ψ are given.

    Examples
    --------
    >>> import numpy as np
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> np.savez("head.npz", kspace=head.acquire().kspace, coil_maps=head.coil_maps, noise=head.noise_scan(1000))
    >>> scan = read("head.npz")
    >>> scan.image_shape, scan.n_coils, scan.noise_covariance.source
    ((16, 12), 4, 'noise scan of head.npz, 1000 samples')
    """
    path = completed(Path(path))
    names = None if axes is None else parsed_axes(axes)
    form = _format(path)
    given = given_noise(noise, noise_covariance, drop_coils)
    where = Path(trajectory) if isinstance(trajectory, str | Path) else trajectory
    positions = GivenTrajectory(where, parsed_matrix(matrix), trajectory_unit)
    if group is not None and form in ARRAYS:
        raise InputError(
            f"{path.name} has no groups",
            expected="an MRD or twix file, where a group is named",
            received=f"the group {group} of a file of the kind {form}",
            remedy="Leave the group out.",
        )
    if form in ARRAYS:
        reader = bart_samples if form == "BART" and where is not None else ARRAYS[form][0]
        return scan_of(reader(path), given, names, positions)
    if names is not None:
        raise InputError(
            f"{path.name} is a file of the kind {form}, which says itself where each line belongs",
            expected="names of axes for a file of arrays",
            received=",".join(names),
            remedy="Leave --axes out.",
        )
    if form == MRD:
        return read_mrd(path, given, group, positions)
    if form == TWIX:
        acquisition = mrd_acquisition(*load_twix(path, group), given, positions)
        return acquisition.replace(source=f"{printable(path.name)} ({TWIX})")
    with tempfile.TemporaryDirectory() as folder:
        new, notes = as_version1(path, Path(folder))
        acquisition = read_mrd(new, given, group, positions)
    said = (*acquisition.notes, *notes)
    return acquisition.replace(source=f"{printable(path.name)} ({MRD2})", notes=said)


def given_noise(
    noise: str | Path | None = None,
    noise_covariance: str | Path | Tensor | None = None,
    drop_coils: Sequence[int] | Literal["auto"] = (),
) -> GivenNoise:
    """What `read` takes on noise, for a reader; see there.

    Raises
    ------
    InputError
        If both are given, or a file cannot be used.
    """
    if noise is not None and noise_covariance is not None:
        raise InputError(
            "noise scan and noise covariance exclude each other",
            expected="one of the two",
            received=f"{noise} and {noise_covariance if isinstance(noise_covariance, str | Path) else 'a tensor'}",
            remedy="Leave out the one that is not of this scan.",
        )
    scans = () if noise is None else _noise_scans(Path(noise))
    covariance, source = noise_covariance, "given"
    if isinstance(covariance, str | Path):
        file = Path(covariance)
        covariance, source = read_covariance(file), f"given by {printable(file.name)}"
    return GivenNoise(scans, covariance, source, drop_coils)


def _noise_scans(path: Path) -> tuple[NoiseScan, ...]:
    path = completed(path)
    form = _format(path)
    scans: tuple[NoiseScan, ...]
    if form in ARRAYS:
        samples = ARRAYS[form][1](path)
        scans = () if samples is None else (noise_scan(samples, path),)
    elif form == MRD:
        scans = load_noise_group(path).noise_scans(unflagged=True)
    elif form == TWIX:
        scans = load_twix_noise(path).noise_scans(unflagged=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            scans = load_noise_group(as_version1(path, Path(folder))[0]).noise_scans(unflagged=True)
    if not scans:
        raise InputError(
            f"{path.name} holds no noise scan",
            expected="an array noise (coil, ...), or lines of noise",
            received=f"{form} without {'it' if form in ARRAYS else 'lines of noise or image'}",
            remedy="Give the noise scan taken with this scan, or leave noise= out to estimate Ψ from k-space.",
        )
    return scans


def _format(path: Path) -> str:
    """Format by content: MRD of version 1 or 2, or one of `ARRAYS`."""
    check_is_file(path, FORMATS)
    with reading(path, "a file that can be read", "Check the permissions of the file."), path.open("rb") as file:
        start = file.read(8)
    for mark, form in STARTS.items():
        if start.startswith(mark):
            return form
    import h5py

    if h5py.is_hdf5(path):
        check_heaps(path)
        with opened_hdf5(path) as file:
            if file.attrs.get("format") == MAP_FORMAT:
                raise InputError(
                    f"{path.name} is a noise map, not a scan",
                    expected=FORMATS,
                    received="a map that mrnoise saved",
                    remedy="Give the raw data. Maps are taken by compare, export and gfactor --reference.",
                )
            return MRD if "kspace" not in file and holds_mrd(file) else "HDF5"
    if path.suffix in SUFFIXES:
        return "BART"
    if is_twix(path):
        return TWIX
    raise InputError(
        f"{path.name} is of no known format",
        expected=FORMATS,
        received=f"{path.stat().st_size} bytes that start with {start!r}",
        remedy="Convert raw data of other vendors with a tool of the ISMRMRD project.",
    )
