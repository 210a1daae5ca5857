"""Every reconstruction: its formula against dense matrices, and all its derivatives."""

import dataclasses

import pytest
import torch
from torch import Tensor

from mrnoise import Acquisition, InputError, NoiseCovariance
from mrnoise.fourier import to_image, to_kspace
from mrnoise.linearization.derivatives import JVP_MODES, VJP_MODES
from mrnoise.reconstruction import CgSense, RootSumOfSquares, Sense, ZeroFilled
from mrnoise.sampling import caipi, equispaced
from mrnoise.simulation import simulated_head

COILS, SHAPE = 5, (8, 12)


def scan(mask: Tensor | None = None, seed: int = 0) -> Acquisition:
    head = simulated_head(SHAPE, COILS, snr=20, mask=mask, seed=seed)
    acq = head.acquire(seed)
    # Double precision, so that finite differences are a sharp oracle.
    return acq.replace(kspace=acq.kspace.to(torch.complex128), coil_maps=acq.coil_maps.to(torch.complex128))


def dense_system(acq: Acquisition) -> tuple[Tensor, Tensor]:
    """A (samples × voxels) and Ψ⁻¹ on the samples, both normalised to unit mean coil variance."""
    n = SHAPE[0] * SHAPE[1]
    basis = torch.eye(n, dtype=torch.complex128).reshape(n, 1, *SHAPE)
    a = (to_kspace(acq.coil_maps * basis) * acq.mask).reshape(n, -1).T
    inverse = torch.linalg.inv(acq.noise_covariance.matrix / acq.noise_covariance.mean_variance)
    weight = torch.kron(inverse.contiguous(), torch.eye(n, dtype=torch.complex128))
    return a, weight


MASKS = {
    "full": None,
    "R2": equispaced(SHAPE, 2),
    "R4 shifted": equispaced(SHAPE, 4, offset=1),
    "caipi 2x2": caipi(SHAPE, (2, 2)),
    "calibrated": equispaced(SHAPE, 2, calibration=4),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("regularization", [0.0, 0.07])
def test_sense_and_cg_sense_solve_the_normal_equations(name, regularization):
    acq = scan(MASKS[name])
    a, w = dense_system(acq)
    h = a.mH @ w @ a + regularization * torch.eye(a.shape[1])
    expected = torch.linalg.solve(h, a.mH @ w @ acq.kspace.flatten()).reshape(SHAPE)
    methods = [CgSense(regularization, tolerance=1e-12)]
    if name != "calibrated":
        methods.append(Sense(regularization))
    for method in methods:
        x = method.bind(acq)(acq.kspace)
        assert float((x - expected).norm() / expected.norm()) < 1e-7, method


@pytest.mark.parametrize("axis", [0, 1])
def test_inverted_lines_are_the_converged_iteration(axis, monkeypatch):
    mask = equispaced(SHAPE, 2, calibration=4) if axis == 0 else equispaced(SHAPE[::-1], 3, calibration=4).T
    acq = scan(mask)
    method = CgSense(0.02, tolerance=1e-12)
    direct = method.bind(acq)(acq.kspace)
    monkeypatch.setattr("mrnoise.encoding.lines.LARGEST_INVERSE", 0)
    torch.testing.assert_close(direct, method.bind(acq)(acq.kspace))


@pytest.mark.parametrize("iterations", [1, 5])
def test_iterations_stop_where_those_of_scipy_do(iterations):
    from scipy.sparse.linalg import cg

    acq = scan(MASKS["caipi 2x2"])
    a, w = dense_system(acq)
    h = a.mH @ w @ a + 0.01 * torch.eye(a.shape[1])
    expected, _ = cg(h.numpy(), (a.mH @ w @ acq.kspace.flatten()).numpy(), rtol=0, maxiter=iterations)
    x = CgSense(0.01, iterations=iterations).bind(acq)(acq.kspace)
    torch.testing.assert_close(x.flatten(), torch.from_numpy(expected))


def test_zero_filled_is_the_weighted_adjoint():
    acq = scan(MASKS["R2"])
    a, w = dense_system(acq)
    x = ZeroFilled().bind(acq)(acq.kspace)
    torch.testing.assert_close(x.flatten(), a.mH @ w @ acq.kspace.flatten())


def test_root_sum_of_squares():
    acq = scan()
    x = RootSumOfSquares().bind(acq)(acq.kspace)
    torch.testing.assert_close(x, to_image(acq.kspace).abs().square().sum(0).sqrt())


CASES = {
    "zero filled": (ZeroFilled(), "R2"),
    "root sum of squares": (RootSumOfSquares(), "R2"),
    "sense": (Sense(0.01), "R2"),
    "cg sense, lines inverted": (CgSense(0.05), "calibrated"),
    "cg sense, iterated": (CgSense(0.05, tolerance=1e-12), "caipi 2x2"),
    "cg sense, stopped early": (CgSense(0.05, iterations=4), "caipi 2x2"),
}


def central_difference(function, point, tangent, step=1e-4):
    return (function(point + step * tangent) - function(point - step * tangent)) / (2 * step)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_agree_in_every_mode(name):
    method, mask = CASES[name]
    acq = scan(MASKS[mask])
    function = method.bind(acq)
    check_derivatives(function, acq)


@pytest.mark.parametrize("method", [ZeroFilled(), CgSense(0.05, tolerance=1e-12)])
def test_derivatives_through_the_coil_map_estimate(method):
    """Calibration lines carry noise too: ESPIRiT inside the reconstruction is differentiated."""
    head = simulated_head((24, 28), 4, snr=200, mask=equispaced((24, 28), 2, calibration=16))
    acq = head.acquire(0)
    acq = acq.replace(kspace=acq.kspace.to(torch.complex128), coil_maps=None)
    check_derivatives(method.bind(acq), acq, tolerance=1e-4)
    fixed = dataclasses.replace(method, differentiate_coil_maps=False).bind(acq)
    free = method.bind(acq)
    torch.testing.assert_close(free(acq.kspace), fixed(acq.kspace))
    t = acq.colour(torch.randn(acq.kspace.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(1)))
    jvp = JVP_MODES["vmap(jvp)"]
    a, b = jvp(fixed, acq.kspace, t[None]), jvp(free, acq.kspace, t[None])
    assert float((a - b).norm() / b.norm()) > 0.01  # holding the maps fixed is another noise


def check_derivatives(function, acq: Acquisition, tolerance: float = 1e-6) -> None:
    g = torch.Generator().manual_seed(3)
    unit = torch.randn(3, *acq.kspace.shape, dtype=torch.complex128, generator=g)
    tangents = acq.colour(unit)
    expected = torch.stack([central_difference(function, acq.kspace, t) for t in tangents])
    for name in ("vmap(jvp)", "looped jvp", "double reverse"):
        mode = JVP_MODES[name]
        found = mode(function, acq.kspace, tangents)
        assert float((found - expected).norm() / expected.norm()) < tolerance, name
    w = torch.randn(2, *expected.shape[1:], dtype=expected.dtype, generator=g)
    left = torch.einsum("bi,wi->bw", expected.flatten(1).conj(), w.flatten(1)).real
    for name, mode in list(VJP_MODES.items())[1:]:
        pulled = mode(function, acq.kspace, w)
        right = torch.einsum("bi,wi->bw", tangents.flatten(1).conj(), pulled.flatten(1)).real
        scale = expected.flatten(1).norm(dim=1)[:, None] * w.flatten(1).norm(dim=1)
        assert float(((left - right) / scale).abs().max()) < tolerance, name


@pytest.mark.parametrize("name", CASES)
def test_leading_axes_are_batch(name):
    method, mask = CASES[name]
    acq = scan(MASKS[mask])
    function = method.bind(acq)
    stack = torch.stack([acq.kspace, 2j * acq.kspace.flip(-1) * acq.mask, 0.1 * acq.kspace])
    together = function(stack.reshape(3, 1, *acq.kspace.shape))
    assert together.shape == (3, 1, *SHAPE)
    for one, x in zip(stack, together[:, 0], strict=True):
        torch.testing.assert_close(function(one), x)


def test_slices_with_their_own_coil_maps():
    head = simulated_head(SHAPE, COILS, n_slices=3, mask=MASKS["R2"])
    acq = head.acquire(0)
    together = CgSense(0.01).bind(acq)(acq.kspace)
    one_by_one = [CgSense(0.01).bind(s)(s.kspace) for s in acq.slices()]
    torch.testing.assert_close(together, torch.stack(one_by_one), rtol=1e-4, atol=1e-5)


def test_volume():
    head = simulated_head((4, 6, 10), 4, mask=caipi((4, 6, 10), (2, 2)))
    acq = head.acquire(0)
    x = CgSense(0.1, tolerance=1e-7).bind(acq)(acq.kspace)
    y = Sense(0.1).bind(acq)(acq.kspace)
    assert x.shape == (4, 6, 10)
    assert float((x - y).norm() / y.norm()) < 1e-4


def test_scale_of_the_covariance_does_not_change_the_image():
    acq = scan(MASKS["R2"])
    louder = acq.replace(noise_covariance=NoiseCovariance(100 * acq.noise_covariance.matrix))
    for method in (Sense(0.05), CgSense(0.05)):
        torch.testing.assert_close(method.bind(acq)(acq.kspace), method.bind(louder)(acq.kspace))


def test_voxels_that_no_coil_sees_stay_zero():
    acq = scan(MASKS["R2"])
    maps = acq.coil_maps.clone()
    maps[:, :3] = 0
    for method in (Sense(), CgSense(0.0), ZeroFilled()):
        x = method.bind(acq.replace(coil_maps=maps))(acq.kspace)
        assert bool(torch.isfinite(x.abs()).all())
        assert float(x[:3].abs().max()) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sense(-1.0), "invalid regularisation"),
        (lambda: CgSense(float("nan")), "invalid regularisation"),
        (lambda: CgSense(tolerance=0), "invalid stopping rule"),
        (lambda: CgSense(iterations=0), "invalid stopping rule"),
        (lambda: Sense().bind(scan(MASKS["calibrated"])), "not a regular lattice"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
