"""Saved maps, and what is laid over them or written beside them."""

from __future__ import annotations

import gzip
import random
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from malformed.bases import HEADER, NX, NY, base
from malformed.changes import Case, damage, other_array, other_field
from malformed.hdf5 import hdf5_attribute, hdf5_case, other_header
from malformed.uses import use_map, use_reference, use_region


def map_(rng: random.Random, folder: Path) -> Case:
    """A saved noise map."""
    path = folder / "map.h5"
    shutil.copy(base("map"), path)
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
    ending = rng.choice((".npy", ".npz", ".nii", ".nii", ".nii.gz"))
    path, what, damaged, how = folder / f"roi{ending}", "as it was", False, rng.random()
    if how < 0.35:
        mask, what = other_array(mask, rng)
        damaged = mask.size == 0 or mask.ndim < 2
    if ending == ".npy":
        np.save(path, mask)
    elif ending == ".npz":
        np.savez(path, mask)
    else:
        affine = np.eye(4) if rng.random() < 0.5 else np.diag([2.0, 1.0, 3.0, 1.0])
        try:
            nibabel.Nifti1Image(mask.T[..., None] if mask.ndim == 2 else mask.T, affine).to_filename(path)
        except Exception:  # no NIfTI holds this
            np.save(path.with_suffix(".npy"), mask)
            path = path.with_suffix(".npy")
    packed = path.suffix == ".gz"
    if how >= 0.35:
        whole = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        if path.suffix != ".npy" and ending.startswith(".nii") and how < 0.65:
            data, what, damaged = _other_nifti(whole, rng)
            path.write_bytes(gzip.compress(data) if packed else data)
        elif packed and how < 0.8:
            data, what, damaged = damage(whole, rng)
            path.write_bytes(gzip.compress(data))
        else:
            data, what, damaged = damage(path.read_bytes(), rng)
            path.write_bytes(data)
            damaged |= packed and not _sound_gzip(data)
    placed = rng.random() < 0.5
    return Case(f"{path.name[3:]}: {what}", lambda: use_region(path, placed), damaged)


def _sound_gzip(data: bytes) -> bool:
    try:
        return gzip.decompress(data) is not None
    except Exception:
        return False


def _other_nifti(whole: bytes, rng: random.Random) -> tuple[bytes, str, bool]:
    """Another number in the header, and whether it contradicts the rest."""
    import nibabel

    data = bytearray(whole)
    header = np.ndarray((), nibabel.nifti1.header_dtype, data)
    before = header.copy()
    name, value = other_field(header, rng)
    rank = min(max(int(before["dim"][0]), 0), 7)
    damaged = (header["dim"][: rank + 1] != before["dim"][: rank + 1]).any() or header["bitpix"] != before["bitpix"]
    damaged |= header["vox_offset"] != before["vox_offset"] or header["sizeof_hdr"] != before["sizeof_hdr"]
    return bytes(data), f"{name} = {value}", bool(damaged)


PATIENT = """<subjectInformation><patientName>Doe</patientName><patientID>4711</patientID>
 <patientBirthdate>1970-01-02</patientBirthdate><patientGender>F</patientGender></subjectInformation>
 <studyInformation><studyDate>2026-02-03</studyDate><studyInstanceUID>1.2.3.4</studyInstanceUID></studyInformation>
 <measurementInformation><frameOfReferenceUID>1.2.3.5</frameOfReferenceUID></measurementInformation>"""


def dicom(rng: random.Random, folder: Path) -> Case:
    """What says whose images an export is: a DICOM file, or the header of an MRD file."""
    path, map_file = folder / "reference.dcm", base("map")
    damaged, how = False, rng.random()
    if how < 0.25:
        path = folder / "reference.h5"
        header = HEADER.replace("<encoding>", f"{PATIENT}<encoding>", 1)
        with h5py.File(path, "w") as file:
            file["dataset/xml"] = header
        if rng.random() < 0.3:
            return hdf5_case(path, ["dataset/xml"], rng, folder, None, lambda: use_reference(path, map_file))
        text = other_header(header, rng).replace("\0", "?")
        with h5py.File(path, "r+") as file:
            del file["dataset/xml"]
            file["dataset/xml"] = text.encode()
        return Case("header of MRD changed", lambda: use_reference(path, map_file))
    whole = base("dicom").read_bytes()
    if how < 0.7:
        data, what, _ = damage(whole, rng)
        damaged = what.startswith("cut") and _within_an_element(len(data))
        path.write_bytes(data)
    else:
        what = _other_element(path, rng)
    return Case(f"file: {what}", lambda: use_reference(path, map_file), damaged)


def _within_an_element(size: int) -> bool:
    """Whether a file of so many bytes ends within an element before the pixels."""
    import pydicom

    elements = pydicom.dcmread(base("dicom"), stop_before_pixels=True)
    ends = [element.file_tell + len(str(element.value)) for element in elements if element.VR != "SQ"]
    return size < max(ends) and size not in ends and size not in [end + 1 for end in ends]


ELEMENTS = ("1.2.x", "x" * 100, "", "a\\b", "1..2", "\0", "ü", "2026-13-45", "a^b^c^d^e^f", "1.2.3\n", "1." + "9" * 80)


def _other_element(path: Path, rng: random.Random) -> str:
    """Write the reference with an element that is gone, or whose value it cannot have."""
    import pydicom

    with pydicom.config.disable_value_validation():
        source = pydicom.dcmread(base("dicom"))
        one = rng.choice([element for element in source if element.VR not in ("OW", "SQ")])
        value: Any = rng.choice((None, *ELEMENTS))
        if value is None:
            del source[one.tag]
        else:
            kind = rng.choice((one.VR, one.VR, "LO", "UN"))
            source[one.tag] = pydicom.DataElement(one.tag, kind, value, already_converted=True)
        if rng.random() < 0.2:
            uid = rng.choice(("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.3"))
            source.file_meta.TransferSyntaxUID = pydicom.uid.UID(uid)
        try:
            source.save_as(path, enforce_file_format=False)
        except Exception:  # no DICOM holds this
            shutil.copy(base("dicom"), path)
            return "as it was"
    return f"{one.keyword} = {value!r}"
