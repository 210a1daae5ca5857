"""DICOM files, read back by pydicom, highdicom, dcm2niix and a checker of the standard."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from mrnoise import Geometry, InputError, export
from mrnoise.result.quantities import QUANTITIES
from small_maps import OBLIQUE, small_map
from test_cli import run
from test_image_grid import named
from test_read_mrd import header, write

pydicom = pytest.importorskip("pydicom")

DCM2NIIX = shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or shutil.which("dcm2niix")
# Axial, sagittal, coronal, and as MRD and scanners have them: x to the left, y to the back; z down.
AXIAL = np.diag([1.1, 0.9, 3.0, 1.0])
PLANES = {
    "oblique": OBLIQUE,
    "LPS": np.diag([-1.1, -0.9, 3.0, 1.0]) + np.array([[0, 0, 0, 9.0], [0, 0, 0, 12], [0, 0, 0, -4], [0] * 4]),
    "LPI": np.diag([-1.1, -0.9, -3.0, 1.0]),
    "sagittal": AXIAL[[2, 0, 1, 3]],
    "coronal": AXIAL[[0, 2, 1, 3]],
}
REFERENCE = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.3.4",
    "StudyID": "S1",
    "StudyDate": "20260203",
    "AccessionNumber": "A9",
    "FrameOfReferenceUID": "1.2.3.5",
    "SeriesInstanceUID": "1.2.3.6",
    "SOPInstanceUID": "1.2.3.7",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
}


def reference(path, **changes):
    data = pydicom.Dataset()
    for name, value in (REFERENCE | changes).items():
        if value is not None:
            setattr(data, name, value)
    data.file_meta = pydicom.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = REFERENCE["SOPClassUID"]
    data.file_meta.MediaStorageSOPInstanceUID = REFERENCE["SOPInstanceUID"]
    data.save_as(path, enforce_file_format=True)
    return path


def placed(affine=OBLIQUE, axes=("slice",), dims=2):
    size = np.linalg.norm(affine[:3, :3], axis=0)
    return named(axes, dims, Geometry(tuple(size[::-1]), affine))


def by_position(frames):
    """World position (RAS) of each voxel → value, from (value plane, ImagePositionPatient, orientation, spacing)."""
    found = []
    for plane, position, orientation, spacing in frames:
        y, x = np.indices(plane.shape)
        lps = (
            np.array(position)[:, None, None]
            + np.array(orientation[:3])[:, None, None] * x * spacing[1]
            + np.array(orientation[3:])[:, None, None] * y * spacing[0]
        )
        found.append(np.concatenate([np.array([-1, -1, 1])[:, None, None] * lps, plane[None]]))
    return np.stack(found, 1).reshape(4, -1)


def expected(nm, name, index=()):
    values = nm.image_grid.volumes(nm.quantity(name).float().numpy())[index]
    z, y, x = np.indices(values.shape)
    mm = np.einsum("ij,jzyx->izyx", nm.image_grid.affine, np.stack([x, y, z, np.ones_like(x)]))[:3]
    return np.concatenate([mm, values[None]]).reshape(4, -1)


def same(found, wanted, rtol):
    """The same values at the same places, in any order."""
    found, wanted = (rows[:, np.lexsort(np.round(rows[:3], 2))] for rows in (found, wanted))
    np.testing.assert_allclose(found[:3], wanted[:3], atol=2e-3)
    np.testing.assert_allclose(found[3], wanted[3], rtol=rtol, atol=rtol * np.nanmax(np.abs(wanted[3])))


def from_nifti(path):
    image = nibabel.load(path)
    values = image.get_fdata()
    index = np.indices(values.shape).reshape(3, -1)
    return np.concatenate([image.affine[:3, :3] @ index + image.affine[:3, 3:], values.reshape(1, -1)])


@pytest.mark.parametrize("plane", PLANES)
def test_a_parametric_map_has_the_values_at_their_places(tmp_path, plane):
    nm = placed(PLANES[plane])
    written = export.dicom(nm, tmp_path, reference=reference(tmp_path / "ref.dcm"))
    assert {p.stem for p in written} == {n for n, q in QUANTITIES.items() if q.style and nm.quantity(n) is not None}
    for name in ("std", "snr", "g_factor"):
        image = pydicom.dcmread(tmp_path / f"{name}.dcm")
        shared = image.SharedFunctionalGroupsSequence[0]
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        positions = [f.PlanePositionSequence[0].ImagePositionPatient for f in image.PerFrameFunctionalGroupsSequence]
        assert image.pixel_array.dtype == np.float32
        frames = [(v, p, orientation, spacing) for v, p in zip(image.pixel_array, positions, strict=True)]
        same(by_position(frames), expected(nm, name), rtol=1e-6)
        mapping = shared.RealWorldValueMappingSequence[0]
        assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
        unit = mapping.MeasurementUnitsCodeSequence[0]
        assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("[arb'U]" if name == "std" else "1", "UCUM")
        quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
        assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == (name, "99MRNOISE")


@pytest.mark.parametrize("plane", PLANES)
def test_highdicom_reads_it(tmp_path, plane):
    highdicom = pytest.importorskip("highdicom")
    nm = placed(PLANES[plane])
    export.dicom(nm, tmp_path, reference=reference(tmp_path / "ref.dcm"))
    volume = highdicom.pm.ParametricMap.from_dataset(pydicom.dcmread(tmp_path / "std.dcm")).get_volume()
    values = volume.array
    index = np.indices(values.shape).reshape(3, -1)
    lps = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    found = np.concatenate([np.array([-1, -1, 1])[:, None] * lps, values.reshape(1, -1)])
    same(found, expected(nm, "std"), rtol=1e-6)


@pytest.mark.skipif(DCM2NIIX is None, reason="no dcm2niix")
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("kind", ["dicom", "dicom_mr"])
def test_one_series_is_one_nifti_with_the_same_values(tmp_path, plane, kind):
    nm = placed(PLANES[plane])
    getattr(export, kind)(nm, tmp_path / "dcm", reference=reference(tmp_path / "ref.dcm"))
    # Half of one of 32767 levels of a hundred medians at most.
    tolerance = 1e-6 if kind == "dicom" else 0.51 / 32767
    for name in ("std", "snr", "image"):
        source = tmp_path / "dcm" / (f"{name}.dcm" if kind == "dicom" else name)
        out = tmp_path / f"{name}_nii"
        out.mkdir()
        words = [DCM2NIIX, "-f", "a", "-b", "n", "-o", out, *(["-s", "y"] if kind == "dicom" else []), source]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        found = list(out.glob("*.nii"))
        assert len(found) == 1, done.stdout
        same(from_nifti(found[0]), expected(nm, name), rtol=tolerance)


@pytest.mark.parametrize("plane", ["oblique", "LPI"])
def test_mr_images_have_one_slope(tmp_path, plane):
    nm = placed(PLANES[plane])
    export.dicom_mr(nm, tmp_path, reference=reference(tmp_path / "ref.dcm"))
    for name in ("std", "snr"):
        files = sorted((tmp_path / name).iterdir())
        images = [pydicom.dcmread(path) for path in files]
        assert len(images) == 5 and len({i.SeriesInstanceUID for i in images}) == 1
        (slope,) = {float(i.RescaleSlope) for i in images}
        assert {float(i.RescaleIntercept) for i in images} == {0}
        mappings = [i.RealWorldValueMappingSequence[0] for i in images]
        assert {m.RealWorldValueSlope for m in mappings} == {slope}
        frames = [
            (i.pixel_array * slope, i.ImagePositionPatient, i.ImageOrientationPatient, i.PixelSpacing) for i in images
        ]
        same(by_position(frames), expected(nm, name), rtol=0.51 / 32767)


def test_a_few_huge_values_leave_the_others_their_digits(tmp_path):
    """The phase of a voxel without signal has no bounds."""
    nm = placed()
    image = nm.image.clone()
    image[0, 0, 0], image[1, 1, 1] = 1e-9, torch.nan
    nm = dataclasses.replace(nm, image=image)
    export.dicom_mr(nm, tmp_path, anonymous=True)
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "phase_std").iterdir())]
    values = np.stack([i.pixel_array * float(i.RescaleSlope) for i in images])
    truth = nm.phase_std.numpy()
    median = np.nanmedian(truth)
    inside = truth < 2 * median
    assert np.abs(values[inside] - truth[inside]).max() < 0.01 * median
    assert values[0, 0, 0] == pytest.approx(100 * median, rel=0.01) and values[1, 1, 1] == 0
    assert "1 voxels without a value are 0, 1 above" in images[0].ImageComments


@pytest.mark.parametrize(("axes", "dims"), [(("frame", "slice"), 2), (("echo",), 2), (("frame",), 3)])
def test_each_volume_is_a_series(tmp_path, axes, dims):
    nm = placed(axes=axes, dims=dims)
    export.dicom(nm, tmp_path, reference=reference(tmp_path / "ref.dcm"))
    last = {"frame": 4, "echo": 3}[axes[0]]
    files = sorted(tmp_path.glob("std_*.dcm"))
    assert [p.stem for p in files] == [f"std_{axes[0]}{i + 1}" for i in range(last)]
    images = [pydicom.dcmread(p) for p in files]
    assert len({i.SeriesInstanceUID for i in images}) == len({i.SeriesNumber for i in images}) == last
    np.testing.assert_array_equal(
        images[-1].pixel_array.reshape(-1), expected(nm, "std", (last - 1,))[3].astype(np.float32)
    )


# -- whose images they are ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dicom", "dicom_mr"])
def test_patient_and_study_are_those_of_the_reference(tmp_path, kind):
    for path in getattr(export, kind)(placed(), tmp_path / "out", reference=reference(tmp_path / "ref.dcm")):
        image = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert getattr(image, name) == REFERENCE[name]
        assert image.AccessionNumber == "A9"
        assert image.SeriesInstanceUID != REFERENCE["SeriesInstanceUID"]
        assert image.SOPInstanceUID != REFERENCE["SOPInstanceUID"]


def test_names_in_other_character_sets(tmp_path):
    name = "Yamada^Tarou=山田^太郎"
    path = reference(tmp_path / "ref.dcm", SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name)
    image = pydicom.dcmread(export.dicom(placed(), tmp_path / "out", reference=path)[0])
    assert str(image.PatientName) == name


PATIENT = """<subjectInformation><patientName>Doe^Jane</patientName><patientID>4711</patientID>
<patientBirthdate>1970-01-02</patientBirthdate><patientGender>F</patientGender></subjectInformation>
<studyInformation><studyDate>2026-02-03</studyDate><studyTime>10:11:12</studyTime><studyInstanceUID>1.2.3.4
</studyInstanceUID></studyInformation>"""
MEASUREMENT = """<measurementInformation><patientPosition>HFS</patientPosition>
<frameOfReferenceUID>1.2.3.5</frameOfReferenceUID></measurementInformation>"""


def test_patient_and_study_from_the_scan(tmp_path):
    xml = header().replace("<experimentalConditions>", f"{PATIENT}{MEASUREMENT}<experimentalConditions>")
    scan = write(tmp_path / "a.h5", [], xml)
    image = pydicom.dcmread(export.dicom(placed(), tmp_path / "out", reference=scan)[0])
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert getattr(image, name) == REFERENCE[name]
    assert (image.FrameOfReferenceUID, image.StudyTime) == ("1.2.3.5", "101112")


def test_no_patient_is_invented(tmp_path):
    nm = placed()
    xml = header().replace("<experimentalConditions>", f"{PATIENT}<experimentalConditions>")
    scan = write(tmp_path / "a.h5", [], xml)
    empty = reference(tmp_path / "ref.dcm", StudyInstanceUID=None, PatientID=None)
    (tmp_path / "text.dcm").write_text("no image")
    for write_images in (export.dicom, export.dicom_mr):
        for path, words in ((scan, "no FrameOfReferenceUID"), (empty, "no PatientID, no StudyInstanceUID")):
            with pytest.raises(InputError, match=f"does not say whose.*{words}"):
                write_images(nm, tmp_path / "out", reference=path)
        with pytest.raises(InputError, match="patient and study of the images are not clear.*neither"):
            write_images(nm, tmp_path / "out")
        with pytest.raises(InputError, match="patient and study of the images are not clear.*both"):
            write_images(nm, tmp_path / "out", reference=empty, anonymous=True)
        for path in (tmp_path / "text.dcm", tmp_path / "none.dcm", tmp_path / ("n" * 300)):
            with pytest.raises(InputError, match=f"cannot read {path.name}"):
                write_images(nm, tmp_path / "out", reference=path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("uid", ["1.2.x", "1..2", "", "1.2.3\\4"])
def test_a_reference_whose_uids_are_none(tmp_path, uid):
    path = reference(tmp_path / "ref.dcm")
    data = path.read_bytes().replace(b"1.2.3.5\0", uid.encode().ljust(8))
    path.write_bytes(data)
    with pytest.raises(InputError, match="does not say whose images they are.*received FrameOfReferenceUID"):
        export.dicom_mr(placed(), tmp_path / "out", reference=path)


@pytest.mark.parametrize("left", [-1, -5, -20, -40])
def test_a_reference_that_was_cut_off(tmp_path, left):
    path = reference(tmp_path / "ref.dcm")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match="cannot read ref.dcm: expected a complete DICOM image"):
        export.dicom_mr(placed(), tmp_path / "out", reference=path)


def test_no_more_is_read_of_a_reference_than_there_is(tmp_path, monkeypatch):
    """An element of declared 4 GiB."""
    path = reference(tmp_path / "ref.dcm")
    element = b"\x08\0\x08\0OB\0\0\xfe\xff\xff\xff"  # (0008,0008)
    data = path.read_bytes()
    at = data.index(b"\x08\0\x16\0UI")
    path.write_bytes(data[:at] + element + data[at:])
    with pytest.raises(InputError, match="cannot read ref.dcm: expected a complete DICOM image"):
        export.dicom_mr(placed(), tmp_path / "out", reference=path)


def test_anonymous_images_say_so(tmp_path):
    paths = export.dicom(small_map(), tmp_path, anonymous=True)
    images = [pydicom.dcmread(path) for path in paths]
    assert {str(i.PatientName) for i in images} == {"ANONYMOUS"} and {i.PatientID for i in images} == {""}
    assert {i.PatientIdentityRemoved for i in images} == {"YES"}
    assert len({i.StudyInstanceUID for i in images}) == 1
    again = pydicom.dcmread(export.dicom(small_map(), tmp_path / "again", anonymous=True)[0])
    assert again.StudyInstanceUID != images[0].StudyInstanceUID


def test_places_that_dicom_cannot_hold_are_refused(tmp_path):
    path = reference(tmp_path / "ref.dcm")
    with pytest.raises(InputError, match="no position in the scanner.*--anonymous"):
        export.dicom(small_map(), tmp_path / "out", reference=path)
    sheared = OBLIQUE.copy()
    sheared[0, 1] += 0.4
    with pytest.raises(InputError, match="rows and columns at right angles"):
        export.dicom(placed(sheared), tmp_path / "out", reference=path)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dicom3tools")
@pytest.mark.parametrize("kind", ["dicom", "dicom_mr"])
def test_the_checker_of_the_standard_finds_no_error(tmp_path, kind):
    written = getattr(export, kind)(placed(), tmp_path / "out", reference=reference(tmp_path / "ref.dcm"))
    done = subprocess.run(["dciodvfy", written[-1]], capture_output=True, text=True, check=False)
    told = [row for row in (done.stdout + done.stderr).splitlines() if row.startswith("Error")]
    assert told == []


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command(tmp_path):
    from mrnoise import save

    save(placed(axes=("frame", "slice")), tmp_path / "map.h5")
    one = tmp_path / "map.h5"
    for target in ("nordic", "snraware", "dwidenoise2", "mppca"):
        assert "export.json" in run("export", one, "--for", target, "-o", tmp_path / target)
    run("export", one, "--for", "bids", "--name", "sub-01_T1w", "-o", tmp_path / "bids")
    assert (tmp_path / "bids/sub-01/anat/sub-01_desc-std_T1w.nii.gz").exists()
    ref = reference(tmp_path / "ref.dcm")
    run("export", one, "--for", "dicom", "--reference", ref, "-o", tmp_path / "pm")
    run("export", one, "--for", "dicom-mr", "--anonymous", "-o", tmp_path / "mr")
    assert (tmp_path / "pm/std_frame4.dcm").exists() and (tmp_path / "mr/std_frame4/005.dcm").exists()
    for words, message in (
        (("--for", "matlab"), "unknown program"),
        (("--for", "bids"), "no BIDS name"),
        (("--for", "nordic", "--name", "sub-01_T1w"), "an option that the target does not take"),
        (("--for", "bids", "--name", "sub-01_T1w", "--anonymous"), "an option that the target does not take"),
        (("--for", "dicom"), "patient and study"),
    ):
        assert message in run("export", one, *words, "-o", tmp_path / "no", code=2)
    assert not (tmp_path / "no").exists()
