"""K-space in any unit has the same SNR: nothing vanishes or overflows where numbers are squared in single precision."""

import math
from dataclasses import replace

import pytest
import torch

from mrnoise import noise_map, roi_std
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.calibration import espirit, walsh
from mrnoise.catalogue import RECONSTRUCTIONS, reconstruction
from mrnoise.networks.deep_reconstruction import intensity
from mrnoise.sampling import equispaced, poisson_disc, radial
from mrnoise.simulation import simulate, simulated_head
from mrnoise.units import unit_of

# Powers of two near 1e-20, 1e-16, 1e-9, 1e9, 1e12 and 1e15: multiplying by them does not round.
SCALES = [2.0**e for e in (-66, -53, -30, 30, 40, 50)]
ENDS = SCALES[0], SCALES[-1]


def scaled(scan, factor):
    psi = scan.noise_covariance
    return scan.replace(kspace=scan.kspace * factor, noise_covariance=psi.scaled(factor**2, "other unit"))


def scan_for(name):
    if name == "gridding":
        return simulate((24, 20), 4, trajectory=radial((24, 20), 40), seed=1).replace(coil_maps=None)
    if name in ("low-rank", "sliding-window"):
        masks = torch.stack([equispaced((24, 20), 2, calibration=12, offset=k) for k in range(2)])
        return simulated_head((24, 20), 4, n_frames=2, mask=masks, seed=1).acquire(seed=2).replace(coil_maps=None)
    mask = None if name == "sense" else equispaced((32, 28), 2, calibration=12)
    return simulate((32, 28), 4, mask=mask, seed=1).replace(coil_maps=None)


def method_for(name):
    """With few iterations: each of them has the unit of its scan."""
    found = reconstruction(name)
    return replace(found, iterations=10) if getattr(found, "iterations", None) else found


# Those of partial Fourier need other scans, and have tests of their own.
@pytest.mark.parametrize("name", [name for name in RECONSTRUCTIONS if name not in ("homodyne", "pocs")])
@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
def test_snr_of_every_reconstruction_is_the_same_in_any_unit(name, method):
    """Derivatives, which take longer, at both ends."""
    scan, reconstructed = scan_for(name), method_for(name)
    snr = noise_map(reconstructed, scan, method=method, n_samples=3).snr
    inside = torch.isfinite(snr) & (snr > 0)  # air without coil maps has neither image nor noise
    assert int(inside.sum()) > 150
    for factor in SCALES if method == "monte_carlo" else ENDS:
        found = noise_map(reconstructed, scaled(scan, factor), method=method, n_samples=3).snr
        assert float((found / snr - 1)[inside].abs().max()) < 1e-5, factor


@pytest.mark.parametrize("factor", [1e-20, 1e15])
def test_other_units_than_powers_of_two_differ_by_rounding(factor):
    scan = scan_for("varnet")
    maps = [noise_map(reconstruction("varnet"), s, method="sketch", n_samples=3) for s in (scan, scaled(scan, factor))]
    bright = maps[0].image.abs() > 0.2 * maps[0].image.abs().max()
    assert float((maps[1].snr / maps[0].snr - 1)[bright].abs().max()) < 0.02


@pytest.mark.parametrize("sampling", ["lines", "points"])
def test_cg_sense_with_maps_and_regions_are_the_same_in_any_unit(sampling):
    mask = equispaced((40, 36), 2) if sampling == "lines" else poisson_disc((40, 36), 2.5, calibration=8)
    scan = simulate((40, 36), 4, mask=mask, seed=1)
    region = torch.zeros(40, 36, dtype=torch.bool)
    region[15:22, 12:20] = True
    cg = reconstruction("cg-sense")
    first, spread = noise_map(cg, scan, target_error=0.1), roi_std(cg, scan, region)
    inside = first.snr > 0
    for factor in ENDS:
        other = scaled(scan, factor)
        found = noise_map(cg, other, target_error=0.1)
        assert float((found.snr / first.snr - 1)[inside].abs().max()) < 1e-4
        assert float(roi_std(cg, other, region) / factor / spread) == pytest.approx(1, rel=1e-5)


def test_maps_and_noise_estimates_follow_the_unit():
    scan = scan_for("sense")
    images = torch.fft.fftshift(torch.fft.ifft2(scan.kspace, norm="ortho"), dim=(-2, -1))
    psi = estimate_noise_covariance(scan.kspace).matrix
    for factor in SCALES:
        assert torch.allclose(espirit(factor * scan.kspace), espirit(scan.kspace), atol=1e-5)
        assert torch.allclose(walsh(factor * images), walsh(images), atol=1e-5)
        assert torch.allclose(estimate_noise_covariance(factor * scan.kspace).matrix / factor**2, psi, rtol=1e-5)
        assert float(intensity(factor * scan.kspace) / intensity(scan.kspace)) == pytest.approx(factor, rel=1e-6)


def test_a_unit_is_a_power_of_two_without_derivative():
    values = torch.randn(5, 7, dtype=torch.complex64) * 1e-13
    unit = unit_of(values)
    assert math.log2(float(unit)).is_integer() and 0.5 < float(torch.view_as_real(values).abs().max() / unit) < 2
    assert unit_of(values, (1,)).shape == (5, 1)
    tangent = torch.func.jvp(unit_of, (values,), (torch.ones_like(values),))[1]
    assert float(tangent) == 0
    # Each of several vectors that are mapped together has its own.
    assert torch.func.vmap(unit_of)(torch.tensor([[1.0, 3.0], [0.0, 0.0], [1e-30, 0.0]]))[:2].tolist() == [2.0, 1.0]


def test_without_units_single_precision_fails():
    """What the units are for: the plain formula of the network's intensity."""
    kspace = scan_for("varnet").kspace
    power = (kspace * SCALES[0]).abs().square().sum(-3)
    assert not float((power.square().sum() / power.sum()).sqrt()) > 0
