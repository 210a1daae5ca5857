"""Networks: their derivative, their symmetries, and their weights on disk."""

import pytest
import torch
from torch import nn

from mrnoise import InputError, noise_map
from mrnoise.encoding import Cartesian
from mrnoise.encoding.convolution import Convolution
from mrnoise.encoding.normal_equations import NormalEquations
from mrnoise.foreground import foreground
from mrnoise.linearization import linearize
from mrnoise.networks import (
    DeepReconstruction,
    MoDL,
    UNet,
    UnrolledResNet,
    VarNet,
    build,
    calibration_window,
    load_weights,
    save_weights,
)
from mrnoise.reconstruction import ZeroFilled
from mrnoise.result.ratio import compare
from mrnoise.sampling import equispaced, poisson_disc
from mrnoise.simulation import simulate

SHAPE, COILS = (28, 22), 5
SMALL = {
    "unet": lambda: UNet(4, 2),
    "varnet": lambda: VarNet(2, 4, 2, 3, 1),
    "modl": lambda: MoDL(2, 6),
    "unrolled-resnet": lambda: UnrolledResNet(3, 6),
}


@pytest.fixture(autouse=True)
def converged(monkeypatch):
    """Solvers as exact as float64 allows: what is left is the derivative."""
    monkeypatch.setattr("mrnoise.networks.deep_reconstruction.SOLVER_TOLERANCE", 1e-13)


def scan(snr=40.0, mask=None):
    mask = equispaced(SHAPE, 2, calibration=8) if mask is None else mask
    acq = simulate(SHAPE, COILS, snr=snr, mask=mask, seed=3)
    return acq.replace(kspace=acq.kspace.to(torch.complex128), coil_maps=acq.coil_maps.to(torch.complex128))


def reconstruction(name, **options):
    """Random weights, in float64: their rectifiers leave no room for round-off."""
    torch.manual_seed(1)
    network = SMALL[name]().double()
    for module in network.modules():  # fresh ones end in zeros
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return DeepReconstruction(network, **options)


def tangent_like(kspace):
    return torch.randn(kspace.shape, dtype=kspace.dtype, generator=torch.Generator().manual_seed(4))


def central_difference(function, point, tangent, step):
    with torch.no_grad():
        return (function(point + step * tangent) - function(point - step * tangent)) / (2 * step)


def relative(a, b):
    return float((a - b).norm() / b.norm())


# -- derivatives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_every_network_is_mapped_on_the_fast_path(name):
    (operator,) = linearize(reconstruction(name), scan())
    assert operator.preflight.jvp_mode == "vmap(jvp)"
    assert operator.preflight.vjp_mode == "vmap(vjp)"
    assert operator.preflight.evaluation_mode == "vmap"
    assert not operator.complex_linear


@pytest.mark.parametrize("name", SMALL)
def test_derivative_is_that_of_the_whole_map(name):
    """Float64: through normalisation, coil-map network, solver; and the frozen map has another derivative."""
    acq = scan()
    method = reconstruction(name)
    g = method.bind(acq)
    t = acq.colour(tangent_like(acq.kspace))
    jvp = torch.func.jvp(g, (acq.kspace,), (t,))[1]
    assert relative(jvp, central_difference(g, acq.kspace, t, 1e-6)) < 1e-5

    frozen = DeepReconstruction(method.network, "", "fixed", differentiate_coil_maps=False).bind(acq)
    torch.testing.assert_close(frozen(acq.kspace), g(acq.kspace))
    frozen_jvp = torch.func.jvp(frozen, (acq.kspace,), (t,))[1]
    assert relative(frozen_jvp, jvp) > 3e-5


@pytest.mark.parametrize(("normalization", "maps"), [("fixed", True), ("propagated", False), ("propagated", True)])
def test_each_part_of_the_derivative_of_varnet(normalization, maps):
    """Each choice has the derivative of the map it names, and none that of another."""
    acq = scan()
    method = reconstruction("varnet", normalization=normalization, differentiate_coil_maps=maps)
    g = method.bind(acq)
    t = acq.colour(tangent_like(acq.kspace))
    jvp = torch.func.jvp(g, (acq.kspace,), (t,))[1]
    assert relative(jvp, central_difference(g, acq.kspace, t, 1e-6)) < 1e-5
    neither = DeepReconstruction(method.network, "", "fixed", differentiate_coil_maps=False).bind(acq)
    assert relative(jvp, central_difference(neither, acq.kspace, t, 1e-6)) > 1e-3


def test_solution_is_differentiable_in_everything():
    """Right-hand side, coil maps and regularisation, forward and backward."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, dtype=torch.complex128, generator=generator)

    maps = random(2, 4, 3)
    mask = (torch.rand((1, 4, 3), generator=generator) < 0.6).double()
    equations = NormalEquations(Convolution((-2, -1), (mask,)), -3, 1e-14)
    regularization = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        equations.solve,
        (random(4, 3).requires_grad_(), maps.requires_grad_(), regularization),
        check_forward_ad=True,
    )


def test_encoding_has_its_adjoint_and_gram():
    acq = scan(mask=poisson_disc(SHAPE, 3, 6, seed=2))
    maps = acq.whiten_maps(acq.coil_maps)
    encoding = Cartesian(maps, acq.mask.double(), tolerance=1e-12)
    x, y = tangent_like(maps[0]), tangent_like(maps)
    left, right = (encoding.forward(x).conj() * y).sum(), (x.conj() * encoding.adjoint(acq.mask * y)).sum()
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(encoding.gram(x), encoding.adjoint(encoding.forward(x)))
    weight = torch.tensor(0.05, dtype=torch.float64)
    solution = encoding.solve(x, weight)
    torch.testing.assert_close(encoding.gram(solution) + weight * solution, x)


# -- symmetries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_image_scales_with_the_data(name):
    """g(a y) = a g(y): arbitrary units of a scanner do not matter; with a fixed scale they would."""
    acq = scan()
    for normalization, homogeneous in (("propagated", True), ("fixed", False)):
        g = reconstruction(name, normalization=normalization).bind(acq)
        error = relative(g(3 * acq.kspace), 3 * g(acq.kspace))
        assert (error < 1e-4) == homogeneous, (normalization, error)


@pytest.mark.parametrize("name", SMALL)
def test_order_of_coils_does_not_matter(name):
    """With uncorrelated coils of different noise; correlated ones are whitened in their order."""
    acq = scan().replace(noise_covariance=torch.diag(torch.tensor([1.0, 4.0, 0.3, 2.0, 0.7]).to(torch.complex128)))
    order = torch.randperm(COILS, generator=torch.Generator().manual_seed(0))
    psi = acq.noise_covariance
    other = acq.replace(
        kspace=acq.kspace[order],
        coil_maps=acq.coil_maps[order],
        noise_covariance=psi.select(order.tolist()),
    )
    method = reconstruction(name)
    image, permuted = method.bind(acq)(acq.kspace), method.bind(other)(other.kspace)
    assert relative(permuted, image) < 1e-9


@pytest.mark.parametrize("name", ["unet", "modl", "unrolled-resnet"])
def test_normalisation_of_given_coil_maps_is_that_of_the_image(name):
    """Maps n S of any n(r) > 0 give the image x / n: that of SENSE with these maps."""
    acq = scan()
    maps = acq.whiten_maps(acq.coil_maps)
    unit = acq.replace(coil_maps=acq.coil_maps / maps.abs().square().sum(0).sqrt())
    method = reconstruction(name)
    image = method.bind(unit)(unit.kspace)
    ramp = torch.linspace(0, 1, SHAPE[0], dtype=torch.float64)[:, None] * torch.ones(SHAPE[1], dtype=torch.float64)
    # The median of the second is 1: it must not pass for that of unit maps.
    for n in (0.01 + 7 * ramp, 1 + 40 * (ramp - 0.5) ** 3 * (ramp > 0.5)):
        other = unit.replace(coil_maps=unit.coil_maps * n)
        torch.testing.assert_close(method.bind(other)(unit.kspace), image / n)


def test_calibration_window_is_the_sampled_centre():
    mask = equispaced(SHAPE, 4, calibration=5)
    window = calibration_window(mask)
    assert window.sum() == 5 * SHAPE[1]
    assert bool((window <= mask).all())
    with pytest.raises(InputError, match="calibration"):
        calibration_window(equispaced(SHAPE, 4, offset=1))


def test_separate_calibration_lines_feed_the_coil_maps_of_varnet():
    """They are measured data of their own: the noise of the image does not pass through them."""
    acq = scan(mask=equispaced(SHAPE, 2, calibration=8))
    lines = simulate(SHAPE, COILS, snr=40.0, seed=5).kspace * calibration_window(acq.mask)
    separate = acq.replace(calibration=lines.to(acq.kspace))
    g = reconstruction("varnet").bind(separate)
    own = reconstruction("varnet").bind(acq)
    t = acq.colour(tangent_like(acq.kspace))
    difference = torch.func.jvp(g, (acq.kspace,), (t,))[1] - torch.func.jvp(own, (acq.kspace,), (t,))[1]
    assert float(difference.norm()) > 0


def test_volumes_are_refused():
    acq = simulate((6, 10, 8), 3, seed=0)
    with pytest.raises(InputError, match="one slice"):
        reconstruction("unet").bind(acq)


# -- noise ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_sketch_agrees_with_replicas(name, monkeypatch):
    """At SNR 10⁵, where fresh rectifiers are linear; 200 against 200 has a floor of 5 %, √2 would be 41 %."""
    monkeypatch.setattr("mrnoise.networks.deep_reconstruction.SOLVER_TOLERANCE", 1e-8)
    acq = scan(snr=1e5)
    method = reconstruction(name)
    sketch = noise_map(method, acq, method="sketch", n_samples=200, seed=1)
    replicas = noise_map(method, acq, method="monte_carlo", n_samples=200, seed=2)
    found = compare(sketch, replicas, foreground(ZeroFilled().bind(acq)(acq.kspace)))
    assert found.nrmse < 1.3 * found.floor
    assert abs(found.ratio - 1) < 0.03
    assert "normalization propagated" in sketch.provenance.reconstruction


# -- weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("unet", {"features": 4, "poolings": 2}),
        ("varnet", {"cascades": 2, "features": 4, "poolings": 1, "map_features": 3, "map_poolings": 1}),
        ("modl", {"unrolls": 2, "features": 6}),
        ("unrolled-resnet", {"unrolls": 2, "features": 6}),
    ],
)
def test_weights_survive_the_disk(architecture, settings, tmp_path):
    network = build(architecture, **settings)
    path = tmp_path / "weights.safetensors"
    save_weights(network, path, {"name": "mine", "architecture": architecture, "settings": settings})
    found, header = load_weights(path)
    assert header["name"] == "mine"
    for name, wanted in network.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], wanted, rtol=1e-3, atol=1e-6)
        assert found.state_dict()[name].dtype == torch.float32


def test_bad_weights_are_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="cannot read the weights"):
        load_weights(tmp_path / "missing.safetensors")
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not weights")
    with pytest.raises(InputError, match="cannot read the weights"):
        load_weights(other)
    save_weights(nn.Linear(2, 2), tmp_path / "linear.safetensors", {"architecture": "unet", "settings": {}})
    with pytest.raises(InputError, match="cannot read the weights"):
        load_weights(tmp_path / "linear.safetensors")
    with pytest.raises(InputError, match="unknown architecture"):
        build("perceptron")
    with pytest.raises(InputError, match="cannot be built"):
        build("unet", depth=3)
