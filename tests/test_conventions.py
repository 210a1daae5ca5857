"""One test for each line of CONVENTIONS.md; each fails for a factor of √2."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import mrnoise
from mrnoise import Acquisition, Geometry, NoiseCovariance, g_factor, noise_map, roi_std
from mrnoise.acquisition import noise_covariance_from_scan
from mrnoise.closed_form import fully_sampled_std, sense_std
from mrnoise.encoding import Nufft
from mrnoise.fourier import to_image, to_kspace
from mrnoise.io import read
from mrnoise.io.scans.noise_scan import bandwidth_factor
from mrnoise.measurement import (
    contrast_to_noise,
    noise_correlation,
    noise_power_spectrum,
    point_spread,
    roi_difference,
)
from mrnoise.reconstruction import CgSense, Grappa, RootSumOfSquares, Sense, ZeroFilled
from mrnoise.sampling import Trajectory, equispaced, radial
from mrnoise.simulation import random_noise_covariance, simulated_head

N = 40_000
FLOOR = N**-0.5  # relative error of a variance from N complex samples
SHAPE = (12, 20)


def gaussian(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def one_coil(variance=4.0, shape=SHAPE, mask=None, signal=100.0):
    image = torch.full(shape, signal, dtype=torch.complex128)
    mask = torch.ones(shape, dtype=torch.bool) if mask is None else mask
    return Acquisition(to_kspace(image)[None], torch.tensor([[variance]]), mask=mask)


def coil_image(kspace):
    return to_image(kspace)[0]


def test_every_convention_has_its_test():
    text = (Path(__file__).resolve().parents[1] / "CONVENTIONS.md").read_text()
    stated = {int(n) for n in re.findall(r"\*\*C(\d+)\*\*", text)}
    tested = {int(n) for n in re.findall(r"^def test_c(\d+)_", Path(__file__).read_text(), re.M)}
    assert stated == tested == set(range(1, max(stated) + 1))


def test_c1_total_complex_variance():
    psi = random_noise_covariance(3, 20.0, seed=1)
    noise = psi.colour(gaussian(3, N), 0)
    total = noise.real.var(1) + noise.imag.var(1)
    torch.testing.assert_close(total, psi.matrix.diagonal().real, rtol=4 * FLOOR, atol=0)
    torch.testing.assert_close(noise.real.var(1), total / 2, rtol=8 * FLOOR, atol=0)


def test_c2_covariance_of_a_noise_scan():
    noise = gaussian(3, 50, seed=1)
    found = noise_covariance_from_scan(noise)
    torch.testing.assert_close(found.matrix, torch.einsum("an,bn->ab", noise, noise.conj()) / 50)
    torch.testing.assert_close(found.factor @ found.factor.mH, found.matrix)
    torch.testing.assert_close(found.factor, found.factor.tril())
    v = gaussian(3, 7, seed=2)
    torch.testing.assert_close(found.colour(v, 0), found.factor @ v)


def test_c3_bandwidth_scaling():
    assert bandwidth_factor(10.0, 2.5, 0.793) == pytest.approx(2.5 / 10 / 0.793)
    assert bandwidth_factor(0.0, 2.5, 0.793) == bandwidth_factor(10.0, 0.0, 0.793) == 1
    # A receiver that averages white noise over its dwell time: four times as long, a quarter of the variance.
    fast = gaussian(N)
    slow = fast.reshape(-1, 4).mean(1)
    measured = float(slow.abs().square().mean() / fast.abs().square().mean())
    assert bandwidth_factor(4.0, 1.0, 1.0) == pytest.approx(measured, rel=4 * (4 / N) ** 0.5)


def test_c4_noise_only_where_acquired():
    mask = equispaced(SHAPE, 2)
    averages = torch.full(SHAPE, 3)
    acq = one_coil(4.0, mask=mask).replace(averages=averages)
    noise = acq.colour(gaussian(200, 1, *SHAPE))
    assert float(noise[..., ~mask].abs().max()) == 0
    power = float(noise[..., mask].abs().square().mean())
    assert power == pytest.approx(4 / 3, rel=4 * (200 * int(mask.sum())) ** -0.5)


def test_c5_axes():
    acq = Acquisition(gaussian(2, 3, *SHAPE), torch.eye(3))
    assert (acq.batch_shape, acq.n_coils, acq.image_shape) == ((2,), 3, (2, *SHAPE))
    volume = Acquisition(gaussian(3, 4, *SHAPE), torch.eye(3), spatial_dims=3)
    assert (volume.n_coils, volume.image_shape) == (3, (4, *SHAPE))
    point = torch.zeros(SHAPE, dtype=torch.complex128)
    point[SHAPE[0] // 2, SHAPE[1] // 2] = 1
    flat = to_kspace(point)
    torch.testing.assert_close(flat, torch.full_like(flat, (SHAPE[0] * SHAPE[1]) ** -0.5))


def test_c6_orthonormal_transforms_keep_the_variance():
    noise = gaussian(100, 8, 50)
    images = to_image(noise)
    assert float(images.abs().square().mean()) == pytest.approx(1, rel=4 * FLOOR)
    cut = to_kspace(images[..., 12:37])  # readout oversampling of two removed
    assert float(cut.abs().square().mean()) == pytest.approx(1, rel=6 * FLOOR)


def test_c7_affine(tmp_path):
    import nibabel

    affine = np.array([[0, 0, 3.0, 5], [2, 0, 0, 6], [0, 4, 0, 7], [0, 0, 0, 1]])
    acq = one_coil().replace(geometry=Geometry((3, 4, 2), affine))
    mrnoise.save(noise_map(coil_image, acq, n_samples=3), tmp_path / "a.nii.gz")
    stored = nibabel.load(tmp_path / "a_std.nii.gz")
    np.testing.assert_allclose(stored.affine, affine)
    assert stored.shape == (SHAPE[1], SHAPE[0], 1)  # (x, y, z)
    echoes = acq.replace(kspace=acq.kspace.expand(3, *acq.kspace.shape), axes=("echo",))
    mrnoise.save(noise_map(lambda k: to_image(k).sum(-3), echoes, method="sketch", n_samples=3), tmp_path / "b.nii.gz")
    assert nibabel.load(tmp_path / "b_std.nii.gz").shape == (SHAPE[1], SHAPE[0], 1, 3)


def test_c8_variance_is_total():
    nm = noise_map(coil_image, one_coil(4.0), method="exact")
    torch.testing.assert_close(nm.variance, torch.full(SHAPE, 4.0, dtype=torch.float64))
    torch.testing.assert_close(nm.std, torch.full(SHAPE, 2.0, dtype=torch.float64))


def test_c9_magnitude_noise():
    acq = one_coil(4.0)
    nm = noise_map(coil_image, acq, method="exact")
    torch.testing.assert_close(nm.magnitude_std, nm.std / 2**0.5)
    draws = torch.stack([coil_image(acq.kspace + acq.colour(gaussian(1, *SHAPE, seed=s))) for s in range(200)])
    empirical = float(draws.abs().var(0).mean().sqrt())
    assert empirical == pytest.approx(2**0.5, rel=4 * (0.5 / (200 * draws[0].numel())) ** 0.5)
    # Improper noise: the real part alone. All of it lies along the phase of a real positive voxel.
    improper = noise_map(lambda k: coil_image(k).real, acq, method="exact")
    torch.testing.assert_close(improper.magnitude_std, improper.std)


def test_c10_phase_noise_in_radians():
    nm = noise_map(coil_image, one_coil(4.0, signal=100.0), method="exact")
    torch.testing.assert_close(nm.phase_std, torch.full(SHAPE, 2**0.5 / 100, dtype=torch.float64))
    rotated = noise_map(lambda k: 1j * coil_image(k).real.to(k.dtype), one_coil(4.0), method="exact")
    assert float(rotated.real_std.max()) < 1e-6
    torch.testing.assert_close(rotated.imaginary_std, rotated.std)


def test_c11_snr_units():
    nm = noise_map(coil_image, one_coil(4.0, signal=100.0), method="exact")
    torch.testing.assert_close(nm.snr, torch.full(SHAPE, 100 / 2**0.5, dtype=torch.float64))


def test_c12_g_factor():
    head = simulated_head(SHAPE, 4, seed=1)
    full = head.acquire(0)
    assert float((noise_map(Sense(), full, method="exact").g_factor - 1).abs().max()) < 1e-4
    acq = full.undersample(equispaced(SHAPE, 2))
    nm = noise_map(Sense(), acq, method="exact")
    torch.testing.assert_close(nm.g_factor, nm.std / (2**0.5 * fully_sampled_std(acq)))
    assert float(nm.g_factor.min()) > 0.9999
    for unlike in (RootSumOfSquares(), ZeroFilled(), lambda k: Sense().bind(acq)(k).abs()):
        assert noise_map(unlike, acq, n_samples=2).g_factor is None
    rss = [noise_map(RootSumOfSquares(), a, method="exact") for a in (acq, full)]
    assert 0 < float(g_factor(*rss, acceleration=2.0).value.median()) < 2
    grappa = full.undersample(equispaced(SHAPE, 2)).replace(calibration=full.kspace)
    for combination, part in (("rss", 0.5), ("adaptive", 1.0)):
        nm = noise_map(Grappa((2, 3), combination=combination), grappa, method="closed_form")
        reference = (part * full.noise_covariance.mean_variance) ** 0.5
        inside = nm.image != 0
        torch.testing.assert_close(nm.g_factor[inside], (nm.std / (2**0.5 * reference))[inside], rtol=1e-6, atol=0)
    calibrated = full.undersample(equispaced(SHAPE, 2, calibration=4))
    assert calibrated.acceleration == pytest.approx(12 / 8)  # 6 lines, 4 central ones of which 2 are new


def test_c13_relative_error():
    nm = noise_map(coil_image, one_coil(4.0), method="sketch", n_samples=100)
    torch.testing.assert_close(nm.relative_error, 0.5 * nm.estimate.variance_error / nm.variance)
    assert float(nm.relative_error.median()) == pytest.approx(1 / (4 * 100) ** 0.5, rel=0.05)
    assert bool(noise_map(coil_image, one_coil(), method="sketch", n_samples=1).relative_error.isnan().all())
    nm = noise_map(coil_image, one_coil(4.0), method="sketch", target_error=0.1)
    expected = float(nm.relative_error.square().mean().sqrt())
    assert expected < nm.certified_error <= 0.1


def test_c14_roi():
    acq = one_coil(4.0)
    roi = torch.zeros(SHAPE, dtype=torch.bool)
    roi[3:8, 2:12] = True
    assert roi_std(coil_image, acq, roi) == pytest.approx((4 / 2 / 50) ** 0.5)
    assert roi_std(coil_image, acq, roi.double()) == pytest.approx((4 / 2 * 50) ** 0.5)


def test_c15_tikhonov():
    acq = simulated_head(SHAPE, 4, seed=1).acquire(0)
    louder = acq.replace(noise_covariance=NoiseCovariance(9 * acq.noise_covariance.matrix))
    torch.testing.assert_close(Sense(0.1).bind(acq)(acq.kspace), Sense(0.1).bind(louder)(acq.kspace))
    torch.testing.assert_close(sense_std(louder, 0.1), 3 * sense_std(acq, 0.1))
    h = acq.noise_covariance.mean_variance / fully_sampled_std(acq) ** 2  # ψ SᴴΨ⁻¹S
    psi = acq.noise_covariance.mean_variance
    torch.testing.assert_close(sense_std(acq, 0.1), (psi * h / (h + 0.1) ** 2).sqrt())


def test_c17_contrast_to_noise():
    image = torch.full(SHAPE, 100.0, dtype=torch.complex128)
    image[:, 10:] = 60
    acq = one_coil(4.0).replace(kspace=to_kspace(image)[None])
    first, second = torch.zeros(2, *SHAPE, dtype=torch.bool)
    first[3:8, 0:10] = True
    second[3:7, 10:15] = True
    difference = roi_difference(coil_image, acq, second, first)
    assert difference.value == pytest.approx(-40)
    assert difference.ratio == pytest.approx(-40 / (2 / 50 + 2 / 20) ** 0.5)
    nm = noise_map(coil_image, acq, method="exact")
    assert contrast_to_noise(nm, second, first) == pytest.approx(40 / 2**0.5)


def neighbours(kspace):
    """Each voxel and half of the next."""
    x = coil_image(kspace)
    return x + 0.5 * x.roll(1, -1)


def test_c18_noise_correlation():
    acq = one_coil(4.0)
    nm = noise_map(neighbours, acq, method="exact")
    found = noise_correlation(neighbours, acq, (5, 7), nm)
    assert found.covariance[5, 6:9].tolist() == pytest.approx([1, 2.5, 1])  # ½ · 4 · (0.5, 1.25, 0.5)
    assert found.coefficient[5, 6:9].tolist() == pytest.approx([0.4, 1, 0.4])


def test_c19_noise_power_spectrum():
    acq = one_coil(4.0).replace(geometry=Geometry((5, 0.5, 3)))
    roi = torch.ones(SHAPE, dtype=torch.bool)
    found = noise_power_spectrum(coil_image, acq, roi)
    assert float(found.radial.mean()) == pytest.approx(4 / 2 * 0.5 * 3, rel=0.05)
    df = 1 / (2 * SHAPE[0] * 0.5) / (2 * SHAPE[1] * 3)
    assert float(found.spectrum.sum()) * df == pytest.approx(found.variance)
    assert found.variance == pytest.approx(4 / 2, rel=4 * (2 / (320 * 240)) ** 0.5)
    assert found.length == pytest.approx((0.5, 3), rel=0.05)
    unknown = noise_power_spectrum(coil_image, one_coil(4.0), roi)
    assert unknown.unit == "voxel"
    assert float(unknown.radial.mean()) == pytest.approx(4 / 2, rel=0.05)


def test_c20_point_spread():
    maps = torch.ones(1, *SHAPE, dtype=torch.complex128)
    acq = one_coil().replace(geometry=Geometry((5, 0.5, 3)), coil_maps=maps)
    found = point_spread(neighbours, acq, (5, 7))
    assert found.response[5, 6:9].tolist() == pytest.approx([0, 1, 0.5])
    assert found.contrast_recovery == pytest.approx(1)
    # At half maximum half a voxel before and one voxel behind.
    assert found.width == pytest.approx((0.5, 1.5 * 3))


def test_c16_sigpy():
    mri = pytest.importorskip("sigpy.mri")
    noise = (gaussian(3, 50) + 2).numpy()
    centred = noise - noise.mean(1, keepdims=True)
    given = noise.copy()
    expected = 50 * noise_covariance_from_scan(torch.from_numpy(centred)).matrix.numpy()
    np.testing.assert_allclose(mri.get_cov(given), expected)
    np.testing.assert_allclose(given, centred)  # what was handed over has changed


def test_c21_bias_and_linearity():
    """|s + n|²: bias v; d - Jn = |n|² with E|n|⁴ = 2v², V₁ = 2|s|²v, V = V₁ + v²."""

    def power(kspace):
        return coil_image(kspace).abs().square()

    v = 4.0
    nm = noise_map(power, one_coil(v, signal=10.0), method="nonlinear", n_samples=400)
    # d - Jn has standard deviation v: 400 pairs × 240 voxels know its mean to 0.3 %.
    assert float(nm.bias.real.mean()) == pytest.approx(v, rel=0.015)
    assert float(nm.bias_error.median()) == pytest.approx(v / 400**0.5, rel=0.05)
    for signal, verdict in ((20.0, "linear"), (3.0, "not linear")):
        found = noise_map(power, one_coil(v, signal=signal), method="sketch", n_samples=2).linearity.worst
        assert found.verdict == verdict
        assert found.departure == pytest.approx(v**0.5 / signal, rel=0.15)  # from at least 8 × 240 samples
        assert found.error_low <= 0.5 * v / (2 * signal**2) <= found.error_high


def test_c22_trajectories():
    """g of unregularised least squares is √([H⁻¹]_ii H_ii); denser readouts in a wider band change neither σ nor g."""
    head = simulated_head((8, 7), 4, noise_covariance=random_noise_covariance(4, 5.0, 1))
    maps = head.coil_maps.to(torch.complex128)
    found = []
    for oversampling in (1, 2):
        spokes = radial((8, 7), 20, 16, angles="uniform")
        k = spokes.coordinates.repeat(1, 1, oversampling)  # each sample anew, in twice the band
        psi = oversampling * head.noise_covariance.matrix
        acq = Acquisition(
            torch.zeros(4, *k.shape[1:], dtype=torch.complex128), psi, coil_maps=maps, sampling=Trajectory(k, (8, 7))
        )
        assert acq.acceleration == pytest.approx(56 / (320 * oversampling))
        a = dense_encoding(acq)
        inverse_psi = torch.linalg.inv(psi.to(torch.complex128))
        weighted = torch.einsum("cd,dsv->csv", inverse_psi, a.unflatten(0, (4, -1))).flatten(0, 1)  # Ψ⁻¹A
        h = a.mH @ weighted
        inverse = torch.linalg.inv(h)
        reconstruction = inverse @ weighted.mH
        nm = noise_map(lambda y, m=reconstruction: (m @ y.flatten()).reshape(8, 7), acq, method="exact")
        torch.testing.assert_close(
            acq.acceleration**0.5 * fully_sampled_std(acq).flatten(), h.diagonal().real.rsqrt(), rtol=1e-6, atol=0
        )
        g = (inverse.diagonal().real * h.diagonal().real).sqrt()
        torch.testing.assert_close(nm.g_factor.flatten().double(), g, rtol=1e-5, atol=0)
        assert float(g.min()) > 1
        found.append(nm)
    torch.testing.assert_close(found[0].std, found[1].std, rtol=1e-5, atol=0)
    torch.testing.assert_close(found[0].g_factor, found[1].g_factor, rtol=1e-5, atol=0)
    k = torch.stack(torch.meshgrid(torch.arange(8.0) - 4, torch.arange(7.0) - 3, indexing="ij"))
    zero, one = torch.zeros(1, 8, 7) + 0j, torch.ones(1, 8, 7) + 0j
    a = dense_encoding(Acquisition(zero, torch.eye(1), coil_maps=one, sampling=Trajectory(k, (8, 7))))
    torch.testing.assert_close(a.mH @ a, torch.eye(56, dtype=a.dtype))


OTHERS = (24, 20)


def by_bart(image, k, folder):
    write_cfl(folder / "t", np.stack([k[1], k[0], 0 * k[0]])[..., None])
    write_cfl(folder / "x", image.T)
    subprocess.run(["bart", "nufft", "t", "x", "y"], cwd=folder, check=True)
    return read_cfl(folder / "y").squeeze()


def by_sigpy(image, k, _):
    return pytest.importorskip("sigpy").nufft(image, k.T, oversamp=2, width=8)


def by_mri_nufft(image, k, _):
    operator = pytest.importorskip("mrinufft").get_operator("finufft")
    samples = (k / np.array(OTHERS)[:, None]).T.astype(np.float32)
    return 2 * operator(samples, OTHERS).op(image.astype(np.complex64))


def by_torchkbnufft(image, k, _):
    package = pytest.importorskip("torchkbnufft")
    transform = package.KbNufft(OTHERS, tuple(4 * n for n in OTHERS), numpoints=8).to(torch.complex128)
    omega = torch.from_numpy(2 * np.pi * k / np.array(OTHERS)[:, None])
    return transform(torch.from_numpy(image)[None, None], omega).flatten().numpy() / image.size**0.5


def by_mrpro(image, k, _):
    package = pytest.importorskip("mrpro", exc_type=ImportError)
    size = package.data.SpatialDimension
    k = torch.from_numpy(2 * k).float().reshape(2, 1, 1, 1, 1, -1)  # twice as wide a field of view
    trajectory = package.data.KTrajectory(kz=torch.zeros(1, 1, 1, 1, 1), ky=k[0], kx=k[1])
    encoded = size(1, *(2 * n for n in OTHERS))
    operator = package.operators.FourierOp(size(1, *OTHERS), encoded, trajectory)
    return 2 * operator(torch.from_numpy(image).to(torch.complex64)[None, None, None])[0].flatten().numpy()


@pytest.mark.parametrize("program", [by_bart, by_sigpy, by_mri_nufft, by_torchkbnufft, by_mrpro])
def test_c23_trajectories_of_other_programs(program, tmp_path):
    """Samples of one image at the same places, in the unit, order and scale of each."""
    if program is by_bart and shutil.which("bart") is None:
        pytest.skip("BART is not installed")
    image = gaussian(*OTHERS).numpy()
    k = np.random.default_rng(4).uniform(-1, 1, (2, 40)) * np.array([[10], [8]])
    acq = Acquisition(
        torch.zeros(1, 40) + 0j,
        torch.eye(1),
        coil_maps=torch.ones(1, *OTHERS) + 0j,
        sampling=Trajectory(torch.from_numpy(k), OTHERS),
    )
    ours = (dense_encoding(acq) @ torch.from_numpy(image).flatten()).numpy()
    # BART's transform is off by percents near the edge.
    np.testing.assert_allclose(program(image, k, tmp_path), ours, atol=(0.02 if program is by_bart else 1e-3) * 3)


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
def test_c23_bart_reconstructs_the_same(tmp_path):
    """BART's phantom along its trajectory: gridding without density, CG-SENSE and the direction of each axis."""
    for words in (
        "traj -r -x 64 -y 50 long",
        "scale 0.5 long t",
        "phantom -k -s 4 -t t k",
        "phantom -S 4 -x 32 maps",
        "normalize 8 maps m",
        "phantom -s 4 -x 32 coils",
        "rss 8 coils x",
        "nufft -a -d 32:32:1 t k adjoint",
        "pics -l2 -r 0.01 -i 200 -S -t t k m pics",
    ):
        subprocess.run(["bart", *words.split()], cwd=tmp_path, check=True, capture_output=True)

    def images(name):
        return torch.from_numpy(np.ascontiguousarray(read_cfl(tmp_path / name).squeeze().T))

    np.save(tmp_path / "psi.npy", np.eye(4))
    scan = read(tmp_path / "k.cfl", trajectory=tmp_path / "t.cfl", noise_covariance=tmp_path / "psi.npy")
    adjoint = Nufft(scan.sampling.coordinates, (32, 32)).adjoint(scan.kspace)
    bart_adjoint = images("adjoint")
    assert float((adjoint - bart_adjoint).norm() / adjoint.norm()) < 3e-3
    found = CgSense(0.01).bind(scan := scan.replace(coil_maps=images("m")))(scan.kspace)
    assert float((found - images("pics")).norm() / found.norm()) < 0.02

    def likeness(image):
        return float(torch.corrcoef(torch.stack([image.abs().flatten(), images("x").abs().flatten()]))[0, 1])

    assert likeness(found) > 0.8 > 0.7 > max(likeness(image) for image in (found.T, found.flip(0), found.flip(1)))


def dense_encoding(acq):
    """Entries S_c(r) exp(-2πi Σ_d k_d r_d / n_d) / √N, (coil · samples, voxels)."""
    shape = acq.sampling.image_shape
    r = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in shape), indexing="ij")).flatten(1)
    cycles = acq.sampling.coordinates.double().flatten(1).T @ (r / torch.tensor(shape)[:, None])
    e = torch.exp(-2j * torch.pi * cycles) / r.shape[1] ** 0.5
    return torch.cat([e * s.flatten() for s in acq.coil_maps])


@pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
@pytest.mark.parametrize("lines", [1, 7])
def test_c16_bart(tmp_path, lines):
    psi = random_noise_covariance(3, 20.0, seed=1)
    n = 50
    noise = psi.colour(gaussian(3, n * lines), 0).numpy()
    write_cfl(tmp_path / "noise", noise.T.reshape(n, lines, 1, 3, order="F"))
    write_cfl(tmp_path / "zero", np.zeros((200, 200)))
    for command in ("whiten noise noise out matrix covariance", "noise -n 4 zero added"):
        subprocess.run(["bart", *command.split()], cwd=tmp_path, check=True)
    version = subprocess.run(["bart", "version"], capture_output=True, text=True, check=True).stdout
    divisor = n - 1 if version.startswith("v0.") else n * lines - 1
    found = read_cfl(tmp_path / "covariance").squeeze()
    # Single precision. n instead of n - 1 would differ by 2 %, the number of lines by 7.
    np.testing.assert_allclose(found, noise @ noise.conj().T / divisor, rtol=1e-4, atol=1e-5 * abs(found).max())
    added = read_cfl(tmp_path / "added")
    assert float((abs(added) ** 2).mean()) == pytest.approx(4, rel=4 / 200)


def write_cfl(path: Path, values: np.ndarray) -> None:
    shape = [*values.shape, *[1] * (16 - values.ndim)]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n")
    values.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> np.ndarray:
    shape = [int(n) for n in path.with_suffix(".hdr").read_text().split("\n")[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape, order="F")
