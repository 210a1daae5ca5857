"""Previews: better than the map they come from, as good as they say, and none where smoothing does harm."""

import dataclasses
import json

import pytest
import torch

import mrnoise
import test_control_variate as controlled
from mrnoise import InputError, estimators, noise_map, read_noise_map
from mrnoise.estimators import Plan, Sketch
from mrnoise.estimators.estimate import stack, unstack
from mrnoise.estimators.key import Key
from mrnoise.fourier import to_image, to_kspace
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.result.preview import _inside, _smoother, sentence
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate
from test_estimators import dense

SHAPE, S, SEEDS = (64, 56), 16, 10
ACQ = simulate(SHAPE, 6, snr=40, seed=1).undersample(equispaced(SHAPE, 2))
TRUTH = noise_map(Sense(), ACQ, method="exact").std
SMOOTH = (
    torch.hann_window(SHAPE[0] + 2, periodic=False)[1:-1, None] * torch.hann_window(SHAPE[1] + 2, periodic=False)[1:-1]
)


def white(kspace):
    return Sense().bind(ACQ)(kspace)


def apodised(kspace):
    """The same image at a lower resolution: the noise of neighbours is correlated."""
    return to_image(SMOOTH * to_kspace(white(kspace)))


def sampled(function, n=S, seed=0, **options):
    return noise_map(function, ACQ, method="sketch", n_samples=n, seed=seed, **options)


def error(nm, truth, inside):
    return float((nm.std / truth - 1)[inside].square().mean().sqrt())


def inside_of(nm):
    """What a preview changes."""
    return mrnoise.preview(nm).std != nm.std


@pytest.fixture(scope="module")
def maps():
    found = {}
    for function in (white, apodised):
        raw = [sampled(function, seed=seed) for seed in range(SEEDS)]
        found[function] = raw, [mrnoise.preview(nm) for nm in raw]
    return found


@pytest.fixture(scope="module")
def truths():
    # 2000 samples: an error of 1.1 %, small beside the 4 to 5 % of the previews.
    return {white: TRUTH, apodised: sampled(apodised, 2000, seed=99).std}


@pytest.mark.parametrize("function", [white, apodised])
def test_better_than_the_map_and_as_good_as_predicted(function, maps, truths):
    """Floor: the prediction scatters by a quarter in an image of 1700 voxels, its mean over 10 seeds by 8 %."""
    raw, previews = maps[function]
    truth, inside = truths[function], inside_of(raw[0])
    before, after = ([error(nm, truth, inside) for nm in some] for some in (raw, previews))
    assert max(after) < 0.6 * min(before)
    predicted = torch.tensor([nm.provenance.preview["predicted_error"] for nm in previews])
    ratio = float(predicted.square().mean().sqrt()) / float(torch.tensor(after).square().mean().sqrt())
    assert 0.8 < ratio < 1.2
    without = torch.tensor([nm.provenance.preview["error_without"] for nm in previews])
    assert float(without.mean()) == pytest.approx(sum(before) / SEEDS, rel=0.08)
    for nm in previews:
        record = nm.provenance.preview
        assert record["predicted_gain"] == pytest.approx(record["error_without"] / record["predicted_error"])


def test_a_risk_that_takes_errors_for_white_is_wrong_where_they_are_not(maps, truths):
    """The mistake that the estimate avoids: Stein's formula with σ⁴/S on the diagonal promises the impossible."""
    raw, previews = maps[apodised]
    nm, record = raw[0], previews[0].provenance.preview
    kernel = record["width_voxels"], record["twice"]
    inside = _inside(nm)
    smooth = _smoother(inside, 2)
    variance = nm.variance.numpy()
    smoothed, reference = smooth(variance, *kernel), smooth(variance, 1.0)
    point = torch.zeros(SHAPE, dtype=torch.float64)
    point[SHAPE[0] // 2, SHAPE[1] // 2] = 1
    own = smooth(point.numpy(), *kernel).max()  # H_ii, away from the edge
    stein = (((variance - smoothed) / reference)[inside] ** 2).mean() + (2 * own - 1) / S
    true = 4 * error(previews[0], truths[apodised], torch.from_numpy(inside)) ** 2
    assert stein < 0.2 * true


@pytest.mark.parametrize("function", [white, apodised])
def test_variance_is_not_biased(function, maps, truths):
    """Mean over voxels and seeds of σ² / truth. Floor: 1 % of sampling, 2 % of blur where σ is curved; √2 is far."""
    raw, previews = maps[function]
    inside = inside_of(raw[0])
    ratio = torch.stack([nm.variance for nm in previews]).mean(0) / truths[function].square()
    assert abs(float(ratio[inside].mean()) - 1) < 0.03
    # The mean of logarithms would have been low by 1/2S = 3 % in addition.
    total = torch.stack([nm.variance for nm in previews]).mean(0)[inside].sum()
    assert float(total / torch.stack([nm.variance for nm in raw]).mean(0)[inside].sum()) == pytest.approx(1, abs=0.01)


def test_pixel_wise_structure_is_left_alone():
    """σ three times as large in every other voxel."""
    board = 1 + 2 * ((torch.arange(SHAPE[0])[:, None] + torch.arange(SHAPE[1])) % 2)

    def checked(kspace):
        # The image itself stays smooth: only what noise adds to it is uneven.
        return white(ACQ.kspace) + board * white(kspace - ACQ.kspace)

    for seed in range(4):
        nm = sampled(checked, seed=seed)
        same = mrnoise.preview(nm)
        assert same.provenance.preview["width_voxels"] == 0
        assert same.provenance.preview["predicted_gain"] == 1
        assert "not smoothed" in sentence(same.provenance.preview)
        assert same.estimate is nm.estimate
        assert dataclasses.replace(same.provenance, preview=None) == nm.provenance


def test_components_are_smoothed_in_the_frame_of_their_voxel():
    """Noise along the phase only: the preview keeps it there, although the phase turns by 2π over the image."""
    turning = torch.exp(1j * torch.linspace(0, 6.28, SHAPE[1]))
    image = white(ACQ.kspace).abs() * turning

    def real(kspace):
        return image + turning * white(kspace - ACQ.kspace).real

    smooth = mrnoise.preview(sampled(real))
    assert smooth.provenance.preview["width_voxels"] > 0
    inside = inside_of(sampled(real))
    across = smooth.phase_std * image.abs()
    assert float((across / smooth.std)[inside].max()) < 1e-3
    torch.testing.assert_close(smooth.magnitude_std[inside], smooth.std[inside])


def check_error_sample(variance, sample):
    """Mean 0, the covariance of the variance, uncorrelated with it, over seeds; its variances."""
    seeds = len(sample)
    true, found = torch.cov(variance.T), torch.cov(sample.T)
    scale = (true.diagonal()[:, None] * true.diagonal()).sqrt()
    assert float(((found - true) / scale).square().mean().sqrt()) < 2 * seeds**-0.5
    assert float((found.diagonal() / true.diagonal()).mean()) == pytest.approx(1, abs=0.08)
    assert float((sample.mean(0) / true.diagonal().sqrt()).square().mean().sqrt()) < 2 * seeds**-0.5
    cross = (variance - variance.mean(0)).T @ sample / seeds
    assert float((cross / scale).square().mean().sqrt()) < 2 * seeds**-0.5
    return found.diagonal()


@pytest.mark.parametrize("kind", ["proper", "improper", "real"])
@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
@pytest.mark.parametrize("n", [9, 16])
def test_the_error_sample_is_a_sample_of_the_error(method, kind, n):
    """Mean 0, the covariance of the variance, uncorrelated with it. Floor over 400 seeds: 5 % of a covariance.

    Replicas of these operators have a bias of 3, which adds to it.
    """
    operator, seeds = dense(kind), 400
    results = [getattr(estimators, method)(operator, Plan(n_samples=n), key=Key(seed)) for seed in range(seeds)]
    variance, sample = (torch.stack([getattr(r, k) for r in results]).flatten(1) for k in ("variance", "error_sample"))
    bias = 3.0 if method == "monte_carlo" else 0.0
    v, p = operator.variance.flatten(), operator.pseudo_variance.flatten()
    larger = 1 + 2 * bias**2 * (v + p.real) / (v.square() + p.abs().square())
    sample = sample / larger.sqrt()
    check_error_sample(variance, sample)


@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
@pytest.mark.parametrize("n", [13, 16])
def test_with_control_variates_it_is_a_sample_of_what_they_leave(method, n):
    """The same, floor 5 % of a covariance; the error is less than half of that without, which would fail it."""
    operator, seeds = controlled.OPERATORS["improper"], 400
    some = controlled.DenseFeatures(controlled.F)
    results = [
        getattr(estimators, method)(operator, Plan(n_samples=n), key=Key(s), features=some) for s in range(seeds)
    ]
    variance, sample = (torch.stack([getattr(r, k) for r in results]).flatten(1) for k in ("variance", "error_sample"))
    found = check_error_sample(variance, sample)
    v, p = operator.variance.flatten(), operator.pseudo_variance.flatten()
    without = (v.square() + p.abs().square()) / (n if method == "sketch" else n - 1)
    assert float((found / without).mean()) < 0.5


def test_with_control_variates_the_preview_is_better_and_knows_it():
    """Against previews of as many plain samples; the prediction of 6 seeds is known to a tenth."""
    scan = simulate((48, 40), 6, snr=40, seed=1).undersample(equispaced((48, 40), 3, 8))
    truth = noise_map(CgSense(0.02), scan, method="exact").std
    errors, predicted = {}, []
    for on in (False, True):
        raw = [noise_map(CgSense(0.02), scan, method=Sketch(control_variate=on), n_samples=S, seed=s) for s in range(6)]
        inside = torch.from_numpy(_inside(raw[0]))
        previews = [mrnoise.preview(nm) for nm in raw]
        errors[on] = [
            torch.tensor([error(nm, truth, inside) for nm in some]).square().mean().sqrt() for some in (raw, previews)
        ]
    predicted = torch.tensor([nm.provenance.preview["predicted_error"] for nm in previews]).square().mean().sqrt()
    assert float(errors[True][1]) < 0.8 * min(float(errors[True][0]), float(errors[False][1]))
    assert 0.75 < float(predicted / errors[True][1]) < 1.25


@pytest.mark.parametrize("method", ["sketch", "monte_carlo"])
def test_batches_resumption_and_files_keep_the_error_sample(method, tmp_path):
    whole = noise_map(Sense(), ACQ, method=method, n_samples=15)
    batched = noise_map(Sense(), ACQ, method=method, n_samples=15, batch_size=4)
    part = noise_map(Sense(), ACQ, method=method, n_samples=7)
    mrnoise.save(part, tmp_path / "part.h5")
    resumed = noise_map(Sense(), ACQ, method=method, n_samples=15, resume=read_noise_map(tmp_path / "part.h5"))
    for other in (batched, resumed):
        torch.testing.assert_close(other.estimate.error_sample, whole.estimate.error_sample, rtol=1e-4, atol=1e-9)
    again = unstack(stack([whole.estimate, part.estimate], (2,)), 1)
    torch.testing.assert_close(again[1].error_sample, part.estimate.error_sample)


def test_slices_are_smoothed_one_by_one_and_say_so_in_every_format(tmp_path):
    shape = (24, 30)
    stacked = simulate(shape, 4, n_slices=3, snr=40, seed=1).undersample(equispaced(shape, 2))
    nm = noise_map(Sense(), stacked, method="sketch", n_samples=8)
    smooth = mrnoise.preview(nm)
    width, twice = (smooth.provenance.preview[name] for name in ("width_voxels", "twice"))
    assert width > 0
    changed = nm.variance.clone()
    changed[1] *= 100
    one = _smoother(_inside(nm), 2)(changed.numpy(), width, twice)
    torch.testing.assert_close(torch.from_numpy(one[0]), smooth.variance[0])
    assert bool(smooth.relative_error.isnan().all())
    assert all(bool(bound.isnan().all()) for bound in smooth.confidence_interval())
    for name in ("out.h5", "out.html", "out.png", "out.nii.gz"):
        mrnoise.save(smooth, tmp_path / name)
    assert (
        "Preview." in (tmp_path / "out.html").read_text()
        and "predicted to be wrong" in (tmp_path / "out.html").read_text()
    )
    back = read_noise_map(tmp_path / "out.h5")
    torch.testing.assert_close(back.std, smooth.std)
    assert back.provenance.preview == json.loads(json.dumps(smooth.provenance.preview))
    with pytest.raises(InputError, match="sketch or monte_carlo"):
        noise_map(Sense(), stacked, method="sketch", n_samples=20, resume=smooth)


def test_where_there_is_no_preview():
    for n in (1, 31):
        with pytest.raises(InputError, match="S ≤ 30"):
            mrnoise.preview(sampled(white, n))
    with pytest.raises(InputError, match="sketch or monte_carlo"):
        mrnoise.preview(noise_map(Sense(), ACQ, method="lattice", n_samples=2))
    with pytest.raises(InputError, match="sketch or monte_carlo"):
        mrnoise.preview(mrnoise.preview(sampled(white)))
