"""Simulated scans: the phantom, the coils, and noise that follows its covariance."""

import numpy as np
import pytest
import torch

from mrnoise.acquisition import NoiseCovariance, noise_covariance_from_scan
from mrnoise.errors import InputError
from mrnoise.fourier import to_image, to_kspace
from mrnoise.sampling import equispaced
from mrnoise.simulation import (
    Simulation,
    beating_disc,
    biot_savart_coils,
    head_phantom,
    random_noise_covariance,
    simulate,
    simulated_head,
    smooth_phase,
)
from mrnoise.simulation.coils import CONDUCTOR, _loop

# -- phantom ---------------------------------------------------------------------------------------------------


def test_phantom_is_a_magnitude():
    image = head_phantom((90, 78))
    assert image.shape == (90, 78)
    assert image.dtype == torch.float32
    assert image.min() == 0
    assert 0.85 < image.max() <= 1
    assert 0.3 < (image > 0.02).float().mean() < 0.6
    assert torch.equal(image, head_phantom((90, 78)))


def test_phantom_has_the_anatomy():
    image = head_phantom((220, 220))  # 1 mm
    at = {"white": (72, 90), "putamen": (107, 136), "thalamus": (121, 120), "outside": (5, 5)}
    value = {k: float(image[y - 1 : y + 2, x - 1 : x + 2].mean()) for k, (y, x) in at.items()}
    assert value["outside"] == 0
    assert value["white"] > value["thalamus"] > value["putamen"] > 0.5
    assert image[110].max() > 0.85  # subcutaneous fat
    fluid = (image[75:155, 85:140] < 0.2).float().mean()
    assert 0.02 < fluid < 0.2  # ventricles


def test_phantom_is_independent_of_resolution():
    coarse, fine = head_phantom((110, 110)), head_phantom((330, 330))
    same_points = fine[::3, ::3]
    assert float((coarse - same_points).abs().mean()) < 0.03
    assert float((coarse - same_points.roll(2, 0)).abs().mean()) > 0.06


def test_phantom_volume_and_slices_are_one_object():
    volume = head_phantom((20, 60, 50))
    slices = head_phantom((3, 60, 50), z=[-0.2, 0.0, 0.4])
    assert torch.allclose(slices, volume[[8, 10, 14]], atol=1e-5)
    assert torch.allclose(slices[1], head_phantom((60, 50)), atol=1e-5)
    assert (slices[1] - slices[2]).abs().mean() > 0.05


def test_phase_is_smooth_and_seeded():
    phase = smooth_phase((64, 48), seed=1)
    assert torch.equal(phase, smooth_phase((64, 48), seed=1))
    assert not torch.equal(phase, smooth_phase((64, 48), seed=2))
    assert float(phase.diff(dim=0).abs().max()) < 1
    assert float(phase.std()) > 0.1


# -- coils -----------------------------------------------------------------------------------------------------


def test_loop_is_the_biot_savart_sum():
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    centre, normal, a = np.array([1.1, 0.2, -0.3]), np.array([-2.0, 1, 2]) / 3, 0.4
    u = np.cross(normal, [0.0, 0, 1])
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)[:, None]
    wire = centre + a * (np.cos(angle) * u + np.sin(angle) * v)
    current = a * (np.cos(angle) * v - np.sin(angle) * u) * 2 * np.pi / 2000
    offset = points[:, None] - wire
    field = np.cross(current, offset) / (np.square(offset).sum(-1) + CONDUCTOR**2)[..., None] ** 1.5
    expected = field.sum(1) @ np.array([1, -1j, 0])
    assert np.allclose(_loop(points, centre, normal, a, 1.0), expected, rtol=1e-6)
    assert not np.allclose(_loop(points, centre, -normal, a, 1.0), expected, rtol=0.1)
    on_axis = _loop(centre + 0.5 * normal[None], centre, normal, a, 1.0)
    s = a**2 + 0.25 + CONDUCTOR**2
    assert np.allclose(on_axis, 2 * np.pi * a**2 / s**1.5 * (normal[0] - 1j * normal[1]))


@pytest.mark.parametrize("n_coils", [1, 5, 16, 32])
def test_coil_maps(n_coils):
    maps = biot_savart_coils(n_coils, (50, 40), seed=1)
    assert maps.shape == (n_coils, 50, 40)
    assert maps.dtype == torch.complex64
    rss = maps.abs().square().sum(0).sqrt()
    y, x = torch.meshgrid((torch.arange(50) - 25) / 25, (torch.arange(40) - 20) / 20, indexing="ij")
    assert float(rss[y**2 + x**2 < 0.81].max()) == pytest.approx(1, rel=1e-5)
    step = maps.diff(dim=1).abs() * (y**2 + x**2 < 0.81)[1:]
    assert float(step.max()) < 0.2
    strongest = maps.abs().flatten(1).argmax(1)
    assert len(set(strongest.tolist())) > 0.6 * n_coils  # every coil sees another place


def test_coils_of_volume_and_slices_agree():
    volume = biot_savart_coils(6, (10, 16, 12), seed=4)
    assert torch.allclose(volume[:, 5], biot_savart_coils(6, (16, 12), seed=4) * _ratio(volume[:, 5], 4), rtol=1e-4)
    regular = [biot_savart_coils(4, (16, 16)) for _ in range(2)]
    assert torch.equal(*regular)
    assert not torch.allclose(regular[0], biot_savart_coils(4, (16, 16), seed=0))


def _ratio(volume: torch.Tensor, seed: int) -> torch.Tensor:
    single = biot_savart_coils(6, (16, 12), seed=seed)
    return volume[0, 8, 6] / single[0, 8, 6]  # the peak is taken over all of the field of view


@pytest.mark.parametrize("condition", [1.0, 20.0, 500.0])
def test_noise_covariance_has_its_condition_number(condition):
    psi = random_noise_covariance(7, condition, seed=2)
    assert psi.condition_number == pytest.approx(condition, rel=1e-9)
    assert psi.mean_variance == pytest.approx(1)
    assert psi.source == "simulation"
    if condition > 10:
        assert psi.largest_correlation > 0.3
        assert psi.matrix.imag.abs().max() > 0.1
    assert not torch.allclose(psi.matrix, random_noise_covariance(7, condition + 1, seed=3).matrix)


# -- scans -----------------------------------------------------------------------------------------------------


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_scan_is_the_forward_model():
    simulation = simulated_head((30, 26), 4)
    image = to_image(simulation.signal)
    assert torch.allclose(image, simulation.coil_maps * simulation.image, atol=1e-6)
    scan = simulation.acquire(2)
    noise = scan.kspace - simulation.signal
    assert float(noise.abs().square().mean()) == pytest.approx(simulation.noise_covariance.mean_variance, rel=0.1)
    assert torch.equal(scan.coil_maps, simulation.coil_maps)
    assert scan.geometry.measured
    assert scan.geometry.voxel_size[1:] == pytest.approx((220 / 30, 220 / 26))


def test_noise_follows_the_covariance():
    simulation = simulated_head((24, 20), 3)
    psi = simulation.noise_covariance.matrix
    noise = torch.stack([simulation.acquire(s).kspace - simulation.signal for s in range(60)])
    samples = noise.movedim(1, 0).flatten(1).to(torch.complex128)
    n = samples.shape[1]
    assert relative(samples @ samples.mH / n, psi) < 5 / n**0.5
    assert float((samples @ samples.mT / n).norm() / psi.norm()) < 5 / n**0.5  # circular
    assert relative(samples @ samples.mH / n, psi.conj()) > 0.1
    neighbour = samples[:, 1:] @ samples[:, :-1].mH / n
    assert float(neighbour.norm() / psi.norm()) < 5 / n**0.5


def test_noise_scan():
    simulation = simulated_head((24, 20), 3)
    scan = simulation.noise_scan(40000, seed=1)
    estimated = noise_covariance_from_scan(scan).matrix
    assert relative(estimated, simulation.noise_covariance.matrix) < 0.025
    assert not torch.equal(scan, simulation.noise_scan(40000, seed=2))
    first = simulation.acquire(1).kspace - simulation.signal
    assert (first.flatten(1)[:, :50] - scan[:, :50]).abs().max() > 0.1 * scan.abs().max()


def test_snr_is_that_of_the_optimal_combination():
    simulation = simulated_head((40, 36), 5, snr=12)
    assert simulation.snr == pytest.approx(12, rel=1e-5)
    psi, maps = simulation.noise_covariance, simulation.coil_maps
    whitened = psi.whiten(maps, 0)
    power = whitened.abs().square().sum(0)

    def combine(kspace: torch.Tensor) -> torch.Tensor:
        return (whitened.conj() * psi.whiten(to_image(kspace), 0)).sum(0) / power

    assert torch.allclose(combine(simulation.signal), simulation.image, atol=1e-4)
    replicas = torch.stack([combine(simulation.acquire(s).kspace) for s in range(100)])
    std = (replicas - simulation.image).abs().square().mean(0).sqrt()
    measured = (simulation.image.abs() / std)[simulation.foreground].mean()
    assert float(measured) == pytest.approx(12, rel=0.03)
    assert simulation.with_snr(24).noise_covariance.mean_variance == pytest.approx(psi.mean_variance / 4)


def test_mask_and_seeds():
    mask = equispaced((24, 20), 3, 6)
    scan = simulate((24, 20), 3, mask=mask, seed=4)
    assert torch.equal(scan.mask, mask)
    assert (scan.kspace[:, ~mask] == 0).all()
    assert torch.equal(scan.kspace, simulate((24, 20), 3, mask=mask, seed=4).kspace)
    assert not torch.equal(scan.kspace, simulate((24, 20), 3, mask=mask, seed=5).kspace)
    simulation = simulated_head((24, 20), 3)
    assert not torch.equal(simulation.acquire(0).kspace, simulation.acquire(1).kspace)


def test_slices_and_volume():
    slices = simulate((22, 18), 3, n_slices=5)
    assert slices.kspace.shape == (5, 3, 22, 18)
    assert slices.coil_maps.shape == (5, 3, 22, 18)
    assert slices.geometry.voxel_size[0] > 1
    volume = simulate((14, 22, 18), 3)
    assert volume.spatial_dims == 3
    assert volume.kspace.shape == (3, 14, 22, 18)
    assert volume.geometry.voxel_size == pytest.approx((220 / 14, 10, 220 / 18))
    image = torch.randn(22, 18, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    own = Simulation(image, biot_savart_coils(3, (22, 18)), random_noise_covariance(3))
    assert torch.allclose(own.signal, to_kspace(own.coil_maps * image))


def test_own_covariance_keeps_its_shape():
    psi = NoiseCovariance(torch.diag(torch.tensor([1.0, 4.0, 2.0])))
    scaled = simulated_head((20, 16), 3, noise_covariance=psi).noise_covariance.matrix
    assert torch.allclose(scaled / scaled[0, 0], psi.matrix)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: head_phantom((3,)), "wrong shape"),
        (lambda: head_phantom((3, 8, 8), z=[0.0]), "slice positions"),
        (lambda: biot_savart_coils(0, (8, 8)), "receive array"),
        (lambda: random_noise_covariance(3, 0.5), "condition number"),
        (lambda: random_noise_covariance(1, 5), "single coil"),
        (lambda: simulate((8, 8), 2, snr=0), "signal-to-noise"),
        (lambda: simulate((8, 8, 8), 2, n_slices=3), "slices are not possible"),
        (lambda: simulate((8, 8), 2, mask=torch.ones(4, 4)), "mask has the wrong shape"),
        (lambda: simulate((8, 8), 2, noise_covariance=random_noise_covariance(3)), "coil maps do not fit"),
        (
            lambda: Simulation(torch.ones(8, 8), biot_savart_coils(2, (8, 9)), random_noise_covariance(2)),
            "coil maps do not fit",
        ),
    ],
)
def test_refusals(call, match):
    with pytest.raises(InputError, match=match):
        call()


# -- series ----------------------------------------------------------------------------------------------------


def test_a_series_is_the_object_times_its_factors():
    masks = torch.stack([equispaced((16, 12), 2, offset=k) for k in range(3)])
    factor = torch.tensor([1.0, 0.5, 0.25])[:, None, None, None]
    head = simulated_head((16, 12), 4, n_slices=2, seed=1)
    series = head.series(factor, "echo")
    acq = series.acquire(seed=3)
    assert acq.axes == ("echo", "slice") and acq.kspace.shape == (3, 2, 4, 16, 12)
    assert torch.equal(series.image, factor * head.image) and series.noise_covariance is head.noise_covariance
    torch.testing.assert_close(to_image(series.signal[1]), 0.5 * to_image(head.signal))
    volume = simulated_head((6, 10, 8), 4, seed=1).series(torch.ones(3, 1, 1, 1)).acquire()
    assert volume.axes == ("frame",) and volume.kspace.shape == (3, 4, 6, 10, 8)
    sampled = simulated_head((16, 12), 4, n_frames=3, mask=masks, seed=1).acquire()
    assert sampled.axes == ("frame",) and torch.equal(sampled.mask, masks)


def test_the_disc_beats_at_any_resolution():
    """Radius 30 mm at rest, 20 mm halfway, of area π r²; a ball in a volume."""
    factor = beating_disc((220, 220), 4)  # 1 mm
    for frame, radius in zip(factor, (30, 25, 20, 25), strict=True):
        assert int((frame > 1.3).sum()) == pytest.approx(np.pi * radius**2, rel=0.02)
    assert float(factor.min()) == 1 and float(factor.max()) == pytest.approx(1.6)
    ball = beating_disc((110, 110, 110), 2)[0]
    assert 8 * int((ball > 1.3).sum()) == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.02)
    slices = beating_disc((2, 220, 220), 4, z=[-0.2, 0.4])
    torch.testing.assert_close(slices[:, 1], factor)
