"""Networks of other programs as reconstructions: their own image, the right derivative, the right noise."""

import copy
import importlib.abc
import importlib.machinery
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
import torch
from torch import nn

from mrnoise import InputError, noise_map, read_noise_map
from mrnoise.foreground import foreground
from mrnoise.linearization import Images, NoiseToImage, linearize
from mrnoise.reconstruction import (
    CgSense,
    Deepinv,
    FastmriVarNet,
    ImageNetwork,
    KspaceNetwork,
    RootSumOfSquares,
    ZeroFilled,
    from_file,
)
from mrnoise.sampling import caipi, equispaced
from mrnoise.simulation import simulate
from test_cli import run
from test_preflight import NoBatching

# The libraries take seconds to import: one process does.
pytestmark = pytest.mark.xdist_group("adapters")

COILS, SHAPE = 5, (24, 20)
ACQ = simulate(SHAPE, COILS, snr=30, seed=2).undersample(equispaced(SHAPE, 2, calibration=6))
# Phase encoding along the last axis, as in files of fastMRI.
TURNED = ACQ.replace(kspace=ACQ.kspace.mT, mask=ACQ.mask.mT, coil_maps=ACQ.coil_maps.mT)
# For the oracles that need hundreds of reconstructions.
SMALL = simulate((16, 12), COILS, snr=30, seed=2).undersample(equispaced((16, 12), 2, calibration=6))
DOUBLE = ACQ.replace(kspace=ACQ.kspace.to(torch.complex128), coil_maps=ACQ.coil_maps.to(torch.complex128))


def seeded(make, *args, **options):
    torch.manual_seed(0)
    return make(*args, **options).eval()


def image_of(reconstruction, acquisition=ACQ):
    with torch.no_grad():
        return reconstruction.bind(acquisition)(acquisition.kspace)


def preflight(reconstruction, acquisition=ACQ):
    (operator,) = linearize(reconstruction, acquisition)
    return operator.preflight


def reason(report, name):
    """What the report says of a way that was refused."""
    (check,) = (c for c in report.checks if c.name == name)
    assert not check.passed
    return check.detail


# -- the libraries -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fastmri():
    pytest.importorskip("fastmri.models", exc_type=ImportError)
    return sys.modules["fastmri"]


@pytest.fixture(scope="module")
def nets():
    return pytest.importorskip("monai.networks.nets", exc_type=ImportError)


@pytest.fixture(scope="module")
def deepinv():
    """The library; it imports torchvision, which its MRI physics and networks do not use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        import toolboxes
    if toolboxes.installed("deepinv") is None:
        pytest.skip("deepinv is not installed")
    return sys.modules["deepinv"]


def test_mrnoise_imports_none_of_them():
    code = (
        "import sys; import mrnoise; mrnoise.reconstruction.Deepinv; "
        "assert not {'fastmri', 'monai', 'deepinv', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- small networks of our own -----------------------------------------------------------------------------------


class Convolutions(nn.Module):
    """Image to image, with a residual connection."""

    def __init__(self, channels=2, activation=nn.LeakyReLU, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            activation(),
            nn.Dropout(dropout),
            nn.Conv2d(6, channels, 3, padding=1),
        )

    def forward(self, x):
        return x + self.layers(x)


class Whole(nn.Module):
    """k-space to image, in operations that TorchScript knows."""

    def __init__(self, detach: bool = False):
        super().__init__()
        self.denoiser = Convolutions()
        self.detach = detach

    def forward(self, kspace):
        if self.detach:
            kspace = kspace.detach()
        axes = [-2, -1]
        x = torch.fft.ifftn(torch.fft.ifftshift(kspace, dim=axes), dim=axes, norm="ortho")
        x = torch.view_as_real(torch.fft.fftshift(x, dim=axes).sum(-3)).permute(2, 0, 1)
        return torch.view_as_complex(self.denoiser(x.unsqueeze(0))[0].permute(1, 2, 0).contiguous())


def save_scripted(model, path):
    torch.jit.script(model).save(path)


def save_traced(model, path):
    torch.jit.trace(model, ACQ.kspace).save(path)


def save_exported(model, path):
    torch.export.save(torch.export.export(model, (ACQ.kspace,)), path)


FILES = {"script.pt": save_scripted, "trace.ts": save_traced, "export.pt2": save_exported}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    for name, write in FILES.items():
        write(seeded(Whole), folder / name)
    return folder


# -- what is compared --------------------------------------------------------------------------------------------


def varnet(fastmri, **options):
    return seeded(fastmri.models.VarNet, num_cascades=2, sens_chans=4, sens_pools=2, chans=4, pools=2, **options)


def fastmri_unet(fastmri):
    return seeded(fastmri.models.Unet, in_chans=1, out_chans=1, chans=4, num_pool_layers=2)


def monai_unet(nets, channels=2):
    return seeded(nets.UNet, 2, channels, channels, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)


def deepinv_unet(deepinv):
    return seeded(deepinv.models.UNet, 2, 2, scales=2, channels_per_scale=[4, 8])


def dncnn(deepinv):
    return seeded(deepinv.models.DnCNN, 2, 2, depth=3, nf=8, pretrained=None)


def deepinv_network(deepinv, name):
    models = deepinv.models
    if name == "MoDL":
        return models.MoDL(dncnn(deepinv), num_iter=1).eval()
    if name == "ArtifactRemoval(UNet)":
        return models.ArtifactRemoval(deepinv_unet(deepinv))
    return models.VarNet(dncnn(deepinv), num_cascades=2, mode=name).eval()


DEEPINV = ("MoDL", "varnet", "e2e-varnet", "ArtifactRemoval(UNet)")

ADAPTERS = {
    "fastMRI VarNet": lambda get: FastmriVarNet(varnet(get("fastmri")), 6),
    "fastMRI U-Net": lambda get: ImageNetwork(fastmri_unet(get("fastmri")), clip=6.0),
    "MONAI U-Net": lambda get: ImageNetwork(monai_unet(get("nets")), ZeroFilled()),
    "deepinv U-Net": lambda get: ImageNetwork(deepinv_unet(get("deepinv")), CgSense(), normalization="maximum"),
    **{f"deepinv {n}": lambda get, n=n: Deepinv(deepinv_network(get("deepinv"), n)) for n in DEEPINV},
    **{n: lambda get, n=n: from_file(get("files") / n) for n in FILES},
}


# -- the image is the network's own ------------------------------------------------------------------------------


def native_varnet(model, acquisition, n):
    """k-space with the phase encoding last, called as its documentation says."""
    with torch.no_grad():
        lines = acquisition.mask[0][None, None, None, :, None]
        return model(torch.view_as_real(acquisition.kspace)[None], lines, n)[0]


@pytest.mark.parametrize("n", [6, None])
def test_fastmri_varnet(fastmri, n):
    model = varnet(fastmri)
    native = native_varnet(model, TURNED, n)
    torch.testing.assert_close(image_of(FastmriVarNet(model, n), TURNED), native)
    # Whichever axis of the scan the phase encoding is.
    torch.testing.assert_close(image_of(FastmriVarNet(model, n), ACQ), native.mT)
    if n is None:  # it counts the calibration lines of the mask
        torch.testing.assert_close(native, native_varnet(model, TURNED, 6))


def test_fastmri_varnet_of_all_lines(fastmri):
    """Where no line was skipped, the axis can be told."""
    model = varnet(fastmri)
    full = simulate(SHAPE, COILS, snr=30)
    turned = full.replace(kspace=full.kspace.mT, mask=full.mask.mT, coil_maps=None)
    native = native_varnet(model, turned, 8)
    torch.testing.assert_close(image_of(FastmriVarNet(model, 8), turned), native)
    torch.testing.assert_close(image_of(FastmriVarNet(model, 8, phase_encoding=-2), full), native.mT)


def test_fourier_transforms_of_fastmri_are_ours(fastmri):
    """Without cascades its image is the root sum of squares; odd lengths show the centring."""
    shape = (27, 21)
    acq = simulate(shape, 3, snr=30).undersample(equispaced(shape, 2, calibration=5))
    model = seeded(fastmri.models.VarNet, num_cascades=0, sens_chans=2, sens_pools=2)
    torch.testing.assert_close(image_of(FastmriVarNet(model), acq), image_of(RootSumOfSquares(), acq))


def test_fastmri_unet(fastmri):
    from fastmri.data.transforms import normalize_instance

    model = fastmri_unet(fastmri)
    coils = fastmri.ifft2c(torch.view_as_real(ACQ.kspace))
    image, mean, std = normalize_instance(fastmri.rss(fastmri.complex_abs(coils)), eps=1e-11)
    with torch.no_grad():
        native = model(image.clamp(-6, 6)[None, None])[0, 0] * std + mean
    torch.testing.assert_close(image_of(ImageNetwork(model, clip=6.0)), native)
    # The same from the magnitude of another image, and with a clamp that is felt.
    magnitude = image_of(ImageNetwork(model, ZeroFilled(), channels=1))
    assert not magnitude.is_complex() and magnitude.shape == SHAPE
    assert not torch.allclose(image_of(ImageNetwork(model, clip=1.0)), native, rtol=1e-3)


def test_monai_unet(nets):
    model = monai_unet(nets)
    x = image_of(ZeroFilled())
    channels = torch.stack([x.real, x.imag])[None]
    mean, std = channels.mean((2, 3), keepdim=True), channels.std((2, 3), keepdim=True)
    with torch.no_grad():
        native = (model((channels - mean) / std) * std + mean)[0]
    torch.testing.assert_close(image_of(ImageNetwork(model, ZeroFilled())), torch.complex(native[0], native[1]))


def test_image_networks_see_a_normalised_image():
    seen = {}
    for kind, source in (("standard", ZeroFilled()), ("maximum", ZeroFilled()), ("none", CgSense())):
        x = image_of(ImageNetwork(lambda x, kind=kind: seen.setdefault(kind, x), source, normalization=kind))
        torch.testing.assert_close(x, image_of(source), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen["standard"].std((0, 2, 3)), torch.ones(2))
    torch.testing.assert_close(seen["standard"].mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-6)
    assert float(torch.complex(*seen["maximum"][0]).abs().max()) == pytest.approx(1)
    torch.testing.assert_close(torch.complex(*seen["none"][0]), image_of(CgSense()))


def deepinv_native(deepinv, acquisition):
    """Whitened samples and MultiCoilMRI with whitened maps, and the defaults of deepinv."""
    y, maps = acquisition.whiten(acquisition.kspace), acquisition.whiten_maps(acquisition.coil_maps)
    physics = deepinv.physics.MultiCoilMRI(mask=acquisition.mask.float(), coil_maps=maps[None])
    return torch.stack([y.real, y.imag])[None], physics


@pytest.mark.parametrize("name", DEEPINV)
def test_deepinv(deepinv, name):
    model = deepinv_network(deepinv, name)
    y, physics = deepinv_native(deepinv, ACQ)
    with torch.no_grad():
        native = model(y, physics)[0]
    torch.testing.assert_close(image_of(Deepinv(model)), torch.complex(*native), rtol=1e-4, atol=1e-5)


def test_deepinv_conventions(deepinv):
    """Its adjoint is our zero-filled image, in slices and volumes; its noise has ψ/2 in each real channel."""
    sigma = {}

    def adjoint(y, physics):
        sigma["seen"] = float(physics.noise_model.sigma)
        return physics.A_adjoint(y)

    for acq in (ACQ, simulate((27, 21), 3, snr=30), simulate((6, 10, 8), 3, snr=30)):
        image = image_of(ZeroFilled(), acq)
        for kind, scale in (("none", 1.0), ("maximum", float(image.abs().max()))):
            torch.testing.assert_close(image_of(Deepinv(adjoint, kind), acq), image)
            assert 2 * (sigma["seen"] * scale) ** 2 == pytest.approx(acq.noise_covariance.mean_variance)
    # One channel is a real image.
    real = image_of(Deepinv(lambda y, physics: physics.A_adjoint(y, rss=True)))
    assert not real.is_complex() and real.shape == SHAPE


@pytest.mark.parametrize("name", FILES)
def test_files(files, name):
    with torch.no_grad():
        native = seeded(Whole)(ACQ.kspace)
    torch.testing.assert_close(image_of(from_file(files / name)), native)
    assert repr(from_file(files / name)) == f"KspaceNetwork(source='{name}')"


def test_a_network_may_write_into_its_input():
    def model(kspace):
        image = ZeroFilled().bind(ACQ)(kspace)
        kspace.zero_()
        return image

    before = ACQ.kspace.clone()
    torch.testing.assert_close(image_of(KspaceNetwork(model)), image_of(ZeroFilled()))
    torch.testing.assert_close(ACQ.kspace, before)


def test_networks_are_put_in_evaluation_mode():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(2)).train()
    torch.testing.assert_close(image_of(ImageNetwork(model, ZeroFilled())), image_of(ImageNetwork(model, ZeroFilled())))
    assert not model[0].training and not model[1].training


def test_networks_take_the_precision_of_the_scan(fastmri, nets, files):
    for adapter in (
        FastmriVarNet(varnet(fastmri), 6),
        ImageNetwork(monai_unet(nets), ZeroFilled()),
        *(from_file(files / name) for name in FILES),
    ):
        single, double = image_of(adapter, ACQ), image_of(adapter, DOUBLE)
        assert double.real.dtype == torch.float64
        torch.testing.assert_close(single, double.to(single.dtype), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(image_of(adapter, ACQ), single)  # and back


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "deepinv MoDL"])  # holds a lambda of deepinv
def test_same_image_after_pickle(request, name):
    """`test_bound` does it in another process, with networks of our own."""
    adapter = ADAPTERS[name](request.getfixturevalue)
    bound = adapter.bind(ACQ)
    assert repr(bound) == f"{adapter!r}, bound to k-space (5, 24, 20)"
    with torch.no_grad():
        for other in (pickle.loads(pickle.dumps(bound)), copy.deepcopy(bound)):
            assert type(other) is type(bound) and other.network is not bound.network
            assert torch.equal(other(ACQ.kspace), bound(ACQ.kspace))


# -- the derivative chosen, and why ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_network_takes_the_fastest_way(request, name):
    adapter = ADAPTERS[name](request.getfixturevalue)
    found = preflight(adapter)
    assert (found.jvp_mode, found.vjp_mode) == ("vmap(jvp)", "vmap(vjp)")
    assert not found.complex_linear
    if isinstance(adapter, Deepinv):
        assert found.evaluation_mode == "loop"
        assert "moveaxis" in reason(found, "batched by vmap")
    else:
        assert found.evaluation_mode == "vmap"


class OnlyReverse(torch.autograd.Function):
    """Forward mode is missing, as in much published code."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def warped(x):
    grid = nn.functional.affine_grid(torch.tensor([[[1, 0.1, 0], [0, 1, 0.05]]]), x.shape, align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def rectified_aside(x):
    """The values change in place, behind the back of the derivative."""
    x.detach().relu_()
    return x


# What a network does after its convolutions, the derivative it gets, and why not each faster one.
HARD = {
    "no rule for vmap": (NoBatching.apply, "looped jvp", {"vmap(jvp)": "does not have vmap support"}),
    "reverse only": (OnlyReverse.apply, "double reverse", dict.fromkeys(("vmap(jvp)", "looped jvp"), "setup_context")),
    "grid_sample": (warped, "double reverse", dict.fromkeys(("vmap(jvp)", "looped jvp"), "grid_sampler_2d")),
    "detach": (torch.detach, None, dict.fromkeys(("vmap(jvp)", "looped jvp"), "the input is detached")),
    "numpy": (
        lambda x: torch.from_numpy(x.detach().numpy()),
        None,
        {"vmap(jvp)": "data pointer", "looped jvp": "data pointer", "double reverse": "does not require grad"},
    ),
    "in place, aside": (
        rectified_aside,
        None,
        dict.fromkeys(("vmap(jvp)", "looped jvp", "double reverse"), "differs from finite differences by 0."),
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_networks_fall_back_and_say_why(name):
    after, mode, why = HARD[name]
    layers = seeded(Convolutions)
    adapter = ImageNetwork(lambda x: after(layers(x)), ZeroFilled(), normalization="none")
    found = preflight(adapter)
    assert found.jvp_mode == mode
    for refused, text in why.items():
        assert text in reason(found, refused)
    nm = noise_map(adapter, ACQ, n_samples=4)
    assert nm.method == ("sketch" if mode else "monte_carlo")
    if mode is None:
        assert "no derivative" in nm.provenance.why and nm.provenance.preflight["mode"] == "replicas only"
        with pytest.raises(InputError, match="derivative of the reconstruction cannot be trusted"):
            noise_map(adapter, ACQ, method="sketch", n_samples=4)


def test_a_detached_network_is_refused_behind_a_normalisation():
    """Its derivative is not zero, for the normalisation has one, but wrong."""
    layers = seeded(Convolutions)
    found = preflight(ImageNetwork(lambda x: layers(x).detach(), ZeroFilled()))
    assert found.jvp_mode is None
    assert "differs from finite differences" in reason(found, "double reverse")


def test_a_file_that_detaches_is_refused(tmp_path):
    torch.jit.script(Whole(detach=True)).save(tmp_path / "detached.pt")
    found = preflight(from_file(tmp_path / "detached.pt"))
    assert found.jvp_mode is None
    assert "detached" in reason(found, "vmap(jvp)")


def test_implicit_solvers_of_deepinv_need_the_adapter(deepinv):
    """MoDL called the documented way has no derivative that holds; the adapter unrolls its solver."""
    model = deepinv_network(deepinv, "MoDL")

    def documented(kspace):
        y = torch.view_as_real(ACQ.whiten(kspace)).movedim(-1, 0)[None]
        physics = deepinv_native(deepinv, ACQ)[1]
        return torch.view_as_complex(model(y, physics)[0].movedim(0, -1).contiguous())

    found = preflight(documented)
    assert found.jvp_mode is None
    assert "setup_context" in reason(found, "vmap(jvp)")
    assert preflight(Deepinv(model)).jvp_mode == "vmap(jvp)"


def test_activations_in_place_have_the_same_derivative(deepinv):
    """The networks of deepinv have ReLUs in place; whatever is accepted is the right derivative."""
    inplace, plain = deepinv_unet(deepinv), deepinv_unet(deepinv)
    changed = [m for m in plain.modules() if isinstance(m, nn.ReLU) and m.inplace]
    assert changed
    for module in changed:
        module.inplace = False
    (a,), (b,) = (linearize(ImageNetwork(m, ZeroFilled()), ACQ) for m in (inplace, plain))
    v = torch.randn(2, *a.noise_shape, dtype=a.noise_dtype, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(a.apply(v), b.apply(v), rtol=1e-4, atol=1e-6)


# -- the noise ---------------------------------------------------------------------------------------------------


def agreement(std, found, oracle):
    """NRMSE of σ inside the object over what sampling explains; σ of ``found`` given apart."""
    inside = foreground(oracle.image)
    floor = found.relative_error[inside].square()
    if oracle.method != "exact":
        floor = floor + oracle.relative_error[inside].square()
    return float(((std / oracle.std)[inside] - 1).square().mean().sqrt() / floor.mean().sqrt())


KINDS = ("fastMRI VarNet", "fastMRI U-Net", "MONAI U-Net", "deepinv MoDL", "deepinv varnet", "export.pt2")


@pytest.mark.parametrize("name", KINDS)
def test_sketch_is_the_exact_noise(request, name):
    """Against row by row backward passes: 400 probes know σ to 2.5 to 3.5 %, 40 voxels that floor to 11 %."""
    adapter = ADAPTERS[name](request.getfixturevalue)
    on = ACQ if name in FILES else SMALL  # an exported program knows its shape
    sketch = noise_map(adapter, on, method="sketch", n_samples=400)
    exact = noise_map(adapter, on, method="exact")
    assert 0.75 < agreement(sketch.std, sketch, exact) < 1.3
    assert not 0.75 < agreement(sketch.std * 2**0.5, sketch, exact) < 1.3
    assert not 0.75 < agreement(sketch.std / 2**0.5, sketch, exact) < 1.3


@pytest.mark.parametrize("name", ["fastMRI VarNet", "deepinv varnet", "trace.ts"])
def test_sketch_is_the_noise_of_replicas(request, name):
    """At a noise so small that the network is linear; no derivative in the oracle. 40 voxels: of four pairs 8 %."""
    adapter = ADAPTERS[name](request.getfixturevalue)
    quiet = SMALL.replace(noise_covariance=SMALL.noise_covariance.matrix * 1e-4)
    pairs = [
        [noise_map(adapter, quiet, method=method, n_samples=200, seed=seed) for method in ("sketch", "monte_carlo")]
        for seed in range(4)
    ]
    assert 0.75 < mean(agreement(sketch.std, sketch, replicas) for sketch, replicas in pairs) < 1.3
    assert mean(agreement(sketch.std * 2**0.5, sketch, replicas) for sketch, replicas in pairs) > 1.3


def test_normalisation_carries_noise():
    """A network that returns a constant c: x = c max|x₀|, with the noise of one voxel everywhere."""
    half = ImageNetwork(lambda x: x * 0 + 0.5, ZeroFilled(), channels=1, normalization="maximum")
    nm, before = noise_map(half, ACQ, method="exact"), noise_map(ZeroFilled(), ACQ, method="exact")
    largest = before.image.abs().flatten().argmax()
    torch.testing.assert_close(nm.std, (0.5 * before.magnitude_std.flatten()[largest]).expand(SHAPE))
    frozen = noise_map(ImageNetwork(half.model, ZeroFilled(), 1, "maximum", False), ACQ, method="exact")
    assert float(frozen.std.max()) == 0


def test_frozen_normalisation_changes_the_noise(fastmri, deepinv):
    network, model = fastmri_unet(fastmri), deepinv_network(deepinv, "varnet")
    for make in (
        lambda differentiate: ImageNetwork(network, differentiate_normalization=differentiate),
        lambda differentiate: Deepinv(model, "maximum", differentiate),
    ):
        torch.testing.assert_close(image_of(make(True), SMALL), image_of(make(False), SMALL))
        live, frozen = (noise_map(make(d), SMALL, method="exact") for d in (True, False))
        change = (frozen.variance / live.variance - 1)[foreground(live.image)]
        assert 0.005 < float(change.abs().max()) < 1


def test_g_factors_where_the_intensity_is_that_of_sense(fastmri, nets):
    model = monai_unet(nets)
    assert noise_map(ImageNetwork(model, CgSense()), ACQ, n_samples=3).g_factor is not None
    for adapter in (ImageNetwork(model, ZeroFilled()), FastmriVarNet(varnet(fastmri), 6)):
        nm = noise_map(adapter, ACQ, n_samples=3)
        assert nm.reference_std is None


def test_slices_are_bound_one_by_one(fastmri):
    scan = simulate(SHAPE, COILS, snr=30, n_slices=2).undersample(equispaced(SHAPE, 2, calibration=6))
    nm = noise_map(FastmriVarNet(varnet(fastmri), 6), scan, n_samples=3)
    assert nm.image.shape == (2, *SHAPE)
    torch.testing.assert_close(nm.image[1], image_of(FastmriVarNet(varnet(fastmri), 6), list(scan.slices())[1]))


# -- bad input ---------------------------------------------------------------------------------------------------


def test_bad_files(tmp_path, files, capfd):
    torch.save(Whole().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "noise.pt2").write_bytes(b"no archive")
    for name, message in {
        "missing.pt": "which does not exist",
        "net.onnx": r"\.pt, \.ts, \.pt2",
        "weights.pt": "checkpoint of weights is not enough",
        "noise.pt2": "cannot load a network",
    }.items():
        with pytest.raises(InputError, match=f"(?s){message}"):
            from_file(tmp_path / name)
    assert capfd.readouterr().err == ""  # the error is enough, without the log of torch
    # An exported program knows the shape it was exported for.
    other = simulate((24, 22), COILS, snr=30)
    with pytest.raises(InputError, match=r"fails on this scan.*k-space \(5, 24, 22\)"):
        Images.of(from_file(files / "export.pt2"), other).reconstruct()


TWO = nn.Identity()


@pytest.mark.parametrize(
    ("make", "acquisition", "message"),
    [
        (lambda: ImageNetwork(nn.Conv2d(1, 1, 3), ZeroFilled()), ACQ, r"fails on this scan.*to have 1 channels"),
        (lambda: ImageNetwork(nn.Conv2d(1, 1, 3)), ACQ, r"something else.*\(1, 1, 24, 20\).*\(1, 1, 22, 18\)"),
        (lambda: ImageNetwork(nn.Conv2d(1, 2, 1)), ACQ, r"\(1, 1, 24, 20\); received \(1, 2, 24, 20\)"),
        (lambda: ImageNetwork(lambda x: [x]), ACQ, "received list"),
        (lambda: ImageNetwork(TWO, channels=2), ACQ, "no imaginary part"),
        (lambda: ImageNetwork(TWO, channels=3), ACQ, "invalid channels"),
        (lambda: ImageNetwork(TWO, normalization="batch"), ACQ, "invalid normalization: expected standard or maximum"),
        (lambda: FastmriVarNet(TWO, phase_encoding=0), ACQ, "invalid phase_encoding"),
        (lambda: FastmriVarNet(TWO, phase_encoding=-1), ACQ, "skipped along axis -2"),
        (lambda: FastmriVarNet(TWO), ACQ.undersample(caipi(SHAPE, (2, 2))), "skipped along both axes"),
        (lambda: FastmriVarNet(TWO), ACQ, "fails on this scan.*takes 2 positional arguments"),
        (lambda: FastmriVarNet(TWO), simulate((6, 8, 10), 3, snr=30), "takes slices.*spatial_dims=3"),
        (lambda: Deepinv(TWO, "standard"), ACQ, "invalid normalization"),
        (
            lambda: KspaceNetwork(TWO),
            simulate(SHAPE, 3, n_slices=2),
            r"one image at a time.*\(2, 3, 24, 20\)",
        ),
        (lambda: KspaceNetwork(nn.Linear(3, 3)), ACQ, "fails on this scan.*same dtype"),
    ],
)
def test_bad_networks(make, acquisition, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        NoiseToImage.at(make().bind(acquisition), acquisition)


def test_bad_output_of_deepinv(deepinv):
    with pytest.raises(InputError, match=r"\(1, 2, 24, 20\) or \(1, 1, 24, 20\); received \(1, 2, 5, 24, 20\)"):
        image_of(Deepinv(lambda y, physics: y))


@pytest.mark.parametrize("wrong", [None, "torchvision"])
def test_missing_deepinv_is_named(monkeypatch, wrong):
    """Also where its torchvision is that of another torch, which is a RuntimeError."""
    monkeypatch.setitem(sys.modules, "deepinv", None)
    if wrong:
        monkeypatch.delitem(sys.modules, "deepinv")
        monkeypatch.setattr(sys, "meta_path", [WrongTorchvision(), *sys.meta_path])
    with pytest.raises(InputError, match="deepinv cannot be imported") as raised:
        Deepinv(TWO).bind(ACQ)
    assert ("torchvision::nms" if wrong else "None in sys.modules") in raised.value.received
    assert "pip install 'mrnoise[deepinv]'" in raised.value.remedy


class WrongTorchvision(importlib.abc.MetaPathFinder):
    """What deepinv meets where torchvision was built for another torch."""

    def find_spec(self, name, path=None, target=None):
        if name == "deepinv":
            raise RuntimeError("operator torchvision::nms does not exist")


# -- the command line --------------------------------------------------------------------------------------------


def test_files_on_the_command_line(tmp_path):
    scan = tmp_path / "scan.npz"
    run("simulate", scan, "--matrix", "24,20", "--coils", 5)
    for name, write in FILES.items():
        write(seeded(Whole), tmp_path / name)
        text = run("map", scan, "-r", tmp_path / name, "-n", 5, "-o", tmp_path / "map.h5")
        assert "vmap(jvp)" in text
        assert name in read_noise_map(tmp_path / "map.h5").provenance.reconstruction
    text = run("map", scan, "-r", tmp_path / "other.ts", code=2)
    assert "cannot load a network" in text and len(text.strip().splitlines()) == 1
