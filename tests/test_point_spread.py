"""Local point spread against closed forms."""

import math

import pytest
import torch

from mrnoise import Geometry, InputError
from mrnoise.fourier import to_image, to_kspace
from mrnoise.measurement import point_spread
from mrnoise.reconstruction import CgSense, Reconstruction, RootSumOfSquares, Sense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE = (12, 20)
STEP = (0.5, 2.0)
VOXEL = (4, 11)
FULL = simulate(SHAPE, 4, snr=100, seed=1).replace(geometry=Geometry((3.0, *STEP)))
FULL = FULL.replace(kspace=FULL.kspace.to(torch.complex128), coil_maps=FULL.coil_maps.to(torch.complex128))


def delta(height=1.0, voxel=VOXEL):
    image = torch.zeros(SHAPE, dtype=torch.float64)
    image[voxel] = height
    return image


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("reconstruction", [Sense(), CgSense(0.0)])
def test_fully_sampled_sense_shows_a_lesion_as_it_is(reconstruction):
    found = point_spread(reconstruction, FULL, VOXEL)
    close(found.response, delta())
    assert found.contrast_recovery == pytest.approx(1, abs=1e-6)
    assert found.width == pytest.approx(STEP, rel=1e-5)
    assert found.unit == "mm"


def test_regularised_sense_has_the_contrast_of_the_closed_form():
    """H / (H + λ) with H = ψ SᴴΨ⁻¹S of the voxel: less contrast, no blur."""
    maps = FULL.coil_maps[:, *VOXEL]
    psi = FULL.noise_covariance
    h = float((maps.conj() @ torch.linalg.inv(psi.matrix) @ maps).real) * psi.mean_variance
    found = point_spread(Sense(0.3), FULL, VOXEL)
    close(found.response, delta(h / (h + 0.3)))
    assert found.contrast_recovery < 0.9
    assert found.width == pytest.approx(STEP, rel=1e-5)


def test_undersampled_response_is_the_dense_formula():
    """(H + λ)⁻¹ H e_i of the dense normal equations, in phase with the voxel: alias included."""
    acq = FULL.undersample(equispaced(SHAPE, 2))
    n = SHAPE[0] * SHAPE[1]
    images = torch.eye(n, dtype=torch.complex128).reshape(n, 1, *SHAPE)
    columns = (to_kspace(acq.coil_maps * images) * acq.mask).flatten(2)
    psi = acq.noise_covariance
    weighted = torch.einsum("cd,jds->jcs", torch.linalg.inv(psi.matrix) * psi.mean_variance, columns)
    h = torch.einsum("ics,jcs->ij", columns.conj(), weighted)
    expected = torch.linalg.solve(h + 0.1 * torch.eye(n), h)[:, VOXEL[0] * SHAPE[1] + VOXEL[1]].reshape(SHAPE).real
    found = point_spread(Sense(0.1), acq, VOXEL)
    close(found.response, expected)
    assert float(delta().sub(1).mul(found.response).abs().max()) > 1e-3  # a ghost beside the lesion
    assert found.contrast_recovery == pytest.approx(float(expected[VOXEL]), abs=1e-6)


def test_a_gaussian_filter_has_its_own_width():
    """Kernel exp(-r²/2s²), s = 1.5 voxels along y: width 2 s √(2 ln 2), known to the linear interpolation, 2 %."""
    f = torch.fft.fftshift(torch.fft.fftfreq(SHAPE[0], dtype=torch.float64))[:, None]
    transfer = torch.exp(-2 * (math.pi * 1.5 * f) ** 2)
    whole = Sense().bind(FULL)
    found = point_spread(lambda k: to_image(to_kspace(whole(k)) * transfer), FULL, VOXEL)
    assert found.width[0] == pytest.approx(2 * 1.5 * (2 * math.log(2)) ** 0.5 * STEP[0], rel=0.02)
    assert found.width[1] == pytest.approx(STEP[1], rel=1e-5)
    assert found.contrast_recovery == pytest.approx(float(transfer.mean()), rel=1e-6)


def test_a_gaussian_lesion_is_shown_with_its_own_width():
    """2 mm are 4 voxels along y and one along x, where linear interpolation is exact only in the limit."""
    found = point_spread(Sense(), FULL, VOXEL, lesion_width=2.0)
    y, x = (torch.arange(n, dtype=torch.float64) for n in SHAPE)
    squared = ((y[:, None] - VOXEL[0]) * STEP[0]) ** 2 + ((x - VOXEL[1]) * STEP[1]) ** 2
    close(found.response, torch.exp(-4 * math.log(2) * squared / 2.0**2))
    assert found.width[0] == pytest.approx(found.lesion_width, rel=1e-5)
    assert found.contrast_recovery == pytest.approx(1, abs=1e-6)


def test_real_images_show_a_lesion_in_phase_with_the_object():
    """|S| of root sum of squares, whatever the phase of object and coils."""
    found = point_spread(RootSumOfSquares(), FULL, VOXEL)
    x = Sense().bind(FULL)(FULL.kspace)[VOXEL]
    maps = FULL.coil_maps[:, *VOXEL]
    images = to_image(FULL.kspace)[:, *VOXEL]
    change = maps * x / x.abs()
    expected = float((images.conj() * change).sum().real / images.norm())
    assert found.contrast_recovery == pytest.approx(expected, rel=1e-2)  # x and the coil images carry noise, SNR 100
    magnitude = point_spread(lambda k: Sense().bind(FULL)(k).abs(), FULL, VOXEL)
    close(magnitude.response, delta())


def test_recovery_is_free_of_the_phase_and_follows_the_scale_of_the_image():
    def turned(kspace):
        return 2 * torch.exp(torch.tensor(1.1j, dtype=torch.complex128)) * Sense().bind(FULL)(kspace)

    found = point_spread(turned, FULL, VOXEL)
    # The object has the phase of the image in an honest reconstruction; a turned image shows the cosine.
    assert found.contrast_recovery == pytest.approx(2 * math.cos(1.1), rel=1e-5)


class OwnMaps(Reconstruction):
    """CG-SENSE whose coil maps have a phase of their own."""

    def __init__(self, own):
        self.estimates_coil_maps = own

    def bind(self, acquisition):
        inner = CgSense(0.1).bind(acquisition)
        return lambda kspace: -1j * inner(kspace)


def test_the_phase_of_a_networks_own_coil_maps_is_not_that_of_the_lesion():
    expected = point_spread(CgSense(0.1), FULL, VOXEL)
    found = point_spread(OwnMaps(True), FULL, VOXEL)
    assert found.contrast_recovery == pytest.approx(expected.contrast_recovery, rel=1e-6)
    assert found.width == pytest.approx(expected.width, rel=1e-6)
    # Taken as the phase of the object, it hides the lesion.
    assert abs(point_spread(OwnMaps(False), FULL, VOXEL).contrast_recovery) < 1e-6


def test_slices_and_crops_are_found():
    stack = simulate(SHAPE, 4, n_slices=2, snr=100, seed=1)
    found = point_spread(Sense(), stack, (1, *VOXEL))
    assert found.response.shape == SHAPE
    assert found.contrast_recovery == pytest.approx(1, abs=1e-4)
    together = point_spread(Sense().bind(stack), stack, (1, *VOXEL))
    torch.testing.assert_close(together.response[1], found.response, rtol=0, atol=1e-5)
    assert float(together.response[0].abs().max()) == 0
    whole = Sense().bind(FULL)
    cropped = point_spread(lambda k: whole(k)[2:10, 5:15], FULL, (2, 6))
    close(cropped.response, delta()[2:10, 5:15])


def test_what_cannot_be_measured_is_said():
    bare = FULL.replace(coil_maps=None)
    with pytest.raises(InputError, match=r"no coil maps.*with_coil_maps"):
        point_spread(RootSumOfSquares(), bare, VOXEL)
    for width in (-1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="invalid width of the lesion"):
            point_spread(Sense(), FULL, VOXEL, lesion_width=width)
    with pytest.raises(InputError, match="derivative of the reconstruction cannot be trusted"):
        point_spread(lambda k: Sense().bind(FULL)(k.detach()) + 1, FULL, VOXEL)
    with pytest.raises(InputError, match="image is larger than k-space"):
        point_spread(lambda k: Sense().bind(FULL)(k).repeat(2, 1), FULL, VOXEL)
    assert math.isnan(point_spread(lambda k: 0 * Sense().bind(FULL)(k), FULL, VOXEL).width[0])
    lines = point_spread(lambda k: Sense().bind(FULL)(k).mean(0).expand(SHAPE), FULL, VOXEL)
    assert lines.width[0] == math.inf
    assert lines.width[1] == pytest.approx(STEP[1], rel=1e-5)
