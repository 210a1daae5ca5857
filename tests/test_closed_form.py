"""SENSE against its closed form: 8 coils, strongly correlated complex Ψ."""

import pytest
import torch
from torch import Tensor

from mrnoise import InputError, estimators, g_factor, noise_map
from mrnoise.closed_form import cg_sense_std, closed_form_std, fully_sampled_std, sense_g_factor, sense_std
from mrnoise.fourier import to_kspace
from mrnoise.mapping import scan_image
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.sampling import caipi, equispaced, poisson_disc, random_1d
from mrnoise.simulation import random_noise_covariance, simulate

SHAPE = (36, 32)
PSI = random_noise_covariance(8, condition_number=25.0, seed=4)
FULL = simulate(SHAPE, 8, snr=40, noise_covariance=PSI, seed=2)
MASKS = {
    "R=2": equispaced(SHAPE, 2),
    "R=3": equispaced(SHAPE, 3, offset=1),
    "R=4": equispaced(SHAPE, 4),
    "CAIPI 2x2": caipi(SHAPE, (2, 2)),
}


def scan(name: str):
    return FULL.undersample(MASKS[name])


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def test_the_covariance_is_the_hard_case():
    assert FULL.noise_covariance.condition_number >= 20
    assert float(FULL.noise_covariance.matrix.imag.abs().max()) > 0.1 * FULL.noise_covariance.mean_variance


@pytest.mark.parametrize("regularization", [0.0, 0.05])
@pytest.mark.parametrize("name", ["R=2", "CAIPI 2x2"])
def test_closed_form_is_the_dense_inverse(name, regularization):
    """The baseline itself against (H+λ)⁻¹H(H+λ)⁻¹ of the whole image, and not against (H+λ)⁻¹."""
    shape = (8, 12)
    mask = equispaced(shape, 2) if name == "R=2" else caipi(shape, (2, 2))
    acq = simulate(shape, 5, seed=1).undersample(mask)
    n = shape[0] * shape[1]
    basis = torch.eye(n, dtype=torch.complex128).reshape(n, 1, *shape)
    a = (to_kspace(acq.coil_maps * basis) * mask).reshape(n, 5, -1)
    psi = acq.noise_covariance
    h = torch.einsum("ick,cd,jdk->ij", a.conj(), torch.linalg.inv(psi.matrix), a) * psi.mean_variance
    inverse = torch.linalg.inv(h + regularization * torch.eye(n))
    expected = (psi.mean_variance * (inverse @ h @ inverse).diagonal().real).sqrt().reshape(shape)
    found = sense_std(acq, regularization)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    wrong = (psi.mean_variance * inverse.diagonal().real).sqrt().reshape(shape)
    assert (rms(found / wrong - 1) > 0.01) == (regularization > 0)
    if regularization == 0:
        g = (inverse.diagonal().real * h.diagonal().real).sqrt().reshape(shape)
        torch.testing.assert_close(sense_g_factor(acq), g, rtol=1e-6, atol=0)


@pytest.mark.parametrize("regularization", [0.0, 0.02])
@pytest.mark.parametrize("name", MASKS)
def test_exact_equals_the_closed_form(name, regularization):
    acq = scan(name)
    nm = noise_map(Sense(regularization), acq, method="exact")
    assert float((nm.std / sense_std(acq, regularization) - 1).abs().max()) < 1e-4
    assert nm.provenance.preflight["complex_linear"]


@pytest.mark.parametrize("name", ["R=3", "CAIPI 2x2"])
def test_converged_cg_sense_equals_the_closed_form(name):
    acq = scan(name)
    nm = noise_map(CgSense(0.02), acq, method="exact")
    assert float((nm.std / sense_std(acq, 0.02) - 1).abs().max()) < 1e-4


@pytest.mark.parametrize("method", ["sketch", "probe", "monte_carlo"])
@pytest.mark.parametrize("name", MASKS)
def test_estimators_agree_within_their_stated_error(name, method):
    acq = scan(name)
    truth = sense_std(acq)
    deviations, stated, hits = [], [], []
    for seed in range(6):
        nm = noise_map(Sense(), acq, method=method, n_samples=200, seed=seed)
        deviations.append(nm.std / truth - 1)
        stated.append(nm.relative_error)
        low, high = nm.confidence_interval(0.95)
        hits.append((low <= truth) & (truth <= high))
    found, promised = rms(torch.stack(deviations)), rms(torch.stack(stated))
    assert found <= 1.3 * promised
    assert found >= promised / 1.3  # an error bar that is too wide is wrong too
    # √2 in σ is a deviation of 0.41, more than ten times the sampling error of every case here.
    assert promised < 0.1 * 0.41 or method == "probe"
    coverage = float(torch.stack(hits).double().mean())
    assert 0.93 <= coverage <= 0.97, coverage


def test_g_factor_of_two_maps():
    acq = scan("R=3")
    fast, full = (noise_map(Sense(), a, method="exact") for a in (acq, FULL))
    g = g_factor(fast, full, acceleration=3.0)
    torch.testing.assert_close(g.value, sense_g_factor(acq), rtol=1e-4, atol=0)
    torch.testing.assert_close(fast.g_factor, sense_g_factor(acq), rtol=1e-4, atol=0)
    assert float(g.value.min()) > 0.999
    assert float(g.relative_error.max()) == 0


def test_g_factor_carries_both_errors():
    acq = scan("R=2")
    a = noise_map(Sense(), acq, method="sketch", n_samples=50)
    b = noise_map(Sense(), FULL, method="sketch", n_samples=50, seed=1)
    g = g_factor(a, b, 2.0)
    z = (g.value / sense_g_factor(acq) - 1) / g.relative_error
    assert 0.8 < rms(z) < 1.25


def test_fully_sampled_reference_follows_averages():
    twice = FULL.replace(averages=torch.full(SHAPE, 2))
    torch.testing.assert_close(fully_sampled_std(twice), fully_sampled_std(FULL) / 2**0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sense_std(FULL.replace(coil_maps=None)), "no coil maps"),
        (lambda: sense_std(FULL.undersample(equispaced(SHAPE, 2, calibration=6))), "not a regular lattice"),
        (lambda: sense_std(FULL.replace(averages=1 + torch.eye(*SHAPE))), "averages differ"),
        (lambda: g_factor(*[noise_map(Sense(), FULL, n_samples=2)] * 2, acceleration=0.5), "R ≥ 1"),
        (
            lambda: noise_map(Sense(), FULL, method="magic"),
            "one of auto, monte_carlo, nonlinear, sketch, probe, coloured, lattice, spots, exact",
        ),
        (lambda: noise_map(Sense(), FULL, method="exact", n_samples=3), "exact takes no stopping rule"),
    ],
)
def test_bad_requests_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def transposed(acq):
    """The same scan with k1 and k0 exchanged."""
    return acq.replace(kspace=acq.kspace.mT, mask=acq.mask.mT, coil_maps=acq.coil_maps.mT)


@pytest.mark.parametrize("along", ["k1", "k0"])
@pytest.mark.parametrize("regularization", [1e-3, 0.1])
def test_closed_form_of_lines_is_the_dense_covariance(regularization, along):
    """P H P of the whole image with P = (H+λ)⁻¹; P alone, the usual mistake, is told apart."""
    shape = (13, 8)
    acq = simulate(shape, 5, seed=1).undersample(random_1d(shape, 2, calibration=3, seed=2))
    if along == "k0":
        acq, shape = transposed(acq), shape[::-1]
    n = shape[0] * shape[1]
    basis = torch.eye(n, dtype=torch.complex128).reshape(n, 1, *shape)
    a = (to_kspace(acq.coil_maps * basis) * acq.mask).reshape(n, 5, -1)
    psi = acq.noise_covariance
    h = torch.einsum("ick,cd,jdk->ij", a.conj(), torch.linalg.inv(psi.matrix), a) * psi.mean_variance
    inverse = torch.linalg.inv(h + regularization * torch.eye(n))
    expected = (psi.mean_variance * (inverse @ h @ inverse).diagonal().real).sqrt().reshape(shape)
    torch.testing.assert_close(cg_sense_std(acq, regularization), expected, rtol=1e-5, atol=0)
    wrong = (psi.mean_variance * inverse.diagonal().real).sqrt().reshape(shape)
    assert rms(expected / wrong - 1) > 0.005
    averaged = acq.replace(averages=3.0 * torch.ones(shape))
    torch.testing.assert_close(cg_sense_std(averaged, regularization), expected / 3**0.5, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda acq: cg_sense_std(acq.undersample(poisson_disc(SHAPE, 2, 6)), 0.1, 9), "at most 9 voxels"),
        (lambda acq: cg_sense_std(acq, 0.0), "λ = 0"),
        (lambda acq: cg_sense_std(acq.replace(coil_maps=None), 0.1), "follow the noise"),
        (lambda acq: closed_form_std(type("Mine", (CgSense,), {})(0.1), acq), "Mine"),
    ],
)
def test_no_closed_form_is_said(make, problem):
    with pytest.raises(InputError, match=problem):
        make(FULL)


def test_auto_takes_the_closed_form_where_alias_sets_are_many(monkeypatch):
    """At 10 % a lattice of lines is more products than samples. One off by √2 is not believed."""
    acq = FULL.undersample(random_1d(SHAPE, 3, calibration=6, seed=1))
    nm = noise_map(CgSense(0.02), acq, target_error=0.1)
    assert nm.method == "closed_form" and nm.linearity.verdict == "linear"
    assert float(nm.relative_error.max()) == 0 == nm.certified_error
    exact = noise_map(CgSense(0.02), acq, method="exact").std
    torch.testing.assert_close(nm.std, exact, rtol=2e-4, atol=0)
    assert noise_map(CgSense(0.02), acq, method=estimators.ClosedForm()).method == "closed_form"
    right, calls = scan_image.closed_form_std, []
    monkeypatch.setattr(scan_image, "closed_form_std", lambda *given: calls.append(1) or right(*given))
    assert noise_map(CgSense(0.02), acq, target_error=0.1).method == "closed_form"
    assert len(calls) == 1  # what the choice has computed is not computed again
    for factor in (2**0.5, 0.5**0.5):
        monkeypatch.setattr(scan_image, "closed_form_std", lambda *given, by=factor: by * right(*given))
        assert noise_map(CgSense(0.02), acq, target_error=0.1).method != "closed_form"
