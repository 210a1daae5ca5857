"""The forward model: adjoint, Gram matrix and solution against dense matrices, and all derivatives of the solution."""

import math

import pytest
import torch
from torch import Tensor

from mrnoise import InputError
from mrnoise.encoding import Cartesian, Encoding, encode
from mrnoise.encoding.alias_sets import AliasInverse
from mrnoise.encoding.unfolding import unfold
from mrnoise.fourier import to_kspace
from mrnoise.linearization.derivatives import JVP_MODES, VJP_MODES
from mrnoise.networks import MoDL, UNet, UnrolledResNet
from mrnoise.sampling import caipi, equispaced
from mrnoise.simulation import simulate, simulated_head

COILS = 3
# Odd and even lengths; sampling along one axis (lines are inverted) and along several (iterated); one system and many.
CASES = {
    "odd, even": ((7, 6), "one axis", ()),
    "even, odd, last axis": ((4, 9), "last axis", ()),
    "odd, odd": ((5, 7), "random", ()),
    "full": ((5, 6), "full", ()),
    "slices": ((6, 5), "random", (2,)),
    "slices and frames": ((5, 4), "one axis", (3, 2)),
    "volume": ((3, 4, 5), "random", ()),
    "volume, one axis": ((4, 3, 6), "one axis", ()),
    "volumes": ((2, 5, 3), "random", (2,)),
    "half Fourier": ((8, 5), "one axis", ()),
    "asymmetric echo": ((5, 8), "random", ()),
    "ellipse": ((3, 6, 7), "random", ()),
}
# What was encoded of some: first sample and the one behind the last of an axis, or an ellipse over the last two.
EXTENTS = {"half Fourier": (-2, 3, 8), "asymmetric echo": (-1, 2, 8), "ellipse": None}
WEIGHT = 0.05


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def arrays(name: str) -> tuple[Tensor, Tensor]:
    """Unit coil maps and mask, each with the leading axes."""
    shape, kind, leading = CASES[name]
    maps = normal(*leading, COILS, *shape)
    maps = maps / torch.linalg.vector_norm(maps, dim=-len(shape) - 1, keepdim=True)
    draw = torch.rand((*leading, *shape), generator=torch.Generator().manual_seed(1)) < 0.5
    draw[(..., *[0] * len(shape))] = True
    dims = len(shape)
    if kind == "one axis":
        draw = draw[..., :, *([slice(0, 1)] * (dims - 1))].expand(*leading, *shape)
    elif kind == "last axis":
        draw = draw[..., :1, :].expand(shape)
    elif kind == "full":
        draw = torch.ones_like(draw)
    region = extent(name)
    return maps, draw if region is None else draw & region


def extent(name: str) -> Tensor | None:
    """What was encoded; ``None``: everything."""
    shape = CASES[name][0]
    if name not in EXTENTS:
        return None
    if EXTENTS[name] is None:
        y, x = (torch.linspace(-1, 1, n) for n in shape[-2:])
        return (y[:, None].square() + x.square() <= 1.1).expand(shape).clone()
    axis, first, behind = EXTENTS[name]
    region = torch.zeros(shape, dtype=torch.bool)
    region.movedim(axis, 0)[first:behind] = True
    return region


def encoding(name: str, **options: float) -> Cartesian:
    maps, mask = arrays(name)
    dims = len(CASES[name][0])
    return Cartesian(maps, mask, dims, extent(name), tolerance=1e-13, **options)


def fourier_matrix(shape: tuple[int, ...]) -> Tensor:
    """The centred transform, (samples, voxels), from its definition with sums over exponentials."""
    fourier = torch.ones((1, 1), dtype=torch.complex128)
    for length in shape:
        index = torch.arange(length) - length // 2
        angle = -2 * torch.pi * (index[:, None] * index).double() / length
        fourier = torch.kron(fourier, torch.polar(torch.full_like(angle, length**-0.5), angle))
    return fourier


def within_extent(name: str) -> Tensor:
    """P, (voxels, voxels)."""
    shape, region = CASES[name][0], extent(name)
    if region is None:
        return torch.eye(math.prod(shape), dtype=torch.complex128)
    fourier = fourier_matrix(shape)
    return fourier.mH @ (region.reshape(-1, 1) * fourier)


def dense(name: str) -> Tensor:
    """A of each system, (system, samples, voxels)."""
    shape = CASES[name][0]
    maps, mask = arrays(name)
    n, fourier = math.prod(shape), fourier_matrix(CASES[name][0])
    s = maps.reshape(-1, COILS, n)
    m = mask.reshape(-1, n).expand(len(s), n)
    return (m[:, None, :, None] * fourier * s[:, :, None, :]).reshape(len(s), COILS * n, n) @ within_extent(name)


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


@pytest.fixture(params=[(), (4,), (2, 3)], ids=["single", "batch", "two batch axes"])
def batch(request) -> tuple[int, ...]:
    return request.param


def matrix_product(matrices: Tensor, values: Tensor, batch: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The dense matrix of each system applied to its part of ``values``, as an array of the other space."""
    vectors = values.reshape(*batch, len(matrices), -1)
    return torch.einsum("sij,...sj->...si", matrices, vectors).reshape(*batch, *shape)


# -- the operator --------------------------------------------------------------------------------------------


def test_forward_and_adjoint_are_the_dense_matrix_and_its_conjugate(name, batch):
    a, matrices = encoding(name), dense(name)
    x = normal(*batch, *a.image_shape, seed=2)
    y = a.forward(normal(*batch, *a.image_shape, seed=3))
    torch.testing.assert_close(a.forward(x), matrix_product(matrices, x, batch, a.sample_shape))
    torch.testing.assert_close(a.adjoint(y), matrix_product(matrices.mH, y, batch, a.image_shape))


def test_adjoint_has_the_inner_product(name, batch):
    a = encoding(name)
    x = normal(*batch, *a.image_shape, seed=2)
    y = normal(*batch, *a.sample_shape, seed=3) * a.mask.unsqueeze(-a.spatial_dims - 1)
    torch.testing.assert_close((a.forward(x).conj() * y).sum(), (x.conj() * a.adjoint(y)).sum())
    # The test can fail: with conjugated maps it is the adjoint of another operator.
    other = Cartesian(a.maps.conj(), a.mask, a.spatial_dims, a.extent)
    assert not torch.isclose((a.forward(x).conj() * y).sum(), (x.conj() * other.adjoint(y)).sum())


def test_gram_is_adjoint_after_forward(name, batch):
    a = encoding(name)
    x = normal(*batch, *a.image_shape, seed=2)
    torch.testing.assert_close(a.gram(x), a.adjoint(a.forward(x)))


def test_eigenvalues_lie_between_0_and_1(name):
    """With unit coil maps, as `unfold` and the gradient steps of networks take for granted."""
    matrices = dense(name)
    eigenvalues = torch.linalg.eigvalsh(matrices.mH @ matrices)
    assert -1e-12 < float(eigenvalues.min()) <= float(eigenvalues.max()) < 1 + 1e-12


def test_unfold_inverts_what_amplifies_noise_little(name, batch):
    """Along eigenvectors the relative error is at most 1/T₈(1.05/0.95) for eigenvalues from 0.05, at most 1 below."""
    a, matrices = encoding(name), dense(name)
    eigenvalues, vectors = torch.linalg.eigh(matrices.mH @ matrices)
    x = normal(*batch, *a.image_shape, seed=2)
    found = a.unfold(a.gram(x))
    error = matrix_product(vectors.mH, found - x, batch, a.image_shape).reshape(*batch, *eigenvalues.shape).abs()
    allowed = torch.ones_like(eigenvalues)
    allowed[eigenvalues > 0.05] = 1 / math.cosh(8 * math.acosh(1.05 / 0.95))
    part = matrix_product(vectors.mH, x, batch, eigenvalues.shape).abs()
    assert bool((error <= (allowed + 1e-9) * part + 1e-12).all())


# -- the solution --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["prepared", "number", "tensor"])
def test_solution_is_that_of_the_dense_system(name, batch, kind):
    a, matrices = encoding(name, prepared_weight=WEIGHT if kind == "prepared" else 3 * WEIGHT), dense(name)
    x = normal(*batch, *a.image_shape, seed=2)
    p = within_extent(name)
    inverse = p @ torch.linalg.inv(matrices.mH @ matrices + WEIGHT * torch.eye(matrices.shape[-1])) @ p
    weight = torch.tensor(WEIGHT, dtype=torch.float64) if kind == "tensor" else WEIGHT
    torch.testing.assert_close(a.solve(x, weight), matrix_product(inverse, x, batch, a.image_shape))


def test_prepared_lines_need_no_iteration(name, monkeypatch):
    """One axis, one system: a matrix; everything else has to iterate."""
    a = encoding(name, prepared_weight=WEIGHT)

    def fail(*_: object) -> None:
        raise AssertionError("iterated")

    monkeypatch.setattr("mrnoise.encoding.normal_equations.NormalEquations.conjugate_gradients", fail)
    shape, kind, leading = CASES[name]
    x = normal(*a.image_shape, seed=2)
    if kind != "random" and not leading:
        a.solve(x, WEIGHT)
    else:
        with pytest.raises(AssertionError, match="iterated"):
            a.solve(x, WEIGHT)
    with pytest.raises(AssertionError, match="iterated"):
        a.solve(x, 2 * WEIGHT)


@pytest.mark.parametrize("prepared", [WEIGHT, None])
def test_derivatives_of_the_solution_in_every_mode(name, prepared):
    """(AᴴA + λ)⁻¹ is linear and its own adjoint: each derivative is the solution for the tangent."""
    a = encoding(name, prepared_weight=prepared)
    x, tangents = normal(*a.image_shape, seed=2), normal(2, *a.image_shape, seed=3)
    expected = a.solve(tangents, WEIGHT)
    for mode, derivative in (JVP_MODES | VJP_MODES).items():
        if mode.startswith("own"):  # of functions that bring one
            continue
        found = derivative(lambda image: a.solve(image, WEIGHT), x, tangents)
        torch.testing.assert_close(found, expected, msg=lambda text, mode=mode: f"{mode}: {text}")


@pytest.mark.parametrize("name", ["odd, even", "slices", "volume", "asymmetric echo"], indirect=True)
def test_solution_is_differentiable_in_the_coil_maps(name):
    """And in the image and the weight, forward and backward, against finite differences."""
    maps, mask = arrays(name)
    x = normal(*encoding(name).image_shape, seed=2)
    weight = torch.tensor(0.3, dtype=torch.float64)

    def solution(x: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
        a = Cartesian(maps, mask, len(CASES[name][0]), extent(name), tolerance=1e-14)
        return a.solve(x, weight)

    variables = [t.clone().requires_grad_() for t in (x, maps, weight)]
    torch.autograd.gradcheck(solution, variables, check_forward_ad=True, fast_mode=True)


def test_mapped_over_coil_maps(name):
    """`torch.func.vmap` over encodings, each with maps of its own, gives what a loop gives."""
    maps, mask = arrays(name)
    dims = len(CASES[name][0])
    several = torch.stack([maps, normal(*maps.shape, seed=5), 2 * maps])
    x = normal(*encoding(name).image_shape, seed=2)

    def solution(maps: Tensor) -> Tensor:
        return Cartesian(maps, mask, dims, extent(name), tolerance=1e-13).solve(x, 0.3)

    torch.testing.assert_close(torch.func.vmap(solution)(several), torch.stack([solution(one) for one in several]))


class Cut(torch.autograd.Function):
    """Identity through which no gradient passes."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


def test_a_gradient_that_is_cut_behind_the_solution_is_none():
    a = encoding("odd, even")
    x = normal(*a.image_shape).requires_grad_()
    assert torch.autograd.grad(Cut.apply(a.solve(x, 0.1)).abs().sum(), x, allow_unused=True) == (None,)


@pytest.mark.parametrize("prepared", [WEIGHT, None])
def test_everything_follows_the_device_of_the_coil_maps(name, prepared):
    """A tensor made without a device would lie on that of the context, and meet the others in an error."""
    maps, mask = arrays(name)
    x = normal(*encoding(name).image_shape)
    with torch.device("meta"):
        a = Cartesian(maps, mask, len(CASES[name][0]), prepared_weight=prepared)
        found = [a.adjoint(a.forward(x)), a.gram(x), a.unfold(x), a.solve(x, WEIGHT)]
    assert {image.device for image in found} == {x.device}


def test_what_has_not_converged_is_refused():
    """Fewer samples than voxels; without λ the residual of an image of noise stays."""
    mask = torch.zeros(9, 8, dtype=torch.bool)
    mask[torch.rand(9, 8, generator=torch.Generator().manual_seed(0)) < 0.4] = True
    a = Cartesian(normal(1, 9, 8), mask, 2, tolerance=1e-10)
    with pytest.raises(InputError, match="not converge: expected .* of 1e-10 within 2000.*larger reg"):
        a.solve(normal(9, 8), 0.0)


# -- of a scan -----------------------------------------------------------------------------------------------


def test_encoding_of_a_scan_makes_its_samples():
    """In the units of the coils with their maps, whitened with whitened ones."""
    head = simulated_head((9, 8), COILS, mask=equispaced((9, 8), 2), seed=1)
    scan = head.acquire(0)
    x = head.image.to(torch.complex64)
    noiseless = to_kspace(scan.coil_maps * x) * scan.mask
    torch.testing.assert_close(encode(scan, scan.coil_maps).forward(x), noiseless)
    whitened = encode(scan, scan.whiten_maps(scan.coil_maps))
    torch.testing.assert_close(whitened.forward(x), scan.whiten(noiseless), rtol=1e-4, atol=1e-4)
    assert (whitened.image_shape, whitened.sample_shape) == ((9, 8), (COILS, 9, 8))


def test_slices_may_share_maps_and_mask_or_not():
    mask = equispaced((7, 6), 2)
    scan = simulate((7, 6), COILS, n_slices=2, seed=1)
    own = torch.stack([mask, ~mask])
    scan = scan.replace(kspace=scan.kspace * own[:, None], mask=own)
    assert scan.coil_maps is not None
    several = encode(scan, scan.coil_maps)
    assert (several.image_shape, several.sample_shape) == ((2, 7, 6), (2, COILS, 7, 6))
    x = normal(2, 7, 6).to(torch.complex64)
    each = [encode(one, one.coil_maps) for one in scan.slices()]
    torch.testing.assert_close(several.gram(x), torch.stack([a.gram(image) for a, image in zip(each, x, strict=True)]))
    shared = encode(scan, scan.coil_maps[0])
    assert shared.image_shape == (2, 7, 6)


@pytest.mark.parametrize("maps", [normal(COILS, 6, 7), normal(7, 6)], ids=["other grid", "no coils"])
def test_coil_maps_of_another_grid_are_refused(maps):
    with pytest.raises(InputError, match=r"expected shape \(\.\.\., coil, 7, 6\)"):
        Cartesian(maps, torch.ones((7, 6), dtype=torch.bool))


# -- any other encoding --------------------------------------------------------------------------------------


class Dense:
    """A as a matrix; its samples are a vector, and lie nowhere on a grid."""

    def __init__(self, matrix: Tensor, image_shape: tuple[int, ...]) -> None:
        self.matrix, self.image_shape, self.sample_shape = matrix, image_shape, (len(matrix),)

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(-len(self.image_shape)) @ self.matrix.mT

    def adjoint(self, samples: Tensor) -> Tensor:
        return (samples @ self.matrix.conj()).unflatten(-1, self.image_shape)

    def gram(self, image: Tensor) -> Tensor:
        return self.adjoint(self.forward(image))

    def unfold(self, image: Tensor) -> Tensor:
        return unfold(self.gram, image)

    def solve(self, image: Tensor, weight: float | Tensor) -> Tensor:
        system = self.matrix.mH @ self.matrix + weight * torch.eye(self.matrix.shape[1])
        solution = torch.linalg.solve(system, image.flatten(-len(self.image_shape)).unsqueeze(-1)).squeeze(-1)
        return solution.unflatten(-1, self.image_shape)


@pytest.mark.parametrize("network", [UNet(4, 1), MoDL(2, 4), UnrolledResNet(2, 4)], ids=lambda n: type(n).__name__)
def test_networks_take_any_encoding(network):
    """Only what `Encoding` has: samples that lie on no grid give the same image."""
    name = "odd, even"
    network = network.double().eval()
    for module in network.modules():  # fresh ones end in zeros
        if isinstance(module, torch.nn.Conv2d):
            module.reset_parameters()
    grid = encoding(name)
    other: Encoding = Dense(dense(name)[0], grid.image_shape)
    y = grid.forward(normal(*grid.image_shape, seed=2))
    with torch.no_grad():
        torch.testing.assert_close(network(y, grid), network(y.flatten(), other))


@pytest.mark.parametrize("maps_of", ["head", "partly unseen"])
@pytest.mark.parametrize(
    "mask",
    [
        caipi((12, 10, 1), (2, 2))[..., 0],
        caipi((9, 12, 1), (3, 3))[..., 0],
        equispaced((12, 10), 4),
        equispaced((9, 8), 3, offset=1),
    ],
)
def test_regular_sampling_is_solved_by_alias_sets(mask, maps_of):
    """(H + λ)⁻¹ of dense algebra, without iterations; with calibration lines among the samples there are no sets."""
    maps = simulated_head(tuple(mask.shape), 4, seed=1).coil_maps.to(torch.complex128)
    if maps_of != "head":
        maps = maps * (torch.arange(mask.shape[1]) > 2)
    a = Cartesian(maps, mask, prepared_weight=1e-3)
    assert isinstance(a._prepared.inverse, AliasInverse)
    voxels = torch.eye(mask.numel(), dtype=torch.complex128).reshape(-1, *mask.shape)
    gram = a.gram(voxels).reshape(len(voxels), -1).T
    dense = torch.linalg.inv(gram + 1e-3 * torch.eye(len(gram), dtype=torch.float64))
    seen = (maps != 0).any(0).flatten()
    found = a.solve(voxels, 1e-3).reshape(len(voxels), -1).T
    torch.testing.assert_close(found[seen][:, seen], dense[seen][:, seen], rtol=1e-9, atol=1e-9)
    other = Cartesian(maps, mask | (torch.arange(mask.shape[1]) == 4), prepared_weight=1e-3)
    assert not isinstance(other._prepared.inverse, AliasInverse)
