"""Scans along trajectories: MRD lines written with the ismrmrd package, BART's pairs, arrays; units, axes, refusals."""

import math
import re
import shutil
import subprocess
from dataclasses import replace

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from typer.testing import CliRunner

import test_read_twix as twix
from mrnoise.cli.main import app
from mrnoise.encoding import NonCartesian
from mrnoise.encoding.density import pipe_menon_density
from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_spiral import GAMMA, Spiral
from mrnoise.io.scans.scan_file import read
from mrnoise.reconstruction import CgSense, Gridding
from mrnoise.sampling import Trajectory, radial, radial_3d, spiral, stack_of_stars
from mrnoise.simulation import simulated_head
from test_read_arrays import cfl
from test_read_mrd import line, unit_noise, write

COILS, MATRIX, FOV = 3, (28, 32), (210.0, 240.0)
FACTORS = {
    "cycles/fov": (1, 1),
    "cycles/voxel": (1 / 28, 1 / 32),
    "radians/voxel": (2 * math.pi / 28, 2 * math.pi / 32),
    "1/m": (1000 / 210, 1000 / 240),
}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def header(
    matrix=(1, *MATRIX), fov=(5.0, *FOV), encoded=None, encoded_fov=None, trajectory="radial", limits="", described=""
):
    """XML with matrix and field of view (z, y, x) of the image, and of the encoded space where that is another one."""
    lengths = "<x>{}</x><y>{}</y><z>{}</z>"
    space = f"<matrixSize>{lengths}</matrixSize><fieldOfView_mm>{lengths}</fieldOfView_mm>"
    e, f = encoded or matrix, encoded_fov or fov
    return f"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
    <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
    <encoding><encodedSpace>{space.format(*e[::-1], *f[::-1])}</encodedSpace>
    <reconSpace>{space.format(*matrix[::-1], *fov[::-1])}</reconSpace>
    <encodingLimits>{limits}</encodingLimits><trajectory>{trajectory}</trajectory>{described}
    </encoding></ismrmrdHeader>"""


def readout(samples, coordinates, **options):
    """A line of samples (coil, sample) at coordinates (dimension, sample), ordered (x, y, ...) as in the file."""
    acq = line(samples, **options)
    coordinates = np.ascontiguousarray(np.asarray(coordinates).T, np.float32)
    acq.resize(samples.shape[1], len(samples), coordinates.shape[1])
    acq.data[:] = samples
    acq.traj[:] = coordinates
    return acq


def spokes(n=40, matrix=MATRIX):
    return radial(matrix, n, angles="uniform")


def head(matrix=MATRIX):
    return simulated_head(matrix, COILS, seed=2)


def sampled(trajectory):
    """Samples (coil, *samples) of the head, without noise."""
    phantom = head(trajectory.image_shape)
    return NonCartesian(phantom.coil_maps, trajectory).forward(phantom.image).numpy().astype(np.complex64)


def xy(trajectory, factor=(1, 1)):
    """(x, y) or (x, y, z), readout, sample in a unit of which a cycle per field of view is (y, x) of the factor."""
    k = trajectory.coordinates.numpy()
    return k[::-1] * np.reshape(factor, (-1, *[1] * (k.ndim - 1)))[::-1] if len(k) == len(factor) else k[::-1]


def noise_lines(rng, n=20, sd=0.01):
    flags = (ismrmrd.ACQ_IS_NOISE_MEASUREMENT,)
    return [line(sd * unit_noise(rng, COILS, 200), flags=flags) for _ in range(n)]


def lines_of(kspace, coordinates, **options):
    """One line for each readout, kspace (coil, readout, sample), coordinates (dimension, readout, sample)."""
    return [readout(kspace[:, i], coordinates[:, i], k1=i, **options) for i in range(kspace.shape[1])]


def same_trajectory(found, expected, tolerance=1e-5):
    assert found.image_shape == expected.image_shape
    assert found.coordinates.shape == expected.coordinates.shape
    assert float((found.coordinates - expected.coordinates).abs().max()) < tolerance * max(expected.image_shape)


def noted(scan, words):
    return any(words in note for note in scan.notes)


def refused(words, path, **options):
    with pytest.raises(InputError, match=words) as error:
        read(path, **options)
    assert "\n" not in str(error.value)


# -- MRD: units, order, what is left out ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["radial", "spiral", "goldenangle", "other"])
@pytest.mark.parametrize("unit", FACTORS)
def test_units_are_told_from_the_reach(tmp_path, rng, unit, kind):
    trajectory = spokes(12)
    kspace = sampled(trajectory)
    path = write(
        tmp_path / "a.h5",
        [*noise_lines(rng), *lines_of(kspace, xy(trajectory, FACTORS[unit]))],
        header(trajectory=kind),
    )
    scan = read(path)
    same_trajectory(scan.sampling, trajectory)
    assert noted(scan, f"read as {unit}: it ends at ±"), scan.notes
    assert np.array_equal(scan.kspace.numpy(), kspace) and scan.sampling.density is None
    assert scan.geometry.voxel_size == pytest.approx((5, 7.5, 7.5))
    assert scan.noise_covariance.mean_variance == pytest.approx(1e-4, rel=0.1)
    assert torch.equal(read(path, trajectory_unit=unit).sampling.coordinates, scan.sampling.coordinates)


def test_the_image_is_that_of_the_grid(tmp_path, rng):
    """Axes and directions: CG-SENSE of the lines with the maps of the phantom is the phantom itself."""
    trajectory = spokes()
    path = write(tmp_path / "a.h5", [*noise_lines(rng), *lines_of(sampled(trajectory), xy(trajectory))], header())
    phantom = head()
    found = CgSense(1e-4).bind(scan := read(path).replace(coil_maps=phantom.coil_maps))(scan.kspace)
    inside = phantom.image.abs() > 0
    assert float((found - phantom.image)[inside].norm() / phantom.image[inside].norm()) < 0.1
    flipped = phantom.image.flip(0)
    assert float((found - flipped)[inside].norm() / phantom.image[inside].norm()) > 0.5


@pytest.mark.parametrize(
    ("encoded", "encoded_fov", "factor", "words"),
    [
        ((1, 56, 64), (5, 420, 480), 2, "cycles/encoded-fov"),  # oversampled, in units of the wide field of view
        ((1, 28, 64), (5, 210, 480), 1, "cycles/fov"),
        ((1, 56, 64), (5, 210, 240), 1, "cycles/fov"),  # oversampled, but the field of view is not
    ],
)
def test_oversampled_spaces(tmp_path, rng, encoded, encoded_fov, factor, words):
    trajectory = spokes(9)
    xml = header(encoded=encoded, encoded_fov=encoded_fov)
    coordinates = xy(trajectory) * factor
    scan = read(write(tmp_path / "a.h5", [*noise_lines(rng), *lines_of(sampled(trajectory), coordinates)], xml))
    same_trajectory(scan.sampling, trajectory)
    assert noted(scan, f"read as {words}")


def test_an_interpolated_image_is_that_of_the_encoded_resolution(tmp_path, rng):
    trajectory = spokes(9)
    xml = header(matrix=(1, 56, 64), encoded=(1, *MATRIX))
    lines = [*noise_lines(rng), *lines_of(sampled(trajectory), xy(trajectory, FACTORS["cycles/voxel"]))]
    path = write(tmp_path / "a.h5", lines, xml)
    same_trajectory(read(path).sampling, trajectory)
    scan = read(path, matrix="56,64", trajectory_unit="cycles/voxel")
    assert scan.spatial_shape == (56, 64) and scan.geometry.voxel_size == pytest.approx((5, 3.75, 3.75))


def test_a_trajectory_that_ends_a_little_beyond_the_matrix(tmp_path, rng):
    trajectory = spokes(9)
    lines = [*noise_lines(rng), *lines_of(sampled(trajectory), 1.04 * xy(trajectory))]
    scan = read(write(tmp_path / "a.h5", lines, header()))
    assert scan.spatial_shape == (30, 34) and noted(scan, "has no room for it: it is 30 × 34")
    assert torch.allclose(scan.sampling.coordinates, 1.04 * trajectory.coordinates, atol=1e-5)


def test_discarded_samples_and_other_lines(tmp_path, rng):
    trajectory = spokes(8)
    kspace, k = sampled(trajectory), xy(trajectory)
    lines = lines_of(kspace, k)
    for acq in lines:
        acq.discard_pre, acq.discard_post = 5, 2
    navigator = line(unit_noise(rng, COILS, 30), flags=(ismrmrd.ACQ_IS_NAVIGATION_DATA,))
    calibration = line(unit_noise(rng, COILS, 64), flags=(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,))
    scan = read(write(tmp_path / "a.h5", [*noise_lines(rng), navigator, calibration, *lines], header()))
    assert np.array_equal(scan.kspace.numpy(), kspace[..., 5:-2])
    assert torch.allclose(scan.sampling.coordinates, trajectory.coordinates[..., 5:-2], atol=1e-5)
    assert noted(scan, "1 of navigation") and noted(scan, "1 lines that only calibrate were left out")


def test_slices_echoes_and_frames_share_a_trajectory(tmp_path, rng):
    """In any order of lines: those of an image are put into the order of their encoding steps."""
    trajectory = spokes(6)
    k, lead = xy(trajectory), (2, 4, 3)  # frames, echoes, slices
    kspace = unit_noise(rng, *lead, COILS, 6, k.shape[-1])
    lines = [
        readout(
            kspace[f, e, s, :, i],
            k[:, i],
            k1=i,
            repetition=f,
            contrast=e,
            slice=s,
            position=(0, 0, 10 * s),
            directions=np.eye(3),
        )
        for f, e, s, i in np.ndindex(*lead, 6)
    ]
    path = write(tmp_path / "a.h5", [*noise_lines(rng), *[lines[i] for i in rng.permutation(len(lines))]], header())
    scan = read(path)
    assert scan.axes == ("frame", "echo", "slice") and scan.image_shape == (*lead, *MATRIX)
    assert np.array_equal(scan.kspace.numpy(), kspace)
    same_trajectory(scan.sampling, trajectory)
    assert scan.geometry.voxel_size == pytest.approx((10, 7.5, 7.5)) and scan.geometry.affine is not None


def test_averages_are_readouts(tmp_path, rng):
    trajectory = spokes(5)
    k = xy(trajectory)
    kspace = unit_noise(rng, COILS, 10, k.shape[-1])
    lines = [readout(kspace[:, i], k[:, i % 5], k1=i % 5, average=i // 5) for i in range(10)]
    scan = read(write(tmp_path / "a.h5", [*noise_lines(rng), *lines], header()))
    assert scan.sampling.sample_shape == (10, 64) and noted(scan, "2 averages are readouts of their own")
    assert {tuple(row) for row in scan.kspace[0].numpy()} == {tuple(row) for row in kspace[0]}


# -- MRD: further coordinates, volumes -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 3e-5])
def test_a_further_coordinate_is_the_density(tmp_path, rng, scale):
    """Of any scale: gridding with it has unit gain, as with a density found by iterations."""
    trajectory = spokes()
    lines = lines_of(sampled(trajectory), np.concatenate([xy(trajectory), scale * trajectory.density.numpy()[None]]))
    scan = read(write(tmp_path / "a.h5", [*noise_lines(rng), *lines], header()))
    same_trajectory(scan.sampling, trajectory)
    ratio = scan.sampling.density / trajectory.density
    assert float(ratio.std() / ratio.mean()) < 1e-5 and float(ratio.mean()) == pytest.approx(1, abs=0.05)
    phantom = head()
    scan = scan.replace(coil_maps=phantom.coil_maps)
    with_own = Gridding().bind(scan)(scan.kspace)
    other = scan.replace(sampling=replace(scan.sampling, density=pipe_menon_density(scan.sampling)))
    assert float((with_own - Gridding().bind(other)(scan.kspace)).norm() / with_own.norm()) < 0.1


def test_further_coordinates_that_are_none(tmp_path, rng):
    trajectory = spokes(7)
    k, kspace = xy(trajectory), sampled(trajectory)
    n = k.shape[-1]
    weight = np.abs(np.hypot(*k))[None]  # zero in the centre
    time = np.broadcast_to(np.arange(1, n + 1) * 4e-6, (1, 7, n))
    flat = np.full((1, 7, n), 3.0)
    density = trajectory.density.numpy()[None]
    for number, (further, words, has_density) in enumerate(
        [
            ([weight], "not above zero everywhere", False),
            ([flat], "same everywhere", False),
            ([flat, time], "taken for time", False),
            ([flat, density], "same everywhere", True),
        ]
    ):
        lines = lines_of(kspace, np.concatenate([k, *further]))
        scan = read(write(tmp_path / f"{number}.h5", [*noise_lines(rng), *lines], header()))
        same_trajectory(scan.sampling, trajectory)
        assert noted(scan, words) and (scan.sampling.density is not None) == has_density, words


def stack_lines(trajectory, kspace, *, own_kz=False):
    """(coil, partition, spoke, sample) with the partition in the second encoding step."""
    k = xy(trajectory)[: 3 if own_kz else 2]
    return [readout(kspace[:, p, s], k[:, p, s], k1=s, k2=p) for p, s in np.ndindex(*trajectory.sample_shape[:2])]


def test_partitions_of_a_stack(tmp_path, rng):
    """k_z of the second encoding step, whatever the order of lines; the same with k_z among the coordinates."""
    trajectory = stack_of_stars((6, *MATRIX), 7)
    kspace = sampled(trajectory)
    lines = stack_lines(trajectory, kspace)
    limits = (
        "<kspace_encoding_step_2><minimum>0</minimum><maximum>5</maximum><center>3</center></kspace_encoding_step_2>"
    )
    xml = header((6, *MATRIX), (60.0, *FOV), limits=limits)
    scan = read(write(tmp_path / "a.h5", [*noise_lines(rng), *[lines[i] for i in rng.permutation(len(lines))]], xml))
    same_trajectory(scan.sampling, trajectory)
    assert np.array_equal(scan.kspace.numpy(), kspace) and noted(scan, "6 partitions lie at the whole k_z")
    assert scan.geometry.voxel_size == pytest.approx((10, 7.5, 7.5))
    k = xy(trajectory) * np.reshape([1 / 32, 1 / 28, 1 / 6], (3, 1, 1, 1))
    own = [readout(kspace[:, p, s], k[:, p, s], k1=s, k2=p) for p, s in np.ndindex(6, 7)]
    again = read(write(tmp_path / "b.h5", [*noise_lines(rng), *own], xml))
    same_trajectory(again.sampling, trajectory)
    assert noted(again, "cycles/voxel") and not noted(again, "whole k_z")
    density = trajectory.density.numpy()
    weighted = [
        readout(kspace[:, p, s], [*xy(trajectory)[:2, p, s], density[p, s]], k1=s, k2=p) for p, s in np.ndindex(6, 7)
    ]
    third = read(write(tmp_path / "c.h5", [*noise_lines(rng), *weighted], xml))
    same_trajectory(third.sampling, trajectory)
    assert third.sampling.density is not None


def test_a_stack_with_fewer_spokes_in_some_partitions(tmp_path, rng):
    trajectory = stack_of_stars((4, *MATRIX), 5)
    lines = stack_lines(trajectory, sampled(trajectory))[:-2]
    scan = read(write(tmp_path / "a.h5", [*noise_lines(rng), *lines], header((4, *MATRIX), (40.0, *FOV))))
    assert scan.sampling.sample_shape == (18, 64) and scan.spatial_shape == (4, *MATRIX)


def test_volume_of_spokes(tmp_path, rng):
    trajectory = radial_3d((10, 14, 12), 30)
    k = xy(trajectory) / np.reshape([12, 14, 10], (3, 1, 1))
    path = write(
        tmp_path / "a.h5",
        [*noise_lines(rng), *lines_of(sampled(trajectory), k)],
        header((10, 14, 12), (100.0, 140.0, 120.0)),
    )
    scan = read(path)
    same_trajectory(scan.sampling, trajectory)
    assert scan.geometry.voxel_size == pytest.approx((10, 10, 10))


# -- MRD: spirals of the header ------------------------------------------------------------------------------

DESIGN = Spiral(interleaves=6, dwell_s=4000 * 1e-9, gradient=2.4, slew=14000.0, fov_cm=24.0, radius=32 / 2 / 24)


def described(**changes):
    values = {
        "interleaves": DESIGN.interleaves,
        "fov_coefficients": 1,
        "SamplingTime_ns": 4000,
        "MaxGradient_G_per_cm": DESIGN.gradient,
        "MaxSlewRate_G_per_cm_per_s": DESIGN.slew,
        "FOVCoeff_1_cm": DESIGN.fov_cm,
        "krmax_per_cm": DESIGN.radius,
    } | changes
    words = "".join(
        f"<userParameter{kind}><name>{name}</name><value>{value}</value></userParameter{kind}>"
        for name, value in values.items()
        for kind in ["Long" if isinstance(value, int) else "Double"]
        if value is not None
    )
    return f"<trajectoryDescription><identifier>HargreavesVDS2000</identifier>{words}</trajectoryDescription>"


def test_the_designed_spiral_keeps_its_limits():
    """Against the equation of motion at the limit of the slew rate, by another solver; gradients and turns besides."""
    k = DESIGN.coordinates(10**5)
    z = -(k[0, 0] + 1j * k[1, 0])  # the first interleaf before its signs are reversed
    step = DESIGN.dwell_s
    gradient = np.diff(z) / GAMMA / step
    assert np.abs(gradient).max() <= 1.01 * min(DESIGN.gradient, 1 / (GAMMA * DESIGN.fov_cm * step))
    assert np.quantile(np.abs(np.diff(gradient)) / step, 0.98) < 1.1 * DESIGN.slew
    r, angle = np.abs(z), np.unwrap(np.angle(z[1:]))
    turn = 2 * np.pi * DESIGN.fov_cm / DESIGN.interleaves
    assert np.allclose(np.diff(angle), turn * np.diff(r[1:]), atol=1e-6)
    assert r[-1] < DESIGN.radius < r[-1] + 2 * (r[-1] - r[-2])

    def motion(_, state):
        radius, speed = state
        a = 1 + (turn * radius) ** 2
        b = turn**2 * radius * speed**2
        c = b**2 + 4 * turn**2 * speed**4 - (GAMMA * DESIGN.slew) ** 2
        return [speed, (-b + math.sqrt(max(b**2 - a * c, 0))) / a]

    early = np.flatnonzero(np.abs(gradient) < 0.9 * DESIGN.gradient)
    end = int(early[np.append(np.diff(early) > 1, True)][0])  # while the slew rate is the limit
    times = step * np.arange(end)
    solved = solve_ivp(motion, (0, times[-1]), [0.0, 0.0], t_eval=times, rtol=1e-8, atol=1e-12).y[0]
    assert end > 50 and np.abs(r[:end] - solved).max() < 0.02 * DESIGN.radius
    # Interleaves are turned against each other, clockwise.
    assert np.allclose((k[0] + 1j * k[1])[:, 7], -z[7] * np.exp(-2j * np.pi * np.arange(6) / 6))


def test_spiral_that_the_header_describes(tmp_path, rng):
    """The same scan with coordinates in its lines, and without; samples behind the end of the spiral are left out."""
    matrix, fov = (32, 32), (240.0, 240.0)
    k = DESIGN.coordinates(10**5) * 24.0
    trajectory = Trajectory(torch.from_numpy(k[::-1].copy()), matrix)
    kspace = sampled(trajectory)
    n = kspace.shape[-1]
    padded = np.concatenate([kspace, unit_noise(rng, COILS, 6, 11)], -1)
    space = {"matrix": (1, *matrix), "fov": (5.0, *fov), "trajectory": "spiral"}
    with_own = write(tmp_path / "own.h5", [*noise_lines(rng), *lines_of(kspace, k)], header(**space))
    path = write(
        tmp_path / "a.h5",
        [*noise_lines(rng), *[line(padded[:, i], i, slice=0) for i in (3, 1, 0, 2, 5, 4)]],
        header(**space, described=described()),
    )
    scan, own = read(path), read(with_own)
    same_trajectory(scan.sampling, own.sampling, 1e-6)
    assert np.array_equal(scan.kspace.numpy(), kspace) and noted(scan, f"it ends after {n} samples")
    for changes, words in (
        ({"krmax_per_cm": None}, "krmax_per_cm missing"),
        ({"fov_coefficients": 2}, "field of view varying with k"),
        ({"SamplingTime_ns": 0}, "SamplingTime_ns missing or not above zero"),
        ({"interleaves": 4}, "one for each interleaf; received step 5"),
    ):
        bad = [*noise_lines(rng), *[line(padded[:, i], i) for i in range(6)]]
        refused(words, write(tmp_path / f"{words}.h5", bad, header(**space, described=described(**changes))))


@pytest.mark.parametrize("kind", ["radial", "goldenangle", "spiral"])
def test_what_nothing_says_is_asked(tmp_path, rng, kind):
    trajectory = spokes(9)
    kspace = sampled(trajectory)
    lines = [*noise_lines(rng), *[line(kspace[:, i], i) for i in range(9)]]
    path = write(tmp_path / "a.h5", lines, header(trajectory=kind))
    refused(r"does not say where its samples lie.*--trajectory FILE", path)
    other = "<trajectoryDescription><identifier>Mine</identifier></trajectoryDescription>"
    refused("described by Mine", write(tmp_path / "b.h5", lines, header(trajectory=kind, described=other)))
    scan = read(path, trajectory=trajectory)
    same_trajectory(scan.sampling, trajectory)
    assert np.array_equal(scan.kspace.numpy(), kspace) and scan.sampling.density is not None
    np.save(tmp_path / "k.npy", trajectory.coordinates.numpy() / np.reshape(MATRIX, (2, 1, 1)))
    again = read(path, trajectory=tmp_path / "k.npy", trajectory_unit="cycles/voxel")
    assert torch.allclose(again.sampling.coordinates, scan.sampling.coordinates)


# -- MRD: what does not fit ----------------------------------------------------------------------------------


def test_images_that_do_not_share_a_trajectory(tmp_path, rng):
    trajectory, turned = spokes(5), radial(MATRIX, 5)
    kspace = sampled(trajectory)
    first = lines_of(kspace, xy(trajectory), slice=0)
    noise = noise_lines(rng)
    path = write(tmp_path / "a.h5", [*noise, *first, *lines_of(kspace, xy(turned), slice=1)], header())
    refused("do not share one trajectory.*other ones in line 2", path)
    path = write(tmp_path / "b.h5", [*noise, *first, *lines_of(kspace, xy(trajectory), slice=1)[:-1]], header())
    refused("5 readouts for each image.*received 4 for slice 1", path)
    short = readout(kspace[:, 0, :-3], xy(trajectory)[:, 0, :-3], k1=5)
    refused(
        "64 samples.*61 samples|61 samples.*64 samples", write(tmp_path / "c.h5", [*noise, *first, short], header())
    )
    without = line(kspace[:, 0], 5)
    refused("0 and 2 coordinates", write(tmp_path / "d.h5", [*noise, *first, without], header()))
    one = [readout(kspace[:, i], xy(trajectory)[:1, i], k1=i) for i in range(5)]
    refused("received 1 coordinates", write(tmp_path / "e.h5", [*noise, *one], header()))


def test_units_and_numbers_that_are_none(tmp_path, rng):
    trajectory = spokes(5)
    kspace, k = sampled(trajectory), xy(trajectory)
    noise = noise_lines(rng)

    def path(name, values, **options):
        return write(tmp_path / name, [*noise, *lines_of(kspace, values)], header(**options))

    small = path("a.h5", 0.3 * k)
    refused(r"unit of the trajectory.*cannot be told.*±14, ±16 \(cycles/fov\).*--trajectory-unit", small)
    assert read(small, trajectory_unit="cycles/fov").spatial_shape == MATRIX
    refused("leaves the k-space", small, trajectory_unit="cycles/voxel")
    refused("unit of the trajectory is not known.*received furlongs", small, trajectory_unit="furlongs")
    refused("cycles/encoded-fov", small, trajectory_unit="cycles/encoded-fov")
    refused("the matrix does not fit.*2 numbers, Y,X", small, matrix="4,28,32")
    refused("cannot read the matrix", small, matrix="28")
    broken = k.copy()
    broken[0, 3, 9] = np.nan
    refused("no finite numbers.*received 1 that", path("b.h5", broken))
    refused("cannot be told", path("c.h5", 0 * k))


def test_a_trajectory_for_a_cartesian_header(tmp_path, rng):
    trajectory = spokes(5)
    noise, kspace = noise_lines(rng), sampled(trajectory)
    path = write(tmp_path / "a.h5", [*noise, *lines_of(kspace, xy(trajectory))], header(trajectory="cartesian"))
    refused("the header says cartesian; received line .* along which 2 of its coordinates vary", path)
    rows = unit_noise(rng, COILS, *MATRIX)
    path = write(tmp_path / "b.h5", [*noise, *[line(rows[:, y], y) for y in range(28)]], header(trajectory="cartesian"))
    assert read(path).grid.image_shape == MATRIX
    for options in ({"trajectory": trajectory}, {"matrix": (28, 32)}, {"trajectory_unit": "1/m"}):
        refused("given for Cartesian lines.*the trajectory cartesian in the header", path, **options)


@pytest.mark.parametrize("how", ["short", "text", "dimensions"])
def test_damaged_coordinates(tmp_path, rng, how):
    trajectory = spokes(5)
    path = write(tmp_path / "a.h5", [*noise_lines(rng), *lines_of(sampled(trajectory), xy(trajectory))], header())
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        if how == "short":
            lines["traj"][22] = lines["traj"][22][:-3]
        elif how == "dimensions":
            lines["head"]["trajectory_dimensions"][22] = 9
        else:
            texts = h5py.string_dtype()
            record = np.dtype([("head", lines.dtype["head"]), ("traj", texts), ("data", lines.dtype["data"])])
            other = np.zeros(len(lines), record)
            other["head"], other["data"], other["traj"] = lines["head"], lines["data"], "x"
            del file["dataset/data"]
            stored = np.dtype([("head", record["head"]), ("traj", texts), ("data", h5py.vlen_dtype(np.float32))])
            lines = file.create_dataset("dataset/data", data=other.astype(stored))[()]
        if how != "text":
            file["dataset/data"][...] = lines
    refused("trajectory of line 2. of a.h5 is damaged|2 and 9 coordinates", path)


def test_lines_of_twix_take_a_trajectory(tmp_path, rng):
    """A scanner does not say where they lie."""
    k = torch.from_numpy(rng.uniform(-5, 5, (2, twix.NY, 2 * twix.NX)))
    kspace = unit_noise(rng, COILS, twix.NY, 2 * twix.NX)
    lines = [*twix.noise_lines(rng), *twix.image_lines(kspace)]
    path = twix.write(tmp_path / "a.dat", (twix.text("VD", more={"sKSpace.ucTrajectory": "0x2"}), lines), version="VD")
    scan = read(path, trajectory=Trajectory(k, (10, 12)))
    assert torch.equal(scan.sampling.coordinates, k) and np.allclose(scan.kspace.numpy(), kspace, rtol=1e-3)
    assert noted(scan, "Samples lie where the given trajectory says")
    refused("does not fit the lines.*shape \\(2, 3, 24\\)", path, trajectory=Trajectory(k[:, :3], (10, 12)))


@pytest.mark.skipif(shutil.which("ismrmrd_generate_cartesian_shepp_logan") is None, reason="no generator")
def test_coordinates_of_the_generator_are_those_of_the_grid(tmp_path):
    """It writes Cartesian coordinates, in cycles per voxel."""
    words = ["ismrmrd_generate_cartesian_shepp_logan", "-m", "32", "-c", "4", "-C", "-k", "-o", "a.h5"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    scan = read(tmp_path / "a.h5")
    assert scan.grid.image_shape == (32, 32) and noted(scan, "coordinates were not used")


def test_streams_of_version_2_keep_trajectories(tmp_path, rng):
    mrd = pytest.importorskip("mrd")
    trajectory = spokes(6)
    kspace, k = sampled(trajectory), xy(trajectory, FACTORS["cycles/voxel"])
    space = mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(x=32, y=28, z=1),
        field_of_view_mm=mrd.FieldOfViewMm(x=240.0, y=210.0, z=5.0),
    )
    encoding = mrd.EncodingType(encoded_space=space, recon_space=space, trajectory=mrd.Trajectory.RADIAL)
    conditions = mrd.ExperimentalConditionsType(h1resonance_frequency_hz=63500000)

    def acquisition(samples, coordinates, flags, step):
        head = mrd.AcquisitionHeader(flags=flags, idx=mrd.EncodingCounters(kspace_encode_step_1=step))
        head.position = head.read_dir = head.phase_dir = head.slice_dir = np.zeros(3, np.float32)
        return mrd.StreamItem.Acquisition(
            mrd.Acquisition(head=head, data=samples, trajectory=np.ascontiguousarray(coordinates, np.float32))
        )

    def items():
        noise = mrd.AcquisitionFlags.IS_NOISE_MEASUREMENT
        yield acquisition(unit_noise(rng, COILS, 900), np.zeros((0, 0)), noise, 0)
        for i in range(6):
            yield acquisition(kspace[:, i], k[:, i], mrd.AcquisitionFlags(0), i)

    with mrd.BinaryMrdWriter(str(tmp_path / "a.mrd")) as writer:
        writer.write_header(mrd.Header(encoding=[encoding], experimental_conditions=conditions))
        writer.write_data(items())
    scan = read(tmp_path / "a.mrd")
    same_trajectory(scan.sampling, trajectory)
    assert np.array_equal(scan.kspace.numpy(), kspace)


# -- beside a scan: BART, npy, npz ---------------------------------------------------------------------------


def bart_pair(folder, trajectory, kspace):
    """BART's pair of (coil, readout, sample) and a trajectory in cycles per field of view."""
    k = trajectory.coordinates.numpy()
    k = np.concatenate([k[::-1], np.zeros((3 - len(k), *k.shape[1:]))])
    return (
        cfl(folder / "k", kspace.transpose(2, 1, 0)[None]),
        cfl(folder / "t", k.transpose(0, 2, 1)),
    )


def test_bart_pairs(tmp_path, rng):
    trajectory = spokes(9)
    kspace = sampled(trajectory)
    path, where = bart_pair(tmp_path, trajectory, kspace)
    noise = cfl(tmp_path / "n", unit_noise(rng, 500, 1, 1, COILS))
    scan = read(path, trajectory=where, noise=noise, matrix=MATRIX)
    same_trajectory(scan.sampling, trajectory)
    assert np.array_equal(scan.kspace.numpy(), kspace)
    itself = read(path, trajectory=where.with_suffix(".hdr"), noise=noise)
    assert itself.spatial_shape == MATRIX and noted(
        itself, "The matrix 28 × 32 is the one that the trajectory resolves"
    )
    # Echoes and slices lead; the trajectory is repeated for them.
    shape = [1, 64, 9, COILS, 1, 2, *[1] * 7, 4]
    many, repeated = unit_noise(rng, *shape), np.zeros((3, 64, 9, 1, 1, 2), np.complex64)
    repeated[:] = bart_trajectory_array(trajectory)[..., None, None, None]
    scan = read(cfl(tmp_path / "many", many), trajectory=cfl(tmp_path / "t2", repeated), noise=noise)
    assert scan.axes == ("slice", "echo") and scan.image_shape == (4, 2, *MATRIX)
    assert np.array_equal(scan.kspace.numpy(), many[0].transpose(12, 4, 2, 1, 0, *range(3, 4), *range(5, 12)).squeeze())
    # A single spiral: no axis of readouts.
    arm = spiral((16, 16), 1)
    one, where = bart_pair(tmp_path, arm, sampled(arm))
    scan = read(one, trajectory=where, noise=noise)
    assert scan.sampling.sample_shape == arm.sample_shape[1:] and scan.kspace.shape == (COILS, arm.sample_shape[1])
    volume = radial_3d((10, 14, 12), 30)
    pair = bart_pair(tmp_path, volume, sampled(volume))
    scan = read(pair[0], trajectory=pair[1], noise=noise)
    same_trajectory(scan.sampling, volume)


def bart_trajectory_array(trajectory):
    k = trajectory.coordinates.numpy()[::-1].transpose(0, 2, 1)
    return np.concatenate([k, np.zeros((1, *k.shape[1:]))])


def test_bart_pairs_that_do_not_fit(tmp_path, rng):
    trajectory = spokes(9)
    path, where = bart_pair(tmp_path, trajectory, sampled(trajectory))
    noise = cfl(tmp_path / "n", unit_noise(rng, 500, 1, 1, COILS))
    refused("does not fit the k-space.*3, 9, 64|coil, 5, 64", path, trajectory=spokes(5), noise=noise)
    assert noted(read(path, noise=noise), "dimension 0 is not used")
    refused("does not hold samples along", cfl(tmp_path / "c", unit_noise(rng, 8, 9, 1, 3)), trajectory=where)
    refused("does not hold one trajectory.*complex", path, trajectory=cfl(tmp_path / "x", unit_noise(rng, 3, 64, 9)))
    refused("does not hold one trajectory", path, trajectory=cfl(tmp_path / "y", np.ones((2, 64, 9))))
    moving = np.random.default_rng(0).uniform(-9, 9, (3, 64, 9, 1, 1, 1, 1, 1, 1, 1, 2))
    refused("the same for all images", path, trajectory=cfl(tmp_path / "z", moving))
    refused("no file", path, trajectory=tmp_path / "none.cfl")
    refused("of no format", path, trajectory=__file__)
    refused("holds no trajectory", cfl(tmp_path / "c", unit_noise(rng, 8, 9, 1, 3)), matrix="8,9")
    where.write_bytes(where.read_bytes()[:-8])
    refused("does not fit its header", path, trajectory=where)


def test_arrays_with_a_trajectory_beside_them(tmp_path, rng):
    trajectory = spokes(9)
    kspace, k = sampled(trajectory), trajectory.coordinates.numpy()
    np.save(tmp_path / "k.npy", kspace)
    np.save(tmp_path / "n.npy", unit_noise(rng, COILS, 400))
    options = {"noise": tmp_path / "n.npy"}

    def given(values, name="t.npy"):
        np.save(tmp_path / name, values)
        return tmp_path / name

    for values in (k, np.moveaxis(k, 0, -1), k.astype(np.float32), k.astype(np.longdouble)):
        same_trajectory(read(tmp_path / "k.npy", trajectory=given(values), **options).sampling, trajectory)
    radians = given(k * 2 * np.pi / np.reshape(MATRIX, (2, 1, 1)))
    scan = read(tmp_path / "k.npy", trajectory=radians, matrix=MATRIX, **options)
    same_trajectory(scan.sampling, trajectory)
    assert noted(scan, "read as radians/voxel")
    refused("matrix of the image.*cannot be told.*--matrix", tmp_path / "k.npy", trajectory=radians, **options)
    refused("matrix of the image", tmp_path / "k.npy", trajectory=radians, trajectory_unit="radians/voxel", **options)
    refused("both may be meant", tmp_path / "k.npy", trajectory=given(np.ones((2, 9, 3))), **options)
    refused("no coordinates", tmp_path / "k.npy", trajectory=given(np.ones((5, 9, 4))), **options)
    refused("no coordinates", tmp_path / "k.npy", trajectory=given(np.ones((2, 0, 9))), **options)
    refused("matrix of the image.*cannot be told", tmp_path / "k.npy", trajectory=given(1e300 * k), **options)
    unit = {"trajectory_unit": "cycles/fov", "matrix": MATRIX}
    refused("lie at one place", tmp_path / "k.npy", trajectory=given(0 * k), **unit, **options)
    refused("there is no file", tmp_path / "k.npy", trajectory=tmp_path / ("n" * 300), **options)
    refused("Leave --axes out", tmp_path / "k.npy", trajectory=given(k), axes="coil,ky,kx", **options)
    np.savez(tmp_path / "t.npz", trajectory=k, density=trajectory.density.numpy(), image_shape=[28, 32])
    scan = read(tmp_path / "k.npy", trajectory=tmp_path / "t.npz", **options)
    same_trajectory(scan.sampling, trajectory)
    assert torch.equal(scan.sampling.density, trajectory.density)
    np.savez(tmp_path / "u.npz", other=k)
    refused("holds no trajectory", tmp_path / "k.npy", trajectory=tmp_path / "u.npz", **options)
    # In one file, without its matrix.
    np.savez(tmp_path / "all.npz", kspace=kspace, noise=unit_noise(rng, COILS, 400), trajectory=k)
    assert read(tmp_path / "all.npz").spatial_shape == MATRIX
    assert read(tmp_path / "all.npz", matrix="30,40").spatial_shape == (30, 40)


def test_trajectories_of_sigpy(tmp_path, rng):
    """Its coordinates (readout, sample, dimension) are in cycles per field of view, ordered as the image."""
    sigpy = pytest.importorskip("sigpy")
    mri = pytest.importorskip("sigpy.mri")
    coordinates = mri.radial((60, 32, 2), MATRIX)
    phantom = head()
    images = (phantom.coil_maps * phantom.image).numpy()
    np.save(tmp_path / "k.npy", sigpy.nufft(images, coordinates, oversamp=2, width=6).astype(np.complex64))
    np.save(tmp_path / "t.npy", coordinates)
    np.save(tmp_path / "n.npy", 0.01 * unit_noise(rng, COILS, 400))
    scan = read(tmp_path / "k.npy", trajectory=tmp_path / "t.npy", matrix=MATRIX, noise=tmp_path / "n.npy")
    assert scan.sampling.sample_shape == (60, 32) and noted(scan, "read as cycles/fov")
    ours = NonCartesian(phantom.coil_maps, scan.sampling).forward(phantom.image)
    assert float((ours - scan.kspace).norm() / ours.norm()) < 1e-3


# -- commands ------------------------------------------------------------------------------------------------


def shown(*words):
    result = CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": "200"})
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def test_commands_say_what_was_read(tmp_path, rng):
    trajectory = spokes(12)
    lines = [*noise_lines(rng), *lines_of(sampled(trajectory), xy(trajectory, FACTORS["cycles/voxel"]))]
    path = write(tmp_path / "a.h5", lines, header())
    code, text = shown("info", path)
    assert code == 0
    for words in ("768 samples in 2D", "coil, readout, sample", "R = 1.167", "cycles/voxel", "±0.5", "noise scan"):
        assert words in text, text
    failed = CliRunner().invoke(app, ["info", str(path), "--trajectory-unit", "furlongs"])
    assert isinstance(failed.exception, InputError) and "furlongs" in str(failed.exception)
    pair = bart_pair(tmp_path, trajectory, sampled(trajectory))
    noise = cfl(tmp_path / "n", unit_noise(rng, 500, 1, 1, COILS))
    words = ["--trajectory", pair[1], "--matrix", "28,32", "--noise", noise]
    assert "(28, 32)" in shown("info", pair[0], *words)[1]
    out = tmp_path / "map.h5"
    code, text = shown("map", pair[0], *words, "-r", "rss", "-m", "sketch", "-n", "4", "-o", out)
    assert code == 0 and out.exists(), text


@pytest.mark.parametrize("command", ["info", "map", "roi", "gfactor", "rank networks"])
def test_commands_that_read_a_scan_take_a_trajectory(command):
    _, text = shown(*command.split(), "--help")
    for option in ("--trajectory", "--matrix", "--trajectory-unit"):
        assert option in text
