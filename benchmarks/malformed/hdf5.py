"""Changes of HDF5 files: what stands under a name, attributes, headers, bytes."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from malformed.bases import HEADER
from malformed.changes import HUGE, NO_NUMBERS, Case, damage, no_scan, other_array

NUMBERS = ("INF", "-INF", "NaN", "0", "-1", "-7", "1e400", "1e10", "9999999999", "65536", "x", "", "٣", "0x10", "1.5")
# Datasets without which a file holds no scan or map.
NEEDED = ("kspace", "dataset/data", "image", "estimate/variance")
# Links that lead nowhere; and groups of which only k-space is read.
LINKS, UNREAD = ("soft", "loop", "outside", "self"), ("scan/", "a/b/")


def hdf5_structure(file: h5py.File, name: str, rng: random.Random, folder: Path) -> str:
    """Another thing under the name of a dataset."""
    how = rng.choice(
        ("gone", "group", "soft", "loop", "outside", "self", "huge", "huge chunks", "null", "text", "vlen")
    )
    path = file[name].name
    del file[path]
    if how == "group":
        file.create_group(path)
    elif how == "soft":
        file[path] = h5py.SoftLink("/nowhere")
    elif how == "loop":
        file[path] = h5py.SoftLink(path)
    elif how == "outside":
        file[path] = h5py.ExternalLink(rng.choice(("nowhere.h5", "/dev/zero", str(folder))), "/kspace")
    elif how == "self":
        file[path] = h5py.ExternalLink(Path(file.filename).name, path)
    elif how == "huge":
        dtype = rng.choice(("c8", "f4", "u1"))
        file.create_dataset(path, shape=(10**4, 8, 10**4, 10**3), dtype=dtype, chunks=(1, 1, 8, 8), compression="gzip")
    elif how == "huge chunks":
        space = h5py.h5s.create_simple((2**40, 2**10, 4))
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2**10, 2, 4))
        h5py.h5d.create(file.id, path.encode(), h5py.h5t.NATIVE_FLOAT, space, dcpl=properties)
    elif how == "null":
        file[path] = h5py.Empty(rng.choice(("f4", "c8", "S3")))
    elif how == "text":
        file[path] = rng.choice(("text", "", "[]", "{", "null", "3"))
    elif how == "vlen":
        kept = file.create_dataset(path, (3,), dtype=h5py.vlen_dtype(np.float32))
        kept[1] = np.arange(5)
    return how


def hdf5_attribute(attributes: Any, rng: random.Random) -> str:
    """An attribute that is missing, of another type, not finite or huge."""
    name = rng.choice(sorted(attributes))
    odd = (*NO_NUMBERS, -1, 0, *HUGE[:4], "text", "", b"\xff", [1, 2], [], [np.nan] * 3, True, 2 + 1j, h5py.Empty("f8"))
    value = rng.choice((None, *odd))
    del attributes[name]
    if value is not None:
        with contextlib.suppress(TypeError):
            attributes[name] = value
    return f"{name} = {value}"


def other_header(xml: str, rng: random.Random) -> str:
    """The header with another number, a field missing or doubled, or other text."""
    numbers = list(re.finditer(r">([\d.]+)<", xml))
    fields = list(re.finditer(r"<(\w+)>[^<]*</\1>|<(\w+)>(?:(?!<\2>).)*</\2>", xml, re.S))
    how = rng.random()
    if how < 0.5:
        spot = rng.choice(numbers)
        return xml[: spot.start(1)] + rng.choice(NUMBERS) + xml[spot.end(1) :]
    if how < 0.7:
        spot = rng.choice(fields)
        return xml[: spot.start()] + xml[spot.end() :]
    if how < 0.8:
        spot = rng.choice(fields)
        return xml[: spot.end()] + spot.group() + xml[spot.end() :]
    if how < 0.9:
        at = rng.randrange(len(xml))
        return xml[:at] + rng.choice(("<", ">", "&", "&bomb;", "\0", "<a/>", "]]>", "<!--", "é")) + xml[at + 1 :]
    return rng.choice(("", "text", "<a/>", xml[: rng.randrange(len(xml))], xml.replace("ismrmrdHeader", "header")))


def hdf5_case(
    path: Path, names: list[str], rng: random.Random, folder: Path, header: str | None, read: Callable[[], Any]
) -> Case:
    """Structure, header, attributes or bytes of an HDF5 file are changed."""
    how, damaged, subject = rng.random(), False, "file"
    if how < 0.4:
        data, what, damaged = damage(path.read_bytes(), rng)
        path.write_bytes(data)
        return Case(f"file: {what}", read, damaged)
    with h5py.File(path, "r+") as file:
        if how < 0.65 and header is not None:
            text = other_header(HEADER, rng)
            kept = file[header]
            raw = rng.random() < 0.3
            shape, dtype = kept.shape, kept.dtype
            del file[header]
            if raw or "\0" in text:
                file[header] = np.frombuffer(text.encode() or b" ", np.uint8) if raw else np.bytes_(b"?")
            else:
                stored = text.encode() if rng.random() < 0.5 else text.encode("latin-1", "replace")
                file.create_dataset(header, shape, dtype=dtype, data=[stored] if shape else stored)
            subject, what = "header", text[-200:] if len(text) < 200 else "changed"
        elif how < 0.8:
            subject = rng.choice(names)
            what = hdf5_structure(file, subject, rng, folder)
            damaged = subject in NEEDED or (what in LINKS and not subject.startswith(UNREAD))
        else:
            holders = [file, *(file[name] for name in file)]
            holders = [one.attrs for one in holders if len(one.attrs)]
            if holders and rng.random() < 0.6:
                subject, what = "attribute", hdf5_attribute(rng.choice(holders), rng)
            else:
                subject = rng.choice(names)
                kept = file[subject][()]
                if isinstance(kept, np.ndarray) and kept.dtype.kind in "fciub":
                    value, what = other_array(kept, rng)
                    del file[subject]
                    try:
                        file[subject] = value
                    except TypeError:
                        what = "gone"
                    # Voxels of a map may be without a value.
                    damaged = subject in NEEDED and (no_scan(value) if "kspace" in subject else value.size == 0)
                else:
                    what = hdf5_structure(file, subject, rng, folder)
                    damaged = subject in NEEDED or (what in LINKS and not subject.startswith(UNREAD))
    return Case(f"{subject}: {what}", read, damaged)
