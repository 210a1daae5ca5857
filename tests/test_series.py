"""Series over time: sliding window, subspace, locally low rank, their mean, their tSNR, and fits of parameters."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrnoise import Acquisition, InputError, noise_map, roi_std
from mrnoise.linearization import image_of, linearize
from mrnoise.measurement import noise_correlation, point_spread, temporal_snr
from mrnoise.quantiles import chi_square, chi_square_above
from mrnoise.reconstruction import (
    CgSense,
    Fit,
    LowRank,
    RootSumOfSquares,
    Sense,
    SlidingWindow,
    Subspace,
    TemporalMean,
)
from mrnoise.reconstruction.shrinkage import patches_shrunk, shrink
from mrnoise.result import compare
from mrnoise.sampling import Grid, equispaced, poisson_disc, radial
from mrnoise.simulation import simulated_head

FRAMES, COILS, SHAPE = 5, 3, (8, 6)
MASKS = torch.stack([equispaced(SHAPE, 3, calibration=2, offset=k) for k in range(FRAMES)])
HEAD = simulated_head(SHAPE, COILS, n_frames=FRAMES, mask=MASKS, snr=40.0, seed=1)
WAVE = torch.arange(FRAMES) * 2 * torch.pi / FRAMES
BASIS = torch.stack([torch.ones(FRAMES), WAVE.cos(), WAVE.sin()], 1)


def in_double(acq):
    """All of k-space was encoded, whatever lines a frame has."""
    maps, grid = acq.coil_maps.to(torch.complex128), isinstance(acq.sampling, Grid)
    sampling = Grid(acq.mask) if grid else acq.sampling
    return acq.replace(kspace=acq.kspace.to(torch.complex128), coil_maps=maps, sampling=sampling)


SCAN = in_double(HEAD.acquire(seed=2))


# -- dense matrices --------------------------------------------------------------------------------------------


def dft(n):
    index = torch.arange(n, dtype=torch.float64) - n // 2
    return torch.exp(-2j * torch.pi * torch.outer(index, index) / n) / n**0.5


def kron(a, b):
    return torch.einsum("ij,kl->ikjl", a, b).reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])


def encoding(acq, mask):
    """M F S of whitened coil maps, (coil k, voxel)."""
    f = kron(dft(acq.spatial_shape[0]), dft(acq.spatial_shape[1]))
    return torch.cat([mask.flatten()[:, None] * f * s.flatten() for s in acq.whiten_maps(acq.coil_maps)])


def whitener(acq):
    """Ψ^{-1/2} √ψ over (coil k)."""
    factor = torch.linalg.cholesky(acq.noise_covariance.matrix.to(torch.complex128))
    voxels = torch.eye(np.prod(acq.spatial_shape), dtype=torch.complex128)
    return kron(torch.linalg.inv(factor) * acq.noise_covariance.mean_variance**0.5, voxels)


def covariance(matrix, acq, weights):
    """R Ψ Rᴴ of k-space (frame coil k), of which a sample (frame k) has the variance that weights say, times Ψ."""
    psi = acq.noise_covariance.matrix.to(torch.complex128)
    blocks = [kron(psi, torch.diag(w.flatten().to(torch.complex128))) for w in weights]
    return matrix @ torch.block_diag(*blocks) @ matrix.mH


def subspace_matrix(acq, basis, weight):
    """Φ (Bᴴ B + λ)⁻¹ Bᴴ W with B = A Φ, (frame voxel, frame coil k)."""
    voxels = torch.eye(np.prod(acq.spatial_shape), dtype=torch.complex128)
    phi = kron(torch.linalg.qr(basis.to(torch.complex128))[0], voxels)
    b = torch.block_diag(*[encoding(acq, mask) for mask in acq.mask]) @ phi
    whitened = torch.block_diag(*[whitener(acq)] * len(acq.mask))
    gram = b.mH @ b + weight * torch.eye(b.shape[1])
    return phi @ torch.linalg.solve(gram, b.mH @ whitened)


def window_matrix(acq, width, weight):
    """CG-SENSE of the mean of what a window has of each sample."""
    n, rows = len(acq.mask), []
    for k in range(n):
        start = min(max(k - width // 2, 0), n - width)
        count = acq.mask[start : start + width].sum(0)
        a = encoding(acq, count > 0)
        solved = torch.linalg.solve(a.mH @ a + weight * torch.eye(a.shape[1]), a.mH @ whitener(acq))
        parts = []
        for t in range(n):
            inside = start <= t < start + width
            share = inside * acq.mask[t] / count.clamp_min(1)
            parts.append(solved * share.flatten().repeat(acq.n_coils))
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows)


DENSE = {
    "subspace": (Subspace(BASIS, 1e-2), lambda acq: subspace_matrix(acq, BASIS, 1e-2)),
    "complex basis": (
        Subspace(BASIS[:, :2] + 1j * BASIS[:, 1:], 0.1),
        lambda acq: subspace_matrix(acq, BASIS[:, :2] + 1j * BASIS[:, 1:], 0.1),
    ),
    "sliding window": (SlidingWindow(3, CgSense(1e-2)), lambda acq: window_matrix(acq, 3, 1e-2)),
    "even window": (SlidingWindow(2, CgSense(0.1)), lambda acq: window_matrix(acq, 2, 0.1)),
}


@pytest.mark.parametrize("name", DENSE)
def test_linear_series_are_the_dense_ones(name):
    """Image and covariance; σ of the mean over time and σ over time with the correlation between frames."""
    method, matrix_of = DENSE[name]
    matrix = matrix_of(SCAN)
    image = (matrix @ SCAN.kspace.flatten()).reshape(FRAMES, *SHAPE)
    torch.testing.assert_close(image_of(method, SCAN), image, rtol=0, atol=1e-4 * float(image.abs().max()))
    cov = covariance(matrix, SCAN, SCAN.mask)
    nm = noise_map(method, SCAN, method="exact")
    assert nm.axes == ("frame",) and nm.linearity.verdict == "linear"
    torch.testing.assert_close(nm.variance, cov.diagonal().real.reshape(FRAMES, *SHAPE), rtol=1e-3, atol=0)

    phase = torch.sgn(image).flatten()
    real = 0.5 * (phase.conj()[:, None] * cov * phase).real.reshape(FRAMES, -1, FRAMES, phase.numel() // FRAMES)
    voxel = torch.arange(real.shape[1])
    between = real[:, voxel, :, voxel]  # (voxel, frame, frame)
    mean = between.mean((1, 2)).reshape(SHAPE)
    found = noise_map(TemporalMean(method), SCAN, method="exact")
    assert found.axes == () and found.geometry == nm.geometry and found.g_factor is None
    torch.testing.assert_close(found.variance, mean, rtol=1e-3, atol=0)
    # Independent frames would have another σ: correlation is counted.
    independent = nm.magnitude_std.square().mean(0) / FRAMES
    assert float((mean / independent).sqrt().mean()) > 1.2

    over_time = (between.diagonal(dim1=1, dim2=2).sum(1).reshape(SHAPE) - FRAMES * mean) / (FRAMES - 1)
    # Floor of 200 samples of 2 or more degrees of freedom: 5 % a voxel at most, 0.7 % over 48.
    tsnr = temporal_snr(method, SCAN, n_samples=200)
    ratio = tsnr.variance / over_time
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03)
    pull = (tsnr.variance - over_time) / tsnr.estimate.variance_error
    assert 0.7 < float(pull.square().mean().sqrt()) < 1.4
    torch.testing.assert_close(tsnr.snr, tsnr.image.double() / tsnr.std)
    torch.testing.assert_close(tsnr.image, image.abs().mean(0), rtol=1e-4, atol=1e-6)


def test_window_of_one_frame_is_the_inner_reconstruction():
    torch.testing.assert_close(image_of(SlidingWindow(1, CgSense(0.1)), SCAN), image_of(CgSense(0.1), SCAN))


def test_window_is_as_wide_as_it_takes_for_all_of_kspace():
    """Every third line, another one in each frame: three frames."""
    torch.testing.assert_close(image_of(SlidingWindow(), SCAN), image_of(SlidingWindow(3), SCAN))
    full = SCAN.replace(kspace=HEAD.signal.to(torch.complex128), mask=torch.ones(SHAPE))
    torch.testing.assert_close(image_of(SlidingWindow(), full), image_of(SlidingWindow(1), full))


def test_window_of_a_trajectory_averages():
    """The same spokes in each frame: the mean of a window, 1/√3 of the noise."""
    head = simulated_head(SHAPE, COILS, n_frames=FRAMES, trajectory=radial(SHAPE, n_spokes=16), seed=1)
    acq = in_double(head.acquire())
    alone, shared = (noise_map(m, acq, method="exact") for m in (CgSense(0.1), SlidingWindow(3, CgSense(0.1))))
    torch.testing.assert_close(shared.std * 3**0.5, alone.std, rtol=1e-4, atol=0)


def test_averages_weigh_samples_of_a_window():
    """Samples with m averages have Ψ/m: the mean of 1 and 3 averages is that of 4."""
    full = in_double(simulated_head(SHAPE, COILS, n_frames=2, seed=1).acquire())
    averages = torch.ones(2, *SHAPE)
    averages[1] = 3
    acq = full.replace(mask=torch.ones(2, *SHAPE), averages=averages)
    nm = noise_map(SlidingWindow(2, Sense()), acq, method="exact")
    once = noise_map(Sense(), full, method="exact")
    torch.testing.assert_close(2 * nm.std, once.std, rtol=1e-4, atol=0)


def test_images_of_a_series_share_what_was_encoded():
    """Samples of a frame show a part of it: here the outermost lines of two frames look as if they were not encoded."""
    acq = HEAD.acquire(seed=2)
    assert acq.grid.extent is not None and acq.grid.extent.ndim == 3
    whole = acq.replace(sampling=Grid(MASKS))
    for method in (Subspace(BASIS), SlidingWindow(3), LowRank(iterations=5)):
        image = image_of(method, whole)
        torch.testing.assert_close(image_of(method, acq), image, rtol=0, atol=1e-5 * float(image.abs().max()))


@pytest.mark.parametrize("method", [Subspace(BASIS), SlidingWindow(3), LowRank(iterations=5), TemporalMean()])
def test_series_of_slices_and_coil_maps_of_each_frame(method):
    """The same maps for each frame, and slices that stay apart: what one slice gives by itself."""
    head = simulated_head(SHAPE, COILS, n_frames=FRAMES, n_slices=2, mask=MASKS, snr=40.0, seed=1)
    acq = in_double(head.acquire())
    assert acq.coil_maps.shape == (FRAMES, 2, COILS, *SHAPE)
    one = acq.at(slice=1)
    shared = one.replace(coil_maps=one.coil_maps[0])
    both, alone = image_of(method, acq), image_of(method, shared)
    together = method.bind(acq)(acq.kspace) if not isinstance(method, LowRank) else both  # a scale of each
    slices = -3 if both.ndim == 4 else 0
    for image in (both.select(slices, 1), image_of(method, one), together.select(slices, 1)):
        torch.testing.assert_close(image, alone, rtol=0, atol=1e-4 * float(alone.abs().max()))


def test_tsnr_of_slices():
    """One sample of 20 frames has 19 degrees of freedom: 0.3 % over 96 voxels from 40 samples. Slices stay apart."""
    head = simulated_head(SHAPE, COILS, n_frames=20, n_slices=2, snr=40.0, seed=1)
    nm = temporal_snr(Sense(), head.acquire(), n_samples=40, seed=3)
    assert nm.axes == ("slice",) and nm.image.shape == (2, *SHAPE)
    expected = head.optimal_std[0].double() / 2**0.5
    ratio = nm.std / expected
    assert float(ratio.mean()) == pytest.approx(1, abs=0.01)
    assert float(nm.relative_error.mean()) == pytest.approx(1 / (2 * 40 * 19) ** 0.5, rel=0.1)
    low, high = nm.confidence_interval(0.95)
    assert 0.88 < float(((low < expected) & (expected < high)).double().mean()) <= 1


def test_coil_maps_of_the_scan_carry_noise_into_a_subspace():
    """Maps that follow from each k-space: the derivative agrees with finite differences; it is no longer linear."""
    masks = torch.stack([equispaced((24, 20), 2, calibration=12, offset=k) for k in range(2)])
    head = simulated_head((24, 20), 4, n_frames=2, mask=masks, snr=15.0, seed=1)
    acq = in_double(head.acquire()).replace(coil_maps=None)
    basis = torch.ones(2, 1)
    for method in (Subspace(basis), LowRank(0.05, iterations=5)):
        (operator,) = linearize(method, acq)
        assert (operator.preflight.jvp_mode, operator.preflight.vjp_mode) == ("vmap(jvp)", "vmap(vjp)")
        assert not operator.complex_linear
    fixed = image_of(Subspace(basis, differentiate_coil_maps=False), acq)
    torch.testing.assert_close(image_of(Subspace(basis), acq), fixed, rtol=1e-4, atol=1e-4 * float(fixed.abs().max()))


# -- locally low rank ------------------------------------------------------------------------------------------


def by_svd(x, threshold):
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    return (u * (s - threshold).clamp_min(0).unsqueeze(-2).to(u)) @ v


@pytest.mark.parametrize("threshold", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_shrinkage_and_its_derivative(shape, threshold):
    torch.manual_seed(0)
    x, *directions = torch.randn(4, 3, *shape, dtype=torch.complex128)
    directions, h = torch.stack(directions), 1e-6
    torch.testing.assert_close(shrink(x, threshold), by_svd(x, threshold))

    def product(t):
        return torch.func.jvp(lambda y: shrink(y, threshold), (x,), (t,))[1]

    products = torch.func.vmap(product)(directions)
    differences = (by_svd(x + h * directions, threshold) - by_svd(x - h * directions, threshold)) / (2 * h)
    torch.testing.assert_close(products, differences, rtol=1e-6, atol=1e-7)
    pull = torch.func.vjp(lambda y: shrink(y, threshold), x)[1]
    w = torch.randn_like(directions)
    pulled = torch.func.vmap(lambda one: pull(one)[0])(w)
    torch.testing.assert_close((products.conj() * w).real.sum(), (directions.conj() * pulled).real.sum())


def test_shrinkage_has_a_derivative_where_singular_values_are_equal():
    """That of singular vectors, as autograd of an SVD has it, is not finite there."""
    torch.manual_seed(0)
    x, direction, h = 2 * torch.linalg.qr(torch.randn(9, 4).double())[0], torch.randn(9, 4).double(), 1e-6
    expected = (by_svd(x + h * direction, 0.7) - by_svd(x - h * direction, 0.7)) / (2 * h)
    product = torch.func.jvp(lambda y: shrink(y, 0.7), (x,), (direction,))[1]
    torch.testing.assert_close(product, expected, rtol=1e-6, atol=1e-7)
    x.requires_grad_()
    assert not bool(torch.autograd.grad(by_svd(x, 0.7).sum(), x)[0].isfinite().all())


@pytest.mark.parametrize("offset", [0, 2])
def test_patches_tile_the_image(offset):
    """One patch at a time, those at the edges smaller."""
    torch.manual_seed(0)
    series = torch.randn(2, FRAMES, 7, 11, dtype=torch.complex128)
    found, expected = patches_shrunk(series, 4, offset, 1.5, 2), torch.zeros_like(series)
    starts = [[0, *range(offset or 4, n, 4)] for n in (7, 11)]
    for y, y_end in zip(starts[0], [*starts[0][1:], 7], strict=True):
        for x, x_end in zip(starts[1], [*starts[1][1:], 11], strict=True):
            block = series[..., y:y_end, x:x_end]
            expected[..., y:y_end, x:x_end] = by_svd(block.flatten(2), 1.5).reshape(block.shape)
    torch.testing.assert_close(found, expected)
    volume = patches_shrunk(series.unsqueeze(-3), 4, offset, 1.5, 3)
    torch.testing.assert_close(volume.squeeze(-3), expected)


def test_low_rank_of_full_sampling_is_shrinkage():
    """One coil that sees all alike, one patch: the minimum is the shrunk series itself, after any number of steps."""
    truth = simulated_head(SHAPE, 1, n_frames=FRAMES, seed=1).image
    kspace = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(truth, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))
    kspace = (kspace + 0.05 * torch.randn(kspace.shape, dtype=torch.complex64)).to(torch.complex128)
    acq = Acquisition(kspace.unsqueeze(1), torch.eye(1), coil_maps=torch.ones(1, *SHAPE).to(kspace), axes=("frame",))
    images = image_of(Sense(), acq)
    n = SHAPE[0] * SHAPE[1]
    threshold = 0.02 * float(images.abs().max()) * (n**0.5 + FRAMES**0.5)
    expected = by_svd(images.flatten(1), threshold).reshape(images.shape)
    found = image_of(LowRank(0.02, patch=max(SHAPE), iterations=7), acq)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    # White noise of σ = λ s has no singular value above the threshold.
    noise = 0.02 * float(images.abs().max()) * torch.randn(n, FRAMES, dtype=torch.complex128)
    assert float(torch.linalg.matrix_norm(noise, 2)) < 1.02 * threshold


def test_low_rank_lowers_its_objective():
    method = LowRank(0.02, patch=max(SHAPE), iterations=40)
    bound = method.bind(SCAN)
    a = torch.block_diag(*[encoding(SCAN, mask) for mask in MASKS])
    y = SCAN.whiten(SCAN.kspace).flatten()
    weight = SCAN.whiten_maps(SCAN.coil_maps).abs().square().sum(0).sqrt()

    def objective(images):
        nuclear = float(torch.linalg.matrix_norm((weight * images).flatten(1), "nuc"))
        return 0.5 * float((a @ images.flatten() - y).norm() ** 2) + bound.threshold * nuclear

    found = bound(SCAN.kspace)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1):
        other = torch.randn(found.shape, dtype=found.dtype, generator=generator) * found.norm() / found.numel() ** 0.5
        assert objective(found) < objective(found + size * other)
    assert objective(found) < objective(image_of(CgSense(1e-2), SCAN))


def test_noise_of_low_rank_is_that_of_replicas():
    """SNR 40, samples that differ from frame to frame: within 1.3 floors of 300 products and 600 replicas, 3.5 %."""
    shape, frames = (12, 10), 6
    masks = torch.stack([poisson_disc(shape, 2, calibration=4, seed=k) for k in range(frames)])
    head = simulated_head(shape, 4, n_frames=frames, mask=masks, snr=40.0, seed=1)
    acq, method = head.acquire(), LowRank(0.02, patch=5, iterations=10)
    first = noise_map(method, acq, method="sketch", n_samples=300)
    assert first.linearity.verdict == "linear"
    replicas = noise_map(method, acq, method="monte_carlo", n_samples=600, seed=3)
    found = compare(first, replicas, head.foreground)
    assert found.nrmse < 1.3 * found.floor
    assert found.ratio == pytest.approx(1, abs=0.02)
    # √2 would be seen.
    assert compare(first.scaled(2**0.5), replicas, head.foreground).nrmse > 8 * found.floor


# -- fits ------------------------------------------------------------------------------------------------------

ECHO_TIMES = torch.tensor([10.0, 25.0, 40.0, 55.0])  # ms
ECHO_MASKS = torch.stack([equispaced(SHAPE, 2, calibration=4, offset=k) for k in range(4)])
ECHOES = simulated_head(SHAPE, COILS, snr=60.0, seed=1).series(
    torch.exp(-ECHO_TIMES / 60)[:, None, None], "echo", ECHO_MASKS
)
OBJECT = ECHOES.image[0].abs() > 0.2 * ECHOES.image.abs().max()


def t2(images):
    """Log-linear fit weighted by the signal, in closed form."""
    m, t = images.abs(), ECHO_TIMES.double().reshape(-1, 1, 1)
    w = m.square()
    mean_t, mean_s = (w * t).sum(0) / w.sum(0), (w * m.log()).sum(0) / w.sum(0)
    return -(w * (t - mean_t).square()).sum(0) / (w * (t - mean_t) * (m.log() - mean_s)).sum(0)


def t2_of_numpy(images):
    m, t = np.abs(images.numpy()), ECHO_TIMES.double().numpy().reshape(-1, 1, 1)
    w = m**2
    mean_t, mean_s = (w * t).sum(0) / w.sum(0), (w * np.log(m)).sum(0) / w.sum(0)
    return -(w * (t - mean_t) ** 2).sum(0) / (w * (t - mean_t) * (np.log(m) - mean_s)).sum(0)


def t2_by_gauss_newton(images):
    """Least squares of magnitudes, from the log-linear fit: signal and rate, four steps."""
    m, t = images.abs(), ECHO_TIMES.double().reshape(-1, 1, 1)
    rate = 1 / t2(images)
    signal = (m * torch.exp(-rate * t)).sum(0) / torch.exp(-2 * rate * t).sum(0)
    for _ in range(4):
        decay = torch.exp(-rate * t)
        jacobian = torch.stack([decay, -t * signal * decay], -1).movedim(0, -2)
        residual = (m - signal * decay).movedim(0, -1)
        step = torch.linalg.lstsq(jacobian, residual.unsqueeze(-1)).solution.squeeze(-1)
        signal, rate = signal + step[..., 0], rate + step[..., 1]
    return 1 / rate


def test_a_field_map_has_its_closed_form():
    """σ² = ½ (σ₁²/|x₁|² + σ₂²/|x₂|²) / (2π ΔTE)², and 0 without noise outside the region."""
    head = simulated_head(SHAPE, COILS, snr=50.0, seed=1)
    echoes = head.series(torch.stack([torch.ones(SHAPE), 0.7 * torch.exp(0.5j * torch.rand(SHAPE))]), "echo")
    acq, region = in_double(echoes.acquire()), head.foreground

    def field(images):  # Hz, echoes 2 ms apart
        return (images[1] * images[0].conj()).angle() / (2 * torch.pi * 2e-3)

    nm = noise_map(Fit(field, Sense(), region=region), acq, method="exact")
    images = noise_map(Sense(), acq, method="exact")
    expected = (0.5 * (images.variance / images.image.abs().square()).sum(0)).sqrt() / (2 * torch.pi * 2e-3)
    torch.testing.assert_close(nm.std[region], expected[region], rtol=1e-4, atol=0)
    assert nm.axes == () and nm.image.dtype == torch.float64
    assert bool((nm.image[~region] == 0).all()) and bool((nm.std[~region] == 0).all())
    probed = noise_map(Fit(field, Sense(), region=region), acq, method="lattice")  # frames of one sampling
    torch.testing.assert_close(probed.std[region], expected[region], rtol=1e-4, atol=0)


@pytest.mark.parametrize("function", [t2, t2_of_numpy, t2_by_gauss_newton])
def test_a_fit_has_the_derivative_of_its_function(function):
    """J of torch's own derivative, at the series, times the dense covariance of the echoes."""
    acq = in_double(ECHOES.acquire())
    inner = Subspace(torch.exp(-ECHO_TIMES[:, None] / torch.tensor([50.0, 90.0])), 1e-2)
    images = image_of(inner, acq)
    analytic = t2_by_gauss_newton if function is t2_by_gauss_newton else t2
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(analytic(point)[OBJECT].sum(), point)
    cov = covariance(subspace_matrix(acq, inner.basis, 1e-2), acq, acq.mask)
    n = SHAPE[0] * SHAPE[1]
    voxel = torch.arange(n)
    between = cov.reshape(4, n, 4, n)[:, voxel, :, voxel]
    g = gradient.flatten(1).T
    expected = (0.5 * torch.einsum("vs,vst,vt->v", g.conj(), between, g).real).reshape(SHAPE).sqrt()
    fit = Fit(function, inner, region=OBJECT)
    nm = noise_map(fit, acq, method="exact")
    torch.testing.assert_close(nm.image[OBJECT], analytic(images)[OBJECT], rtol=1e-6, atol=0)
    torch.testing.assert_close(nm.std[OBJECT], expected[OBJECT], rtol=2e-3, atol=0)
    # Taken as independent, echoes that share samples would have another σ.
    alone = (0.5 * (g.abs().square() * between.diagonal(dim1=1, dim2=2).real).sum(1)).reshape(SHAPE).sqrt()
    assert float((nm.std / alone)[OBJECT].log().abs().mean()) > 0.05
    # So has the mean over a region.
    weights = OBJECT.double() / OBJECT.sum()
    full = (g * weights.flatten()[:, None]).T.flatten()
    assert roi_std(fit, acq, OBJECT) == pytest.approx(float((0.5 * full.conj() @ cov @ full).real.sqrt()), rel=2e-3)


def test_a_fit_that_mixes_voxels_is_mapped_by_replicas():
    def smoothed(images):
        return torch.nn.functional.avg_pool2d(t2(images)[None], 3, 1, 1)[0]

    acq = ECHOES.acquire()
    with pytest.raises(InputError, match="the derivative of the reconstruction cannot be trusted"):
        noise_map(Fit(smoothed, CgSense(1e-2), region=OBJECT), acq, method="sketch", n_samples=10)
    nm = noise_map(Fit(smoothed, CgSense(1e-2), region=OBJECT), acq, n_samples=40)
    assert nm.method == "monte_carlo"


def test_a_fit_that_noise_makes_undefined_is_no_map_of_nan():
    """σ of such voxels was NaN, and where all were the error was certified to be 0."""
    acq = replace(ECHOES, mask=None).acquire()
    level = 0.97 * image_of(CgSense(), acq)[0].abs()
    fit = Fit(lambda x: (x[0].abs() - level).sqrt(), CgSense(), region=OBJECT)
    for method in ("monte_carlo", "nonlinear"):
        with pytest.raises(InputError, match="with noise added the image has NaN.*a fit leaves voxels out"):
            noise_map(fit, acq, method=method, n_samples=60)
    nm = noise_map(fit, acq, method="sketch", n_samples=20)
    assert bool(nm.std.isfinite().all()) and nm.linearity.verdict != "linear"


def test_fits_at_the_floor_of_magnitudes_are_said_not_to_be_linear():
    """Late echoes in the noise: |x| no longer falls, and T2 is not linear in the noise; at high SNR it is."""
    full, found = replace(ECHOES, mask=None), {}
    for snr in (4.0, 400.0):
        fit = Fit(t2, Sense(), region=OBJECT)
        nm = noise_map(fit, full.with_snr(snr).acquire(seed=1), method="sketch", n_samples=40)
        found[snr] = nm.linearity.verdict
    assert found[4.0] != "linear" and found[400.0] == "linear"


def test_fits_of_means_and_of_series_with_slices():
    """Mean over repetitions, then a fit over echoes; slices stay, and come first."""
    torch.manual_seed(0)
    base = simulated_head(SHAPE, COILS, n_slices=2, snr=60.0, seed=1)
    echoes = base.series(torch.exp(-ECHO_TIMES / 60).reshape(-1, 1, 1, 1), "echo")
    repeated = echoes.series(torch.ones(3, 1, 1, 1, 1), "set")
    acq = repeated.acquire()
    assert acq.axes == ("set", "echo", "slice")
    region = base.foreground.all(0)
    once = noise_map(Fit(t2, Sense(), "echo", region), acq.at(set=0), method="exact")
    mean = noise_map(Fit(t2, TemporalMean(Sense(), "set"), "echo", region), acq, method="exact")
    assert once.axes == mean.axes == ("slice",) and mean.image.shape == (2, *SHAPE)
    ratio = (mean.std / once.std)[:, region]
    assert float(ratio.median()) == pytest.approx(3**-0.5, rel=0.05)


def test_a_fit_takes_images_that_are_real():
    """Root sum of squares: half of the derivatives, and the same σ as with phase."""
    acq = in_double(replace(ECHOES, mask=None).acquire())
    (operator,) = linearize(Fit(t2, RootSumOfSquares(), region=OBJECT), acq)
    assert (operator.preflight.jvp_mode, operator.preflight.vjp_mode) == ("vmap(jvp)", "vmap(vjp)")

    def with_phase(kspace):
        return RootSumOfSquares().bind(acq)(kspace).to(torch.complex128) * 1j

    maps = [noise_map(Fit(t2, r, region=OBJECT), acq, method="exact") for r in (RootSumOfSquares(), with_phase)]
    torch.testing.assert_close(maps[0].std, maps[1].std, rtol=1e-6, atol=0)


def test_a_fit_leaves_out_what_has_no_signal():
    """By default: the object without its dark parts, where a fit to noise would be wild."""
    acq = replace(ECHOES, mask=None).acquire()
    bound = Fit(t2, Sense()).bind(acq)
    image = image_of(Sense(), acq).abs().square().mean(0).sqrt()
    assert 10 < int(bound.region.sum()) < bound.region.numel() and float(image[bound.region].min()) > 0.1 * image.max()
    assert bool((bound(acq.kspace)[~bound.region] == 0).all())
    nothing = Fit(t2, Sense()).bind(acq.replace(kspace=0 * acq.kspace))
    assert not bool(nothing.region.any())


def test_regions_and_lesions_of_a_mean_over_time():
    """One linearisation for a mean over time and space; a lesion is in all frames."""
    acq, method = in_double(replace(HEAD, mask=None).acquire()), TemporalMean(Sense())
    region = torch.zeros(SHAPE, dtype=torch.bool)
    region[3:6, 2:4] = True
    frames = region.expand(FRAMES, *SHAPE)
    assert roi_std(method, acq, region) == pytest.approx(roi_std(Sense(), acq, frames), rel=1e-4)
    assert point_spread(method, acq, (4, 3)).contrast_recovery == pytest.approx(1, rel=1e-3)
    nm = noise_map(method, acq, method="exact")
    assert float(noise_correlation(method, acq, (4, 3), nm).coefficient[4, 3]) == pytest.approx(1, rel=1e-4)


# -- what they are, and bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [Subspace(BASIS), SlidingWindow(3), LowRank(iterations=2), TemporalMean(), Fit(t2, CgSense(0.1), region=OBJECT)],
    ids=lambda method: type(method).__name__,
)
def test_bound_series_are_values(method):
    acq = in_double((ECHOES if isinstance(method, Fit) else HEAD).acquire())
    bound = method.bind(acq)
    again = pickle.loads(pickle.dumps(bound))
    assert torch.equal(again(acq.kspace), bound(acq.kspace))
    assert "0x" not in method.title and "tensor" not in method.title


STILL = simulated_head(SHAPE, COILS, seed=1).acquire()
TWO = SCAN.replace(kspace=SCAN.kspace.expand(2, *SCAN.kspace.shape), mask=MASKS.expand(2, *MASKS.shape))


@pytest.mark.parametrize(
    ("make", "problem", "remedy"),
    [
        (lambda: LowRank().bind(STILL), "this is no series", "axes="),
        (lambda: TemporalMean(axis="echo").bind(SCAN), "this is no series.*axis echo.*received leading axes frame", ""),
        (
            lambda: noise_map(TemporalMean(), TWO.replace(axes=("echo", "frame"))),
            "not clear which series",
            'axis="frame"',
        ),
        (lambda: SlidingWindow(0), "invalid width of the window.*at least 1 frame; received 0", ""),
        (lambda: SlidingWindow(9).bind(SCAN), "wider than the series.*at most 5.*received 9", "acceleration"),
        (lambda: LowRank(0.0), "invalid low-rank.*regularization > 0.*received regularization 0.0", "0.01 is usual"),
        (lambda: LowRank(patch=0), "invalid low-rank", ""),
        (lambda: LowRank(iterations=0), "invalid low-rank", ""),
        (lambda: Subspace(BASIS, -1.0), "invalid regularisation", ""),
        (lambda: Subspace(BASIS[:, [0, 0]]), "spans no subspace.*received shape .5, 2., rank 1", "svd"),
        (lambda: Subspace(BASIS[:, 0]), "spans no subspace.*received shape .5,", ""),
        (lambda: Subspace(BASIS * torch.nan), "spans no subspace", ""),
        (lambda: Subspace([[1, 1], [1, 1], [1, 1], [0, 0]]), "spans no subspace.*rank 1", ""),
        (lambda: Subspace(BASIS[1:]).bind(SCAN), "not that of the series.*5 rows.*received 4", "frame, rank"),
        (lambda: temporal_snr(Sense(), STILL), "this is no series", ""),
        (lambda: temporal_snr(TemporalMean(), SCAN), "leaves no series.*each frame.*TemporalMean", "made of"),
        (lambda: noise_map(Fit(t2, TemporalMean()), SCAN), "leaves no series", ""),
        (lambda: noise_map(TemporalMean(Fit(t2)), SCAN), "leaves no series.*received Fit.t2, CgSense", ""),
        (lambda: temporal_snr(CgSense(), SCAN.replace(kspace=SCAN.kspace[:1], mask=MASKS[:1])), "nothing varies", ""),
        (lambda: HEAD.series(torch.ones(3, 7, 6)), "not that of a series.*received .3, 7, 6.", "None, None"),
        (lambda: HEAD.series(torch.ones(5, 8, 6)), "not that of a series", ""),
        (lambda: simulated_head(SHAPE, n_frames=0), "invalid number of frames", ""),
        (
            lambda: image_of(Fit(lambda x: x.abs(), CgSense()), SCAN),
            "one real number a voxel.*received.*5, 8, 6",
            "Fit each",
        ),
        (lambda: image_of(Fit(lambda x: x[0], CgSense()), SCAN), "one real number a voxel.*complex128", ""),
        (lambda: image_of(Fit(lambda x: x[0] / 0 * 0, CgSense()), SCAN), "one real number", ""),
        (lambda: image_of(Fit(t2, CgSense(), region=OBJECT[1:]), ECHOES.acquire()), "one real.*region .7, 6.", ""),
        (lambda: image_of(Fit(lambda x: (x[0].abs(), x[1].abs())), SCAN), "one real.*received tuple", "a Fit each"),
        (lambda: Fit(t2, region=OBJECT.int()).bind(SCAN), "no mask.*bool.*received torch.int32", "> 0"),
        (lambda: noise_map(Fit(lambda x: x.abs()[0] / 0), SCAN), "NaN or infinite voxels", "Guard"),
        (lambda: noise_map(CgSense(), STILL, n_samples=2).value_interval(95), "invalid confidence level", "0.95"),
    ],
)
def test_bad_input_is_one_error(make, problem, remedy):
    with pytest.raises(InputError, match=problem) as error:
        make()
    assert remedy in error.value.remedy


# -- repeated scans --------------------------------------------------------------------------------------------


def repeats(bound, head, n):
    """Images of n scans, each with its own noise, by a reconstruction that is bound to the first; and without noise."""
    scans = torch.stack([head.acquire(seed=k).kspace for k in range(n)])
    with torch.no_grad():
        images = torch.cat([torch.func.vmap(bound)(some) for some in scans.split(25)])
        return images, bound(head.signal * bound.acquisition.mask.unsqueeze(-3))


def coverage(nm, images, truth, region):
    """Of 95 % intervals: how often σ² of repeats over that of the map lies in its own; how often values hold the truth.

    The ratio has as many degrees of freedom as both variances leave it.
    """
    n, values = len(images), images.abs() if images.is_complex() else images
    variance = images.to(torch.complex128).var(0)
    freedom = 2 * (n - 1) / (1 + nm.estimate.impropriety.square())
    nu = 1 / (1 / nm.effective_degrees_of_freedom("std") + 1 / freedom)
    low, high = (torch.as_tensor(quantile(0.025, nu) / nu) for quantile in (chi_square, chi_square_above))
    ratio = variance / nm.variance
    low_value, high_value = nm.value_interval(0.95)
    half = 0.5 * (high_value - low_value)
    inside = (values.double() - (truth.abs() if truth.is_complex() else truth).double()).abs() < half
    sigma = ((low < ratio) & (ratio < high))[region].double().mean()
    return float(sigma), float(inside[:, region].double().mean())


def test_cine_against_500_repeated_scans():
    """24 frames of a beating disc, every third line, locally low rank. A wrong √2 would cover less than a fifth."""
    shape, frames = (10, 8), 24
    masks = torch.stack([equispaced(shape, 3, calibration=2, offset=k) for k in range(frames)])
    head = simulated_head(shape, 3, n_frames=frames, mask=masks, snr=60.0, seed=1)
    method = LowRank(0.02, patch=5, iterations=6)
    acq = head.acquire(seed=1000)
    nm = noise_map(method, acq, method="sketch", n_samples=100)
    images, truth = repeats(method.bind(acq), head, 500)
    sigma, values = coverage(nm, images, truth, head.foreground)
    assert 0.93 < sigma < 0.97 and 0.93 < values < 0.97
    assert coverage(nm.scaled(2**0.5), images, truth, head.foreground)[0] < 0.2


def fit_of_echoes(snr):
    """T2 of four echoes, every other line; the region that is fitted is that of the object without noise."""
    shape = (20, 18)
    masks = torch.stack([equispaced(shape, 2, calibration=6, offset=k) for k in range(4)])
    head = simulated_head(shape, 4, snr=snr, seed=1)
    head = head.series(torch.exp(-ECHO_TIMES / 60)[:, None, None], "echo", masks)
    return head, Fit(t2, CgSense(1e-2), region=head.image[0].abs() > 0.2 * head.image.abs().max())


def test_t2_against_500_repeated_scans():
    """σ of T2 without noise, exact, and intervals of T2. Of a noisy scan σ is that of its own T2, as uncertain."""
    head, fit = fit_of_echoes(100.0)
    acq, region = head.acquire(), fit.region
    images, truth = repeats(fit.bind(acq), head, 500)
    nm = noise_map(fit, acq.replace(kspace=head.signal), method="exact")
    sigma, values = coverage(nm, images, truth, region)
    assert 0.93 < sigma < 0.97 and 0.93 < values < 0.97
    assert coverage(nm.scaled(2**0.5), images, truth, region)[0] < 0.05
    # Of one noisy scan: its own σ.
    low, high = noise_map(fit, acq, method="exact").value_interval(0.95)
    assert 0.9 < float(((low < truth) & (truth < high))[region].double().mean()) < 0.99


def test_auto_maps_a_fit_at_any_snr():
    """At SNR 1600 T2 and its σ hardly vary from scan to scan: σ of auto is that of 250 repeated scans, to its floor.

    At SNR 20 first order does not hold, and auto, with many samples or few, is by replicas: σ of scans that have this
    one as their mean. A slope that may vanish leaves T2 without a variance; the median over 184 voxels of the ratio is
    known to 1 %.
    """
    head, fit = fit_of_echoes(1600.0)
    images, truth = repeats(fit.bind(head.acquire(seed=1000)), head, 250)
    nm = noise_map(fit, head.acquire(seed=1000))
    assert 0.92 < coverage(nm, images, truth, fit.region)[0] < 0.98
    assert coverage(nm, 2**0.5 * images, truth, fit.region)[0] < 0.05

    head, fit = fit_of_echoes(20.0)
    acq = head.acquire(seed=1000)
    first = noise_map(fit, acq, method="exact")
    assert first.linearity.verdict == "not linear"
    for n in (None, 40):
        assert noise_map(fit, acq, n_samples=n).method == "monte_carlo"
    shift = acq.kspace - head.signal * acq.mask.unsqueeze(-3)
    scans = torch.stack([head.acquire(seed=k).kspace + shift for k in range(250)])
    with torch.no_grad():
        own = torch.cat([torch.func.vmap(fit.bind(acq))(some) for some in scans.split(25)]).double().std(0)
    replicas = noise_map(fit, acq, n_samples=250)
    assert float((own / replicas.std)[fit.region].median()) == pytest.approx(1, abs=0.04)
    assert float((own / first.std)[fit.region].median()) > 1.1
