"""Measured scans: the sketch against replicas, and what a map says of them."""

import pytest
import torch

from mrnoise import noise_map, read
from mrnoise.calibration import with_coil_maps
from mrnoise.foreground import foreground
from mrnoise.reconstruction import CgSense
from mrnoise.result.ratio import compare
from mrnoise.sampling import equispaced

SCANS = {"cima16_brain.npz": "background", "mroptimum16_phantom_with_noise.npz": "noise scan"}


@pytest.mark.parametrize("name", SCANS)
def test_sketch_agrees_with_replicas_on_a_measured_scan(shared, name):
    acq = read(shared / "data" / name)
    assert SCANS[name] in acq.noise_covariance.source
    acq = with_coil_maps(acq)
    acq = acq.undersample(equispaced(acq.spatial_shape, 4, calibration=24))
    s, n = 100, 150
    a = noise_map(CgSense(), acq, method="sketch", n_samples=s)
    b = noise_map(CgSense(), acq, method="monte_carlo", n_samples=n, seed=1)
    found = compare(a, b, foreground(b.image))
    assert found.floor == pytest.approx((1 / (4 * s) + 1 / (4 * n)) ** 0.5, rel=0.05)
    assert found.nrmse <= 1.3 * found.floor
    assert found.ratio == pytest.approx(1, abs=0.02)
    inside = foreground(a.image)
    assert bool(torch.isfinite(a.snr[inside]).all())
    assert 1 < float(a.g_factor[inside].nanmedian()) < 4
