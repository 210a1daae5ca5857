"""Coil maps: against SigPy, BART and the truth; derivatives against finite differences."""

import shutil
import subprocess

import numpy as np
import pytest
import sigpy.mri.app
import torch

from mrnoise.calibration.eigenvector import divided_powers, dominant_eigenvector
from mrnoise.calibration.espirit_maps import calibration_block, espirit
from mrnoise.calibration.walsh_maps import walsh
from mrnoise.errors import InputError
from mrnoise.fourier import to_image
from mrnoise.sampling import equispaced
from mrnoise.simulation import Simulation, simulated_head

SHAPE = (72, 64)


def difference(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> float:
    """RMS over voxels of min_φ ‖a e^{iφ} - b‖ for unit vectors over the coils."""
    both = where & (a.abs().sum(0) > 0) & (b.abs().sum(0) > 0)
    assert both.sum() > 0.6 * where.sum()
    overlap = (a.conj() * b).sum(0)[both].abs()
    return float((2 - 2 * overlap).clamp_min(0).mean().sqrt())


def unit(maps: torch.Tensor) -> torch.Tensor:
    return maps / maps.abs().square().sum(0).sqrt()


@pytest.fixture(scope="module")
def scan() -> Simulation:
    return simulated_head(SHAPE, 6, snr=60)


@pytest.fixture(scope="module")
def whitened(scan: Simulation) -> torch.Tensor:
    return scan.noise_covariance.whiten(scan.acquire(3).kspace, -3)


@pytest.fixture(scope="module")
def truth(scan: Simulation) -> torch.Tensor:
    return unit(scan.noise_covariance.whiten(scan.coil_maps, -3))


def test_espirit_is_near_the_true_maps(scan, whitened, truth):
    assert difference(espirit(whitened), truth, scan.foreground) < 0.02


def test_espirit_agrees_with_sigpy(scan, whitened):
    app = sigpy.mri.app.EspiritCalib(
        whitened.numpy(), calib_width=24, thresh=0.02, kernel_width=6, crop=0.8, show_pbar=False
    )
    theirs = torch.from_numpy(np.array(app.run()))
    assert difference(espirit(whitened), theirs, scan.foreground) < 0.01


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")
def test_espirit_agrees_with_bart(scan, whitened, tmp_path):
    values = whitened.numpy()[:, None]  # BART: (coil, z, y, x) in C order
    (tmp_path / "k.hdr").write_text("# Dimensions\n" + " ".join(map(str, values.shape[::-1])) + "\n")
    values.astype(np.complex64).tofile(tmp_path / "k.cfl")
    options = ["-r", "24", "-k", "6", "-m", "1", "-c", "0.8", "-t", str(0.02**2)]
    subprocess.run(["bart", "ecalib", *options, "k", "s"], cwd=tmp_path, check=True, capture_output=True)
    sizes = [int(n) for n in (tmp_path / "s.hdr").read_text().splitlines()[1].split()]
    theirs = np.fromfile(tmp_path / "s.cfl", np.complex64).reshape(sizes[::-1]).squeeze()
    assert difference(espirit(whitened), torch.from_numpy(theirs), scan.foreground) < 0.01


def test_the_comparison_notices_wrong_maps(scan, whitened, truth):
    maps = espirit(whitened)
    assert difference(maps.flip(0), truth, scan.foreground) > 0.3
    assert difference(maps.conj(), truth, scan.foreground) > 0.1
    assert difference(maps.roll(2, -1), truth, scan.foreground) > 0.02  # origin at n // 2


@pytest.mark.parametrize("estimate", [espirit, lambda k: walsh(to_image(k))])
def test_maps_are_unit_vectors_inside_and_zero_outside(whitened, estimate):
    maps = estimate(whitened)
    power = maps.abs().square().sum(0)
    inside = power > 0
    assert maps.shape == whitened.shape
    assert maps.dtype == whitened.dtype
    assert torch.allclose(power[inside], torch.ones(()), atol=1e-4)
    assert 0.3 < inside.float().mean() < 0.98


def test_odd_sizes_share_the_origin():
    scan = simulated_head((65, 71), 5, snr=80)
    kspace = scan.noise_covariance.whiten(scan.acquire(1).kspace, -3)
    truth = unit(scan.noise_covariance.whiten(scan.coil_maps, -3))
    assert difference(espirit(kspace), truth, scan.foreground) < 0.02


def test_volumes():
    scan = simulated_head((24, 36, 30), 4, snr=80)
    kspace = scan.noise_covariance.whiten(scan.acquire(1).kspace, -4)
    truth = unit(scan.noise_covariance.whiten(scan.coil_maps, -4))
    maps = espirit(kspace, calibration=14, kernel=4, spatial_dims=3)
    assert difference(maps, truth, scan.foreground) < 0.05
    maps = walsh(to_image(kspace, 3), window=3, spatial_dims=3)
    assert difference(maps, truth, scan.foreground) < 0.1


def test_slices_are_independent(whitened):
    pair = torch.stack([whitened, whitened.flip(0)])
    maps = espirit(pair, kernel=4)
    assert torch.equal(maps[0], espirit(whitened, kernel=4))
    assert torch.equal(walsh(pair)[1], walsh(pair[1]))


def test_only_the_calibration_block_matters(whitened):
    mask = equispaced(SHAPE, 3, calibration=20)
    maps = espirit(whitened * mask, mask)
    block = torch.zeros(SHAPE, dtype=torch.bool)
    block[26:46, 20:44] = True
    assert torch.equal(maps, espirit(whitened * block, mask))
    assert not torch.allclose(maps, espirit(whitened), atol=1e-4)


def test_walsh_is_near_the_true_maps(scan, whitened, truth):
    maps = walsh(to_image(whitened))
    assert difference(maps, truth, scan.foreground) < 0.05
    assert difference(maps.roll(4, -1), truth, scan.foreground) > 0.05


# -- derivatives -----------------------------------------------------------------------------------------------


def small_espirit(k: torch.Tensor) -> torch.Tensor:
    return espirit(k, calibration=12, kernel=3, threshold=0.05)


def small_walsh(k: torch.Tensor) -> torch.Tensor:
    return walsh(to_image(k), window=5)


@pytest.fixture(scope="module")
def tiny() -> torch.Tensor:
    scan = simulated_head((22, 18), 3, snr=60)
    return scan.noise_covariance.whiten(scan.acquire(0).kspace, -3).to(torch.complex128)


def directions(tiny: torch.Tensor, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, *tiny.shape, dtype=tiny.dtype, generator=generator)


def inner(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.conj() * b).sum().real)


@pytest.mark.parametrize("estimate", [small_espirit, small_walsh])
def test_jvp_is_the_central_difference(tiny, estimate):
    (v,) = directions(tiny, 1)
    step = 1e-5
    expected = (estimate(tiny + step * v) - estimate(tiny - step * v)) / (2 * step)
    got = torch.func.jvp(estimate, (tiny,), (v,))[1]
    assert (got - expected).norm() <= 1e-5 * expected.norm()
    assert (got.conj() - expected).norm() > 0.1 * expected.norm()  # the check can fail
    assert got.norm() > 0


@pytest.mark.parametrize("estimate", [small_espirit, small_walsh])
def test_vjp_is_the_adjoint(tiny, estimate):
    v, w = directions(tiny, 2)
    forward = torch.func.jvp(estimate, (tiny,), (v,))[1]
    (backward,) = torch.func.vjp(estimate, tiny)[1](w)
    assert inner(forward, w) == pytest.approx(inner(v, backward), rel=1e-9)
    assert inner(forward, w) != pytest.approx(inner(v, backward.conj()), rel=1e-2)


@pytest.mark.parametrize("estimate", [small_espirit, small_walsh])
def test_vmapped_derivatives_are_the_looped_ones(tiny, estimate):
    many = directions(tiny, 3)

    def push(v):
        return torch.func.jvp(estimate, (tiny,), (v,))[1]

    pull = torch.func.vjp(estimate, tiny)[1]
    assert torch.allclose(torch.func.vmap(push)(many), torch.stack([push(v) for v in many]), atol=1e-10)
    looped = torch.stack([pull(v)[0] for v in many])
    assert torch.allclose(torch.func.vmap(pull)(many)[0], looped, atol=1e-10 * float(looped.abs().max()))


@pytest.mark.parametrize("estimate", [small_espirit, small_walsh])
def test_double_reverse_is_the_jvp(tiny, estimate):
    (v,) = directions(tiny, 1)
    pull = torch.func.vjp(estimate, tiny)[1]
    zero = torch.zeros_like(tiny)
    twice = torch.func.vjp(lambda w: pull(w)[0], zero)[1](v)[0]
    assert torch.allclose(twice, torch.func.jvp(estimate, (tiny,), (v,))[1], atol=1e-9)


def test_single_precision_derivative_follows_double(tiny):
    (v,) = directions(tiny, 1)
    double = torch.func.jvp(small_espirit, (tiny,), (v,))[1]
    single = torch.func.jvp(small_espirit, (tiny.to(torch.complex64),), (v.to(torch.complex64),))[1]
    assert (single - double).norm() < 1e-4 * double.norm()


@pytest.mark.parametrize("estimate", [small_espirit, small_walsh])
@pytest.mark.parametrize("kind", ["noise", "zero", "one coil"])
def test_hopeless_data_stay_finite(tiny, estimate, kind):
    noise, v = directions(tiny, 2)
    kspace = {"noise": noise, "zero": torch.zeros_like(tiny), "one coil": tiny.clone()}[kind]
    if kind == "one coil":
        kspace[1:] = 0
    maps, tangent = torch.func.jvp(estimate, (kspace,), (v,))
    gradient = torch.func.vjp(estimate, kspace)[1](v)[0]
    for values in (maps, tangent, gradient):
        assert torch.isfinite(torch.view_as_real(values)).all()


def test_equal_eigenvalues_stay_finite():
    matrix = torch.eye(4, dtype=torch.complex128).expand(3, 4, 4)
    u = torch.tensor([1, 1j, 0, 2], dtype=torch.complex128)
    tangent = torch.diag(torch.tensor([1.0, -1, 0.5, 0])).to(matrix).expand_as(matrix)
    vector, change = torch.func.jvp(lambda m: dominant_eigenvector(m, u)[0], (matrix,), (tangent,))
    assert torch.allclose(vector[0], u / u.norm())
    step = 1e-6
    moved = [dominant_eigenvector(matrix + s * step * tangent, u)[0] for s in (1, -1)]
    assert torch.allclose(change, (moved[0] - moved[1]) / (2 * step), atol=1e-6)
    assert change.abs().max() > 1


def test_divided_powers():
    q = torch.tensor([0.0, 0.3, 0.7, 0.7, 1.0], dtype=torch.float64)
    got = divided_powers(q, 3)
    quotient = (q[:, None] ** 8 - q**8) / (q[:, None] - q)
    apart = q[:, None] != q
    assert torch.allclose(got[apart], quotient[apart])
    assert torch.allclose(got.diagonal(), 8 * q**7)


# -- calibration block and refusals ----------------------------------------------------------------------------


def block_mask(height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[20 - height // 2 : 20 - height // 2 + height, 25 - width // 2 : 25 - width // 2 + width] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (None, (24, 24)),
        (equispaced((40, 50), 1), (24, 24)),
        (equispaced((40, 50), 4), (1, 24)),
        (equispaced((40, 50), 2, calibration=10), (10, 24)),
        (block_mask(9, 14), (9, 14)),
        (block_mask(40, 15), (24, 15)),
        (~block_mask(2, 2), (0, 0)),
    ],
)
def test_calibration_block(mask, expected):
    assert calibration_block((40, 50), mask, 24) == expected


def test_calibration_block_inside_an_ellipse():
    y, x = torch.meshgrid(torch.arange(40) - 20, torch.arange(50) - 25, indexing="ij")
    mask = (y / 10.0) ** 2 + (x / 14.0) ** 2 < 1
    height, width = calibration_block((40, 50), mask, 24)
    assert min(height, width) >= 12


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda k: espirit(k, equispaced(SHAPE, 4, calibration=8)), "too small for coil calibration"),
        (lambda k: espirit(k, calibration=10), "at least 11 samples"),
        (lambda k: espirit(k, torch.ones(3, 4)), "mask has the wrong shape"),
        (lambda k: espirit(k.real), "does not fit the coil calibration"),
        (lambda k: espirit(k[0]), "does not fit the coil calibration"),
        (lambda k: espirit(k, threshold=0), "settings"),
        (lambda k: espirit(k, crop=1), "settings"),
        (lambda k: espirit(k, kernel=1), "settings"),
        (lambda k: walsh(k, window=4), "odd window"),
        (lambda k: walsh(k, crop=1.5), "crop"),
        (lambda k: walsh(k[0]), "do not fit"),
    ],
)
def test_refusals(whitened, call, match):
    with pytest.raises(InputError, match=match):
        call(whitened)
