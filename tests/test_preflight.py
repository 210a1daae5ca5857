"""A reconstruction is tested before its derivative is trusted; each silent fault must be found."""

import numpy as np
import pytest
import torch
from torch import nn

from mrnoise import InputError, noise_map
from mrnoise.fourier import to_image
from mrnoise.linearization import linearize
from mrnoise.sampling import caipi, equispaced
from mrnoise.simulation import simulate

SHAPE = (10, 14)
ACQ = simulate(SHAPE, 3, snr=30).undersample(equispaced(SHAPE, 2))


def combine(kspace):
    return to_image(kspace).sum(-3)


class Net(nn.Module):
    """Real and imaginary parts as channels, one hidden layer."""

    def __init__(self, inplace=False, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.Dropout(dropout),
            nn.LeakyReLU(0.2, inplace=inplace),
            nn.Conv2d(6, 2, 3, padding=1),
        )

    def forward(self, kspace):
        x = torch.view_as_real(combine(kspace)).movedim(-1, 0)
        return torch.view_as_complex(self.layers(x[None])[0].movedim(0, -1).contiguous())


def test_rectifier_on_the_image_is_not_refused():
    """Its derivative is right on either side of the kink, and no central difference across the kink agrees."""

    def rectified(kspace):
        parts = torch.view_as_real(combine(kspace))
        return torch.view_as_complex(torch.relu(parts))

    (operator,) = linearize(rectified, ACQ)
    assert operator.preflight.jvp_mode == "vmap(jvp)"


def checks(function):
    (operator,) = linearize(function, ACQ)
    return operator.preflight


def test_a_sound_network_takes_the_fast_path():
    found = checks(Net())
    assert found.jvp_mode == "vmap(jvp)" and found.vjp_mode == "vmap(vjp)"
    assert not found.complex_linear
    assert checks(combine).complex_linear
    assert not checks(lambda k: combine(k).abs()).complex_linear


class OldFunction(torch.autograd.Function):
    """Reverse mode only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.abs()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        size = x.abs().clamp_min(1e-12)
        return g * size + x * (g.conj() * x).real / size


def test_reverse_mode_only_falls_back_to_double_reverse():
    found = checks(lambda k: OldFunction.apply(combine(k)))
    assert found.jvp_mode == "double reverse"
    assert found.vjp_mode == "looped vjp"


class NoBatching(torch.autograd.Function):
    """Forward mode, but no rule for vmap."""

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def jvp(ctx, t):
        return 2 * t

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def test_no_vmap_rule_falls_back_to_a_loop():
    found = checks(lambda k: NoBatching.apply(combine(k)))
    assert found.jvp_mode == "looped jvp"
    assert found.evaluation_mode == "loop"


@pytest.mark.parametrize("mode", ["vmap(jvp)", "looped jvp", "double reverse"])
def test_every_mode_gives_the_same_map(mode):
    import dataclasses

    from mrnoise.estimators import Plan, sketch

    (operator,) = linearize(Net(), ACQ)
    other = dataclasses.replace(operator, preflight=dataclasses.replace(operator.preflight, jvp_mode=mode))
    a, b = (sketch(o, Plan(n_samples=5)) for o in (operator, other))
    torch.testing.assert_close(a.variance, b.variance, rtol=1e-4, atol=1e-9)


def detached(k):
    return combine(k.detach())


def half_detached(k):
    x = combine(k)
    return x * x.abs().detach()


def data(k):
    x = combine(k)
    return x.data.abs() * x


def through_numpy(k):
    return torch.from_numpy(np.abs(combine(k).detach().numpy()))


def no_grad(k):
    with torch.no_grad():
        return combine(k).abs()


def inplace_mask(k):
    x = combine(k)
    y = x.detach().clone()
    y[x.abs() < x.detach().abs().median()] = 0
    return y + 0 * x


@pytest.mark.parametrize("function", [detached, half_detached, data, through_numpy, inplace_mask])
def test_a_lost_derivative_is_found(function):
    assert checks(function).jvp_mode is None
    with pytest.raises(InputError, match=r"derivative of the reconstruction cannot be trusted.*monte_carlo"):
        noise_map(function, ACQ, method="sketch", n_samples=4)
    # The fallback at the end of the chain, and the map says why.
    nm = noise_map(function, ACQ, method="auto", n_samples=4)
    assert nm.method == "monte_carlo" and "finite differences" in nm.provenance["why"]


def test_a_wrong_adjoint_is_found():
    found = checks(no_grad)
    assert found.vjp_mode is None
    with pytest.raises(InputError, match="cannot be trusted"):
        noise_map(no_grad, ACQ, method="exact")


def test_a_detached_input_is_named():
    with pytest.raises(InputError, match="the input is detached"):
        noise_map(detached, ACQ, method="sketch", n_samples=4)


def test_an_inplace_activation_is_never_trusted_when_wrong():
    """Whatever torch makes of an in-place ReLU, the accepted derivative is the right one."""
    (operator,) = linearize(Net(inplace=True), ACQ)
    (reference,) = linearize(Net(inplace=False), ACQ)
    if operator.preflight.jvp_mode is not None:
        v = torch.randn(1, *operator.noise_shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(operator.apply(v), reference.apply(v), rtol=1e-3, atol=1e-6)


class Growing:
    def __init__(self):
        self.calls = 0

    def __call__(self, k):
        self.calls += 1
        return combine(k)[: 10 - self.calls]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Net(dropout=0.5), r"is random.*\.eval\(\)"),
        (lambda k: combine(k) + torch.randn(SHAPE), "is random"),
        (lambda k: combine(k) / 0, "NaN or infinite voxels.*140 of 140"),
        (Growing(), r"changes the shape.*again for the same k-space"),
        (lambda k: k, r"not an image.*2 axes.*\(3, 10, 14\)"),
        (lambda k: combine(k).abs().int(), "no noise.*torch.int32"),
        (lambda k: combine(k).numpy(), "does not return a tensor.*ndarray"),
    ],
)
def test_what_cannot_be_mapped_at_all_is_refused(function, message):
    for method in ("auto", "monte_carlo"):
        with pytest.raises(InputError, match=f"(?s){message}") as caught:
            noise_map(function, ACQ, method=method, n_samples=4)
        assert caught.value.expected and caught.value.received and caught.value.remedy


def test_a_solver_that_stops_early_is_refused():
    """Its derivative is not that of the converged solution."""
    from mrnoise.reconstruction import CgSense

    lattice = simulate(SHAPE, 4, snr=30).undersample(caipi(SHAPE, (2, 2)))
    with pytest.raises(InputError, match="iterate to convergence"):
        noise_map(CgSense(0.0, max_iterations=2), lattice, method="sketch", n_samples=4)
