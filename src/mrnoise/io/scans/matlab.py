"""MATLAB files: version 5 to 7, and version 7.3, which is HDF5."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.files.opening import array, datasets, opened_hdf5, reading
from mrnoise.files.text import printable
from mrnoise.io.scans.complex_arrays import KINDS
from mrnoise.io.scans.matlab5 import matrices
from mrnoise.io.scans.scan_arrays import ScanArrays, chosen_arrays, noise_arrays, unused

START = b"MATLAB "
TEXT_LENGTH = 116


def matlab_arrays(path: Path) -> ScanArrays:
    """Arrays of a MATLAB file, their axes in the order in which MATLAB's ``size`` shows them.

    No order of axes is in general use: it is told by a noise scan, a mask or coil maps, or asked for.

    Raises
    ------
    InputError
        If the file cannot be read or none of its arrays is k-space.
    """
    values, notes = _hdf5(path) if is_hdf5(path) else _version5(path)
    return ScanArrays(values, path, "MATLAB", fastest_first=True, notes=notes)


def matlab_noise(path: Path) -> np.ndarray:
    """The array ``noise`` of a MATLAB file, (coil, sample) or (sample, coil)."""
    values, _ = _hdf5(path, noise=True) if is_hdf5(path) else _version5(path, noise=True)
    return values["noise"]


def is_hdf5(path: Path) -> bool:
    """Whether a MATLAB file is of version 7.3."""
    with reading(path, "a file that can be read"), path.open("rb") as file:
        return file.read(TEXT_LENGTH).startswith(b"MATLAB 7.3")


def _hdf5(path: Path, noise: bool = False) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    with opened_hdf5(path) as file:
        found = datasets(file)
        chosen = _noise_only(found, path) if noise else chosen_arrays(found, path)
        chosen.pop("axes", None)
        loaded = {ours: array(file, name, KINDS) for ours, name in chosen.items()}
    # HDF5 counts axes from the slowest, MATLAB from the fastest.
    return {name: some.T for name, some in loaded.items() if some is not None}, unused(found, chosen)


def _version5(path: Path, noise: bool = False) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    check_memory(path.stat().st_size, path.name)
    with reading(path, "a MATLAB file of version 5 to 7"):
        found, containers = matrices(path.read_bytes())
    if containers and not any("kspace" in name.lower() for name in found):
        raise InputError(
            f"{path.name} holds no array of numbers that is k-space",
            expected="an array named kspace",
            received=", ".join(printable(f"{name} (a {kind})") for name, kind in containers.items()),
            remedy="Save the fields of a struct as arrays: save('scan.mat', '-struct', 'data'). In version 7.3 "
            "structs are read.",
        )
    chosen = _noise_only(found, path) if noise else chosen_arrays(found, path)
    chosen.pop("axes", None)
    with reading(path, "a MATLAB file of version 5 to 7"):
        values = {ours: found[name].values() for ours, name in chosen.items()}
    return values, unused(found, chosen)


def _noise_only(found: Iterable[str], path: Path) -> dict[str, str]:
    names = noise_arrays(found)
    if len(names) != 1:
        raise InputError(
            f"{path.name} holds no array noise",
            expected="an array named noise, (coil, sample)",
            received=", ".join(map(printable, found)) or "no array of numbers",
            remedy="Rename the array to noise.",
        )
    return {"noise": names[0]}
