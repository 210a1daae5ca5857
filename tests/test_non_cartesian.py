"""The forward model of trajectories against dense matrices: A, Aᴴ, its Gram matrix as a convolution, the solution."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from mrnoise import InputError
from mrnoise.encoding import NonCartesian, convolution, encode
from mrnoise.encoding.convolution import Convolution, PointSpread
from mrnoise.encoding.non_cartesian import point_spread
from mrnoise.encoding.normal_equations import NormalEquations
from mrnoise.encoding.preconditioning import preconditioner
from mrnoise.sampling import Trajectory
from mrnoise.simulation import simulated_head
from test_nufft import dense as transform

COILS, WEIGHT = 3, 0.05
# Odd, even and unequal lengths. "stack": whole numbers along the first axis, not all or all of them.
CASES = {
    "odd, even": ((9, 12), "free"),
    "even, odd": ((8, 15), "free"),
    "lines": ((5, 6), "stack"),
    "volume": ((5, 6, 7), "free"),
    "even volume": ((8, 6, 4), "free"),
    "stack": ((4, 6, 7), "stack"),
    "full stack": ((4, 6, 7), "full"),
    "whole plane": ((6, 5, 4), "plane"),
}
TERMS = {"lines": 2, "volume": 8, "even volume": 8, "stack": 4, "full stack": 4, "whole plane": 2}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def trajectory(name: str) -> Trajectory:
    shape, kind = CASES[name]
    k = torch.rand(len(shape), 3, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    k = k * torch.tensor(shape)[:, None, None]
    if kind == "stack":
        k[0] = k[0].round().clamp(-(shape[0] // 2), (shape[0] - 1) // 2)
    if kind == "full":
        planes = torch.arange(shape[0]).double() - shape[0] // 2
        k = torch.cat([planes[:, None, None].expand(-1, 3, 11)[None], k[1:, None].expand(-1, shape[0], -1, -1)])
    if kind == "plane":
        k[:2] = k[:2].round().clamp(-2, 2)
    return Trajectory(k, shape)


def encoding(name: str, **options: float) -> NonCartesian:
    maps = normal(COILS, *CASES[name][0], seed=4)
    return NonCartesian(maps, trajectory(name), tolerance=1e-13, transform_tolerance=1e-13, **options)


def dense(a: NonCartesian) -> Tensor:
    e = transform(a.trajectory.coordinates, a.trajectory.image_shape)
    return torch.cat([e * s.flatten() for s in a.maps])


def close(value: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(value, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


def test_products_are_those_of_the_dense_matrix(name):
    a = encoding(name)
    matrix = dense(a)
    x, y = normal(2, *a.image_shape), normal(2, *a.sample_shape, seed=2)
    close(a.forward(x).flatten(1), x.flatten(1) @ matrix.mT)
    close(a.adjoint(y).flatten(1), y.flatten(1) @ matrix.conj())
    close(a.gram(x).flatten(1), x.flatten(1) @ (matrix.mH @ matrix).mT)


def test_convolution_is_the_transform_there_and_back_in_as_few_terms_as_it_can_be(name):
    a = encoding(name)
    n = math.prod(a.image_shape)
    t = point_spread(a.trajectory).convolution(a.maps)
    unit = torch.eye(n, dtype=torch.complex128).reshape(n, *a.image_shape)
    columns = t(unit)
    e = transform(a.trajectory.coordinates, a.image_shape)
    close(columns.flatten(1).mT, e.mH @ e)
    assert torch.equal(unit.flatten(1), torch.eye(n)), "the images were changed"
    assert len(t.spectra) == TERMS.get(name, 4)
    assert len(t.axes) == (2 if CASES[name][1] == "full" else len(a.image_shape))


def test_some_coils_at_a_time_are_all_of_them(name, monkeypatch):
    """With their derivatives, one coil and two of three at a time."""
    a = encoding(name)
    x, y = normal(2, *a.image_shape), normal(2, *a.image_shape, seed=3)

    def results() -> list[Tensor]:
        def gram(maps: Tensor, image: Tensor) -> Tensor:
            return a._equations.gram(image, maps)

        value, pull = vjp(gram, a.maps, x)
        return [value, *pull(y), jvp(gram, (a.maps, x), (a.maps.conj(), y))[1]]

    together = results()
    for at_once in (1, 2 * x.numel()):
        monkeypatch.setattr(convolution, "IN_CACHE", at_once)
        for some, all_of_them in zip(results(), together, strict=True):
            close(some, all_of_them, 1e-13)


def test_solution_with_and_without_preconditioner(name):
    a = encoding(name)
    h = dense(a).mH @ dense(a)
    x = normal(2, *a.image_shape)
    expected = torch.linalg.solve(h + WEIGHT * torch.eye(len(h), dtype=torch.float64), x.flatten(1).mT).mT
    close(a.solve(x, WEIGHT).flatten(1), expected)
    equations = replace(a._equations, preconditioner=preconditioner(point_spread(a.trajectory), a.maps, WEIGHT))
    close(equations.solve(x, a.maps, torch.tensor(WEIGHT, dtype=torch.float64)).flatten(1), expected)


def test_circulant_is_the_nearest(name):
    """In Frobenius norm its spectrum is the diagonal of F H Fᴴ, clamped: no negative eigenvalue is near H ≥ 0."""
    a = encoding(name)
    shape, h = a.image_shape, dense(a).mH @ dense(a)
    fourier = torch.ones((1, 1), dtype=torch.complex128)
    for n in shape:
        index = torch.arange(n, dtype=torch.float64)
        fourier = torch.kron(fourier, torch.exp(-2j * math.pi * index[:, None] * index / n) / n**0.5)
    nearest = (fourier @ h @ fourier.mH).diagonal().real.reshape(shape)
    close(point_spread(a.trajectory).nearest_circulant(a.maps).expand(shape), nearest)


@pytest.mark.parametrize("case", ["odd, even", "stack", "full stack", "volume", "whole plane"])
def test_few_voxels_are_inverted(case, monkeypatch):
    """For the λ that was prepared, and for no other; the solution is the dense one."""
    a = encoding(case, prepared_weight=WEIGHT)
    (matrices,) = a._equations.inverse.args
    assert matrices.shape == ((4, 42, 42) if case == "full stack" else (1, *[math.prod(a.image_shape)] * 2))
    h, x = dense(a).mH @ dense(a), normal(2, *a.image_shape)
    for weight in (WEIGHT, 3 * WEIGHT):
        expected = torch.linalg.solve(h + weight * torch.eye(len(h), dtype=torch.float64), x.flatten(1).mT).mT
        close(a.solve(x, weight).flatten(1), expected)
    monkeypatch.setattr(NormalEquations, "conjugate_gradients", None)  # not called
    close(vmap(lambda b: vjp(lambda y: a.solve(y, WEIGHT), b)[1](b)[0])(x), a.solve(x, WEIGHT))
    with pytest.raises(TypeError):
        a.solve(x, 3 * WEIGHT)


def test_a_trial_takes_the_preconditioner_where_it_pays(monkeypatch):
    """Radial sampling, dense in the centre: it does, by far. Sampling that is even: it does not."""
    monkeypatch.setattr("mrnoise.encoding.planes.MOST_VOXELS", 0)
    head = simulated_head((24, 20), COILS)
    k, angle = torch.linspace(-10, 10, 48), torch.arange(18)[:, None] * math.pi / 18
    radial = NonCartesian(head.coil_maps, Trajectory(torch.stack([k * angle.sin(), k * angle.cos()]), (24, 20)))
    y, x = torch.meshgrid(torch.arange(24) - 11.5, torch.arange(20) - 9.5, indexing="ij")
    even = Trajectory(torch.stack([y, x]), (24, 20))
    prepared = replace(radial, prepared_weight=1e-2)
    assert prepared._equations.preconditioner is not None
    one = torch.ones(1, 24, 20, dtype=torch.complex64)
    assert NonCartesian(one, even, prepared_weight=1e-2)._equations.preconditioner is None
    b = radial.gram(normal(24, 20).to(torch.complex64))
    close(prepared.solve(b, 1e-2), radial.solve(b, 1e-2), 1e-3)
    residual = []
    for a in (radial, prepared):
        x = a._equations.conjugate_gradients(b, a.maps, torch.tensor(1e-2), most=32)
        residual.append(torch.linalg.vector_norm(b - a.gram(x) - 1e-2 * x))
    assert residual[1] < residual[0] / 5


@pytest.mark.parametrize("case", ["odd, even", "stack"])
def test_derivatives_of_the_solution(case):
    """In the image, the maps and λ, forwards, backwards and twice, against a dense solution."""
    a = encoding(case)
    e = transform(a.trajectory.coordinates, a.image_shape)
    b, maps, weight = normal(*a.image_shape), a.maps, torch.tensor(WEIGHT, dtype=torch.float64)

    def solved(b: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
        return replace(a, maps=maps).solve(b, weight)

    def directly(b: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
        h = ((e.mH @ e)[None] * maps.flatten(1).conj()[:, :, None] * maps.flatten(1)[:, None]).sum(0)
        h = h + weight * torch.eye(len(h), dtype=torch.complex128)
        return torch.linalg.solve(h, b.flatten()).reshape(b.shape)

    inputs = (b, maps, weight)
    directions = (normal(2, *b.shape, seed=7), normal(2, *maps.shape, seed=8), torch.tensor([0.3, -1.0]).double())
    along = [vmap(lambda *d, f=f: jvp(f, inputs, d)[1])(*directions) for f in (solved, directly)]
    close(*along)
    w = normal(*b.shape, seed=9)
    for ours, expected in zip(*(vjp(f, *inputs)[1](w) for f in (solved, directly)), strict=True):
        close(ours, expected)

    def curvature(f) -> Tensor:
        m = maps.clone().requires_grad_()
        (first,) = torch.autograd.grad(f(b, m, weight).abs().square().sum(), m, create_graph=True)
        return torch.autograd.grad(first.abs().square().sum(), m)[0]

    close(curvature(solved), curvature(directly), 1e-8)


def test_single_precision_is_exact_to_rounding():
    a = encoding("volume")
    single = NonCartesian(a.maps.to(torch.complex64), a.trajectory)
    x = normal(*a.image_shape)
    close(single.gram(x.to(torch.complex64)).to(torch.complex128), a.gram(x), 1e-6)


def test_leading_axes_of_maps_are_systems_of_their_own():
    a = encoding("odd, even")
    maps = torch.stack([a.maps, a.maps.conj().roll(1, 0)])
    both = NonCartesian(maps, a.trajectory, tolerance=1e-13)
    x = normal(4, *both.image_shape)
    single = [NonCartesian(m, a.trajectory, tolerance=1e-13) for m in maps]
    assert both.sample_shape == (2, COILS, 3, 11)
    close(both.solve(x, WEIGHT), torch.stack([s.solve(x[:, i], WEIGHT) for i, s in enumerate(single)], 1))


def test_whole_coordinates_are_cartesian_sampling():
    from mrnoise.sampling import equispaced
    from mrnoise.simulation import simulate

    scan = simulate((12, 10), COILS, mask=equispaced((12, 10), 2), snr=20.0)
    rows = scan.mask[:, 0].nonzero().squeeze(1)
    k = torch.stack(torch.meshgrid(rows.double() - 6, torch.arange(10).double() - 5, indexing="ij"))
    samples = scan.replace(kspace=scan.kspace[:, rows], sampling=Trajectory(k, (12, 10)), averages=None)
    b = scan.coil_maps[0]
    on_grid, anywhere = encode(scan, scan.coil_maps), encode(samples, scan.coil_maps)
    close(anywhere.adjoint(samples.kspace), on_grid.adjoint(scan.kspace), 1e-5)
    close(anywhere.solve(b, 0.1), on_grid.solve(b, 0.1), 1e-5)


def test_maps_of_another_matrix_are_refused():
    with pytest.raises(InputError, match="coil maps are not of the image of the trajectory"):
        NonCartesian(normal(COILS, 9, 11), trajectory("odd, even"))


def test_point_spread_of_a_full_grid_is_a_point():
    k = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in (6, 5)), indexing="ij"))
    spread = PointSpread.of(k, (6, 5))
    assert spread.axes == ()
    close(spread.values, torch.ones(1, 1, dtype=torch.complex128))


@pytest.mark.parametrize("case", ["full stack", "volume"])
def test_planes_apart_are_solved_alone(case, monkeypatch):
    """One voxel of a stack takes transforms of its plane, and the solution is that of the volume."""
    a = encoding(case)
    h = dense(a).mH @ dense(a) + WEIGHT * torch.eye(math.prod(a.image_shape), dtype=torch.float64)
    units = torch.zeros(2, *a.image_shape, dtype=torch.complex128)
    units[0, 1, 2, 3] = units[1, 3, 0, 1] = 1
    sizes = set()
    combined = Convolution.combined

    def watched(self, maps, image, coil_axis):
        sizes.add(tuple(image.shape[-3:]))
        return combined(self, maps, image, coil_axis)

    monkeypatch.setattr(Convolution, "combined", watched)
    close(a.solve(units, WEIGHT).flatten(1), torch.linalg.solve(h, units.flatten(1).mT).mT)
    assert sizes == {(1, 6, 7) if case == "full stack" else (5, 6, 7)}
