"""Scans as lines: MRD of both versions, raw data of Siemens scanners."""

from __future__ import annotations

import contextlib
import enum
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from malformed.bases import base
from malformed.changes import HUGE, NO_NUMBERS, Case, damage, no_scan, other_array, other_field
from malformed.hdf5 import hdf5_case
from malformed.uses import use_scan


def mrd(rng: random.Random, folder: Path) -> Case:
    """An HDF5 file of lines."""
    path = folder / "scan.h5"
    shutil.copy(base("mrd"), path)
    noise = path if rng.random() < 0.2 else None

    def read() -> None:
        use_scan(path, noise=noise)

    if rng.random() < 0.7:
        return hdf5_case(path, ["dataset/data", "dataset/xml"], rng, folder, "dataset/xml", read)
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        how, damaged = rng.random(), False
        if how < 0.6:
            what = f"{' = '.join(map(str, other_field(lines['head'], rng)))} everywhere"
            if rng.random() < 0.5:
                what = " = ".join(map(str, other_field(lines["head"][(at := rng.randrange(len(lines))) :][:1], rng)))
                what += f" in line {at}"
            file["dataset/data"][...] = lines
        elif how < 0.75:
            at = rng.randrange(len(lines))
            values, what = other_array(lines["data"][at], rng)
            lines["data"][at] = np.asarray(values.ravel() if values.dtype.kind in "fiu" else [], np.float32)
            damaged = not np.isfinite(lines["data"][at]).all() or lines["data"][at].size == 0
            file["dataset/data"][...] = lines
        else:
            what = _record_without(file, lines, rng)
            damaged = what.startswith("without head.") and "flags" in what
    return Case(f"lines: {what}", read, damaged)


def _record_without(file: h5py.File, lines: np.ndarray, rng: random.Random) -> str:
    """Lines whose record lacks a field, or has one of another type."""
    head = lines.dtype["head"]
    gone = rng.choice([*head.names, *(f"idx.{name}" for name in head["idx"].names)])
    inner = np.dtype([(name, head["idx"][name]) for name in head["idx"].names if f"idx.{name}" != gone])
    kept = [(name, inner if name == "idx" else head[name]) for name in head.names if name != gone]
    how = rng.choice(("gone", "float", "array"))
    if how != "gone" and not gone.startswith("idx"):
        kept.append((gone, "f8" if how == "float" else ("i4", (2,))))
    smaller = np.dtype(kept)
    record = np.dtype([("head", smaller), ("traj", h5py.vlen_dtype(np.float32)), ("data", h5py.vlen_dtype(np.float32))])
    found = np.zeros(len(lines), record)
    for name in smaller.names:
        if name == "idx":
            for deeper in inner.names:
                found["head"]["idx"][deeper] = lines["head"]["idx"][deeper]
        elif smaller[name] == head[name]:
            found["head"][name] = lines["head"][name]
    found["traj"], found["data"] = lines["traj"], lines["data"]
    del file["dataset/data"]
    file["dataset"].create_dataset("data", data=found)
    return f"without head.{gone}" if how == "gone" or gone.startswith("idx") else f"head.{gone} as {how}"


ODD = (None, *NO_NUMBERS, 0, -1, 1, 2, 1e300, *HUGE, "", "x", "\0", "<x & y", "n" * 300, [], [0] * 2000, 2**64 - 1)


def mrd2(rng: random.Random, folder: Path) -> Case:
    """A stream of version 2: bytes, or a value of its header or of a line that cannot be."""
    import mrd as mrd2

    path, damaged = folder / "scan.mrd", False
    if rng.random() < 0.5:
        data, what, damaged = damage(base("mrd2").read_bytes(), rng)
        path.write_bytes(data)
        return Case(f"file: {what}", lambda: use_scan(path), damaged)
    while True:  # until the format holds the value
        with mrd2.BinaryMrdReader(str(base("mrd2"))) as stream:
            header, items = stream.read_header(), list(stream.read_data())
        how = rng.random()
        line = rng.choice(items).value
        if how < 0.3:
            line.data, what = other_array(line.data, rng)
            # Lines of another number of channels are left out, with a count.
            damaged = no_scan(line.data) and line.data.shape[:1] != (0,)
        else:
            holder, name = rng.choice(list(_places(header if how < 0.65 else line.head)))
            value = rng.choice(ODD)
            setattr(holder, name, value)
            what, damaged = f"{type(holder).__name__}.{name} = {str(value)[:40]}", False
        with contextlib.suppress(Exception), mrd2.BinaryMrdWriter(str(path)) as file:
            file.write_header(header)
            file.write_data(items)
            return Case(what, lambda: use_scan(path), damaged)


TWIX_NUMBER = re.compile(rb"(?<=[=\t {])-?\d[\d.]*(?=[\s}])")


def twix(rng: random.Random, folder: Path) -> Case:
    """Raw data of Siemens scanners: bytes, or a number of the protocol."""
    whole, path = base(f"twix {rng.choice(('VB', 'VD'))}").read_bytes(), folder / "scan.dat"
    if rng.random() < 0.5:
        # Behind the last line there may be an empty part of a block of 512 bytes.
        data, what, damaged = damage(whole, rng, tail=512)
    else:
        found = list(TWIX_NUMBER.finditer(whole[: whole.index(b"Spice")]))
        one = rng.choice(found)
        number = rng.choice(("0", "-1", "nan", "inf", "1e9", "65535", "x", "", "9" * 12, '"a"', "0x10"))
        number = number[: len(one.group())].ljust(len(one.group()))
        data, damaged = whole[: one.start()] + number.encode() + whole[one.end() :], False
        line = whole[whole.rindex(b"\n", 0, one.start()) + 1 : one.start()][-60:].decode("latin1")
        what = f"{line} {number}"
    path.write_bytes(data)
    noise = path if rng.random() < 0.2 else None
    return Case(f"file: {what}", lambda: use_scan(path, noise=noise), damaged)


def _places(part: Any) -> Iterator[tuple[Any, str]]:
    """Every value in an object of objects and lists of objects: its holder and its name.

    Those in a member of an enumeration are left: there is one of it for all files.
    """
    for name, value in vars(part).items():
        yield part, name
        for inner in value if isinstance(value, list) else [value]:
            if type(inner).__module__.startswith("mrd") and not isinstance(inner, enum.Enum):
                yield from _places(inner)
