"""Control variates: unbiased whatever the features, and as much better as they explain."""

import pytest
import torch

import mrnoise
from mrnoise import InputError, NoiseMap, estimators, noise_map, read_noise_map
from mrnoise.estimators import Plan, Sketch
from mrnoise.estimators.key import Key
from mrnoise.foreground import foreground
from mrnoise.fourier import to_image
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import equispaced, poisson_disc, random_2d
from mrnoise.simulation import random_noise_covariance, simulate
from mrnoise.surrogate.sense_images import surrogate
from test_estimators import N_NOISE, SHAPE, Dense

SEEDS = 60
N_VOXELS = SHAPE[0] * SHAPE[1]


class DenseFeatures:
    """Images f = F v with the covariance F Fᴴ."""

    def __init__(self, matrices):
        self.matrices, self.n_images = matrices, len(matrices)
        covariance = torch.einsum("kin,lin->kli", matrices, matrices.conj())
        self.covariance = covariance.reshape(len(matrices), -1, *SHAPE)

    def __call__(self, noise):
        return torch.einsum("kin,bn->bki", self.matrices, noise).reshape(len(noise), -1, *SHAPE)


def random(*shape, seed):
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


F = random(2, N_VOXELS, N_NOISE, seed=3)
REST = random(N_VOXELS, N_NOISE, seed=4)
# Of 1.25 + 0.16 and 0.49 + 0.09 the features explain 1.25 and 0.49.
OPERATORS = {
    "improper": Dense(F[0] + 0.5 * F[1] + 0.4 * REST, 0.7 * F[0].conj() + 0.3 * REST.conj()),
    "real": Dense(F[0] + 0.5 * F[1] + 0.4 * REST, 0.0 * F[0], real=True),
    # Nearly all: the mean of replicas must not be estimated with the noise that is explained.
    "explained": Dense(F[0] + 0.5 * F[1] + 0.05 * REST, 0.7 * F[0].conj()),
}


def run(method, operator, n, seed, features):
    return getattr(estimators, method)(operator, Plan(n_samples=n, batch_size=7), key=Key(seed), features=features)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
@pytest.mark.parametrize("n", [32, 120])
def test_unbiased_better_and_honest(method, kind, n):
    """Floor: 60 seeds know a spread to 9 % a voxel, a mean to 0.13 of it; √2 in σ would be far outside."""
    operator = OPERATORS[kind]
    plain, controlled = (
        [run(method, operator, n, seed, features) for seed in range(SEEDS)] for features in (None, DenseFeatures(F))
    )
    for name in ("variance", "pseudo_variance"):
        values = torch.stack([getattr(r, name) for r in controlled])
        z = (values.mean(0) - getattr(operator, name)).abs() / (values.std(0) / SEEDS**0.5)
        assert float(z.median()) < 1.5, name
        assert float((z > 4).double().mean()) < 0.05, name
    spread = [torch.stack([r.variance for r in results]).var(0).mean() for results in (plain, controlled)]
    assert float(spread[0] / spread[1]) > {32: 1.05, 120: 1.8}[n]
    stated = torch.stack([r.variance_error for r in controlled]).mean(0)
    ratio = float((stated / torch.stack([r.variance for r in controlled]).std(0)).median())
    assert 0.9 < ratio < 1.15
    direction = torch.exp(1j * torch.linspace(0, 6, N_VOXELS, dtype=torch.float64)).reshape(SHAPE)
    along = [r.component(direction) for r in controlled]
    ratio = float((torch.stack([s for _, s in along]).mean(0) / torch.stack([v for v, _ in along]).std(0)).median())
    # With few samples for each coefficient the error bar is on the safe side.
    assert 0.85 < ratio < (1.3 if n == 32 else 1.2)


@pytest.mark.parametrize("kind", ["improper", "explained"])
def test_certified_stop(kind):
    """Realised error of σ below the target in 95 % of 80 seeds; floor 2.4 %. Fewer samples than without."""
    operator, plan = OPERATORS[kind], Plan(target_error=0.06)
    truth, kept, n_samples = operator.variance.sqrt(), 0, 0
    for seed in range(80):
        found = estimators.sketch(operator, plan, key=Key(seed), features=DenseFeatures(F))
        kept += (
            float((found.variance.sqrt() / truth - 1).square().mean().sqrt()) <= float(found.certified_error) <= 0.06
        )
        n_samples += found.n_samples
    assert kept >= 72
    assert n_samples < 0.8 * 80 * estimators.sketch(operator, plan, key=Key(0)).n_samples


def test_features_that_explain_nothing_do_no_harm():
    """The checker that must not claim a gain: unrelated images leave mean and error bar where they were."""
    operator = Dense(REST, 0.5 * REST.conj())
    other = DenseFeatures(random(2, N_VOXELS, N_NOISE, seed=9))
    plain, controlled = ([run("sketch", operator, 200, s, f) for s in range(SEEDS)] for f in (None, other))
    values = torch.stack([r.variance for r in controlled])
    z = (values.mean(0) - operator.variance).abs() / (values.std(0) / SEEDS**0.5)
    assert float(z.median()) < 1.5
    ratio = values.std(0).mean() / torch.stack([r.variance for r in plain]).std(0).mean()
    assert 0.9 < float(ratio) < 1.15
    assert float((torch.stack([r.variance_error for r in controlled]).mean(0) / values.std(0)).median()) > 0.9


def test_a_voxel_without_noise_has_none_and_no_error():
    """Where no coil sees anything; its error was all of an estimate that is not there, and a target was never met."""
    full = OPERATORS["improper"]
    silent = torch.ones(len(full.a), 1, dtype=torch.complex128)
    silent[7] = 0
    operator = Dense(full.a * silent, full.b * silent)
    found = run("sketch", operator, 64, 0, DenseFeatures(F))
    assert float(found.variance.flatten()[7]) == 0 == float(found.variance_error.flatten()[7])
    met = estimators.sketch(operator, Plan(target_error=0.1), features=DenseFeatures(F))
    assert met.certified_error <= 0.1 and met.n_samples < 200


def test_a_wrong_covariance_is_a_wrong_variance():
    """The covariance of the features is trusted: a factor of 2 in it shows."""
    features = DenseFeatures(F)
    features.covariance = 2 * features.covariance
    found = torch.stack([run("sketch", OPERATORS["improper"], 120, seed, features).variance for seed in range(20)])
    assert float((found.mean(0) / OPERATORS["improper"].variance).median()) > 1.3


def test_batch_size_does_not_change_the_answer():
    results = [
        estimators.sketch(
            OPERATORS["improper"], Plan(n_samples=40, batch_size=b), key=Key(1), features=DenseFeatures(F)
        )
        for b in (1, 9, 40)
    ]
    for other in results[1:]:
        torch.testing.assert_close(other.variance, results[0].variance)
        torch.testing.assert_close(other.variance_error, results[0].variance_error)


MATRIX = (12, 10)
SAMPLINGS = {
    "lines": equispaced(MATRIX, 3, 4),
    "columns": equispaced(MATRIX[::-1], 2, 4).T.contiguous(),
    "two axes": random_2d(MATRIX, 2, 4, 0),
    "corners of the window are missing": random_2d(MATRIX, 5, 2, 0),
    "everything": torch.ones(MATRIX, dtype=torch.bool),
}


def small_scan(mask, coils=5):
    """In double precision, with coil maps of the noise's own correlation."""
    psi = random_noise_covariance(coils, condition_number=9.0, seed=1)
    scan = simulate(tuple(mask.shape), coils, snr=30, noise_covariance=psi, seed=1).undersample(mask)
    kspace, maps = scan.kspace.to(torch.complex128), scan.coil_maps.to(torch.complex128)
    return scan.replace(kspace=kspace, coil_maps=maps)


def dense(features, scan):
    """F of f = F v, (K, voxel, noise)."""
    basis = torch.eye(scan.kspace.numel(), dtype=torch.complex128).reshape(-1, *scan.kspace.shape)
    return features(basis).flatten(2).permute(1, 2, 0)


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("coils", [5, 10])
def test_covariance_of_the_surrogate_in_closed_form(name, coils):
    """E f fᴴ is that of the dense matrix of f, also where coils are combined and the image is cropped."""
    scan = small_scan(SAMPLINGS[name], coils)
    inside = torch.zeros(12, 8, dtype=torch.bool)
    inside[3:9, 2:7] = True
    features = surrogate(scan, inside)
    assert features is not None and features.n_images == 3
    f = dense(features, scan)
    expected = torch.einsum("kvn,lvn->klv", f, f.conj()).reshape(3, 3, 12, 8)
    torch.testing.assert_close(features.covariance, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["lines", "six samples"])
def test_the_surrogate_is_regularised_sense(name):
    """(H + λ/w)⁻¹ Aᴴ v with dense H; where all samples are among the nearest, interpolation is the same."""
    mask = SAMPLINGS["lines"]
    if name == "six samples":
        mask = torch.zeros(11, 9, dtype=torch.bool)
        mask[[1, 3, 5, 6, 8, 9], [2, 7, 4, 5, 1, 8]] = True
    scan = small_scan(mask)
    inside = torch.zeros(mask.shape, dtype=torch.bool)
    inside[3:9, 2:7] = True
    features = surrogate(scan, inside)
    assert features is not None
    maps = scan.whiten_maps(scan.coil_maps)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    n = scan.kspace.numel()
    basis = torch.eye(n, dtype=torch.complex128).reshape(n, *scan.kspace.shape)
    a = (maps.conj() * to_image(basis * mask)).sum(-3).flatten(1).T
    f = dense(features, scan)
    for found, weight in ((f[0], 0.05 / torch.where(inside, 1.0, 0.1)), (f[2], torch.full(mask.shape, 0.01))):
        expected = torch.linalg.solve(a @ a.mH + torch.diag(weight.flatten()), a)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_interpolation_comes_close_to_regularised_sense():
    """From the six nearest samples three quarters of the noise of the exact image are explained; unrelated: 0."""
    shape = (40, 36)
    scan = simulate(shape, 8, snr=30, seed=1).undersample(poisson_disc(shape, 4, 8, seed=1))
    inside = foreground(CgSense(0.05).bind(scan)(scan.kspace))
    features = surrogate(scan, inside)
    noise = torch.randn(200, *scan.kspace.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    exact = CgSense(0.01).bind(scan)(scan.colour(noise))
    f = features(noise)[:, 2]
    together = (exact.conj() * f).sum(0).abs().square() / (exact.abs().square().sum(0) * f.abs().square().sum(0))
    assert float(together[inside].mean()) > 0.7


def test_no_surrogate_without_coil_maps_or_lines():
    acquisition = simulate((24, 20), 5, seed=1).undersample(equispaced((24, 20), 3))
    inside = torch.ones(24, 20, dtype=torch.bool)
    assert surrogate(acquisition, inside) is not None
    assert surrogate(acquisition, torch.ones(48, 20, dtype=torch.bool)) is None
    assert surrogate(acquisition.replace(coil_maps=None), inside) is None


@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
def test_noise_map_with_control_variates(method):
    """CG-SENSE of irregular lines, which its neighbours in λ explain: less than half the error at equal cost.

    Floor: at 120 samples σ is known to 1/√480 = 4.6 % without control variates; √2 would be 0.41.
    """
    acq = simulate((24, 20), 5, snr=30, seed=1).undersample(equispaced((24, 20), 3, 6))
    truth = noise_map(CgSense(0.05), acq, method="exact").std
    plain, controlled = (
        noise_map(CgSense(0.05), acq, method=estimators.method(method, control_variate=on), n_samples=120)
        for on in (False, True)
    )
    error = [float((nm.std / truth - 1).square().mean().sqrt()) for nm in (plain, controlled)]
    assert error[1] < 0.5 * error[0]
    stated = float(controlled.relative_error.square().mean().sqrt())
    assert 0.75 < error[1] / stated < 1.3
    assert controlled.provenance.control_variate and not plain.provenance.control_variate
    to_target = [
        noise_map(CgSense(0.05), acq, method=estimators.method(method, control_variate=on), target_error=0.05).n_samples
        for on in (False, True)
    ]
    assert to_target[1] < 0.85 * to_target[0]  # certified for an object of few voxels


@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
def test_going_on_with_control_variates(method, tmp_path):
    """60 samples and then 60 more: unbiased, its error as stated, below that of the 60 alone. Floor: 6.5 % of σ."""
    acq = simulate((24, 20), 5, snr=30, seed=1).undersample(equispaced((24, 20), 3, 6))
    truth = noise_map(CgSense(0.05), acq, method="exact").std
    part = noise_map(CgSense(0.05), acq, method=estimators.method(method, control_variate=True), n_samples=60)
    mrnoise.save(part, tmp_path / "part.h5")
    whole = noise_map(CgSense(0.05), acq, method=method, n_samples=120, resume=read_noise_map(tmp_path / "part.h5"))
    assert whole.n_samples == 120 and whole.provenance.control_variate
    # auto goes on in the same way, with nothing said of control variates.
    same = noise_map(CgSense(0.05), acq, n_samples=120, resume=part)
    assert (same.method, same.provenance.control_variate) == (method, True)
    torch.testing.assert_close(same.variance, whole.variance)
    error, before = (float((nm.std / truth - 1).square().mean().sqrt()) for nm in (whole, part))
    assert error < 0.85 * before
    assert 0.75 < error / float(whole.relative_error.square().mean().sqrt()) < 1.3
    assert float((whole.std / truth).square().mean()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("method", "reached"), [("sketch", 8), ("sketch", 36), ("monte_carlo", 8), ("monte_carlo", 36)]
)
def test_going_on_with_some_slices(method, reached, tmp_path):
    """Interrupted in the second of three slices, before and after coefficients were fitted there.

    The bits of one run. Floor: at 60 samples σ is known to 6.5 % without control variates.
    """
    one = simulate((24, 20), 5, snr=30, seed=1).undersample(equispaced((24, 20), 3, 6))
    stack = one.replace(kspace=torch.stack([one.kspace, 2 * one.kspace, 3 * one.kspace]))
    truth = noise_map(CgSense(0.05), one, method="exact").std
    options = {"method": estimators.method(method, control_variate=True), "n_samples": 60, "batch_size": 4}

    def interrupt(image, n_images, done, total, error):
        if image == 1 and done >= reached:
            raise KeyboardInterrupt

    mrnoise.save(noise_map(CgSense(0.05), stack, **options, progress=interrupt), tmp_path / "part.h5")
    part = read_noise_map(tmp_path / "part.h5")
    assert bool(part.relative_error[:2].isfinite().all()) and bool(part.std[2].isnan().all())
    calls = []
    whole = noise_map(
        CgSense(0.05), stack, **options, resume=part, progress=lambda i, n, done, t, e: calls.append((i, done))
    )
    assert {calls[0], calls[-1]} == {(1, reached + 4), (2, 60)}
    torch.testing.assert_close(whole.std[0], part.std[0])
    assert whole.n_samples == 60 and not whole.interrupted
    once = noise_map(CgSense(0.05), stack, **options)
    assert torch.equal(whole.variance, once.variance) and torch.equal(whole.relative_error, once.relative_error)
    error = (whole.std / truth - 1).square().mean((-2, -1)).sqrt()
    stated = whole.relative_error.square().mean((-2, -1)).sqrt()
    assert bool((error < 0.045).all()) and bool((error / stated - 1).abs().max() < 0.3)


class Proper(Dense):
    """Of complex-linear noise."""

    def __init__(self, share):
        super().__init__(F[0] + 0.5 * F[1] + share * REST, 0 * F[0])


@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
@pytest.mark.parametrize("kind", [*OPERATORS, "proper", "hardly"])
def test_intervals_cover(method, kind):
    """95 % intervals of σ and magnitude σ: before a fit (6), just after it (8), after it (32), and on for two kinds.

    Floor: 54 voxels of 100 seeds, about 20 independent ones a seed, know a coverage of 95 % to 0.5 %. An error of σ
    wrong by √2 would cover 83 %, or 99.4 %. Just fitted, to four replicas for four coefficients, those that explain
    nearly all cover 92.7 % (200 seeds).
    """
    operator = OPERATORS[kind] if kind in OPERATORS else Proper({"proper": 0.4, "hardly": 3.0}[kind])
    phase = torch.exp(1j * torch.linspace(0, 6, N_VOXELS, dtype=torch.float64)).reshape(SHAPE)
    image = torch.ones(SHAPE, dtype=torch.float64) if kind == "real" else phase
    along = 0.5 * (operator.variance + (operator.pseudo_variance * image.conj().square()).real)
    truth = {"std": operator.variance.sqrt(), "magnitude_std": along.sqrt()}
    for n in (6, 8, 32, 128) if kind in ("explained", "hardly") else (6, 8, 32):
        held = dict.fromkeys(truth, 0.0)
        for seed in range(100):
            nm = NoiseMap(image, run(method, operator, n, seed, DenseFeatures(F)))
            for quantity, value in truth.items():
                low, high = nm.confidence_interval(0.95, quantity)
                held[quantity] += float(((low <= value) & (value <= high)).double().mean()) / 100
        for quantity, share in held.items():
            assert (0.915 if n == 8 else 0.93) < share < (0.98 if n < 32 else 0.975), (n, quantity, share)


def test_where_control_variates_are_refused():
    acq = simulate((24, 20), 5, snr=30, seed=1).undersample(equispaced((24, 20), 3, 6))
    with pytest.raises(InputError, match="not possible here"):
        noise_map(CgSense(0.05), acq, method=estimators.method("lattice", control_variate=True), n_samples=8)
    plain = noise_map(CgSense(0.05), acq, method="sketch", n_samples=4)
    with pytest.raises(InputError, match="control_variate True"):
        noise_map(CgSense(0.05), acq, method=Sketch(control_variate=True), n_samples=8, resume=plain)
    blind = acq.replace(coil_maps=None, mask=equispaced((24, 20), 3))
    with pytest.raises(InputError, match="with coil maps"):
        noise_map(lambda k: k.sum(-3), blind, method=Sketch(control_variate=True), n_samples=8)
