"""Radial, spiral and other trajectories: where their samples lie, what each of them stands for, what gridding gives."""

import math
from itertools import pairwise

import pytest
import torch
from typer.testing import CliRunner

from mrnoise import Acquisition, InputError, noise_map, read
from mrnoise.cli.main import app
from mrnoise.io import read_noise_map
from mrnoise.io.scans.npz import write_npz
from mrnoise.mapping.provenance import fingerprint
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import (
    TRAJECTORIES,
    Trajectory,
    cones,
    radial,
    radial_3d,
    readout_mask,
    rosette,
    sampling_trajectory,
    spiral,
    stack_of_spirals,
    stack_of_stars,
    voronoi_density,
)
from mrnoise.simulation import simulated_head

PLANE, VOLUME = (24, 20), (12, 10, 8)
FULL = {  # fully sampled, with the part of k-space that the ellipse takes
    "radial": (radial(PLANE, 55), math.pi / 4),
    "uniform": (radial(PLANE, 38, angles="uniform"), math.pi / 4),
    "half": (radial(PLANE, 76, 48, half=True), math.pi / 4),
    "spiral": (spiral(PLANE, 4), math.pi / 4),
    "dense centre": (spiral(PLANE, 6, power=1.5, turns=3), math.pi / 4),
    "rosette": (rosette(PLANE, 60), math.pi / 4),
    "koosh ball": (radial_3d(VOLUME, 230), math.pi / 6),
    "phyllotaxis": (radial_3d(VOLUME, 230, order="phyllotaxis"), math.pi / 6),
    "half phyllotaxis": (radial_3d(VOLUME, 460, 24, order="phyllotaxis", half=True), math.pi / 6),
    "half koosh ball": (radial_3d(VOLUME, 460, 24, half=True), math.pi / 6),
    "cones": (cones(VOLUME, 19, 6), math.pi / 6),
    "stars": (stack_of_stars(VOLUME, 21), math.pi / 4),
    "spirals": (stack_of_spirals(VOLUME, 3), math.pi / 4),
}


def encode(trajectory):
    """Dense A of `Trajectory`, (samples, voxels)."""
    shape = trajectory.image_shape
    r = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in shape), indexing="ij")).flatten(1)
    cycles = trajectory.coordinates.flatten(1).T @ (r / torch.tensor(shape)[:, None])
    return torch.exp(-2j * math.pi * cycles) / math.prod(shape) ** 0.5


def unit(trajectory):
    """Coordinates in half matrices."""
    half = torch.tensor(trajectory.image_shape, dtype=torch.float64) / 2
    return trajectory.coordinates / half.reshape(-1, *[1] * trajectory.sample_ndim)


def smooth_object(shape):
    """A Gaussian off the centre, no larger than the field of view and no finer than a voxel."""
    axes = [(torch.arange(n).double() - n // 2) / n - 0.04 * i for i, n in enumerate(shape)]
    return torch.exp(-sum(a**2 for a in torch.meshgrid(*axes, indexing="ij")) / (2 * 0.12**2)).flatten()


# -- where samples lie -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("half", "golden"), [(False, 111.246), (True, 222.492)])
def test_spokes(half, golden):
    """Straight, from edge to edge or centre to edge, the golden angle apart; the centre is sampled by each."""
    spokes = unit(radial(PLANE, 7, 10, half=half))
    y, x = spokes
    radius = torch.arange(10).double() / 10 if half else (torch.arange(10).double() - 5) / 5
    torch.testing.assert_close(torch.hypot(y, x), radius.abs().expand(7, 10))
    angle = torch.atan2(y, x)[:, -1].rad2deg()
    torch.testing.assert_close(angle.diff() % 360, torch.full((6,), golden).double(), atol=1e-3, rtol=0)
    centre = 0 if half else 5
    assert float(spokes[..., centre].abs().max()) == 0 and float(spokes[:, 0, -1][0]) == 0  # the first along x


def test_uniform_and_given_angles():
    ends = unit(radial(PLANE, 6, angles="uniform"))[:, :, -1]
    torch.testing.assert_close(torch.atan2(*ends).rad2deg(), torch.arange(6).double() * 30)
    ends = unit(radial(PLANE, 6, angles="uniform", half=True))[:, :, -1]
    torch.testing.assert_close(torch.atan2(*ends).rad2deg() % 360, torch.arange(6).double() * 60)
    turn = torch.linspace(0, 2 * math.pi, 7, dtype=torch.float64)[:-1]
    torch.testing.assert_close(torch.atan2(*unit(radial(PLANE, 6, angles=turn))[:, :, -1]) % (2 * math.pi), turn)


def test_nyquist_of_spokes_and_spirals():
    """The number of spokes, and the turns that are the default, put neighbours one cycle per field of view apart."""
    n = 64
    spokes = radial((n, n), math.ceil(math.pi / 2 * n), angles="uniform").coordinates[:, :, 0]
    assert float((spokes[:, 1:] - spokes[:, :-1]).norm(dim=0).max()) == pytest.approx(1, abs=0.01)
    fine = spiral((n, n), 4, 40_000).coordinates.flatten(1)
    along_x = fine[1, (fine[0].abs() < 0.02) & (fine[1] > 2.5)].sort().values
    turns = [float(turn.mean()) for turn in along_x.tensor_split((along_x.diff() > 0.5).nonzero().flatten() + 1)]
    assert len(turns) == 29 and all(b - a == pytest.approx(1, abs=0.01) for a, b in pairwise(turns))
    arms = spiral((n, n), 4).coordinates
    assert float(arms.diff(dim=-1).norm(dim=0).max()) == pytest.approx(0.5, abs=0.01)  # two samples for each cycle
    assert float(arms.diff(dim=-1).norm(dim=0)[:, 8:].min()) == pytest.approx(0.5, abs=0.01)


def test_variable_density_spiral():
    """Radius T turns out is τ^α of the angle."""
    y, x = unit(spiral(PLANE, 1, 200, turns=5.0, power=2.0))[:, 0, 1:]
    radius = torch.hypot(y, x)
    turned = torch.remainder(torch.atan2(y, x) - 10 * math.pi * radius.sqrt(), 2 * math.pi)
    torch.testing.assert_close(
        torch.minimum(turned, 2 * math.pi - turned), torch.zeros(199).double(), atol=1e-9, rtol=0
    )


def test_rosette_petals():
    """No twist gives spokes out and back; a twist of 1 circles of half the radius through the centre."""
    y, x = unit(rosette(PLANE, 5, 40, twist=0.0))
    torch.testing.assert_close(x[0], (torch.arange(40).double() * math.pi / 40).sin())
    assert float(y[0].abs().max()) < 1e-15
    circles = unit(rosette(PLANE, 5, 40))
    centre = circles[:, :, 20:21] / 2  # opposite of the start
    torch.testing.assert_close((circles - centre).norm(dim=0), torch.full((5, 40), 0.5).double())


@pytest.mark.parametrize("order", ["golden", "phyllotaxis"])
@pytest.mark.parametrize("half", [False, True])
def test_directions_cover_the_sphere(order, half):
    """Mean of u uᵀ, weighted by the solid angles, is that of the sphere: a third of the identity."""
    ball = radial_3d(VOLUME, 500, 12, order=order, half=half)
    ends = unit(ball)[:, :, -1]
    direction = ends / ends.norm(dim=0)
    solid = ball.density[:, -1] / ball.density[:, -1].sum()
    torch.testing.assert_close((solid * direction) @ direction.T, torch.eye(3).double() / 3, atol=0.01, rtol=0)
    if half:  # both poles
        torch.testing.assert_close(direction @ solid, torch.zeros(3).double(), atol=0.01, rtol=0)


def test_cones():
    """Samples keep their polar angle; the arms of a cone share the circle."""
    arms = unit(cones(VOLUME, 5, 4, 30))
    z, y, x = arms[..., 1:]
    polar = torch.atan2(torch.hypot(y, x), z).rad2deg()
    counts = [2, 4, 4, 4, 2]
    expected = torch.repeat_interleave(torch.tensor([18.0, 54, 90, 126, 162]).double(), torch.tensor(counts))
    torch.testing.assert_close(polar, expected[:, None].expand_as(polar))
    azimuth = torch.atan2(y, x)[2:6, 3]
    torch.testing.assert_close((azimuth - azimuth[0]).rad2deg() % 360, torch.arange(4).double() * 90)


def test_stacks_repeat_a_plane():
    plane, stack = radial(VOLUME[1:], 5, 16), stack_of_stars(VOLUME, 5, 16)
    for partition in range(VOLUME[0]):
        assert torch.equal(stack.coordinates[1:, partition], plane.coordinates)
        assert torch.equal(stack.density[partition], plane.density)
    assert torch.equal(stack.coordinates[0, :, 2, 3], torch.arange(12).double() - 6)


# -- what a sample stands for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FULL)
def test_cells_fill_the_ellipse(name):
    """The sum of the density is the volume of k-space, to half a step at its edge."""
    trajectory, part = FULL[name]
    n_samples = trajectory.sample_shape[-1]
    total = float(trajectory.density.sum()) / math.prod(trajectory.image_shape)
    assert part * (1 - 2.5 / n_samples) < total < part * (1 + 0.01)


@pytest.mark.parametrize("name", FULL)
def test_gridding_has_unit_gain(name):
    """Aᴴ w A x is x for an object inside the field of view and the ellipse; its point spread is the covered part."""
    trajectory, part = FULL[name]
    a, weight = encode(trajectory), trajectory.density.flatten()
    x = smooth_object(trajectory.image_shape).to(a.dtype)
    gridded = a.mH @ (weight * (a @ x))
    assert float((gridded - x).abs().pow(2).mean().sqrt()) < 0.02 * float(x.abs().max())
    gain = float((x.conj() @ gridded).real / (x.conj() @ x).real)
    assert gain == pytest.approx(1, abs=0.02)
    point = (a.mH * weight) @ a[:, 0]
    assert float(point[0].real) == pytest.approx(part, rel=2.5 / trajectory.sample_shape[-1])


def test_a_full_grid_has_a_density_of_one():
    """The normalization: with w = 1 on whole k gridding is the inverse."""
    k = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in (6, 5)), indexing="ij"))
    a = encode(Trajectory(k, (6, 5), torch.ones(6, 5).double()))
    torch.testing.assert_close(a.mH @ a, torch.eye(30, dtype=a.dtype))


def test_uneven_and_equal_spokes_share_their_angle():
    """The cell of a spoke ends half way to its neighbours; two equal ones have half of it each."""
    angles = torch.tensor([0.0, 30, 30, 90]).double().deg2rad()
    share = radial(PLANE, 4, 8, angles=angles).density[:, 1].rad2deg()
    torch.testing.assert_close(share / share.sum() * 180, torch.tensor([60.0, 15, 30, 75]).double())
    centre = radial(PLANE, 5, 8, angles="uniform").density[:, 4]
    assert float(centre.sum()) == pytest.approx(math.pi * (1 / 8) ** 2 * PLANE[0] * PLANE[1] / 4)


# -- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: radial(VOLUME, 5), r"matrix does not fit.*\(y, x\)"),
        (lambda: cones(PLANE, 5, 3), r"matrix does not fit.*\(z, y, x\)"),
        (lambda: stack_of_stars(PLANE, 5), "matrix does not fit"),
        (lambda: radial(PLANE, 0), "number of spokes"),
        (lambda: radial(PLANE, 5, 1), "number of samples"),
        (lambda: radial(PLANE, 5, angles="tiny"), "angles of the spokes"),
        (lambda: radial(PLANE, 5, angles=torch.ones(4)), r"angles of the spokes.*\(4,\)"),
        (lambda: radial(PLANE, 2, angles=torch.tensor([0.0, math.nan])), "angles of the spokes"),
        (lambda: radial_3d(VOLUME, 5, order="spiral"), "order of spokes"),
        (lambda: spiral(PLANE, 4, turns=0.0), "number of turns"),
        (lambda: spiral(PLANE, 4, power=math.inf), "power of the spiral"),
        (lambda: rosette(PLANE, 4, twist=-1.0), "twist"),
        (lambda: cones(VOLUME, 4, 2, turns=math.nan), "number of turns"),
        (lambda: radial_3d(VOLUME, 10**9, 10**6), "too large for this computer"),
        (lambda: radial(PLANE, 6).undersample(torch.ones(5)), r"mask does not fit.*\(6,\).*\(5,\)"),
        (lambda: radial(PLANE, 6).undersample(torch.zeros(6)), "mask does not fit.*0 True"),
        (lambda: radial(PLANE, 6).undersample(torch.ones(6), axis=-3), "an axis of the samples, -2 to -1"),
    ],
)
def test_what_is_not_possible_is_refused(make, problem):
    with pytest.raises(InputError, match=problem):
        make()


# -- Voronoi cells of any trajectory ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "typical", "spread"),  # median ratio, and how far the middle half is from it
    [
        ("radial", 0.005, 0.01),
        ("uniform", 0.005, 0.01),
        ("half", 0.005, 0.01),
        ("spiral", 0.005, 0.01),
        ("dense centre", 0.01, 0.02),
        ("stars", 0.01, 0.02),
        ("spirals", 0.01, 0.02),
        ("phyllotaxis", 0.01, 0.05),
        ("cones", 0.01, 0.15),
    ],
)
def test_voronoi_cells_are_those_of_the_shape(name, typical, spread):
    trajectory, _ = FULL[name]
    density = voronoi_density(trajectory)
    low, middle, high = (density / trajectory.density).quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist()
    assert middle == pytest.approx(1, abs=typical)
    assert middle - spread < low and high < middle + spread


@pytest.mark.parametrize("shape", [(7, 6), (6, 5, 4)])
def test_voronoi_cells_of_the_grid_are_one(shape):
    """Those at its edge too."""
    k = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in shape), indexing="ij"))
    torch.testing.assert_close(voronoi_density(Trajectory(k, shape)), torch.ones(shape).double())


def test_voronoi_cells_of_a_stack_are_those_of_its_plane(monkeypatch):
    """Times the distance half way to the next planes, which here is not even; one cell at a time they are the same."""
    plane = radial(PLANE, 9, 16)
    k = plane.coordinates[:, None].expand(-1, 6, -1, -1)
    heights = torch.tensor([-3.0, -2, -0.5, 1, 1, 2.5]).double()
    stack = Trajectory(torch.cat([heights[:, None, None].expand(6, 9, 16)[None], k]), (6, *PLANE))
    density = voronoi_density(stack)
    slabs = torch.tensor([1.25, 1.25, 1.5, 0.75, 0.75, 1.5]).double()
    torch.testing.assert_close(density, slabs[:, None, None] * voronoi_density(plane))
    monkeypatch.setattr("mrnoise.sampling.voronoi._heights", lambda coordinates: None)
    inside = slice(1, -1)  # those of a volume that lie on its hull have the size of the nearest
    torch.testing.assert_close(voronoi_density(stack)[inside, :, 2:-2], density[inside, :, 2:-2])


def test_voronoi_cells_of_an_irregular_trajectory():
    """Random samples: a cell holds what of a fine raster is nearest to its sample; two at one place share."""
    g = torch.Generator().manual_seed(0)
    k = (torch.rand(2, 150, generator=g, dtype=torch.float64) - 0.5) * torch.tensor([[20.0], [16]])
    k = torch.cat([k, k[:, :1]], 1)
    density = voronoi_density(Trajectory(k, (20, 16)))
    assert density[0] == density[-1]
    fine = 400
    y, x = ((torch.arange(fine).double() + 0.5) / fine - 0.5 for _ in range(2))
    raster = torch.stack(torch.meshgrid(20 * y, 16 * x, indexing="ij")).flatten(1)
    nearest = torch.cat([torch.cdist(part.T, k[:, :-1].T).argmin(1) for part in raster.split(20_000, 1)])
    counted = torch.bincount(nearest, minlength=150).double() * 320 / fine**2
    counted[0] /= 2
    central = (k[0, :-1].abs() < 6) & (k[1, :-1].abs() < 5)
    torch.testing.assert_close(density[:-1][central], counted[central], rtol=0.02, atol=0.01)
    assert bool((density > 0).all())


def test_voronoi_cells_need_more_than_a_line():
    with pytest.raises(InputError, match="samples have no Voronoi cells"):
        voronoi_density(radial(PLANE, 1))
    with pytest.raises(InputError, match="samples have no Voronoi cells.*2 different"):
        voronoi_density(Trajectory(torch.tensor([[0.0, 1, 1], [0, 1, 1]]), PLANE))


# -- part of the spokes ----------------------------------------------------------------------------------------


def test_undersample_keeps_spokes_with_their_samples():
    stars = stack_of_stars((3, 14, 12), 6, 10)
    kspace = torch.randn(2, 4, 3, 6, 10, dtype=torch.complex64)  # frame, coil
    averages = torch.arange(180.0).reshape(3, 6, 10) + 1
    scan = Acquisition(kspace, torch.eye(4), sampling=stars, averages=averages, axes=("frame",))
    half = scan.undersample(torch.arange(6) % 2 == 1)
    assert torch.equal(half.kspace, kspace[..., 1::2, :]) and torch.equal(half.averages, averages[:, 1::2])
    assert torch.equal(half.sampling.coordinates, stars.coordinates[:, :, 1::2]) and half.sampling.density is None
    assert half.acceleration == pytest.approx(2 * scan.acceleration) and half.axes == ("frame",)
    thick = scan.undersample(torch.tensor([True, False, True]), axis=-3)
    assert torch.equal(thick.kspace, kspace[:, :, ::2])


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda: radial((32, 28), 24, 32), True),
        (lambda: radial((32, 28), 24, 32, angles="uniform"), False),
        (lambda: spiral((32, 28), 24, 40), False),
        (lambda: stack_of_stars((4, 32, 28), 24, 32), True),
        (lambda: stack_of_stars((4, 32, 28), 24, 32, angles="uniform"), False),
    ],
)
def test_readouts_that_leave_no_hole(make, first):
    """A third of the golden angles are the first ones, a third of an even circle every third one."""
    trajectory = make()
    mask = readout_mask(trajectory, 3 * trajectory.acceleration)
    expected = torch.arange(24) < 8 if first else torch.arange(24) % 3 == 0
    assert torch.equal(mask, expected)
    assert trajectory.undersample(mask).acceleration == pytest.approx(3 * trajectory.acceleration)
    assert bool(readout_mask(trajectory, trajectory.acceleration).all())
    assert torch.equal(readout_mask(trajectory, spacing=5), torch.arange(24) % 5 == 0)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"acceleration": 0.5}, r"not possible.*from 1\.17, that of all 24.*to 28, that of one"),
        ({"acceleration": float("nan")}, "not possible.*nan"),
        ({"acceleration": 40.0}, "not possible.*40"),
        ({"spacing": 25}, "invalid spacing"),
        ({}, "cannot be told.*neither"),
        ({"acceleration": 2.0, "spacing": 2}, "cannot be told.*both"),
    ],
)
def test_readouts_that_are_not_possible(words, problem):
    with pytest.raises(InputError, match=problem):
        readout_mask(radial((32, 28), 24, 32), **words)
    flat = Trajectory(radial((32, 28), 24, 32).coordinates.flatten(1), (32, 28))
    with pytest.raises(InputError, match="no readouts to leave out.*768"):
        readout_mask(flat, 3.0)


def test_commands_leave_out_readouts(tmp_path):
    """-R and --spacing of a file with a trajectory; what is of a grid alone is refused."""
    run, path = CliRunner().invoke, str(tmp_path / "s.npz")
    made = ["simulate", path, "--coils", "6", "--matrix", "24,20", "--trajectory", "radial", "-R", "0.5"]
    run(app, [*made, "--true-coil-maps"])
    whole = read(path)
    words = ["map", path, "-r", "rss", "-m", "sketch", "-n", "4", "-o", str(tmp_path / "m.h5")]
    for extra, mask in (
        (["-R", "2"], readout_mask(whole.sampling, 2)),
        (["--spacing", "4"], torch.arange(whole.sampling.sample_shape[0]) % 4 == 0),
    ):
        made = run(app, [*words, *extra], env={"COLUMNS": "200"})
        assert made.exit_code == 0, made.output
        nm, part = read_noise_map(tmp_path / "m.h5"), whole.undersample(mask)
        assert nm.acceleration == pytest.approx(2, rel=0.1) and nm.acceleration == pytest.approx(part.acceleration)
        assert nm.provenance.input["sha256"] == fingerprint(part)
        said = f"{int(mask.sum())} × 24 samples"
        assert nm.provenance.sampling["trajectory"] == said and f"trajectory of {said}" in made.output
    for extra, problem in (
        (["-R", "2", "--pattern", "poisson"], "no patterns"),
        (["--calibration", "4"], "no patterns and no calibration"),
        (["--spacing", "2,2", "--pattern", "equispaced"], "cannot read the spacing"),
        (["-R", "0.1"], "acceleration is not possible"),
    ):
        refused = run(app, [*words, *extra]).exception
        assert isinstance(refused, InputError) and problem in str(refused)


def test_gfactor_along_a_trajectory(tmp_path):
    """That of CG-SENSE in closed form, C22."""
    path, out = str(tmp_path / "s.npz"), tmp_path / "g.h5"
    made = ["simulate", path, "--coils", "5", "--matrix", "20,18", "--trajectory", "spiral", "-R", "0.6"]
    CliRunner().invoke(app, [*made, "--true-coil-maps"])
    shown = CliRunner().invoke(app, ["gfactor", path, "-R", "1.2", "--regularization", "0.01", "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    acq = read(path)
    acq = acq.undersample(readout_mask(acq.sampling, 1.2))
    expected = noise_map(CgSense(0.01), acq, method="closed_form")
    torch.testing.assert_close(read_noise_map(out).g_factor, expected.g_factor, equal_nan=True)


def test_undetermined_voxels_are_the_rank_that_lacks():
    """At least; with equal samples counted once it is the rank of A with random maps."""
    spokes = radial((14, 12), 2, 16)  # the centre twice
    a = encode(spokes)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 168, dtype=a.dtype, generator=generator)
    for n_coils in (1, 2, 3):
        rank = int(torch.linalg.matrix_rank(torch.cat([a * s for s in maps[:n_coils]]), rtol=1e-9))
        assert spokes.undetermined(n_coils) == 168 - 31 * n_coils <= 168 - rank
    assert spokes.undetermined(8) == 0


# -- by name ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAJECTORIES)
@pytest.mark.parametrize("acceleration", [1, 4])
def test_named_trajectories_have_the_acceleration_asked_for(name, acceleration):
    shape = (36, 40) if name in ("radial", "spiral", "rosette") else (20, 24, 22)
    trajectory = sampling_trajectory(name, acceleration, shape)
    assert trajectory.image_shape == shape
    assert trajectory.acceleration == pytest.approx(acceleration, rel=0.1)


def test_simulated_scans_along_a_trajectory(tmp_path):
    """Noise of Ψ around E S x, of slices too; the file holds all of it."""
    spokes = sampling_trajectory("radial", 0.5, PLANE)
    head = simulated_head(PLANE, 3, trajectory=spokes, n_slices=2, snr=20.0)
    scan = head.acquire(1)
    images = (head.coil_maps * head.image[:, None]).to(torch.complex128).flatten(2)
    expected = images @ encode(spokes).T
    torch.testing.assert_close(
        head.signal.flatten(2).to(expected), expected, rtol=0, atol=1e-4 * float(expected.abs().max())
    )
    noise = head.noise_covariance.whiten(scan.kspace - head.signal, -3)
    assert float(noise.abs().square().mean()) == pytest.approx(1, abs=4 * noise.numel() ** -0.5)
    write_npz(scan, tmp_path / "spokes.npz", head.noise_scan(500))
    back = read(tmp_path / "spokes.npz")
    assert back.axes == ("slice",) and torch.equal(back.sampling.density, spokes.density)
    with pytest.raises(InputError, match=r"trajectory does not fit the scan.*\(24, 20\).*\(12, 12\)"):
        simulated_head(PLANE, 3, trajectory=radial((12, 12), 5))


def test_simulate_command(tmp_path):
    run = CliRunner().invoke
    words = ["simulate", str(tmp_path / "s.npz"), "--coils", "3", "--matrix", "24,20"]
    made = run(app, [*words, "--trajectory", "spiral", "-R", "2"])
    assert made.exit_code == 0 and "R = 2.00" in made.output
    assert "8, 30" in str(read(tmp_path / "s.npz").sampling.sample_shape)
    for extra, problem in (
        (["--trajectory", "helix"], "unknown trajectory"),
        (["--trajectory", "cones"], "no trajectory of 2 axes"),
        (["--trajectory", "radial", "--spacing", "2"], "no spacing"),
        (["--trajectory", "radial", "-R", "-1"], "acceleration is not possible"),
        (["--trajectory", "radial", "-R", "0"], "acceleration is not possible"),
        (["--trajectory", "radial", "-R", "90"], "acceleration is not possible"),
    ):
        refused = run(app, [*words, *extra]).exception
        assert isinstance(refused, InputError) and problem in str(refused)
