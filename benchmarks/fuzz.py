"""Malformed files and odd commands: each must be read right or refused with one clear error.

python benchmarks/fuzz.py [--inputs 1000] [--seed 0] [--kinds npz mrd fastmri map roi command]

Inputs are small, simulated and generated anew from (kind, seed); nothing that is found is stored. They run in a process
that is started anew when it dies, with 2 GiB more address space than it starts with and 20 s for each.

| column | what it counts |
|---|---|
| right | read, or done |
| clear error | `mrnoise.errors.InputError`; of a command one error, exit code 2, no file left in its folder |
| traceback | any other exception, a warning of a library that reaches the terminal, more than one error of a command |
| killed | the process died, or wanted more memory than it may have |
| hung | 20 s were not enough |
| silent | damage that is known to be damage, and was accepted |

**Silent** is counted only where the input says by itself that it is broken: a file of which a part was cut off, an
array without a value it needs or of another rank, sizes below zero, numbers that are not finite where a length or a
count stands, an option out of its range. A changed byte inside the numbers of a file without checksums is a different
file, not a damaged one: HDF5 and NIfTI as written by most programs have none, and such inputs count as right when read.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gzip
import io
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LIMIT_S, LIMIT_BYTES = 20.0, 2 * 2**30
COILS, NY, NX = 3, 24, 20
COLUMNS = ("right", "clear error", "traceback", "killed", "hung", "silent")
HUGE = (10**10, 10**6, 2**31 - 1, 2**31, 2**62, 65535)
NO_NUMBERS = (np.nan, np.inf, -np.inf)


@dataclass
class Case:
    """What one input does: ``act`` it, in a folder; ``damaged`` where accepting it would be wrong."""

    what: str
    act: Callable[[], Any]
    damaged: bool = False


# -- bytes -----------------------------------------------------------------------------------------------------


def damage(data: bytes, rng: random.Random, tail: int = 0) -> tuple[bytes, str, bool]:
    """Bytes flipped, cut, zeroed, inserted or repeated; and whether that is certain damage.

    ``tail`` is the number of bytes at the end that hold nothing that is needed.
    """
    found, size = bytearray(data), len(data)
    head = rng.random() < 0.5
    end = rng.random() < 0.3

    def place() -> int:
        if head:
            return rng.randrange(min(size, 2048))
        return rng.randrange(max(size - 1024, 0), size) if end else rng.randrange(size)

    how = rng.choice(("flip", "flip", "flip", "cut", "zero", "insert", "repeat", "ones"))
    if how == "flip":
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            found[place()] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
        return bytes(found), "bytes flipped", False
    if how == "cut":
        left = rng.choice((rng.randrange(size), max(size - 1 - rng.randrange(64), 0)))
        return bytes(found[:left]), f"cut to {left} of {size} bytes", left < size - tail
    start = place()
    length = rng.choice((1, 4, 8, 64, 512, size))
    if how in ("zero", "ones"):
        stop = min(start + length, size)
        found[start:stop] = (b"\x00" if how == "zero" else b"\xff") * (stop - start)
        return bytes(found), f"bytes {start} to {stop} set", False
    if how == "insert":
        found[start:start] = rng.randbytes(min(length, 512))
    else:
        found[start:start] = found[start : start + length]
    return bytes(found), f"bytes put in at {start}", False


# -- arrays ----------------------------------------------------------------------------------------------------

TYPES = ("g", "G", "e", "f4", ">f8", "c8", ">c16", "?", "i1", "u8", ">i2", "S5", "U4", "M8[s]", "V3", "O", "struct")


def other_type(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """The array as another type, as far as that is possible."""
    kind = rng.choice(TYPES)
    if kind == "struct":
        found = np.zeros(array.shape, dtype=[("a", "f8"), ("b", "i2")])
    elif kind == "O":
        found = np.full(array.shape, None, dtype=object)
    elif kind in ("V3", "M8[s]"):
        found = np.zeros(array.shape, dtype=kind)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = array.astype(kind)
            except (TypeError, ValueError):
                found = np.zeros(array.shape, dtype=kind)
    return found, f"type {kind}"


def other_shape(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """The array with another shape."""
    how = rng.choice(("empty", "scalar", "flat", "short", "more", "transposed", "none"))
    if how == "empty" and array.ndim:
        axis = rng.randrange(array.ndim)
        found = np.take(array, [], axis=axis)
    elif how == "scalar" and array.size:
        found = array.ravel()[:1].reshape(())
    elif how == "flat":
        found = array.ravel()
    elif how == "short" and array.ndim:
        found = array[: rng.randrange(1, 3)]
    elif how == "more":
        found = array[(None,) * rng.randrange(1, 5)]
    elif how == "none":
        found = np.zeros((0,), array.dtype)
    else:
        found = array.T
    return found, f"shape {found.shape}"


def other_values(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """The array with a value that cannot be."""
    found = np.array(array)
    if found.dtype.kind not in "fciu" or not found.size:
        return found, "as it was"
    value = rng.choice((*NO_NUMBERS, 0, -1, *HUGE, 1e300))
    at = rng.randrange(found.size) if rng.random() < 0.5 else slice(None)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if found.dtype.kind in "iu":
            value = int(value) if np.isfinite(value) else 2**62
            found = found.astype(object)
            found.ravel()[at] = value
            try:
                found = found.astype(np.int64)
            except OverflowError:
                found = found.astype(float)
        else:
            found.ravel()[at] = value
    return found, f"value {value}"


def other_array(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, str]:
    """Another type, shape or value."""
    return rng.choice((other_type, other_shape, other_values))(array, rng)


def scan_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A small scan with noise and everything that an archive may hold."""
    noise = rng.standard_normal((2, COILS, NY, NX + 30)) @ np.eye(NX + 30)
    kspace = (noise[0, :, :, :NX] + 1j * noise[1, :, :, :NX]).astype(np.complex64)
    kspace[:, NY // 2, NX // 2] += 300
    scan = (noise[0, :, :, NX:] + 1j * noise[1, :, :, NX:]).reshape(COILS, -1)
    return {
        "kspace": kspace,
        "noise": scan.astype(np.complex64),
        "mask": np.ones((NY, NX), bool),
        "coil_maps": np.ones((COILS, NY, NX), np.complex64),
        "voxel_size": np.array([5.0, 1.0, 2.0]),
        "spatial_dims": np.array(2),
    }


# -- npz -------------------------------------------------------------------------------------------------------


def npz(rng: random.Random, folder: Path) -> Case:
    """An archive with arrays of other types, shapes and values, declared sizes, or damaged bytes."""
    arrays: dict[str, Any] = scan_arrays(np.random.default_rng(rng.randrange(2**32)))
    path, what, damaged = folder / "scan.npz", "", False
    if rng.random() < 0.2:
        angle = np.linspace(0, 6, 400)
        arrays |= {
            "kspace": arrays["noise"][:, :400],
            "trajectory": 8 * np.stack([np.sin(angle), np.cos(angle)]),
            "density": np.ones(400),
            "image_shape": np.array([NY, NX]),
        }
        del arrays["mask"], arrays["coil_maps"]
    if rng.random() < 0.4:
        arrays["axes"] = np.array([], dtype=str)
    how = rng.random()
    name = rng.choice(list(arrays))
    if how < 0.4:
        arrays[name], what = other_array(np.asarray(arrays[name]), rng)
        damaged = name == "kspace" and (arrays[name].size == 0 or arrays[name].ndim < 2)
        damaged |= name == "voxel_size" and arrays[name].dtype.kind == "f" and not np.isfinite(arrays[name]).all()
    elif how < 0.5:
        odd = (2, 0, -1, 1, 3, 4, 10**6, 2**40, 2.5, np.nan, "two", [2, 2], [], None, True, 2 + 1j)
        arrays[name := "spatial_dims"] = np.array(rng.choice(odd))
        what = str(arrays[name])
    elif how < 0.6:
        odd_axes = (["slice"], ["slice", "frame"], "x", ["coil"], [1], [b"a"], [["a"]], ["\udcff"], [""], 3.0)
        arrays[name := "axes"] = np.array(rng.choice(odd_axes))
        what = str(arrays[name])
    write = np.savez_compressed if rng.random() < 0.5 else np.savez
    write(path, **arrays)
    if 0.6 <= how < 0.75:
        what, damaged = _declared(path, arrays, name, rng), True
    elif how >= 0.75:
        data, what, damaged = damage(path.read_bytes(), rng)
        path.write_bytes(data)
        name = "file"
    return Case(f"{name}: {what}", lambda: use_scan(path, rng), damaged and name in ("file", "kspace", "voxel_size"))


def _declared(path: Path, arrays: dict[str, Any], name: str, rng: random.Random) -> str:
    """An entry whose header declares another size than it has."""
    shape = rng.choice(
        ((10**6, 10**6), (2**40, 2, 2), (COILS, NY, 10**7), (2**62, 2**62), (-1, 4), (COILS, 3 * NY, NX))
    )
    header = f"{{'descr': '<c8', 'fortran_order': False, 'shape': {shape}, }}"
    entry = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n" + bytes(64)
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(path, "w", packing) as archive:
        for other, array in arrays.items():
            text = io.BytesIO()
            np.lib.format.write_array(text, np.asarray(array))
            archive.writestr(f"{other}.npy", entry if other == name else text.getvalue())
    return f"declared {shape}"


# -- HDF5 ------------------------------------------------------------------------------------------------------


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


XML_NUMBERS = (
    "INF",
    "-INF",
    "NaN",
    "0",
    "-1",
    "-7",
    "1e400",
    "1e10",
    "9999999999",
    "65536",
    "x",
    "",
    "٣",
    "0x10",
    "1.5",
)


def other_header(xml: str, rng: random.Random) -> str:
    """The header with another number, a field missing or doubled, or other text."""
    import re

    numbers = list(re.finditer(r">([\d.]+)<", xml))
    fields = list(re.finditer(r"<(\w+)>[^<]*</\1>|<(\w+)>(?:(?!<\2>).)*</\2>", xml, re.S))
    how = rng.random()
    if how < 0.5:
        spot = rng.choice(numbers)
        return xml[: spot.start(1)] + rng.choice(XML_NUMBERS) + xml[spot.end(1) :]
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


HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <acquisitionSystemInformation><systemVendor>V</systemVendor><systemFieldStrength_T>3</systemFieldStrength_T>
  <relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth><receiverChannels>3</receiverChannels>
  <coilLabel><coilNumber>0</coilNumber><coilName>a</coilName></coilLabel>
  <coilLabel><coilNumber>1</coilNumber><coilName>b</coilName></coilLabel>
  <coilLabel><coilNumber>2</coilNumber><coilName>c</coilName></coilLabel></acquisitionSystemInformation>
 <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>20</x><y>24</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>400</x><y>240</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>10</x><y>24</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>200</x><y>240</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>23</maximum><center>12</center>
  </kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>"""


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
            damaged = subject in ("kspace", "dataset/data", "image", "estimate/variance")
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
                    damaged = subject in ("kspace", "image", "estimate/variance") and (
                        value.size == 0 or value.ndim < 2
                    )
                else:
                    what = hdf5_structure(file, subject, rng, folder)
                    damaged = subject in ("dataset/data",)
    return Case(f"{subject}: {what}", read, damaged)


def fastmri(rng: random.Random, folder: Path) -> Case:
    """A file of the fastMRI kind."""
    path = folder / "scan.h5"
    arrays = scan_arrays(np.random.default_rng(rng.randrange(2**32)))
    with h5py.File(path, "w") as file:
        packing = {"compression": "gzip", "chunks": True} if rng.random() < 0.5 else {}
        file.create_dataset("kspace", data=arrays["kspace"][None], **packing)
        file.create_dataset("noise", data=arrays["noise"], **packing)
        file["mask"] = np.ones(NX)
        file["ismrmrd_header"] = HEADER
        file.attrs.update(acquisition="T2", max=1.0)
    return hdf5_case(
        path, ["kspace", "noise", "mask", "ismrmrd_header"], rng, folder, "ismrmrd_header", lambda: use_scan(path, rng)
    )


def mrd(rng: random.Random, folder: Path) -> Case:
    """A file of MRD lines."""
    path = folder / "scan.h5"
    shutil.copy(_base("mrd"), path)

    def read() -> Any:
        return use_scan(path, rng)

    if rng.random() < 0.7:
        return hdf5_case(path, ["dataset/data", "dataset/xml"], rng, folder, "dataset/xml", read)
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        if rng.random() < 0.6:
            head = lines["head"]
            fields = [name for name in head.dtype.names if name != "idx"]
            inner = [("idx", name) for name in head["idx"].dtype.names]
            field = rng.choice([*((name,) for name in fields), *inner])
            column = head[field[0]] if len(field) == 1 else head[field[0]][field[1]]
            one = column[rng.randrange(len(lines))] if rng.random() < 0.5 and column.ndim > 1 else column
            at = rng.randrange(one.size) if rng.random() < 0.5 else slice(None)
            odd = (0, 1, 2, 65535, *NO_NUMBERS, 1e38) if one.dtype.kind == "f" else (0, 1, 2**7, 65535, 2**64 - 1)
            value = rng.choice(odd)
            if one.dtype.kind in "iu":
                value = int(value) % 2 ** (8 * one.dtype.itemsize - (one.dtype.kind == "i"))
            flat = one.reshape(-1)
            flat[at] = value
            if not np.shares_memory(flat, one):
                one[...] = flat.reshape(one.shape)
            what = f"{'.'.join(field)} = {value}"
            file["dataset/data"][...] = lines
        else:
            what = _record_without(file, lines, rng)
    return Case(f"lines: {what}", read, what.startswith("without head.") and "flags" in what)


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


# -- maps and regions ------------------------------------------------------------------------------------------


def map_(rng: random.Random, folder: Path) -> Case:
    """A saved noise map."""
    path = folder / "map.h5"
    shutil.copy(_base("map"), path)
    names: list[str] = []
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        names = [name for name in names if not name.startswith("maps")]
        if rng.random() < 0.15:
            group = rng.choice([file["estimate"], file["estimate/error"], file["geometry"]])
            what = hdf5_attribute(group.attrs, rng)
            bad = any(f"{key} = {value}" in what for key in ("voxel_size", "n_samples") for value in ("nan", "inf"))
            return Case(f"attribute: {what}", lambda: use_map(path), bad)
    return hdf5_case(path, names, rng, folder, None, lambda: use_map(path))


def roi(rng: random.Random, folder: Path) -> Case:
    """A mask: npy, npz or NIfTI."""
    import nibabel

    mask: np.ndarray = np.zeros((NY, NX), np.uint8)
    mask[4:9, 5:12] = 1
    ending = rng.choice((".npy", ".npz", ".nii", ".nii.gz"))
    path, what, damaged = folder / f"roi{ending}", "as it was", False
    structural = rng.random() < 0.4
    if structural:
        mask, what = other_array(mask, rng)
        damaged = mask.size == 0 or mask.ndim < 2
    if ending == ".npy":
        np.save(path, mask)
    elif ending == ".npz":
        np.savez(path, mask)
    else:
        try:
            nibabel.Nifti1Image(mask.T[..., None] if mask.ndim == 2 else mask.T, np.eye(4)).to_filename(path)
        except Exception:  # no NIfTI holds this
            np.save(path.with_suffix(".npy"), mask)
            path = path.with_suffix(".npy")
    if not structural:
        data = path.read_bytes()
        if ending == ".nii.gz" and rng.random() < 0.5:
            data, what, damaged = damage(gzip.decompress(data), rng)
            path.write_bytes(gzip.compress(data))
        else:
            # The checksum at the end of a gzip file is never read.
            data, what, damaged = damage(data, rng, tail=12 if ending == ".nii.gz" else 0)
            path.write_bytes(data)
    return Case(f"{ending}: {what}", lambda: use_region(path), damaged)


def use_scan(path: Path, rng: random.Random) -> None:
    """Read and describe."""
    import mrnoise

    scan = mrnoise.read(path, noise=path if rng.random() < 0.2 else None)
    scan.noise_covariance.describe()
    _ = scan.acceleration, scan.geometry.affine_for((1, *scan.spatial_shape)[-3:]), scan.image_shape


def use_map(path: Path) -> None:
    """Read, compute every quantity, write again."""
    import torch

    import mrnoise
    from mrnoise.foreground import foreground
    from mrnoise.result.quantities import quantities

    nm = mrnoise.read_noise_map(path)
    for quantity in quantities().values():
        quantity.value(nm)
    inside = foreground(nm.image) if bool(torch.isfinite(nm.image.abs()).all()) else None
    nm.confidence_interval()
    _ = nm.relative_error, inside, nm.linearity and nm.linearity.sentence
    mrnoise.save(nm, path.with_name("again.nii"))
    mrnoise.save(nm, path.with_name("again.h5"))


def use_region(path: Path) -> None:
    """As ``--region``."""
    from mrnoise.acquisition.geometry import Geometry
    from mrnoise.acquisition.image_grid import ImageGrid
    from mrnoise.cli.region import region

    region(str(path), ImageGrid((NY, NX), 2, (), Geometry(measured=False)))


# -- the command line ------------------------------------------------------------------------------------------

COUNTS = ("-1", "0", "-9223372036854775809", "99999999999999999999", "1e3", "nan", "x", "")
FLOATS = ("nan", "inf", "-inf", "-1", "1e400", "x", "")
SEEDS = ("-1", "-99999999999999999999", "x")
LONG = "n" * 300
NAMES = (
    LONG,
    f"{LONG}/{LONG}",
    "a[red]b",
    "[/]",
    "[/red]x",
    "b\udcffc",
    "a\nb",
    ":smile:",
    "no/such/thing",
    "/proc/none",
    "/dev/null/x",
    "SCAN/x",
    ".",
    "",
    "%s{0}",
    "ünïcode",
)
INDICES = ("-1", "9", "99999999999999999999", "x")


def _commands() -> list[tuple[str, dict[str, tuple[str, ...]], set[str]]]:
    """A command, odd values of each option ("": of the argument), and the options of which every value is wrong."""
    box = "roi SCAN --region box:4,4,12,12"
    endings = (".h5", "", ".png", ".html", ".nii.gz", ".json", ".x")
    given = {
        "--slice": INDICES,
        "--noise": NAMES,
        "--device": ("[/]", "", "cuda:99", "meta", "cpu:7", "vulkan"),
        "--regularization": FLOATS,
        "": NAMES,
    }
    scan = given | {
        "--seed": SEEDS,
        "-r": (*NAMES, "x:y", "os:getcwd", "[a]:b"),
        "--weights": NAMES,
        "--coil-maps": ("[/]", "", "FIXED"),
    }
    drawn = {
        "--calibration": ("-1", "999", "99999999999999999999"),
        "--sampling-seed": SEEDS,
        "--pattern": ("", "[/]"),
        "-R": ("nan", "inf", "-inf", "0", "-1", "0.5", "1e400", "x"),
    }
    outputs = {"-o": tuple(name + ending for name in NAMES for ending in endings)}
    numbers = {"--json": tuple(f"{name}.json" for name in NAMES)}
    figure = {"-o": tuple(f"{name}.png" for name in NAMES), **numbers}
    ranked = {"-n": COUNTS, "-R": ("0", "-1", "99", "nan", "x"), "--seed": SEEDS, **figure}
    matrices = ("10000000000,4", "100000,100000", "1,1", "0,4", "-1,4", "4", "4,4,4,4", "x", "", "2,2,10000000000")
    simulated = {
        "--matrix": matrices,
        "--slices": COUNTS[:4],
        "--coils": COUNTS[:4],
        "--snr": (*FLOATS, "0"),
        "--noise-samples": ("-1", "0", "99999999999999", "99999999999999999999"),
        "--seed": SEEDS,
        "": tuple(f"{name}.npz" for name in NAMES),
    }
    regions = ("box:1,1,1,1", "circle:9,9,9e9", f"circle:{'9' * 400},1,1", f"box:{'9' * 30},1,2,3", *NAMES)
    places = {"--background": NAMES, "--voxel": (*NAMES, "1,2,3", "9" * 30 + ",1")}
    masks = {"--draws": COUNTS[:4], "--patterns": ("", ",", "equispaced,", "[/]", "all"), "--roi": NAMES}
    rates = ("", "0", "-1", "nan", "1", "\u00b2", "4,,8", "9" * 30)
    targets = {"--target-error": (*FLOATS, "0")}
    wrong = {"--seed", "--sampling-seed", "--slice", "-R", "--snr", "--coils", "--slices", "--target-error"}
    patterns = "rank patterns SCAN -R 2 --roi box:4,4,12,12 -n 16 --draws 2 --patterns equispaced,random_1d"
    networks = "rank networks SCAN -R 2 -r sense -n 16 --repeats 2"
    return [
        ("info SCAN", {"--noise": NAMES, "": NAMES}, wrong),
        ("map SCAN -n 8 -m sketch", {**scan, **outputs, "-m": ("[/]", ""), "--resume": ("",)}, wrong),
        ("map SCAN -m sketch", {**targets, "-n": COUNTS, "--batch-size": COUNTS[:4]}, {*wrong, "-n", "--batch-size"}),
        ("map SCAN -n 8 -m sketch -R 2 --pattern random_1d --calibration 4", drawn, wrong),
        ("gfactor SCAN", {**given, **outputs, "--reference": NAMES}, wrong),
        ("gfactor MAP --reference MAP", {**outputs, "-R": drawn["-R"][:5]}, wrong),
        (box, {**scan, **numbers, **places}, wrong),
        (f"{box} --noise-power -n 32", {"-n": COUNTS, "-o": tuple(f"{name}.html" for name in NAMES)}, {"-n"}),
        ("roi SCAN --voxel 9,9", {"--lesion-width": FLOATS, **targets}, {"--target-error"}),
        ("roi SCAN", {"--region": regions}, wrong),
        ("compare MAP MAP", {"--mask": NAMES, "": NAMES}, wrong),
        (patterns, {**ranked, **masks, **given}, wrong - {"-R"}),
        (networks, {**ranked, "--repeats": COUNTS[:4]}, wrong - {"-R"}),
        ("simulate out.npz --matrix 16,12 --noise-samples 100", simulated, wrong),
        ("simulate out.npz --matrix 16,12 -R 2 --pattern random_1d --calibration 2", drawn, wrong),
        ("evaluate WEIGHTS", {"--accelerations": rates, "": NAMES, "--data": NAMES[:14]}, {"--accelerations"}),
        ("train RECIPE", {"": (*NAMES, "RECIPE"), "--size": ("[/]", "")}, {""}),
        ("reproduce --only pico", {"--only": ("[/]", ""), "--workers": ("0", "-1")}, {"--workers", "--only"}),
        ("demo", {"--seed": SEEDS, **targets}, wrong),
    ]


UNWRITABLE = (LONG, f"{LONG}/x", "/proc/none", "/dev/null/x", "SCAN/x", "/proc/1/x")


def command(rng: random.Random, folder: Path) -> Case:
    """A command with one odd value, or an output that cannot be written."""
    base, options, wrong = rng.choice(_commands())
    words = base.split()
    if "-o" in options and rng.random() < 0.2:
        options, wrong = {"-o": UNWRITABLE}, {"-o"}
    if words[0] in ("reproduce", "demo", "train") and rng.random() < 0.5:
        options, wrong = {"-o": UNWRITABLE}, {"-o"}
    option = rng.choice(list(options))
    value = rng.choice(options[option])
    if option.startswith("--"):
        words.append(f"{option}={value}")
    elif option:
        words += [option, value]
    else:
        at = next((i for i, word in enumerate(words) if word.isupper() or word == "out.npz"), len(words))
        if words[at] in ("SCAN", "MAP") and rng.random() < 0.6:
            # A file of that name, which may be as odd as it likes.
            with contextlib.suppress(OSError):
                shutil.copy(_base(words[at].lower()), folder / value)
        words[at] = value
    if option == "--resume":
        words[-1] = "--resume"
    recipe = folder / "recipe.yaml"
    if "RECIPE" in words:
        from importlib.resources import files

        text = (files("mrnoise.training") / "recipes" / "unet-brain.yaml").read_text()
        name = rng.choice(("../out", "/tmp/out", "a/b", "", ".", "..", "x\0y", LONG, "3", "a\\nb"))
        lines = [f'name: "{name}"' if line.startswith("name:") else line for line in text.splitlines()]
        recipe.write_text("\n".join(lines))
    given = folder.with_name(folder.name + "-given")
    given.mkdir()
    for name in ("scan", "map"):
        shutil.copy(_base(name), given)
    places = {name.upper(): given / _base(name).name for name in ("scan", "map")}
    places |= {"WEIGHTS": Path(shutil.copy(_weights(), given)), "RECIPE": recipe}
    for word, path in places.items():
        words = [part.replace(word, str(path)) for part in words]
    return Case(" ".join(words), lambda: use_command(words, folder), option in wrong)


def use_command(words: list[str], folder: Path) -> None:
    """In this process, with streams as strict as those of a terminal."""
    from mrnoise.cli.main import run
    from mrnoise.errors import InputError

    before = set(folder.rglob("*"))
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace")]
    previous, argv = Path.cwd(), sys.argv
    code: Any = 0
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            sys.argv = ["mrnoise", *words]
            warnings.resetwarnings()
            run()
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv = argv
        os.chdir(previous)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams)
    if "site-packages" in err + out or "Warning" in err:
        raise RuntimeError(f"a warning reached the terminal: {(err + out)[:400]}")
    if code in (0, None):
        return
    left = set(folder.rglob("*")) - before
    one = "Usage:" in err or err.count("mrnoise: ") == 1
    if code != 2 or not one or left:
        raise RuntimeError(f"exit code {code}, left {sorted(p.name[:40] for p in left)}: {err[-400:]}")
    raise InputError("refused", expected="", received="", remedy=err)


# -- what inputs start from ------------------------------------------------------------------------------------

BASES = Path(tempfile.gettempdir()) / "unset"


def _base(kind: str) -> Path:
    return BASES / {"scan": "scan.npz", "map": "map.h5", "mrd": "mrd.h5"}[kind]


def _weights() -> Path:
    from importlib.resources import files

    folder = Path(str(files("mrnoise.networks") / "weights"))
    return next(iter(sorted(folder.rglob("*.safetensors"))), folder)


def make_bases() -> None:
    """A scan, its map, and MRD lines."""
    with warnings.catch_warnings():  # importing it has Python show all warnings from then on
        import ismrmrd

    import mrnoise
    from mrnoise.io.scans.npz import write_npz
    from mrnoise.reconstruction import Sense
    from mrnoise.simulation import simulate

    scan = simulate((NY, NX), COILS, seed=1)
    write_npz(scan, _base("scan"))
    mrnoise.save(mrnoise.noise_map(Sense(), scan, method="sketch", n_samples=20), _base("map"))
    rng = np.random.default_rng(0)
    with ismrmrd.Dataset(str(_base("mrd")), "dataset", create_if_needed=True) as file:
        file.write_xml_header(HEADER.encode())
        for row in range(-2, NY):
            values = rng.standard_normal((2, COILS, NX if row >= 0 else 300))
            line = ismrmrd.Acquisition.from_array((values[0] + 1j * values[1]).astype(np.complex64))
            line.center_sample, line.sample_time_us = NX // 2, 5.0
            line.idx.kspace_encode_step_1 = max(row, 0)
            line.read_dir[0] = line.phase_dir[1] = line.slice_dir[2] = 1
            if row < 0:
                line.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
            file.append_acquisition(line)


KINDS: dict[str, Callable[[random.Random, Path], Case]] = {
    "npz": npz,
    "mrd": mrd,
    "fastmri": fastmri,
    "map": map_,
    "roi": roi,
    "command": command,
}


# -- running ---------------------------------------------------------------------------------------------------


def outcome(kind: str, seed: int, folder: Path) -> tuple[str, str]:
    """Column of one input, and what it was."""
    from mrnoise.errors import InputError

    rng = random.Random(f"{kind} {seed}")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        case = KINDS[kind](rng, folder)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            case.act()
    except InputError:
        return "clear error", case.what
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        wants = isinstance(error, MemoryError) or "not enough memory" in text or "can't allocate memory" in text
        where = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "mrnoise" in f.filename][-1:]
        detail = f"{case.what[-200:]!r}: {type(error).__name__}: {str(error)[:300]!r} {own}"
        return "killed" if wants else "traceback", detail
    if said and kind != "command":
        return "traceback", f"{case.what!r}: warned {said[0].message} {said[0].filename}:{said[0].lineno}"
    return ("silent", case.what) if case.damaged else ("right", case.what)


def work(pipe: Connection, bases: Path) -> None:
    """Answer one request after another."""
    global BASES
    BASES = bases
    import torch

    import mrnoise  # noqa: F401

    torch.set_num_threads(1)
    if not _base("map").exists():
        make_bases()
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # of C libraries
        os.dup2(null, stream)
    stacks = (bases / "stack").open("w")
    faulthandler.enable(stacks, all_threads=False)
    faulthandler.register(signal.SIGUSR1, stacks, all_threads=False)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while True:
        kind, seed = pipe.recv()
        with tempfile.TemporaryDirectory() as folder:
            (inner := Path(folder) / "here").mkdir()
            answer = outcome(kind, seed, inner)
        pipe.send(answer)


@dataclass
class Worker:
    """A process that is started anew when it dies."""

    bases: Path
    process: Any = None
    pipe: Any = None

    def ask(self, kind: str, seed: int) -> tuple[str, str]:
        """Column and description of one input."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=work, args=(theirs, self.bases), daemon=False)
            self.process.start()
            theirs.close()
            self.pipe.recv()
        self.pipe.send((kind, seed))
        if not self.pipe.poll(LIMIT_S):
            os.kill(self.process.pid, signal.SIGUSR1)
            time.sleep(0.5)
            self.end()
            return "hung", self.where()
        try:
            found: tuple[str, str] = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            self.process = None
            return "killed", f"exit code {code}, {self.where()}"
        return found

    def where(self) -> str:
        """The innermost call of a process that hangs or has died."""
        lines = (self.bases / "stack").read_text().splitlines()
        return next((line.strip() for line in lines if line.startswith("  File")), "")

    def end(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def inputs(kinds: list[str], count: int, seed: int) -> Iterator[tuple[str, int]]:
    """So many (kind, seed), the kinds in turn."""
    for index in range(count):
        yield kinds[index % len(kinds)], seed + index // len(kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in options.kinds}
    failures, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as bases:
        worker = Worker(Path(bases))
        try:
            for kind, seed in inputs(options.kinds, options.inputs, options.seed):
                column, what = worker.ask(kind, seed)
                counts[kind][column] += 1
                if column not in COLUMNS[:2]:
                    failures.append(f"{column}: --kinds {kind} --seed {seed} --inputs 1 ({what})")
                    print(failures[-1], file=sys.stderr, flush=True)
                elif options.inputs == 1:
                    print(column, what)
        finally:
            worker.end()
    print(f"{options.inputs} inputs in {time.monotonic() - started:.0f} s\n")
    print(f"| kind | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for kind, found in counts.items():
        print(f"| {kind} | {' | '.join(str(found[column]) for column in COLUMNS)} |")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
