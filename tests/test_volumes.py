"""Volumes whose readout was sampled as a whole: plane by plane, the same image and the same noise."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import psutil
import pytest
import torch

from mrnoise import InputError, noise_map, roi_std, save
from mrnoise.acquisition import Acquisition, simultaneous_slices
from mrnoise.acquisition.planes import planes, whole_axis
from mrnoise.closed_form import grappa_std
from mrnoise.io import read_noise_map
from mrnoise.linearization import Images, image_of, linearize
from mrnoise.mapping import run as mapping
from mrnoise.mapping.memory import memory_needed
from mrnoise.measurement import point_spread
from mrnoise.networks import build
from mrnoise.networks.deep_reconstruction import DeepReconstruction
from mrnoise.reconstruction import CgSense, Grappa, RootSumOfSquares, Sense, ZeroFilled
from mrnoise.result import compare
from mrnoise.sampling import Grid, caipi, equispaced, poisson_disc, radial_3d
from mrnoise.simulation import simulate

COILS = 3
# Both axes are undersampled: planes are those across the third.
LATTICE = caipi((8, 6, 1), (2, 2))[..., 0]


@dataclass(frozen=True)
class Whole(CgSense):
    """CG-SENSE of the whole volume, never plane by plane."""

    def planewise(self, volume, axis):
        return None


def volume(mask, axis, length, **more):
    """A scan in double precision whose sampling (a, b) is that of every plane across an axis."""
    shape = list(mask.shape)
    shape.insert(3 + axis, length)
    scan = simulate(tuple(shape), COILS, mask=mask.unsqueeze(axis).expand(shape), snr=30.0, seed=1, **more)
    maps = scan.coil_maps.to(torch.complex128)
    return scan.replace(kspace=scan.kspace.to(torch.complex128), coil_maps=maps)


@pytest.mark.parametrize("axis", [-3, -2, -1])
def test_planes_have_the_image_and_the_noise_of_the_volume(axis):
    scan = volume(poisson_disc((6, 5), 1.5, calibration=2), axis, 7)
    assert whole_axis(scan) == axis and Images.of(CgSense(), scan).shape == (7,)
    assert not Images.of(CgSense(), scan, planewise=False).shape
    converged = [image_of(method(1e-2, tolerance=1e-10), scan) for method in (CgSense, Whole)]
    torch.testing.assert_close(*converged, rtol=1e-6, atol=1e-9)
    apart, whole = (noise_map(method, scan, method="exact") for method in (CgSense(1e-2), Whole(1e-2)))
    assert apart.axes == whole.axes == () and apart.spatial_dims == 3
    torch.testing.assert_close(apart.std, whole.std, rtol=1e-4, atol=0)
    torch.testing.assert_close(apart.g_factor, whole.g_factor, rtol=1e-4, atol=0)
    assert float(apart.std.amax() / apart.std.amin()) > 1.5  # axes that were mixed up would show
    # Planes are independent: a region over several of them.
    region = torch.zeros(scan.image_shape, dtype=torch.bool)
    region[2:6, 1:5, 2:4] = True
    of_region = [float(roi_std(method, scan, region)) for method in (CgSense(1e-2), Whole(1e-2))]
    assert of_region[0] == pytest.approx(of_region[1], rel=1e-5)
    for wrong in (region[1:], region[:, 1:], region[..., 1:]):
        with pytest.raises(InputError, match="region"):
            roi_std(CgSense(1e-2), scan, wrong)
    voxel = (4, 3, 2)
    spread = [point_spread(method, scan, voxel).contrast_recovery for method in (CgSense(1e-2), Whole(1e-2))]
    assert spread[0] == pytest.approx(spread[1], rel=1e-4)


def test_leading_axes_come_before_those_of_a_volume():
    one = volume(LATTICE, -2, 5)
    both = one.replace(kspace=torch.stack([one.kspace, 2 * one.kspace]), axes=("echo",))
    images = Images.of(Sense(), both)
    assert images.shape == (2, 5) and images.axes == ("echo",) and images.place((1, 4, 3, 2)) == (8, (4, 2))
    assert images.place((1, 4, 5, 2)) is None  # of 5 planes
    nm = noise_map(Sense(), both)
    assert nm.image.shape == (2, 8, 5, 6) and nm.method == "lattice"
    torch.testing.assert_close(nm.image[1], 2 * image_of(Sense(), one), rtol=1e-6, atol=0)
    torch.testing.assert_close(nm.std[0], noise_map(Sense(), one, method="exact").std, rtol=1e-5, atol=1e-9)
    for part, back in zip(images.split(nm.std), images.split(images.join(images.split(nm.std))), strict=True):
        assert torch.equal(part, back)


@pytest.mark.parametrize("axis", [-3, -1])
@pytest.mark.parametrize("combination", ["rss", "adaptive", "sense"])
@pytest.mark.parametrize(
    "mask", [equispaced((20, 16), 2, calibration=9), caipi((20, 16, 1), (2, 2), calibration=14)[..., 0]]
)
def test_grappa_of_planes_has_the_kernels_of_the_volume(axis, combination, mask):
    scan, method = volume(mask, axis, 21), Grappa((2, 3), combination=combination)
    images = Images.of(method, scan)
    assert images.shape == (21,)
    with torch.no_grad():
        whole = method.bind(scan)(scan.kspace)
    torch.testing.assert_close(images.reconstruct(), whole, rtol=1e-5, atol=1e-7)
    closed = noise_map(method, scan, method="closed_form").std
    torch.testing.assert_close(closed, grappa_std(method, scan), rtol=1e-5, atol=1e-9)
    # Kernels of each plane alone are others.
    alone = torch.stack([method.bind(p)(p.kspace) for p in planes(scan, axis).slices()], axis)
    assert float((alone - whole).norm() / whole.norm()) > 1e-3


def test_others_without_coil_maps_and_two_dimensional_networks():
    scan = volume(equispaced((10, 9), 2), -3, 11).replace(coil_maps=None)
    torch.testing.assert_close(
        image_of(RootSumOfSquares(), scan), RootSumOfSquares().bind(scan)(scan.kspace), rtol=1e-6, atol=1e-9
    )
    with_maps = volume(equispaced((10, 9), 2), -3, 11)
    zero_filled = ZeroFilled().bind(with_maps)(with_maps.kspace)
    torch.testing.assert_close(image_of(ZeroFilled(), with_maps), zero_filled, rtol=1e-5, atol=1e-9)
    network = DeepReconstruction(build("modl", unrolls=1, features=4), name="small")
    with pytest.raises(InputError, match="one slice.*takes a volume apart"):
        network.bind(with_maps)
    nm = noise_map(network, with_maps, method="sketch", n_samples=4)
    assert nm.image.shape == (11, 10, 9) and Images.of(network, with_maps).shape == (11,)
    plane = planes(with_maps, -3).at(plane=2)
    torch.testing.assert_close(nm.image[2], network.bind(plane)(plane.kspace).detach(), rtol=1e-6, atol=0)


def test_a_slab_against_replicas_of_the_volume():
    """By exact voxels and products, plane by plane; replicas go through the volume. Floor: 3.5 % of 400 replicas."""
    scan = simulate((3, 14, 12), 4, mask=poisson_disc((14, 12), 2, calibration=4).expand(3, 14, 12), snr=40.0, seed=1)
    replicas = noise_map(Whole(1e-2), scan, method="monte_carlo", n_samples=400, seed=7)
    region = scan.coil_maps.abs().sum(0) > 0
    for method in ("exact", "sketch"):
        nm = noise_map(CgSense(1e-2), scan, method=method, n_samples=None if method == "exact" else 400)
        found = compare(nm, replicas, region)
        assert found.nrmse < 1.3 * found.floor and found.ratio == pytest.approx(1, abs=0.02)
        assert compare(nm.scaled(2**0.5), replicas, region).nrmse > 8 * found.floor


def test_what_does_not_split_is_one_problem():
    scan = volume(LATTICE, -1, 5)
    for method in (CgSense(iterations=3), lambda kspace: kspace[0]):
        assert Images.of(method, scan).shape == ()
    kernels = volume(equispaced((20, 16), 2, calibration=9), -1, 6)
    assert Images.of(Grappa((2, 3), differentiate_calibration=True), kernels).shape == ()
    without = scan.replace(coil_maps=None)
    assert Images.of(CgSense(), without).shape == ()  # noise of calibration lines is in all planes
    assert Images.of(Sense(), simulate((7, 6), 2)).shape == ()
    more = torch.ones(scan.spatial_shape)
    more[..., 2] = 2
    partial = torch.ones(scan.spatial_shape, dtype=torch.bool)
    partial[..., 4] = False
    for other in (
        scan.replace(averages=more.where(scan.mask, 1)),
        scan.replace(sampling=Grid(scan.mask & partial, 3, partial)),
    ):
        assert whole_axis(other) is None and Images.of(CgSense(), other).shape == ()
    trajectory = radial_3d((6, 5, 4), 20, 8)
    assert whole_axis(simulate((6, 5, 4), 2, trajectory=trajectory)) is None
    excited = simulate((9, 8), 2, n_slices=2, seed=1)
    both = simultaneous_slices(excited.kspace.sum(0), excited.noise_covariance, excited.kspace)
    assert Images.of(RootSumOfSquares(), both).shape == (9,)  # its readout


@pytest.mark.parametrize(
    "make",
    [
        lambda: planes(volume(equispaced((7, 6), 2), -1, 5), -3),
        lambda: planes(simulate((7, 6), 2), -1),
        lambda: planes(Acquisition(torch.ones(2, 3, 4, 5, 6) + 0j, torch.eye(3), spatial_dims=3), -1),
    ],
)
def test_scans_that_do_not_split_are_refused(make):
    with pytest.raises(InputError, match="does not split into planes"):
        make()


def test_a_volume_that_will_not_fit_is_said_so_before_it_starts(monkeypatch):
    scan = volume(LATTICE, -1, 5)
    needed = [memory_needed(Images.of(method, scan)) for method in (CgSense(), Whole())]
    assert needed[0] < needed[1]
    free = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free._replace(available=sum(needed) / 2))
    assert noise_map(CgSense(), scan).method == "lattice"
    begun = []
    monkeypatch.setattr(Whole, "bind", lambda *given: begun.append(given))
    with pytest.raises(InputError, match="map of this volume is too large.*GiB.*plane by plane"):
        noise_map(Whole(), scan)
    assert not begun


# -- kept while it is made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "sketch", "monte_carlo", "closed_form", "exact", "spots", "probe"])
def test_a_map_goes_on_from_a_checkpoint(method, tmp_path, monkeypatch):
    """The bits of one run, and no image twice."""
    monkeypatch.setattr(mapping, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(mapping, "CHECKPOINT_SHARE", 0.0)
    scan = volume(caipi((12, 10, 1), (2, 2))[..., 0], -1, 4)
    options = {"method": method, "seed": 3}
    if method not in ("closed_form", "exact"):
        options["target_error"] = 0.2
    kept = []
    once = noise_map(CgSense(1e-2), scan, **options, checkpoint=kept.append)
    assert len(kept) == 3
    save(kept[1], tmp_path / "part.h5")
    part = read_noise_map(tmp_path / "part.h5")
    assert part.interrupted and bool(part.std[..., 2:].isnan().all()) and not bool(part.std[..., :2].isnan().all())
    bound = []

    def bind(self, acquisition, before=CgSense.bind):
        bound.append(1)
        return before(self, acquisition)

    monkeypatch.setattr(CgSense, "bind", bind)
    on = noise_map(CgSense(1e-2), scan, **options, resume=part)
    assert len(bound) <= 2  # that in the middle, on which a method is chosen, is the third
    for name in ("variance", "relative_error", "image"):
        torch.testing.assert_close(getattr(on, name), getattr(once, name), rtol=0, atol=0, equal_nan=True)
    assert not on.interrupted and on.n_products == pytest.approx(once.n_products, abs=4)
    # Of a whole map nothing is left to do.
    again = noise_map(CgSense(1e-2), scan, **options, resume=on)
    assert len(bound) <= 2 and torch.equal(again.std.nan_to_num(), on.std.nan_to_num())
    if "target_error" in options and method in ("sketch", "monte_carlo"):
        finer = noise_map(CgSense(1e-2), scan, **(options | {"target_error": 0.1}), resume=on)
        assert finer.n_samples > on.n_samples


KILLED = """
import os, signal
from mrnoise.cli.main import run
from mrnoise.mapping import run as mapping
mapping.CHECKPOINT_SECONDS = mapping.CHECKPOINT_SHARE = 0.0
inner, done = mapping.assemble, []
def armed(*given):
    done.append(1)
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*given)
mapping.assemble = armed
run()
"""


def test_a_killed_command_goes_on(tmp_path):
    """After two of five planes; the map is that of a run that was left alone, and what was kept is gone."""

    def command(*arguments, code="from mrnoise.cli.main import run; run()"):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        given = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(given, capture_output=True, text=True, env=environment, timeout=300)

    scan, out = tmp_path / "scan.npz", tmp_path / "map.h5"
    made = command("simulate", scan, "--matrix", "14,12,5", "--coils", 3, "--pattern", "caipi", "--spacing", "2,2")
    assert made.returncode == 0, made.stderr
    options = ("map", scan, "-r", "rss", "-m", "sketch", "-n", 30)
    killed = command(*options, "-o", out, code=KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    partial = tmp_path / "map.partial.h5"
    assert partial.exists() and not out.exists()
    part = read_noise_map(partial)
    assert int(part.std.isfinite().any(0).any(0).sum()) == 2
    assert command(*options, "-o", out, "--resume").returncode == 0 and not partial.exists()
    assert command(*options, "-o", tmp_path / "whole.h5").returncode == 0
    on, whole = read_noise_map(out), read_noise_map(tmp_path / "whole.h5")
    assert torch.equal(on.variance, whole.variance) and torch.equal(on.image, whole.image) and not on.interrupted


def test_every_operator_of_a_volume_is_that_of_a_plane():
    scan = volume(LATTICE, -1, 3)
    assert [operator.image_shape for operator in linearize(CgSense(1e-2), scan)] == [(8, 6)] * 3
