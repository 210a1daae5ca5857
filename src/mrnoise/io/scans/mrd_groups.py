"""Which groups of an HDF5 file hold MRD scans: one file may hold several measurements."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrnoise.errors import InputError
from mrnoise.files.lists import fields
from mrnoise.files.opening import get, opened_hdf5
from mrnoise.io.scans.mrd_file import NOISE, MrdFile, flagged, load_mrd
from mrnoise.io.scans.mrd_roles import makes_image

if TYPE_CHECKING:
    import h5py

USUAL = "dataset"


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


def load_scan_group(path: Path, group: str | None) -> tuple[MrdFile, str | None]:
    """The scan of an MRD file that holds k-space, or that of ``group``; and another group that holds noise lines.

    Of several the last before the scan: scanners measure noise first.

    Raises
    ------
    InputError
        If there is no such group, or several hold k-space and none is named.
    """
    with opened_hdf5(path) as file:
        found = _flags(file)
    if group is not None and group not in found:
        raise InputError(
            f"{path.name} has no MRD group of this name",
            expected=" or ".join(found) or "a group with data and xml",
            received=group,
            remedy="Give one of these groups.",
        )
    holding = [name for name, flags in found.items() if makes_image(flags).any()]
    if group is None and len(holding) > 1:
        raise InputError(
            f"{path.name} holds several scans",
            expected="one group with k-space",
            received=", ".join(holding),
            remedy=f"Choose one: --group {holding[-1]}, or group= in Python.",
        )
    chosen = group or (holding or list(found) or [USUAL])[0]
    names = list(found)
    place = names.index(chosen) if chosen in names else 0
    noise = [name for name in names[place + 1 :] + names[:place] if _has_noise(found[name])]
    return load_mrd(path, chosen), noise[-1] if noise else None


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
