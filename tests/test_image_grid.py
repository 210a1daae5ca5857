"""Which axis of an image is which in other programs, and masks that come back from them."""

import dataclasses
import json
import shutil
import subprocess

import nibabel
import numpy as np
import pytest
import torch

from mrnoise import Geometry, InputError, noise_map, save
from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.io import read, read_mask
from mrnoise.simulation import simulate
from small_maps import OBLIQUE, small_map
from test_cli import run
from test_read_mrd import COILS, NX, NY, header, line, noise_line, oversampled, unit_noise, write

LENGTHS = {"slice": 5, "frame": 4, "echo": 3, "set": 2, "z": 6}
# Axes of the image, its spatial dimensions, and what NIfTI files have behind x and y.
STACKS = [
    ((), 2, (1,), ()),
    (("slice",), 2, (5,), ()),
    (("echo",), 2, (1, 3), ("echo",)),
    (("frame",), 2, (1, 4), ("frame",)),
    (("frame", "slice"), 2, (5, 4), ("frame",)),
    (("slice", "frame"), 2, (5, 4), ("frame",)),
    (("echo", "slice"), 2, (5, 3), ("echo",)),
    (("frame", "echo", "slice"), 2, (5, 4, 3), ("frame", "echo")),
    (("set", "echo", "frame", "slice"), 2, (5, 4, 3, 2), ("frame", "echo", "set")),
    (("frame",), 3, (6, 4), ("frame",)),
    (("slice",), 3, (6, 5), ("slice",)),
]


def named(axes, dims, geometry):
    shape = (*(LENGTHS[axis] for axis in axes), *([LENGTHS["z"]] if dims == 3 else []), 22, 17)
    return dataclasses.replace(small_map(shape, spatial_dims=dims, geometry=geometry), axes=axes)


@pytest.mark.parametrize(("axes", "dims", "behind", "names"), STACKS)
def test_slices_are_z_and_frames_and_echoes_are_not(tmp_path, axes, dims, behind, names):
    nm = named(axes, dims, Geometry((3.0, 0.9, 1.1), OBLIQUE))
    save(nm, tmp_path / "a.nii")
    image = nibabel.load(tmp_path / "a_std.nii")
    assert image.shape == (17, 22, *behind)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(image.header.get_zooms()[:3], np.linalg.norm(OBLIQUE[:3, :3], axis=0), rtol=1e-5)
    assert json.loads((tmp_path / "a_std.json").read_text())["axes"] == ["x", "y", "z", *names]
    # One voxel, found by the names of its axes.
    index = {axis: LENGTHS[axis] - 2 for axis in axes} | {"z": 2, "y": 20, "x": 3}
    ours = tuple(index[axis] for axis in [*axes, *("z", "y", "x")[-dims:]])
    z = index["z"] if dims == 3 else index.get("slice", 0)
    theirs = (3, 20, z, *(index[name] for name in names))
    assert float(image.dataobj[theirs]) == np.float32(nm.std[ours])


@pytest.mark.parametrize(("axes", "dims", "behind", "names"), STACKS)
def test_volumes_and_back(axes, dims, behind, names):
    grid = named(axes, dims, Geometry()).image_grid
    values = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    assert grid.volumes(values).shape == grid.volumes_shape == (*behind[::-1], 22, 17)
    np.testing.assert_array_equal(grid.from_volumes(grid.volumes(values)), values)


def test_unnamed_axes_have_the_usual_names():
    assert ImageGrid((2, 4, 5, 22, 17), 2, (), Geometry()).axes == ("echo", "frame", "slice")
    assert ImageGrid((4, 6, 22, 17), 3, (), Geometry()).axes == ("frame",)
    # A reconstruction that makes one image of all echoes.
    assert ImageGrid((5, 22, 17), 2, ("echo", "slice"), Geometry()).axes == ("slice",)


@pytest.mark.skipif(shutil.which("mrinfo") is None, reason="MRtrix is not installed")
def test_mrtrix_agrees(tmp_path):
    nm = named(("echo",), 2, Geometry((3.0, 0.9, 1.1), OBLIQUE))
    save(nm, tmp_path / "a.nii.gz")

    def told(option):
        words = ["mrinfo", option, tmp_path / "a_std.nii.gz"]
        return np.array(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split(), float)

    assert told("-size").tolist() == [17, 22, 1, 3]
    lengths = np.linalg.norm(OBLIQUE[:3, :3], axis=0)
    np.testing.assert_allclose(told("-spacing")[:3], lengths, rtol=1e-5)
    expected = OBLIQUE.copy()
    expected[:3, :3] /= lengths
    np.testing.assert_allclose(told("-transform").reshape(4, 4), expected, atol=1e-4)


def test_a_scan_of_one_slice_with_echoes(tmp_path):
    """Its echoes lay behind each other along z, five millimetres apart."""
    rng = np.random.default_rng(19)
    k = oversampled(unit_noise(rng, 3, COILS, NY, NX))
    lines = [noise_line(rng)] + [
        line(k[e, :, y], y, contrast=e, position=(0, 0, 12), directions=np.eye(3)) for e in range(3) for y in range(NY)
    ]
    scan = read(write(tmp_path / "a.h5", lines, header()))
    save(noise_map(lambda k: k.sum(-3), scan, method="sketch", n_samples=2), tmp_path / "a.nii")
    image = nibabel.load(tmp_path / "a_std.nii")
    assert image.shape == (NX, NY, 1, 3)
    # Image space of MRD is left, posterior, superior.
    np.testing.assert_allclose(image.affine[:3, 3], [10 * (NX // 2), 10 * (NY // 2), 12])
    np.testing.assert_allclose(np.diag(image.affine), [-10, -10, 5, 1])


def test_one_slice_of_a_stack_lies_where_it_lay():
    scan = simulate((16, 12), 3, n_slices=4).replace(geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE))
    np.testing.assert_allclose(scan.at(slice=3).geometry.affine[:3, 3], (OBLIQUE @ [0, 0, 3, 1])[:3])
    assert scan.at(slice=0).image_grid.affine.tolist() == OBLIQUE.tolist()


def test_a_place_that_nobody_measured_is_marked(tmp_path):
    """Localisers: voxel size known, no single affine."""
    save(small_map(geometry=Geometry((3.0, 0.9, 1.1))), tmp_path / "a.nii")
    assert int(nibabel.load(tmp_path / "a_std.nii").header["sform_code"]) == 2
    assert json.loads((tmp_path / "a_std.json").read_text())["geometry_measured"] is False


# -- masks -----------------------------------------------------------------------------------------------------

ORIENTATIONS = ["RAS", "LAS", "LPI", "PIR", "SAL"]


def drawn(tmp_path, nm):
    """A mask drawn on the saved map in its own voxels, asymmetric in every way: file, and what it means."""
    save(nm, tmp_path / "map.nii.gz")
    on = nibabel.load(tmp_path / "map_image.nii.gz")
    mask = np.zeros(on.shape[:3], np.uint8)
    mask[2:5, 14:20, : max(1, on.shape[2] // 2)] = 1
    mask[5, 14, 0] = 1
    grid = nm.image_grid
    meaning = np.broadcast_to(mask.T.astype(bool), grid.volumes_shape)
    return nibabel.Nifti1Image(mask, on.affine), grid.from_volumes(meaning)


def reoriented(image, codes):
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    return image.as_reoriented(turn)


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize(
    "geometry", [Geometry((3.0, 0.9, 1.1), OBLIQUE), Geometry((3.0, 0.9, 1.1)), Geometry(measured=False)]
)
@pytest.mark.parametrize(("axes", "dims"), [(("slice",), 2), (("echo",), 2), (("slice", "frame"), 2), (("frame",), 3)])
def test_a_reoriented_mask_is_the_same_region(tmp_path, codes, geometry, axes, dims):
    nm = named(axes, dims, geometry)
    mask, meaning = drawn(tmp_path, nm)
    turned = reoriented(mask, codes)
    assert nibabel.aff2axcodes(turned.affine) == tuple(codes)
    nibabel.save(turned, tmp_path / "mask.nii.gz")
    found = read_mask(tmp_path / "mask.nii.gz", nm.image_grid)
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found.numpy(), meaning)


def test_a_mask_of_other_voxels_is_sampled_at_the_centres(tmp_path):
    nm = named(("slice",), 2, Geometry((3.0, 0.9, 1.1), OBLIQUE))
    fine = OBLIQUE @ np.diag([0.5, 0.5, 1 / 3, 1.0])
    fine[:3, 3] += OBLIQUE[:3, :3] @ [-0.25, -0.25, -1 / 3]  # the same field of view
    small = np.zeros((17, 22, 5), bool)
    small[3:8, 6:9, 1:3] = True
    image = nibabel.Nifti1Image(np.kron(small, np.ones((2, 2, 3))).astype(np.uint8), fine)
    nibabel.save(image, tmp_path / "fine.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "fine.nii", nm.image_grid).numpy(), small.T)
    # Half of it, cut out by another program: what lies beyond is outside.
    nibabel.save(image.slicer[:8, :, :6], tmp_path / "half.nii")
    small[4:], small[..., 2:] = False, False
    np.testing.assert_array_equal(read_mask(tmp_path / "half.nii", nm.image_grid).numpy(), small.T)


def test_a_mask_for_every_frame(tmp_path):
    nm = named(("frame", "slice"), 2, Geometry((3.0, 0.9, 1.1), OBLIQUE))
    inside = np.random.default_rng(1).random(nm.image.shape) < 0.3
    nibabel.save(nibabel.Nifti1Image(inside.T.astype(np.uint8), OBLIQUE), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii", nm.image_grid).numpy(), inside)


@pytest.mark.parametrize("affine", [None, np.eye(4)])
def test_a_mask_that_says_nothing_of_its_place_has_the_voxels_of_the_image(tmp_path, affine):
    nm = named(("slice",), 2, Geometry((3.0, 0.9, 1.1), OBLIQUE))
    inside = np.zeros((17, 22, 5), np.uint8)
    inside[3:8, 6:9, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(inside, affine), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii", nm.image_grid).numpy(), inside.T > 0)
    nibabel.save(nibabel.Nifti1Image(inside.swapaxes(0, 1), affine), tmp_path / "b.nii")
    with pytest.raises(InputError, match="mask does not fit the image"):
        read_mask(tmp_path / "b.nii", nm.image_grid)


def test_masks_that_cannot_be_brought_to_the_image_are_refused(tmp_path):
    nm = named(("slice",), 2, Geometry((3.0, 0.9, 1.1), OBLIQUE))
    mask, _ = drawn(tmp_path, nm)
    away = mask.affine.copy()
    away[:3, 3] += 400
    nibabel.save(nibabel.Nifti1Image(mask.get_fdata(), away), tmp_path / "away.nii")
    with pytest.raises(InputError, match=r"lies outside the image: expected voxels in R .* mm; received R .*away\.nii"):
        read_mask(tmp_path / "away.nii", nm.image_grid)
    nibabel.save(nibabel.Nifti1Image(np.ones((17, 22, 5, 3)), OBLIQUE), tmp_path / "frames.nii")
    with pytest.raises(InputError, match="mask does not fit the image"):
        read_mask(tmp_path / "frames.nii", nm.image_grid)
    flat = np.diag([1.0, 0, 1, 1])
    nibabel.save(nibabel.Nifti1Image(mask.get_fdata(), mask.affine), tmp_path / "flat.nii")
    damaged = nibabel.load(tmp_path / "flat.nii")
    damaged.header.set_sform(flat, 1)
    damaged.header["qform_code"] = 0
    nibabel.Nifti1Image(damaged.get_fdata(), None, damaged.header).to_filename(tmp_path / "flat.nii.gz")
    with pytest.raises(InputError, match="the mask lies nowhere"):
        read_mask(tmp_path / "flat.nii.gz", nm.image_grid)
    # A scan without a place, and a mask in the scanner.
    nowhere = named(("slice",), 2, Geometry(measured=False)).image_grid
    nibabel.save(mask, tmp_path / "mask.nii")
    with pytest.raises(InputError, match="the mask has a place, the image has none"):
        read_mask(tmp_path / "mask.nii", nowhere)
    shifted = nowhere.affine.copy()
    shifted[0, 3] += 1
    nibabel.save(nibabel.Nifti1Image(mask.get_fdata(), shifted), tmp_path / "shifted.nii")
    with pytest.raises(InputError, match="the mask has a place, the image has none"):
        read_mask(tmp_path / "shifted.nii", nowhere)


@pytest.mark.parametrize(("factor", "fits"), [([1, 1], True), ([7, 7], True), ([1, 2], False), ([0.2, 0.9], False)])
def test_a_mask_has_one_value_inside(tmp_path, factor, fits):
    """Labels were the union of all of them, and probabilities all that was not zero."""
    nm = named(("slice",), 2, Geometry((3.0, 0.9, 1.1), OBLIQUE))
    mask, meaning = drawn(tmp_path, nm)
    values = np.asarray(mask.dataobj) * np.where(np.arange(17) < 4, *factor)[:, None, None]
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), mask.affine), tmp_path / "labels.nii")
    if fits:
        assert np.array_equal(read_mask(tmp_path / "labels.nii", nm.image_grid), meaning)
        return
    with pytest.raises(InputError, match="the mask holds several values: .* 2 values other than 0"):
        read_mask(tmp_path / "labels.nii", nm.image_grid)


def test_an_image_is_no_mask(tmp_path):
    """Its imaginary part was left out with a warning."""
    nm = named((), 2, Geometry())
    np.save(tmp_path / "image.npy", np.ones(nm.std.shape, np.complex64))
    with pytest.raises(InputError, match="the mask holds complex values"):
        read_mask(tmp_path / "image.npy", nm.image_grid)


def test_the_mean_in_a_reoriented_mask(tmp_path):
    """A scan whose bright corner is measured, whatever the orientation of the file that says where it is."""
    rng = np.random.default_rng(29)
    image = np.ones((COILS, NY, NX), np.complex64) * 20
    image[:, 6:9, 2:5] = 50
    k = oversampled(image + unit_noise(rng, COILS, NY, NX))
    lines = [noise_line(rng, 4000)] + [line(k[:, y], y, directions=np.eye(3)) for y in range(NY)]
    scan = write(tmp_path / "a.h5", lines, header())
    common = ["-r", "rss", "--coil-maps", "propagated"]
    run("map", scan, *common, "-n", 8, "-o", tmp_path / "a.nii.gz")
    on = nibabel.load(tmp_path / "a_image.nii.gz")
    assert nibabel.aff2axcodes(on.affine) == ("L", "P", "S")
    mask = np.zeros(on.shape, np.uint8)
    mask[2:5, 6:9] = 1
    mask = nibabel.Nifti1Image(mask, on.affine)
    for codes in ("LPS", *ORIENTATIONS):
        nibabel.save(reoriented(mask, codes), tmp_path / "mask.nii.gz")
        run("roi", scan, *common, "--region", tmp_path / "mask.nii.gz", "--json", tmp_path / "roi.json")
        measured = json.loads((tmp_path / "roi.json").read_text())["measurements"]["Region, 9 voxels"]
        assert measured[0]["value"] == pytest.approx(50 * COILS**0.5, rel=0.01), codes
