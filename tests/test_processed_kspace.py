"""Filtered and completed k-space is found by its noise, and no scan as it was measured is."""

import cmath

import numpy as np
import pytest
import torch

from mrnoise import read
from mrnoise.acquisition import (
    disagreement,
    estimate_noise_covariance,
    noise_covariance_from_scan,
    processing_findings,
)
from mrnoise.errors import InputError
from mrnoise.fourier import to_kspace
from mrnoise.sampling import equispaced, sampling_mask
from mrnoise.simulation import simulated_head
from test_noise_estimation import PSI, disc, noise


def unit_noise(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def head(shape=(64, 80), n_coils=8, snr=30.0, seed=0, mask=None):
    return simulated_head(shape, n_coils, snr=snr, seed=seed, mask=mask)


def completed(scan, spacing, seed=0):
    """K-space (coil, k1, k0) with all but every ``spacing``-th line made of its neighbours, as GRAPPA does."""
    noisy, clean = scan.acquire(seed).kspace.numpy(), scan.signal.numpy()
    n = noisy.shape[1]
    filled, columns = noisy.copy(), np.arange(noisy.shape[2])

    def around(values, row, offsets):
        rows = [(row + dy) % n for dy in offsets]
        return np.concatenate([np.roll(values[:, y], dx, -1) for y in rows for dx in (-2, -1, 0, 1, 2)])[:, columns]

    for missing in range(1, spacing):
        offsets = [-missing - spacing, -missing, spacing - missing, 2 * spacing - missing]
        centre = range(n // 2 - 14, n // 2 + 14)
        source = np.concatenate([around(clean, row, offsets) for row in centre], 1)
        target = np.concatenate([clean[:, row] for row in centre], 1)
        gram = source @ source.conj().T
        ridge = 1e-4 * np.trace(gram).real / len(gram) * np.eye(len(gram))
        weights = target @ source.conj().T @ np.linalg.inv(gram + ridge)
        for row in range(missing, n, spacing):
            filled[:, row] = weights @ around(noisy, row, offsets)
    return torch.from_numpy(filled)


# -- what was measured ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [3.0, 30.0, 300.0])
@pytest.mark.parametrize(("shape", "n_coils"), [((32, 28), 1), ((48, 60), 4), ((90, 64), 12)])
def test_nothing_is_found_in_scans_as_measured(shape, n_coils, snr):
    for seed in range(4):
        assert processing_findings(head(shape, n_coils, snr, seed).acquire(seed).kspace) == ()


@pytest.mark.parametrize(("shape", "n_coils", "count"), [((40, 36), 1, 300), ((60, 25), 3, 200), ((26, 24, 30), 2, 15)])
def test_nothing_is_found_in_noise(shape, n_coils, count):
    """The chance is stated as 10⁻³ a scan: two or more of 300 have one of 4 %."""
    found = [processing_findings(unit_noise(n_coils, *shape, seed=s), spatial_dims=len(shape)) for s in range(count)]
    assert sum(bool(findings) for findings in found) < 3


def test_nothing_is_found_where_signal_is_everywhere():
    """No background: the sidelobes of an edge are no filter."""
    for slope in (0.0, 0.3):
        y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 60), indexing="ij")
        image = 1000 * torch.exp(1j * cmath.pi * slope * (x + y)) * (1 + 0.4 * torch.cos(5 * x) * torch.sin(4 * y))
        assert processing_findings(to_kspace(image.to(torch.complex64))[None] + unit_noise(1, 48, 60)) == ()


def test_nothing_is_said_of_undersampled_and_partial_k_space():
    scan = head()
    kspace = scan.acquire().kspace
    assert processing_findings(kspace, equispaced((64, 80), 2)) == ()
    partial = kspace.clone()
    partial[:, :20], partial[..., :9] = 0, 0
    assert processing_findings(partial) == ()
    assert processing_findings(0 * kspace) == ()


@pytest.mark.parametrize("name", ["cima16_brain", "cima16_phantom", "ankara4_phantom_sol15", "raki16_lowres_brain"])
def test_nothing_is_found_in_real_scans(shared, name):
    with np.load(shared / "data" / f"{name}.npz") as data:
        assert processing_findings(torch.from_numpy(data["kspace"])) == ()


# -- what was computed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [10.0, 100.0])
@pytest.mark.parametrize("spacing", [2, 3, 4])
@pytest.mark.parametrize("axis", ["k1", "k0"])
def test_lines_that_grappa_filled_in_are_found(spacing, axis, snr):
    kspace = completed(head(snr=snr), spacing)
    (finding,) = processing_findings(kspace if axis == "k1" else kspace.mT)
    assert f"alternates along {axis} with a period of {spacing} lines" in finding
    assert "computed from others" in finding


@pytest.mark.parametrize("pattern", ["k2", "k1", "both", "chequerboard", "caipi"])
def test_lines_of_volumes_that_were_filled_in_are_found(pattern):
    shape = (26, 40, 36)
    z, y = torch.meshgrid(torch.arange(26), torch.arange(40), indexing="ij")
    measured = {
        "k2": z % 2 == 0,
        "k1": y % 3 == 0,
        "both": (z % 2 == 0) & (y % 2 == 0),
        "chequerboard": (z + y) % 2 == 0,
        "caipi": (y % 2 == 0) & ((z + y // 2) % 2 == 0),
    }[pattern]
    kspace = unit_noise(3, *shape) * torch.where(measured, 1.0, 0.75)[..., None]  # of the standard deviation
    (finding,) = processing_findings(kspace, spatial_dims=3)
    words = {
        "k2": "along k2 with a period of 2 lines",
        "k1": "along k1 with a period of 3 lines",
        "both": "along k2 and k1 with a period of 2 and 2 lines",
        "chequerboard": "along k2 and k1 with a period of 2 and 2 lines",
        "caipi": "along k2 and k1 with a period of 2 and 4 lines",
    }[pattern]
    assert words in finding


def test_one_line_in_two_with_a_variance_of_a_half_is_found_and_with_the_same_is_not():
    gain = torch.ones(48)
    gain[::2] = 0.5**0.5
    assert "by a factor of 2" in processing_findings(unit_noise(4, 48, 60) * gain[:, None])[0]
    assert processing_findings(unit_noise(4, 48, 60) * gain[:, None] ** 0) == ()


# -- what was filtered ---------------------------------------------------------------------------------------


def windows(n):
    place = torch.linspace(-1, 1, n)
    fade = ((place.abs() - 0.6) / 0.4).clamp(0, 1)
    return {
        "hann": torch.hann_window(n + 2, periodic=False)[1:-1],
        "hamming": torch.hamming_window(n, periodic=False),
        "tukey": 0.5 + 0.5 * torch.cos(torch.pi * fade),
        "fermi": 1 / (1 + torch.exp((place.abs() - 0.8) / 0.04)),
        "gauss": torch.exp(-2 * place**2),
    }


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("name", ["hann", "hamming", "tukey", "fermi", "gauss"])
@pytest.mark.parametrize("snr", [5.0, 50.0])
def test_filters_are_found(name, axis, snr):
    kspace = head(snr=snr).acquire().kspace
    window = windows(kspace.shape[axis])[name]
    (finding,) = processing_findings(kspace * (window if axis == -1 else window[:, None]))
    assert f"towards the edge of k{-axis - 1}: it was filtered" in finding


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_filters_of_volumes_are_found(axis):
    kspace = unit_noise(2, 28, 32, 40)
    window = windows(kspace.shape[axis])["hann"].reshape(-1, *[1] * (-axis - 1))
    (finding,) = processing_findings(kspace * window, spatial_dims=3)
    assert f"edge of k{-axis - 1}: it was filtered" in finding


def test_remains_of_zero_filling_are_found():
    """Interpolated in the image and transformed back: the periphery holds rounding errors."""
    kspace = head().acquire().kspace
    remains = 1e-6 * unit_noise(*kspace.shape, seed=1)
    remains[:, 12:-12] = kspace[:, 12:-12]
    (finding,) = processing_findings(remains)
    assert "falls to" in finding
    assert "k1: it was filtered or zero-filled" in finding


def test_weights_and_halves_are_found():
    kspace = unit_noise(4, 4, 90, 80)
    place = torch.linspace(-1, 1, 80)
    assert "rises to" in processing_findings(kspace * (0.1 + place.abs()))[0]
    assert "two sides of k0" in processing_findings(kspace * torch.where(place > 0, 1.0, 0.6))[0]


def test_bad_arrays_are_explained():
    with pytest.raises(InputError, match="mask has the wrong shape"):
        processing_findings(unit_noise(2, 8, 9), torch.ones(9))


# -- Ψ beside the noise of k-space ---------------------------------------------------------------------------


MASKS = {
    "full": lambda shape: torch.ones(shape, dtype=torch.bool),
    "lines": lambda shape: equispaced(shape, 3),
    "points": lambda shape: sampling_mask("poisson", 4.0, shape, 0, None),
}


@pytest.mark.parametrize("snr", [3.0, 30.0, 300.0])
@pytest.mark.parametrize("sampling", MASKS)
def test_a_noise_scan_of_the_same_scan_agrees(sampling, snr):
    for seed in range(3):
        scan = head((64, 80), 4, snr, seed, MASKS[sampling]((64, 80)))
        acq = scan.acquire(seed)
        assert disagreement(acq.noise_covariance, acq.kspace, acq.mask) == ""


def told_ratio(said):
    return float(said.split(" times ")[0].split(" ")[-1])


@pytest.mark.parametrize("snr", [3.0, 30.0, 300.0])
@pytest.mark.parametrize("sampling", ["full", "lines"])
@pytest.mark.parametrize(("factor", "word"), [(2.0, "less"), (1 / 2, "more"), (2.5, "less"), (1 / 2.5, "more")])
def test_a_wrong_scale_is_said_with_both_figures(sampling, snr, factor, word):
    """A dwell time that is wrong by two gives 1.99 as often as 2.01."""
    for seed in range(3):
        scan = head((96, 80), 4, snr, seed, MASKS[sampling]((96, 80)))
        acq, psi = scan.acquire(seed), noise_covariance_from_scan(factor**0.5 * scan.noise_scan(500), "test")
        said = disagreement(psi, acq.kspace, acq.mask)
        assert f"{psi.mean_variance:.3g}" in said
        assert told_ratio(said) == pytest.approx(max(factor, 1 / factor), rel=0.15)
        assert f"times {word}" in said


@pytest.mark.parametrize("factor", [2.0, 0.5])
@pytest.mark.parametrize("sampling", ["full", "lines along k2", "lines along k1"])
def test_a_wrong_scale_of_a_volume_is_said(sampling, factor):
    acq = head((20, 24, 28), 3).acquire()
    mask = torch.ones(20, 24, 28, dtype=torch.bool)
    if sampling != "full":
        (mask if sampling.endswith("k2") else mask.movedim(1, 0))[1::2] = False
    for scale, words in [(1.0, ""), (factor, "times less" if factor > 1 else "times more")]:
        said = disagreement(acq.noise_covariance.scaled(scale, "test"), acq.kspace, mask, spatial_dims=3)
        assert words in said if words else said == ""


def test_what_few_samples_leave_open_is_not_said():
    """40 samples of one coil: 16 % error, so that 1.5 is within three standard errors of 1, and 4 is not."""
    kspace = unit_noise(1, 80, 96)
    for seed in range(50):
        psi = noise_covariance_from_scan(unit_noise(1, 40, seed=seed), "test")
        assert disagreement(psi, kspace) == ""
        assert "times less" in disagreement(psi.scaled(4, "test"), kspace)


def test_what_a_receiver_filter_explains_is_not_said():
    """The edges of an oversampled readout are attenuated: their mean is 0.8 of the variance in the middle."""
    for seed in range(4):
        acq = head((96, 80), 4, 30.0, seed).acquire(seed)
        for factor in (1.5, 1 / 1.5):
            assert disagreement(acq.noise_covariance.scaled(factor, "test"), acq.kspace) == ""


def test_of_points_of_k_space_only_a_large_psi_is_said():
    """Their periphery is an upper bound."""
    acq = head((64, 80), 4, 10.0, 1, MASKS["points"]((64, 80))).acquire(1)
    assert "periphery" in disagreement(acq.noise_covariance.scaled(4, "test"), acq.kspace, acq.mask)
    assert disagreement(acq.noise_covariance.scaled(0.1, "test"), acq.kspace, acq.mask) == ""


@pytest.mark.parametrize("snr", [30.0, 100.0, 300.0])
def test_a_few_blocks_of_background_are_an_upper_bound_too(snr):
    """An object that fills a truncated image: its corners hold up to 40 times the variance of the noise."""
    kspace = torch.zeros(3, 128, 128, dtype=torch.complex64)
    box = (..., slice(44, 84), slice(44, 84))
    kspace[box] = (to_kspace(disc((128, 128), 0.95, snr)) + noise((3, 128, 128)))[box]
    assert "(upper bound)" in estimate_noise_covariance(kspace).source
    assert disagreement(PSI, kspace) == ""
    assert "(upper bound" in disagreement(PSI.scaled(200, "test"), kspace)


@pytest.mark.parametrize("spacing", [1, 2, 3])
@pytest.mark.parametrize("radius", [0.95, 3.0])
def test_an_object_without_background_raises_no_doubt(radius, spacing):
    for snr in (5.0, 50.0, 500.0):
        kspace = to_kspace(disc((64, 80), radius, snr)) + noise((3, 64, 80))
        assert disagreement(PSI, kspace, equispaced((64, 80), spacing)) == ""


def test_too_little_k_space_to_compare_with_says_nothing():
    acq = head((16, 12), 8).acquire()
    assert disagreement(acq.noise_covariance.scaled(100, "test"), acq.kspace, acq.mask) == ""


# -- as notes of a file --------------------------------------------------------------------------------------


def test_a_reader_says_both(tmp_path):
    scan = head()
    np.savez(tmp_path / "a.npz", kspace=completed(scan, 3), noise=scan.noise_scan(2000))
    (note,) = [note for note in read(tmp_path / "a.npz").notes if "computed from others" in note]
    assert "period of 3 lines" in note
    np.savez(tmp_path / "b.npz", kspace=scan.acquire().kspace, noise=2 * scan.noise_scan(2000))
    (note,) = read(tmp_path / "b.npz").notes
    assert told_ratio(note) == pytest.approx(4, rel=0.1)
    assert "times less" in note


@pytest.mark.parametrize("snr", [3.0, 300.0])
def test_a_reader_says_that_an_estimate_is_an_upper_bound(tmp_path, snr):
    scan = head((32, 28), 8, snr)
    np.savez(tmp_path / "a.npz", kspace=scan.acquire().kspace, coil_maps=scan.coil_maps)
    found = read(tmp_path / "a.npz")
    ratio = found.noise_covariance.mean_variance / scan.noise_covariance.mean_variance
    assert any("Ψ is an upper bound" in note for note in found.notes) == (snr == 300)
    assert ratio > 50 if snr == 300 else ratio == pytest.approx(1, abs=0.1)


def test_a_reader_looks_at_some_images_and_coils(tmp_path):
    """Twelve slices of nine coils; only one in three is filtered along k0."""
    kspace = unit_noise(12, 9, 40, 36)
    np.savez(tmp_path / "a.npz", kspace=kspace, noise=unit_noise(9, 3000, seed=1))
    assert read(tmp_path / "a.npz").notes == ()
    np.savez(tmp_path / "b.npz", kspace=kspace * windows(36)["hann"], noise=unit_noise(9, 3000, seed=1))
    (filtered,) = [note for note in read(tmp_path / "b.npz").notes if "edge of k0" in note]
    assert "it was filtered" in filtered
