"""Which groups of an HDF5 file hold MRD scans: one file may hold several measurements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.lists import fields
from mrnoise.files.opening import get, opened_hdf5
from mrnoise.files.text import printable
from mrnoise.io.scans.mrd_file import NOISE, MrdFile, flagged, load_mrd
from mrnoise.io.scans.mrd_roles import makes_image

if TYPE_CHECKING:
    import h5py

USUAL = "dataset"
# What to call it, and the file with noise lines beside those of a scan.
Elsewhere = tuple[str, MrdFile] | None


def holds_mrd(file: h5py.File) -> bool:
    """Whether a file has a group with MRD acquisitions."""
    return bool(_acquisitions(file))


def _flags(file: h5py.File) -> dict[str, np.ndarray]:
    """Flags of the lines of each group with MRD acquisitions, none of a ``dataset`` that holds something else."""
    return {
        name: np.zeros(0, np.uint64) if data is None else fields(data, "head")["flags"]
        for name, data in _acquisitions(file).items()
    }


def _acquisitions(file: h5py.File) -> dict[str, h5py.Dataset | None]:
    """Each group with MRD acquisitions, at most two levels deep, in natural order.

    ``dataset`` is among them wherever it holds something by the name of data, ``None`` if it is no acquisitions.
    """
    inner = [f"{name}/{below}" for name in file for below in _members(file, name)]
    found: dict[str, h5py.Dataset | None] = {}
    for name in sorted([*file, *inner], key=_natural):
        data = get(file, f"{name}/data") if _members(file, name) else None
        if data is None:
            continue
        head = data.dtype["head"] if "head" in (data.dtype.names or ()) else np.dtype([])
        if data.ndim == 1 and "flags" in (head.names or ()) and head["flags"] == np.uint64:
            found[name] = data
        elif name == USUAL:
            found[name] = None
    return found


def load_scan_group(path: Path, group: str | None) -> tuple[MrdFile, Elsewhere]:
    """The scan of an MRD file, and the group with its noise lines where that is another one; see `scan_and_noise`."""
    chosen, noise = scan_group_names(path, group)
    elsewhere = None if noise is None else (f"the group {printable(noise)}", load_mrd(path, noise))
    return load_mrd(path, chosen), elsewhere


def scan_group_names(path: Path, group: str | None) -> tuple[str, str | None]:
    """Names of the two."""
    with opened_hdf5(path) as file:
        found = _flags(file)
    return scan_and_noise(found, group, path)


def scan_and_noise(
    found: Mapping[str, np.ndarray], group: str | None, path: Path, titles: Mapping[str, str] | None = None
) -> tuple[str, str | None]:
    """Name of the group that holds k-space, or ``group``; and of another with noise lines where that has none.

    Of several the last before the scan: scanners measure noise first.

    Parameters
    ----------
    found
        Flags of the lines of each group, in the order of the file.
    group, path
        Name that was given, and file.
    titles
        What to say beside the names.

    Raises
    ------
    InputError
        If there is no such group, or several hold k-space and none is named.
    """
    said = {name: f"{name} ({printable(titles[name])})" if titles else name for name in found}
    if group is not None and group not in found:
        raise InputError(
            f"{path.name} has no group of this name",
            expected=" or ".join(said.values()) or "a group with data and xml",
            received=group,
            remedy="Give one of these groups.",
        )
    holding = [name for name, flags in found.items() if makes_image(flags).any()]
    if group is None and len(holding) > 1:
        raise InputError(
            f"{path.name} holds several scans",
            expected="one group with k-space",
            received=", ".join(said[name] for name in holding),
            remedy=f"Choose one: --group {holding[-1]}, or group= in Python.",
        )
    names = list(found)
    chosen = group or (holding or names or [USUAL])[0]
    if chosen not in found or _has_noise(found[chosen]):
        return chosen, None
    place = names.index(chosen)
    noise = [name for name in names[place + 1 :] + names[:place] if _has_noise(found[name])]
    return chosen, noise[-1] if noise else None


def load_noise_group(path: Path) -> MrdFile:
    """The group of an MRD file that holds noise lines, the last of several; without any the first group."""
    with opened_hdf5(path) as file:
        found = _flags(file)
    holding = [name for name, flags in found.items() if _has_noise(flags)]
    return load_mrd(path, [*list(found)[:1], *holding][-1])


def _has_noise(flags: np.ndarray) -> bool:
    return bool(flagged(flags, NOISE).any())


def _members(file: h5py.File, name: str) -> list[str]:
    """Names inside a group; none of anything else, or of links that lead nowhere or go round in circles."""
    import h5py

    try:
        found = file.get(name)
    except RuntimeError:
        return []
    return list(found) if isinstance(found, h5py.Group) else []


def _natural(name: str) -> list[tuple[int, str]]:
    """So that dataset_10 comes after dataset_2."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
