"""Gradient delays: simulated with noise, found and corrected; refused where the scan does not tell them."""

import math
from functools import cache

import pytest
import torch
from typer.testing import CliRunner

from mrnoise import Acquisition, InputError
from mrnoise.calibration import correct_gradient_delays, estimate_gradient_delays
from mrnoise.cli.main import app
from mrnoise.encoding import Nufft
from mrnoise.io.scans.npz import write_npz
from mrnoise.sampling import Trajectory, radial, radial_3d, spiral, stack_of_stars
from mrnoise.simulation import simulate, simulated_head

MATRIX, VOLUME = (32, 28), (12, 16, 14)
OBLIQUE = torch.tensor([[0.4, 0.05], [0.05, -0.2]]).double()


phantom = cache(lambda shape, snr: simulated_head(shape, 3, snr=snr))


def around(n):
    return torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)


def truth(spokes, delays):
    """Where samples of delayed spokes are."""
    step = spokes.coordinates.diff(dim=-1)[..., :1]
    return spokes.coordinates - torch.einsum("ab,b...->a...", delays, step)


def delayed(spokes, delays, snr, seed=0, phase=0.0):
    """A noisy scan of delayed spokes that does not know of them."""
    head = phantom(spokes.image_shape, snr)
    image = (head.coil_maps * head.image).to(torch.complex128)
    kspace = Nufft(truth(spokes, delays), spokes.image_shape).forward(image)
    g = torch.Generator().manual_seed(seed)
    turned = phase * torch.randn(*spokes.sample_shape[:-1], 1, generator=g, dtype=torch.float64)
    scan = Acquisition(kspace * torch.polar(torch.ones_like(turned), turned), head.noise_covariance, sampling=spokes)
    return scan.replace(kspace=scan.kspace + scan.colour(torch.randn(kspace.shape, dtype=kspace.dtype, generator=g)))


@pytest.mark.parametrize("snr", [100.0, 10.0])
@pytest.mark.parametrize(
    "spokes",
    [radial(MATRIX, 40, angles=around(40)), radial(MATRIX, 55), radial(MATRIX, 40, 51, angles=around(40))],
    ids=["over 360 degrees", "golden angle", "odd samples"],
)
def test_delays_are_found_to_hundredths_of_a_sample(spokes, snr):
    found = estimate_gradient_delays(delayed(spokes, OBLIQUE, snr))
    error = (found.delays - OBLIQUE).abs()
    assert float(error.max()) < 0.01
    assert bool((error < 4 * found.errors + 2e-3).all()) and 20 <= found.n_pairs <= 40


def test_errors_are_the_spread_of_repeated_scans():
    spokes = radial(MATRIX, 24, angles=around(24))
    repeats = [estimate_gradient_delays(delayed(spokes, OBLIQUE, 10.0, seed)) for seed in range(16)]
    spread = torch.stack([found.delays for found in repeats]).std(0)
    stated = torch.stack([found.errors for found in repeats]).mean(0)
    assert float((spread / stated).min()) > 0.6 and float((spread / stated).max()) < 1.5


def test_a_volume_has_three_delays_a_stack_two():
    delays = torch.tensor([[0.3, 0, 0.1], [0, -0.2, 0], [0.1, 0, 0.15]]).double()
    ball = radial_3d(VOLUME, 80)
    both = Trajectory(torch.cat([ball.coordinates, ball.coordinates.flip(-1)], 1), VOLUME)
    found = estimate_gradient_delays(delayed(both, delays, 50.0))
    assert float((found.delays - delays).abs().max()) < 0.01
    stack = stack_of_stars(VOLUME, 20, angles=around(20))
    flat = torch.zeros(3, 3).double()
    flat[1:, 1:] = OBLIQUE
    found = estimate_gradient_delays(delayed(stack, flat, 50.0))
    assert float((found.delays - flat).abs().max()) < 0.02
    assert bool((found.delays[0] == 0).all()) and str(found).startswith("gradient delays in samples: y 0.4")


def test_correction_puts_samples_where_they_were_measured():
    spokes = radial(MATRIX, 40, angles=around(40))
    scan = delayed(spokes, OBLIQUE, 50.0)
    corrected = correct_gradient_delays(scan)
    lost = spokes.sample_shape[-1] - corrected.sampling.sample_shape[-1]
    assert lost == 1
    right = truth(spokes, OBLIQUE)[..., lost:]
    assert float((corrected.sampling.coordinates - right).abs().max()) < 0.01 * 0.5
    assert torch.equal(corrected.kspace, scan.kspace[..., lost:])
    assert torch.equal(corrected.sampling.density, spokes.density[..., lost:])
    (note,) = corrected.notes
    assert "corrected: gradient delays in samples: y 0.4" in note and f"1 of {spokes.sample_shape[-1]} samples" in note
    left = estimate_gradient_delays(corrected)
    assert float(left.delays.abs().max()) < 0.01
    assert correct_gradient_delays(scan, left).notes[0].startswith(f"corrected: {left}")  # of another scan


def test_a_phase_of_each_spoke_changes_nothing():
    found = estimate_gradient_delays(delayed(radial(MATRIX, 40, angles=around(40)), OBLIQUE, 50.0, phase=0.5))
    assert float((found.delays - OBLIQUE).abs().max()) < 0.01


def test_spokes_of_another_image_are_refused():
    """Every other one is that of another coil, and so is the one that is opposed: the pairs agree."""
    spokes = radial(MATRIX, 40, angles=around(40))
    scan = delayed(spokes, OBLIQUE, 50.0)
    mixed = scan.kspace.clone()
    mixed[:, 1::2] = mixed[:, 1::2].roll(1, 0)
    with pytest.raises(InputError, match=r"not those of one image.*% not explained.*angles and the order"):
        estimate_gradient_delays(scan.replace(kspace=mixed))


def test_no_delay_is_found_where_there_is_none():
    found = estimate_gradient_delays(delayed(radial(MATRIX, 40, angles=around(40)), torch.zeros(2, 2).double(), 20.0))
    assert bool((found.delays.abs() < 4 * found.errors).all())


@pytest.mark.parametrize(
    ("scan", "problem"),
    [
        (lambda: delayed(radial(MATRIX, 40, angles="uniform"), OBLIQUE, 50.0), "need opposed spokes.*0 pairs among 40"),
        (lambda: delayed(radial(MATRIX, 4, angles=around(4)), OBLIQUE, 50.0), "need opposed spokes.*2 pairs"),
        (lambda: delayed(radial(MATRIX, 24, angles=around(24)), OBLIQUE, 1e-3), "opposed spokes disagree"),
        (lambda: delayed(radial(MATRIX, 24, half=True), OBLIQUE, 50.0), "delays are those of spokes"),
        (lambda: delayed(spiral(MATRIX, 4), OBLIQUE, 50.0), "delays are those of spokes.*cycles from straight"),
        (lambda: simulate((16, 12), 3), "delays are those of spokes.*grid"),
    ],
    ids=["over 180 degrees", "two directions", "noise", "half spokes", "spiral", "grid"],
)
def test_where_the_scan_does_not_tell_it_is_refused(scan, problem):
    with pytest.raises(InputError, match=problem):
        estimate_gradient_delays(scan())
    with pytest.raises(InputError, match=problem):
        correct_gradient_delays(scan())


def test_map_command_says_what_it_corrected(tmp_path):
    spokes = radial(MATRIX, 40, angles=around(40))
    scan = delayed(spokes, OBLIQUE, 50.0)
    scan = scan.replace(coil_maps=phantom(MATRIX, 50.0).coil_maps)
    noise = phantom(MATRIX, 50.0).noise_scan(2000)
    write_npz(scan, tmp_path / "scan.npz", noise)
    words = ["map", str(tmp_path / "scan.npz"), "-r", "gridding", "-n", "2", "-o", str(tmp_path / "map.h5")]
    for extra, said in (([], False), (["--correct-gradient-delays"], True)):
        shown = CliRunner().invoke(app, [*words, *extra], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, shown.output
        assert ("note: corrected: gradient delays in samples: y 0.4" in shown.output) == said
