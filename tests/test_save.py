"""Files written from a noise map, and read back."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch

import mrnoise
from mrnoise.acquisition.geometry import Geometry
from mrnoise.errors import InputError
from mrnoise.estimators.estimate import stack, unknown
from mrnoise.files.atomic import replacing
from mrnoise.io import read_noise_map
from mrnoise.result.provenance import Provenance
from mrnoise.result.quantities import QUANTITIES
from mrnoise.saving import save
from small_maps import OBLIQUE, small_map


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- NIfTI -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "spatial_dims"), [((22, 17), 2), ((5, 22, 17), 2), ((6, 22, 17), 3), ((2, 3, 5, 22, 17), 2)]
)
def test_nifti_round_trip_with_oblique_affine(tmp_path, shape, spatial_dims):
    nm = small_map(shape, geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE), spatial_dims=spatial_dims)
    written = save(nm, tmp_path / "out.nii.gz")
    assert names(tmp_path) == sorted(path.name for path in written)
    assert len(written) == 2 * 7
    for name in ("image", "std", "magnitude_std", "phase_std", "snr", "relative_error", "g_factor"):
        image = nibabel.load(tmp_path / f"out_{name}.nii.gz")
        assert image.get_data_dtype() == np.float32
        np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
        np.testing.assert_allclose(image.get_qform(), OBLIQUE, atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"
        expected = nm.quantity(name).float().numpy().T
        np.testing.assert_array_equal(image.get_fdata(dtype=np.float32).reshape(expected.shape), expected)
        assert image.ndim == max(3, len(shape))


def test_nifti_puts_a_voxel_where_the_geometry_says(tmp_path):
    nm = small_map((5, 22, 17), geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE))
    bright = nm.image.clone()
    bright[3, 20, 2] = 50
    save(dataclasses.replace(nm, image=bright), tmp_path / "out.nii")
    image = nibabel.load(tmp_path / "out_image.nii")
    x, y, z = np.unravel_index(image.get_fdata().argmax(), image.shape)
    assert (z, y, x) == (3, 20, 2)
    np.testing.assert_allclose(image.affine @ [x, y, z, 1], OBLIQUE @ [2, 20, 3, 1], atol=1e-4)


def test_nifti_of_assumed_and_of_sheared_geometry(tmp_path):
    save(small_map(geometry=Geometry((3.0, 0.9, 1.1), measured=False)), tmp_path / "a.nii")
    image = nibabel.load(tmp_path / "a_std.nii")
    assert int(image.header["sform_code"]) == 2
    np.testing.assert_allclose(image.header.get_zooms(), (1.1, 0.9, 3.0), rtol=1e-6)
    sheared = OBLIQUE.copy()
    sheared[0, 1] += 0.4
    save(small_map(geometry=Geometry(affine=sheared)), tmp_path / "b.nii")
    image = nibabel.load(tmp_path / "b_std.nii")
    assert int(image.header["qform_code"]) == 0
    np.testing.assert_allclose(image.affine, sheared, atol=1e-5)


def test_sidecar_says_what_the_file_holds(tmp_path):
    nm = small_map(interrupted=True)
    save(nm, tmp_path / "out.nii.gz")
    record = json.loads((tmp_path / "out_phase_std.json").read_text())
    assert (record["units"], record["definition"]) == (QUANTITIES["phase_std"].unit, QUANTITIES["phase_std"].definition)
    assert (record["method"], record["n_samples"], record["seed"]) == ("sketch", 40, 4)
    assert record["versions"] == {"mrnoise": "0.1.0"}
    assert record["interrupted"] is True
    assert record["summary"]["voxels"] == nm.image.numel()
    assert record["summary"]["median"] == pytest.approx(float(np.median(nm.phase_std.numpy())), rel=1e-5)


def test_values_that_are_not_finite_become_nan(tmp_path):
    nm = small_map()
    image = nm.image.clone()
    image[0, 0, 0] = 0
    save(dataclasses.replace(nm, image=image), tmp_path / "out.nii")
    values = nibabel.load(tmp_path / "out_phase_std.nii").get_fdata()
    assert np.isnan(values[0, 0, 0])
    assert np.isfinite(values).sum() == values.size - 1
    record = json.loads((tmp_path / "out_phase_std.json").read_text())
    assert record["summary"]["voxels_without_value"] == 1


def test_a_map_without_g_factor_leaves_no_old_one(tmp_path):
    save(small_map(), tmp_path / "out.nii")
    save(small_map(), tmp_path / "other.nii")
    save(small_map(reference=False), tmp_path / "out.nii")
    assert [n for n in names(tmp_path) if "g_factor" in n] == ["other_g_factor.json", "other_g_factor.nii"]


# -- HDF5 ------------------------------------------------------------------------------------------------------


def same(a, b):
    assert type(a) is type(b)
    for field in dataclasses.fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, torch.Tensor):
            assert left.dtype == right.dtype
            torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
        elif isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
        elif dataclasses.is_dataclass(left):
            same(left, right)
        else:
            assert left == right, field.name


@pytest.mark.parametrize("error", ["gaussian", "empirical", "none"])
def test_hdf5_round_trip_without_loss(tmp_path, error):
    nm = small_map(error=error, geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE), spatial_dims=3)
    mean = nm.image.to(torch.complex128) * 1e-3
    nm = dataclasses.replace(nm, estimate=dataclasses.replace(nm.estimate, mean=mean))
    save(nm, tmp_path / "out.h5")
    same(nm, read_noise_map(tmp_path / "out.h5"))


def test_hdf5_keeps_an_interrupted_map_with_empty_slices(tmp_path):
    part = small_map((22, 17), reference=False, geometry=Geometry(measured=False))
    estimate = stack([part.estimate, unknown(part.estimate)], (2,))
    image = torch.stack([part.image, torch.full_like(part.image, torch.nan)])
    nm = dataclasses.replace(part, image=image, estimate=estimate)
    save(nm, tmp_path / "out.h5")
    back = read_noise_map(tmp_path / "out.h5")
    same(nm, back)
    assert back.estimate.interrupted
    assert back.reference_std is None
    torch.testing.assert_close(back.relative_error, nm.relative_error, rtol=0, atol=0, equal_nan=True)


def test_hdf5_maps_are_plain_datasets(tmp_path):
    nm = small_map()
    save(nm, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file["maps"]) == set(QUANTITIES) - {"departure", "bias", "bias_error"}  # not in every map
        for name in file["maps"]:
            units, definition = QUANTITIES[name].unit, QUANTITIES[name].definition
            dataset = file["maps"][name]
            assert (dataset.attrs["units"], dataset.attrs["definition"]) == (units, definition)
            np.testing.assert_array_equal(dataset[()], nm.quantity(name).float().numpy())


def test_hdf5_takes_tensors_numpy_does_not_know(tmp_path):
    nm = small_map()
    nm = dataclasses.replace(nm, image=nm.image.conj(), reference_std=nm.reference_std.bfloat16())
    save(nm, tmp_path / "out.h5")
    back = read_noise_map(tmp_path / "out.h5")
    torch.testing.assert_close(back.image, nm.image.resolve_conj(), rtol=0, atol=0)
    torch.testing.assert_close(back.reference_std, nm.reference_std.float(), rtol=0, atol=0)


def test_a_large_provenance_fits(tmp_path):
    record = {"loss": float("nan"), "n": np.int64(3)}
    nm = dataclasses.replace(small_map(), provenance=Provenance(why="x" * 100_000, input=record))
    save(nm, tmp_path / "out.h5")
    assert read_noise_map(tmp_path / "out.h5").provenance == Provenance(why="x" * 100_000, input={"loss": None, "n": 3})


@pytest.mark.parametrize("kind", ["missing", "text", "foreign", "newer", "truncated", "incomplete"])
def test_unreadable_files_give_one_clear_error(tmp_path, kind):
    path = tmp_path / "out.h5"
    if kind == "text":
        path.write_text("not HDF5")
    elif kind == "foreign":
        with h5py.File(path, "w") as file:
            file["kspace"] = np.zeros((2, 3))
    elif kind != "missing":
        save(small_map(), path)
    if kind == "truncated":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "newer":
        with h5py.File(path, "a") as file:
            file.attrs["format_version"] = 99
    elif kind == "incomplete":
        with h5py.File(path, "a") as file:
            del file["estimate/variance"]
    with pytest.raises(InputError, match="cannot read a noise map") as caught:
        read_noise_map(path)
    assert str(path) in caught.value.received


# -- whole files or none ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii.gz", ".h5", ".png", ".html"])
@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_nothing_half_written_remains(tmp_path, monkeypatch, suffix, exception):
    path = tmp_path / f"out{suffix}"
    save(small_map((22, 17)), path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    calls = []

    def failing(descriptor):
        calls.append(descriptor)
        if len(calls) == len(before):  # the last file: all others are complete
            raise exception

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(exception):
        save(small_map((22, 17), scale=7.0), path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_an_exception_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.h5"
    nm = small_map()
    save(nm, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="sampling error of unknown kind"):
        save(dataclasses.replace(nm, estimate=dataclasses.replace(nm.estimate, error=object())), path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["out.h5"]


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")
def test_ctrl_c_while_renaming_waits_until_all_files_are_in_place(tmp_path, monkeypatch):
    rename = os.replace

    def interrupted(source, target):
        rename(source, target)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "replace", interrupted)

    def write():
        with replacing(tmp_path / "a.txt", tmp_path / "b.txt") as partial:
            for path in partial:
                path.write_text("whole")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names(tmp_path) == ["a.txt", "b.txt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_missing_folders_are_made(tmp_path):
    mrnoise.save(small_map(), tmp_path / "new" / "deep" / "out.h5")
    assert names(tmp_path / "new" / "deep") == ["out.h5"]


def test_bad_paths_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"unknown output format.*\.nii\.gz.*received .*out\.tiff"):
        save(small_map(), tmp_path / "out.tiff")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(InputError, match="cannot write the output"):
        save(small_map(), tmp_path / "folder.h5")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the output"):
        save(small_map(), tmp_path / "file" / "out.h5")


SLOW_SAVE = """
import os, signal, sys, threading, time
from pathlib import Path
import mrnoise.saving
from mrnoise.cli.output import write
from mrnoise.cli.main import run
sys.path.insert(0, {tests!r})
from small_maps import small_map

after, folder = int(sys.argv[1]), Path(sys.argv[2])
save, done = mrnoise.saving.save, [0]

def slow(nm, path):
    written = save(nm, path)
    done[0] += 1
    if done[0] == after:
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
        time.sleep(5)
    return written

mrnoise.saving.save = slow
write(small_map(scale=2.0), [folder / name for name in ("map.h5", "map.nii.gz", "panel.png")])
"""


@pytest.mark.parametrize(("after", "kill"), [(1, "SIGKILL"), (2, "SIGKILL"), (3, "SIGKILL"), (2, "SIGTERM")])
def test_a_kill_between_two_files_leaves_the_earlier_map_whole(tmp_path, after, kill):
    """Files of one map were renamed one by one: a kill left maps of two runs side by side."""
    from mrnoise.cli.output import write

    files = [tmp_path / name for name in ("map.h5", "map.nii.gz", "panel.png")]
    write(small_map(), files)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code = SLOW_SAVE.format(tests=str(Path(__file__).parent))
    words = [sys.executable, "-c", code, str(after), str(tmp_path), kill]
    assert subprocess.run(words, timeout=60, capture_output=True, check=False).returncode != 0
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == before


def test_files_of_a_failed_save_leave_nothing(tmp_path, monkeypatch):
    from mrnoise.cli.output import write

    with pytest.raises(InputError):
        write(small_map(), [tmp_path / "map.h5", tmp_path / "map.nii.gz", tmp_path / "map.unknown"])
    assert list(tmp_path.iterdir()) == []
