"""Maps as a BIDS derivative, for the validator of BIDS where it runs."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mrnoise import Geometry, InputError, export
from small_maps import OBLIQUE, small_map

VALIDATOR = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))


def errors(dataset):
    """What the validator takes for an error: code and file."""
    done = subprocess.run([VALIDATOR, "--format", "json", dataset], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [(i["code"], i.get("location")) for i in issues if i["severity"] == "error"]


def test_names_and_sidecars(tmp_path):
    nm = small_map(geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE))
    written = export.bids(nm, tmp_path, "sub-01_ses-2_acq-r4_T2w")
    folder = tmp_path / "sub-01" / "ses-2" / "anat"
    assert sorted(written) == sorted([*folder.iterdir(), tmp_path / "dataset_description.json"])
    path = folder / "sub-01_ses-2_acq-r4_desc-magnitudeStd_T2w.nii.gz"
    image = nibabel.load(path)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), nm.magnitude_std.float().numpy().T)
    record = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert record["Units"] == "arbitrary" and record["units"] == "image units"
    assert "std/√2" in record["NoiseConvention"] and record["SkullStripped"] is False
    assert json.loads((folder / "sub-01_ses-2_acq-r4_desc-phaseStd_T2w.json").read_text())["Units"] == "rad"


def test_a_second_subject_joins_the_dataset(tmp_path):
    export.bids(small_map(), tmp_path, "sub-01_T1w")
    description = tmp_path / "dataset_description.json"
    description.write_text(description.read_text().replace("Noise maps", "Ours"))
    export.bids(small_map(reference=False), tmp_path, "sub-02_T1w")
    assert "Ours" in description.read_text()
    export.bids(small_map(reference=False), tmp_path, "sub-01_T1w")
    assert not list(tmp_path.rglob("*gFactor*"))


@pytest.mark.skipif(VALIDATOR is None, reason="no BIDS validator")
def test_the_validator_has_no_objection(tmp_path):
    export.bids(small_map(), tmp_path, "sub-01_T1w")
    export.bids(small_map((22, 17)), tmp_path, "sub-02_ses-a_acq-r4_run-2_FLAIR")
    export.bids(dataclasses.replace(small_map(), axes=("echo",)), tmp_path, "sub-03_T2starw")
    assert errors(tmp_path) == []
    # It does object.
    shutil.copy(tmp_path / "sub-01/anat/sub-01_desc-std_T1w.nii.gz", tmp_path / "sub-01/anat/sub-01_T1w_std.nii.gz")
    assert [location for _, location in errors(tmp_path)] == ["/sub-01/anat/sub-01_T1w_std.nii.gz"]


@pytest.mark.parametrize("name", ["sub-01", "T1w", "sub-01_bold", "sub-01_desc-x_T1w", "sub-0/1_T1w", "01_T1w", ""])
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="no BIDS name of an image.*sub-01_T1w"):
        export.bids(small_map(), tmp_path, name)
    assert list(tmp_path.iterdir()) == []
