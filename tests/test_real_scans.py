"""Measured scans: the sketch against replicas, and what a map says of them."""

import numpy as np
import pytest
import torch

from mrnoise import Acquisition, noise_map, read
from mrnoise.calibration import with_coil_maps
from mrnoise.foreground import foreground
from mrnoise.reconstruction import CgSense, Gridding
from mrnoise.result.ratio import compare
from mrnoise.sampling import equispaced, radial

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


# -- a radial scan of a phantom, 4 coils, 256 spokes over 180° ------------------------------------------------------


def radial_scan(shared, n: int) -> Acquisition:
    """The central n samples of its spokes; Ψ from the ends of the whole spokes, where there is noise alone."""
    with np.load(shared / "data" / "ankara4_radial_phantom_sol24.npz") as file:
        spokes = torch.from_numpy(file["kspace"])
    ends = torch.cat([spokes[..., :8], spokes[..., -8:]], dim=-1).flatten(1)
    angles = torch.arange(256, dtype=torch.float64) * torch.pi / 256
    middle = slice(128 - n // 2, 128 + n // 2)
    return Acquisition(spokes[..., middle], torch.cov(ends), sampling=radial((n, n), 256, n, angles=angles))


def test_sketch_agrees_with_replicas_on_a_measured_radial_scan(shared):
    acq = with_coil_maps(radial_scan(shared, 64)).undersample(torch.arange(256) % 4 == 0, axis=-2)
    s, n = 48, 64
    method = CgSense(1e-2, tolerance=1e-4)
    a = noise_map(method, acq, method="sketch", n_samples=s)
    b = noise_map(method, acq, method="monte_carlo", n_samples=n, seed=1)
    found = compare(a, b, foreground(b.image))
    assert found.nrmse <= 1.3 * found.floor and found.ratio == pytest.approx(1, abs=0.03)
    inside = foreground(a.image)
    assert 5 < float(a.snr[inside].median()) < 500 and 0.8 < float(a.g_factor[inside].nanmedian()) < 3


def test_background_of_a_measured_radial_scan_has_the_noise_of_its_map(shared):
    """The quietest tenth of blocks around the phantom: what is left of it and of streaks adds."""
    acq = radial_scan(shared, 256)
    r = torch.arange(256) - 128
    radius = (r[:, None].square() + r.square()).sqrt()
    for coil in range(4):
        one = acq.select_coils([coil]).replace(coil_maps=torch.ones(1, 256, 256, dtype=torch.complex64))
        nm = noise_map(Gridding(), one)
        blocks, place = (x.unfold(0, 8, 8).unfold(1, 8, 8).flatten(2) for x in (nm.image.abs(), radius))
        around = (place.amin(-1) > 60) & (place.amax(-1) < 105)
        power = blocks.square().mean(-1)[around].sqrt() / nm.std[0, 0]
        assert 0.9 < float(power.quantile(0.1)) < 1.35, coil
