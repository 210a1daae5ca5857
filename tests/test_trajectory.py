"""Trajectories have their place: accepted, checked, saved, shown, mapped by a callable that knows them."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mrnoise import Acquisition, InputError, noise_map, read
from mrnoise.cli.main import app
from mrnoise.encoding import NonCartesian
from mrnoise.io.scans.npz import write_npz
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import Trajectory
from mrnoise.simulation import random_noise_covariance

MATRIX, COILS = (14, 12), 3


def spokes(n=9, samples=20):
    """(2, n, samples), inside ±6 along both axes."""
    radius = torch.linspace(-5.9, 5.9, samples, dtype=torch.float64)
    angle = torch.arange(n, dtype=torch.float64)[:, None] * math.pi / n
    return torch.stack([radius * angle.sin(), radius * angle.cos()])


def encode(trajectory, maps):
    """Dense A of the docstring, (coil · samples, voxels)."""
    ny, nx = trajectory.image_shape
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in (ny, nx))
    ky, kx = trajectory.coordinates.flatten(1)
    phase = ky[:, None, None] * y[:, None] / ny + kx[:, None, None] * x / nx
    f = torch.exp(-2j * math.pi * phase).flatten(1) / (ny * nx) ** 0.5
    return torch.cat([f * s.flatten() for s in maps])


def scan(**changes):
    trajectory = Trajectory(spokes(), MATRIX)
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(COILS, *MATRIX, dtype=torch.complex128, generator=g)
    image = torch.randn(MATRIX, dtype=torch.complex128, generator=g)
    kspace = (encode(trajectory, maps) @ image.flatten()).reshape(COILS, *trajectory.sample_shape)
    fields = {"sampling": trajectory, "coil_maps": maps} | changes
    return Acquisition(kspace, random_noise_covariance(COILS, 5.0, 1), **fields)


def test_whole_k_are_the_grid():
    """The matrix of the docstring over all whole k is unitary, and that of the centred transform."""
    from mrnoise.fourier import to_kspace

    k = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in MATRIX), indexing="ij"))
    a = encode(Trajectory(k, MATRIX), torch.ones(1, *MATRIX))
    torch.testing.assert_close(a.mH @ a, torch.eye(len(a), dtype=torch.complex128))
    image = torch.randn(MATRIX, dtype=torch.complex128)
    torch.testing.assert_close((a @ image.flatten()).reshape(MATRIX), to_kspace(image))


def test_a_callable_is_mapped():
    """Least squares by a dense matrix against its covariance; every sample has noise, over coils."""
    acq = scan()
    a = encode(acq.sampling, acq.coil_maps)
    inverse = torch.linalg.solve(a.mH @ a + 0.1 * torch.eye(a.shape[1]), a.mH)
    nm = noise_map(lambda y: (inverse @ y.flatten()).reshape(MATRIX), acq, method="exact")
    psi = torch.kron(acq.noise_covariance.matrix, torch.eye(acq.sampling.n_samples))
    expected = (inverse @ psi @ inverse.mH).diagonal().real.sqrt().reshape(MATRIX)
    torch.testing.assert_close(nm.std, expected, rtol=1e-6, atol=0)
    assert nm.acceleration == pytest.approx(14 * 12 / 180) and nm.g_factor is not None


def test_leading_axes_and_pickle():
    acq = scan()
    series = acq.replace(kspace=torch.stack([acq.kspace, 2 * acq.kspace]), axes=("frame",))
    assert series.image_shape == (2, *MATRIX) and series.at(frame=1).axes == ()
    torch.testing.assert_close(series.at(frame=1).kspace, 2 * acq.kspace)
    back = pickle.loads(pickle.dumps(series))
    assert back.axes == ("frame",) and torch.equal(back.sampling.coordinates, acq.sampling.coordinates)


def test_what_is_of_a_grid_says_so():
    with pytest.raises(InputError, match="needs Cartesian sampling"):
        _ = scan().mask
    calibration = scan().kspace
    with pytest.raises(InputError, match="calibration lines are on a grid.*coil maps"):
        scan(calibration=calibration)


def test_another_matrix_is_refused():
    with pytest.raises(InputError, match=r"not that of the trajectory.*\(14, 12\).*\(20, 20\)"):
        noise_map(lambda y: y[0, :1, :].T @ y[0, :1, :], scan(), n_samples=2)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Trajectory(spokes()[0], MATRIX), "does not fit the image"),
        (lambda: Trajectory(spokes(), (14, 12, 10)), "does not fit the image"),
        (lambda: Trajectory(spokes().log(), MATRIX), "no finite numbers"),
        (lambda: Trajectory(0 * spokes() + 3, MATRIX), "lie at one place.*at 3, 3"),
        (lambda: Trajectory(1.1 * spokes(), MATRIX), r"leaves the k-space.*±6 .*axis 1.*±6.49"),
        (lambda: Trajectory(spokes() / 5.9 * math.pi, (64, 60)), r"radians.*Multiply.*10.186, 9.549"),
        (lambda: Trajectory(spokes() / 5.9 / 2, (64, 60)), r"cycles per voxel.*Multiply.*n: 64, 60"),
        (lambda: Trajectory(spokes(), MATRIX, torch.ones(9, 19)), "density does not fit"),
        (lambda: Trajectory(spokes(), MATRIX, torch.zeros(9, 20)), "density does not fit"),
        (lambda: scan(sampling=Trajectory(spokes(samples=21), MATRIX)), r"does not fit the k-space.*9, 21"),
        (lambda: scan(mask=torch.ones(9, 20)), "does not fit the k-space.*and a mask"),
        (lambda: scan(axes=("frame",)), "names of axes do not fit"),
        (lambda: scan().at(slice=0), "no such part"),
        (lambda: scan().to("cuda:7"), r"no such device.*cuda:7"),
    ],
)
def test_what_does_not_fit_is_refused(make, problem):
    with pytest.raises(InputError, match=problem):
        make()


def test_slow_spokes_are_no_radians():
    """A low-resolution trajectory within ±π of a small matrix, or ±½ of a tiny one, is taken as it is."""
    assert Trajectory(spokes() / 5.9 * 3, (8, 8)).acceleration == pytest.approx(64 / 180)
    assert Trajectory(spokes() / 5.9 / 2, (4, 4)).acceleration == pytest.approx(16 / 180)


def test_npz_keeps_trajectory_and_axes(tmp_path):
    acq = scan()
    density = torch.rand(9, 20).double() + 0.5
    series = acq.replace(
        kspace=torch.stack([acq.kspace] * 4),
        axes=("echo",),
        sampling=dataclasses.replace(acq.sampling, density=density),
    )
    noise = series.noise_covariance.colour(torch.randn(COILS, 500, dtype=torch.complex128), 0)
    write_npz(series, tmp_path / "spokes.npz", noise)
    back = read(tmp_path / "spokes.npz")
    assert back.axes == ("echo",) and back.image_shape == (4, *MATRIX)
    for name in ("coordinates", "density"):
        assert torch.equal(getattr(back.sampling, name), getattr(series.sampling, name))
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "spokes.npz")], env={"COLUMNS": "200"}).output
    for words in ("echo, coil, readout, sample", "180 samples in 2D", "density given", "-5.9 to 5.9"):
        assert words in shown, shown
    write_npz(series, tmp_path / "silent.npz")
    with pytest.raises(InputError, match="says nothing of the noise"):
        read(tmp_path / "silent.npz")


def test_too_few_samples_are_told_and_refused_without_regularization(tmp_path):
    """3 coils of 40 samples against 168 voxels; those outside of the maps are no unknowns."""
    few = Trajectory(spokes(4, 10), MATRIX)
    acq = Acquisition(scan().kspace[:, :4, :10], torch.eye(COILS), sampling=few, coil_maps=scan().coil_maps)
    with pytest.raises(InputError, match=r"too few samples.*168 voxels.*40 samples of 3 coils: 48 voxels or more"):
        noise_map(CgSense(0.0), acq, n_samples=2)
    CgSense(1e-3).bind(acq)
    part = acq.coil_maps.clone()
    part[:, 9:] = 0
    CgSense(0.0).bind(acq.replace(coil_maps=part))
    noise = torch.randn(COILS, 500, dtype=torch.complex128)
    write_npz(acq, tmp_path / "few.npz", noise)
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "few.npz")], env={"COLUMNS": "200"}).output
    assert "48 voxels or more are not determined" in shown, shown


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"trajectory": 1.3 * spokes()}, "leaves the k-space"),
        ({"trajectory": spokes() / 5.9 * math.pi, "image_shape": torch.tensor([64, 60])}, "in radians"),
        ({"trajectory": spokes() / 5.9 / 2, "image_shape": torch.tensor([64, 60])}, "in cycles per voxel"),
        ({"trajectory": spokes().log()}, "no finite numbers"),
        ({"density": torch.rand(9, 20) - 0.5}, "positive, finite numbers"),
        ({"density": torch.full((9, 20), math.nan)}, "smallest nan"),
        ({"density": torch.ones(9, 19)}, "density does not fit"),
        ({"trajectory": spokes(8)}, "does not fit the k-space"),
    ],
)
def test_commands_refuse_in_one_line(tmp_path, changed, problem):
    noise = torch.randn(COILS, 500, dtype=torch.complex128)
    write_npz(scan(), tmp_path / "good.npz", noise)
    with np.load(tmp_path / "good.npz") as file:
        held = dict(file)
    np.savez(tmp_path / "bad.npz", **held | {name: value.numpy() for name, value in changed.items()})
    for words in (["info"], ["map", "-r", "rss", "-n", "4", "-m", "sketch", "-o", str(tmp_path / "m.h5")]):
        result = CliRunner().invoke(app, [words[0], str(tmp_path / "bad.npz"), *words[1:]])
        assert isinstance(result.exception, InputError) and problem in str(result.exception), result.output
        assert "\n" not in str(result.exception) and not (tmp_path / "m.h5").exists()


def test_a_tolerance_below_the_precision_is_refused():
    acq = scan()
    NonCartesian(acq.coil_maps.to(torch.complex64), acq.sampling, transform_tolerance=1e-6)
    for dtype, tolerance in ((torch.complex64, 1e-9), (torch.complex128, 1e-16)):
        maps = acq.coil_maps.to(dtype)
        with pytest.raises(InputError, match="tolerance of the transform cannot be kept"):
            NonCartesian(maps, acq.sampling, transform_tolerance=tolerance).forward(maps[0])
