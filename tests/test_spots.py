"""Spots: exact voxels, the spline between them, what certifies it, and maps for which it is not made."""

import math

import pytest
import torch

import mrnoise
from mrnoise import InputError, NoiseCovariance, estimators, noise_map
from mrnoise.closed_form import cg_sense_std, cg_sense_voxel_variance
from mrnoise.estimators import MonteCarlo, Plan, Spots, spots
from mrnoise.estimators.choice import auto
from mrnoise.estimators.key import Key
from mrnoise.estimators.polyharmonic import PolyharmonicSpline
from mrnoise.foreground import foreground
from mrnoise.linearization import image_of, linearize
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.result.noise_map import NoiseMap
from mrnoise.sampling import encoded_extent, equispaced, poisson_disc
from mrnoise.sampling.named_trajectories import sampling_trajectory
from mrnoise.simulation import simulate

SHAPE, VOLUME = (44, 36), (14, 20, 17)


def field(shape, seed, modes=24, width=0.7):
    """A smooth random function with variance 1: plane waves of some cycles a field of view."""
    g = torch.Generator().manual_seed(seed)
    place = torch.stack(torch.meshgrid(*(torch.linspace(-0.5, 0.5, n).double() for n in shape), indexing="ij"), -1)
    k = width * torch.randn(modes, len(shape), dtype=torch.float64, generator=g)
    phase = 2 * math.pi * torch.rand(modes, dtype=torch.float64, generator=g)
    return (2 * math.pi * place @ k.mT + phase).cos().sum(-1) * (2 / modes) ** 0.5


def ellipse(shape):
    place = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij"), -1)
    return place.square().sum(-1) < 0.8


class Diagonal:
    """L v = a v + b v̄ with smooth images a and b: variance |a|² + |b|², pseudo-variance 2ab."""

    noise_dtype = image_dtype = torch.complex128
    device = torch.device("cpu")

    def __init__(self, shape=SHAPE, seed=0, improper=False, rough=None, width=0.7):
        self.noise_shape = self.image_shape = shape
        self.complex_linear, self.calls = not improper, 0
        self.a = (0.3 * field(shape, 4 * seed, width=width)).exp() * torch.exp(1j * field(shape, 4 * seed + 1))
        if rough is not None:
            self.a = self.a * rough
        self.b = 0.3 * self.a.conj() * (0.2 * field(shape, 4 * seed + 2)).exp() * improper

    def apply(self, v):
        return self.a * v + self.b * v.conj()

    replicas = apply

    def adjoint(self, w):
        self.calls += len(w)
        return self.a.conj() * w + self.b * w.conj()

    @property
    def variance(self):
        return self.a.abs().square() + self.b.abs().square()

    @property
    def pseudo_variance(self):
        return 2 * self.a * self.b


def error(estimate, operator, inside):
    return float(((estimate.variance / operator.variance).sqrt() - 1)[inside].square().mean().sqrt())


# -- the spline --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_left_out_residuals_and_power_are_those_of_a_spline_without_the_point(dims):
    g = torch.Generator().manual_seed(dims)
    x, y = (40 * torch.rand(20, n, dtype=torch.float64, generator=g) for n in (dims, 2))
    spline = PolyharmonicSpline(x, y)
    for k in (0, 7, 19):
        others = torch.arange(20) != k
        values, power = PolyharmonicSpline(x[others], y[others])(x[k : k + 1])
        torch.testing.assert_close(spline.left_out[k], y[k] - values[0])
        # P² grows as a distance to the third power, in units of the extent of all points or of those without one.
        unit = [(p - p.mean(0)).abs().amax() for p in (x, x[others])]
        torch.testing.assert_close(spline.left_out_power[k] * unit[0] ** 3, power[0] * unit[1] ** 3)
    values, power = spline(x)
    torch.testing.assert_close(values, y)
    assert float(power.max()) < 1e-10


def test_the_power_function_bounds_what_the_spline_misses():
    """|f - s| ≤ P |f| in the norm of its space: a spline through more points is such an f, P of fewer the bound."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(60, 2, dtype=torch.float64, generator=g), torch.randn(60, 1, dtype=torch.float64, generator=g)
    ends = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)  # the same units for both
    x = torch.cat([ends, x])
    y = torch.cat([torch.zeros(2, 1, dtype=torch.float64), y])
    truth, spline = PolyharmonicSpline(x, y), PolyharmonicSpline(x[:20], y[:20])
    where = torch.rand(500, 2, dtype=torch.float64, generator=g)
    missed, power = (truth(where)[0] - spline(where)[0]).squeeze(1).abs(), spline(where)[1]
    ratio = missed / power.sqrt()
    # The norm is wᵀ y; both splines are centred and scaled a little differently.
    assert float(ratio.max()) < 1.5 * float((truth._weights[:62] * y).sum()) ** 0.5


# -- exact voxels ------------------------------------------------------------------------------------------------


SCAN = simulate((26, 22), 5, snr=30, seed=1)
DISC = SCAN.undersample(poisson_disc((26, 22), 3, 5, seed=1))
PSI = SCAN.noise_covariance


def partly_encoded():
    mask = DISC.mask.clone()
    mask[20:] = False
    grid = mrnoise.sampling.Grid(mask, extent=encoded_extent(mask))
    return SCAN.undersample(mask).replace(sampling=grid)


@pytest.mark.parametrize(
    "scan",
    [
        DISC,
        DISC.replace(noise_covariance=NoiseCovariance(7.0 * PSI.matrix)),
        DISC.replace(averages=3.0 * torch.ones(26, 22)),
        partly_encoded(),
        simulate((9, 12, 10), 4, seed=2, mask=torch.rand(9, 12, 10, generator=torch.Generator().manual_seed(1)) < 0.4),
        simulate((26, 22), 5, seed=1, trajectory=sampling_trajectory("radial", 2, (26, 22))),
    ],
    ids=["disc", "another Ψ", "averages", "extent", "volume", "radial"],
)
def test_the_closed_form_of_a_voxel_is_its_row(scan):
    """ψ (x_i - λ‖x‖²), the iteration stopped early: close to the row of L; C15 holds whatever Ψ."""
    (operator,) = linearize(CgSense(0.03), scan)
    g = torch.Generator().manual_seed(3)
    voxels = torch.stack([torch.randint(n, (6,), generator=g) for n in operator.image_shape], 1)
    found = cg_sense_voxel_variance(CgSense(0.03), scan)(voxels)
    flat = torch.arange(operator.value.numel()).reshape(operator.image_shape)[tuple(voxels.T)]
    truth = estimators.rows.voxel_moments(operator, flat)[0]
    torch.testing.assert_close(found.sqrt(), truth.sqrt(), rtol=3e-3, atol=0)


@pytest.mark.parametrize(
    ("reconstruction", "scan"),
    [
        (Sense(), DISC),
        (CgSense(0.0), DISC),
        (CgSense(0.03, iterations=5), DISC),
        (CgSense(0.03), DISC.replace(averages=1 + torch.rand(26, 22))),
        (CgSense(0.03), simulate((26, 22), 3, mask=equispaced((26, 22), 2, 20)).replace(coil_maps=None)),
    ],
    ids=["SENSE", "no λ", "stopped early", "averages that differ", "maps that follow the noise"],
)
def test_it_has_none_where_it_would_be_another(reconstruction, scan):
    assert cg_sense_voxel_variance(reconstruction, scan) is None


# -- what the map is worth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "target", "width"), [(SHAPE, 0.02, 0.7), (VOLUME, 0.04, 0.4)])
def test_error_keeps_below_the_certificate_and_intervals_cover(shape, target, width):
    """40 maps each: the certificate holds in 95 %, floor 3.4 %; 95 % intervals cover 93 to 97 % of the other voxels."""
    inside = ellipse(shape)
    kept, covered, n = [], [], []
    for seed in range(40):
        operator = Diagonal(shape, seed, width=width)
        found = spots(operator, Plan(target_error=target, region=inside), key=Key(seed))
        assert float(found.certified_error) <= target
        kept.append(error(found, operator, inside) <= float(found.certified_error))
        low, high = NoiseMap(operator.a, found).confidence_interval()
        sigma, guessed = operator.variance.sqrt(), inside & (found.variance_error > 0)
        covered.append(float(((low <= sigma) & (sigma <= high))[guessed].double().mean()))
        n.append(found.n_samples)
    assert sum(kept) >= 0.95 * 40 - 2
    assert 0.93 <= sum(covered) / 40 <= 0.97
    assert max(n) < 0.25 / target**2


@pytest.mark.parametrize(("name", "shape"), [("radial", (48, 44)), ("spiral", (46, 50))])
def test_along_trajectories_intervals_cover(name, shape):
    """The dense σ of CG-SENSE, 25 sets of draws: 95 % intervals cover 93 to 97 % of what is interpolated."""
    scan = simulate(shape, 8, snr=50, seed=1, trajectory=sampling_trajectory(name, 2, shape))
    inside, operator = foreground(image_of(CgSense(0.01), scan)), Diagonal(shape)
    operator.a = cg_sense_std(scan, 0.01).to(torch.complex128)
    covered, kept = [], []
    for seed in range(25):
        found = spots(operator, Plan(target_error=0.01, region=inside), key=Key(seed))
        kept.append(error(found, operator, inside) <= float(found.certified_error) <= 0.01)
        low, high = NoiseMap(operator.a, found).confidence_interval()
        sigma, guessed = operator.variance.sqrt(), inside & (found.variance_error > 0)
        covered.append(float(((low <= sigma) & (sigma <= high))[guessed].double().mean()))
    assert sum(kept) >= 23
    floor = float(torch.tensor(covered).std()) / 5
    assert floor < 0.01 and 0.93 - floor <= sum(covered) / 25 <= 0.97 + floor


def test_components_of_improper_noise_come_from_the_same_rows():
    """Magnitude, phase, real: two rows a voxel; intervals of each cover. Floor of the mean over 25 maps: 0.8 %."""
    inside, covered = ellipse(SHAPE), {"magnitude_std": [], "phase_std": [], "real_std": []}
    for seed in range(25):
        operator = Diagonal(seed=seed, improper=True)
        found = spots(operator, Plan(target_error=0.02, region=inside), key=Key(seed))
        assert operator.calls == found.n_products == 2 * found.n_samples
        image = torch.exp(0.5j * field(SHAPE, seed))
        exact = estimators.Estimate(operator.variance, operator.pseudo_variance, estimators.NoError(), "exact", 1, 1)
        truth, nm = NoiseMap(image, exact), NoiseMap(image, found)
        guessed = inside & (found.variance_error > 0)
        for quantity, values in covered.items():
            low, high = nm.confidence_interval(0.95, quantity)
            wanted = truth.quantity(quantity)
            assert float((nm.quantity(quantity) / wanted - 1)[inside].square().mean()) < 0.05**2
            values.append(float(((low <= wanted) & (wanted <= high))[guessed].double().mean()))
    for quantity, values in covered.items():
        assert 0.92 <= sum(values) / 25 <= 0.985, quantity


def test_exact_voxels_are_exact_and_outside_is_not_known():
    inside, operator = ellipse(SHAPE), Diagonal()
    found = spots(operator, Plan(n_samples=60, region=inside))
    known = found.variance_error == 0
    assert 50 <= int(known.sum()) == found.n_samples <= 60 and found.certified_error is None
    torch.testing.assert_close(found.variance[known], operator.variance[known])
    assert bool(found.variance[~inside].isnan().all()) and bool(found.variance_error[~inside].isnan().all())
    again = spots(operator, Plan(n_samples=60, region=inside, batch_size=7))
    assert torch.equal(again.variance[inside], found.variance[inside])
    other = spots(operator, Plan(n_samples=60, region=inside), key=Key(1))
    assert not torch.equal(other.variance[inside], found.variance[inside])


def test_small_objects_are_done_voxel_by_voxel():
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[20:25, 10:16] = True
    operator = Diagonal(rough=torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)).double())
    found = spots(operator, Plan(target_error=0.01, region=inside))
    assert found.n_samples == 30 and float(found.certified_error) == 0 == float(found.variance_error[inside].max())
    for few in ([(5, 5)], [(5, 5), (5, 6), (9, 1)], [(7, i) for i in range(30)]):
        inside = torch.zeros(SHAPE, dtype=torch.bool)
        inside[tuple(torch.tensor(few).T)] = True
        found = spots(operator, Plan(target_error=0.01, region=inside))
        torch.testing.assert_close(found.variance[inside], operator.variance[inside])
        assert float(found.certified_error) == 0


# -- what is not smooth ------------------------------------------------------------------------------------------


def steps(size):
    """An edge as aliases have them."""
    rough = torch.ones(SHAPE, dtype=torch.float64)
    rough[:, 14:27] = 1 + size
    return rough


def hole(depth, radius=4):
    y, x = (torch.arange(n) for n in SHAPE)
    return 1 - depth * ((y[:, None] - 20).square() + (x - 17).square() <= radius**2).double()


@pytest.mark.parametrize("rough", [steps(0.3), steps(0.8), hole(0.7), hole(1.0)])
def test_a_rough_map_is_found_out_or_told_right(rough):
    """Over 20 seeds: refused for 3 % and fewer voxels than replicas, or made to 3 % all the same."""
    inside, refused = ellipse(SHAPE), 0
    for seed in range(20):
        operator = Diagonal(seed=seed, rough=rough)
        found = spots(operator, Plan(target_error=0.03, region=inside), key=Key(seed))
        certified = float(found.certified_error) <= 0.03
        refused += not certified
        assert not certified or error(found, operator, inside) <= 0.04
    assert refused >= 18


def test_without_its_check_a_rough_map_would_pass():
    """The checker must fail: fewer spots than tell an edge say nothing of it where they are not checked."""
    operator, inside = Diagonal(rough=steps(0.3)), ellipse(SHAPE)
    assert error(spots(operator, Plan(n_samples=80, region=inside)), operator, inside) > 0.03


FULL = simulate((36, 30), 6, snr=40, seed=1)
SMOOTH = FULL.undersample(poisson_disc((36, 30), 3, 6, seed=1))
LINES = FULL.undersample(equispaced((36, 30), 3))


@pytest.fixture
def no_dense_closed_form(monkeypatch):
    """As for images of many voxels."""
    monkeypatch.setattr(auto, "MOST_VOXELS", 0)


def with_a_hole():
    y, x = (torch.arange(n) for n in (36, 30))
    return SMOOTH.replace(coil_maps=SMOOTH.coil_maps * ((y[:, None] - 16).square() + (x - 15).square() > 16))


def test_auto_takes_spots_and_says_why(no_dense_closed_form):
    nm = noise_map(CgSense(0.02), SMOOTH, target_error=0.03, seed=2)
    assert nm.method == "spots" and "σ is smooth" in nm.provenance.why and nm.linearity.verdict == "linear"
    assert nm.certified_error <= 0.03 and nm.n_samples < 150
    inside = foreground(nm.image)
    truth = cg_sense_std(SMOOTH, 0.02)
    assert float((nm.std / truth - 1)[inside].square().mean().sqrt()) <= nm.certified_error
    assert torch.equal(~nm.std.isnan(), inside)


def test_auto_falls_back_on_a_metal_like_hole_and_keeps_what_is_exact(no_dense_closed_form):
    scan = with_a_hole()
    nm = noise_map(CgSense(0.02), scan, target_error=0.04)
    assert nm.method == "monte_carlo" and "not smooth" in nm.provenance.why and nm.certified_error <= 0.04
    truth = cg_sense_std(scan, 0.02)
    exact = ((nm.std / truth - 1).abs() < 0.1 * 0.04)[foreground(nm.image) & (truth > 0)]
    assert int(exact.sum()) > 0.08 * len(exact) + 15  # of samples 8 % are as near by chance


UNFOLDED = Sense().bind(LINES)


def mixed(kspace):
    """A linear reconstruction whose alias sets are not apart."""
    x = UNFOLDED(kspace)
    return x + 0.5 * x.roll(1, -2) + 0.3 * x.roll(5, -1)


def test_auto_falls_back_where_aliases_have_edges():
    nm = noise_map(mixed, LINES, target_error=0.04)
    assert nm.method != "spots" and "not smooth" in nm.provenance.why and nm.certified_error <= 0.04
    with pytest.raises(InputError, match=r"not smooth.*received none after"):
        noise_map(mixed, LINES, method="spots", target_error=0.04)


def test_a_slice_that_is_not_smooth_is_done_by_samples():
    both = simulate((30, 26), 6, snr=40, n_slices=2, seed=1).undersample(poisson_disc((30, 26), 3, 6, seed=1))
    maps = both.coil_maps.clone()
    maps[1, :, 10:17, 9:14] = 0
    nm = noise_map(CgSense(0.02), both.replace(coil_maps=maps), method=Spots(MonteCarlo()), target_error=0.04)
    error_of = nm.relative_error
    inside = foreground(nm.image)
    assert float(error_of[0][inside[0]].min()) == 0 and float(error_of[1][inside[1]].nan_to_num(1).min()) > 0.01


# -- around it ---------------------------------------------------------------------------------------------------


def test_a_wrong_shortcut_is_not_believed():
    inside, operator = ellipse(SHAPE), Diagonal()

    def variance(voxels):
        return 2 * operator.variance[tuple(voxels.T)]

    plan = Plan(target_error=0.03, region=inside)
    found = spots(operator, plan, shortcuts=lambda error: variance)
    assert error(found, operator, inside) < 0.03 and operator.calls == found.n_products
    calls = operator.calls
    right = spots(operator, plan, shortcuts=lambda error: lambda v: variance(v) / 2)
    assert operator.calls == calls + 1  # the row that it is compared with
    torch.testing.assert_close(right.variance, found.variance, equal_nan=True)


def test_a_shortcut_that_is_not_exact_enough_is_asked_for_more():
    inside, operator, asked = ellipse(SHAPE), Diagonal(), []

    def less_wrong(error):
        asked.append(error)
        return lambda voxels: (1 + 50 * error) * operator.variance[tuple(voxels.T)]

    found = spots(operator, Plan(target_error=0.03, region=inside), shortcuts=less_wrong)
    assert asked == [0.003, 0.003 / 4, 0.003 / 16] and operator.calls == 1
    assert error(found, operator, inside) < 0.03


def test_interrupted_it_says_what_it_has():
    operator, inside, told = Diagonal(), ellipse(SHAPE), []

    class Stopped(Diagonal):
        def adjoint(self, w):
            if self.calls > 40:
                raise KeyboardInterrupt
            return super().adjoint(w)

    found = spots(Stopped(), Plan(target_error=0.001, region=inside, batch_size=4))
    assert found.interrupted and found.n_samples == 36 and error(found, operator, inside) < 0.2
    Stopped.calls = 0
    spots(operator, Plan(target_error=0.03, region=inside, progress=lambda *now: told.append(now)))
    assert told and told[-1][2] <= 0.03


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="too few spots"):
        spots(Diagonal(), Plan(n_samples=5))
    with pytest.raises(InputError, match="slices and volumes"):
        spots(Diagonal((3, 4, 5, 6)), Plan(n_samples=50))


def test_a_map_with_air_that_is_not_known_is_kept(tmp_path):
    scan = simulate((30, 26), 5, snr=30, mask=poisson_disc((30, 26), 3, 6, seed=1), seed=1)
    nm = noise_map(CgSense(0.02), scan, method="spots", target_error=0.05)
    for suffix in (".h5", ".nii.gz", ".png", ".html"):
        mrnoise.save(nm, tmp_path / f"map{suffix}")
    back = mrnoise.read_noise_map(tmp_path / "map.h5")
    torch.testing.assert_close(back.std, nm.std, equal_nan=True)
    assert back.method == "spots" and back.certified_error == nm.certified_error
    low, high = back.confidence_interval()
    inside = foreground(nm.image)
    assert bool((low <= back.std)[inside].all() and (back.std <= high)[inside].all())
