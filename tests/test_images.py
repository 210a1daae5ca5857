"""Axes that a reconstruction needs whole, and where each image lies in the result."""

import dataclasses

import pytest
import torch

import mrnoise
from mrnoise import InputError, noise_map, read_noise_map, roi_std
from mrnoise.linearization import Images, image_of
from mrnoise.measurement import noise_correlation
from mrnoise.reconstruction import CgSense, Reconstruction, ZeroFilled
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE, FRAMES, SLICES = (10, 8), 3, 2
BASE = simulate(SHAPE, 4, n_slices=SLICES, snr=30, seed=1).undersample(equispaced(SHAPE, 2))


def series(axes):
    """Frames of both slices, each of another intensity, with the leading axes in this order."""
    kspace = torch.stack([(1 + k) * BASE.kspace for k in range(FRAMES)])
    if axes == ("slice", "frame"):
        kspace = kspace.transpose(0, 1)
    maps = BASE.coil_maps.unsqueeze(axes.index("frame")).expand(kspace.shape)
    return BASE.replace(kspace=kspace, coil_maps=maps, axes=axes)


@dataclasses.dataclass(frozen=True)
class Smoothed(Reconstruction):
    """Every frame less half of the mean of all frames."""

    joint = ("frame",)

    def bind(self, acquisition):
        frames = [acquisition.at(frame=k) for k in range(FRAMES)]
        bound = [ZeroFilled().bind(frame) for frame in frames]

        def reconstruct(kspace):
            images = torch.stack([one(k) for one, k in zip(bound, kspace.unbind(0), strict=True)])
            return images - 0.5 * images.mean(0)

        return reconstruct


@pytest.mark.parametrize("axes", [("frame", "slice"), ("slice", "frame")])
def test_a_joint_axis_stays_whole(axes):
    """δ_k - ½ mean δ of 3 independent frames has (1 - 1/3 + 1/12) of the variance of one."""
    acq = series(axes)
    images = Images.of(Smoothed(), acq)
    assert (images.joint, images.apart, images.count) == (("frame",), ("slice",), SLICES)
    nm = noise_map(Smoothed(), acq, method="exact")
    alone = noise_map(ZeroFilled(), acq, method="exact")
    assert nm.image.shape == alone.image.shape == acq.image_shape and nm.axes == axes
    torch.testing.assert_close(nm.variance, alone.variance * (1 - 1 / 3 + 1 / 12), rtol=1e-4, atol=0)
    torch.testing.assert_close(nm.image, image_of(Smoothed(), acq))
    where = axes.index("frame")
    mean = image_of(ZeroFilled(), acq).mean(where, keepdim=True)
    torch.testing.assert_close(nm.image, image_of(ZeroFilled(), acq) - 0.5 * mean)


@pytest.mark.parametrize("axes", [("frame", "slice"), ("slice", "frame")])
def test_regions_and_voxels_find_their_image(axes):
    acq = series(axes)
    index = {"frame": 2, "slice": 1}
    voxel = (*(index[axis] for axis in axes), 6, 3)
    weights = torch.zeros(acq.image_shape, dtype=torch.bool)
    weights[voxel] = True
    nm = noise_map(Smoothed(), acq, method="exact")
    assert roi_std(Smoothed(), acq, weights) == pytest.approx(float(nm.magnitude_std[voxel]), rel=1e-4)
    found = noise_correlation(Smoothed(), acq, voxel, nm)
    assert float(found.coefficient[2, 6, 3]) == pytest.approx(1, rel=1e-4)


def test_split_is_the_inverse_of_join():
    for axes in (("frame", "slice"), ("slice", "frame")):
        images = Images.of(Smoothed(), series(axes))
        values = torch.randn(images.acquisition.image_shape)
        assert torch.equal(images.join(images.split(values)), values)
    assert Images.of(Smoothed(), series(("frame", "slice"))).place((0, 5, 1, 1)) is None


def test_names_stay_in_maps_and_files(tmp_path):
    nm = noise_map(CgSense(0.1), series(("frame", "slice")), method="sketch", n_samples=3)
    mrnoise.save(nm, tmp_path / "map.h5")
    assert read_noise_map(tmp_path / "map.h5").axes == nm.axes == ("frame", "slice")
    mrnoise.save(nm, tmp_path / "map.nii.gz")
    assert '"axes": [\n    "x",\n    "y",\n    "z",\n    "frame"\n  ]' in (tmp_path / "map_std.json").read_text()


def test_names_that_do_not_fit_are_refused():
    for axes in (("frame",), ("frame", "frame"), ("a b", "slice")):
        with pytest.raises(InputError, match="names of axes do not fit"):
            series(("frame", "slice")).replace(axes=axes)


def test_a_reconstruction_that_fails_is_one_error():
    """Also where its image is all that is asked for."""
    with pytest.raises(InputError, match="fails on this scan.*ZeroDivisionError"):
        image_of(lambda kspace: kspace / (1 // 0), simulate((8, 6), 2))
