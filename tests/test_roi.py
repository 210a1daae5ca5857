import pytest
import torch

from mrnoise import InputError, noise_map, roi_std
from mrnoise.fourier import to_image, to_kspace
from mrnoise.linearization import NoiseToImage, linearize
from mrnoise.measurement import Measurement, contrast_to_noise, roi_difference, roi_mean
from mrnoise.reconstruction import CgSense, RootSumOfSquares, Sense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate, simulated_head

SHAPE = (12, 20)
ACQ = simulate(SHAPE, 4, snr=50, seed=1).undersample(equispaced(SHAPE, 2))
ROI = torch.zeros(SHAPE, dtype=torch.bool)
ROI[1:9, 6:16] = True  # holds voxels that alias onto each other


def dense_l(reconstruction, acquisition):
    """L as a real matrix, (2 · voxels) × (2 · samples)."""
    (operator,) = linearize(reconstruction, acquisition)
    n = operator.acquisition.kspace.numel()
    basis = torch.eye(n, dtype=operator.noise_dtype).reshape(n, *operator.noise_shape)
    columns = torch.cat([operator.apply(basis), operator.apply(1j * basis)]).flatten(1)
    parts = torch.cat([columns.real, columns.imag], 1) if columns.is_complex() else columns
    return parts.T.double(), operator.value.flatten()


@pytest.mark.parametrize("reconstruction", [Sense(), RootSumOfSquares()])
def test_roi_std_is_the_quadratic_form_of_the_full_covariance(reconstruction):
    small = simulate((6, 10), 3, seed=2).undersample(equispaced((6, 10), 2))
    matrix, x = dense_l(reconstruction, small)
    if not x.is_complex():
        along = (x >= 0).double() * 2 - 1
    else:
        unit = (x / x.abs()).to(torch.complex128)
        along = torch.cat([unit.real, unit.imag])
    w = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    weighted = (w.flatten().double().repeat(len(along) // w.numel()) * along) @ matrix
    # Unit circular noise: each real component has variance 1/2.
    expected = float((0.5 * weighted.square().sum()).sqrt())
    assert roi_std(reconstruction, small, w) == pytest.approx(expected, rel=1e-4)


def test_single_voxel_is_its_magnitude_noise():
    nm = noise_map(Sense(), ACQ, method="exact")
    for y, x in ((3, 4), (7, 15)):
        w = torch.zeros(SHAPE)
        w[y, x] = 1
        assert roi_std(Sense(), ACQ, w) == pytest.approx(float(nm.magnitude_std[y, x]), rel=1e-4)


def test_mask_is_the_mean_and_correlation_counts():
    mean = roi_std(Sense(), ACQ, ROI)
    assert mean == pytest.approx(roi_std(Sense(), ACQ, ROI / ROI.sum()), rel=1e-6)
    nm = noise_map(Sense(), ACQ, method="exact")
    independent = float(nm.magnitude_std[ROI].square().sum().sqrt() / ROI.sum())
    assert mean != pytest.approx(independent, rel=1e-3)


def test_roi_mean_against_replicas():
    (operator,) = linearize(CgSense(0.01), ACQ)
    g = torch.Generator().manual_seed(5)
    n = 1500
    means = []
    for _ in range(n // 50):
        v = torch.randn(50, *operator.noise_shape, dtype=torch.complex64, generator=g)
        means.append((operator.value + operator.replicas(v)).abs()[:, ROI].double().mean(1))
    empirical = float(torch.cat(means).std())
    assert roi_std(CgSense(0.01), ACQ, ROI) == pytest.approx(empirical, rel=3 * (0.5 / n) ** 0.5)


def test_slices_add_in_quadrature():
    stack = simulate(SHAPE, 4, n_slices=3, seed=1).undersample(equispaced(SHAPE, 2))
    weights = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    each = [roi_std(Sense(), s, w) for s, w in zip(stack.slices(), weights, strict=True)]
    assert roi_std(Sense(), stack, weights) == pytest.approx(sum(v**2 for v in each) ** 0.5, rel=1e-5)
    # The same through a callable that takes all slices at once.
    assert roi_std(Sense().bind(stack), stack, weights) == pytest.approx(roi_std(Sense(), stack, weights), rel=1e-4)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.zeros(SHAPE), "not all zero"),
        (torch.ones(SHAPE, dtype=torch.complex64), "bool mask or real"),
        (torch.full(SHAPE, torch.nan), "finite"),
        (torch.ones(20, 12), r"does not fit the image.*\(12, 20\).*\(20, 12\)"),
    ],
)
def test_bad_regions_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        roi_std(Sense(), ACQ, weights)


@pytest.mark.parametrize("shape", [SHAPE, (2, *SHAPE), (4, *SHAPE)])
def test_a_region_with_the_wrong_slices_is_refused(shape):
    stack = simulate(SHAPE, 4, n_slices=3, seed=1)
    for reconstruction in (Sense(), Sense().bind(stack)):
        with pytest.raises(InputError, match=r"does not fit the image.*\(3, 12, 20\)"):
            roi_std(reconstruction, stack, torch.ones(shape))


def test_lost_adjoint_is_refused():
    with pytest.raises(InputError, match="adjoint of the reconstruction cannot be trusted"):
        roi_std(lambda k: Sense().bind(ACQ)(k.detach()), ACQ, ROI)


# -- means, differences, contrast-to-noise ---------------------------------------------------------------------

FIFTY = torch.zeros(SHAPE, dtype=torch.bool)
FIFTY[2:7, 4:14] = True
N_REPLICAS = 20_000
BACKGROUND = torch.zeros(SHAPE, dtype=torch.bool)
BACKGROUND[8:11, 3:9] = True  # aliases partly onto FIFTY: R = 2 along y, 6 voxels apart


def network(kspace):
    """Improper noise: a gated image, smoothed, as a small unrolled network has."""
    x = to_image(kspace).sum(-3)
    kernel = torch.tensor([[0.1, 0.5, 0.2], [0.0, 1.0, 0.3], [0.2, 0.1, 0.0]], dtype=x.real.dtype)
    gated = x * torch.tanh(x.abs() / SCALE)
    parts = torch.stack([gated.real, gated.imag])[:, None]
    real, imaginary = torch.nn.functional.conv2d(parts, kernel[None, None], padding=1)[:, 0]
    return torch.complex(real, 0.3 * imaginary) + x.conj() * 0.1


QUIET = simulate(SHAPE, 4, snr=400, seed=4).undersample(equispaced(SHAPE, 2))
QUIET = QUIET.replace(kspace=QUIET.kspace.to(torch.complex128))
SCALE = float(to_image(QUIET.kspace).sum(-3).abs().mean())


def agrees(sigma, empirical, n):
    """Within three standard errors of a standard deviation from n samples."""
    return abs(sigma / empirical - 1) < 3 * (0.5 / n) ** 0.5


def test_roi_std_of_50_voxels_is_exact_and_takes_one_backward_pass(monkeypatch):
    """Against the dense Jacobian to round-off, against 20,000 replicas to three of their standard errors of 0.5 %."""
    assert int(FIFTY.sum()) == 50
    matrix, x = dense_l(network, QUIET)
    unit = x / x.abs()
    along = torch.cat([unit.real, unit.imag])
    weighted = (FIFTY.flatten().double().repeat(2) / 50 * along) @ matrix
    expected = float((0.5 * weighted.square().sum()).sqrt())

    pulled, pushed = [], []
    adjoint, derivative = NoiseToImage.adjoint, NoiseToImage.derivative
    monkeypatch.setattr(NoiseToImage, "adjoint", lambda self, w: pulled.append(len(w)) or adjoint(self, w))
    monkeypatch.setattr(NoiseToImage, "derivative", lambda self, t: pushed.append(len(t)) or derivative(self, t))
    found = roi_mean(network, QUIET, FIFTY)
    assert (pulled, pushed) == ([1], [])
    assert found.std == pytest.approx(expected, rel=1e-9)
    assert found.std == roi_std(network, QUIET, FIFTY)
    assert found.value == pytest.approx(float(x.reshape(SHAPE).abs()[FIFTY].mean()), rel=1e-12)

    (operator,) = linearize(network, QUIET)
    g = torch.Generator().manual_seed(7)
    means = []
    for _ in range(N_REPLICAS // 500):
        v = torch.randn(500, *operator.noise_shape, dtype=torch.complex128, generator=g)
        means.append((operator.value + operator.replicas(v)).abs()[:, FIFTY].mean(1))
    empirical = float(torch.cat(means).std())
    assert agrees(found.std, empirical, N_REPLICAS)
    assert not agrees(found.std * 2**0.5, empirical, N_REPLICAS)
    assert not agrees(found.std / 2**0.5, empirical, N_REPLICAS)


def sense_covariance(acquisition):
    """Covariance of the unregularised SENSE image, (AᴴΨ⁻¹A)⁻¹, from the dense encoding matrix."""
    n = SHAPE[0] * SHAPE[1]
    images = torch.eye(n, dtype=torch.complex128).reshape(n, 1, *SHAPE)
    columns = (to_kspace(acquisition.coil_maps * images) * acquisition.mask).flatten(2)  # voxel, coil, sample
    inverse = torch.linalg.inv(acquisition.noise_covariance.matrix)
    whitened = torch.einsum("cd,jds->jcs", inverse, columns)
    return torch.linalg.inv(torch.einsum("ics,jcs->ij", columns.conj(), whitened))


def test_difference_and_cnr_of_sense_in_closed_form():
    """Regions that alias onto each other share noise; leaving the correlation out must not pass."""
    acq = ACQ.replace(kspace=ACQ.kspace.to(torch.complex128), coil_maps=ACQ.coil_maps.to(torch.complex128))
    found = roi_difference(Sense(), acq, FIFTY, BACKGROUND)
    x = Sense().bind(acq)(acq.kspace)
    u = (x / x.abs()).flatten()
    covariance = 0.5 * (u.conj()[:, None] * sense_covariance(acq) * u).real
    w = (FIFTY / FIFTY.sum() - BACKGROUND / BACKGROUND.sum()).flatten().double()
    sigma = float((w @ covariance @ w).sqrt())
    difference = float(x.abs()[FIFTY].mean() - x.abs()[BACKGROUND].mean())
    assert found.value == pytest.approx(difference, rel=1e-6)
    assert found.std == pytest.approx(sigma, rel=1e-6)
    assert found.ratio == pytest.approx(difference / sigma, rel=1e-6)
    assert sigma != pytest.approx(float((w.square() @ covariance.diagonal()).sqrt()), rel=0.05)
    assert roi_difference(Sense(), acq, BACKGROUND, FIFTY).ratio == pytest.approx(-found.ratio)

    nm = noise_map(Sense(), acq, method="exact")
    variance = covariance.diagonal().reshape(SHAPE)
    voxel = (0.5 * (variance[FIFTY].mean() + variance[BACKGROUND].mean())).sqrt()
    assert contrast_to_noise(nm, BACKGROUND, FIFTY) == pytest.approx(abs(difference) / float(voxel), rel=1e-5)


def test_ratios_do_not_depend_on_the_scale_of_the_image():
    def louder(kspace):
        return 7 * Sense().bind(ACQ)(kspace)

    first, second = (roi_difference(r, ACQ, FIFTY, BACKGROUND) for r in (Sense(), louder))
    assert second.value == pytest.approx(7 * first.value, rel=1e-4)
    assert second.ratio == pytest.approx(first.ratio, rel=1e-4)


def test_interval_covers_the_noise_free_mean():
    """95 % of 400 scans; the sampling floor of the coverage is 1.1 %, and σ/√2 would cover 83 %."""
    head = simulated_head(SHAPE, 4, snr=50, mask=equispaced(SHAPE, 2), seed=1)
    truth = float(Sense().bind(head.acquire(0))(head.signal * equispaced(SHAPE, 2)).abs()[FIFTY].mean())
    scans = [head.acquire(seed) for seed in range(400)]
    sigma = roi_mean(Sense(), scans[0], FIFTY).std
    function = Sense().bind(scans[0])
    values = [float(function(scan.kspace).abs()[FIFTY].mean()) for scan in scans]
    low, high = zip(*(Measurement(v, sigma).interval() for v in values), strict=True)
    covered = sum(a <= truth <= b for a, b in zip(low, high, strict=True)) / len(values)
    assert 0.915 <= covered <= 0.98


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ((FIFTY.double(), BACKGROUND), "expected a bool mask"),
        ((FIFTY, torch.zeros_like(FIFTY)), "at least one True voxel; received .* 0 non-zero"),
        ((FIFTY, BACKGROUND[:-1]), r"does not fit.*\(12, 20\).*\(11, 20\)"),
    ],
)
def test_bad_pairs_of_regions_are_refused(regions, message):
    with pytest.raises(InputError, match=message):
        roi_difference(Sense(), ACQ, *regions)
    with pytest.raises(InputError, match=message):
        contrast_to_noise(noise_map(Sense(), ACQ, n_samples=2), *regions)


def test_no_confidence_level_outside_0_to_1():
    with pytest.raises(InputError, match="confidence level"):
        Measurement(1.0, 0.1).interval(1.5)
