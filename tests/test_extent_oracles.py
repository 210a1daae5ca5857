"""σ of what was encoded: that of the same scan on its own matrix, and of replicas through SigPy and BART."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest
import torch

from mrnoise import Acquisition, noise_map
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.sampling import Grid, equispaced
from mrnoise.simulation import simulate

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
KINDS = ["padding", "phase resolution", "ellipse", "partial Fourier", "asymmetric echo"]
REPLICAS = 100  # floor of σ: 5 % a voxel, 0.4 % of its mean over the object


@pytest.fixture(scope="module")
def extent():
    """The benchmark."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("extent")
    del sys.modules["extent"]


def own_ratios(extent, reconstruction, acq, region):
    found, own = (noise_map(reconstruction, one, n_samples=64) for one in (acq, extent.on_own_matrix(acq, region)))
    assert found.acceleration == pytest.approx(own.acceleration)
    return extent.own_ratios(found, own)


@pytest.mark.parametrize(
    ("reconstruction", "spacing"), [(CgSense(1e-2), 3), (Sense(), 1)], ids=["cg-sense, spacing 3", "sense"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_sigma_snr_and_g_are_those_on_its_own_matrix(extent, kind, reconstruction, spacing):
    """Within 2 %. Of padding it was R 1.6, g 1.6 and half the SNR."""
    ratios = own_ratios(extent, reconstruction, extent.scan(kind, spacing), extent.encoded(kind))
    assert ratios == pytest.approx(dict.fromkeys(ratios, 1), abs=0.02)


@pytest.mark.parametrize("kind", ["phase resolution", "ellipse", "partial Fourier"])
def test_undersampling_is_not_what_was_never_encoded(extent, kind):
    """The comparison must fail where all of k-space is taken for encoded."""
    acq = extent.scan(kind, 1)
    wrong = acq.replace(sampling=Grid(acq.mask))
    own = extent.on_own_matrix(acq, extent.encoded(kind))
    ratios = extent.own_ratios(*(noise_map(CgSense(1e-3), one, n_samples=64) for one in (wrong, own)))
    assert ratios["σ"] > 1.1 and ratios["SNR"] < 0.9


@pytest.mark.parametrize("reconstruction", [CgSense(1e-3), Sense()], ids=["cg", "sense"])
@pytest.mark.parametrize("first", [12, 24], ids=["padding", "partial Fourier"])
def test_a_matrix_that_ends_behind_the_last_line(extent, first, reconstruction):
    """39 of 40 lines are found: σ and SNR within 2 %, R and g within 3 %. Extrapolated to the 40th it was 4 %."""
    full = simulate((64, 20), 6, snr=40, seed=1)
    region = torch.zeros(64, 20, dtype=torch.bool)
    region[first : first + 40] = True
    kspace = full.kspace * (region & equispaced((64, 20), 2))
    acq = Acquisition(kspace, full.noise_covariance, coil_maps=full.coil_maps)
    own = extent.on_own_matrix(acq, region)
    assert (acq.acceleration, own.acceleration) == (39 / 20, 2)
    ratios = extent.own_ratios(*(noise_map(reconstruction, one, method="closed_form") for one in (acq, own)))
    assert ratios == pytest.approx(dict.fromkeys(ratios, 1), abs=0.03)


def agrees(extent, nm, images):
    error, floor = extent.replica_errors(nm, images)["σ"]
    inside = extent.foreground(nm.image)
    mean = float(nm.variance[inside].mean() / images.var(0, ddof=1)[inside.numpy()].mean()) ** 0.5
    return error < 1.3 * floor and abs(mean - 1) < 0.025


def check(extent, acq, reconstruct):
    images = reconstruct(extent.replicas(acq, REPLICAS))
    nm = noise_map(CgSense(extent.WEIGHT), acq, n_samples=REPLICAS)
    assert agrees(extent, nm, images)
    assert not agrees(extent, nm, 2**0.5 * images) and not agrees(extent, nm, images / 2**0.5)


@pytest.mark.parametrize(("kind", "spacing"), [*((kind, 3) for kind in KINDS if kind != "ellipse"), ("ellipse", 1)])
def test_replicas_through_sigpy(extent, kind, spacing):
    """Of an ellipse of 22 lines the hull of one in three would leave out 6 %."""
    pytest.importorskip("sigpy")
    acq, region = extent.scan(kind, spacing), extent.encoded(kind)
    check(extent, acq, lambda kspace: extent.sigpy_images(acq, region, kspace))


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ellipse"])  # of which no matrix is without corners
def test_replicas_through_bart_on_its_own_matrix(extent, kind):
    own = extent.on_own_matrix(extent.scan(kind, 3), extent.encoded(kind))
    check(extent, own, lambda kspace: extent.bart_images(own, kspace))


def test_ellipse_of_a_volume(extent):
    """Corners of two phase encodes left out, all of the readout."""
    pytest.importorskip("sigpy")
    full = simulate((13, 17, 4), 6, snr=40, seed=2)
    z, y = (torch.linspace(1 / n - 1, 1 - 1 / n, n) for n in (13, 17))
    region = (z[:, None].square() + y.square() <= 1)[..., None].expand(13, 17, 4)
    acq = Acquisition(full.kspace * region, full.noise_covariance, coil_maps=full.coil_maps, spatial_dims=3)
    check(extent, acq, lambda kspace: extent.sigpy_images(acq, region, kspace))
