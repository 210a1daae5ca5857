"""Noise maps of compressed sensing: seconds until they are certified, and first order against replicas.

A simulated scan of 8 coils, SNR 40, Poisson disc R = 2. Seconds are of one thread, everything included: replicas in
batches against what `auto` takes; the error is that of σ inside the object against one long run of replicas with
another seed, whose own floor is subtracted. Then sketches (in double precision, where differences of a hundred
iterations tell more than round-off) against 5,000 replicas, on a smaller scan.

python benchmarks/compressed_sensing.py [--size 64 56] [--json benchmarks/results/compressed_sensing.json]
"""

from __future__ import annotations

import argparse
import json
import time
from math import sqrt
from pathlib import Path

import torch

import mrnoise
from mrnoise.foreground import foreground
from mrnoise.reconstruction import L1Wavelet, Reconstruction, TotalVariation
from mrnoise.sampling import poisson_disc
from mrnoise.simulation import simulate

METHODS: dict[str, Reconstruction] = {
    "total variation, λ = 3e-3": TotalVariation(3e-3),
    "total variation, λ = 1e-2": TotalVariation(1e-2),
    "wavelets, λ = 3e-3": L1Wavelet(3e-3),
    "wavelets, λ = 1e-2": L1Wavelet(1e-2),
}


# Where first order nearly holds, and where it does not.
COMPARED: dict[str, Reconstruction] = {
    "total variation, λ = 3e-3": TotalVariation(3e-3),
    "wavelets, λ = 1e-3": L1Wavelet(1e-3),
    "wavelets (db2), λ = 1e-3, 15 iterations": L1Wavelet(1e-3, 15, "db2", 2),
    "total variation, λ = 3e-3, 15 iterations": TotalVariation(3e-3, 15),
}
COMPARED_SIZE, COMPARED_SAMPLES, COMPARED_REPLICAS = (40, 34), (300, 1000), 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[64, 56])
    parser.add_argument("--target", type=float, default=0.03)
    parser.add_argument("--reference", type=int, default=2000, help="replicas of the reference")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(options.json.read_text()) if options.json is not None and options.json.exists() else {}
    found = {"size": options.size, "target": options.target, "rows": {}, "compared": {}}
    if all(kept.get(name) == found[name] for name in ("size", "target")):
        found |= kept  # a run that was cut goes on

    def keep() -> None:
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=1) + "\n")

    for name, method in METHODS.items():
        if name not in found["rows"]:
            found["rows"][name] = race(method, tuple(options.size), options.target, options.reference)
            keep()
        print(row(name, found["rows"][name]), flush=True)
    for name, method in COMPARED.items():
        if name not in found["compared"]:
            found["compared"][name] = compared(method)
            keep()
        for probes, of_probes in found["compared"][name].items():
            print(compared_row(name, probes, of_probes), flush=True)


def compared(method: Reconstruction) -> dict[str, dict[str, float]]:
    """For each number of probes σ of the sketch over that of replicas inside the object, and what sampling explains."""
    size = COMPARED_SIZE
    scan = simulate(size, 8, mask=poisson_disc(size, 2, calibration=size[0] // 8), snr=40.0, seed=1)
    replicas = mrnoise.noise_map(method, scan, method="monte_carlo", n_samples=COMPARED_REPLICAS, seed=77)
    inside = foreground(replicas.image)
    spread = float((1 + replicas.estimate.impropriety[inside].square()).mean())
    double, found = scan.replace(kspace=scan.kspace.to(torch.complex128)), {}
    for n in COMPARED_SAMPLES:
        ratio = (mrnoise.noise_map(method, double, method="sketch", n_samples=n).std / replicas.std)[inside]
        found[str(n)] = {
            "ratio": float(ratio.mean()),
            "difference": float((ratio - 1).square().mean().sqrt()),
            "floor": sqrt(spread * (0.25 / n + 0.25 / COMPARED_REPLICAS)),
        }
    return found


def compared_row(name: str, probes: str, found: dict[str, float]) -> str:
    """Of a table."""
    words = f"| {name} | {probes} | {found['ratio']:.3f} | {found['difference']:.2%} | {found['floor']:.2%} "
    return f"{words}| {found['difference'] / found['floor']:.2f} |"


def race(method: Reconstruction, size: tuple[int, ...], target: float, n_reference: int) -> dict[str, float | str]:
    """Seconds and real errors of both."""
    scan = simulate(size, 8, mask=poisson_disc(size, 2, calibration=size[0] // 8), snr=40.0, seed=1)
    reference = mrnoise.noise_map(method, scan, method="monte_carlo", n_samples=n_reference, seed=77)
    inside = foreground(reference.image)
    found: dict[str, float | str] = {}
    for name in ("monte_carlo", "auto"):
        clock = time.process_time()
        nm = mrnoise.noise_map(method, scan, method=name, target_error=target)
        found[f"{name} seconds"] = time.process_time() - clock
        square = float((nm.std / reference.std - 1)[inside].square().mean())
        floor = float((1 + reference.estimate.impropriety[inside].square()).mean()) / (4 * n_reference)
        found[f"{name} error"] = sqrt(max(square - floor, 0))
        found[f"{name} samples"] = nm.n_samples
        found[f"{name} method"] = nm.method
    return found


def row(name: str, found: dict[str, float | str]) -> str:
    """Of a table."""
    replicas, auto = (float(found[f"{name} seconds"]) for name in ("monte_carlo", "auto"))
    errors = " | ".join(f"{100 * float(found[f'{name} error']):.1f} %" for name in ("monte_carlo", "auto"))
    counts = f"{found['monte_carlo samples']} | {found['auto samples']}"
    return f"| {name} | {found['auto method']} | {counts} | {errors} | {auto / replicas:.2f} |"


if __name__ == "__main__":
    main()
