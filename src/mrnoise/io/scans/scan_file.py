"""Read a scan, whatever its file format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mrnoise.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.files.opening import check_heaps, get, opened_hdf5, reading
from mrnoise.io.scans.fastmri import noise_from_fastmri, read_fastmri
from mrnoise.io.scans.mrd import read_mrd
from mrnoise.io.scans.mrd_groups import load_noise_group, mrd_groups
from mrnoise.io.scans.noise_scan import NoiseScan
from mrnoise.io.scans.npz import noise_from_npz, read_npz

ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
HDF5_START = b"\x89HDF\r\n\x1a\n"

READERS: dict[str, Callable[[Path, NoiseScan | None], Acquisition]] = {"npz": read_npz, "fastMRI": read_fastmri}


def read(path: str | Path, *, noise: str | Path | None = None, group: str | None = None) -> Acquisition:
    """Acquisition from a file: MRD (ISMRMRD), fastMRI HDF5 or npz.

    The format is told by the content, not by the name. See `read_mrd`, `read_fastmri` and `read_npz` for
    what each takes from the file and how axes are ordered.

    Parameters
    ----------
    path
        File with k-space.
    noise
        File with a noise scan, of any of the three formats: noise lines of an MRD file, or an array
        ``noise`` (coil, ...). Its Ψ replaces what ``path`` itself says about noise. Between two MRD files
        coils are matched by name and Ψ is scaled to the bandwidth of the image lines.
    group
        HDF5 group of the scan in an MRD file, where several hold k-space.

    Returns
    -------
    Acquisition
        Without a noise scan in either file, Ψ is estimated from k-space by `estimate_noise_covariance`;
        ``noise_covariance.source`` says so.

    Raises
    ------
    InputError
        If a file is missing, of another format, damaged, or does not fit.

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
    path = Path(path)
    form = _format(path)
    scan = None if noise is None else _noise_scan(Path(noise))
    if form == "MRD":
        return read_mrd(path, scan, group)
    if group is not None:
        raise InputError(
            f"{path.name} has no MRD groups",
            expected="an MRD file, where a group is named",
            received=f"the group {group} of a file of the kind {form}",
            remedy="Leave the group out.",
        )
    if form not in READERS:
        raise InputError(
            f"{path.name} holds a noise scan, but no k-space",
            expected="an array kspace",
            received="an array noise",
            remedy="Give this file as noise= and the scan as path.",
        )
    return READERS[form](path, scan)


def _noise_scan(path: Path) -> NoiseScan:
    form = _format(path)
    if form == "npz":
        return noise_from_npz(path)
    scan = load_noise_group(path).noise_scan() if form == "MRD" else noise_from_fastmri(path)
    if scan is None:
        raise InputError(
            f"{path.name} holds no noise scan",
            expected="an array noise (coil, ...), or MRD lines flagged as noise",
            received="MRD lines without the noise flag" if form == "MRD" else "an HDF5 file without it",
            remedy="Give the noise scan taken with this scan, or leave noise= out to estimate Ψ from k-space.",
        )
    return scan


def _format(path: Path) -> str:
    """Format by content: "npz", "MRD", "fastMRI", or "noise" for HDF5 with an array noise alone."""
    if not os.path.isfile(path):  # whatever the name
        raise InputError(
            f"there is no file {path}",
            expected="an MRD, fastMRI HDF5 or npz file",
            received="a folder" if os.path.isdir(path) else "a path that does not exist",
            remedy="Check the path.",
        )
    with reading(path, "a file that can be read", "Check the permissions of the file."), path.open("rb") as file:
        start = file.read(8)
    if start.startswith(ZIP_STARTS):
        return "npz"
    if start == HDF5_START:
        return _hdf5_format(path)
    raise InputError(
        f"{path.name} is of no known format",
        expected="MRD (ISMRMRD HDF5), fastMRI HDF5 or npz",
        received=f"{path.stat().st_size} bytes that start with {start!r}",
        remedy="Convert vendor raw data with a tool of the ISMRMRD project.",
    )


def _hdf5_format(path: Path) -> str:
    check_heaps(path)
    with opened_hdf5(path) as file:
        if get(file, "kspace") is not None:
            return "fastMRI"
        if mrd_groups(file):
            return "MRD"
        if get(file, "noise") is not None:
            return "noise"
        found = ", ".join(file) or "nothing"
    raise InputError(
        f"{path.name} is HDF5, but holds no k-space",
        expected="kspace (fastMRI), or a group with data and xml such as dataset (MRD)",
        received=found,
        remedy="Rename the array to kspace, or convert the raw data with a tool of the ISMRMRD project.",
    )
