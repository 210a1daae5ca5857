"""One sketch for every noise covariance and every noise level, against the dense Jacobian."""

import dataclasses

import pytest
import torch

import mrnoise
from mrnoise import InputError, coil_sketch, noise_map, read_noise_map
from mrnoise.estimators.channels import ChannelMoments
from mrnoise.estimators.key import Key
from mrnoise.estimators.sampler import sampler
from mrnoise.fourier import to_image
from mrnoise.linearization import linearize
from mrnoise.reconstruction import Sense
from mrnoise.result.noise_map import _chi_square_factors
from mrnoise.sampling import equispaced
from mrnoise.simulation import random_noise_covariance, simulate

SHAPE, COILS = (10, 12), 3
TURN = torch.exp(2j * torch.arange(COILS, dtype=torch.float64))[:, None, None]
ACQ = simulate(SHAPE, COILS, snr=40, seed=1).undersample(equispaced(SHAPE, 2))
ACQ = ACQ.replace(
    # Coils of different phase, without which Ψ and its conjugate are alike.
    kspace=TURN * ACQ.kspace,
    coil_maps=TURN * ACQ.coil_maps,
    averages=1 + (torch.arange(SHAPE[0])[:, None] % 4 == 0) * torch.ones(SHAPE),
)
OTHER = random_noise_covariance(COILS, condition_number=30.0, seed=7).scaled(3.0, "of a test")
FLIPPED = OTHER.matrix.conj()


def linear(kspace):
    return Sense().bind(ACQ)(kspace)


def improper(kspace):
    """Real-linear in k-space, each coil in its own way; noise of the conjugate part is as strong as the other."""
    x = to_image(kspace)
    return (ACQ.coil_maps.conj() * x).sum(-3) + 0.8 * (TURN.sqrt() * x.conj()).sum(-3)


def nonlinear(kspace):
    x = (ACQ.coil_maps.conj() * to_image(kspace)).sum(-3)
    return x * (1 + x.abs().square() / x.abs().square().mean())


def magnitude(kspace):
    return to_image(kspace).sum(-3).abs()


FUNCTIONS = {"linear": linear, "improper": improper, "nonlinear": nonlinear, "magnitude": magnitude}
COVARIANCES = {"of the scan": None, "other": OTHER, "conjugated": FLIPPED}


def jacobian(function):
    """A and B of J v = A v + B v*, (voxel, coil, sample), sampling and averages included."""
    (operator,) = linearize(function, ACQ)
    n = ACQ.kspace.numel()
    units = torch.eye(n, dtype=torch.complex128).reshape(n, *ACQ.kspace.shape)
    white = ACQ.replace(noise_covariance=torch.eye(COILS))
    d, e = (operator.derivative(white.colour(u)).reshape(n, -1).T for u in (units, 1j * units))
    return tuple(m.reshape(-1, COILS, n // COILS) for m in (0.5 * (d - 1j * e), 0.5 * (d + 1j * e)))


def exact(function, psi):
    """E|δx|² and E δx² of a real-linear map of circular noise."""
    a, b = jacobian(function)
    factor = (ACQ.noise_covariance if psi is None else mrnoise.NoiseCovariance.of(psi)).factor
    a, b = (torch.einsum("rcs,cd->rds", m, f).flatten(1) for m, f in ((a, factor), (b, factor.conj())))
    variance = a.abs().square().sum(1) + b.abs().square().sum(1)
    return variance.reshape(SHAPE), 2 * (a * b).sum(1).reshape(SHAPE)


@pytest.fixture(scope="module")
def sketches():
    return {name: coil_sketch(function, ACQ, n_samples=200) for name, function in FUNCTIONS.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("which", COVARIANCES)
def test_every_covariance_from_one_sketch(name, which, sketches):
    """Floor: from 200 probes, the stated error, at most 1/√200 = 7 % of σ² (κ = 0); √2 in σ would be 100 % of σ²."""
    function, psi = FUNCTIONS[name], COVARIANCES[which]
    nm = sketches[name].noise_map(psi)
    variance, pseudo = exact(function, psi)
    seen = variance > 1e-6 * variance.max()
    z = ((nm.variance - variance) / nm.estimate.variance_error)[seen]
    assert 0.7 < float(z.square().mean().sqrt()) < 1.3
    relative = (nm.variance / variance - 1)[seen]
    assert float(relative.square().mean().sqrt()) < 1.3 * (2 / 200) ** 0.5
    assert abs(float(relative.mean())) < 0.05
    assert float(((nm.estimate.pseudo_variance - pseudo).abs() / variance)[seen].square().mean().sqrt()) < 2 * 200**-0.5
    assert nm.method == "coil_sketch"
    assert nm.n_products == 200 * COILS * (1 if name == "linear" else 2)


def test_covariances_differ_by_far_more_than_the_floor():
    """The checker that must fail: the wrong Ψ, its conjugate, a conjugate part left out or not conjugated."""
    for name, wrong in (("improper", None), ("linear", FLIPPED)):
        variance, other = (exact(FUNCTIONS[name], psi)[0] for psi in (OTHER, wrong))
        assert float((other / variance - 1).abs().mean()) > 0.15, name
    variance, _ = exact(improper, OTHER)
    a, b = jacobian(improper)
    direct, conjugate = (torch.einsum("rcs,cd,rds->r", m, OTHER.matrix, m.conj()).real.reshape(SHAPE) for m in (a, b))
    for mistaken in (direct, direct + conjugate):
        assert float((mistaken / variance - 1).abs().mean()) > 0.15


@pytest.mark.parametrize("kind", ["proper", "improper", "real"])
@pytest.mark.parametrize("n", [8, 40])
def test_error_bars_are_honest(kind, n):
    """Over 200 seeds the spread of σ² is known to 5 % a voxel; of the noise along one phase too."""
    g = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, COILS, 30, 50, dtype=torch.complex128, generator=g)
    # Coils whose responses are alike, as those of neighbours are.
    a, b = a + 2 * a[:1], {"proper": 0 * b, "improper": 0.7 * b, "real": (a + 2 * a[:1]).conj()}[kind]
    psi, phase = OTHER.matrix, torch.exp(1j * torch.arange(30))
    variance = torch.einsum("crs,cd,drs->r", a, psi, a.conj()).real
    variance = variance + torch.einsum("crs,cd,drs->r", b, psi.conj(), b.conj()).real
    totals, along, inside = [], [], []
    for seed in range(200):
        moments = ChannelMoments(COILS)
        for w in sampler((50,), torch.complex128, key=Key(seed))(range(n)):
            moments.add(a @ w + b @ w.conj(), None if kind == "proper" else a @ (1j * w) + b @ (1j * w).conj())
        found = moments.covariance().estimate(psi, "test", 0, False)
        totals.append(torch.stack([found.variance, found.variance_error]))
        along.append(torch.stack(found.component(phase)))
        low, high = _chi_square_factors(found.effective_degrees_of_freedom(), 0.95)
        inside.append((low * found.variance < variance) & (variance < high * found.variance))
    for pairs in (torch.stack(totals), torch.stack(along)):
        seen = pairs[:, 0].mean(0) > 1e-6 * variance.max()
        ratio = (pairs[:, 1].mean(0) / pairs[:, 0].std(0))[seen].median()
        assert 0.92 < float(ratio) < 1.1
    bias = (torch.stack(totals)[:, 0].mean(0) / variance - 1) / (torch.stack(totals)[:, 0].std(0) / variance)
    assert float(bias.square().mean().sqrt()) < 1.5 * 200**-0.5
    assert 0.92 < float(torch.stack(inside).double().mean()) < 0.98


def test_batches_do_not_change_the_answer_and_seeds_do():
    maps = [coil_sketch(improper, ACQ, n_samples=5, batch_size=b).noise_map(OTHER) for b in (1, 4, 6)]
    for other in maps[1:]:
        torch.testing.assert_close(other.variance, maps[0].variance)
        torch.testing.assert_close(other.relative_error, maps[0].relative_error)
    again = coil_sketch(improper, ACQ, n_samples=5, seed=1).noise_map(OTHER)
    assert float((again.variance / maps[0].variance - 1).abs().max()) > 0.01


def test_slices_record_files_and_interruption(tmp_path):
    stack = simulate(SHAPE, 4, n_slices=3, snr=40, seed=1).undersample(equispaced(SHAPE, 2))
    psi = random_noise_covariance(4, seed=9)
    sketch = coil_sketch(Sense(), stack, n_samples=30)
    assert sketch.parts[0][1].matrix.dtype == torch.complex64
    nm = sketch.noise_map(psi)
    assert nm.image.shape == nm.std.shape == nm.g_factor.shape == (3, *SHAPE)
    assert nm.provenance.noise_covariance["mean_variance"] == pytest.approx(psi.mean_variance)
    assert nm.linearity is None
    mrnoise.save(nm, tmp_path / "out.h5")
    torch.testing.assert_close(read_noise_map(tmp_path / "out.h5").relative_error, nm.relative_error)
    one = coil_sketch(Sense(), next(iter(stack.slices())), n_samples=1).noise_map()
    assert bool(one.relative_error.isnan().all())

    def interrupt(image, n_images, done, total, error):
        if image == 1 and done == 4:
            raise KeyboardInterrupt

    part = coil_sketch(Sense(), stack, n_samples=30, progress=interrupt).noise_map(psi)
    assert part.interrupted and part.n_samples == 0
    torch.testing.assert_close(part.std[0], nm.std[0])
    assert bool(part.std[1].isfinite().all()) and bool(part.std[2].isnan().all())


def test_where_a_coil_sketch_is_refused():
    with pytest.raises(InputError, match="3 × 3"):
        coil_sketch(linear, ACQ, n_samples=2).noise_map(torch.eye(4))
    with pytest.raises(InputError, match="positive definite"):
        coil_sketch(linear, ACQ, n_samples=2).noise_map(torch.zeros(COILS, COILS))
    with pytest.raises(InputError, match="at least 1"):
        coil_sketch(linear, ACQ, n_samples=0)
    with pytest.raises(InputError, match="derivative"):
        coil_sketch(lambda k: linear(k.detach()).abs(), ACQ, n_samples=2)


# -- every noise level ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sketch", "probe", "exact"])
def test_a_scaled_map_is_that_of_stronger_noise(method, tmp_path):
    options = {} if method == "exact" else {"n_samples": 12}
    nm = noise_map(improper, ACQ, method=method, **options)
    louder = ACQ.replace(noise_covariance=ACQ.noise_covariance.scaled(9.0, "louder"))
    expected, scaled = noise_map(improper, louder, method=method, **options), nm.scaled(3)
    for quantity in ("variance", "std", "magnitude_std", "phase_std", "snr", "relative_error"):
        torch.testing.assert_close(getattr(scaled, quantity), getattr(expected, quantity), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(scaled.estimate.variance_error, 9 * nm.estimate.variance_error)
    for bounds in zip(scaled.confidence_interval(), expected.confidence_interval(), strict=True):
        torch.testing.assert_close(*bounds, rtol=1e-6, atol=1e-12)
    assert scaled.linearity is None and scaled.departure is None
    assert scaled.linearity is None
    assert scaled.provenance.noise_scale == 3
    assert scaled.scaled(0.5).provenance.noise_scale == 1.5
    mrnoise.save(scaled, tmp_path / "out.h5")
    torch.testing.assert_close(read_noise_map(tmp_path / "out.h5").std, scaled.std)


def test_the_g_factor_does_not_depend_on_the_noise_level():
    nm = noise_map(Sense(), ACQ.replace(averages=None), method="sketch", n_samples=12)
    torch.testing.assert_close(nm.scaled(7.0).g_factor, nm.g_factor)
    torch.testing.assert_close(nm.scaled(7.0).estimate.error_sample, 49 * nm.estimate.error_sample)
    with pytest.raises(InputError, match="noise scale"):
        noise_map(Sense(), ACQ.replace(averages=None), method="sketch", n_samples=20, resume=nm.scaled(7.0))


def test_where_scaling_is_refused():
    for method in ("monte_carlo", "nonlinear"):
        with pytest.raises(InputError, match="first order"):
            noise_map(nonlinear, ACQ, method=method, n_samples=12).scaled(2.0)
    nm = noise_map(linear, ACQ, method="sketch", n_samples=2)
    for alpha in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive"):
            nm.scaled(alpha)
    same = nm.scaled(1.0)
    torch.testing.assert_close(same.std, nm.std)
    assert dataclasses.replace(same, linearity=nm.linearity).linearity is nm.linearity
