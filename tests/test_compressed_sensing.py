"""Compressed sensing: the minimum, its derivatives, and its noise against replicas."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from mrnoise import Acquisition, InputError, noise_map
from mrnoise.foreground import foreground
from mrnoise.reconstruction import L1Wavelet, TotalVariation
from mrnoise.reconstruction.compressed_sensing import BoundCompressedSensing
from mrnoise.reconstruction.differences import Differences
from mrnoise.reconstruction.fista import Sparsifying
from mrnoise.reconstruction.wavelets import Wavelets
from mrnoise.sampling import equispaced, poisson_disc, radial
from mrnoise.simulation import simulate

SHAPE = (20, 16)


def scan(snr: float = 40.0, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Acquisition:
    made = simulate(SHAPE, 6, mask=poisson_disc(SHAPE, 2, calibration=4), snr=snr, seed=seed)
    real = torch.zeros((), dtype=dtype).real.dtype
    return made.map(lambda t: t.to(dtype) if t.is_complex() else t.to(real) if t.is_floating_point() else t)


def random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


# -- transforms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 12), (15, 10), (6, 8, 5)])
@pytest.mark.parametrize("name", ["haar", "db2", "sym3"])
def test_wavelets_are_orthogonal(shape: tuple[int, ...], name: str) -> None:
    details = Wavelets(shape, name, 1 if len(shape) == 3 else 2)
    x = details.extended(random(shape))
    u = details.forward(x)
    assert torch.allclose(details.forward(details.adjoint(u)), u)
    v = random(tuple(u.shape), 1)
    assert torch.allclose(torch.vdot(u.flatten(), v.flatten()), torch.vdot(x.flatten(), details.adjoint(v).flatten()))
    # What is left is the coarsest approximation.
    share = math.prod(n >> details.levels for n in details.padded) / math.prod(details.padded)
    unit = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape)
    rank = torch.linalg.matrix_rank(vmap(details.forward)(unit).flatten(1))
    assert int(rank) == round((1 - share) * x.numel())


def test_wavelets_do_not_see_a_constant() -> None:
    details = Wavelets((24, 16), "db3", 2)
    assert float(details.forward(torch.ones(24, 16, dtype=torch.float64)).abs().max()) < 1e-12


@pytest.mark.parametrize("axes", [(-1,), (-3, -1), (-3, -2, -1)])
def test_differences(axes: tuple[int, ...]) -> None:
    x = random((4, 7, 5))
    k = Differences(axes, 3)
    u = k.forward(x)
    for i, axis in enumerate(axes):
        n = x.shape[axis]
        assert torch.allclose(u[i].narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1) - x.narrow(axis, 0, n - 1))
        assert float(u[i].select(axis, -1).abs().max()) == 0
    v = random(tuple(u.shape), 1)
    assert torch.allclose(torch.vdot(u.flatten(), v.flatten()), torch.vdot(x.flatten(), k.adjoint(v).flatten()))
    matrix = vmap(k.forward)(torch.eye(x.numel()).reshape(-1, *x.shape)).flatten(1)
    assert 0.7 * k.norm2 < float(torch.linalg.matrix_norm(matrix, 2)) ** 2 <= k.norm2


# -- the minimum -------------------------------------------------------------------------------------------------------

METHODS = [L1Wavelet(0.05, iterations=None, wavelet="db2", levels=2), TotalVariation(0.005, iterations=None)]


def objective(bound: BoundCompressedSensing, x: Tensor, kspace: Tensor) -> Tensor:
    """What is minimized, of the image in units of its coil maps."""
    assert bound.fixed is not None
    norm, encoding = bound.fixed
    k: Sparsifying = bound.sparsifying
    residual = encoding.forward(x * norm) - bound.acquisition.whiten(kspace)
    u = k.forward(k.extended(x * norm))
    lengths = k.grouped(u.abs().square()).sqrt()
    return residual.abs().square().sum() / 2 + bound.method.regularization * bound.scale * lengths.sum()


@pytest.mark.parametrize("method", METHODS, ids=["wavelets", "total variation"])
def test_no_direction_leads_down_from_the_minimum(method: L1Wavelet | TotalVariation) -> None:
    acquisition = scan()  # multiples of 4: the image is all of the grid of the wavelets
    bound = method.bind(acquisition)
    x = bound(acquisition.kspace)
    least = float(objective(bound, x, acquisition.kspace))
    for seed in range(5):
        step = random(SHAPE, seed) * x.abs().mean()
        for size in (1e-1, 1e-2):
            assert float(objective(bound, x + size * step, acquisition.kspace)) > least
    assert float(objective(bound, 0.99 * x, acquisition.kspace)) > least
    assert float(objective(bound, 1.01 * x, acquisition.kspace)) > least


@pytest.mark.parametrize("method", METHODS, ids=["wavelets", "total variation"])
def test_units_of_kspace_do_not_matter(method: L1Wavelet | TotalVariation) -> None:
    acquisition = scan(dtype=torch.complex64)
    x = method.bind(acquisition)(acquisition.kspace)
    for unit in (1e-12, 1e9):
        psi = acquisition.noise_covariance.matrix * unit**2
        other = acquisition.replace(kspace=acquisition.kspace * unit, noise_covariance=psi)
        assert torch.allclose(method.bind(other)(other.kspace) / unit, x, rtol=1e-3, atol=1e-4 * float(x.abs().max()))


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=["wavelets", "total variation"])
def test_derivative_of_the_steps_comes_to_that_of_the_solution(method: L1Wavelet | TotalVariation) -> None:
    acquisition = scan()
    noise = acquisition.colour(random((1, *acquisition.kspace.shape)))[0]
    x, of_solution = jvp(method.bind(acquisition), (acquisition.kspace,), (noise,))
    errors = []
    for iterations in (5, 30, 100):
        stopped = dataclasses.replace(method, iterations=iterations).bind(acquisition)
        value, tangent = jvp(stopped, (acquisition.kspace,), (noise,))
        errors.append(float((tangent - of_solution).norm() / of_solution.norm()))
    assert float((value - x).norm() / x.norm()) < 1e-3
    assert errors[2] < 2e-3 < 0.1 < errors[0]
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("iterations", [None, 20])
@pytest.mark.parametrize("kind", [L1Wavelet, TotalVariation])
def test_derivatives(kind: type[L1Wavelet] | type[TotalVariation], iterations: int | None) -> None:
    acquisition = scan(snr=300.0)
    (method,) = (dataclasses.replace(m, iterations=iterations) for m in METHODS if type(m) is kind)
    bound = method.bind(acquisition)
    y = acquisition.kspace
    noise = acquisition.colour(random((3, *y.shape)))
    together = vmap(lambda n: jvp(bound, (y,), (n,))[1])(noise)
    alone = jvp(bound, (y,), (noise[1],))[1]
    # Together they stop when the last has converged.
    assert float((together[1] - alone).norm() / alone.norm()) < (1e-12 if iterations else 1e-2)
    w = random(tuple(alone.shape), 7)
    pulled = vjp(bound, y)[1](w)[0]
    left, right = ((a.conj() * b).real.sum() for a, b in ((alone, w), (noise[1], pulled)))
    assert float((left - right).abs()) < 1e-3 * float(alone.norm() * w.norm())
    h = 1e-3
    difference = (bound(y + h * noise[1]) - bound(y - h * noise[1])) / (2 * h)
    assert float((difference - alone).norm() / alone.norm()) < 0.02


def test_derivative_carries_that_of_the_coil_maps() -> None:
    made = simulate((40, 34), 4, mask=equispaced((40, 34), 2, calibration=16), snr=100.0).replace(coil_maps=None)
    noise = made.colour(random((1, *made.kspace.shape)).to(torch.complex64))[0]
    followed, held = (
        jvp(TotalVariation(3e-3, 20, differentiate_coil_maps=d).bind(made), (made.kspace,), (noise,))[1]
        for d in (True, False)
    )
    bound = TotalVariation(3e-3, 20).bind(made)
    difference = (bound(made.kspace + 0.1 * noise) - bound(made.kspace - 0.1 * noise)) / 0.2
    # Single precision, and groups that leave zero in between.
    assert float((difference - followed).norm() / followed.norm()) < 0.06
    assert float((difference - held).norm() / followed.norm()) > 0.1


# -- noise -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [L1Wavelet(1e-3, 15, "db2", 2), TotalVariation(3e-3, 15)], ids=["wavelets", "tv"])
def test_sketch_agrees_with_replicas(method: L1Wavelet | TotalVariation) -> None:
    acquisition = scan(snr=40.0, dtype=torch.complex64)
    n_probes, n_replicas = 300, 600
    sketch = noise_map(method, acquisition, method="sketch", n_samples=n_probes)
    replicas = noise_map(method, acquisition, method="monte_carlo", n_samples=n_replicas)
    inside = foreground(sketch.image)
    kappa2 = float(sketch.estimate.impropriety[inside].square().mean())
    floor = math.sqrt((1 + kappa2) * (1 / (4 * n_probes) + 1 / (4 * n_replicas)))
    ratio = (sketch.std / replicas.std)[inside]
    assert float((ratio / ratio.mean() - 1).square().mean().sqrt()) < 1.3 * floor
    assert abs(float(ratio.mean()) - 1) < 0.02


def test_along_a_trajectory_and_in_volumes() -> None:
    spokes = radial((24, 20), 24, 48)
    volume = (10, 12, 9)
    for acquisition in (
        simulate((24, 20), 4, trajectory=spokes, snr=50.0),
        simulate(volume, 4, mask=poisson_disc(volume, 2, calibration=4), snr=50.0),
    ):
        for method in (TotalVariation(3e-3, 20), L1Wavelet(3e-3, 20, wavelet="haar", levels=1)):
            nm = noise_map(method, acquisition, method="sketch", n_samples=10)
            assert nm.std.shape == acquisition.image_shape
            assert nm.provenance.preflight["mode"] == "vmap(jvp)"  # the derivative agrees with finite differences


def test_temporal_total_variation_joins_frames() -> None:
    frames = torch.stack(
        [simulate((16, 12), 3, mask=poisson_disc((16, 12), 2, seed=s), seed=1).kspace for s in range(4)]
    )
    first = simulate((16, 12), 3, seed=1)
    series = Acquisition(frames, first.noise_covariance, coil_maps=first.coil_maps, axes=("frame",))
    weak, strong = (
        noise_map(TotalVariation(w, 30, axes=("frame",)), series, method="sketch", n_samples=20) for w in (1e-4, 1.0)
    )
    assert strong.std.shape == (4, 16, 12)
    inside = foreground(strong.image)
    # A large weight averages the frames.
    assert float((strong.image - strong.image.mean(0)).norm() / strong.image.norm()) < 0.02
    assert float(strong.std[inside].mean()) < 0.7 * float(weak.std[inside].mean())


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TotalVariation(0.0), "regularization > 0"),
        (lambda: L1Wavelet(-1e-3), "regularization > 0"),
        (lambda: L1Wavelet(float("nan")), "regularization > 0"),
        (lambda: TotalVariation(1e-3, 0), "at least 1 iteration"),
        (lambda: L1Wavelet(1e-3, wavelet="bior2.2"), "orthogonal wavelet"),
        (lambda: L1Wavelet(1e-3, wavelet="db0"), "orthogonal wavelet"),
        (lambda: L1Wavelet(1e-3, levels=0), "at least one level"),
        (lambda: L1Wavelet(1e-3, levels=4).bind(scan()), "too small for this wavelet"),
        (lambda: TotalVariation(1e-3, axes=("frame",)).bind(scan()), "axes among y, x"),
        (lambda: TotalVariation(1e-3, axes=("x", "x")), "different names of axes"),
        (lambda: TotalVariation(1e-3, axes="frame"), "a tuple of different names of axes; received 'frame'"),
    ],
)
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_the_solution_is_not_differentiated_in_the_coil_maps() -> None:
    made = simulate((40, 34), 4, mask=equispaced((40, 34), 2, calibration=16)).replace(coil_maps=None)
    with pytest.raises(InputError, match="coil maps that are fixed"):
        TotalVariation(1e-3, iterations=None).bind(made)
