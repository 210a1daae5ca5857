"""Noise maps of the shipped networks: sketch against replicas, and what a probe costs.

    python benchmarks/networks.py agreement --data FOLDER --json FILE [--only NAME ...]
    python benchmarks/networks.py cost --json FILE

agreement: the protocol of the paper (doi:10.48550/arXiv.2505.02007) at α = 1. A held-out slice of each anatomy, 40×36,
6 coils, Poisson disc R = 8, coil maps given, white noise of σ₀ = 0.001792 in each real channel of k-space where the
95th percentile of the zero-filled magnitude is 1; sketch with S = 1000, replicas with N = 3000, their difference inside
the object in sampling floors. Networks already in the file with the same weights are not repeated.

cost: a 256×256 scan with 8 coils, random 1D R = 4, mapped with S = 100 by every brain network, each in a process of its
own. Peak memory above that of one reconstruction, and seconds a probe over seconds a reconstruction.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from mrnoise import noise_map
from mrnoise.foreground import foreground
from mrnoise.linearization import image_of
from mrnoise.networks import pretrained
from mrnoise.networks.weights import ANATOMIES, SHIPPED
from mrnoise.reconstruction import ZeroFilled
from mrnoise.reproduction.scans import paper_scan
from mrnoise.result.ratio import compare

S, N, MATRIX, COILS, R = 1000, 3000, (40, 36), 6, 8
COST_MATRIX, COST_COILS, COST_PROBES = (256, 256), 8, 100


def agreement(name: str, anatomy: str, data: Path | None) -> dict:
    reconstruction = pretrained(name, anatomy)
    scan = paper_scan(anatomy, data, MATRIX, COILS, acceleration=R).acquisition
    sketch = noise_map(reconstruction, scan, method="sketch", n_samples=S, seed=1)
    replicas = noise_map(reconstruction, scan, method="monte_carlo", n_samples=N, seed=2)
    found = compare(sketch, replicas, foreground(image_of(ZeroFilled(), scan)))
    return {
        "weights": repr(reconstruction),
        "mode": sketch.provenance.preflight["mode"],
        "nrmse": found.nrmse,
        "floor": found.floor,
        "paper_nrmse": found.paper_nrmse,
        "correlation": found.correlation,
        "ratio": found.ratio,
        "seconds": [sketch.provenance.seconds, replicas.provenance.seconds],
    }


def run_agreement(options: argparse.Namespace) -> None:
    record = json.loads(options.json.read_text()) if options.json.exists() else {"networks": {}}
    print("| network | anatomy | derivative | masked NRMSE | floor | in floors | paper's NRMSE | correlation | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for anatomy in ANATOMIES:
        for name in SHIPPED:
            key = f"{name}-{anatomy}"
            if options.only and key not in options.only:
                continue
            known = record["networks"].get(key)
            if known is None or known["weights"] != repr(pretrained(name, anatomy)):
                known = agreement(name, anatomy, options.data)
            record["networks"][key] = known
            record |= {"machine": machine(), "samples": [S, N], "shape": MATRIX, "coils": COILS, "acceleration": R}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(record, indent=1) + "\n")
            print(agreement_row(key, known), flush=True)


def agreement_row(key: str, found: dict) -> str:
    name, anatomy = key.split("-")
    return (
        f"| {name} | {anatomy} | {found['mode']} | {100 * found['nrmse']:.2f} % | {100 * found['floor']:.2f} % | "
        f"{found['nrmse'] / found['floor']:.2f} | {100 * found['paper_nrmse']:.2f} % | {found['correlation']:.4f} | "
        f"{found['ratio']:.4f} |"
    )


def cost_case(name: str) -> dict:
    from mrnoise.sampling import random_1d
    from mrnoise.simulation import simulate

    mask = random_1d(COST_MATRIX, 4, 20, seed=0)
    scan = simulate(COST_MATRIX, COST_COILS, snr=40, mask=mask, seed=0)
    reconstruction = pretrained(name, "brain")
    g = reconstruction.bind(scan)
    with torch.no_grad():
        g(scan.kspace)
        one = min(timed(lambda: g(scan.kspace)) for _ in range(3))
    before = peak_mib()
    timestamps = []
    noise_map(
        reconstruction,
        scan,
        method="sketch",
        n_samples=COST_PROBES,
        seed=0,
        progress=lambda *call: timestamps.append((call[2], time.perf_counter())),
    )
    (first, start), (last, end) = timestamps[0], timestamps[-1]
    return {
        "reconstruction_seconds": one,
        "probe": (end - start) / (last - first) / one,
        "reconstruction_peak_mib": before,
        "map_peak_mib": peak_mib(),
    }


def run_cost(options: argparse.Namespace) -> None:
    shape = f"{COST_MATRIX[0]}×{COST_MATRIX[1]}"
    print(f"{shape}, {COST_COILS} coils, S = {COST_PROBES}\n")
    print("| network | one reconstruction | a probe costs | peak, one reconstruction | peak, map | above |")
    print("|---|---|---|---|---|---|")
    networks = {}
    for name in options.only or SHIPPED:
        command = [sys.executable, __file__, "cost-case", name]
        networks[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(cost_row(name, networks[name]), flush=True)
    record = {
        "machine": machine(),
        "shape": COST_MATRIX,
        "coils": COST_COILS,
        "samples": COST_PROBES,
        "networks": networks,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n")


def cost_row(name: str, found: dict) -> str:
    above = found["map_peak_mib"] - found["reconstruction_peak_mib"]
    return (
        f"| {name} | {found['reconstruction_seconds']:.2f} s | {found['probe']:.2f} | "
        f"{found['reconstruction_peak_mib']:.0f} MiB | {found['map_peak_mib']:.0f} MiB | {above:.0f} MiB |"
    )


def timed(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> dict:
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("agreement", "cost", "cost-case"))
    parser.add_argument("case", nargs="?")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="+")
    options = parser.parse_args()
    if options.what == "cost-case":
        print(json.dumps(cost_case(options.case)))
    elif options.json is None:
        parser.error("--json FILE is needed for the result")
    else:
        (run_agreement if options.what == "agreement" else run_cost)(options)


if __name__ == "__main__":
    main()
