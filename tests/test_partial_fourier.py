"""Homodyne detection and POCS: their noise, which is improper, and what they are for."""

import pickle

import pytest
import torch

from mrnoise import Acquisition, InputError, noise_map
from mrnoise.catalogue import reconstruction
from mrnoise.foreground import foreground
from mrnoise.linearization import image_of
from mrnoise.reconstruction import CgSense, Homodyne, Pocs, Sense, ZeroFilled
from mrnoise.simulation import simulate

SHAPE = (48, 40)
FULL = simulate(SHAPE, 6, snr=60, seed=1)


def partial(first=0, behind=None, axis=-2, full=FULL):
    mask = torch.zeros(full.spatial_shape, dtype=torch.bool)
    mask.movedim(axis, 0)[first:behind] = True
    return Acquisition(full.kspace * mask, full.noise_covariance, coil_maps=full.coil_maps)


SCANS = {
    "first lines missing": partial(14),
    "last lines missing": partial(0, 34),
    "asymmetric echo": partial(12, axis=-1),
    "odd matrix": partial(12, full=simulate((43, 36), 5, snr=60, seed=2)),
}


def test_noise_of_homodyne_with_a_known_phase():
    """One coil that sees all alike: σ² = ½ ψ ΣW²/N. Floor: 2000 voxels of 400 samples, 0.2 % with correlations."""
    psi, n = 0.01, SHAPE[0]
    random = torch.Generator().manual_seed(0)
    object_ = 100 * torch.ones(SHAPE, dtype=torch.complex64)
    full = Acquisition(
        torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(object_), norm="ortho"))[None]
        + psi**0.5 * torch.randn(1, *SHAPE, dtype=torch.complex64, generator=random),
        psi * torch.eye(1),
        coil_maps=torch.ones(1, *SHAPE, dtype=torch.complex64),
    )
    acq = partial(14, full=full)
    half = n // 2 - 14
    ramp = (1 + (torch.arange(n) - n // 2) / (half + 0.5)).clamp(0, 2)
    expected = (0.5 * psi * ramp[14:].square().sum() / n).sqrt()
    nm = noise_map(Homodyne(ZeroFilled()), acq, method="sketch", n_samples=400)
    assert float(nm.variance.mean().sqrt() / expected) == pytest.approx(1, abs=0.01)
    replicas = noise_map(Homodyne(ZeroFilled()), acq, method="monte_carlo", n_samples=400)
    assert float(replicas.variance.mean().sqrt() / expected) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("method", [Homodyne(), Pocs()])
def test_first_order_is_that_of_replicas(method, name):
    """Median over the object, where |x| is not near zero: floor 0.3 % of 500 replicas. The noise is improper."""
    acq = SCANS[name]
    first = noise_map(method, acq, method="sketch", n_samples=500)
    replicas = noise_map(method, acq, method="monte_carlo", n_samples=500, seed=3)
    inside = foreground(replicas.image.abs())
    ratio = float((first.std / replicas.std)[inside].median())
    assert ratio == pytest.approx(1, abs=0.03)
    improper = float(replicas.estimate.impropriety[inside].median())
    assert improper > (0.99 if isinstance(method, Homodyne) else 0.15)
    proper = float(noise_map(CgSense(), acq, method="monte_carlo", n_samples=500).estimate.impropriety[inside].median())
    assert proper < 0.1


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("method", [Homodyne(Sense()), Pocs(Sense())])
def test_they_bring_back_what_was_not_encoded(method, name):
    full = simulate((43, 36), 5, snr=60, seed=2) if name == "odd matrix" else FULL
    truth = image_of(Sense(), full)
    inside = foreground(truth)

    def error(image):
        return float((image.abs() - truth.abs())[inside].norm() / truth[inside].norm())

    assert error(image_of(method, SCANS[name])) < 0.8 * error(image_of(Sense(), SCANS[name]))


def test_the_data_of_pocs_stay():
    acq = SCANS["first lines missing"]
    kspace = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image_of(Pocs(), acq)), norm="ortho"))
    before = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image_of(CgSense(), acq)), norm="ortho"))
    torch.testing.assert_close(kspace[14:], before[14:], rtol=0, atol=1e-4 * float(before.abs().max()))
    assert float(kspace[:14].norm()) > 100 * float(before[:14].norm())


@pytest.mark.parametrize("scale", [1e-14, 1e12])
@pytest.mark.parametrize("method", [Homodyne(), Pocs()])
def test_whatever_the_unit(method, scale):
    acq = SCANS["asymmetric echo"]
    psi = acq.noise_covariance.matrix * scale**2
    other = Acquisition(acq.kspace * scale, psi, coil_maps=acq.coil_maps)
    a, b = (noise_map(method, one, method="sketch", n_samples=20) for one in (acq, other))
    torch.testing.assert_close(a.snr, b.snr, rtol=1e-2, atol=1e-3)  # conjugate gradients in single precision


def test_bound_they_can_be_pickled_and_have_names():
    acq = SCANS["last lines missing"]
    for name, kind in (("homodyne", Homodyne), ("pocs", Pocs)):
        method = reconstruction(name)
        assert isinstance(method, kind)
        bound = method.bind(acq)
        assert torch.equal(pickle.loads(pickle.dumps(bound))(acq.kspace), bound(acq.kspace))


def test_where_there_is_nothing_to_complete():
    for method in (Homodyne(), Pocs()):
        with pytest.raises(InputError, match="partial Fourier"):
            noise_map(method, FULL, n_samples=4)
    both = partial(14)
    both = Acquisition(both.kspace * (torch.arange(40) > 10), both.noise_covariance, coil_maps=both.coil_maps)
    with pytest.raises(InputError, match="along one axis"):
        noise_map(Homodyne(), both, n_samples=4)
    assert noise_map(Pocs(), both, n_samples=4).image.is_complex()
    with pytest.raises(InputError, match="at least 1"):
        Pocs(iterations=0)
