"""σ of what was encoded: that of the same scan on its own matrix, and of replicas through SigPy and BART."""

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnoise import Acquisition, noise_map
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.sampling import Grid
from mrnoise.simulation import simulate

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
REPLICAS = 64  # floor of σ: 6 % a voxel, 0.7 % of its mean over the object
KINDS = ["padding", "phase resolution", "ellipse", "partial Fourier", "asymmetric echo"]
NO_MATRIX = "ellipse"


@pytest.fixture(scope="module")
def extent():
    """The benchmark."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("extent")
    del sys.modules["extent"]


def test_every_kind_is_tested(extent):
    assert list(extent.BOXES) == KINDS


@pytest.mark.parametrize("reconstruction", [CgSense(1e-3), CgSense(1e-2), Sense()], ids=str)
@pytest.mark.parametrize("spacing", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_sigma_and_snr_are_those_on_its_own_matrix(extent, kind, spacing, reconstruction):
    """Within 2 %. It was R 1.6, g 1.6 and half the SNR."""
    acq = extent.scan(kind, spacing)
    own = extent.on_own_matrix(acq, extent.encoded(kind))
    assert acq.acceleration == pytest.approx(own.acceleration, rel=1e-6)
    ratios = extent.own_ratios(*(noise_map(reconstruction, one, n_samples=200) for one in (acq, own)))
    assert ratios == pytest.approx(dict.fromkeys(ratios, 1), abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_k_space_is_not_what_was_encoded(extent, kind):
    """The check that must fail: padding taken for undersampling."""
    acq = extent.scan(kind, 1)
    whole = Acquisition(acq.kspace, acq.noise_covariance, coil_maps=acq.coil_maps, sampling=Grid(acq.mask))
    own = extent.on_own_matrix(acq, extent.encoded(kind))
    ratios = extent.own_ratios(*(noise_map(CgSense(1e-3), one, n_samples=200) for one in (whole, own)))
    assert ratios["σ"] > 1.1


def agrees(extent, nm, images):
    error, floor = extent.replica_errors(nm, images)["σ"]
    inside = extent.foreground(nm.image)
    mean = float((nm.variance[inside].mean() / images.var(0, ddof=1)[inside.numpy()].mean()) ** 0.5)
    return error < 1.3 * floor and abs(mean - 1) < 0.03


def check(extent, peer, acq, region):
    """Agreement with an independent reconstruction, and none of a σ that is √2 too large."""
    images = extent.PEERS[peer](acq, region, extent.replicas(acq, REPLICAS))
    wrong = acq.replace(noise_covariance=2 * acq.noise_covariance.matrix)
    found, too_large = (noise_map(CgSense(extent.WEIGHT), one, n_samples=400) for one in (acq, wrong))
    assert agrees(extent, found, images)
    assert not agrees(extent, too_large, images)


@pytest.mark.parametrize("kind", KINDS)
def test_replicas_through_sigpy(extent, kind):
    pytest.importorskip("sigpy")
    check(extent, "SigPy", extent.scan(kind, 3), extent.encoded(kind))


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != NO_MATRIX])
def test_replicas_through_bart(extent, kind):
    """Of all lines: of some, BART takes the two edges of the encoded matrix for neighbours."""
    check(extent, "BART", extent.scan(kind, 1), extent.encoded(kind))


def test_ellipse_of_a_volume(extent):
    """Corners of two phase encodes left out, every second line, all of the readout."""
    pytest.importorskip("sigpy")
    full = simulate((16, 22, 5), 6, snr=40, seed=2)
    z, y = ((np.arange(n) + 0.5 - n / 2) / (n / 2) for n in full.spatial_shape[:2])
    region = torch.from_numpy(z[:, None] ** 2 + y**2 <= 1)[..., None].expand(full.spatial_shape)
    acquired = region.clone()
    acquired[:, 1::2] = False
    acq = Acquisition(full.kspace * acquired, full.noise_covariance, coil_maps=full.coil_maps, spatial_dims=3)
    check(extent, "SigPy", acq, region)
