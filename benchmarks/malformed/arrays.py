"""Scans as arrays in files, and noise covariances."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from malformed.bases import COILS, HEADER, NX, NY, base, scan_arrays
from malformed.changes import HUGE, Case, damage, no_scan, other_array
from malformed.hdf5 import hdf5_case
from malformed.uses import use_scan

SHAPES = ((10**6, 10**6), (2**40, 2, 2), (COILS, NY, 10**7), (2**62, 2**62), (-1, 4), (COILS, 3 * NY, NX))
AXES = ("coil,ky,kx", "ky,kx,coil", "kx,ky,coil", "slice,coil,ky,kx", "average,ky,kx", "ky,kx", "coil,kz,ky,kx")


def _arrays(rng: random.Random) -> dict[str, Any]:
    return scan_arrays(np.random.default_rng(rng.randrange(2**32)))


def _axes(rng: random.Random) -> str | None:
    """Names of the axes: the right ones, others, or none."""
    return rng.choice((AXES[0], rng.choice(AXES), None))


def _sound(path: Path, name: str) -> bool:
    """Whether an entry of an archive is there and fits its checksum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(name) is not None
        except Exception:
            return False


def npz(rng: random.Random, folder: Path) -> Case:
    """An archive with arrays of other types, shapes and values, declared sizes, or damaged bytes."""
    arrays = _arrays(rng)
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
        damaged = name == "kspace" and no_scan(arrays[name])
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
        what, damaged = _declared(path, arrays, name, rng), name in ("kspace", "voxel_size")
    elif how >= 0.75:
        data, what, damaged = damage(path.read_bytes(), rng)
        path.write_bytes(data)
        damaged |= not _sound(path, "kspace.npy")
        name = "file"
    noise = path if rng.random() < 0.2 else None
    return Case(f"{name}: {what}", lambda: use_scan(path, noise=noise), damaged)


def _declared(path: Path, arrays: dict[str, Any], name: str, rng: random.Random) -> str:
    """An entry whose header declares another size than it has."""
    entry, shape = _npy_that_declares(rng)
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(path, "w", packing) as archive:
        for other, array in arrays.items():
            text = io.BytesIO()
            np.lib.format.write_array(text, np.asarray(array))
            archive.writestr(f"{other}.npy", entry if other == name else text.getvalue())
    return f"declared {shape}"


def _npy_that_declares(rng: random.Random) -> tuple[bytes, tuple[int, ...]]:
    """An npy file with another size than its header declares, and that."""
    shape = rng.choice(SHAPES)
    header = f"{{'descr': '<c8', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64), shape


def npy(rng: random.Random, folder: Path) -> Case:
    """K-space in one file, its noise in another."""
    arrays, name = _arrays(rng), rng.choice(("kspace", "kspace", "noise"))
    how, what, damaged = rng.random(), "", False
    if how < 0.4:
        arrays[name], what = other_array(arrays[name], rng)
        damaged = no_scan(arrays[name])
    for each in ("kspace", "noise"):
        np.save(folder / f"{each}.npy", arrays[each])
    path = folder / f"{name}.npy"
    if 0.4 <= how < 0.6:
        data, shape = _npy_that_declares(rng)
        what, damaged = f"declared {shape}", True
        path.write_bytes(data)
    elif how >= 0.6:
        data, what, damaged = damage(path.read_bytes(), rng)
        path.write_bytes(data)
    axes = _axes(rng)
    return Case(
        f"{name}, axes {axes}: {what}",
        lambda: use_scan(folder / "kspace.npy", noise=folder / "noise.npy", axes=axes),
        damaged,
    )


def fastmri(rng: random.Random, folder: Path) -> Case:
    """A file of the fastMRI kind."""
    path = folder / "scan.h5"
    arrays = _arrays(rng)
    with h5py.File(path, "w") as file:
        packing = {"compression": "gzip", "chunks": True} if rng.random() < 0.5 else {}
        file.create_dataset("kspace", data=arrays["kspace"][None], **packing)
        file.create_dataset("noise", data=arrays["noise"], **packing)
        file["mask"] = np.ones(NX)
        file["ismrmrd_header"] = HEADER
        file.attrs.update(acquisition="T2", max=1.0)
    noise = path if rng.random() < 0.2 else None
    names = ["kspace", "noise", "mask", "ismrmrd_header"]
    return hdf5_case(path, names, rng, folder, "ismrmrd_header", lambda: use_scan(path, noise=noise))


FIELDS = (
    ("real", "imag"),
    ("r", "i"),
    ("Re", "Im"),
    ("real", "imaginary"),
    ("imag", "real"),
    ("real",),
    ("r", "i", "x"),
)
PARTS = ("<f4", ">f8", "<i2", "u1", "S3", "g", "V2", ("<f4", (2,)), "c8", "?")


def layouts(rng: random.Random, folder: Path) -> Case:
    """HDF5 with complex numbers as records, as pairs or in turn, in groups, in any order of axes."""
    path, arrays = folder / "scan.h5", _arrays(rng)
    how, group, what = rng.random(), rng.choice(("", "scan/", "a/b/")), "pairs"
    values = {name: arrays[name] for name in ("kspace", "noise", "coil_maps")}
    if how < 0.3:
        fields, part = rng.choice(FIELDS), rng.choice((PARTS[0], rng.choice(PARTS)))
        record = np.dtype([(field, part) for field in fields])
        values = {name: _records(array, record) for name, array in values.items()}
        what = f"records {record}"
    elif how < 0.8:
        values = {name: np.stack([array.real, array.imag], -1) for name, array in values.items()}
    if rng.random() < 0.3:
        values = {name: array.T for name, array in values.items()}
        what += ", transposed"
    with h5py.File(path, "w") as file:
        for name, array in values.items():
            try:
                file[f"{group}{name}"] = array
            except TypeError:  # HDF5 has no such type
                file[f"{group}{name}"] = array.real if array.dtype.names is None else np.zeros(array.shape, "V3")
        file.attrs["writer"] = "x"
    axes = _axes(rng)

    def read() -> None:
        use_scan(path, axes=axes)

    if rng.random() < 0.3:
        return Case(f"{what}, axes {axes}", read)
    return hdf5_case(path, [f"{group}{name}" for name in values], rng, folder, None, read)


def _records(array: np.ndarray, record: np.dtype) -> np.ndarray:
    """Complex numbers in the fields of a record, as far as these hold them."""
    out = np.zeros(array.shape, record)
    for name, part in zip(record.names or (), (array.real, array.imag), strict=False):
        if record[name].kind in "fiuc" and not record[name].shape:
            out[name] = part
    return out


def matlab(rng: random.Random, folder: Path) -> Case:
    """Version 5, packed or not, or 7.3."""
    arrays = {name: array for name, array in _arrays(rng).items() if name != "spatial_dims"}
    path, axes, how = folder / "scan.mat", _axes(rng), rng.random()
    noise = path if rng.random() < 0.2 else None

    def read() -> None:
        use_scan(path, axes=axes, noise=noise)

    if rng.random() < 0.35:
        return _matlab73(path, arrays, rng, folder, read)
    import scipy.io

    name, what, damaged = rng.choice(list(arrays)), "as it was", False
    changed = arrays
    if how < 0.4:
        found, what = other_array(arrays[name], rng)
        changed, damaged = arrays | {name: found}, name == "kspace" and no_scan(found)
    packed = rng.random() < 0.5
    try:
        scipy.io.savemat(path, changed, do_compression=packed)
    except Exception:  # MATLAB has no such type
        scipy.io.savemat(path, arrays, do_compression=packed)
        what, damaged = "as it was", False
    if how >= 0.4:
        whole = path.read_bytes()
        if how < 0.7:
            data, what = _other_tags(whole, packed, rng), "tags"
        else:
            data, what, damaged = damage(whole, rng)
        path.write_bytes(data)
        name = "packed file" if packed else "file"
    return Case(f"{name}, axes {axes}: {what}", read, damaged)


def _matlab73(
    path: Path, arrays: dict[str, np.ndarray], rng: random.Random, folder: Path, read: Callable[[], None]
) -> Case:
    record = np.dtype([("real", "<f4"), ("imag", "<f4")])
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = _records(array, record).T if array.dtype.kind == "c" else array.astype(float).T
            file[name].attrs["MATLAB_class"] = np.bytes_("single")
    case = hdf5_case(path, list(arrays), rng, folder, None, read)
    if path.stat().st_size > 512 and rng.random() < 0.95:
        with path.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return case


def _other_tags(whole: bytes, packed: bool, rng: random.Random) -> bytes:
    """Numbers in the head of a matrix, where sizes, types and dimensions are, set to others."""
    head, rest = whole[:128], whole[128:]
    if packed:
        (size,) = struct.unpack_from("<I", rest, 4)
        matrix, rest = zlib.decompress(rest[8 : 8 + size]), rest[8 + size :]
    else:
        matrix, rest = (
            rest[: 8 + struct.unpack_from("<I", rest, 4)[0]],
            rest[8 + struct.unpack_from("<I", rest, 4)[0] :],
        )
    found = bytearray(matrix)
    for _ in range(rng.choice((1, 1, 2))):
        at = 4 * rng.randrange(16)
        number = rng.choice((0, 1, 2, 9, 14, 15, 0x806, 2**32 - 1, *HUGE, rng.randrange(2**32))) % 2**32
        found[at : at + 4] = struct.pack("<I", number)
    if not packed:
        return head + bytes(found) + rest
    element = zlib.compress(bytes(found))
    return head + struct.pack("<II", 15, len(element)) + element + rest


DIMENSIONS = ("0", "-1", "1", "2", "16", "1.5", "nan", "x", "", "10000000000", "99999999999999999999", "٣", "1e3")


def bart(rng: random.Random, folder: Path) -> Case:
    """A pair of files with other dimensions or bytes, or one of the pair."""
    kspace = _arrays(rng)["kspace"]
    header, numbers = folder / "scan.hdr", folder / "scan.cfl"
    shape = [NX, NY, 1, COILS, *[1] * 12]
    how, damaged = rng.random(), False
    kspace.tofile(numbers)
    words = [str(n) for n in shape]
    if how < 0.5:
        at = rng.randrange(18)
        word = rng.choice(DIMENSIONS) if rng.random() < 0.7 else str(rng.choice(HUGE))
        if at < len(words):
            # Digits of any script count.
            damaged = word != "" and not (word.isdecimal() and int(word) == int(words[at]))
            words[at] = word
        else:
            words += [word] * rng.randrange(1, 20)
            damaged = word not in ("1", "")
        what = f"dimension {at} {word!r}"
    text = "# Dimensions\n" + " ".join(words) + " \n# Command\nnothing\n"
    if 0.5 <= how < 0.6:
        text, what = rng.choice(("", "# Dimensions", "# Dimensions\n", text.replace("#", ""), text * 2, "\0")), "header"
    header.write_text(text, encoding="utf-8")
    if 0.6 <= how < 0.9:
        path = rng.choice((header, numbers, numbers))
        data, what, damaged = damage(path.read_bytes(), rng, tail=len(text) if path == header else 0)
        path.write_bytes(data)
        what = f"{path.suffix}: {what}"
        damaged |= path == numbers and len(data) != kspace.nbytes
    elif how >= 0.9:
        (gone := rng.choice((header, numbers))).unlink()
        if rng.random() < 0.3:
            gone.mkdir()
        what, damaged = f"{gone.suffix} gone", True
    path = rng.choice((header, numbers))
    return Case(what, lambda: use_scan(path), damaged)


WORDS = (
    "nan",
    "inf",
    "1e400",
    "x",
    "",
    "1+",
    "1j",
    "0",
    "-1",
    "#",
    "1,2",
    "(1+2j)",
    "1 2",
    "\0",
    "\ufeff1",
    "٣",
    "9" * 400,
)


def covariance(rng: random.Random, folder: Path) -> Case:
    """Ψ beside a scan: an array, an archive, text."""
    mixing = np.random.default_rng(rng.randrange(2**32)).standard_normal((2, COILS, 5))
    psi: np.ndarray = (mixing[0] + 1j * mixing[1]) @ (mixing[0] + 1j * mixing[1]).conj().T
    ending, how, damaged = rng.choice((".npy", ".npz", ".csv")), rng.random(), False
    names = rng.choice((("psi",), ("psi",), ("noise_covariance", "x"), ("a", "b"), ()))
    path, what = folder / f"psi{ending}", "as it was"
    if how < 0.4:
        psi, what = other_array(psi, rng)
        damaged = no_scan(psi) or psi.ndim != 2 or psi.shape[0] != psi.shape[1]
    if ending == ".npy":
        np.save(path, psi)
    elif ending == ".npz":
        np.savez(path, **dict.fromkeys(names, psi))
    else:
        rows = [[str(value) for value in row] for row in map(np.ravel, np.atleast_2d(psi))]
        if 0.4 <= how < 0.7:
            row = rng.choice(rows)
            row[rng.randrange(len(row))] = word = rng.choice(WORDS)
            what = f"word {word[:9]!r}"
        comma = rng.choice((",", ",", ",", ", ", ";", " "))
        path.write_text("\n".join(comma.join(row) for row in rows), encoding="utf-8")
    if how >= 0.7 or (how >= 0.4 and ending != ".csv"):
        data, what, damaged = damage(path.read_bytes(), rng)
        path.write_bytes(data)
        damaged = (damaged and ending != ".csv") or (
            ending == ".npz" and names != () and not _sound(path, f"{names[0]}.npy")
        )
    return Case(f"{ending}: {what}", lambda: use_scan(base("scan"), noise_covariance=path), damaged)
