"""Estimators against a dense operator: no MRI, only unit noise and a real-linear map."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mrnoise import InputError, estimators
from mrnoise.estimators import Plan, region_error
from mrnoise.estimators.estimate import stack
from mrnoise.estimators.key import Key
from mrnoise.estimators.sampler import sampler
from mrnoise.result.noise_map import NoiseMap

N_NOISE, SHAPE = 40, (6, 9)


@dataclass
class Dense:
    """L v = A v + B v̄ as matrices, with the variance and pseudo-variance they imply."""

    a: Tensor
    b: Tensor
    real: bool = False
    complex_linear: bool = False
    noise_shape: tuple[int, ...] = (N_NOISE,)
    noise_dtype: torch.dtype = torch.complex128
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def image_shape(self):
        return SHAPE

    @property
    def image_dtype(self):
        return torch.float64 if self.real else torch.complex128

    def apply(self, v):
        v = v.reshape(len(v), -1)
        x = (v @ self.a.T + v.conj() @ self.b.T).reshape(-1, *SHAPE)
        return x.real if self.real else x

    def adjoint(self, w):
        w = w.reshape(len(w), -1).to(torch.complex128)
        return w @ self.a.conj() + w.conj() @ self.b

    def replicas(self, v):
        return self.apply(v) + 3.0  # a constant bias, which a replica variance must remove

    @property
    def variance(self):
        if self.real:
            return (0.5 * (self.a + self.b.conj()).abs().square().sum(1)).reshape(SHAPE)
        return (self.a.abs().square() + self.b.abs().square()).sum(1).reshape(SHAPE)

    @property
    def pseudo_variance(self):
        if self.real:
            return self.variance.to(torch.complex128)
        return (2 * (self.a * self.b).sum(1)).reshape(SHAPE)


def dense(kind: str, seed: int = 0) -> Dense:
    g = torch.Generator().manual_seed(seed)
    n = SHAPE[0] * SHAPE[1]
    a = torch.randn(n, N_NOISE, dtype=torch.complex128, generator=g)
    b = torch.randn(n, N_NOISE, dtype=torch.complex128, generator=g)
    if kind == "proper":
        return Dense(a, 0 * b, complex_linear=True)
    if kind == "improper":
        return Dense(a, 0.6 * a.conj() + 0.2 * b)
    return Dense(a, b, real=True)


KINDS = ("proper", "improper", "real")


@pytest.mark.parametrize("kind", KINDS)
def test_adjoint_of_the_dense_operator(kind):
    operator = dense(kind)
    g = torch.Generator().manual_seed(1)
    v = torch.randn(1, N_NOISE, dtype=torch.complex128, generator=g)
    w = torch.randn(1, *SHAPE, dtype=operator.image_dtype, generator=g)
    left = (operator.apply(v).conj() * w).sum().real
    right = (v.conj() * operator.adjoint(w)).sum().real
    torch.testing.assert_close(left, right)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_is_the_dense_answer(kind):
    operator = dense(kind)
    result = estimators.exact(operator, batch_size=7)
    torch.testing.assert_close(result.variance, operator.variance)
    torch.testing.assert_close(result.pseudo_variance, operator.pseudo_variance)
    assert float(result.variance_error.max()) == 0
    assert result.n_products == SHAPE[0] * SHAPE[1] * (2 if kind == "improper" else 1)


def run(method: str, operator: Dense, n: int, seed: int = 0, **options):
    if method == "sketch":
        return estimators.sketch(operator, Plan(n_samples=n, **options), key=Key(seed))
    if method == "probe":
        return estimators.probe(operator, Plan(n_samples=n, **options), key=Key(seed))
    return estimators.monte_carlo(operator, Plan(n_samples=n, **options), key=Key(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["sketch", "monte_carlo", "probe"])
def test_unbiased_and_honest_about_the_error(method, kind):
    """Mean over seeds: the variance to within 4 standard errors, which is far less than a factor √2."""
    operator = dense(kind)
    seeds, n = 60, 64
    results = [run(method, operator, n, seed) for seed in range(seeds)]
    for name, truth in (("variance", operator.variance), ("pseudo_variance", operator.pseudo_variance)):
        values = torch.stack([getattr(r, name) for r in results])
        floor = values.std(0) / seeds**0.5
        z = (values.mean(0) - truth).abs() / floor.clamp_min(1e-12)
        assert float(z.median()) < 1.5, name  # |normal| has median 0.67
        assert float((z > 4).float().mean()) < 0.05, name
    spread = torch.stack([r.variance for r in results]).std(0)
    stated = torch.stack([r.variance_error for r in results]).mean(0)
    ratio = float((stated / spread).median())
    # 60 seeds know the spread to 9 % a voxel, the median over 54 voxels better; √2 would be far outside.
    assert 0.9 < ratio < 1.15
    direction = torch.exp(1j * torch.linspace(0, 6, 54, dtype=torch.float64)).reshape(SHAPE)
    along = [r.component(direction) for r in results]
    ratio = float((torch.stack([s for _, s in along]).mean(0) / torch.stack([v for v, _ in along]).std(0)).median())
    assert 0.85 < ratio < 1.2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
@pytest.mark.parametrize("n", [8, 32, 128])
def test_interval_covers_the_truth(method, kind, n):
    operator = dense(kind)
    hits, hits_magnitude = [], []
    image = torch.exp(1j * torch.linspace(0, 9, 54, dtype=torch.float64)).reshape(SHAPE)
    if kind == "real":
        image = image.real
    phase = image / image.abs()
    truth = 0.5 * (operator.variance + (operator.pseudo_variance * phase.conj() ** 2).real)
    for seed in range(60):
        nm = NoiseMap(image, run(method, operator, n, 1000 + seed))
        low, high = nm.confidence_interval(0.95)
        hits.append((low <= operator.variance.sqrt()) & (operator.variance.sqrt() <= high))
        low, high = nm.confidence_interval(0.95, "magnitude_std")
        hits_magnitude.append((low <= truth.sqrt()) & (truth.sqrt() <= high))
    # 54 voxels × 60 seeds: sampling floor of the coverage below 0.5 %.
    for name, found in (("total", hits), ("magnitude", hits_magnitude)):
        coverage = float(torch.stack(found).double().mean())
        assert 0.93 <= coverage <= 0.975, (name, coverage)


def test_real_probes_are_biased_for_real_linear_maps():
    """The checker that must fail: ±1 probes have E[vvᵀ] = I and add the cross term 2 Re Σ A B*."""
    a = dense("proper").a
    operator = Dense(a, 0.5 * a)

    def signs(shape, dtype, generator):
        return (2.0 * torch.randint(0, 2, tuple(shape), generator=generator) - 1).to(dtype)

    n = 2000
    floor = (2 / n) ** 0.5
    good = estimators.sketch(operator, Plan(n_samples=n), key=Key(0))
    bad = estimators.sketch(operator, Plan(n_samples=n), key=Key(0), distribution=signs)
    deviation = [float(((r.variance / operator.variance - 1).square().mean()).sqrt()) for r in (good, bad)]
    assert deviation[0] < 1.3 * floor
    assert deviation[1] > 0.5  # (1 + 0.5)² / (1 + 0.5²) - 1 = 0.8


@pytest.mark.parametrize("method", ["sketch", "monte_carlo", "probe"])
def test_batch_size_does_not_change_the_answer(method):
    operator = dense("improper")
    reference = run(method, operator, 13, batch_size=13)
    for batch_size in (1, 4):
        other = run(method, operator, 13, batch_size=batch_size)
        torch.testing.assert_close(other.variance, reference.variance)
        torch.testing.assert_close(other.variance_error, reference.variance_error)
    assert float((run(method, operator, 13, seed=1).variance - reference.variance).abs().max()) > 0


@pytest.mark.parametrize("distribution", ["phase", "rademacher", "gaussian"])
def test_probes_are_circular(distribution):
    n = 20_000
    v = sampler((3,), torch.complex128, key=Key(0), distribution=distribution)(range(n))
    covariance, pseudo = v.T @ v.conj() / n, v.T @ v / n
    floor = n**-0.5
    assert float((covariance - torch.eye(3)).abs().max()) < 4 * floor
    assert float(pseudo.abs().max()) < 4 * floor


def test_one_sample_has_no_error_bar():
    for method, kind in (("sketch", "proper"), ("monte_carlo", "proper"), ("probe", "real")):
        assert bool(torch.isnan(run(method, dense(kind), 1).variance_error).all()), method


def test_target_error_stops_on_the_stated_error():
    operator = dense("proper")
    result = estimators.sketch(operator, Plan(target_error=0.05, batch_size=10))
    # 1/(2√S) = 0.05 at S = 100 for proper noise; to certify it for 54 correlated voxels takes up to half more.
    assert 100 < result.n_samples <= 170
    assert region_error(result, None) < float(result.certified_error) <= 0.05
    capped = estimators.sketch(operator, Plan(n_samples=20, target_error=0.05))
    assert capped.n_samples == 20


def test_interruption_returns_the_estimate_so_far():
    operator = dense("proper")

    def interrupt(done, total, error):
        if done >= 20:
            raise KeyboardInterrupt

    result = estimators.sketch(operator, Plan(n_samples=1000, batch_size=10, progress=interrupt), key=Key(3))
    assert result.interrupted
    assert result.n_samples == 20
    torch.testing.assert_close(result.variance, run("sketch", operator, 20, 3).variance)


def test_out_of_memory_halves_the_batch():
    operator = dense("proper")
    apply, sizes = operator.apply, []

    def scarce(v):
        sizes.append(len(v))
        if len(v) > 3:
            raise MemoryError
        return apply(v)

    operator.apply = scarce
    result = run("sketch", operator, 10, batch_size=8)
    assert sizes[:3] == [8, 4, 2]
    torch.testing.assert_close(result.variance, run("sketch", dense("proper"), 10).variance)


def test_stacked_estimates_keep_their_errors():
    a, b = run("sketch", dense("proper"), 10), run("sketch", dense("improper"), 40)
    both = stack([a, b], (2,))
    torch.testing.assert_close(both.variance_error, torch.stack([a.variance_error, b.variance_error]))
    assert both.n_samples == 10


@pytest.mark.parametrize(
    "options", [{}, {"n_samples": 0}, {"target_error": 0.0}, {"target_error": 2.0}, {"n_samples": 5, "batch_size": 0}]
)
def test_invalid_plans_are_refused(options):
    with pytest.raises(InputError, match="expected .*received"):
        Plan(**options)


def test_unknown_distribution_is_refused():
    with pytest.raises(InputError, match="phase, rademacher, gaussian"):
        estimators.sketch(dense("proper"), Plan(n_samples=2), distribution="real")
