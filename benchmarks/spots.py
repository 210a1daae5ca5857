"""Seconds of one thread to a certified σ of CG-SENSE: spots, as `auto` takes them, beside batched replicas.

    python benchmarks/spots.py [--sizes 128 256] [--accelerations 4 8] [--weights 1e-2 1e-3] [--targets 0.03 0.01]
        [--data FOLDER] [--json FILE] [--coverage SEEDS]

Simulated scans of 8 coils, Poisson disc; with a folder that has cima16_brain.npz, that one with ESPIRiT maps too.
Set-up is included: preflight, check of linearity, pilot. The real error is that of 100 random voxels inside the object
whose exact σ is computed apart, tolerance 10⁻⁵. Replicas are timed in batches, set-up included, with two solvers: that
of the reconstruction, 10⁻⁶, and one that stops at 10⁻³, the loosest that does not change σ. "Certified" compares with
the 1.1 / 4ε² replicas that certify the same target ε, "equal error" with the 1 / 4ε² whose error is the real one of
spots.

With --coverage, instead: how often, over seeds, the real error of small maps (dense truth; 64² Poisson disc, radial,
spiral and 3D radial of R = 2) is below the target and the certified error, and how many voxels that are not exact the
95 % intervals cover.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrnoise import noise_map, read
from mrnoise.acquisition import Acquisition
from mrnoise.calibration import with_coil_maps
from mrnoise.closed_form import cg_sense_std, cg_sense_voxel_variance
from mrnoise.estimators import Plan, spots
from mrnoise.estimators.key import Key
from mrnoise.foreground import foreground
from mrnoise.linearization import image_of
from mrnoise.reconstruction import CgSense
from mrnoise.result.noise_map import NoiseMap
from mrnoise.sampling import sampling_mask
from mrnoise.sampling.named_trajectories import sampling_trajectory
from mrnoise.simulation import simulate

COILS, SNR, SEED, REAL = 8, 50, 1, "cima16_brain.npz"
# Voxels that tell the real error, and how well each is known.
CHECKED, CHECKED_ERROR = 100, 1e-6
SMALL = (64, 64)
ALONG: dict[str, tuple[int, ...]] = {"radial": (48, 44), "spiral": (46, 50), "radial_3d": (14, 16, 12)}
# Replicas that are timed; how many more than expected it takes to certify, measured.
TIMED, CERTIFYING, LOOSE = 12, 1.1, 1e-3
HEAD = (
    "| scan | R | λ | target | voxels | certified | real error | seconds | one replica (ms) "
    "| certified, relative to replicas (10⁻⁶; 10⁻³) | equal error, relative to replicas (10⁻⁶; 10⁻³) |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 256])
    parser.add_argument("--accelerations", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--weights", type=float, nargs="*", default=[1e-2, 1e-3])
    parser.add_argument("--targets", type=float, nargs="*", default=[0.03, 0.01])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--coverage", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.coverage:
        print_coverage(options.accelerations, options.weights, options.targets, options.coverage)
        return
    print(HEAD + "\n|" + "---|" * (HEAD.count("|") - 1))
    record = []
    for name, scan in scans(options):
        for weight in options.weights:
            for row in rows(scan, weight, options.targets):
                record.append({"scan": name, "R": round(scan.acceleration, 2), "weight": weight, **row})
                print(line(record[-1]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def scans(options: argparse.Namespace) -> Iterator[tuple[str, Acquisition]]:
    """Name and scan."""
    for r in options.accelerations:
        for n in options.sizes:
            mask = sampling_mask("poisson", r, (n, n), SEED, None)
            yield f"simulated {n}²", simulate((n, n), COILS, snr=SNR, mask=mask, seed=SEED)
        if options.data:
            scan = with_coil_maps(read(options.data / REAL))
            yield "brain, 16 coils", scan.undersample(sampling_mask("poisson", r, scan.spatial_shape, SEED, None))


def rows(scan: Acquisition, weight: float, targets: list[float]) -> Iterator[dict[str, Any]]:
    """What was measured, a target a row."""
    reconstruction = CgSense(weight)
    setup, replica = replicas(reconstruction, scan)
    _, loose = replicas(CgSense(weight, tolerance=LOOSE), scan)
    places = truth = None
    for target in targets:
        began = time.process_time()
        nm = noise_map(reconstruction, scan, target_error=target)
        seconds = time.process_time() - began
        if truth is None:
            inside = foreground(nm.image).nonzero()
            order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(0))
            places = inside[order[:CHECKED]]
            truth = exact(reconstruction, scan, places)
        assert places is not None
        error = float(((nm.variance[tuple(places.T)] / truth).sqrt() - 1).square().mean().sqrt())
        certifying = [setup + CERTIFYING * cost / (4 * target**2) for cost in (replica, loose)]
        equal = [setup + cost / (4 * error**2) for cost in (replica, loose)]
        yield {
            "method": nm.method,
            "target": target,
            "voxels": nm.n_samples,
            "certified": nm.certified_error,
            "real": error,
            "seconds": seconds,
            "replica": [replica, loose],
            "certified_relative": [seconds / other for other in certifying],
            "equal_relative": [seconds / other for other in equal],
        }


def replicas(reconstruction: CgSense, scan: Acquisition) -> tuple[float, float]:
    """Seconds of the set-up of a map by replicas, and of a replica in a batch."""
    spent = []
    for n in (2, 2 + TIMED):
        began = time.process_time()
        noise_map(reconstruction, scan, method="monte_carlo", n_samples=n)
        spent.append(time.process_time() - began)
    each = (spent[1] - spent[0]) / TIMED
    return max(spent[0] - 2 * each, 0.0), each


def exact(reconstruction: CgSense, scan: Acquisition, places: Tensor) -> Tensor:
    """Variance of single voxels, to a tighter tolerance than spots."""
    variance = cg_sense_voxel_variance(reconstruction, scan, CHECKED_ERROR)
    assert variance is not None
    return torch.cat([variance(some) for some in places.split(4)])


@dataclass
class Diagonal:
    """Independent voxels of a given variance: L v = σ v."""

    variance: Tensor
    complex_linear: bool = True
    noise_dtype: torch.dtype = torch.complex128
    image_dtype: torch.dtype = torch.complex128
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def image_shape(self) -> tuple[int, ...]:
        """That of the noise, too."""
        return tuple(self.variance.shape)

    noise_shape = image_shape

    def apply(self, noise: Tensor) -> Tensor:
        """L v, and Lᵀ w."""
        return self.variance.sqrt() * noise

    adjoint = replicas = apply


def print_coverage(accelerations: list[int], weights: list[float], targets: list[float], seeds: int) -> None:
    """A table, a map and a target a row."""
    print("| scan | λ | target | voxels | real error | below the target | below the certified error | covered |")
    print("|---|---|---|---|---|---|---|---|")
    for name, scan in small_scans(accelerations):
        for weight in weights:
            inside = foreground(image_of(CgSense(weight), scan))
            operator = Diagonal(cg_sense_std(scan, weight).square())
            for target in targets:
                found = [coverage(operator, inside, target, seed) for seed in range(seeds)]
                n, real, below, kept, covered = (sum(column) / seeds for column in zip(*found, strict=True))
                print(
                    f"| {name} | {weight:g} | {target:.1%} | {n:.0f} | {real:.2%} | {below:.0%} | {kept:.0%} "
                    f"| {covered:.1%} |",
                    flush=True,
                )


def small_scans(accelerations: list[int]) -> Iterator[tuple[str, Acquisition]]:
    """Name and scan, small enough for a dense truth."""
    for r in accelerations:
        mask = sampling_mask("poisson", r, SMALL, SEED, None)
        yield f"Poisson disc, R = {r}", simulate(SMALL, COILS, snr=SNR, mask=mask, seed=SEED)
    for name, shape in ALONG.items():
        trajectory = sampling_trajectory(name, 2, shape)
        yield f"{name}, R = 2", simulate(shape, COILS, snr=SNR, trajectory=trajectory, seed=SEED)


def coverage(operator: Diagonal, inside: Tensor, target: float, seed: int) -> tuple[float, ...]:
    """Voxels, real error, whether that is below the target and the certified error, and the part of voxels covered."""
    estimate = spots(operator, Plan(target_error=target, region=inside), key=Key(seed))
    real = float(((estimate.variance / operator.variance).sqrt() - 1)[inside].square().mean().sqrt())
    low, high = NoiseMap(operator.variance, estimate).confidence_interval(0.95, "variance")
    guessed = inside & (estimate.variance_error > 0)
    covered = ((low <= operator.variance) & (operator.variance <= high))[guessed].double().mean()
    return estimate.n_samples, real, real <= target, real <= float(estimate.certified_error), float(covered)


def line(row: dict[str, Any]) -> str:
    """Of the table."""

    def pair(values: list[float], unit: str) -> str:
        return "; ".join(format(value, unit) for value in values)

    return (
        f"| {row['scan']} | {row['R']:g} | {row['weight']:g} | {row['target']:.0%} | {row['voxels']} ({row['method']}) "
        f"| {row['certified']:.2%} | {row['real']:.2%} | {row['seconds']:.1f} "
        f"| {pair([1000 * cost for cost in row['replica']], '.0f')} | {pair(row['certified_relative'], '.3f')} "
        f"| {pair(row['equal_relative'], '.3f')} |"
    )


if __name__ == "__main__":
    main()
