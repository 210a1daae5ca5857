"""The whole pipeline, coil maps included, on repeated scans of one object: the truth that users can measure."""

import pytest
import torch

from mrnoise import noise_map, roi_std
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulated_head

pytestmark = pytest.mark.xdist_group("repeated scans")  # one process computes them

SHAPE = (56, 48)
DRAWS = 100


@pytest.fixture(scope="module")
def repeated():
    head = simulated_head(SHAPE, 6, snr=200, mask=equispaced(SHAPE, 2, calibration=12), seed=1)
    method = CgSense(0.01, tolerance=1e-5)
    scans = [head.acquire(seed).replace(coil_maps=None) for seed in range(DRAWS)]
    # Every scan estimates its own coil maps, as a scanner would.
    images = torch.stack([method.bind(s)(s.kspace) for s in scans])
    # Linearise at one of the scans, as a user would.
    nm = noise_map(method, scans[0], method="sketch", n_samples=200)
    inside = head.foreground & (images.abs() > 0).all(0)
    return head, method, scans, images, nm, inside


def test_magnitude_noise_of_repeated_scans(repeated):
    _, _, _, images, nm, inside = repeated
    empirical = images.abs().double().std(0)
    ratio = (empirical / nm.magnitude_std)[inside]
    # Floor: 100 draws and 200 probes know a real variance to √(2/n), its root to half of that.
    floor = 0.5 * (2 / (DRAWS - 1) + 2 / 200) ** 0.5
    assert float((ratio - 1).square().mean().sqrt()) < 1.3 * floor
    assert abs(float(ratio.mean()) - 1) < 0.02  # √2, or a missing Ψ factor, is 0.41
    # The draws have 99 degrees of freedom, the map 200: the interval of their ratio.
    low, high = nm.confidence_interval(0.95, "magnitude_std")
    spread = 1.96 * empirical * (0.5 / (DRAWS - 1)) ** 0.5
    covered = (empirical - spread <= high) & (low <= empirical + spread)
    assert float(covered[inside].double().mean()) > 0.95


def test_coil_map_noise_is_part_of_it(repeated):
    """Holding the maps fixed leaves noise out, about 1 % here: the same comparison is worse."""
    _, _, scans, images, nm, inside = repeated
    fixed = noise_map(CgSense(0.01, tolerance=1e-5, differentiate_coil_maps=False), scans[0], n_samples=200)
    empirical = images.to(torch.complex128).var(0, correction=1).sqrt()

    def bias(sigma):
        return abs(float((empirical / sigma)[inside].mean()) - 1)

    # The same draws and probes for both, so that most of the sampling error cancels.
    assert bias(nm.std) < 0.5 * bias(fixed.std)


def test_roi_mean_of_repeated_scans(repeated):
    _, method, scans, images, _, inside = repeated
    roi = torch.zeros(SHAPE, dtype=torch.bool)
    roi[20:36, 16:32] = True
    roi &= inside
    assert int(roi.sum()) > 50
    empirical = float(images.abs().double()[:, roi].mean(1).std())
    predicted = roi_std(method, scans[0], roi)
    # 100 draws know the standard deviation of one number to 7 %.
    assert empirical == pytest.approx(predicted, rel=3 * (0.5 / (DRAWS - 1)) ** 0.5)
