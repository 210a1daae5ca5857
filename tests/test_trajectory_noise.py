"""Noise maps of trajectories against the dense covariance: radial, spiral, 3D radial and a stack, complex Ψ."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mrnoise import Acquisition, InputError, estimators, noise_map, roi_std, save
from mrnoise.calibration import with_coil_maps
from mrnoise.closed_form import cg_sense_std, gridding_std
from mrnoise.encoding import NonCartesian
from mrnoise.estimators import METHODS, Plan
from mrnoise.estimators.key import Key
from mrnoise.figures.panel import panel
from mrnoise.foreground import foreground
from mrnoise.linearization import image_of, linearize
from mrnoise.measurement import noise_correlation, noise_power_spectrum, point_spread
from mrnoise.measurement.place import central_voxel
from mrnoise.networks import DeepReconstruction, MoDL, UnrolledResNet
from mrnoise.reconstruction import CgSense, Gridding, RootSumOfSquares, Sense, ZeroFilled
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.ratio import compare
from mrnoise.sampling import radial, radial_3d, spiral, stack_of_stars
from mrnoise.simulation import random_noise_covariance, simulate
from test_estimators import SHAPE, Dense
from test_nufft import dense as transform

COILS, WEIGHT = 3, 0.05
SCANS = {
    "radial": lambda: radial((10, 12), 8, 16),
    "spiral": lambda: spiral((11, 9), 3, 40),
    "radial 3D": lambda: radial_3d((5, 6, 4), 24, 7),
    "stack of stars": lambda: stack_of_stars((3, 6, 7), 5, 10),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def scan(name: str, dtype: torch.dtype = torch.complex64) -> Acquisition:
    """Smooth coil maps with a hole, an image, and its samples without noise."""
    trajectory = SCANS[name]()
    shape = trajectory.image_shape
    r = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    directions = torch.randn(COILS, len(shape), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    maps = torch.stack(
        [
            torch.exp(-(sum((a - 0.8 * b) ** 2 for a, b in zip(r, d, strict=True))) + 1j * r[0] * d[0])
            for d in directions
        ]
    )
    maps = maps * (sum(a.square() for a in r) < 1.6)
    psi = random_noise_covariance(COILS, 20.0, seed=1)
    image = normal(*shape, seed=2)
    kspace = NonCartesian(maps, trajectory).forward(image).to(dtype)
    return Acquisition(kspace, psi, coil_maps=maps.to(dtype), sampling=trajectory)


def system(acq: Acquisition) -> tuple[Tensor, Tensor, Tensor]:
    """E, and A and samples' covariance in units of k-space, from their definitions."""
    e = transform(acq.sampling.coordinates, acq.spatial_shape)
    a = torch.cat([e * s.flatten() for s in acq.coil_maps.to(torch.complex128)])
    return e, a, torch.kron(acq.noise_covariance.matrix, torch.eye(len(e), dtype=torch.complex128))


def covariance(acq: Acquisition, matrix: Tensor) -> Tensor:
    _, _, psi = system(acq)
    return matrix @ psi @ matrix.mH


def cg_sense_matrix(acq: Acquisition) -> Tensor:
    _, a, psi = system(acq)
    mean = acq.noise_covariance.mean_variance
    b = mean * a.mH @ torch.linalg.inv(psi)
    return torch.linalg.solve(b @ a + WEIGHT * torch.eye(a.shape[1]), b)


def sigma(acq: Acquisition, matrix: Tensor) -> Tensor:
    return covariance(acq, matrix).diagonal().real.sqrt().reshape(acq.spatial_shape)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance * float(expected.max()) * 0.01)


@pytest.fixture(params=SCANS)
def name(request) -> str:
    return request.param


def test_condition_of_the_noise():
    values = torch.linalg.eigvalsh(scan("radial").noise_covariance.matrix)
    assert float(values[-1] / values[0]) == pytest.approx(20, rel=1e-6)


def test_cg_sense_by_rows_and_in_closed_form(name):
    acq = scan(name)
    expected = sigma(acq, cg_sense_matrix(acq))
    close(noise_map(CgSense(WEIGHT), acq, method="exact").std, expected, 1e-3)
    close(cg_sense_std(acq, WEIGHT), expected, 1e-5)
    # The tests can fail: noise that is taken for white is another.
    white = acq.replace(noise_covariance=acq.noise_covariance.mean_variance * torch.eye(COILS))
    assert float((cg_sense_std(white, WEIGHT) / expected - 1).nan_to_num().abs().max()) > 0.1


SAMPLED = {"sketch", "monte_carlo", "nonlinear", "probe", "coloured"}


def test_no_method_is_left_out():
    """What has no error, what needs a lattice, and spots, which need a larger image (test_spots.py)."""
    assert set(METHODS) == SAMPLED | {"exact", "closed_form", "auto", "lattice", "spots"}


@pytest.mark.parametrize("method", sorted(SAMPLED))
def test_samples_are_within_their_stated_error(name, method):
    """Mean of (σ̂/σ - 1)² over its stated value: 1, with the error of 40 voxels or more; √2 in σ would be 100 of it."""
    acq = scan(name)
    if method == "coloured" and acq.spatial_dims == 3:
        with pytest.raises(InputError, match="two axes"):
            noise_map(CgSense(WEIGHT), acq, method=method, n_samples=2)
        return
    expected = sigma(acq, cg_sense_matrix(acq))
    n = {"sketch": 200, "monte_carlo": 200, "coloured": 5}.get(method, 40)
    nm = noise_map(CgSense(WEIGHT), acq, method=method, n_samples=n, seed=1)
    inside = expected > 0.2 * expected.max()
    z = ((nm.std.double() / expected - 1) / nm.relative_error.double())[inside]
    assert 0.6 < float(z.square().mean().sqrt()) < 1.4
    low, high = nm.confidence_interval()
    covered = ((low <= expected) & (expected <= high))[inside].double().mean()
    assert 0.85 < float(covered) <= 1


def test_intervals_cover_what_they_say():
    acq = scan("spiral")
    expected = gridding_std(acq)
    inside = expected > 0.2 * expected.max()
    covered = []
    for seed in range(60):
        low, high = noise_map(Gridding(), acq, method="sketch", n_samples=24, seed=seed).confidence_interval()
        covered.append(((low <= expected) & (expected <= high))[inside].double().mean())
    assert 0.93 < float(torch.stack(covered).mean()) < 0.97


@pytest.mark.parametrize("method", ["sketch", "monte_carlo", "nonlinear", "probe"])
def test_intervals_of_cg_sense_cover(name, method):
    """Of 54 voxels, dense: L from its definition. Floor of the mean over 50 seeds: below 1 %, measured."""
    acq = scan(name)
    matrix, sigma_of_all = cg_sense_matrix(acq), sigma(acq, cg_sense_matrix(acq)).flatten()
    samples = matrix.shape[1] // COILS
    factor = torch.linalg.cholesky(acq.noise_covariance.matrix).contiguous()
    colour = torch.kron(factor, torch.eye(samples, dtype=torch.complex128))
    rows = (matrix @ colour)[sigma_of_all.argsort(descending=True)[: math.prod(SHAPE)]]
    operator = Dense(rows, torch.zeros_like(rows), complex_linear=True, noise_shape=(rows.shape[1],))
    covered = []
    for seed in range(50):
        found = getattr(estimators, method)(operator, Plan(n_samples=32), key=Key(seed))
        low, high = NoiseMap(torch.ones(SHAPE, dtype=torch.complex128), found).confidence_interval()
        covered.append(((low <= operator.variance.sqrt()) & (operator.variance.sqrt() <= high)).double().mean())
    found = torch.stack(covered)
    floor = float(found.std()) / 50**0.5
    assert floor < 0.01 and 0.93 - floor <= float(found.mean()) <= 0.97 + floor


def test_auto_takes_the_closed_form(name):
    acq = scan(name)
    nm = noise_map(CgSense(WEIGHT), acq)
    assert nm.method == "closed_form" and nm.linearity.verdict == "linear"
    close(nm.std, sigma(acq, cg_sense_matrix(acq)), 1e-3)


def test_auto_takes_no_samples_though_single_precision_rounds_in_the_solution():
    """A condition of 10⁴ amplifies rounding to a part of the noise; the reconstruction is linear all the same."""
    acq = simulate((48, 44), 6, trajectory=radial((48, 44), 40, 96), snr=100.0)
    nm = noise_map(CgSense(2e-3), acq, target_error=0.05)
    assert nm.method == "closed_form"
    truth, inside = cg_sense_std(acq, 2e-3), foreground(nm.image)
    assert float((nm.std / truth - 1)[inside].square().mean().sqrt()) < 0.05


def test_iterations_stopped_early_are_mapped_as_they_are():
    """Against replicas at little noise, and not the noise of the converged image."""
    acq = scan("spiral", torch.complex128)
    method = CgSense(1e-2, iterations=3)
    nm = noise_map(method, acq, method="exact")
    function, quiet = method.bind(acq), 1e-4
    unit = normal(600, *acq.kspace.shape, seed=6)
    change = (torch.stack([function(acq.kspace + quiet * n) for n in acq.colour(unit)]) - function(acq.kspace)) / quiet
    replicas = change.abs().square().mean(0).sqrt()
    inside = replicas > 0.2 * replicas.max()
    floor = 0.5 / 600**0.5
    assert float(((replicas / nm.std)[inside] - 1).square().mean().sqrt()) < 1.3 * floor * 2**0.5
    converged = cg_sense_std(acq, 1e-2)
    assert float((nm.std / converged)[inside].mean()) < 0.8
    with pytest.raises(InputError, match="no closed form"):
        noise_map(method, acq, method="closed_form")


def test_gridding(name):
    acq = scan(name)
    e, _, psi = system(acq)
    maps, mean = acq.coil_maps.to(torch.complex128), acq.noise_covariance.mean_variance
    combine = mean * torch.einsum("cr,cd->dr", maps.flatten(1).conj(), torch.linalg.inv(acq.noise_covariance.matrix))
    matrix = torch.cat([c[:, None] * e.mH * acq.sampling.density.flatten() for c in combine], dim=1)
    image = (matrix @ acq.kspace.to(torch.complex128).flatten()).reshape(acq.spatial_shape)
    nm = noise_map(Gridding(), acq)
    assert nm.method == "closed_form" and nm.g_factor is None
    torch.testing.assert_close(nm.image.to(torch.complex128), image, rtol=0, atol=1e-4 * float(image.abs().max()))
    close(nm.std, sigma(acq, matrix), 1e-5)
    close(noise_map(Gridding(), acq, method="exact").std, sigma(acq, matrix), 1e-3)
    # Averages count.
    twice = acq.replace(averages=torch.full(acq.sampling.sample_shape, 2))
    close(gridding_std(twice), sigma(acq, matrix) / 2**0.5, 1e-5)


def test_gridding_has_unit_gain_where_sampling_is_dense():
    """A smooth object through an unweighted coil keeps its intensity, whatever the trajectory."""
    spokes = radial((24, 20), 60, 48)
    for trajectory in (spokes, replace(spokes, density=None)):
        y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 20), indexing="ij")
        image = torch.exp(-6 * (x.square() + y.square())).to(torch.complex64)[None]
        one = torch.ones_like(image)
        kspace = NonCartesian(one, trajectory).forward(image[0])
        acq = Acquisition(kspace, torch.eye(1), coil_maps=one, sampling=trajectory)
        found = Gridding().bind(acq)(kspace)
        assert float((found - image[0]).abs().max()) < 0.05


def test_root_sum_of_squares(name):
    acq = scan(name)
    e, _, psi = system(acq)
    grid = torch.kron(torch.eye(COILS), (e.mH * acq.sampling.density.flatten()).contiguous())
    images = (grid @ acq.kspace.to(torch.complex128).flatten()).reshape(COILS, *acq.spatial_shape)
    rss = images.abs().square().sum(0).sqrt()
    weights = (images.conj() / rss).flatten(1)
    matrix = torch.cat([w[:, None] * (e.mH * acq.sampling.density.flatten()) for w in weights], dim=1)
    nm = noise_map(RootSumOfSquares(), acq, method="exact")
    torch.testing.assert_close(nm.image.double(), rss, rtol=1e-4, atol=1e-4 * float(rss.max()))
    # Re of circular noise has half of its variance.
    close(nm.std, sigma(acq, matrix) / 2**0.5, 2e-3)


@pytest.mark.parametrize("reconstruction", [ZeroFilled(), Sense()])
def test_cartesian_reconstructions_say_so(reconstruction):
    with pytest.raises(InputError, match="needs Cartesian sampling.*Gridding"):
        noise_map(reconstruction, scan("radial"), n_samples=2)


def test_methods_of_alias_sets_say_so():
    """What does not fit is the method, not the reconstruction."""
    with pytest.raises(InputError, match='no alias sets.*method="auto"'):
        noise_map(CgSense(1e-2), scan("radial"), method="lattice", n_samples=2)


def test_a_scan_without_signal_is_mapped_as_one_with_signal():
    acq = scan("radial")
    silent = noise_map(CgSense(1e-2), acq.replace(kspace=torch.zeros_like(acq.kspace)))
    assert silent.method == "closed_form"
    torch.testing.assert_close(silent.std, noise_map(CgSense(1e-2), acq).std)


def test_gridding_of_a_grid_says_so():
    with pytest.raises(InputError, match="needs a trajectory.*ZeroFilled"):
        noise_map(Gridding(), simulate((16, 12), 4), n_samples=2)


@pytest.mark.parametrize("network", [MoDL, UnrolledResNet])
def test_unrolled_networks(network):
    """Derivatives pass the preflight; samples of them and replicas at little noise agree, within 1.3 of their floor."""
    torch.manual_seed(0)
    acq = simulate((16, 14), COILS, trajectory=radial((16, 14), 12), snr=2000.0)
    reconstruction = DeepReconstruction(network(unrolls=2, features=4))
    maps = [noise_map(reconstruction, acq, method=name, n_samples=150) for name in ("sketch", "monte_carlo")]
    found = compare(*maps, foreground(maps[0].image))
    assert found.nrmse <= 1.3 * found.floor and found.ratio == pytest.approx(1, abs=0.05)


def test_networks_that_need_a_grid_say_so():
    from mrnoise.networks import pretrained

    acq = simulate((32, 28), COILS, trajectory=radial((32, 28), 30))
    with pytest.raises(InputError, match="needs Cartesian sampling"):
        noise_map(pretrained("varnet", "brain"), acq, n_samples=2)


def test_coil_maps_of_the_centre_fixed_and_propagated():
    """The maps are those of the array inside the object; noise of the centre in them adds a little to the image's."""
    acq = simulate((36, 32), 4, trajectory=radial((36, 32), 48), snr=60.0)
    free = acq.replace(coil_maps=None)
    found, true = (x.whiten_maps(x.coil_maps) for x in (with_coil_maps(free), acq))
    inside = foreground(Gridding().bind(acq)(acq.kspace))
    alike = (
        (found.conj() * true).sum(0).abs()
        / torch.linalg.vector_norm(found, dim=0)
        / torch.linalg.vector_norm(true, dim=0)
    )
    assert float(alike[inside].nanmean()) > 0.995
    sigma = [
        noise_map(Gridding(differentiate_coil_maps=held), free, method="sketch", n_samples=12).std
        for held in (False, True)
    ]
    ratio = (sigma[1] / sigma[0])[inside]
    assert 0.95 < float(ratio.median()) < 1.1 and float((ratio - 1).abs().max()) > 1e-3


@pytest.mark.parametrize("method", [Gridding(), CgSense(0.1, 1e-9)], ids=lambda m: type(m).__name__)
def test_coil_maps_of_the_centre_have_a_derivative_in_forward_mode(method):
    """The centre of the trajectory was looked for anew within every derivative, where tensors have no array."""
    acq = simulate((30, 26), 4, trajectory=radial((30, 26), 40), snr=60.0).replace(coil_maps=None)
    acq = acq.replace(kspace=acq.kspace.to(torch.complex128))
    (operator,) = linearize(method, acq)
    assert (operator.preflight.jvp_mode, operator.preflight.vjp_mode) == ("vmap(jvp)", "vmap(vjp)")


def test_too_sparse_a_centre_is_refused():
    acq = simulate((36, 32), 4, trajectory=radial((36, 32), 5)).replace(coil_maps=None)
    with pytest.raises(InputError, match="calibration"):
        noise_map(CgSense(), acq, n_samples=2)


def test_without_regularization_there_is_no_closed_form():
    with pytest.raises(InputError, match="no closed form"):
        cg_sense_std(scan("radial"), 0.0)


def test_dense_closed_form_of_cartesian_sampling_along_two_axes():
    from mrnoise.sampling import poisson_disc

    acq = simulate((18, 14), 4, mask=poisson_disc((18, 14), 3, calibration=4))
    exact = noise_map(CgSense(1e-2, tolerance=1e-7), acq, method="exact").std
    close(exact, cg_sense_std(acq, 1e-2), 1e-3)
    with pytest.raises(InputError, match="too large.*at most 100 voxels"):
        cg_sense_std(acq, 1e-2, most_voxels=100)


# -- what is measured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["radial", "stack of stars"])
def test_measurements_are_those_of_the_dense_covariance(name):
    """σ of the mean of |x| over a region, noise correlation and power, and the response to a lesion."""
    acq = scan(name)
    matrix, shape = cg_sense_matrix(acq), acq.spatial_shape
    cov = covariance(acq, matrix)
    image = image_of(CgSense(WEIGHT), acq).to(torch.complex128).flatten()
    phase = image.sgn()
    of_magnitude = 0.5 * (phase.conj()[:, None] * cov * phase).real
    roi = torch.zeros(shape, dtype=torch.bool)
    roi[..., 2:5, 2:6] = True
    w = roi.flatten().double() / roi.sum()
    exact = float(w @ of_magnitude @ w) ** 0.5
    assert roi_std(CgSense(WEIGHT), acq, roi) == pytest.approx(exact, rel=1e-3)
    uncorrelated = float((w.square() * of_magnitude.diagonal()).sum()) ** 0.5
    assert abs(uncorrelated / exact - 1) > 0.01  # voxels taken for independent would fail by ten tolerances
    voxel = central_voxel(roi)
    i = int(torch.arange(roi.numel()).reshape(shape)[voxel])
    rho = of_magnitude[:, i] / (of_magnitude.diagonal() * of_magnitude[i, i]).sqrt()
    seen = acq.coil_maps.abs().sum(0) > 0
    found = noise_correlation(CgSense(WEIGHT), acq, voxel, noise_map(CgSense(WEIGHT), acq, method="exact"))
    torch.testing.assert_close(found.coefficient[seen].double(), rho.reshape(shape)[seen], rtol=0, atol=2e-3)
    _, a, _ = system(acq)
    lesion = torch.zeros(roi.numel(), dtype=torch.complex128)
    lesion[i] = phase[i]
    expected = (phase[i].conj() * (matrix @ (a @ lesion))).real.reshape(shape)
    spread = point_spread(CgSense(WEIGHT), acq, voxel)
    assert spread.contrast_recovery == pytest.approx(float(expected[voxel]), rel=1e-3)
    power = noise_power_spectrum(CgSense(WEIGHT), acq, roi, n_samples=320)
    mean = float(of_magnitude.diagonal()[roi.flatten()].mean())
    assert power.variance == pytest.approx(mean, rel=0.15)  # floor: √(2 / 320) of one voxel


def test_pages_and_figures_say_the_trajectory(tmp_path):
    nm = noise_map(CgSense(WEIGHT), scan("radial"))
    page = tmp_path / "map.html"
    save(nm, page)
    assert "8 × 16 samples" in page.read_text()
    texts = " ".join(text.get_text() for text in panel(nm).texts)
    for words in ("R = 0.938", "trajectory of 8 × 16 samples", "g against the grid"):
        assert words in texts, texts
