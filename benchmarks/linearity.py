"""First-order noise against the nonlinear truth, from high to low SNR.

    python benchmarks/linearity.py [--networks NAME ...] [--snr SNR ...] [--json FILE]

A simulated head, 48×44, 6 coils, every third line and 10 for calibration (net R = 2.09), reconstructed by shipped brain
networks. At every SNR (mean over the head of |x| over the total σ of the fully sampled optimal combination):

- the truth, σ of N replicas, against the first-order σ from a sketch of N/4 probes. The error of the first-order σ is
  ½ √(Σ(V - V₁)² / ΣV₁²) over the object, as in the verdict, with what sampling puts into it removed;
- the verdict of `noise_map` from its few replicas.

At SNR 5 also `nonlinear` with 200 pairs of other noise: its difference from the truth beside the sampling floor, how
often its 95 % interval holds the truth (which has an error of its own: √(200/N) of that of the map), and what it gains
over `monte_carlo` at equal cost, where a jvp counts as one reconstruction: the ratio of squared errors over that of the
numbers of products. There N is ``--low-replicas``, elsewhere ``--replicas``.

Rows that are in the file already, with the same N and weights, are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import torch

from mrnoise import NoiseMap, noise_map
from mrnoise.foreground import foreground
from mrnoise.networks import pretrained
from mrnoise.result.ratio import compare
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE, COILS, SPACING, CALIBRATION = (48, 44), 6, 3, 10
SNRS = (200, 50, 20, 10, 5, 3)
NETWORKS = ("unet", "n2r", "varnet")
LOW_SNR, PAIRS = 5, 200


def scan(snr: float):
    return simulate(SHAPE, COILS, snr=snr, mask=equispaced(SHAPE, SPACING, CALIBRATION), seed=1)


def error_of_first_order(first: NoiseMap, truth: NoiseMap, inside: torch.Tensor) -> float:
    """½ √(Σ(V - V₁)² / ΣV₁²), the sampling variance of both maps removed."""
    difference = (truth.variance - first.variance)[inside].square()
    sampling = (truth.estimate.variance_error.square() + first.estimate.variance_error.square())[inside]
    power = first.variance[inside].square().sum()
    return 0.5 * float(((difference - sampling).sum() / power).clamp_min(0).sqrt())


def sweep_point(name: str, snr: float, replicas: int) -> tuple[dict, NoiseMap]:
    reconstruction, acquisition = pretrained(name), scan(snr)
    first = noise_map(reconstruction, acquisition, method="sketch", n_samples=replicas // 4, seed=1)
    truth = noise_map(reconstruction, acquisition, method="monte_carlo", n_samples=replicas, seed=2)
    inside = foreground(first.image)
    found = {
        "error": error_of_first_order(first, truth, inside),
        "ratio": float((truth.variance[inside].sum() / first.variance[inside].sum()).sqrt()),
        "departure": first.linearity.worst.departure,
        "linearity": first.linearity.describe(),
    }
    return found, truth


def low_snr_point(name: str, truth: NoiseMap) -> dict:
    reconstruction, acquisition = pretrained(name), scan(LOW_SNR)
    inside = foreground(truth.image)
    ours = noise_map(reconstruction, acquisition, method="nonlinear", n_samples=PAIRS, seed=3)
    plain = noise_map(reconstruction, acquisition, method="monte_carlo", n_samples=PAIRS, seed=3)
    agreement = compare(ours, truth, inside)

    def coverage(nm: NoiseMap) -> float:
        low, high = nm.confidence_interval(0.95)
        return float(((low <= truth.std) & (truth.std <= high))[inside].double().mean())

    def median(values: torch.Tensor) -> float:
        return float(values[inside].median())

    cost = ours.n_products / plain.n_products
    return {
        "pairs": PAIRS,
        "products": ours.n_products,
        "nrmse": agreement.nrmse,
        "floor": agreement.floor,
        "ratio": agreement.ratio,
        "coverage": coverage(ours),
        "coverage_monte_carlo": coverage(plain),
        # A complex normal error is below √(ln 20) standard errors with probability 95 %.
        "coverage_bias": float(
            ((ours.bias - truth.bias).abs() < 3**0.5 * (ours.bias_error**2 + truth.bias_error**2).sqrt())[inside]
            .double()
            .mean()
        ),
        "bias_over_std": median(truth.bias.abs() / truth.std),
        "gain_variance": median((plain.estimate.variance_error / ours.estimate.variance_error).square()) / cost,
        "gain_bias": median((plain.bias_error / ours.bias_error).square()) / cost,
    }


def sweep_row(name: str, snr: str, found: dict) -> str:
    check = found["linearity"]
    limits = f"{100 * check['error_low']:.1f} to {100 * check['error_high']:.1f} %"
    return (
        f"| {name} | {snr} | {found['n']} "
        f"| {100 * found['error']:.1f} % | {found['ratio']:.3f} | {found['departure']:.2f} | "
        f"{check['verdict']} | {limits} | {check['n_pairs']} |"
    )


def low_snr_row(name: str, found: dict) -> str:
    return (
        f"| {name} | {found['n']} "
        f"| {100 * found['nrmse']:.2f} % | {100 * found['floor']:.2f} % | {found['ratio']:.3f} | "
        f"{100 * found['coverage']:.1f} % | {100 * found['coverage_monte_carlo']:.1f} % | "
        f"{100 * found['coverage_bias']:.1f} % | {found['bias_over_std']:.2f} | {found['gain_variance']:.2f} | "
        f"{found['gain_bias']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=2_000)
    parser.add_argument("--low-replicas", type=int, default=20_000, help=f"at SNR {LOW_SNR}")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--snr", nargs="+", type=float, default=SNRS, help="with 5 for the second table")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    record = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "shape": SHAPE,
        "coils": COILS,
        "spacing": SPACING,
        "calibration": CALIBRATION,
        "sweep": {},
        "low_snr": {},
    }
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text())
        record |= {table: kept[table] for table in ("sweep", "low_snr")}
    print(f"{SHAPE[0]}×{SHAPE[1]}, {COILS} coils, spacing {SPACING}\n")
    print(
        "| network | SNR | N | first-order σ wrong by | true / first-order σ "
        "| departure | verdict | limits | replicas |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.networks:
        rows = record["sweep"].setdefault(name, {})
        for snr in options.snr:
            n, weights = options.low_replicas if snr == LOW_SNR else options.replicas, repr(pretrained(name))
            kept = rows.get(f"{snr:g}", {})
            if (kept.get("n"), kept.get("weights")) != (n, weights):
                found, truth = sweep_point(name, snr, n)
                rows[f"{snr:g}"] = {"n": n, "weights": weights, **found}
                if snr == LOW_SNR:
                    record["low_snr"][name] = {"n": n, **low_snr_point(name, truth)}
                if options.json:
                    options.json.parent.mkdir(parents=True, exist_ok=True)
                    options.json.write_text(json.dumps(record, indent=1) + "\n")
            print(sweep_row(name, f"{snr:g}", rows[f"{snr:g}"]), flush=True)
    print(f"\nSNR {LOW_SNR}, `nonlinear` with {PAIRS} pairs\n")
    print(
        "| network | N | NRMSE of σ | floor | ratio | coverage | of monte_carlo "
        "| of the bias | bias / σ | gain σ | bias |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, found in record["low_snr"].items():
        print(low_snr_row(name, found))


if __name__ == "__main__":
    main()
