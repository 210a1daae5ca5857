"""A reconstruction is tested before its derivative is trusted; each silent fault must be found."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mrnoise import InputError, noise_map
from mrnoise.fourier import to_image
from mrnoise.linearization import Images, linearize
from mrnoise.linearization.derivatives import vjp_loop, vjp_vmap
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import caipi, equispaced, sampling_mask
from mrnoise.sampling.named import PATTERNS
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
    assert (found.jvp_mode, found.vjp_mode) == ("double reverse", "vmap(vjp)")


class ByItsValues(OldFunction):
    """Its derivative looks at the values that it is given."""

    @staticmethod
    def backward(ctx, g):
        return OldFunction.backward(ctx, g) if bool(g.isfinite().all()) else g


def test_a_derivative_that_cannot_be_batched_is_taken_one_at_a_time():
    found = checks(lambda k: ByItsValues.apply(combine(k)))
    assert (found.jvp_mode, found.vjp_mode) == ("double reverse", "looped vjp")


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
    other = dataclasses.replace(
        operator, preflight=SimpleNamespace(jvp_mode=mode, complex_linear=False, point=ACQ.kspace)
    )
    a, b = (sketch(o, Plan(n_samples=5)) for o in (operator, other))
    torch.testing.assert_close(a.variance, b.variance, rtol=1e-4, atol=1e-9)


def detached(k):
    return combine(k.detach()).abs()


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
    assert nm.method == "monte_carlo" and "finite differences" in nm.provenance.why


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


def test_a_solver_that_stops_early_but_is_differentiated_as_converged_is_refused():
    from mrnoise.encoding.normal_equations import NormalEquations
    from mrnoise.reconstruction import CgSense

    lattice = simulate(SHAPE, 4, snr=30).undersample(caipi(SHAPE, (2, 2)))
    with pytest.MonkeyPatch.context() as patched:
        converged = NormalEquations.conjugate_gradients
        patched.setattr(NormalEquations, "conjugate_gradients", lambda *a, most=2: converged(*a, most=2))
        with pytest.raises(InputError, match="iterate to convergence"):
            noise_map(CgSense(0.0), lattice, method="sketch", n_samples=4)


# -- reconstructions of others ---------------------------------------------------------------------------------


def in_place(k):
    k *= 2
    return combine(k)


def counted(k, calls=[0]):  # noqa: B006
    calls[0] += 1
    return combine(k) * (1 + 2e-4 * calls[0])


class BrokenByVmap:
    """Keeps what it saw last; a tensor of a finished vmap cannot be used again."""

    last = None

    def __call__(self, k):
        x = combine(k)
        if self.last is not None:
            x = x + 0 * self.last
        self.last = x
        return x


def raising(k):
    raise ZeroDivisionError("my own last words")


def leaving(k):
    raise SystemExit("my own last words")


def by_signal(k):
    return combine(k)[: 6 + int(3 * combine(k).abs().sum() % 3)]


def test_a_function_that_writes_into_its_input_gets_a_copy():
    """Each call doubled the data of the scan: σ came out 1.45 times too large."""
    kspace = ACQ.kspace.clone()
    for method in ("sketch", "monte_carlo"):
        found = noise_map(in_place, ACQ, method=method, n_samples=40)
        torch.testing.assert_close(found.std, 2 * noise_map(combine, ACQ, method=method, n_samples=40).std)
    assert torch.equal(ACQ.kspace, kspace)


def test_a_function_may_write_every_image_into_the_same_memory():
    """As programs with buffers of their own do: every replica was the last one, σ was 0."""
    buffer = torch.empty_like(combine(ACQ.kspace))

    def buffered(kspace):
        return buffer.copy_(combine(kspace.detach()))

    for method in ("sketch", "monte_carlo"):
        found = noise_map(buffered, ACQ, method=method, n_samples=40)
        torch.testing.assert_close(found.std, noise_map(combine, ACQ, method=method, n_samples=40).std)
        torch.testing.assert_close(found.image, combine(ACQ.kspace))


def test_a_lazy_conjugate_is_resolved():
    found = noise_map(lambda k: combine(k).conj(), ACQ, n_samples=40, method="sketch")
    torch.testing.assert_close(found.std, noise_map(combine, ACQ, n_samples=40, method="sketch").std)


@pytest.mark.parametrize("method", ["sketch", "monte_carlo", "auto"])
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raising, "fails on this scan.*raising.*ZeroDivisionError: my own last words"),
        (leaving, "fails on this scan.*leaving.*SystemExit: my own last words"),
        (lambda k: combine(k).to_sparse(), "cannot be used.*sparse"),
        (lambda k: combine(k).to("meta"), "cannot be used.*meta"),
        (by_signal, "changes the shape|vmap|fails on this scan"),
    ],
)
def test_what_used_to_be_a_traceback_is_one_error(function, message, method):
    with pytest.raises(InputError, match=f"(?s){message}"):
        noise_map(function, ACQ, method=method, n_samples=70)


def test_what_fails_in_torchscript_is_told_by_its_last_words():
    network = torch.jit.script(nn.Conv2d(2, 2, 3))
    with pytest.raises(InputError, match="fails on this scan.*received RuntimeError: (?!The following operation)"):
        noise_map(network, ACQ)


def test_state_that_drifts_is_found_before_it_matters():
    """2e-4 a call: nothing beside the noise from one call to the next, a trend over all replicas."""
    with pytest.raises(InputError, match="keeps state between calls"):
        noise_map(counted, ACQ, method="monte_carlo", n_samples=100, batch_size=4)


def unsteady(size):
    """Two answers, as sums in any order give them; ``size`` of the noise apart."""
    answers = iter([0, 1] * 1000)

    def image(k):
        x = torch.from_numpy(combine(k).numpy())
        return x + next(answers) * size * combine(NOISE).norm() * x.abs() / x.norm()

    return image


NOISE = ACQ.colour(torch.randn(ACQ.kspace.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)))


def test_what_repeats_to_a_small_part_of_its_noise_is_mapped():
    steady = noise_map(combine, ACQ, method="monte_carlo", n_samples=50)
    nm = noise_map(unsteady(0.02), ACQ, method="monte_carlo", n_samples=50)
    assert float((nm.std / steady.std - 1).square().mean().sqrt()) < 0.02
    with pytest.raises(InputError, match="is random"):
        noise_map(unsteady(0.2), ACQ, method="monte_carlo", n_samples=50)


def test_state_that_vmap_breaks_is_no_traceback():
    with pytest.raises(InputError, match="fails on this scan.*BrokenByVmap|cannot be trusted"):
        noise_map(BrokenByVmap(), ACQ, method="sketch", n_samples=10)


class BlackBox:
    """A linear map in numpy, with derivatives of its own; ``wrong`` ones are refused."""

    def __init__(self, wrong=False):
        self.wrong = wrong
        rng = np.random.default_rng(0)
        self.weights = rng.standard_normal((3, *SHAPE)) + 1j * rng.standard_normal((3, *SHAPE))

    def __call__(self, kspace):
        values = (self.weights * np.fft.ifft2(kspace.numpy())).sum(0)
        return torch.as_tensor(values, dtype=kspace.dtype)

    def jvp(self, point, tangents):
        return torch.stack([self(t) for t in tangents]) * (2 if self.wrong else 1)

    def vjp(self, point, cotangents):
        n = SHAPE[0] * SHAPE[1]
        values = np.fft.fft2(self.weights.conj() * cotangents.numpy()[:, None]) / n
        return torch.as_tensor(values, dtype=point.dtype)


def test_a_black_box_may_bring_its_own_derivatives():
    found = checks(BlackBox())
    assert (found.jvp_mode, found.vjp_mode, found.complex_linear) == ("own jvp", "own vjp", True)
    exact = noise_map(BlackBox(), ACQ, method="exact").std
    sketched = noise_map(BlackBox(), ACQ, method="sketch", n_samples=400).std
    assert float((sketched / exact - 1).square().mean().sqrt()) < 1.3 / 1600**0.5
    # Without a derivative that is right, J t = g(t) of a linear map is.
    found = checks(BlackBox(wrong=True))
    assert (found.jvp_mode, found.vjp_mode, found.complex_linear) == ("J t = g(t)", "own vjp", True)
    assert [check.passed for check in found.checks if check.name == "own jvp"] == [False]


def test_own_derivatives_serve_what_is_read_from_the_image():
    """A readout of the image had no derivative where the reconstruction brought its own."""
    (operator,) = linearize(BlackBox(), ACQ)
    read = operator.followed_by(lambda image: image.real.sum(-1))
    v = torch.randn(2, *operator.noise_shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(read.apply(v), operator.apply(v).real.sum(-1))


LAST = {
    "identity": lambda k: k,
    "part": lambda k: k[..., :3, :],
    "lazy conjugate": lambda k: k.conj(),
    "imaginary part": lambda k: k.imag,
    "magnitude": lambda k: k.abs(),
}


@pytest.mark.parametrize("name", LAST)
def test_batched_adjoints_are_those_one_at_a_time(name):
    """Whatever the last operation of the function is: a view, a lazy one, none at all."""
    function, generator = LAST[name], torch.Generator().manual_seed(2)
    value = function(ACQ.kspace)
    w = torch.randn(3, *value.shape, dtype=value.dtype, generator=generator)
    batched, single = (mode(function, ACQ.kspace, w) for mode in (vjp_vmap, vjp_loop))
    torch.testing.assert_close(batched, single)


# -- J t = g(t) ------------------------------------------------------------------------------------------------


def linear_but_detached(k):
    return combine(k.detach())


def real_part(k):
    return torch.from_numpy(combine(k).detach().numpy().real)


@pytest.mark.parametrize(("function", "complex_linear"), [(linear_but_detached, True), (real_part, False)])
def test_what_is_linear_needs_no_derivative(function, complex_linear):
    found = checks(function)
    assert (found.jvp_mode, found.complex_linear) == ("J t = g(t)", complex_linear)
    truth = combine if complex_linear else lambda k: combine(k).real
    for method in ("sketch", "auto"):
        nm = noise_map(function, ACQ, method=method, n_samples=40)
        assert nm.linearity.verdict == "linear"
        torch.testing.assert_close(nm.std, noise_map(truth, ACQ, method="sketch", n_samples=40).std)


def scaled_by_its_data(k):
    return torch.from_numpy((combine(k) / k.abs().max()).numpy())


def quiet_voxels_removed(k):
    x = combine(k).numpy()
    return torch.from_numpy(np.where(np.abs(x) > 0.05 * np.abs(x).max(), x, 0))


def homogeneous_but_not_additive(k):
    x = combine(k).numpy()
    return torch.from_numpy(x * np.abs(x) / (np.abs(x) + 0.01 * np.abs(x).max()))


def affine(k):
    return torch.from_numpy(combine(k).numpy() + 0.5)


@pytest.mark.parametrize("function", [scaled_by_its_data, homogeneous_but_not_additive, affine, through_numpy])
def test_what_is_not_linear_is_left_to_replicas(function):
    assert checks(function).jvp_mode is None
    nm = noise_map(function, ACQ, n_samples=8)
    assert nm.method == "monte_carlo" and "g(y + t) - g(y)" in nm.provenance.preflight["checks"][-1]["detail"]


def test_what_is_not_linear_at_the_noise_level_alone_is_found_there():
    """As large as the data, noise is seldom below a threshold of a twentieth of the image."""
    assert checks(quiet_voxels_removed).jvp_mode == "J t = g(t)"
    assert noise_map(quiet_voxels_removed, ACQ, n_samples=8).method == "monte_carlo"
    assert float(noise_map(quiet_voxels_removed, ACQ, n_samples=8, method="sketch").linearity.departure.max()) > 0.9


@pytest.mark.parametrize("name", PATTERNS)
def test_cg_sense_converges_on_every_pattern_in_single_precision(name):
    """λ = 10⁻³, along one axis and over two, at R = 2 and 8: derivative and adjoint are trusted; patterns that a shape
    does not have are refused."""
    passed = 0
    for shape in ((48, 40), (6, 24, 20)):
        for acceleration in (2, 8):
            try:
                mask = sampling_mask(name, acceleration, shape)
            except InputError:
                continue
            scan = simulate(shape, 8, mask=mask, snr=30.0, seed=1)
            found = Images.of(CgSense(1e-3), scan, planewise=False).operator(0).preflight
            assert (found.jvp_mode, found.vjp_mode) == ("vmap(J t = g(t))", "vmap(vjp)"), (shape, acceleration)
            assert all(check.passed for check in found.checks), (shape, acceleration)
            passed += 1
    assert passed >= 2


class AllegedlyLinear:
    """Not linear, whatever it says."""

    complex_linear = True

    def __call__(self, k):
        x = combine(k)
        return x * x.abs()


def test_who_says_to_be_linear_and_is_not_is_found():
    found = checks(AllegedlyLinear())
    assert found.jvp_mode is None and not found.complex_linear
    assert [check.name for check in found.checks[1:]] == ["vmap(J t = g(t))", "J t = g(t)"]


def test_the_first_map_does_not_load_the_compiler_of_torch():
    """Forward mode of a number does, and `torch.func.vjp`; given cotangents load its symbolic shapes: seconds."""
    script = """
import sys
import mrnoise
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate
nm = mrnoise.noise_map(CgSense(), simulate((24, 20), 4, mask=equispaced((24, 20), 2, calibration=6)))
found = nm.provenance.preflight
print(nm.method, found["mode"], found["adjoint"], [m for m in ("torch._dynamo", "sympy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "lattice vmap(J t = g(t)) vmap(vjp) []"
