"""The result and the function that makes it: slices, callables, crops, interruption, comparison."""

import pytest
import torch

import mrnoise
from mrnoise import InputError, noise_map
from mrnoise.closed_form import sense_std
from mrnoise.estimators import Sketch
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.result.quantities import QUANTITIES
from mrnoise.result.ratio import compare
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE = (12, 20)
STACK = simulate(SHAPE, 4, n_slices=3, snr=40, seed=1).undersample(equispaced(SHAPE, 2))
ONE = next(iter(STACK.slices()))


def test_slices_are_mapped_one_by_one():
    nm = noise_map(Sense(), STACK, method="exact")
    assert nm.image.shape == nm.std.shape == (3, *SHAPE)
    torch.testing.assert_close(nm.std, sense_std(STACK), rtol=1e-4, atol=0)
    sketched = noise_map(Sense(), STACK, method="sketch", n_samples=9)
    alone = noise_map(Sense(), ONE, method="sketch", n_samples=9)
    torch.testing.assert_close(sketched.std[0], alone.std)
    assert sketched.n_products == 27
    assert float((sketched.std[0] / sketched.std[1] - 1).abs().max()) > 0


def test_batch_size_does_not_change_the_map():
    a = noise_map(CgSense(0.01), ONE, n_samples=10, batch_size=1)
    b = noise_map(CgSense(0.01), ONE, n_samples=10, batch_size=7)
    torch.testing.assert_close(a.std, b.std, rtol=1e-5, atol=0)
    assert a.provenance.input["sha256"] == b.provenance.input["sha256"]


def test_any_callable_gets_all_axes():
    function = Sense().bind(STACK)
    nm = noise_map(function, STACK, method="sketch", n_samples=200)
    assert float((nm.std / sense_std(STACK) - 1).square().mean().sqrt()) < 1.3 / (4 * 200) ** 0.5


def test_a_cropping_reconstruction_keeps_its_place():
    from mrnoise import Geometry

    affine = torch.diag(torch.tensor([2.0, 3.0, 5.0, 1.0])).numpy()
    acq = ONE.replace(geometry=Geometry((5, 3, 2), affine))
    whole = Sense().bind(acq)
    nm = noise_map(lambda k: whole(k)[2:10, 5:15], acq, n_samples=3)
    assert nm.image.shape == (8, 10)
    assert list(nm.geometry.affine[:3, 3]) == [10, 6, 0]
    assert nm.g_factor is None


def test_target_error_is_met_inside_the_object():
    nm = noise_map(Sense(), ONE, method="sketch", target_error=0.05)
    # 1/(2√S) = 0.05 at S = 100; to certify it for the 120 or so voxels of the object takes up to half more.
    assert 100 < nm.n_samples <= 150
    assert nm.certified_error == float(nm.estimate.certified_error) <= 0.05
    truth = sense_std(ONE)
    assert float((nm.std / truth - 1).square().mean().sqrt()) < 0.05


def test_every_quantity_has_unit_definition_and_shape():
    nm = noise_map(Sense(), ONE, n_samples=20)
    for name, one in QUANTITIES.items():
        unit, definition = one.unit, one.definition
        value = nm.quantity(name)
        # A first-order map has no bias.
        assert (value is None) == (name in ("bias", "bias_error"))
        assert (value is None or value.shape == SHAPE) and unit and definition
    torch.testing.assert_close(nm.snr, nm.image.abs().double() / nm.magnitude_std)
    for quantity in (name for name, one in QUANTITIES.items() if one.component):
        low, high = nm.confidence_interval(0.9, quantity)
        value = nm.quantity(quantity)
        assert bool(((low < value) & (value < high)).all()), quantity
    narrow, wide = nm.confidence_interval(0.5), nm.confidence_interval(0.99)
    assert bool((wide[0] < narrow[0]).all() and (narrow[1] < wide[1]).all())


def test_interruption_keeps_whole_slices_and_the_part():
    def interrupt(image, n_images, done, total, error):
        assert n_images == 3
        if image == 1 and done >= 8:
            raise KeyboardInterrupt

    nm = noise_map(Sense(), STACK, method="sketch", n_samples=40, batch_size=4, progress=interrupt)
    assert nm.interrupted and nm.estimate.interrupted
    complete = noise_map(Sense(), STACK, method="sketch", n_samples=40)
    torch.testing.assert_close(nm.std[0], complete.std[0])
    assert bool(torch.isfinite(nm.std[1]).all()) and bool(torch.isnan(nm.std[2]).all())
    assert float((nm.relative_error[1] / nm.relative_error[0]).mean()) == pytest.approx(5**0.5, rel=0.05)


@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
def test_resumed_run_is_the_uninterrupted_one(method, tmp_path):
    def interrupt(image, n_images, done, total, error):
        if image == 1 and done >= 8:
            raise KeyboardInterrupt

    options = {"method": method, "n_samples": 20, "batch_size": 4, "seed": 6}
    mrnoise.save(noise_map(Sense(), STACK, **options, progress=interrupt), tmp_path / "part.h5")
    part = mrnoise.read_noise_map(tmp_path / "part.h5")
    calls = []
    resumed = noise_map(
        Sense(), STACK, **options, progress=lambda i, n, done, t, e: calls.append((i, done)), resume=part
    )
    complete = noise_map(Sense(), STACK, **options)
    assert torch.equal(resumed.variance, complete.variance)
    assert torch.equal(resumed.estimate.pseudo_variance, complete.estimate.pseudo_variance)
    assert torch.equal(resumed.relative_error, complete.relative_error)
    assert not resumed.interrupted
    assert (0, 4) not in calls  # the first slice was complete
    assert (1, 8) not in calls
    assert (1, 12) in calls
    # Going on to more probes is the same thing.
    more = noise_map(
        Sense(), ONE, method=method, n_samples=30, resume=noise_map(Sense(), ONE, method=method, n_samples=7)
    )
    torch.testing.assert_close(more.variance, noise_map(Sense(), ONE, method=method, n_samples=30).variance)


def test_resuming_something_else_is_refused():
    part = noise_map(Sense(), ONE, method="sketch", n_samples=5, seed=1)
    for changed in (
        {"seed": 2},
        {"method": "monte_carlo", "seed": 1},
        {"method": Sketch("gaussian"), "seed": 1},
    ):
        with pytest.raises(InputError, match="cannot go on from this map"):
            noise_map(Sense(), ONE, n_samples=9, resume=part, **changed)
    with pytest.raises(InputError, match="input sha256"):
        noise_map(Sense(), ONE.replace(kspace=2 * ONE.kspace), n_samples=9, seed=1, resume=part)
    with pytest.raises(InputError, match="reconstruction"):
        noise_map(Sense(0.1), ONE, n_samples=9, seed=1, resume=part)
    with pytest.raises(InputError, match="by sketch or monte_carlo"):
        noise_map(Sense(), ONE, resume=noise_map(Sense(), ONE, method="probe", n_samples=9))


def test_provenance_tells_the_whole_story():
    nm = noise_map(Sense(), ONE, n_samples=5, seed=3)
    p = nm.provenance
    assert nm.method == "lattice" and "alias sets" in p.why and p.seed == 3
    why = noise_map(lambda k: k.sum(-3).abs(), ONE, n_samples=5).provenance.why
    assert "preflight" in why
    assert p.preflight["mode"] == "vmap(J t = g(t))" and all(c["passed"] for c in p.preflight["checks"])
    assert p.versions["torch"] == torch.__version__
    assert p.noise_covariance["condition_number"] > 1
    assert p.sampling["acceleration"] == pytest.approx(2)
    changed = ONE.replace(kspace=1.001 * ONE.kspace)
    for other in (changed, ONE.replace(coil_maps=1.001 * ONE.coil_maps), ONE.replace(averages=2 * torch.ones(SHAPE))):
        assert noise_map(Sense(), other, n_samples=5).provenance.input["sha256"] != p.input["sha256"]


def test_comparison_of_two_maps():
    a = noise_map(Sense(), ONE, method="sketch", n_samples=100, seed=0)
    b = noise_map(Sense(), ONE, method="sketch", n_samples=300, seed=1)
    mask = torch.ones(SHAPE, dtype=torch.bool)
    found = compare(a, b, mask)
    expected = (1 / 400 + 1 / 1200) ** 0.5
    sigma = b.std
    assert found.floor == pytest.approx(expected, rel=0.02)
    assert 0.8 < found.nrmse / found.floor < 1.25
    assert found.ratio == pytest.approx(1, abs=0.02)
    assert found.correlation > 0.9
    direct = float((a.std - sigma).square().mean().sqrt() / sigma.max())
    assert found.paper_nrmse == pytest.approx(direct)
    # A map that is √2 too large must stand out.
    twice = ONE.replace(noise_covariance=ONE.noise_covariance.scaled(2.0, "mistake"))
    wrong = noise_map(Sense(), twice, method="sketch", n_samples=100)
    off = compare(wrong, b, mask)
    assert off.nrmse > 5 * off.floor and off.ratio == pytest.approx(2**0.5, rel=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda nm: nm.confidence_interval(1.0), "invalid confidence level"),
        (lambda nm: nm.confidence_interval(0.9, "image"), "no interval"),
        (lambda nm: nm.quantity("sigma"), "unknown quantity"),
        (lambda nm: compare(nm, nm, torch.zeros(SHAPE)), "nothing to compare"),
        (lambda nm: compare(nm, nm, torch.ones(20, 12)), r"mask does not fit.*\(12, 20\).*\(20, 12\)"),
        (lambda nm: compare(nm, noise_map(Sense(), STACK, n_samples=2), torch.ones(SHAPE)), "differ in shape"),
    ],
)
def test_bad_requests_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make(noise_map(Sense(), ONE, n_samples=2))


def test_no_g_factor_without_coil_maps():
    nm = noise_map(lambda k: k.sum(0), ONE.replace(coil_maps=None), n_samples=2)
    assert nm.g_factor is None
    with pytest.raises(InputError, match="no g-factor"):
        nm.confidence_interval(0.9, "g_factor")


def test_public_names():
    assert sorted(mrnoise.__all__) == [
        "Acquisition",
        "CoilSketch",
        "GFactor",
        "Geometry",
        "InputError",
        "NoiseCovariance",
        "NoiseMap",
        "acquisition",
        "calibration",
        "choose",
        "closed_form",
        "coil_sketch",
        "estimators",
        "export",
        "figures",
        "g_factor",
        "io",
        "measurement",
        "networks",
        "noise_map",
        "preview",
        "progress_bar",
        "ranking",
        "read",
        "read_noise_map",
        "reconstruction",
        "roi_std",
        "sampling",
        "save",
        "simulation",
        "training",
    ]
    for name in mrnoise.__all__:
        assert getattr(mrnoise, name) is not None
    assert mrnoise.estimators.names() == (
        "auto",
        "monte_carlo",
        "nonlinear",
        "sketch",
        "probe",
        "coloured",
        "lattice",
        "spots",
        "exact",
        "closed_form",
    )
