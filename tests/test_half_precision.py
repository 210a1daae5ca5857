"""Products in half precision with the correction that makes up for it: unbiased whatever the approximation."""

import pytest
import torch

import mrnoise
from mrnoise import InputError, estimators, noise_map, read_noise_map
from mrnoise.estimators import Auto, Plan, Sketch
from mrnoise.estimators.key import Key
from mrnoise.linearization import linearize
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate
from test_control_variate import DenseFeatures, F
from test_estimators import N_NOISE, SHAPE, Dense

SEEDS = 60
N_VOXELS = SHAPE[0] * SHAPE[1]
GENERATOR = torch.Generator().manual_seed(5)
A, B, E = (torch.randn(N_VOXELS, N_NOISE, dtype=torch.complex128, generator=GENERATOR) for _ in range(3))
A = F[0] + 0.5 * F[1] + 0.4 * A
EXACT = Dense(A, 0.5 * B)
# σ² 10 % too small, and an error of its own besides.
CRUDE = Dense(0.95 * A + 0.1 * E, 0.475 * B)


def corrected(n, seed, features=None):
    plan = Plan(n_samples=n, batch_size=7)
    correction = estimators.correction(EXACT, CRUDE, plan, key=Key(seed))
    return estimators.sketch(CRUDE, plan, key=Key(seed), features=features, correction=correction)


@pytest.mark.parametrize("features", [None, DenseFeatures(F)], ids=["plain", "control variates"])
def test_unbiased_with_an_honest_error(features):
    """Floor: 60 seeds know a mean to 0.13 of its spread, a spread to 9 %; √2 in σ² would be 8 spreads away."""
    results = [corrected(128, seed, features) for seed in range(SEEDS)]
    for name in ("variance", "pseudo_variance"):
        values = torch.stack([getattr(r, name) for r in results])
        z = (values.mean(0) - getattr(EXACT, name)).abs() / (values.std(0) / SEEDS**0.5)
        assert float(z.median()) < 1.5, name
        assert float((z > 4).double().mean()) < 0.05, name
    stated = torch.stack([r.variance_error for r in results]).mean(0)
    ratio = float((stated / torch.stack([r.variance for r in results]).std(0)).median())
    assert 0.9 < ratio < 1.15


def test_without_correction_it_would_be_biased():
    """What the test above must see: the crude operator alone."""
    found = torch.stack(
        [estimators.sketch(CRUDE, Plan(n_samples=128), key=Key(seed)).variance for seed in range(SEEDS)]
    )
    z = (found.mean(0) - EXACT.variance).abs() / (found.std(0) / SEEDS**0.5)
    assert float(z.median()) > 3


def test_as_many_pairs_as_the_error_asks_for():
    """Their part of the error is bounded: ∝ 1/target² pairs, 8 at least, and those given are not repeated."""
    n_pairs = [estimators.correction(EXACT, CRUDE, Plan(target_error=t)).n_pairs for t in (0.5, 0.04, 0.02)]
    assert n_pairs[0] == 8
    assert 2.5 < n_pairs[2] / n_pairs[1] < 6
    asked = []

    class Counted(Dense):
        def apply(self, v):
            asked.append(len(v))
            return super().apply(v)

    exact, crude = Counted(EXACT.a, EXACT.b), Counted(CRUDE.a, CRUDE.b)
    tried = estimators.pilot(exact, Plan(n_samples=100_000), approximate=crude, key=Key(3))
    asked.clear()
    again = estimators.correction(
        exact, crude, Plan(target_error=0.5), key=Key(3), start=(tried.products, tried.approximations)
    )
    assert not asked
    alone = estimators.correction(exact, crude, Plan(target_error=0.5), key=Key(3))
    torch.testing.assert_close(again.variance, alone.variance)


def test_certified_error_counts_the_pairs():
    """The error of few pairs of a poor approximation is part of what a target is judged by."""
    plan = Plan(target_error=0.05, batch_size=8)
    poor = Dense(0.5 * A + E, 0.0 * B)
    correction = estimators.correction(EXACT, poor, plan)
    found = estimators.sketch(poor, plan, correction=correction)
    alone = float(0.5 * (correction.error.variance / EXACT.variance.square()).mean().sqrt())
    assert alone < float(found.certified_error) < 0.05
    assert float((found.variance.sqrt() / EXACT.variance.sqrt() - 1).square().mean().sqrt()) < 0.05


class Blurred(torch.nn.Module):
    """Zero-filled image through two convolutions: autocast has something to do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = (torch.nn.Conv2d(a, b, 3, padding=1) for a, b in ((2, 6), (6, 2)))
        self.requires_grad_(False)

    def forward(self, kspace):
        image = torch.fft.ifftn(kspace, dim=(-2, -1), norm="ortho").sum(-3)
        channels = torch.view_as_real(image).movedim(-1, 0)[None]
        out = self.second(torch.tanh(self.first(channels))).float()
        return torch.complex(out[0, 0], out[0, 1])


SCAN = simulate((24, 20), 5, snr=30, seed=1).undersample(equispaced((24, 20), 3, 6))
NETWORK = Blurred()


def test_a_network_in_half_precision(tmp_path):
    """The same σ within the errors of both, more products than samples, and a run that goes on from a file.

    Floor: 1/√(4·200) = 3.5 % each; √2 in σ would be 41 %.
    """
    plain = noise_map(NETWORK, SCAN, method="sketch", n_samples=800, seed=2)
    half = noise_map(NETWORK, SCAN, method=Sketch(half_precision=True), n_samples=200)
    spread = torch.hypot(half.relative_error, plain.relative_error)
    z = (half.std / plain.std - 1) / spread
    assert 0.7 < float(z.square().mean()) < 1.4
    assert half.provenance.half_precision and not plain.provenance.half_precision
    assert half.n_products >= 200 + 16
    part = noise_map(NETWORK, SCAN, method=Sketch(half_precision=True), n_samples=100)
    mrnoise.save(part, tmp_path / "part.h5")
    whole = noise_map(NETWORK, SCAN, method="sketch", n_samples=200, resume=read_noise_map(tmp_path / "part.h5"))
    assert whole.n_samples == 200 and whole.provenance.half_precision
    # The same probes, other pairs: nearer to each other than sampling, but not the same.
    difference = float((whole.std / half.std - 1).square().mean().sqrt())
    assert 0 < difference < 0.3 * float(half.relative_error.square().mean().sqrt())


def test_an_interrupted_run_in_half_precision_goes_on_to_the_bit(tmp_path):
    def interrupt(image, n_images, done, total, error):
        if done >= 16:
            raise KeyboardInterrupt

    options = {"method": Sketch(half_precision=True), "n_samples": 48, "batch_size": 8}
    mrnoise.save(noise_map(NETWORK, SCAN, **options, progress=interrupt), tmp_path / "part.h5")
    whole = noise_map(NETWORK, SCAN, **options, resume=read_noise_map(tmp_path / "part.h5"))
    assert torch.equal(whole.variance, noise_map(NETWORK, SCAN, **options).variance)


def test_the_approximation_is_one():
    """Half precision changes a network, by less than a tenth, and nothing where there is no convolution."""
    operator = next(linearize(NETWORK, SCAN))
    noise = torch.randn(3, *operator.noise_shape, dtype=operator.noise_dtype)
    exact, half = operator.apply(noise), operator.in_half_precision().apply(noise)
    assert 1e-4 < float((half - exact).norm() / exact.norm()) < 0.1
    classical = next(linearize(CgSense(0.05), SCAN))
    assert torch.equal(classical.apply(noise), classical.in_half_precision().apply(noise))
    tried = estimators.pilot(classical, Plan(target_error=0.05), approximate=classical.in_half_precision())
    assert tried.approximations is None and not any(p.half_precision for p in tried.prospects)


def test_auto_weighs_half_precision_where_it_can_be_used():
    weighed = noise_map(NETWORK, SCAN, n_samples=2000, method=Auto(control_variate=False))
    assert "half precision" in weighed.provenance.why
    refused = noise_map(NETWORK, SCAN, n_samples=2000, method=Auto(control_variate=False, half_precision=False))
    assert "half precision" not in refused.provenance.why

    def brittle(kspace):
        """Does not expect a convolution to return another type."""
        image = torch.fft.ifftn(kspace, dim=(-2, -1), norm="ortho").sum(-3)
        out = NETWORK.second(torch.view_as_real(image).movedim(-1, 0)[None].repeat(1, 3, 1, 1))
        if out.dtype != torch.float32:
            raise TypeError(f"float32 only, not {out.dtype}")
        return torch.complex(out[0, 0], out[0, 1])

    assert (
        "half precision"
        not in noise_map(brittle, SCAN, n_samples=2000, method=Auto(control_variate=False)).provenance.why
    )
    with pytest.raises(InputError, match="half precision"):
        noise_map(brittle, SCAN, method=Sketch(half_precision=True), n_samples=8)


def test_where_half_precision_is_refused():
    with pytest.raises(InputError, match="not possible here"):
        noise_map(NETWORK, SCAN, method=estimators.method("monte_carlo", half_precision=True), n_samples=8)
    plain = noise_map(NETWORK, SCAN, method="sketch", n_samples=4)
    with pytest.raises(InputError, match="half_precision True"):
        noise_map(NETWORK, SCAN, method=Sketch(half_precision=True), n_samples=8, resume=plain)
