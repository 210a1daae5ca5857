"""Bound reconstructions are values: they survive pickle, give the same bits elsewhere, and say what they are."""

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from mrnoise import Acquisition, fourier, noise_map
from mrnoise.networks import DeepReconstruction, MoDL, UNet, VarNet
from mrnoise.reconstruction import (
    CgSense,
    FastmriVarNet,
    Grappa,
    ImageNetwork,
    KspaceNetwork,
    RootSumOfSquares,
    Sense,
    ZeroFilled,
    from_file,
)
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE, COILS = (28, 26), 4


def deep(network: torch.nn.Module, **options: object) -> DeepReconstruction:
    torch.manual_seed(1)
    for module in network.modules():  # fresh ones end in zeros
        if isinstance(module, torch.nn.Conv2d):
            module.reset_parameters()
    return DeepReconstruction(network, "small", **options)


def seeded(make, *args: object, **options: object) -> torch.nn.Module:
    torch.manual_seed(1)
    return make(*args, **options)


class Combination(torch.nn.Module):
    """A whole reconstruction, complex."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(COILS, 1, 1, dtype=torch.complex64))

    def forward(self, kspace: torch.Tensor) -> torch.Tensor:
        return (self.weights * torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace)))).sum(0).tanh()


class CalledLikeVarNet(torch.nn.Module):
    """Of the signature of `fastmri.models.VarNet`."""

    def __init__(self) -> None:
        super().__init__()
        self.denoiser = torch.nn.Conv2d(COILS, COILS, 3, padding=1)

    def forward(self, kspace: torch.Tensor, mask: torch.Tensor, num_low_frequencies: int) -> torch.Tensor:
        images = fourier.to_image(torch.view_as_complex(kspace * mask)) * num_low_frequencies
        return self.denoiser(images.abs()).square().sum(1).sqrt()


def saved(suffix: str) -> KspaceNetwork:
    """A network from a file that is gone afterwards."""
    model, example = seeded(Combination).eval(), torch.ones(COILS, *SHAPE, dtype=torch.complex64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"network{suffix}"
        if suffix == ".pt2":
            torch.export.save(torch.export.export(model, (example,)), path)
        else:
            torch.jit.trace(model, example).save(path)
        return from_file(path)


# Fixed coil maps, and those that follow from each k-space; lines inverted, and iterated.
METHODS = {
    "zero-filled": ZeroFilled,
    "root sum of squares": RootSumOfSquares,
    "sense": lambda: Sense(0.01),
    "cg-sense": CgSense,
    "grappa, root sum of squares": lambda: Grappa((2, 3), differentiate_calibration=True),
    "grappa, sense": lambda: Grappa((2, 3), combination="sense", differentiate_calibration=True),
    "grappa, kernels fixed": lambda: Grappa((2, 3), combination="adaptive"),
    "unet": lambda: deep(UNet(4, 1)),
    "modl": lambda: deep(MoDL(2, 4), normalization="fixed"),
    "varnet": lambda: deep(VarNet(1, 4, 1, 3, 1)),
    "varnet, maps fixed": lambda: deep(VarNet(1, 4, 1, 3, 1), differentiate_coil_maps=False),
    "network of k-space": lambda: KspaceNetwork(seeded(Combination), "combination"),
    "network of images": lambda: ImageNetwork(seeded(torch.nn.Conv2d, 1, 1, 3, padding=1), clip=6.0),
    "network of images, normalization fixed": lambda: ImageNetwork(
        seeded(torch.nn.Conv2d, 2, 2, 3, padding=1), ZeroFilled(), None, "maximum", False
    ),
    "varnet of fastMRI": lambda: FastmriVarNet(seeded(CalledLikeVarNet), 12),
    "torchscript": lambda: saved(".ts"),
    "torch.export": lambda: saved(".pt2"),
}
# The other process: unpickle, reconstruct, and the product of the derivative with the k-space itself.
PROGRAM = """
import pickle, sys, torch
torch.set_num_threads(1)
path, tests = sys.argv[1:]
sys.path.append(tests)
functions, kspace = pickle.load(open(path, "rb"))
pickle.dump([torch.func.jvp(f, (kspace,), (kspace,)) for f in functions], open(path + ".out", "wb"))
"""


def scan(coil_maps: bool, full: bool) -> Acquisition:
    acq = simulate(SHAPE, COILS, mask=None if full else equispaced(SHAPE, 2, calibration=12), seed=3)
    return acq if coil_maps else acq.replace(coil_maps=None)


@pytest.mark.parametrize("coil_maps", [True, False], ids=["maps given", "maps estimated"])
@torch.no_grad()
def test_same_bits_after_pickle_in_another_process(coil_maps, tmp_path: Path):
    functions = [make().bind(scan(coil_maps, full=name == "sense")) for name, make in METHODS.items()]
    kspace = scan(coil_maps, full=False).kspace
    path = tmp_path / "bound.pickle"
    path.write_bytes(pickle.dumps((functions, kspace)))
    subprocess.run([sys.executable, "-c", PROGRAM, str(path), str(Path(__file__).parent)], check=True)
    there = pickle.loads(Path(f"{path}.out").read_bytes())
    for name, function, found in zip(METHODS, functions, there, strict=True):
        for one, other in zip(torch.func.jvp(function, (kspace,), (kspace,)), found, strict=True):
            assert torch.equal(one, other), name


@pytest.mark.parametrize("name", METHODS)
def test_says_what_it_is_in_one_line(name):
    method = METHODS[name]()
    text = repr(method.bind(scan(coil_maps=True, full=True)))
    assert text.startswith(repr(method))
    assert text.endswith("bound to k-space (4, 28, 26)")
    assert "\n" not in text
    assert len(text) < 200


def test_binding_moves_the_network_in_place():
    """As `DeepReconstruction.bind` says: the precision of the last scan is that of the network."""
    method = deep(UNet(4, 1))
    acq = scan(coil_maps=True, full=False)
    method.bind(acq.replace(kspace=acq.kspace.to(torch.complex128)))
    assert next(method.network.parameters()).dtype == torch.float64
    method.bind(acq)
    assert next(method.network.parameters()).dtype == torch.float32


def test_the_record_says_whose_coil_maps_they_are():
    """A VarNet has its own, whatever maps the scan comes with."""
    acq = scan(coil_maps=True, full=False)
    found = {
        name: noise_map(METHODS[name](), acq, n_samples=2).provenance.coil_maps
        for name in ("cg-sense", "varnet", "varnet of fastMRI")
    }
    own = "those of the reconstruction"
    assert found == {"cg-sense": "given, held fixed", "varnet": own, "varnet of fastMRI": own}
