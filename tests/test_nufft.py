"""The transform to samples anywhere, against its definition: sums of exponentials in double precision."""

import math

import pytest
import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from mrnoise import InputError
from mrnoise.encoding.nufft import Nufft

# Odd, even and unequal lengths.
SHAPES = [(9, 12), (8, 15), (5, 6, 7), (8, 6, 4)]
SAMPLES = (3, 5)
FINE = 1e-13


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def coordinates(shape: tuple[int, ...]) -> Tensor:
    """Anywhere in ±n/2, the corner -n/2 among them."""
    draw = torch.rand(len(shape), *SAMPLES, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    draw[:, 0, 0] = -0.5
    return draw * torch.tensor(shape)[:, None, None]


def dense(k: Tensor, shape: tuple[int, ...]) -> Tensor:
    """E, (samples, voxels)."""
    r = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - n // 2 for n in shape), indexing="ij")
    cycles = sum(k[d].reshape(-1, 1) * r[d].reshape(1, -1) / shape[d] for d in range(len(shape)))
    return torch.exp(-2j * math.pi * cycles) / math.prod(shape) ** 0.5


@pytest.fixture(params=SHAPES, ids=str)
def shape(request) -> tuple[int, ...]:
    return request.param


def close(value: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(value, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_both_directions_are_the_dense_matrix(shape, batch):
    k = coordinates(shape)
    e, matrix = Nufft(k, shape, FINE), dense(k, shape)
    x, y = normal(*batch, *shape), normal(*batch, *SAMPLES)
    close(e.forward(x).flatten(len(batch)), x.flatten(len(batch)) @ matrix.mT)
    close(e.adjoint(y).flatten(len(batch)), y.flatten(len(batch)) @ matrix.conj())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.complex64, 1e-3), (torch.complex64, 1e-6), (torch.complex128, 1e-9)]
)
def test_tolerance_is_kept_and_the_adjoint_exact_to_rounding(shape, dtype, tolerance):
    k = coordinates(shape)
    e, matrix = Nufft(k, shape, tolerance), dense(k, shape)
    x, y = normal(*shape).to(dtype), normal(*SAMPLES).to(dtype)
    forward = e.forward(x).flatten().to(torch.complex128)
    error = (forward - matrix @ x.flatten().to(torch.complex128)).norm() / forward.norm()
    rounding = 1e-5 if dtype == torch.complex64 else 1e-13
    assert error < 3 * tolerance + rounding
    left = torch.vdot(e.forward(x).flatten(), y.flatten())
    right = torch.vdot(x.flatten(), e.adjoint(y).flatten())
    assert (left - right).abs() < rounding * x.norm() * y.norm()


def test_whole_coordinates_are_the_centred_transform():
    from mrnoise.fourier import to_kspace

    k = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in (9, 6)), indexing="ij"))
    x = normal(9, 6)
    close(Nufft(k, (9, 6), FINE).forward(x), to_kspace(x))


def test_derivatives_in_the_argument_are_the_transform(shape):
    """Linear: jvp and vjp are exact, under vmap too, along any mapped axis."""
    e, matrix = Nufft(coordinates(shape), shape, FINE), dense(coordinates(shape), shape)
    x, tangents, cotangents = normal(*shape), normal(4, *shape, seed=2), normal(4, *SAMPLES, seed=3)
    along = vmap(lambda t: jvp(e.forward, (x,), (t,))[1])(tangents)
    close(along.flatten(1), tangents.flatten(1) @ matrix.mT)
    back = vmap(lambda t: vjp(e.forward, x)[1](t)[0])(cotangents)
    close(back.flatten(1), cotangents.flatten(1) @ matrix.conj())
    back = vmap(lambda t: vjp(e.adjoint, cotangents[0])[1](t)[0])(tangents)
    close(back.flatten(1), tangents.flatten(1) @ matrix.mT)
    close(vmap(e.forward, in_dims=1)(tangents.movedim(0, 1)), e.forward(tangents))


@pytest.mark.parametrize("direction", ["forward", "adjoint"])
def test_derivatives_in_the_trajectory_against_finite_differences(shape, direction):
    k, dk = coordinates(shape) * 0.99, torch.randn(2, len(shape), *SAMPLES, dtype=torch.float64)
    value = normal(*(shape if direction == "forward" else SAMPLES))

    def of(k: Tensor) -> Tensor:
        return getattr(Nufft(k, shape, FINE), direction)(value)

    step = 1e-5
    differences = torch.stack([(of(k + step * d) - of(k - step * d)) / (2 * step) for d in dk])
    along = vmap(lambda d: jvp(of, (k,), (d,))[1])(dk)
    close(along, differences, 1e-7)
    # Backwards it is the adjoint of the same derivative, ⟨w, J d⟩ = ⟨Jᵀ w, d⟩.
    w = normal(*along.shape[1:], seed=5)
    (gradient,) = vjp(of, k)[1](w)
    inner = (w.conj() * along).real.flatten(1).sum(1)
    torch.testing.assert_close((gradient * dk).flatten(1).sum(1), inner, rtol=1e-9, atol=1e-9)
    close(vmap(of)(k + 0.001 * dk), torch.stack([of(k + 0.001 * d) for d in dk]))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("direction", ["forward", "adjoint"])
def test_double_backward(shape, direction):
    k = (coordinates(shape)[..., :2, :2] * 0.9).requires_grad_()
    value = normal(*(shape if direction == "forward" else (2, 2))).requires_grad_()

    def of(value: Tensor, k: Tensor) -> Tensor:
        return getattr(Nufft(k, shape, FINE), direction)(value)

    assert torch.autograd.gradcheck(of, (value, k), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(of, (value, k))


@pytest.mark.parametrize(
    ("tolerance", "dtype"), [(1e-8, torch.complex64), (1e-16, torch.complex128), (0.0, None), (2.0, None)]
)
def test_a_tolerance_that_cannot_be_kept_is_refused(tolerance, dtype):
    with pytest.raises(InputError, match="tolerance"):
        Nufft(coordinates((9, 12)), (9, 12), tolerance).forward(normal(9, 12).to(dtype or torch.complex64))
