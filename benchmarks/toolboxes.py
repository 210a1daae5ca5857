"""Maps of other toolboxes, each against replicas that the toolbox makes alone: the table of docs/toolboxes.md.

    python benchmarks/toolboxes.py [--json FILE] [--only NAME ...]

Simulated head, 48×40, 6 coils, SNR 100, every second line and 12 for calibration; 200 replicas by a loop of NumPy. What
is not installed is left out; mrpro and deepinv are imported without torchvision where there is none.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mrnoise import Acquisition, NoiseMap, noise_map
from mrnoise.foreground import foreground
from mrnoise.reconstruction import (
    CommandLine,
    Deepinv,
    Direct,
    FastmriVarNet,
    Mirtorch,
    MonaiVarNet,
    Mrpro,
    Reconstruction,
    SigpyApp,
)
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE, COILS, SNR, SPACING, CALIBRATION, N_REPLICAS = (48, 40), 6, 100.0, 2, 12, 200
# Of least squares and of what is not linear.
WEIGHT, ITERATIONS, SPARSE = 1e-2, 30, {"lamda": 3e-3, "max_iter": 10, "max_power_iter": 10}
ImageOf = Callable[[np.ndarray], np.ndarray]


# -- toolboxes ---------------------------------------------------------------------------------------------------


class EmptyTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A torchvision whose names can be imported and nothing else: MRI reconstructions use none of them."""

    def find_spec(self, name, path=None, target=None):
        """Of torchvision and its modules."""
        ours = name.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec):
        """Empty."""
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        """Whatever is asked for is a class."""
        module.__getattr__ = self.anything

    @staticmethod
    def anything(name):
        """A class of this name."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"NEAREST": None, "BILINEAR": None})


def imported(module: str) -> types.ModuleType:
    """A module; with an empty torchvision for the time of the import where there is none."""
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module(module)
    finder = EmptyTorchvision()
    sys.meta_path.append(finder)
    try:
        return importlib.import_module(module)
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]


def installed(package: str) -> str | None:
    """Version of a package, or of BART; ``None`` where it is not installed."""
    if package == "bart":
        found = shutil.which("bart")
        return subprocess.run([found, "version"], capture_output=True, text=True).stdout.strip() if found else None
    try:
        imported(package)
    except (ImportError, RuntimeError):
        return None
    return version("direct-recon" if package == "direct" else package)


# -- each of them alone, from k-space and coil maps as arrays --------------------------------------------------------


@dataclass(frozen=True)
class Arrays:
    """What a toolbox alone gets: k-space and coil maps (coil, y, x), the mask and the noise of k-space.

    Parameters
    ----------
    kspace, maps, mask
        Arrays.
    factor
        n = factor v for unit circular v, (coil, coil).
    """

    kspace: np.ndarray
    maps: np.ndarray
    mask: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, scan: Acquisition, whitened: bool) -> Arrays:
        """Those of a scan, or multiplied with √ψ times the inverse of the Cholesky factor of Ψ."""
        kspace, maps, mask = scan.kspace.numpy(), scan.coil_maps.numpy(), scan.mask.numpy()
        factor = np.linalg.cholesky(scan.noise_covariance.matrix.numpy())
        if not whitened:
            return cls(kspace, maps, mask, factor)
        scale = np.sqrt(np.mean(np.abs(np.diag(factor @ factor.conj().T))))
        white = scale * np.linalg.inv(factor)
        turned = (np.tensordot(white, x, 1).astype(np.complex64) for x in (kspace, maps))
        return cls(*turned, mask, scale * np.eye(len(factor)))

    def replicas(self, image_of: ImageOf, n: int, seed: int = 7) -> np.ndarray:
        """Images of k-space with fresh noise."""
        rng = np.random.default_rng(seed)
        images = []
        for _ in range(n):
            unit = (rng.standard_normal(self.kspace.shape) + 1j * rng.standard_normal(self.kspace.shape)) / 2**0.5
            noise = np.tensordot(self.factor, unit, 1) * self.mask
            images.append(image_of((self.kspace + noise).astype(np.complex64)))
        return np.stack(images)


def sigpy_alone(name: str, arrays: Arrays, **options) -> ImageOf:
    app = getattr(imported("sigpy.mri.app"), name)

    def image(kspace: np.ndarray) -> np.ndarray:
        np.random.seed(0)  # noqa: NPY002  SigPy draws from it
        return app(kspace, arrays.maps, show_pbar=False, **options).run()

    return image


def bart_alone(options: str, arrays: Arrays) -> ImageOf:
    def write(path: str, values: np.ndarray) -> None:
        values = values.transpose(2, 1, 0)[:, :, None, :]  # (x, y, 1, coil), the first the fastest
        Path(path + ".hdr").write_text("# Dimensions\n" + " ".join(map(str, values.shape)) + "\n")
        values.astype(np.complex64).ravel(order="F").tofile(path + ".cfl")

    def image(kspace: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            names = {name: os.path.join(folder, name) for name in ("kspace", "sens")}
            write(names["kspace"], kspace)
            write(names["sens"], arrays.maps)
            words = [word.format(**names) for word in options.split()]
            subprocess.run([*words, os.path.join(folder, "image")], check=True, capture_output=True)
            return np.fromfile(os.path.join(folder, "image.cfl"), np.complex64).reshape(kspace.shape[1:])

    return image


def mrpro_alone(arrays: Arrays) -> ImageOf:
    imported("mrpro")
    from mrpro.algorithms.reconstruction import RegularizedIterativeSENSEReconstruction
    from mrpro.data import CsmData, IHeader, KData, KHeader, KTrajectory, SpatialDimension

    lines = np.flatnonzero(arrays.mask.all(1))
    height, width = arrays.mask.shape
    ky = torch.as_tensor(lines - height // 2).float().reshape(1, 1, 1, -1, 1)
    kx = (torch.arange(width) - width // 2).float().reshape(1, 1, 1, 1, -1)
    trajectory = KTrajectory(torch.zeros(1, 1, 1, 1, 1), ky, kx)
    matrix, size = SpatialDimension(1, height, width), SpatialDimension(0.005, 0.2, 0.2)
    header = KHeader(recon_matrix=matrix, encoding_matrix=matrix, recon_fov=size, encoding_fov=size)

    def data(kspace: np.ndarray) -> KData:
        return KData(header=header, data=torch.from_numpy(kspace[None, :, None, lines]), traj=trajectory)

    csm = CsmData(header=IHeader.from_kheader(header), data=torch.from_numpy(arrays.maps[None, :, None]))
    reconstruct = RegularizedIterativeSENSEReconstruction(
        data(arrays.kspace), csm=csm, n_iterations=ITERATIONS, regularization_weight=WEIGHT
    )
    return lambda kspace: reconstruct(data(kspace)).data[0, 0, 0].numpy()


def conjugate_gradients(y: torch.Tensor, A, rtol: float = 1e-6) -> torch.Tensor:
    """CG-SENSE with operators and solver of MIRTorch."""
    from mirtorch.alg import CG
    from mirtorch.linear import Identity

    b = A.H * y
    solver = CG(A.H * A + WEIGHT * Identity(list(b.shape)), max_iter=100, rtol=rtol)
    return solver.run(torch.zeros_like(b), b)


def mirtorch_alone(arrays: Arrays) -> ImageOf:
    from mirtorch.linear import Sense

    operator = Sense(torch.from_numpy(arrays.maps), torch.from_numpy(arrays.mask).float(), batchmode=False)
    return lambda kspace: conjugate_gradients(torch.from_numpy(kspace), operator).numpy()


def monai_network() -> torch.nn.Module:
    from monai.apps.reconstruction.networks.nets.coil_sensitivity_model import CoilSensitivityModel
    from monai.apps.reconstruction.networks.nets.complex_unet import ComplexUnet
    from monai.apps.reconstruction.networks.nets.varnet import VariationalNetworkModel

    torch.manual_seed(0)
    parts = [part(2, features=(4, 4, 8, 8, 8, 4)) for part in (CoilSensitivityModel, ComplexUnet)]
    return VariationalNetworkModel(*parts, num_cascades=2).eval()


def fastmri_network() -> torch.nn.Module:
    from fastmri.models import VarNet

    torch.manual_seed(0)
    return VarNet(num_cascades=2, sens_chans=4, sens_pools=2, chans=4, pools=2).eval()


def of_lines_alone(model: torch.nn.Module, arrays: Arrays, *options) -> ImageOf:
    lines = torch.from_numpy(arrays.mask[:, 0])[None, None, None, :, None]

    def image(kspace: np.ndarray) -> np.ndarray:
        # Its phase encoding is the last axis.
        y = torch.view_as_real(torch.from_numpy(kspace.swapaxes(1, 2).copy()))[None]
        with torch.no_grad():
            return model(y, lines, *options)[0].numpy().T

    return image


def direct_network() -> torch.nn.Module:
    from direct.data.transforms import fft2, ifft2
    from direct.nn.vsharp.vsharp import VSharpNet

    torch.manual_seed(0)
    unet = {"image_model_architecture": "UNET", "image_unet_num_filters": 4, "image_unet_num_pool_layers": 2}
    return VSharpNet(fft2, ifft2, num_steps=2, num_steps_dc_gd=2, auxiliary_steps=-1, **unet).eval()


def direct_alone(arrays: Arrays) -> ImageOf:
    model = direct_network()
    mask, maps = torch.from_numpy(arrays.mask), torch.from_numpy(arrays.maps)

    def image(kspace: np.ndarray) -> np.ndarray:
        y = torch.view_as_real(torch.from_numpy(kspace))[None]
        with torch.no_grad():
            found = model(y, torch.view_as_real(maps)[None], mask[None, None, :, :, None])
        return torch.view_as_complex(found[-1][0].contiguous()).numpy()

    return image


def deepinv_network() -> torch.nn.Module:
    models = imported("deepinv").models
    torch.manual_seed(0)
    return models.ArtifactRemoval(models.UNet(2, 2, scales=2, channels_per_scale=[4, 8])).eval()


def deepinv_alone(arrays: Arrays) -> ImageOf:
    model, deepinv = deepinv_network(), imported("deepinv")
    maps, mask = torch.from_numpy(arrays.maps), torch.from_numpy(arrays.mask).float()
    physics = deepinv.physics.MultiCoilMRI(mask=mask, coil_maps=maps[None])

    def image(kspace: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(kspace)
        with torch.no_grad():
            found = model(torch.stack([y.real, y.imag])[None], physics)[0]
        return torch.complex(*found).numpy()

    return image


# -- cases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A reconstruction by its adapter, and by the toolbox alone.

    Parameters
    ----------
    package
        What it needs.
    adapter, alone
        Both are made when they are needed.
    whitened
        Whether the toolbox gets whitened k-space.
    """

    package: str
    adapter: Callable[[], Reconstruction]
    alone: Callable[[Arrays], ImageOf]
    whitened: bool = True


def sigpy_case(name: str, **options) -> Case:
    return Case(
        "sigpy",
        lambda: SigpyApp(partial(getattr(imported("sigpy.mri.app"), name), **options)),
        lambda arrays: sigpy_alone(name, arrays, **options),
    )


def bart_case(command: str) -> Case:
    return Case("bart", lambda: CommandLine(command), lambda arrays: bart_alone(command, arrays))


def mrpro_adapter() -> Reconstruction:
    imported("mrpro")
    from mrpro.algorithms.reconstruction import RegularizedIterativeSENSEReconstruction as Sense

    return Mrpro(partial(Sense, n_iterations=ITERATIONS, regularization_weight=WEIGHT))


CASES = {
    "SigPy SenseRecon": sigpy_case("SenseRecon", lamda=WEIGHT, max_iter=ITERATIONS),
    "SigPy TotalVariationRecon": sigpy_case("TotalVariationRecon", **SPARSE),
    "SigPy L1WaveletRecon": sigpy_case("L1WaveletRecon", **SPARSE),
    "BART pics -S -l2": bart_case(f"bart pics -S -l2 -r {WEIGHT} {{kspace}} {{sens}}"),
    "BART pics -l2": bart_case(f"bart pics -l2 -r {WEIGHT} {{kspace}} {{sens}}"),
    "BART pics -S -e -l1": bart_case("bart pics -S -e -l1 -r 0.003 {kspace} {sens}"),
    "BART nlinv": bart_case("bart nlinv {kspace}"),
    "mrpro regularized SENSE": Case("mrpro", mrpro_adapter, mrpro_alone),
    "MIRTorch CG": Case("mirtorch", lambda: Mirtorch(conjugate_gradients), mirtorch_alone),
    "MONAI VarNet": Case(
        "monai",
        lambda: MonaiVarNet(monai_network()),
        lambda arrays: of_lines_alone(monai_network(), arrays),
        whitened=False,
    ),
    "fastMRI VarNet": Case(
        "fastmri",
        lambda: FastmriVarNet(fastmri_network(), CALIBRATION),
        lambda arrays: of_lines_alone(fastmri_network(), arrays, CALIBRATION),
        whitened=False,
    ),
    "DIRECT vSHARP": Case("direct", lambda: Direct(direct_network()), direct_alone),
    "deepinv ArtifactRemoval": Case("deepinv", lambda: Deepinv(deepinv_network()), deepinv_alone),
}


def scan_of(shape: tuple[int, int] = SHAPE, calibration: int = CALIBRATION) -> Acquisition:
    return simulate(shape, COILS, snr=SNR, seed=2).undersample(equispaced(shape, SPACING, calibration=calibration))


def distance(nm: NoiseMap, replicas: np.ndarray) -> tuple[float, float]:
    """σ of the map over that of replicas, mean over the object, and their difference in floors.

    The floor is √(ε² + q/4N), ε the stated error of the map, N replicas and q the relative variance of |δ|²: 1 + κ² of
    Gaussian noise, on which ε rests too; more where a network that was not trained makes other noise.
    """
    inside = foreground(nm.image).numpy()
    power = np.abs(replicas - replicas.mean(0))[:, inside] ** 2
    sigma, mapped = np.sqrt(power.sum(0) / (len(replicas) - 1)), nm.std.numpy()[inside]
    spread = np.mean(power.var(0) / power.mean(0) ** 2)
    gaussian = 1 + np.mean((nm.estimate.pseudo_variance.abs() / nm.variance).numpy()[inside] ** 2)
    stated = np.nanmean(nm.relative_error.numpy()[inside] ** 2)
    floor = np.sqrt(stated * max(1, spread / gaussian) + max(spread, gaussian) / (4 * len(replicas)))
    return float(np.mean(mapped / sigma)), float(np.sqrt(np.mean((mapped / sigma - 1) ** 2)) / floor)


def compared(case: Case, scan: Acquisition, n: int, **options) -> tuple[NoiseMap, np.ndarray]:
    """Map by `noise_map`, and replicas through the toolbox alone."""
    arrays = Arrays.of(scan, case.whitened)
    return noise_map(case.adapter(), scan, **options), arrays.replicas(case.alone(arrays), n)


def toolbox_row(name: str, found: dict) -> str:
    derivative = "none" if found["derivative"] == "replicas only" else f"`{found['derivative']}`"
    return (
        f"| {name} | {found['version']} | {derivative} | `{found['method']}` | {found['ratio']:.3f} | "
        f"{found['floors']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    scan, record = scan_of(), {}
    for name in options.only:
        found = installed(CASES[name].package)
        if found is None:
            print(f"{name}: {CASES[name].package} is not installed")
            continue
        nm, replicas = compared(CASES[name], scan, N_REPLICAS)
        ratio, floors = distance(nm, replicas)
        record[name] = {
            "version": found,
            "derivative": nm.provenance.preflight["mode"],
            "method": nm.method,
            "ratio": ratio,
            "floors": floors,
        }
        print(toolbox_row(name, record[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
