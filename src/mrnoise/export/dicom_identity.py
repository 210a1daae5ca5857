"""Whose images they are: patient, study and frame of reference, from a DICOM file or an MRD header."""

from __future__ import annotations

import mmap
import os
import xml.etree.ElementTree as ET
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from mrnoise.errors import InputError
from mrnoise.files.heaps import check_heaps
from mrnoise.files.opening import opened_hdf5, reading, text

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataset import FileDataset

# Copied from a DICOM file as they are (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.4.1).
COPIED = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
)
# Element of an MRD header → attribute.
FROM_MRD = {
    "patientName": "PatientName",
    "patientID": "PatientID",
    "patientBirthdate": "PatientBirthDate",
    "patientGender": "PatientSex",
    "patientWeight_kg": "PatientWeight",
    "studyInstanceUID": "StudyInstanceUID",
    "studyID": "StudyID",
    "studyDate": "StudyDate",
    "studyTime": "StudyTime",
    "studyDescription": "StudyDescription",
    "accessionNumber": "AccessionNumber",
    "referringPhysicianName": "ReferringPhysicianName",
    "frameOfReferenceUID": "FrameOfReferenceUID",
    "patientPosition": "PatientPosition",
}
# There must be no images without these, however empty a patient's name may be; the others may be absent.
NEEDED = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")
# Type 2: there, even where it is empty.
MAY_BE_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition"),
)
ANONYMOUS = "written by mrnoise without data of a patient"


def identity(reference: str | PathLike[str] | None, anonymous: bool) -> Dataset:
    """Patient, study and frame of reference, all from a file, or none of them.

    Raises
    ------
    InputError
        If there is neither a file nor ``anonymous``, both are given, or the file lacks what images must have.
    """
    from pydicom import Dataset
    from pydicom.config import IGNORE
    from pydicom.uid import UID, generate_uid

    if (reference is None) != anonymous:
        raise InputError(
            "patient and study of the images are not clear",
            expected="a reference, or anonymous images",
            received="neither" if reference is None else "both",
            remedy="Give --reference, a DICOM image of the same study or the MRD file of the scan; or --anonymous.",
        )
    if reference is None:
        found = Dataset()
        found.PatientName, found.PatientID = "ANONYMOUS", ""
        found.PatientIdentityRemoved, found.DeidentificationMethod = "YES", ANONYMOUS
        found.StudyInstanceUID, found.FrameOfReferenceUID = generate_uid(), generate_uid()
    else:
        path = Path(reference)
        found = _from_mrd(path) if _is_hdf5(path) else _from_dicom(path)
        wrong = [f"no {name}" for name in NEEDED if name not in found]
        uids = {name: str(found[name].value) for name in NEEDED if name.endswith("UID") and name in found}
        wrong += [f"{name} {uid[:80]!r}" for name, uid in uids.items() if not UID(uid, IGNORE).is_valid]
        if wrong:
            raise InputError(
                "the reference does not say whose images they are",
                expected=f"{', '.join(NEEDED)} in {path.name}",
                received=", ".join(wrong),
                remedy="Give a DICOM image of the same study with --reference, or --anonymous.",
            )
    found.SpecificCharacterSet = "ISO_IR 192"
    for name in MAY_BE_EMPTY:
        if name not in found:
            setattr(found, name, "")
    return found


def _is_hdf5(path: Path) -> bool:
    import h5py

    return bool(os.path.isfile(path) and h5py.is_hdf5(path))


def _from_dicom(path: Path) -> Dataset:
    from pydicom import Dataset, dcmread

    expected, remedy = "a complete DICOM image", "Give a DICOM image of the same study."
    # Of a map of the file no more is read than there is, whatever length an element declares.
    with (
        reading(path, expected, remedy),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        source = dcmread(cast(BinaryIO, data), stop_before_pixels=True)
        if data.tell() == len(data) and not _complete(source, len(data)):
            raise EOFError("it ends within an element")
        found = Dataset()
        for name in COPIED:
            if name in source:
                # As text: the file may have another character set.
                setattr(found, name, str(source[name].value) if source[name].value is not None else "")
    return found


def _complete(source: FileDataset, size: int) -> bool:
    """Whether the last element ends where the file of so many bytes does."""
    from pydicom.dataelem import RawDataElement
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    *_, last = [None, *source.values()]  # in the order of the file
    packed = source.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return packed or not isinstance(last, RawDataElement) or last.value_tell + last.length == size


def _from_mrd(path: Path) -> Dataset:
    from pydicom import Dataset

    expected = "an MRD file with a header"
    check_heaps(path)
    with opened_hdf5(path, expected) as file:
        groups = [group for group in file if f"{group}/xml" in file]
        header = text(file[groups[0]], "xml") if groups else None
    with reading(path, expected):
        root = ET.fromstring(header or "")
    found = Dataset()
    for element in root.iter():
        name = FROM_MRD.get(element.tag.rpartition("}")[2])
        value = (element.text or "").strip()
        if name is None or not value or name in found:
            continue
        if name.endswith(("Date", "Time")):
            value = value.split("T")[-1 if name.endswith("Time") else 0].replace("-", "").replace(":", "").rstrip("Z")
        if name == "PatientSex" and value not in ("M", "F", "O"):
            continue
        with reading(path, f"a {name} that DICOM takes"):
            setattr(found, name, value)
    return found
