"""The verdict on first-order maps, against maps whose nonlinear noise is known."""

import dataclasses
import sys

import pytest
import torch

import mrnoise
from cubic_maps import cubic
from mrnoise import estimators, noise_map
from mrnoise.estimators.choice.linearity import LINEAR, NOT_LINEAR, TOLERANCE, UNDECIDED, Finding, Linearity
from mrnoise.estimators.key import Key
from mrnoise.estimators.sampler import sampler
from mrnoise.foreground import foreground
from mrnoise.fourier import to_image
from mrnoise.linearization import linearize
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate
from small_maps import small_map
from test_improper_noise import Unrolled

SHAPE = (12, 20)
STACK = simulate(SHAPE, 4, n_slices=3, snr=6, seed=1).undersample(equispaced(SHAPE, 2))
ONE = next(iter(STACK.slices()))


def power(kspace):
    """Nonlinear at low SNR: the sum of squares."""
    return to_image(kspace).abs().square().sum(-3)


@pytest.mark.parametrize("snr", [200, 60, 20, 10, 6, 3])
def test_verdict_on_a_known_nonlinearity(snr):
    """The error is known exactly; of 8 seeds none may decide wrongly, few may stay undecided."""
    operator = cubic(snr, shape=(31, 37))
    expected = LINEAR if operator.error < TOLERANCE else NOT_LINEAR
    found = [estimators.linearity(operator, key=Key(seed, 0)).worst for seed in range(8)]
    verdicts = [f.verdict for f in found]
    assert set(verdicts) <= {expected, UNDECIDED}
    assert sum(f.error_low <= operator.error <= f.error_high for f in found) >= 7
    if abs(operator.error - TOLERANCE) > 0.02:
        assert verdicts.count(expected) >= 7
    if snr >= 60:
        assert {f.n_pairs for f in found} <= {1, 8}


def test_the_sweep_meets_both_verdicts():
    assert cubic(20).error < TOLERANCE / 3 < 2 * TOLERANCE < cubic(3).error


def test_a_few_voxels_of_a_large_object_decide(monkeypatch):
    monkeypatch.setattr(sys.modules["mrnoise.estimators.choice.linearity"], "MOST_VOXELS", 300)
    operator = cubic(3, shape=(31, 37))
    found = estimators.linearity(operator).worst
    assert found.verdict == NOT_LINEAR and found.error_low < operator.error < found.error_high


def test_errors_of_opposite_sign_do_not_cancel():
    """A derivative 20 % too large in one half and too small in the other: the ratio is near 1, the verdict is not."""
    operator = cubic(1000, shape=(11, 14))
    apply, factor = operator.apply, torch.ones(operator.image_shape)
    factor[:, :7], factor[:, 7:] = 1.2, 0.8
    operator.apply = lambda noise: factor * apply(noise)
    found = estimators.linearity(operator).worst
    assert found.verdict == NOT_LINEAR
    assert abs(found.ratio - 1) < TOLERANCE


@pytest.mark.parametrize("snr", [50, 5])
def test_standard_error_of_the_ratio(snr, monkeypatch):
    """From 8 pairs. The spread over 200 seeds is known to 5 %; a jackknife of 8 may exceed it by a fifth."""
    monkeypatch.setattr(sys.modules["mrnoise.estimators.choice.linearity"], "LOOKS", (8,))
    operator = cubic(snr, shape=(11, 13))
    found = [estimators.linearity(operator, key=Key(seed, 0)).worst for seed in range(200)]
    assert {f.n_pairs for f in found} == {8}
    ratio, error = (torch.tensor([getattr(f, name) for f in found]) for name in ("ratio", "ratio_error"))
    assert 0.95 < float(error.mean() / ratio.std()) < 1.35
    assert float(ratio.mean()) == pytest.approx(operator.ratio, abs=4 * float(ratio.std()) / 200**0.5)
    covered = [f.error_low <= operator.error <= f.error_high for f in found]
    assert sum(covered) >= 0.97 * len(covered)


def with_a_loud_voxel(snr, strength):
    """`cubic` of 1147 voxels, the first a hundred times or more as loud; its V/V₁ is 1.35 with strength 0.02."""
    operator = cubic(snr, shape=(31, 37))
    a, v = operator.a.clone(), torch.full_like(operator.a, operator.v)
    a[0, 0], v[0, 0] = strength, 4.0 if strength else 1e4
    return dataclasses.replace(operator, a=a, v=v)


@pytest.mark.parametrize("seed", range(4))
def test_one_loud_voxel_neither_hides_the_others_nor_decides(seed):
    """By Σ(V - V₁)² / ΣV₁² alone both verdicts would be those of one voxel."""
    hidden, loud = with_a_loud_voxel(3, 0.0), with_a_loud_voxel(200, 0.02)
    assert hidden.error < TOLERANCE < 0.15 < loud.error
    assert estimators.linearity(hidden, key=Key(seed)).verdict == NOT_LINEAR
    assert estimators.linearity(loud, key=Key(seed)).verdict == LINEAR


class Ratio:
    """1 / (1 + εn): the variance of a ratio of noisy numbers is infinite."""

    noise_shape = image_shape = (20, 25)
    noise_dtype = image_dtype = torch.complex128
    device = torch.device("cpu")
    complex_linear = False

    def __init__(self, size):
        self.size = 2**0.5 * size

    def apply(self, noise):
        return -self.size * noise.real

    def replicas(self, noise):
        return 1 / (1 + self.size * noise.real) - 1


@pytest.mark.parametrize("seed", range(4))
def test_noise_without_a_variance_is_not_linear(seed):
    """A few samples dominate ΣV: no limit of the error followed from it, and the verdict stayed undecided.

    Without its tails, beyond 4σ, V/V₁ is 1 + 8ε² + 69ε⁴ + … > 1.7 at ε = ¼, an error above 35 %; 1.02 at ε = 1/20, 1 %.
    """
    found = estimators.linearity(Ratio(0.25), key=Key(seed)).worst
    assert found.verdict == NOT_LINEAR and found.error_low < 0.5
    assert estimators.linearity(Ratio(0.05), key=Key(seed)).verdict == LINEAR


def test_departure_bounds_the_error_of_every_voxel():
    operator = cubic(4)
    noise = torch.randn(4000, *operator.s.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    expected = (operator.replicas(noise) - operator.apply(noise)).abs().square().mean(0)
    expected = (expected / operator.first_order_variance).sqrt()
    parts = [estimators.linearity(operator, key=Key(seed, 0), tolerance=0.5).departure for seed in range(60)]
    torch.testing.assert_close(torch.stack(parts).square().mean(0).sqrt(), expected, rtol=0.25, atol=0)
    error = ((operator.variance / operator.first_order_variance).sqrt() - 1).abs()
    assert bool((error <= expected).all())


def test_a_derivative_wrong_by_root_two_is_seen():
    operator = cubic(1000)
    apply = operator.apply
    operator.apply = lambda noise: apply(noise) / 2**0.5
    found = estimators.linearity(operator).worst
    assert found.verdict == NOT_LINEAR
    assert found.ratio == pytest.approx(2**0.5, rel=0.01)


@pytest.mark.parametrize("snr", [200, 20, 3])
def test_verdict_on_an_unrolled_network(snr):
    """The truth from 800 pairs of other noise, known to better than 0.5 % by pairing."""
    acq = simulate((20, 26), 4, snr=snr, seed=3).undersample(equispaced((20, 26), 2))
    (operator,) = linearize(Unrolled(acq), acq)
    inside = foreground(operator.value)
    draw = sampler(operator.noise_shape, operator.noise_dtype, key=Key(77), distribution="gaussian")
    d, linear = [], []
    for k in range(0, 800, 50):
        noise = draw(range(k, k + 50))
        d.append(operator.replicas(noise)[:, inside])
        linear.append(operator.apply(noise)[:, inside])
    variances = [[torch.cat(x[half::2]).to(torch.complex128).var(0) for half in (0, 1)] for x in (d, linear)]
    (true_a, true_b), (first_a, first_b) = variances
    squared = ((true_a - first_a) * (true_b - first_b)).sum() / (4 * (first_a * first_b).sum())
    error = float(squared.clamp_min(0).sqrt())
    ratio = float(((true_a + true_b).sum() / (first_a + first_b).sum()).sqrt())
    found = estimators.linearity(operator, region=inside).worst
    assert abs(found.ratio - ratio) < 4 * found.ratio_error + 0.005
    assert found.error_low - 0.005 < error < found.error_high + 0.005
    assert found.verdict in ((LINEAR if error < TOLERANCE else NOT_LINEAR), UNDECIDED)
    assert found.verdict != UNDECIDED or abs(error - TOLERANCE) < 0.02


@pytest.mark.parametrize("reconstruction", [Sense(), CgSense(1e-2)])
def test_a_linear_reconstruction_costs_one_pair(reconstruction, monkeypatch):
    counts = {"apply": 0, "replicas": 0}
    kind = mrnoise.linearization.NoiseToImage
    for name in counts:
        original = getattr(kind, name)

        def counting(self, noise, name=name, original=original):
            counts[name] += len(noise)
            return original(self, noise)

        monkeypatch.setattr(kind, name, counting)
    nm = noise_map(reconstruction, ONE, method="sketch", n_samples=3)
    assert counts == {"apply": 4, "replicas": 1}
    assert nm.linearity.verdict == LINEAR
    assert nm.linearity.describe()["n_products"] == 2
    assert nm.departure.shape == SHAPE and float(nm.departure[foreground(nm.image)].max()) < 0.01


def test_one_finding_a_slice_and_the_worst_decides():
    linear = noise_map(Sense(), STACK, method="sketch", n_samples=2).linearity
    assert len(linear.findings) == 3 and linear.departure.shape == (3, *SHAPE)
    worse = dataclasses.replace(linear.findings[1], verdict=NOT_LINEAR, ratio=0.7, error_low=0.21, n_pairs=8)
    undecided = dataclasses.replace(linear.findings[2], verdict=UNDECIDED, error_high=0.06, n_pairs=64)
    mixed = Linearity(linear.departure, (linear.findings[0], worse, undecided))
    assert mixed.verdict == NOT_LINEAR and mixed.worst is worse
    for part in ("not linear", "at least 21 %", "-30.0 ±", "8 replicas, image 2 of 3"):
        assert part in mixed.sentence
    assert mixed.describe()["n_products"] == 2 * (1 + 8 + 64)


def test_auto_holds_every_slice_to_the_error_asked_for():
    nm = noise_map(Sense(), STACK, target_error=0.02)
    assert [found.tolerance for found in nm.linearity.findings] == [0.02] * 3
    asked = noise_map(Sense(), STACK, method="sketch", n_samples=2)
    assert [found.tolerance for found in asked.linearity.findings] == [TOLERANCE] * 3


def test_interrupted_stack_keeps_the_verdict_of_what_was_reached():
    def interrupt(image, n_images, done, total, error):
        if image == 1:
            raise KeyboardInterrupt

    nm = noise_map(Sense(), STACK, method="sketch", n_samples=8, batch_size=4, progress=interrupt)
    assert len(nm.linearity.findings) == 2
    assert bool(nm.departure[:2].isfinite().all()) and bool(nm.departure[2].isnan().all())


def test_only_first_order_maps_are_checked():
    for method in ("monte_carlo", "nonlinear"):
        nm = noise_map(power, ONE, method=method, n_samples=10)
        assert nm.linearity is None and nm.departure is None
        assert nm.bias.is_complex() and nm.bias.shape == nm.bias_error.shape == SHAPE
        assert nm.provenance.noise_model == "replicas at the noise level of the scan"
    assert noise_map(power, ONE, method="sketch", n_samples=2).bias is None


def test_nonlinear_map_of_a_sum_of_squares():
    """E Σ|s+n|² - Σ|s|² = tr Ψ' with the coil noise of the image: known, and all of it second order.

    Floor: the bias of a voxel is known to 1/√400 of rms|d - Jn|; the mean over 240 voxels better.
    """
    nm = noise_map(power, ONE, method="nonlinear", n_samples=400)
    assert not ONE.mask.all()
    expected = float(ONE.noise_covariance.matrix.diagonal().real.sum()) / ONE.acceleration
    assert float(nm.bias.real.mean()) == pytest.approx(expected, rel=0.02)
    assert float((((nm.bias.real - expected) / nm.bias_error) ** 2).mean()) == pytest.approx(1, abs=0.3)
    plain = noise_map(power, ONE, method="monte_carlo", n_samples=400, seed=5)
    assert float((plain.bias.real.mean() - expected).abs()) < 4 * float(plain.bias_error.mean()) / 240**0.5 * 3
    assert float((nm.bias_error / plain.bias_error).median()) < 0.7


def test_nonlinear_needs_a_derivative():
    with pytest.raises(mrnoise.InputError, match=r"monte_carlo"):
        noise_map(lambda k: power(k.detach()), ONE, method="nonlinear", n_samples=2)


def checked_map(verdict):
    nm = small_map()
    found = Finding(verdict, 0.19, 0.25, 1.21, 0.02, 0.4, 0.05, 8)
    departure = torch.linspace(0.1, 0.5, nm.image.numel()).reshape(nm.image.shape)
    mean = 1e-3 * nm.image.to(torch.complex128)
    estimate = dataclasses.replace(nm.estimate, mean=mean, mean_error=0.1 * mean.abs())
    return dataclasses.replace(nm, estimate=estimate, linearity=Linearity(departure, (found,)))


def test_saved_and_read_back(tmp_path):
    nm = checked_map(NOT_LINEAR)
    unknown = dataclasses.replace(nm.linearity.worst, ratio_error=float("nan"))
    nm = dataclasses.replace(nm, linearity=Linearity(nm.departure, (nm.linearity.worst, unknown)))
    mrnoise.save(nm, tmp_path / "map.h5")
    back = mrnoise.read_noise_map(tmp_path / "map.h5")
    assert back.linearity.findings[0] == nm.linearity.findings[0]
    assert back.linearity.findings[1].ratio_error != back.linearity.findings[1].ratio_error
    for name in ("departure", "bias", "bias_error"):
        torch.testing.assert_close(getattr(back, name), getattr(nm, name), rtol=0, atol=0)
    mrnoise.save(nm, tmp_path / "map.nii.gz")
    assert {"map_departure.nii.gz", "map_bias.nii.gz"} <= {path.name for path in tmp_path.iterdir()}


def test_report_shows_departure_bias_and_verdict(tmp_path):
    for verdict in (LINEAR, NOT_LINEAR):
        nm = checked_map(verdict)
        mrnoise.save(nm, tmp_path / "map.html")
        text = (tmp_path / "map.html").read_text(encoding="utf-8")
        assert 'id="volume-departure"' in text and 'id="volume-bias"' in text
        assert "true σ of the whole object +21.0 ± 2.0 %" in text
        assert ("First order may not hold" in text) == (verdict == NOT_LINEAR)


def test_command_line_says_whether_it_holds(tmp_path, monkeypatch):
    from test_cli import run

    (tmp_path / "own_power.py").write_text(
        "from mrnoise.fourier import to_image\n\ndef power(k):\n    return to_image(k).abs().square().sum(-3)\n"
    )
    monkeypatch.chdir(tmp_path)
    run("simulate", "scan.npz", "--matrix", "24,20", "--coils", 3, "--snr", 2, "--seed", 3)
    text = run("map", "scan.npz", "-r", "own_power:power", "-m", "sketch", "-n", 4, "-o", "own.h5")
    assert "not linear at the noise level of the scan" in text and "--method nonlinear" in text
    text = run("map", "scan.npz", "-r", "own_power:power", "-m", "nonlinear", "-n", 9, "-o", "own.h5")
    assert "noise level" not in text
    text = run("map", "scan.npz", "-m", "sketch", "-n", 4, "-o", "cg.h5")
    assert "linear at the noise level of the scan" in text and "warning" not in text
