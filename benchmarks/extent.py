"""σ, SNR and g of what was encoded: against the scan on its own matrix, and replicas through SigPy and BART.

python benchmarks/extent.py [--replicas 1000]
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from mrnoise import Acquisition, NoiseMap, noise_map
from mrnoise.foreground import foreground
from mrnoise.reconstruction import CgSense
from mrnoise.sampling.extent import box
from mrnoise.simulation import simulate

SHAPE, COILS, SNR = (36, 28), 6, 40
WEIGHT = 0.02
ITERATIONS = 40
FULL = simulate(SHAPE, COILS, snr=SNR, seed=1)
# First sample that was encoded and the one behind the last, along k1 and k0.
BOXES = {
    "padding": ((7, 29), (3, 25)),
    "phase resolution": ((7, 29), (0, 28)),
    "ellipse": ((7, 29), (3, 25)),
    "partial Fourier": ((14, 36), (0, 28)),
    "asymmetric echo": ((0, 36), (6, 28)),
}
# Every line, and one of three: the first and the last line are among them, so that no k-space lies beyond.
SPACINGS = (1, 3)


def encoded(kind: str) -> Tensor:
    """The part of k-space that was encoded, as the scanner knows it."""
    rows, columns = (slice(*ends) for ends in BOXES[kind])
    region = torch.zeros(SHAPE, dtype=torch.bool)
    region[rows, columns] = True
    if kind == "ellipse":
        k1, k0 = ((torch.arange(n) + 0.5 - n / 2) / half for n, half in zip(SHAPE, (11, 11), strict=True))
        region &= k1[:, None].square() + k0.square() <= 1
    return region


def scan(kind: str, spacing: int) -> Acquisition:
    """As it is read: zeros say what was not acquired."""
    lines = (torch.arange(SHAPE[0]) - BOXES[kind][0][0]) % spacing == 0
    kspace = FULL.kspace * (encoded(kind) & lines[:, None])
    return Acquisition(kspace, FULL.noise_covariance, coil_maps=FULL.coil_maps)


def on_own_matrix(acq: Acquisition, region: Tensor) -> Acquisition:
    """The same samples without zeros around them."""
    place = (..., *(slice(*ends) for ends in box(region)))
    mask = acq.mask[place]
    return Acquisition(acq.kspace[place], acq.noise_covariance, mask, resampled(acq.coil_maps, mask.shape))


def resampled(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Smooth values on another grid of the same field of view."""
    places = [(torch.arange(m) - m // 2) / m * n + n // 2 for n, m in zip(values.shape[-2:], shape, strict=True)]
    y, x = torch.meshgrid(*places, indexing="ij")
    grid = torch.stack([2 * x / (values.shape[-1] - 1) - 1, 2 * y / (values.shape[-2] - 1) - 1], -1)

    def cubic(part: Tensor) -> Tensor:
        flat = part.reshape(-1, 1, *part.shape[-2:]).float()
        every = grid.float().expand(len(flat), -1, -1, -1)
        return grid_sample(flat, every, "bicubic", "border", align_corners=True).reshape(*part.shape[:-2], *shape)

    return torch.complex(cubic(values.real), cubic(values.imag)) if values.is_complex() else cubic(values)


# -- reconstructions of others --------------------------------------------------------------------------------


def replicas(acq: Acquisition, n: int, seed: int = 0) -> np.ndarray:
    """K-space with fresh noise of covariance Ψ, (n, *k-space)."""
    rng = np.random.default_rng(seed)
    unit = rng.standard_normal((2, n, *acq.kspace.shape)) / 2**0.5
    factor = np.linalg.cholesky(acq.noise_covariance.matrix.numpy())
    noise = np.einsum("cd,nd...->nc...", factor, unit[0] + 1j * unit[1])
    return acq.kspace.numpy() + noise * acq.mask.numpy()


def whitened(acq: Acquisition, values: np.ndarray) -> np.ndarray:
    """White noise of the mean coil variance, (..., coil, *spatial)."""
    psi = acq.noise_covariance.matrix.numpy()
    matrix = np.linalg.inv(np.linalg.cholesky(psi)) * (np.trace(psi).real / len(psi)) ** 0.5
    flat = values.reshape(*values.shape[: -acq.spatial_dims], -1)
    return (matrix @ flat).reshape(values.shape).astype(np.complex64)


def sigpy_images(acq: Acquisition, region: Tensor, kspace: np.ndarray) -> np.ndarray:
    """Least squares for the samples of a region, (n, coil, [k2,] k1, k0) → (n, [z,] y, x)."""
    from sigpy import linop
    from sigpy.app import LinearLeastSquares

    samples, maps, axes = whitened(acq, kspace), whitened(acq, acq.coil_maps.numpy()), range(-acq.spatial_dims, 0)
    region = linop.Multiply((len(samples), 1, *acq.spatial_shape), region.numpy().astype(np.complex64))
    image = linop.IFFT(region.oshape, axes) * region
    coils = linop.FFT(samples.shape, axes) * linop.Multiply(image.oshape, maps)
    mask = linop.Multiply(samples.shape, acq.mask.numpy().astype(np.complex64))
    app = LinearLeastSquares(mask * coils * image, samples, lamda=WEIGHT, max_iter=ITERATIONS, show_pbar=False)
    return np.asarray(image(app.run()))[:, 0]


def bart_images(acq: Acquisition, kspace: np.ndarray) -> np.ndarray:
    """Least squares where all of k-space was encoded, (n, coil, k1, k0) → (n, y, x).

    Of a matrix of even length: of odd ones `pics` of BART 0.8 turns the phase.
    """
    with tempfile.TemporaryDirectory() as folder:
        # From the last of BART's dimensions in use, 10, frames, to the first: coils are 3.
        write_cfl(Path(folder, "kspace"), whitened(acq, kspace)[:, None, None, None, None, None, None, :, None])
        write_cfl(Path(folder, "maps"), whitened(acq, acq.coil_maps.numpy())[:, None])
        options = f"-w 1 -l2 -r {WEIGHT} -i {ITERATIONS}".split()
        subprocess.run(
            ["bart", "pics", *options, "kspace", "maps", "image"], cwd=folder, check=True, capture_output=True
        )
        return read_cfl(Path(folder, "image")).reshape(len(kspace), *acq.spatial_shape)


def write_cfl(path: Path, values: np.ndarray) -> None:
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, values.shape[::-1])) + "\n")
    values.astype(np.complex64).tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> np.ndarray:
    shape = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape[::-1])


# -- comparisons ----------------------------------------------------------------------------------------------


def own_ratios(found: NoiseMap, own: NoiseMap) -> dict[str, float]:
    """Median over the object of σ, SNR and g over those of the map on its own matrix."""
    shape, inside = own.image.shape, foreground(own.image)
    voxels = (found.std.numel() / own.std.numel()) ** 0.5  # orthonormal transforms of different length
    pairs = {
        "σ": (voxels * found.std, own.std),
        "SNR": (found.snr, own.snr),
        "g": (found.g_factor, own.g_factor),
    }
    return {name: float((resampled(a, shape) / b)[inside].median()) for name, (a, b) in pairs.items()}


def replica_errors(found: NoiseMap, images: np.ndarray) -> dict[str, tuple[float, float]]:
    """Root-mean-square error over the object, relative, and its floor, of σ and of SNR.

    σ of n replicas is known to √(1/4n), that along the phase of the image, and with it SNR, to √(1/2n).
    """
    inside = foreground(found.image).numpy()
    n, sampled = len(images), float(found.relative_error.square()[inside].mean())
    mean = images.mean(0)
    along = (images * np.exp(-1j * np.angle(mean))).real.std(0, ddof=1)
    pairs = {
        "σ": (found.std.numpy() / images.std(0, ddof=1), (1 / (4 * n) + sampled) ** 0.5),
        "SNR": (found.snr.numpy() * along / np.abs(mean), (1 / (2 * n) + 2 * sampled) ** 0.5),
    }
    return {name: (float(np.sqrt(np.mean((ratio[inside] - 1) ** 2))), floor) for name, (ratio, floor) in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=1000)
    n = parser.parse_args().replicas
    print(f"{SHAPE[0]}×{SHAPE[1]}, {COILS} coils, SNR {SNR}, λ = {WEIGHT:g}; {n} replicas\n")
    print("| encoded | spacing | σ over own | SNR | g | SigPy, σ | SNR | BART on own, σ | SNR |")
    print("|---" * 9 + "|")
    for kind, spacing in itertools.product(BOXES, SPACINGS):
        acq, region = scan(kind, spacing), encoded(kind)
        own_acq = on_own_matrix(acq, region)
        found, own = (noise_map(CgSense(WEIGHT), one, n_samples=n) for one in (acq, own_acq))
        cells = [f"{ratio:.3f}" for ratio in own_ratios(found, own).values()]
        cells += written(replica_errors(found, sigpy_images(acq, region, replicas(acq, n))))
        if kind == "ellipse" or shutil.which("bart") is None:  # of an ellipse there is no matrix without corners
            cells += ["–", "–"]
        else:
            cells += written(replica_errors(own, bart_images(own_acq, replicas(own_acq, n))))
        print(f"| {kind} | {spacing} | {' | '.join(cells)} |", flush=True)


def written(errors: dict[str, tuple[float, float]]) -> list[str]:
    return [f"{100 * error:.1f} ({100 * floor:.1f}) %" for error, floor in errors.values()]


if __name__ == "__main__":
    main()
