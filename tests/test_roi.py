import pytest
import torch

from mrnoise import InputError, noise_map, roi_std
from mrnoise.acquisition.sampling import equispaced
from mrnoise.linearization import linearize
from mrnoise.reconstruction import CgSense, RootSumOfSquares, Sense
from mrnoise.simulation import simulate

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
