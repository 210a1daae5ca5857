"""Rankings against closed forms, and what they say where nothing is decided."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from matplotlib.text import Text

from mrnoise import InputError, noise_map, roi_std
from mrnoise.encoding import resample
from mrnoise.figures.rankings import network_figure, pattern_figure
from mrnoise.linearization import image_of
from mrnoise.metrics import psnr
from mrnoise.ranking import Uncertain, equal_psnr, rank_networks, rank_patterns, ranks, undecided
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.sampling import caipi, equispaced, readout_mask, sampling_mask, sampling_trajectory
from mrnoise.simulation import simulate

SHAPE = (24, 20)
ACQ = simulate(SHAPE, 6, snr=60, seed=1)
ROI = torch.zeros(SHAPE, dtype=torch.bool)
ROI[8:17, 6:14] = True


def number(low, high):
    return Uncertain(0.5 * (low + high), 0.1, (low, high))


# -- order -----------------------------------------------------------------------------------------------------


def test_interval_of_repetitions_is_that_of_student():
    found = Uncertain.repeated([1.0, 2.0, 4.0, 5.0])
    # s = √(10/3), standard error s/2; t of three degrees of freedom at 97.5 % is 3.1824.
    assert (found.value, found.error) == (3.0, pytest.approx(0.912871))
    assert found.interval == pytest.approx((3 - 3.18245 * 0.912871, 3 + 3.18245 * 0.912871), rel=1e-4)
    assert Uncertain.exact(2.5).interval == (2.5, 2.5)


def test_interval_covers_the_mean():
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(2000, 4, generator=g, dtype=torch.float64)
    covered = sum(low <= 0 <= high for low, high in (Uncertain.repeated(d.tolist()).interval for d in draws)) / 2000
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors; with s too small by √2 it is 0.89


def test_overlapping_intervals_share_a_rank_and_are_named():
    numbers = [number(1, 2), number(1.9, 3), number(2.5, 4), number(5, 6)]
    assert ranks(numbers) == [1, 1, 2, 4]
    assert ranks(numbers, largest_first=True) == [3, 2, 2, 1]
    assert undecided("abcd", numbers) == [("a", "b"), ("b", "c")]
    apart = [Uncertain.exact(1.0), Uncertain.exact(1.1)]
    assert ranks(apart) == [1, 2]
    assert undecided("ab", apart) == []


# -- patterns --------------------------------------------------------------------------------------------------


def test_lattices_rank_as_their_closed_form(monkeypatch):
    """Fourfold along one axis, and twofold along both: the same R, another g-factor."""
    lattices = {"equispaced": equispaced(SHAPE, 4), "caipi": caipi(SHAPE, (2, 2))}
    monkeypatch.setattr("mrnoise.ranking.patterns.sampling_mask", lambda name, *_: lattices[name])
    rows = rank_patterns(Sense(), ACQ, 4, ROI, patterns=list(lattices))
    assert [row.pattern for row in rows] == ["caipi", "equispaced"]
    for row in rows:
        scan = ACQ.undersample(lattices[row.pattern])
        truth = float(noise_map(Sense(), scan, method="closed_form").magnitude_std[ROI].square().mean().sqrt())
        assert row.acceleration == 4
        assert row.voxel_std.interval[0] <= truth <= row.voxel_std.interval[1]
        # Four maps of 32 probes and 72 voxels: known far better than a factor of √2.
        assert row.voxel_std.value == pytest.approx(truth, rel=0.1)
        assert row.roi_std == Uncertain.exact(roi_std(Sense(), scan, ROI))
    assert ranks([row.voxel_std for row in rows]) == [1, 2]
    assert pattern_figure(rows, ROI).axes


def test_more_acceleration_is_more_noise():
    two, three = (rank_patterns(CgSense(1e-3), ACQ, r, ROI, patterns=["equispaced"])[0] for r in (2, 3))
    assert three.voxel_std.interval[0] > two.voxel_std.interval[1]
    assert three.roi_std.value > two.roi_std.value
    assert three.psnr < two.psnr


def test_random_patterns_are_their_draws_and_order_does_not_matter():
    options = {"n_draws": 3, "n_samples": 8, "sampling_seed": 2, "seed": 5}
    one = rank_patterns(CgSense(0.01), ACQ, 2, ROI, patterns=["random_1d", "equispaced"], **options)
    other = rank_patterns(CgSense(0.01), ACQ, 2, ROI, patterns=["equispaced", "random_1d"], **options)
    assert [(row.pattern, row.roi_std, row.voxel_std, row.psnr) for row in one] == [
        (row.pattern, row.roi_std, row.voxel_std, row.psnr) for row in other
    ]
    drawn = next(row for row in one if row.pattern == "random_1d")
    scans = [ACQ.undersample(sampling_mask("random_1d", 2, SHAPE, seed)) for seed in (2, 3, 4)]
    assert drawn.roi_std == Uncertain.repeated([roi_std(CgSense(0.01), scan, ROI) for scan in scans])
    assert drawn.n_draws == 3
    assert torch.equal(drawn.sampling, scans[0].mask)
    first = noise_map(CgSense(0.01), scans[0], method="sketch", n_samples=8, seed=5)
    assert torch.equal(drawn.noise_map.variance, first.variance)


def test_slices_and_volumes():
    stack = simulate(SHAPE, 4, n_slices=2, seed=1)
    (row,) = rank_patterns(CgSense(0.01), stack, 2, ROI.expand(2, *SHAPE), patterns=["equispaced"], n_samples=8)
    assert row.noise_map.image.shape == (2, *SHAPE)
    volume = simulate((6, 12, 10), 4, seed=1)
    inside = torch.zeros(6, 12, 10, dtype=torch.bool)
    inside[2:4, 4:8, 3:7] = True
    (row,) = rank_patterns(CgSense(0.01), volume, 2, inside, patterns=["caipi"], n_draws=2, n_samples=8)
    assert row.sampling.shape == (6, 12, 10)
    assert pattern_figure([row, row], inside).axes


def test_a_scan_without_the_samples_is_refused():
    half = ACQ.undersample(equispaced(SHAPE, 2, offset=1))
    with pytest.raises(InputError, match="does not hold the samples of equispaced.*R = 2.00"):
        rank_patterns(CgSense(), half, 4, ROI, patterns=["equispaced"])
    dense = ACQ.undersample(sampling_mask("equispaced", 4, SHAPE) | equispaced(SHAPE, 2))
    (row,) = rank_patterns(CgSense(), dense, 4, ROI, patterns=["equispaced"], n_draws=2, n_samples=8)
    assert row.psnr is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patterns": ["helix"]}, "unknown sampling pattern"),
        ({"acceleration": 30}, "acceleration is not possible: expected between 1 and 24"),
        ({"n_draws": 1}, "too few repetitions"),
        ({"n_samples": 4}, "too few repetitions"),
        ({"roi": ROI.double()}, "invalid region"),
        ({"roi": ROI.T}, "does not fit the image"),
    ],
)
def test_bad_input_is_refused(change, message):
    options = {"acceleration": 2, "roi": ROI, "patterns": ["equispaced"], **change}
    with pytest.raises(InputError, match=message):
        rank_patterns(CgSense(), ACQ, **options)


def test_interrupted_ranking_keeps_what_is_done():
    reached = []

    def stop(name, done, total):
        reached.append((name, done, total))
        if name == limit:
            raise KeyboardInterrupt

    limit = "caipi"
    names = ["equispaced", "random_1d", "caipi"]
    rows = rank_patterns(CgSense(0.01), ACQ, 2, ROI, patterns=names, n_draws=2, n_samples=8, progress=stop)
    assert {row.pattern for row in rows} == {"equispaced", "random_1d"}
    assert [done for _, done, _ in reached] == [1, 2, 3, 4, 5]
    assert reached[-1][2] == 6
    limit = "random_1d"
    with pytest.raises(KeyboardInterrupt):
        rank_patterns(CgSense(0.01), ACQ, 2, ROI, patterns=names, n_draws=2, n_samples=8, progress=stop)


def test_trajectories_rank_with_patterns():
    """Each at its own R, as the scan would have been along it; σ of the region against that of such a scan."""
    rows = rank_patterns(CgSense(0.1), ACQ, 2, ROI, patterns=["radial", "poisson", "spiral"], n_draws=2, n_samples=8)
    assert {row.pattern for row in rows} == {"radial", "poisson", "spiral"}
    for row in rows:
        assert row.acceleration == pytest.approx(2, rel=0.1)
        if row.pattern == "poisson":
            continue
        along = sampling_trajectory(row.pattern, 2, SHAPE)
        assert torch.equal(row.sampling.coordinates, along.coordinates) and row.n_draws == 1
        scan = simulate(SHAPE, 6, snr=60, seed=1, trajectory=along)  # whose Ψ and maps are those of ACQ
        assert row.roi_std.value == pytest.approx(roi_std(CgSense(0.1), scan, ROI), rel=0.02)
        assert row.psnr > 20
    assert pattern_figure(rows, ROI).axes
    half = ACQ.undersample(equispaced(SHAPE, 2))
    with pytest.raises(InputError, match="cannot be resampled along the trajectory.*R = 2"):
        rank_patterns(CgSense(0.01), half, 2, ROI, patterns=["radial"])
    with pytest.raises(InputError, match="no trajectory of 2 axes"):
        rank_patterns(CgSense(0.01), ACQ, 2, ROI, patterns=["cones"])


# -- reconstructions -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks():
    smoothing = {"sharp": CgSense(1e-3), "smooth": CgSense(0.3)}
    return rank_networks(smoothing, ACQ, 3, roi=ROI)


def test_reconstructions_along_a_trajectory():
    """Resampled along one, or of a scan along it; SNR is that of the map of such a scan."""
    along = sampling_trajectory("radial", 2, SHAPE)
    methods, options = {"cg": CgSense(0.05)}, {"roi": ROI, "n_repeats": 2, "n_samples": 16}
    (row,) = rank_networks(methods, ACQ, 2, pattern="radial", **options)
    expected = noise_map(CgSense(0.05), resample(ACQ, along))
    assert row.noise_map.acceleration == along.acceleration and row.psnr > 20
    assert row.snr.value == pytest.approx(float(expected.snr[ROI].median()), rel=0.1)
    dense = resample(ACQ, sampling_trajectory("radial", 0.5, SHAPE))
    (row,) = rank_networks(methods, dense, 2, **options)
    part = dense.undersample(readout_mask(dense.sampling, 2))
    assert row.noise_map.acceleration == pytest.approx(2, rel=0.1) and row.psnr is None
    assert torch.equal(row.noise_map.image, image_of(CgSense(0.05), part))
    with pytest.raises(InputError, match="has no patterns.*poisson"):
        rank_networks(methods, dense, 2, pattern="poisson", **options)


def test_seed_of_networks_draws_the_noise_and_sampling_seed_the_sampling():
    options = {"pattern": "random_1d", "n_repeats": 2, "n_samples": 16, "roi": ROI}
    rows = [
        rank_networks({"cg": CgSense(0.01)}, ACQ, 2, **options, seed=seed, sampling_seed=sampling_seed)[0]
        for seed, sampling_seed in ((0, 1), (3, 1), (0, 2))
    ]
    images = [row.noise_map.image for row in rows]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert rows[0].snr != rows[1].snr
    drawn = ACQ.undersample(sampling_mask("random_1d", 2, SHAPE, 1))
    assert rows[0].noise_map.acceleration == drawn.acceleration == 2
    assert torch.equal(images[0], image_of(CgSense(0.01), drawn))


def test_smoothing_has_more_snr_and_less_of_everything_else(networks):
    assert [row.name for row in networks] == ["smooth", "sharp"]
    scan = ACQ.undersample(sampling_mask("equispaced", 3, SHAPE))
    reference = image_of(Sense(), ACQ)
    for row, weight in zip(networks, (0.3, 1e-3), strict=True):
        exact = noise_map(CgSense(weight), scan, method="exact")
        # The median of |x| / σ̂ of 32 probes is high by less than 1 %; the interval does not see that.
        assert row.snr.value == pytest.approx(float(exact.snr[ROI].median()), rel=0.06)
        assert row.psnr == pytest.approx(psnr(exact.image, reference), abs=1e-3)
        assert row.noise_power.variance**0.5 == pytest.approx(
            float(exact.magnitude_std[ROI].square().mean().sqrt()), rel=0.1
        )
        assert row.linearity == "linear"
    smooth, sharp = networks
    assert smooth.point_spread.contrast_recovery < sharp.point_spread.contrast_recovery
    assert ranks([row.snr for row in networks], largest_first=True) == [1, 2]


def test_equal_psnr_is_within_half_a_decibel(networks):
    rows = [
        dataclasses.replace(networks[0], name=n, psnr=p)
        for n, p in zip("abcdef", (30, 29.6, 29.4, 29, 20, None), strict=True)
    ]
    assert [[row.name for row in group] for group in equal_psnr(rows)] == [["a", "b"], ["c", "d"]]
    assert equal_psnr(rows[-2:]) == []


def test_the_object_is_the_region_where_none_is_given():
    rows = rank_networks({"cg-sense": CgSense(0.01)}, ACQ, 2, n_repeats=2, n_samples=16)
    assert rows[0].noise_power.variance > 0
    assert rows[0].psnr is not None


@pytest.mark.parametrize("with_psnr", [True, False])
def test_labels_of_points_on_top_of_each_other_are_apart(networks, with_psnr):
    rows = [dataclasses.replace(networks[0], name=name, psnr=30.0 if with_psnr else None) for name in "abcdefg"]
    figure = network_figure(rows)
    figure.canvas.draw()
    texts = [t for t in figure.subfigs[0].axes[0].texts if t.get_text() in "abcdefg"]
    boxes = sorted((Text.get_window_extent(t) for t in texts), key=lambda box: box.y0)
    assert len(boxes) == 7
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
