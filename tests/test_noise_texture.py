"""Noise correlation, noise power spectrum and autocorrelation length against dense covariances and closed forms."""

import math

import pytest
import torch

from mrnoise import Acquisition, Geometry, InputError, noise_map
from mrnoise.fourier import to_image, to_kspace
from mrnoise.linearization import linearize
from mrnoise.measurement import noise_correlation, noise_power_spectrum
from mrnoise.reconstruction import RootSumOfSquares, Sense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE = (24, 20)
STEP = (0.5, 2.0)  # mm
PSI = 4.0
ROI = torch.zeros(SHAPE, dtype=torch.bool)
ROI[3:15, 4:18] = True
DISC = ((torch.arange(24)[:, None] - 11) ** 2 + (torch.arange(20) - 9) ** 2) <= 49
HANN = torch.hann_window(24)[:, None] * torch.hann_window(20)
CELL = STEP[0] * STEP[1]


def one_coil(geometry=None):
    image = 100 * torch.exp(1j * torch.linspace(0, 2, SHAPE[1], dtype=torch.float64)).expand(SHAPE)
    return Acquisition(
        to_kspace(image)[None],
        torch.tensor([[PSI]]),
        mask=torch.ones(SHAPE, dtype=torch.bool),
        geometry=geometry or Geometry((3.0, *STEP)),
    )


WHITE = one_coil()


def coil_image(kspace):
    return to_image(kspace)[..., 0, :, :]


def filtered(width):
    """Gaussian filter, its kernel exp(-r²/2s²) with s in voxels along each axis."""
    f = [torch.fft.fftshift(torch.fft.fftfreq(n, dtype=torch.float64)) for n in SHAPE]
    transfer = torch.exp(-2 * math.pi**2 * ((width[0] * f[0][:, None]) ** 2 + (width[1] * f[1]) ** 2))
    return lambda kspace: coil_image(kspace * transfer)


def improper(kspace):
    """Real-linear, and correlated beyond the next voxel."""
    x = to_image(kspace).sum(-3)
    y = x + 0.6 * x.roll(1, -1).conj() + 0.3 * x.roll((2, 1), (-2, -1))
    return torch.complex(y.real, 0.4 * y.imag)


# -- correlation -----------------------------------------------------------------------------------------------


def magnitude_covariance(reconstruction, acquisition):
    """Of the noise of |x|, from the dense real matrix of L."""
    (operator,) = linearize(reconstruction, acquisition)
    n = operator.acquisition.kspace.numel()
    basis = torch.eye(n, dtype=operator.noise_dtype).reshape(n, *operator.noise_shape)
    columns = torch.cat([operator.apply(basis), operator.apply(1j * basis)]).flatten(1)
    unit = torch.sgn(operator.value).flatten()
    along = (unit.conj() * columns).real.double()  # (2 · samples, voxels)
    # Unit circular noise: each real component has variance 1/2.
    return 0.5 * along.T @ along


@pytest.mark.parametrize("reconstruction", [improper, Sense(), RootSumOfSquares()])
def test_noise_correlation_is_a_column_of_the_dense_covariance(reconstruction):
    shape = (6, 10)
    acq = simulate(shape, 3, snr=50, seed=2).undersample(equispaced(shape, 2))
    acq = acq.replace(kspace=acq.kspace.to(torch.complex128))
    dense = magnitude_covariance(reconstruction, acq)
    sigma = dense.diagonal().sqrt()
    nm = noise_map(reconstruction, acq, method="exact")
    for voxel in ((2, 3), (5, 9)):
        at = voxel[0] * shape[1] + voxel[1]
        found = noise_correlation(reconstruction, acq, voxel, nm)
        torch.testing.assert_close(found.covariance.flatten(), dense[at], rtol=1e-5, atol=1e-6 * float(dense.max()))
        torch.testing.assert_close(found.coefficient.flatten(), dense[at] / (sigma * sigma[at]), rtol=0, atol=1e-5)
        assert float(found.coefficient[voxel]) == pytest.approx(1, abs=1e-9)
        assert float(found.covariance[voxel]) == pytest.approx(float(nm.magnitude_std[voxel]) ** 2, rel=1e-5)
    # The covariance of proper noise along a fixed phase would be another one.
    if reconstruction is improper:
        assert float((dense / dense.diagonal()).fill_diagonal_(0).abs().max()) > 0.2


def test_noise_correlation_is_symmetric_and_knows_its_slice():
    stack = simulate((6, 10), 3, n_slices=2, seed=2).undersample(equispaced((6, 10), 2))
    first, second = (1, 2, 3), (1, 5, 3)
    a, b = (noise_correlation(Sense(), stack, voxel) for voxel in (first, second))
    assert a.covariance.shape == (6, 10)
    assert a.coefficient is None
    assert float(a.covariance[5, 3]) == pytest.approx(float(b.covariance[2, 3]), rel=1e-4)
    assert abs(float(a.covariance[5, 3])) > 0.01 * float(a.covariance[2, 3])  # they alias onto each other
    alone = noise_correlation(Sense(), list(stack.slices())[1], first[1:])
    torch.testing.assert_close(a.covariance, alone.covariance)
    together = noise_correlation(Sense().bind(stack), stack, first)
    torch.testing.assert_close(together.covariance[1], a.covariance, rtol=1e-4, atol=1e-9)
    assert float(together.covariance[0].abs().max()) == 0
    nm = noise_map(Sense(), stack, method="exact")
    torch.testing.assert_close(
        noise_correlation(Sense(), stack, first, nm).coefficient,
        noise_correlation(Sense().bind(stack), stack, first, nm).coefficient[1],
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize("voxel", [(3,), (24, 0), (0, -1), (0, 1, 2)])
def test_voxels_outside_the_image_are_refused(voxel):
    with pytest.raises(InputError, match=r"no such voxel: expected an index into the image \(24, 20\)"):
        noise_correlation(coil_image, WHITE, voxel)


def test_a_map_of_another_image_and_a_lost_derivative_are_refused():
    nm = noise_map(lambda k: coil_image(k)[:10], WHITE, n_samples=2)
    with pytest.raises(InputError, match="noise map is of another image"):
        noise_correlation(coil_image, WHITE, (2, 3), nm)
    with pytest.raises(InputError, match="adjoint .* cannot be trusted.*noise_power_spectrum"):
        noise_correlation(lambda k: coil_image(k.detach()), WHITE, (2, 3))


# -- noise power spectrum --------------------------------------------------------------------------------------


@pytest.mark.parametrize("roi", [ROI, DISC])
def test_white_noise_has_a_flat_spectrum_of_known_level(roi):
    """V Δ / 2 within 4 stated errors a ring (about 3 to 8 %) and 3 % in the mean; a factor of √2 is 41 %."""
    found = noise_power_spectrum(coil_image, WHITE, roi)
    level = PSI * CELL / 2
    assert bool(((found.radial - level).abs() < 4 * found.radial_error).all())
    assert float(found.radial.mean()) == pytest.approx(level, rel=0.03)
    assert abs(found.variance - PSI / 2) < 4 * found.variance_error
    assert found.length == pytest.approx(STEP, rel=0.03)
    assert (found.unit, found.method, found.n_samples) == ("mm", "sketch", 320)


def gaussian_spectrum(s, *frequencies):
    """½ V Δ |H|² of `filtered` noise with s in mm."""
    return PSI * CELL / 2 * torch.exp(-4 * math.pi**2 * s**2 * sum(f**2 for f in frequencies))


def test_filtered_noise_has_the_squared_transfer_function():
    """A filter of 0.8 and 0.2 voxels, 0.4 mm along both axes, through a tapered window.

    Rings within 4 stated errors (about 8 %) and 2 % for the width of the window; a factor of √2 is outside.
    """
    found = noise_power_spectrum(filtered((0.8, 0.2)), WHITE, HANN, n_samples=640)
    expected = gaussian_spectrum(0.4, found.radial_frequency)
    assert float(found.radial_frequency.max()) <= 0.25 + 1e-9  # Nyquist of 2 mm
    assert float(expected.min() / expected.max()) < 0.75  # not flat
    room = 4 * found.radial_error + 0.02 * expected
    assert bool(((found.radial - expected).abs() < room).all())
    assert not bool(((found.radial - 2**0.5 * expected).abs() < room).all())
    # Along y, to its own Nyquist frequency of 1 / mm.
    line = found.spectrum[:, len(found.frequencies[1]) // 2]
    truth = gaussian_spectrum(0.4, found.frequencies[0])
    assert float((line - truth).norm() / truth.norm()) < 4 * (2 / 640) ** 0.5


@pytest.mark.parametrize("roi", [ROI, DISC])
def test_the_spectrum_through_a_sharp_window_is_the_formula(roi):
    """Δ/Σw² Σ_τ C(τ) (w ⋆ w)(τ) exp(-2πi f·τ), leakage included: all frequencies within the error of 640 samples."""
    found = noise_power_spectrum(filtered((0.8, 0.2)), WHITE, roi, n_samples=640)
    f = [torch.fft.fftfreq(n, d=d, dtype=torch.float64) for n, d in zip(SHAPE, STEP, strict=True)]
    cyclic = torch.fft.ifft2(gaussian_spectrum(0.4, f[0][:, None], f[1])).real / CELL
    y, x = (places.double() for places in roi.nonzero().T)
    lag = [(a[:, None] - a).long() for a in (y, x)]
    covariance = cyclic[lag[0] % SHAPE[0], lag[1] % SHAPE[1]]
    for ky, kx in ((0, 0), (3, 0), (0, 2), (4, 3)):
        centre = [len(axis) // 2 for axis in found.frequencies]
        fy, fx = (float(axis[c + k]) for axis, c, k in zip(found.frequencies, centre, (ky, kx), strict=True))
        wave = torch.exp(-2j * math.pi * (fy * STEP[0] * y + fx * STEP[1] * x))
        expected = CELL * float((wave @ covariance.to(wave) @ wave.conj()).real) / len(y)
        # One real or complex Gaussian coefficient: relative error at most √(2/n).
        assert float(found.spectrum[centre[0] + ky, centre[1] + kx]) == pytest.approx(
            expected, rel=4 * (2 / 640) ** 0.5
        )


@pytest.mark.parametrize("roi", [ROI, DISC, HANN])
def test_the_integral_of_the_spectrum_is_the_mean_variance(roi):
    """Parseval: to round-off within the estimate, within 4 stated errors (below 2 %) of the exact map."""
    reconstruction = filtered((1.0, 0.6))
    found = noise_power_spectrum(reconstruction, WHITE, roi)
    df = math.prod(float(f[1] - f[0]) for f in found.frequencies)
    assert float(found.spectrum.sum()) * df == pytest.approx(found.variance, rel=1e-9)
    exact = noise_map(reconstruction, WHITE, method="exact").magnitude_std.square()
    weight = roi.double().square()
    assert abs(found.variance - float((weight * exact).sum() / weight.sum())) < 4 * found.variance_error
    assert found.variance_error < 0.05 * found.variance


def test_autocorrelation_length_of_gaussian_filtered_noise():
    """ρ = exp(-τ²/4s²) has the width 4 s √ln 2, known to 2 % here; √2 would be 20 times that."""
    width = (2.0, 1.2)
    found = noise_power_spectrum(filtered(width), WHITE, ROI, n_samples=1600, seed=1)
    for length, error, s, step in zip(found.length, found.length_error, width, STEP, strict=True):
        assert abs(length - 4 * s * math.log(2) ** 0.5 * step) < 4 * error + 0.02 * step
        assert error < 0.02 * length
    centre = tuple(n // 2 for n in found.autocorrelation.shape)
    assert float(found.autocorrelation[centre]) == pytest.approx(1)
    lag = found.autocorrelation[centre[0] + 2, centre[1] + 1]
    assert float(lag) == pytest.approx(math.exp(-4 / (4 * 2.0**2) - 1 / (4 * 1.2**2)), abs=0.03)


@pytest.mark.parametrize("reconstruction", [improper, lambda k: coil_image(k).abs()])
def test_magnitude_noise_of_improper_and_of_real_images(reconstruction):
    """Its variance in the region is that of |x|, not half the total; the stated error is about 1 %."""
    found = noise_power_spectrum(reconstruction, WHITE, ROI)
    nm = noise_map(reconstruction, WHITE, method="exact")
    exact = float(nm.magnitude_std[ROI].square().mean())
    assert abs(found.variance - exact) < 4 * found.variance_error
    assert abs(0.5 * float(nm.variance[ROI].mean()) - exact) > 10 * found.variance_error


def test_stated_errors_are_the_spread_over_seeds():
    """24 seeds know a spread to 15 %, 16 groups state it to 18 %; a factor of √2 of the mean is outside."""
    runs = [noise_power_spectrum(filtered((1.0, 0.6)), WHITE, ROI, n_samples=64, seed=s) for s in range(24)]
    for name in ("variance", "length", "radial"):
        values = torch.stack([torch.atleast_1d(torch.as_tensor(getattr(r, name))) for r in runs])
        stated = torch.stack([torch.atleast_1d(torch.as_tensor(getattr(r, f"{name}_error"))) for r in runs])
        ratio = stated.square().mean(0).sqrt() / values.std(0)
        assert 0.75 < float(ratio.median()) < 1.35, (name, ratio)


def test_the_spectrum_of_replicas_where_there_is_no_derivative():
    found = noise_power_spectrum(lambda k: coil_image(k.detach()) + 1, WHITE, ROI)
    assert found.method == "monte_carlo"
    assert abs(found.variance - PSI / 2) < 4 * found.variance_error
    assert float(found.radial.mean()) == pytest.approx(PSI * CELL / 2, rel=0.05)


def test_slices_are_averaged_and_voxels_are_the_unit_without_geometry():
    stack = simulate(SHAPE, 3, n_slices=2, seed=1)
    roi = ROI.expand(2, *SHAPE)
    found = noise_power_spectrum(Sense(), stack.replace(geometry=Geometry(measured=False)), roi)
    together = noise_power_spectrum(Sense().bind(stack), stack, roi)
    exact = float(noise_map(Sense(), stack, method="exact").magnitude_std[roi].square().mean())
    for one in (found, together):
        assert abs(one.variance - exact) < 4 * one.variance_error
        assert one.variance_error < 0.05 * exact
    one = torch.zeros(2, *SHAPE, dtype=torch.bool)
    one[1] = ROI
    alone = noise_power_spectrum(Sense(), list(stack.slices())[1], ROI)
    assert noise_power_spectrum(Sense(), stack, one).variance == pytest.approx(
        alone.variance, abs=4 * 2**0.5 * alone.variance_error
    )
    assert found.unit == "voxel"
    assert found.length == pytest.approx((1, 1), rel=0.05)


def test_progress_counts_to_the_end():
    told = []
    noise_power_spectrum(coil_image, WHITE, ROI, n_samples=32, progress=lambda *a: told.append(a))
    assert told[0] == (1, 16)
    assert told[-1] == (16, 16)


@pytest.mark.parametrize(
    ("roi", "n", "message"),
    [
        (ROI, 31, "too few noise samples: expected at least 32"),
        (torch.zeros_like(ROI), 32, "invalid region of interest"),
        (ROI & (torch.arange(20) == 7), 32, "region too small .* received 12 × 1"),
        (ROI[1:], 32, "does not fit the image"),
        (ROI * 1j, 32, "invalid region of interest"),
    ],
)
def test_bad_requests_are_refused(roi, n, message):
    with pytest.raises(InputError, match=message):
        noise_power_spectrum(coil_image, WHITE, roi, n_samples=n)
