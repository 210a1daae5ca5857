"""What the pilot predicts, and what auto makes of it."""

import time
from dataclasses import asdict

import pytest
import torch

from mrnoise import estimators, noise_map
from mrnoise.estimators import Auto, Plan
from mrnoise.estimators.choice.pilot import _explained_squared, _with_control_variates
from mrnoise.estimators.key import Key
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import equispaced, poisson_disc
from mrnoise.simulation import simulate
from test_control_variate import OPERATORS, DenseFeatures, F, random
from test_estimators import N_NOISE, Dense

SEEDS = 40
LINES = simulate((24, 20), 5, snr=30, seed=1).undersample(equispaced((24, 20), 3, 6))
DISC = simulate((24, 20), 5, snr=40, seed=2).undersample(poisson_disc((24, 20), 3, 5, seed=1))


@pytest.mark.parametrize("kind", ["improper", "real"])
def test_explained_part_is_known_without_bias(kind):
    """ρ⁴ = ΣW²/ΣV² from 32 samples, over 40 seeds. Floor: 0.015; in-sample ρ⁴, or ρ², would be 0.1 larger."""
    operator, features = OPERATORS[kind], DenseFeatures(F)
    a, b = operator.a, operator.b
    if operator.real:
        a = 0.5 * (a + b.conj())
        b = a.conj()
    # What f explains of δ = A v + B v*: the projection of A on the rows of F, and of B on those of F*.
    explained = torch.zeros(len(a), dtype=torch.float64)
    for part, basis in ((a, F), (b, F.conj())):
        for voxel in range(len(a)):
            rows = basis[:, voxel]
            solution = torch.linalg.lstsq(rows.mT, part[voxel]).solution
            explained[voxel] += (solution @ rows).abs().square().sum()
    variance = operator.variance.flatten()
    truth = float(explained.square().sum() / variance.square().sum())
    found = []
    for seed in range(SEEDS):
        noise = random(32, N_NOISE, seed=seed)
        images = operator.apply(noise).flatten(1).to(torch.complex128)
        found.append(_explained_squared(images, features(noise).flatten(2), features.covariance.flatten(2)))
    mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / SEEDS**0.5
    assert abs(float(mean) - truth) < 3 * float(error) and float(error) < 0.02


def test_predicted_samples_are_those_needed():
    """For 5 % without control variates: (1+κ²)/4t², κ² from 8 samples of 54 voxels. Floor: 10 % in a mean of 40."""
    for operator in OPERATORS.values():
        needed = 1 + operator.pseudo_variance.abs().square().sum() / operator.variance.square().sum()
        found = [
            next(p for p in estimators.pilot(operator, Plan(target_error=0.05), key=Key(seed)).prospects).n_samples
            for seed in range(SEEDS)
        ]
        assert sum(found) / SEEDS == pytest.approx(float(needed) / (4 * 0.05**2), rel=0.15)


def test_samples_with_control_variates():
    assert _with_control_variates(200, 0.0, 8) == pytest.approx(200)
    assert 400 / _with_control_variates(400, 0.55, 8) == pytest.approx(2.0, rel=0.1)  # measured: 2.01 from 224
    assert 1e5 / _with_control_variates(1e5, 0.55, 8) == pytest.approx(1 / 0.45, rel=0.02)
    assert _with_control_variates(10, 0.9, 8) == 10


class Slow(Dense):
    """Products that take a hundred times as long as replicas."""

    def apply(self, v):
        time.sleep(0.03)
        return super().apply(v)

    def replicas(self, v):
        return super().apply(v)


class Counting(Dense):
    """Knows how many replicas it was asked for."""

    n_replicas = 0

    def replicas(self, v):
        self.n_replicas += len(v)
        return super().replicas(v)


def test_the_cheaper_kind_comes_first():
    fast = OPERATORS["improper"]
    slow = Slow(fast.a, fast.b)
    found = estimators.pilot(slow, Plan(target_error=0.05), features=lambda most_seconds: DenseFeatures(F))
    assert [p.method for p in found.prospects][:2] == ["monte_carlo", "monte_carlo"]
    assert {p.control_variate for p in found.prospects} == {True, False}


def test_pilot_replicas_are_the_first_of_the_map():
    """Those of the pilot are not taken again, and the estimate is that of all of them, whatever the batches."""
    operator = OPERATORS["improper"]
    tried = estimators.pilot(operator, Plan(target_error=0.05), key=Key(3))
    plan = Plan(target_error=0.05, batch_size=5)
    counting = Counting(operator.a, operator.b)
    found = estimators.monte_carlo(counting, plan, key=Key(3), known=tried.replicas)
    alone = estimators.monte_carlo(operator, plan, key=Key(3))
    assert counting.n_replicas == found.n_samples - len(tried.replicas) > 0
    torch.testing.assert_close(found.variance, alone.variance)
    torch.testing.assert_close(found.variance_error, alone.variance_error)
    other = estimators.monte_carlo(operator, plan, key=Key(4), known=tried.replicas)
    assert not torch.allclose(other.variance, alone.variance)


def test_trials_may_cost_more_for_more_images():
    operator, plan = OPERATORS["improper"], Plan(n_samples=50)
    assert estimators.pilot(operator, plan).products is None
    assert estimators.pilot(operator, plan, n_images=10_000).products is not None


def test_pilot_pairs_are_the_first_of_the_linearity_check():
    operator = OPERATORS["improper"]
    # Of so many samples a trial of products is a small part, whatever the machine does.
    tried = estimators.pilot(operator, Plan(n_samples=100_000), key=Key(3))
    alone = estimators.linearity(operator, key=Key(3), batch_size=3)
    joined = estimators.linearity(operator, key=Key(3), start=(tried.replicas, tried.products))
    assert alone.worst.n_pairs >= 8
    assert asdict(alone.worst) == pytest.approx(asdict(joined.worst))
    torch.testing.assert_close(alone.departure, joined.departure)


class Dear(CgSense):
    """CG-SENSE at the price of a network, so that its surrogates are cheap beside it."""

    def bind(self, acquisition):
        bound = super().bind(acquisition)

        def reconstruct(kspace):
            time.sleep(0.1)
            return bound(kspace)

        return reconstruct


def test_auto_takes_control_variates_that_pay():
    """SENSE images explain most of CG-SENSE. Floor: 3.5 % in σ; the map is that of the exact method."""
    nm = noise_map(Dear(0.05), DISC, n_samples=200)
    assert nm.method in ("sketch", "monte_carlo") and nm.provenance.control_variate
    assert "cheapest in a pilot" in nm.provenance.why and "with control variates" in nm.provenance.why
    truth = noise_map(CgSense(0.05), DISC, method="exact").std
    assert float((nm.std / truth - 1).square().mean().sqrt()) < 0.03
    plain = noise_map(Dear(0.05), DISC, n_samples=200, method=Auto(control_variate=False))
    assert not plain.provenance.control_variate


def test_auto_takes_replicas_where_first_order_fails():
    """A magnitude at SNR below 1: first order has no Rician floor."""
    loud = DISC.replace(noise_covariance=DISC.noise_covariance.scaled(60.0**2, "louder"))
    noisy = CgSense(0.05).bind(loud)
    clipped = noise_map(lambda k: noisy(k).abs(), loud, n_samples=600)
    assert clipped.method == "monte_carlo" and clipped.linearity is None
    assert "not linear" in clipped.provenance.why
    quiet = DISC.replace(noise_covariance=DISC.noise_covariance.scaled(1e-4, "quiet"))
    clean = CgSense(0.05).bind(quiet)
    first_order = noise_map(lambda k: clean(k).abs(), quiet, n_samples=600)
    assert "not linear" not in first_order.provenance.why


def test_few_samples_need_no_pilot():
    nm = noise_map(CgSense(0.05), LINES, n_samples=20)
    assert nm.method == "sketch" and "too few samples" in nm.provenance.why
