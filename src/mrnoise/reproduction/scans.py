"""Scans of the evaluation: the protocol of the paper on held-out slices, SENSE on a phantom, a measured scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition, NoiseCovariance
from mrnoise.acquisition.noise_covariance import noise_covariance_from_scan
from mrnoise.calibration import with_coil_maps
from mrnoise.foreground import foreground
from mrnoise.fourier import central
from mrnoise.io import read
from mrnoise.linearization import image_of
from mrnoise.reconstruction import ZeroFilled
from mrnoise.sampling import sampling_mask
from mrnoise.simulation import random_noise_covariance, simulate
from mrnoise.training import ScanSettings, SimulatedScans, read_anatomy, read_recipe

# σ₀ of each real channel of k-space, where the 95th percentile of the zero-filled SENSE magnitude is 1.
SIGMA, PERCENTILE = 0.001792, 0.95
SEED, NOISE_SEED = 2026, 1
# Simulated slices are free of noise before that of the protocol is added.
NO_NOISE = (1e6, 1e6)
CONDITION = 20.0
SENSE_SNR, SENSE_SEED = 50.0, 0
NOISE_SCAN, BRAIN_SCAN = "mroptimum16_phantom_with_noise.npz", "cima16_brain.npz"


@dataclass(frozen=True, eq=False)
class EvaluationScan:
    """A scan, where its object is, and what a perfect reconstruction would show.

    Parameters
    ----------
    acquisition
        One slice.
    inside
        Bool, (y, x): the object.
    target
        Image without noise, (y, x); ``None`` where nobody knows.
    """

    acquisition: Acquisition
    inside: Tensor
    target: Tensor | None = None


def anatomy_file(anatomy: str) -> str:
    """Name of the file of this anatomy in the data folder."""
    return read_recipe(f"unet-{anatomy}").data.file


_anatomy = cache(read_anatomy)


def paper_scan(
    anatomy: str,
    data: Path | None,
    matrix: tuple[int, int],
    n_coils: int,
    *,
    acceleration: int = 8,
    pattern: str = "poisson",
    alpha: float = 1.0,
    covariance: str = "white",
    coil_maps: str = "given",
) -> EvaluationScan:
    """Middle slice of the test block at α times the noise level of the paper (doi:10.48550/arXiv.2505.02007).

    Parameters
    ----------
    anatomy
        ``"brain"`` or ``"knee"``.
    data
        Folder with the anatomy; ``None``: the generated phantom.
    matrix, n_coils
        k-space (k1, k0) and coils.
    acceleration, pattern
        As `mrnoise.sampling.sampling_mask` takes them.
    alpha
        Factor on σ₀ = 0.001792, the standard deviation of each real component of k-space noise where the 95th
        percentile of the zero-filled SENSE magnitude is 1.
    covariance
        ``"white"``; ``"correlated"``: random, of condition number 20; ``"measured"``: of the noise scan in the
        data folder. All have the same mean variance.
    coil_maps
        ``"given"``, or ``"estimated"`` from the calibration lines.
    """
    found = _anatomy(None if data is None else data / anatomy_file(anatomy))
    settings = ScanSettings((matrix,), (n_coils, n_coils), (acceleration,), (pattern,), NO_NOISE, augment=False)
    scans = SimulatedScans(found, "test", settings, seed=SEED)
    example = scans.example(len(scans) // 2)
    psi = _unit_covariance(covariance, n_coils, data)
    scan = example.acquisition.replace(noise_covariance=psi)
    scale = float(image_of(ZeroFilled(), scan).abs().quantile(PERCENTILE))
    scan = scan.replace(noise_covariance=psi.scaled(2 * (SIGMA * alpha * scale) ** 2, f"α = {alpha:g}"))
    unit = torch.randn(scan.kspace.shape, dtype=scan.kspace.dtype, generator=torch.Generator().manual_seed(NOISE_SEED))
    scan = scan.replace(kspace=scan.kspace + scan.colour(unit))
    if coil_maps == "estimated":
        scan = scan.replace(coil_maps=None)
    return EvaluationScan(scan, foreground(example.target), example.target)


def regular_scan(
    data: Path | None, matrix: tuple[int, int], n_coils: int, *, pattern: str, acceleration: int
) -> EvaluationScan:
    """Head phantom with correlated coils, sampled on a lattice without calibration lines, for SENSE."""
    mask = sampling_mask(pattern, acceleration, matrix, calibration=0)
    scan = simulate(matrix, n_coils, snr=SENSE_SNR, mask=mask, seed=SENSE_SEED)
    full = simulate(matrix, n_coils, snr=SENSE_SNR, seed=SENSE_SEED)
    return EvaluationScan(scan, foreground(image_of(ZeroFilled(), full)))


def measured_scan(
    data: Path | None, matrix: tuple[int, int], n_coils: int, *, pattern: str, acceleration: int
) -> EvaluationScan:
    """Centre of k-space of the measured brain, coil maps by ESPIRiT, undersampled; Ψ from its background."""
    assert data is not None
    scan = read(data / BRAIN_SCAN)
    psi = scan.noise_covariance
    cropped = Acquisition(central(scan.kspace, matrix), psi, source=f"{scan.source}, centre")
    cropped = with_coil_maps(cropped)
    inside = foreground(image_of(ZeroFilled(), cropped))
    return EvaluationScan(cropped.undersample(sampling_mask(pattern, acceleration, matrix, SEED)), inside)


SCANS: Mapping[str, Callable[..., EvaluationScan]] = MappingProxyType(
    {"paper": paper_scan, "regular": regular_scan, "measured": measured_scan}
)


def make_scan(parameters: Mapping[str, Any], data: Path | None, device: str = "cpu") -> EvaluationScan:
    """The scan of a cell: ``kind`` is one of `SCANS`, the rest are its arguments."""
    options = {name: value for name, value in parameters.items() if name != "kind"}
    options["matrix"] = tuple(options["matrix"])
    made = SCANS[parameters["kind"]](data=data, **options)
    scan = made.acquisition
    maps = None if scan.coil_maps is None else scan.coil_maps.to(device)
    scan = scan.replace(kspace=scan.kspace.to(device), mask=scan.mask.to(device), coil_maps=maps)
    return EvaluationScan(scan, made.inside, made.target)


def _unit_covariance(name: str, n_coils: int, data: Path | None) -> NoiseCovariance:
    """Ψ with a mean variance of 1."""
    if name == "white":
        return NoiseCovariance(torch.eye(n_coils, dtype=torch.complex128), source="white")
    if name == "correlated":
        psi = random_noise_covariance(n_coils, CONDITION, SEED)
    else:
        assert data is not None
        with np.load(data / NOISE_SCAN) as arrays:
            psi = noise_covariance_from_scan(torch.from_numpy(arrays["noise"][:n_coils]))
    return psi.scaled(1 / psi.mean_variance, "mean variance 1")
