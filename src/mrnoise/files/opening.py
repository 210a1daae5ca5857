"""The door for files of others: what a library raises while it reads one becomes one error that names the file."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrnoise.checks import check_memory
from mrnoise.errors import InputError

if TYPE_CHECKING:
    import h5py

# What deflate, the filter of nearly all HDF5 files, makes of one byte at most.
MOST_PACKED = 1032
NUMBERS = "biufc"
# Groups within groups in which arrays are looked for.
DEPTH = 3
# Byte of an encoded type that holds the kind of a list (HDF5 file format specification, IV.A.2.d).
LIST_KIND = 3
CONVERT_AGAIN = "The file may be truncated: copy or convert it again."


@contextmanager
def reading(path: Path, expected: str, remedy: str = CONVERT_AGAIN, *, problem: str | None = None) -> Iterator[None]:
    """Within, a library reads ``path``: whatever it raises becomes `InputError` with its last words; it says nothing.

    Libraries raise anything on a damaged file: besides `OSError` also `KeyError`, `RuntimeError`, `zlib.error`,
    `NotImplementedError`, `struct.error`, `MemoryError`. So only calls of a library belong into this block, and what it
    gave is checked outside.
    """
    logged = logging.root.manager.disable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable()
            yield
    except InputError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        size = f"{path.stat().st_size} bytes" if os.path.isfile(path) else "no file"
        raise InputError(
            problem or f"cannot read {path.name}",
            expected=expected,
            received=f"{path} ({size}: {words[:300]})",
            remedy=remedy,
        ) from error
    finally:
        logging.disable(logged)


def check_is_file(path: Path, expected: str) -> None:
    """Raise `InputError` where there is no such file, whatever its name."""
    if not os.path.isfile(path):
        raise InputError(
            f"there is no file {path}",
            expected=expected,
            received="a folder" if os.path.isdir(path) else "a path that does not exist",
            remedy="Check the path.",
        )


@contextmanager
def opened_hdf5(
    path: Path, expected: str = "a complete HDF5 file", *, problem: str | None = None
) -> Iterator[h5py.File]:
    """An HDF5 file to be read; as `reading`."""
    import h5py

    with reading(path, expected, problem=problem), h5py.File(path, "r") as file:
        yield file


def get(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """The dataset of this name, ``None`` where there is none or something else.

    Raises
    ------
    InputError
        If it is a link that leads nowhere, of a type that is none, or declares more data than its file can hold, or
        than there is memory.
    """
    import h5py

    path = Path(group.file.filename)
    if _leads_nowhere(group, name):
        raise InputError(
            f"{name} in {path.name} is a link that leads nowhere",
            expected="an array, or a link to one",
            received="no file, no array or a circle behind it",
            remedy="Copy the file that it leads to, too, or put the array in the place of the link.",
        )
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        return None
    _check_type(found.id.get_type(), name, path)
    declared = math.prod(found.shape or ()) * found.dtype.itemsize
    elsewhere = found.is_virtual or found.external
    if not elsewhere and declared > MOST_PACKED * path.stat().st_size:
        raise InputError(
            f"{name} in {path.name} declares more than its file can hold",
            expected=f"at most {MOST_PACKED} times the {path.stat().st_size} bytes of the file",
            received=f"{found.dtype}, shape {found.shape}",
            remedy="The file is damaged, or its data were never written: convert it again.",
        )
    check_memory(declared, f"{name} in {path.name}")
    return found


def attribute(group: h5py.Group, name: str) -> Any:
    """An attribute.

    Raises
    ------
    KeyError
        If there is none.
    InputError
        If it is of a type that is none.
    """
    _check_type(group.attrs.get_id(name).get_type(), name, Path(group.file.filename))
    return group.attrs[name]


def _check_type(kind: h5py.h5t.TypeID, name: str, path: Path) -> None:
    """Raise if a list of any length holds neither values (0) nor text (1)."""
    import h5py

    if isinstance(kind, h5py.h5t.TypeVlenID) and kind.encode()[LIST_KIND] & 0xF > 1:
        raise InputError(
            f"cannot read {path.name}",
            expected="a complete HDF5 file",
            received=f"{path} ({name} is a list of an unknown kind)",
            remedy=CONVERT_AGAIN,
        )
    if isinstance(kind, h5py.h5t.TypeVlenID | h5py.h5t.TypeArrayID):
        _check_type(kind.get_super(), name, path)
    elif isinstance(kind, h5py.h5t.TypeCompoundID):
        for number in range(kind.get_nmembers()):
            _check_type(kind.get_member_type(number), name, path)


def _leads_nowhere(group: h5py.Group, name: str) -> bool:
    """Whether there is a link of this name, and nothing behind it."""
    try:
        return group.get(name) is None and group.get(name, getlink=True) is not None
    except RuntimeError:  # round in circles
        return True


def datasets(group: h5py.Group, depth: int = DEPTH) -> dict[str, tuple[int, ...]]:
    """Shapes of the datasets of a group and the groups in it, by their names; ``a/b`` lies in group a.

    The shape of a link that leads nowhere is (): whoever asks `get` for it is told.
    """
    import h5py

    found: dict[str, tuple[int, ...]] = {}
    for name in group:
        part = None if _leads_nowhere(group, name) else group[name]
        if part is None or isinstance(part, h5py.Dataset):
            found[name] = () if part is None else part.shape or ()
        elif isinstance(part, h5py.Group) and depth > 1:
            found |= {f"{name}/{inner}": shape for inner, shape in datasets(part, depth - 1).items()}
    return found


def array(group: h5py.Group, name: str, kinds: str = NUMBERS) -> np.ndarray | None:
    """The values of a dataset, ``None`` where there is none.

    Raises
    ------
    InputError
        If they are of no such kind, see `check_kind`, or as `get`.
    """
    found = get(group, name)
    if found is None:
        return None
    path = Path(group.file.filename)
    try:
        # Lists and texts are no numbers, whatever they hold.
        numeric = found.shape is not None and found.dtype.kind != "O"
        values = np.asarray(found[()]) if numeric else np.array(None)
    except OSError as error:
        if not any(word in str(error) for word in ("filter", "plugin")):
            raise
        raise InputError(
            f"{name} in {path.name} is compressed by a filter that HDF5 does not have here",
            expected="no compression, or gzip, shuffle, lzf",
            received=" ".join(str(error).split()),
            remedy="Where the file comes from, run h5repack -f NONE on it; or install hdf5plugin and set "
            "HDF5_PLUGIN_PATH to its folder plugins.",
        ) from error
    return check_kind(values, name, path, kinds)


def check_kind(values: np.ndarray, name: str, path: Path, kinds: str = NUMBERS) -> np.ndarray:
    """Raise `InputError` unless an array holds ``kinds``, numbers by default; extended precision becomes double."""
    if values.dtype.kind not in kinds:
        raise InputError(
            f"{name} in {path.name} is not {'text' if kinds == 'U' else 'numeric'}",
            expected="text" if kinds == "U" else "numbers",
            received=f"{values.dtype}, shape {values.shape}",
            remedy="Save a plain array.",
        )
    if values.dtype.kind in "fc" and values.dtype.itemsize > (8 if values.dtype.kind == "f" else 16):
        return values.astype(np.float64 if values.dtype.kind == "f" else np.complex128)
    return values


def text(group: h5py.Group, name: str) -> bytes | None:
    """The text of a dataset, as it is stored; ``None`` where there is none."""
    found = get(group, name)
    if found is None:
        return None
    value: Any = np.asarray(found[()]).ravel()[:1].tolist() if found.shape is not None else []
    return value[0] if value and isinstance(value[0], bytes) else str(*value).encode("utf-8", "replace")
