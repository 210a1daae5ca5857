"""Seconds to certified noise maps of compressed sensing: replicas in batches against what `auto` takes.

A simulated scan of 8 coils, SNR 40, Poisson disc R = 2; seconds of one thread, everything included. The error is that
of σ inside the object against one long run of replicas with another seed; its own floor is subtracted.

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[64, 56])
    parser.add_argument("--target", type=float, default=0.03)
    parser.add_argument("--reference", type=int, default=2000, help="replicas of the reference")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, method in METHODS.items():
        rows[name] = race(method, tuple(options.size), options.target, options.reference)
        print(row(name, rows[name]), flush=True)
        if options.json is not None:  # after every row: a run that is cut keeps what it has
            found = {"size": options.size, "target": options.target, "rows": rows}
            options.json.write_text(json.dumps(found, indent=1))


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
