"""Ψ from imaging data, against the Ψ that was put in and against a real noise scan."""

import cmath

import numpy as np
import pytest
import torch

from mrnoise.acquisition import NoiseCovariance, noise_covariance_from_scan
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.errors import InputError
from mrnoise.fourier import to_image, to_kspace
from mrnoise.simulation import simulated_head

PSI = NoiseCovariance(
    torch.tensor([[2.0, 0.5 + 0.3j, 0], [0.5 - 0.3j, 1.0, -0.2j], [0, 0.2j, 4.0]], dtype=torch.complex128)
)


def noise(shape, seed=0):
    """Receiver noise with covariance PSI, coil axis first."""
    generator = torch.Generator().manual_seed(seed)
    return PSI.colour(torch.randn(shape, dtype=torch.complex64, generator=generator), 0)


def disc(shape, radius=0.5, snr=50.0):
    """Coil images (coil, *shape) of a textured disc with smooth maps."""
    axes = torch.meshgrid(*[(torch.arange(n) - n // 2) / (n / 2) for n in shape], indexing="ij")
    r = sum(a.square() for a in axes).sqrt()
    texture = 1 + 0.3 * torch.cos(9 * axes[-1]) * torch.cos(7 * axes[0])
    maps = torch.stack([cmath.exp(1j * p) * (1 + 0.5 * axes[-1] * w) for p, w in [(0, 1), (1, -1), (2, 0.5)]])
    return (snr * (r < radius) * texture * maps).to(torch.complex64)


def worst(psi, truth=PSI):
    """Largest error of any entry, in units of √(Ψ_aa Ψ_bb)."""
    scale = truth.matrix.diagonal().real.rsqrt()
    return float((scale[:, None] * (psi.matrix - truth.matrix) * scale).abs().max())


@pytest.mark.parametrize(("shape", "dims"), [((64, 96), 2), ((24, 28, 36), 3)])
def test_background_recovers_psi_within_sampling_error(shape, dims):
    kspace = to_kspace(disc(shape), dims) + noise((3, *shape))
    psi = estimate_noise_covariance(kspace, spatial_dims=dims)
    assert "image background" in psi.source
    assert f"{psi.n_samples} samples" in psi.source
    assert psi.n_samples > 2000
    # Entries have a relative error of 1/√n: 2 %. A factor of √2 or 2 is 41 % or 100 %.
    assert worst(psi) < 5 / psi.n_samples**0.5


def test_selection_by_energy_does_not_bias_the_variance():
    """Pure noise, one coil: the blocks differ by 12 %, and still the mean is that of all of them."""
    ratios = [
        estimate_noise_covariance(noise((3, 128, 120), seed)[1:2]).mean_variance / PSI.matrix[1, 1].real
        for seed in range(20)
    ]
    # 20 × 15360 samples: the standard error of the mean is 0.2 %.
    assert abs(float(np.mean(ratios)) - 1) < 0.006


def test_images_are_pooled():
    kspace = torch.stack([to_kspace(disc((64, 80))) + noise((3, 64, 80), seed) for seed in range(3)])
    one, three = estimate_noise_covariance(kspace[0]), estimate_noise_covariance(kspace)
    assert three.n_samples > 2 * one.n_samples
    assert worst(three) < 5 / three.n_samples**0.5


def test_zero_filled_k_space_counts_only_what_was_acquired():
    kspace = torch.zeros(3, 96, 128, dtype=torch.complex64)
    # At higher SNR the ringing of the truncated disc, not the method, would decide.
    full = to_kspace(disc((96, 128), snr=10)) + noise((3, 96, 128))
    kspace[:, 10:, 20:-20] = full[:, 10:, 20:-20]  # partial Fourier and interpolation
    psi = estimate_noise_covariance(kspace)
    assert "image background" in psi.source
    assert worst(psi) < 5 / psi.n_samples**0.5


@pytest.mark.parametrize(
    ("shape", "snr", "limit"), [((48, 40), 3.0, 0.08), ((64, 80), 3.0, 0.06), ((20, 24, 28), 3.0, 0.06)]
)
def test_faint_signal_is_no_noise(shape, snr, limit):
    """Signal below the noise of a voxel is smooth, noise is not; blocks with it hold up to 1.18 of the variance."""
    ratios = []
    for seed in range(4):
        head = simulated_head(shape, 8, snr=snr, seed=seed)
        psi = estimate_noise_covariance(head.acquire(seed).kspace, spatial_dims=len(shape))
        ratios.append(psi.mean_variance / head.noise_covariance.mean_variance)
    assert abs(float(np.mean(ratios)) - 1) < limit


@pytest.mark.parametrize("snr", [100.0, 300.0])
@pytest.mark.parametrize(
    ("shape", "kept"), [((64, 64), (40, 48)), ((64, 64), (48, 40)), ((36, 40, 44), (24, 28, 36)), ((64, 48), (28, 48))]
)
def test_ringing_of_truncated_k_space_is_no_noise(shape, kept, snr):
    """Small padded scans: behind a window the background holds noise alone; without it reads up to 5 times too high."""
    dims, ratios = len(shape), []
    box = (..., *(slice((n - m) // 2, (n + m) // 2) for n, m in zip(shape, kept, strict=True)))
    for seed in range(4):
        whole = to_kspace(disc(shape, 0.7, snr), dims) + noise((3, *shape), seed)
        kspace = torch.zeros_like(whole)
        kspace[box] = whole[box]
        psi = estimate_noise_covariance(kspace, spatial_dims=dims)
        assert "background" in psi.source
        ratios.append(psi.mean_variance / PSI.mean_variance)
    assert abs(float(np.mean(ratios)) - 1) < 0.1


def smooth_scan():
    """A smooth object: the periphery holds no signal, so Ψ must be right."""
    axes = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 128), indexing="ij")
    return to_kspace(50 * torch.exp(-12 * (axes[0] ** 2 + axes[1] ** 2)).to(torch.complex64)) + noise((3, 96, 128))


@pytest.mark.parametrize("mask_given", [True, False])
def test_points_of_k_space_use_the_periphery(mask_given):
    kspace = smooth_scan()
    mask = torch.rand(96, 128, generator=torch.Generator().manual_seed(3)) < 0.5
    psi = estimate_noise_covariance(kspace if mask_given else kspace * mask, mask if mask_given else None)
    assert "periphery" in psi.source
    assert "upper bound" in psi.source
    assert psi.n_samples < 0.06 * mask.sum()
    # 300 samples: 6 % standard error; a factor of √2 would be 41 %.
    assert worst(psi) < 5 / psi.n_samples**0.5


@pytest.mark.parametrize("mask_given", [True, False])
@pytest.mark.parametrize("along", ["k1", "k0"])
def test_undersampled_lines_use_the_background_of_the_readouts(mask_given, along):
    """Signal everywhere in k-space, SNR 200: the periphery would read many times too high."""
    kspace = to_kspace(disc((96, 128), snr=200)) + noise((3, 96, 128))
    mask = torch.zeros(96, 128, dtype=torch.bool)
    if along == "k1":
        mask[1::3] = True
    else:
        mask[:, 1::3] = True
    psi = estimate_noise_covariance(kspace if mask_given else kspace * mask, mask if mask_given else None)
    assert "background of the readouts" in psi.source
    assert psi.n_samples > 300
    # The disc rings beyond its edge by a few per cent of the noise; a factor of √2 would be 41 %.
    assert worst(psi) < 5 / psi.n_samples**0.5 + 0.05


@pytest.mark.parametrize("complete", [(-1,), (-2,), (-1, -3)])
def test_undersampled_volumes_use_what_is_complete(complete):
    kspace = to_kspace(disc((28, 32, 36), snr=100), 3) + noise((3, 28, 32, 36))
    left_out = [axis for axis in (-3, -2, -1) if axis not in complete]
    shape = [n if axis in left_out else 1 for axis, n in zip((-3, -2, -1), (28, 32, 36), strict=True)]
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.5).expand(28, 32, 36)
    psi = estimate_noise_covariance(kspace, mask, spatial_dims=3)
    assert "background of the readouts" in psi.source
    assert worst(psi) < 5 / psi.n_samples**0.5 + 0.05


def test_masks_may_differ_between_images():
    kspace = torch.stack([noise((3, 64, 80), seed) for seed in range(2)])
    mask = torch.zeros(2, 64, 80, dtype=torch.bool)
    mask[0, ::2], mask[1, 1::2] = True, True
    psi = estimate_noise_covariance(kspace, mask)
    assert worst(psi) < 5 / psi.n_samples**0.5


def test_signal_everywhere_falls_back_to_the_periphery():
    """No block is empty: blocks of signal must not pass for noise."""
    kspace = to_kspace(disc((64, 80), radius=3.0)) + noise((3, 64, 80))
    assert "periphery" in estimate_noise_covariance(kspace).source


@pytest.mark.parametrize(
    ("kspace", "mask", "problem"),
    [
        (torch.zeros(8, 9), None, "cannot estimate"),
        (torch.zeros(8, 9, dtype=torch.complex64), None, "cannot estimate"),
        (torch.zeros(2, 8, 9, dtype=torch.complex64), None, "too few samples"),
        (torch.full((2, 8, 9), float("nan") * 1j), None, "NaN"),
        (torch.ones(2, 8, 9, dtype=torch.complex64), torch.ones(8), "mask has the wrong shape"),
        (torch.ones(20, 16, 16, dtype=torch.complex64), None, "too few samples"),
    ],
)
def test_errors(kspace, mask, problem):
    with pytest.raises(InputError, match=problem):
        estimate_noise_covariance(kspace, mask)


def test_real_background_agrees_with_the_noise_scan(shared):
    with np.load(shared / "data" / "mroptimum16_phantom_with_noise.npz") as data:
        kspace, scan = torch.from_numpy(data["kspace"]), torch.from_numpy(data["noise"])
    psi, truth = estimate_noise_covariance(kspace), noise_covariance_from_scan(scan)
    ratio = psi.matrix.diagonal().real / truth.matrix.diagonal().real
    # The scale differs (0.75 to 0.85 in SD), but alike in all coils: 2.6 % sampling error in each.
    assert 0.75**2 < float(ratio.mean()) < 0.85**2
    assert float(ratio.std() / ratio.mean()) < 0.05

    def correlation(matrix):
        scale = matrix.diagonal().real.rsqrt()
        return (scale[:, None] * matrix * scale)[~torch.eye(16, dtype=torch.bool)]

    difference = correlation(psi.matrix) - correlation(truth.matrix)
    rms = float(difference.abs().square().mean().sqrt())
    floor = (1 / psi.n_samples + 1 / truth.n_samples) ** 0.5
    assert rms < 1.2 * floor


@pytest.mark.parametrize("name", ["cima16_brain", "cima16_phantom", "ankara4_phantom_sol15"])
def test_real_background_agrees_with_empty_strips(shared, name):
    """The top and bottom eighths of the image, middle half of the readout: empty in these scans."""
    with np.load(shared / "data" / f"{name}.npz") as data:
        kspace = torch.from_numpy(data["kspace"])
    psi = estimate_noise_covariance(kspace)
    assert "background" in psi.source
    energy = to_image(kspace).abs().square().mean(0)
    n1, n0 = energy.shape
    strips = torch.stack([energy[: n1 // 16], energy[-(n1 // 16) :]])[..., n0 // 4 : -n0 // 4]
    # The median over the strips tolerates some signal; median over mean is 1 with 16 coils, 0.92 with 4.
    strip = float(strips.median())
    assert 0.85 < strip / psi.mean_variance < 1.15
