"""Reconstructions of other toolboxes: their own image, in their own units, and the noise of it."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnoise import InputError, noise_map, read_noise_map
from mrnoise.catalogue import Settings
from mrnoise.catalogue import reconstruction as reconstruction_named
from mrnoise.files.cfl import read_cfl, write_cfl
from mrnoise.fourier import to_image
from mrnoise.linearization import image_of, linearize
from mrnoise.measurement import noise_power_spectrum
from mrnoise.reconstruction import (
    BlackBox,
    CgSense,
    CommandLine,
    Direct,
    Mirtorch,
    Mrpro,
    Reconstruction,
    Sense,
    SigpyApp,
)
from mrnoise.reconstruction.adapters.command_line import coordinates_in_bart
from mrnoise.sampling import equispaced, poisson_disc, radial
from mrnoise.simulation import simulate
from test_cli import run

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(BENCHMARKS))
    import toolboxes

# The libraries take seconds to import: one process does.
pytestmark = pytest.mark.xdist_group("toolboxes")

# BART's pics wants a matrix that is a multiple of 4, see findings.
SHAPE, N = (24, 20), 32
SCAN = toolboxes.scan_of(SHAPE, calibration=8)
with_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
L2 = "bart pics -S -l2 -r 0.01 -i 100 {kspace} {sens}"


def relative(a, b):
    return float((a - b).norm() / b.norm())


def mode(reconstruction, scan=SCAN):
    (operator,) = linearize(reconstruction, scan)
    return operator.preflight.jvp_mode


# -- each toolbox against itself ---------------------------------------------------------------------------------


@pytest.fixture(params=toolboxes.CASES)
def case(request):
    found = toolboxes.CASES[request.param]
    if toolboxes.installed(found.package) is None:
        pytest.skip(f"{found.package} is not installed")
    return found


def test_the_image_is_that_of_the_toolbox(case):
    arrays = toolboxes.Arrays.of(SCAN, case.whitened)
    alone = torch.as_tensor(case.alone(arrays)(arrays.kspace))
    mapped = image_of(case.adapter(), SCAN)
    assert mapped.dtype == alone.dtype
    torch.testing.assert_close(mapped, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()))


def test_the_map_is_the_noise_of_the_toolbox(case):
    # Of networks so many samples that those that are not linear enough for a first-order map get none.
    network = case.package in ("monai", "fastmri", "direct", "deepinv")
    nm, replicas = toolboxes.compared(case, SCAN, N, n_samples=64 if network else 40)
    ratio, floors = toolboxes.distance(nm, replicas)
    assert floors < 1.3 and abs(ratio - 1) < 0.1
    assert toolboxes.distance(nm, 2**0.5 * replicas)[1] > 1.3


LINEAR = ("SigPy SenseRecon", "BART pics -S -l2", "MIRTorch CG", "mrpro regularized SENSE")


def test_which_of_them_are_linear(case, request):
    """Those that solve a linear system; not what scales by its data, thresholds or learns.

    mrpro stops after so many iterations: its derivative is complex-linear up to 10⁻³ only.
    """
    (name,) = (name for name, known in toolboxes.CASES.items() if known is case)
    (operator,) = linearize(case.adapter(), SCAN)
    assert operator.complex_linear == (name in LINEAR and not name.startswith("mrpro"))


def test_least_squares_of_all_of_them_is_the_same():
    """One scale, one λ, one transform: that of `CgSense`."""
    ours = image_of(CgSense(toolboxes.WEIGHT), SCAN)
    for name in LINEAR:
        case = toolboxes.CASES[name]
        if toolboxes.installed(case.package) is not None:
            assert relative(image_of(case.adapter(), SCAN), ours) < 2e-3, name


# -- functions of NumPy ------------------------------------------------------------------------------------------


def in_numpy(reconstruction, scan):
    """The image and its adjoint, as functions of arrays."""
    bound = reconstruction.bind(scan)

    def image(kspace):
        return bound(torch.from_numpy(kspace)).numpy()

    def adjoint(x):
        pull = torch.func.vjp(bound, scan.kspace)[1]
        return pull(torch.from_numpy(x))[0].numpy()

    return image, adjoint


REGULAR = simulate(SHAPE, 4, seed=3, mask=equispaced(SHAPE, 2))


def test_an_adjoint_gives_the_lattice():
    image, adjoint = in_numpy(Sense(), REGULAR)
    exact = noise_map(Sense(), REGULAR, method="closed_form")
    nm = noise_map(BlackBox(image, adjoint), REGULAR)
    assert nm.method == "lattice" and nm.provenance.preflight["mode"] == "J t = g(t)"
    torch.testing.assert_close(nm.std, exact.std, rtol=1e-3, atol=0)


def test_an_adjoint_gives_spots():
    scan = simulate((28, 24), 4, seed=3).undersample(poisson_disc((28, 24), 2, calibration=8))
    nm = noise_map(BlackBox(*in_numpy(CgSense(0.1), scan)), scan, method="spots", target_error=0.03)
    exact = noise_map(CgSense(0.1), scan, method="closed_form").std
    inside = nm.std.isfinite() & (exact > 0)
    assert nm.method == "spots" and float((nm.std / exact - 1)[inside].square().mean().sqrt()) < 0.03


def test_without_one_control_variates_serve():
    exact = noise_map(Sense(), REGULAR, method="closed_form")
    image, _ = in_numpy(Sense(), REGULAR)
    plain, helped = (
        noise_map(BlackBox(image), REGULAR, method="sketch", n_samples=150),
        noise_map(BlackBox(image), REGULAR, method="auto", target_error=0.03),
    )
    inside = plain.snr > 10
    error = (helped.std / exact.std - 1)[inside].square().mean().sqrt()
    assert helped.provenance.control_variate and helped.n_samples < 150
    assert float(error) < 0.03
    assert float((plain.std / exact.std - 1)[inside].square().mean().sqrt()) == pytest.approx(1 / 600**0.5, rel=0.3)


def test_a_wrong_adjoint_is_refused():
    image, adjoint = in_numpy(Sense(), REGULAR)
    nm = noise_map(BlackBox(image, lambda x: 2 * adjoint(x)), REGULAR, n_samples=10)
    assert nm.method == "sketch"
    with pytest.raises(InputError, match=r"adjoint of the reconstruction cannot be trusted.*own vjp"):
        noise_map(BlackBox(image, lambda x: 2 * adjoint(x)), REGULAR, method="exact")
    with pytest.raises(InputError, match=r"no adjoint was given.*give .* its adjoint, BlackBox\(function, adjoint\)"):
        noise_map(BlackBox(image), REGULAR, method="exact")


def test_real_and_single_precision_images():
    double = REGULAR.replace(kspace=REGULAR.kspace.to(torch.complex128))
    nm = noise_map(BlackBox(lambda k: np.abs(k).sum(0).astype(np.float32)), double, n_samples=8)
    assert nm.method == "monte_carlo" and nm.image.dtype == torch.float32
    single = BlackBox(lambda k: k[0].astype(np.complex64))
    (operator,) = linearize(single, double)
    assert operator.image_dtype == torch.complex64 and operator.complex_linear


def test_an_array_that_a_function_writes_each_time():
    image, _ = in_numpy(Sense(), REGULAR)
    kept = np.empty(SHAPE, np.complex64)

    def buffered(kspace):
        kept[:] = image(kspace)
        return kept

    for method in ("sketch", "monte_carlo"):
        maps = [noise_map(BlackBox(g), REGULAR, method=method, n_samples=20) for g in (image, buffered)]
        torch.testing.assert_close(maps[1].std, maps[0].std)


def test_arrays_of_other_byte_order_and_read_only_ones(recwarn):
    """As files of other programs hold them."""
    for function in (lambda k: np.abs(k[0]).astype(">f4"), lambda k: np.broadcast_to(np.abs(k[0]), SHAPE)):
        assert noise_map(BlackBox(function), REGULAR, n_samples=8).image.dtype == torch.float32
    assert not recwarn.list


def test_what_is_read_from_the_image_of_a_black_box():
    """Its spectrum is that of the function in torch, to the last probe."""
    image, _ = in_numpy(Sense(), REGULAR)
    window = torch.zeros(SHAPE)
    window[6:18, 5:15] = 1
    ours, theirs = (noise_power_spectrum(g, REGULAR, window, n_samples=32) for g in (Sense(), BlackBox(image)))
    torch.testing.assert_close(theirs.spectrum, ours.spectrum, rtol=1e-3, atol=1e-3 * float(ours.spectrum.mean()))


def test_a_function_gets_a_copy_and_all_leading_axes():
    scan = simulate((8, 6), 2, n_slices=3)
    before = scan.kspace.clone()

    def first_coil(kspace):
        kspace *= 2
        return kspace[:, 0]

    nm = noise_map(BlackBox(first_coil), scan, n_samples=300)
    assert nm.std.shape == (3, 8, 6) and torch.equal(scan.kspace, before)
    expected = 2 * float(scan.noise_covariance.matrix[0, 0].real) ** 0.5
    assert float(nm.std.square().mean().sqrt()) == pytest.approx(expected, rel=0.02)


def test_each_slice_may_have_its_own():
    class Mine(Reconstruction):
        def bind(self, acquisition):
            maps = acquisition.coil_maps.numpy()
            return BlackBox(lambda k: (maps.conj() * to_image(torch.from_numpy(k)).numpy()).sum(0))

    scan = simulate((16, 12), 4, n_slices=2)
    nm = noise_map(Mine(), scan, n_samples=20)
    assert nm.std.shape == (2, 16, 12) and nm.linearity.verdict == "linear"


# -- SigPy -------------------------------------------------------------------------------------------------------


def test_sigpy_along_a_trajectory_and_in_volumes():
    app = pytest.importorskip("sigpy.mri.app")
    sense = SigpyApp(partial(app.SenseRecon, lamda=0.1, max_iter=40))
    spokes = simulate((16, 12), 4, trajectory=radial((16, 12), n_spokes=20), snr=50)
    # Its transform is right to 7e-3.
    assert relative(image_of(sense, spokes), image_of(CgSense(0.1), spokes)) < 0.02
    volume = simulate((4, 10, 8), 4)
    assert relative(image_of(sense, volume), image_of(CgSense(0.1), volume)) < 1e-3


def test_sigpy_draws_the_same_numbers_each_time():
    """The start of its power iteration sets the step: two images of the same samples differ without a seed."""
    app = pytest.importorskip("sigpy.mri.app")
    tv = SigpyApp(partial(app.TotalVariationRecon, lamda=3e-3, max_iter=20)).bind(SCAN)
    state = np.random.get_state()  # noqa: NPY002
    assert torch.equal(tv(SCAN.kspace), tv(SCAN.kspace))
    assert np.array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002


def test_coil_maps_of_black_boxes_may_be_propagated():
    app = pytest.importorskip("sigpy.mri.app")
    scan = toolboxes.scan_of((24, 20), calibration=14).replace(coil_maps=None)
    fixed, propagated = (
        SigpyApp(partial(app.SenseRecon, lamda=0.01), differentiate_coil_maps=differentiate)
        for differentiate in (False, True)
    )
    assert mode(fixed, scan) == "J t = g(t)" and mode(propagated, scan) is None
    torch.testing.assert_close(image_of(fixed, scan), image_of(propagated, scan), rtol=1e-3, atol=1e-4)


def test_coils_as_they_are():
    """Not whitened: the toolbox solves for the samples as they were measured."""
    app = pytest.importorskip("sigpy.mri.app")
    options = {"lamda": 0.01, "max_iter": 100}
    raw = SigpyApp(partial(app.SenseRecon, **options), whitened=False)
    alone = app.SenseRecon(SCAN.kspace.numpy(), SCAN.coil_maps.numpy(), show_pbar=False, **options).run()
    torch.testing.assert_close(image_of(raw, SCAN), torch.from_numpy(alone))
    assert relative(image_of(SigpyApp(partial(app.SenseRecon, **options)), SCAN), torch.from_numpy(alone)) > 1e-3


# -- commands ----------------------------------------------------------------------------------------------------


def test_cfl_files(tmp_path):
    values = np.arange(24).reshape(2, 3, 4) * (1 + 2j)
    write_cfl(tmp_path / "array", values)
    np.testing.assert_array_equal(read_cfl(tmp_path / "array").reshape(2, 3, 4), values)
    if shutil.which("bart") is not None:
        subprocess.run(["bart", "transpose", "0", "2", tmp_path / "array", tmp_path / "turned"], check=True)
        np.testing.assert_array_equal(read_cfl(tmp_path / "turned").reshape(4, 3, 2), values.transpose(2, 1, 0))


@with_bart
@pytest.mark.parametrize(
    "scan",
    [
        simulate((12, 16), 4).undersample(poisson_disc((12, 16), 1.5, calibration=4)),
        simulate((4, 12, 8), 4),
        simulate((12, 16), 4, n_slices=2),
        simulate((16, 12), 4, trajectory=radial((16, 12), n_spokes=24), snr=50),
    ],
    ids=["plane", "volume", "stack", "trajectory"],
)
def test_arrays_in_the_order_of_bart(scan):
    """A unit of its own on every axis: the solution of BART is that of `CgSense`."""
    command = "bart pics -S -l2 -r 0.1 -i 200 {kspace} {sens}"
    if "coordinates" in vars(scan.sampling):
        command = command.replace("-S", "-S -t {trajectory}")
    ours, theirs = image_of(CgSense(0.1), scan), image_of(CommandLine(command), scan)
    # The transform of BART 0.8 is wrong by 2 % and more at the edge of k-space.
    assert theirs.shape == ours.shape and relative(theirs, ours) < (0.03 if "-t" in command else 0.01)
    # Either all images in one file, or each in its own.
    if scan.axes:
        whole = image_of(CommandLine(command.replace("{kspace}", "{kspace:slice}")), scan)
        assert relative(whole, ours) < 0.01


@with_bart
def test_bart_turns_the_sign_where_half_the_matrix_is_odd():
    """As the page says; noise does not feel it."""
    scan = simulate((12, 10), 4)
    assert relative(-image_of(CommandLine(L2), scan), image_of(CgSense(0.01), scan)) < 1e-3


@with_bart
def test_series_that_a_command_needs_whole():
    scan = simulate((16, 12), 4, n_slices=3, trajectory=radial((16, 12), n_spokes=15)).replace(axes=("frame",))
    command = CommandLine("bart rtnlinv -S -i 4 -x 24:32:1 -t {trajectory} {kspace:frame}")
    assert command.joint == ("frame",) and command.estimates_coil_maps and not command.needs_coil_maps
    nm = noise_map(command, scan, n_samples=4)
    assert nm.std.shape == (3, 16, 12) and nm.method == "monte_carlo"
    # The first frame is the start of the second: each depends on those before it.
    quiet = scan.replace(kspace=scan.kspace * torch.tensor([1.1, 1, 1])[:, None, None, None])
    first, changed = image_of(command, scan), image_of(command, quiet)
    assert relative(changed[1], first[1]) > 1e-3


@with_bart
def test_the_pattern_of_a_grid():
    with_pattern = CommandLine("bart pics -S -l2 -r 0.01 -i 100 -p {pattern} {kspace} {sens}")
    torch.testing.assert_close(image_of(with_pattern, SCAN), image_of(CommandLine(L2), SCAN))


@with_bart
def test_images_that_follow_the_scale_of_the_data_or_do_not():
    """σ of what is normalised is that of an image of the same intensity, whatever the receiver gain."""
    louder = SCAN.replace(kspace=10 * SCAN.kspace, noise_covariance=100 * SCAN.noise_covariance.matrix)
    for command, gain in ((L2, 10), (L2.replace("-S ", ""), 1), (L2.replace("-S", "-w 1"), 10)):
        assert mode(CommandLine(command)) == ("J t = g(t)" if gain == 10 else None)
        quiet, loud = (noise_map(CommandLine(command), scan, n_samples=4) for scan in (SCAN, louder))
        assert float(loud.std.mean() / quiet.std.mean()) == pytest.approx(gain, rel=1e-3)
        assert quiet.g_factor is None


@with_bart
def test_one_thread_unless_the_user_says_otherwise(monkeypatch, tmp_path):
    script = tmp_path / "threads"
    script.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS threads" >&2\nexit 1\n')
    script.chmod(0o755)
    for given, seen in ((None, "1"), ("3", "3")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        with pytest.raises(InputError, match=f"received {seen} threads"):
            image_of(CommandLine(f"{script} {{kspace}}"), SCAN)


@with_bart
def test_bound_commands_are_values():
    bound = pickle.loads(pickle.dumps(CommandLine(L2).bind(SCAN)))
    assert torch.equal(bound(SCAN.kspace), CommandLine(L2).bind(SCAN)(SCAN.kspace))
    assert repr(bound) == f"CommandLine({L2!r}), bound to k-space (6, 24, 20)"


def test_coordinates_of_bart():
    trajectory = radial((16, 12), n_spokes=5)
    x, y, z = coordinates_in_bart(trajectory)[..., 0].squeeze()[:, :, 2]
    np.testing.assert_allclose(np.stack([y, x]), trajectory.coordinates[:, 2].numpy())
    assert not z.any()


FIRST_COIL = """
import sys, pathlib
from mrnoise.files.cfl import *
write_cfl(pathlib.Path(sys.argv[2]), read_cfl(pathlib.Path(sys.argv[1]))[:, :, :, 0])
"""


def test_any_command_that_reads_and_writes_arrays(monkeypatch):
    """Words with quotes, blanks and new lines, and no shell."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    image = image_of(CommandLine(f"{sys.executable} -c '{FIRST_COIL}' {{kspace}} {{output}}"), SCAN)
    torch.testing.assert_close(image, SCAN.whiten(SCAN.kspace)[0])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sh -c 'echo one; echo my own last words >&2; exit 3' {kspace}", "exit status 3.*received my own last words"),
        ("sh -c 'echo only this; exit 1' {kspace}", "received only this from sh"),
        ("sh -c 'exit 1' {kspace}", "received no word"),
        ("true {kspace}", r"ends without an image.*expected an array of BART in \{output\}"),
        ("no-such-program {kspace}", "cannot run no-such-program.*No such file.*apt install bart"),
        (f"{os.sep} {{kspace}}", "cannot run /.*Permission denied"),
    ],
)
def test_commands_that_fail(command, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        noise_map(CommandLine(command), SCAN, n_samples=4)


@with_bart
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("bart fft -i 3 {kspace}", r"something else than an image: expected.*20 × 24 × 1; received 20 × 24 × 1 × 6"),
        ("bart resize -c 0 10 {kspace}", "received 10 × 24 × 1 × 6"),
        ("bart pics {sens} {kspace}x", "exit status.*x"),
        ("bart nothing {kspace}", "exit status"),
    ],
)
def test_commands_of_bart_that_fail(command, message):
    with pytest.raises(InputError, match=f"(?s){message}") as raised:
        image_of(CommandLine(command), SCAN)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "received"),
    [
        ("bart pics -l1 -r 0.01", "bart pics -l1 -r 0.01"),
        ("bart pics {sens}", "bart pics"),
        ("bart pics {kspace} {maps}", "received maps"),
        ("bart pics {kspace} {}", "received"),
        ("bart pics {kspace:coil} {sens}", "received coil"),
        ("bart pics {kspace} {sens:frame}", "bart pics"),
        ("bart pics '{kspace}", "No closing quotation"),
    ],
)
def test_placeholders_that_are_not_known(command, received):
    with pytest.raises(InputError, match=r"placeholders.*expected \{kspace\}.*\{sens\}") as raised:
        CommandLine(command)
    assert received in str(raised.value)


def test_no_trajectory_on_a_grid():
    with pytest.raises(InputError, match="this needs a trajectory"):
        CommandLine("bart nlinv -t {trajectory} {kspace}").bind(SCAN)


INTERRUPTED = """
import sys
from mrnoise import noise_map
from mrnoise.reconstruction import CommandLine
from mrnoise.simulation import simulate
noise_map(CommandLine("sh -c 'echo started >&2; sleep 60' {kspace}"), simulate((8, 6), 2))
"""


def test_an_interrupted_command_leaves_nothing(tmp_path):
    """The command ends, its files go."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + INTERRUPTED
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    started = time.monotonic()
    while not list(tmp_path.glob("mrnoise-*/kspace.cfl")) and time.monotonic() < started + 60:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in words and list(tmp_path.iterdir()) == []


# -- hosts in torch ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mrpro():
    try:
        toolboxes.imported("mrpro")
    except ImportError:
        pytest.skip("mrpro is not installed")
    from mrpro.algorithms import reconstruction

    return reconstruction


@pytest.mark.parametrize(
    "scan",
    [
        simulate((12, 16), 4).undersample(poisson_disc((12, 16), 1.5, calibration=4)),
        simulate((16, 12), 4, mask=equispaced((12, 16), 2).mT),
        simulate((4, 10, 8), 4),
        simulate((16, 12), 4, trajectory=radial((16, 12), n_spokes=24), snr=50),
    ],
    ids=["scattered", "lines along k1", "volume", "trajectory"],
)
def test_samples_of_mrpro(mrpro, scan):
    make = partial(mrpro.RegularizedIterativeSENSEReconstruction, n_iterations=30, regularization_weight=0.1)
    assert relative(image_of(Mrpro(make), scan), image_of(CgSense(0.1), scan)) < 0.01


def test_mrpro_estimates_coil_maps_of_its_own(mrpro):
    """What it computes from the data is held fixed."""

    def make(kdata, csm):
        return mrpro.DirectReconstruction(kdata)

    scan = simulate((16, 12), 4)
    (operator,) = linearize(Mrpro(make), scan)
    assert operator.complex_linear and operator.preflight.vjp_mode is not None


def test_the_operator_of_mirtorch():
    pytest.importorskip("mirtorch")
    seen = []

    def adjoint(y, A):
        x = torch.randn(A.size_in, dtype=y.dtype)
        inner = (y.conj() * (A * x)).sum(), ((A.H * y).conj() * x).sum()
        seen.append(bool((inner[0] - inner[1]).abs() < 1e-4 * inner[0].abs()))
        return A.H * y

    for scan in (
        SCAN,
        simulate((4, 10, 8), 4),
        simulate((16, 12), 4, trajectory=radial((16, 12), n_spokes=24)),
    ):
        maps = scan.whiten_maps(scan.coil_maps)
        from mrnoise.encoding import encode

        ours = encode(scan, maps).adjoint(scan.whiten(scan.kspace))
        assert relative(image_of(Mirtorch(adjoint), scan), ours) < 1e-4
    assert all(seen)


def test_networks_of_direct_get_what_their_forward_names():
    class Names(torch.nn.Module):
        def forward(self, masked_kspace, sensitivity_map):
            shapes.append((masked_kspace.shape, sensitivity_map.shape))
            return masked_kspace

    class Images(torch.nn.Module):
        def forward(self, masked_kspace, sampling_mask):
            shapes.append((masked_kspace.shape, sampling_mask.shape))
            return [None, masked_kspace[:, 0] * sampling_mask[:, 0]]

    shapes = []
    scaled = Direct(Names(), scaling=lambda y: 10 * y.abs().max())
    rss = image_of(scaled, SCAN)
    y = SCAN.whiten(SCAN.kspace)
    torch.testing.assert_close(rss, to_image(y).abs().square().sum(0).sqrt())
    torch.testing.assert_close(image_of(Direct(Images()), SCAN), y[0])
    coils = (1, 6, 24, 20, 2)
    assert shapes == [(coils, coils), (coils, (1, 1, 24, 20, 1))]
    with pytest.raises(InputError, match="fails on this scan.*missing 1 required positional argument"):
        image_of(Direct(torch.nn.Identity()), SCAN)


# -- by name -----------------------------------------------------------------------------------------------------


def test_names_of_the_command_line():
    assert reconstruction_named(L2) == CommandLine(L2)
    pytest.importorskip("sigpy.mri.app")
    made = reconstruction_named("sigpy:SenseRecon", Settings(regularization=0.02))
    assert repr(made) == "SigpyApp(SenseRecon, lamda=0.02)"
    assert repr(CommandLine("a {kspace}", True, whitened=False)) == (
        "CommandLine('a {kspace}', whitened=False, unit_gain=True)"
    )
    with pytest.raises(InputError, match="unknown app of SigPy.*SenseRecon, L1WaveletRecon, TotalVariationRecon"):
        reconstruction_named("sigpy:EspiritCalib")
    with pytest.raises(InputError, match=r"invalid regularisation.*received -1"):
        reconstruction_named("sigpy:SenseRecon", Settings(regularization=-1))
    with pytest.raises(InputError, match=r"placeholders.*received bart pics -l1"):
        reconstruction_named("bart pics -l1")


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("sigpy", lambda: reconstruction_named("sigpy:SenseRecon")),
        ("mrpro", lambda: Mrpro(None).bind(SCAN)),
        ("mirtorch", lambda: Mirtorch(None).bind(SCAN)),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package, use):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package} cannot be imported.*pip install 'mrnoise\[{package}\]'"):
        use()


def test_extras_are_those_that_errors_name():
    text = (BENCHMARKS.parent / "pyproject.toml").read_text(encoding="utf-8")
    for extra in ("sigpy", "mrpro", "mirtorch", "monai", "deepinv", "fastmri", "direct"):
        assert f"\n{extra} = [" in text


@with_bart
def test_toolboxes_on_the_command_line(tmp_path):
    scan = tmp_path / "scan.npz"
    run("simulate", scan, "--matrix", "24,20", "--coils", 4)
    for name in (L2, "sigpy:SenseRecon"):
        text = run("map", scan, "-r", name, "-n", 5, "-o", tmp_path / "map.h5")
        assert "J t = g(t)" in text
        assert name.rpartition(":")[2] in read_noise_map(tmp_path / "map.h5").provenance.reconstruction
    text = run("map", scan, "-r", "bart pics {kspace} {maps}", code=2)
    assert "placeholders" in text and len(text.strip().splitlines()) == 1
