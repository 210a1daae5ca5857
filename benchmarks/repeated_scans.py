"""Empirical noise of 100 repeated scans against maps that propagate, or leave out, the noise of the coil maps.

    python benchmarks/repeated_scans.py [--draws 100]

Every scan estimates its own ESPIRiT maps from its own calibration lines, as a scanner would.
"""

from __future__ import annotations

import argparse
import dataclasses

import torch

from mrnoise import noise_map
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulated_head

SHAPE, COILS, PROBES = (56, 48), 6, 200
# SNR, spacing, calibration lines
CASES = ((200, 2, 12), (200, 3, 12), (40, 2, 20), (15, 2, 12), (10, 3, 12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    propagated = CgSense(0.01, tolerance=1e-5)
    methods = {
        "propagated": propagated,
        "held fixed": dataclasses.replace(propagated, differentiate_coil_maps=False),
    }
    print(f"{SHAPE[0]}×{SHAPE[1]}, {COILS} coils, {draws} scans, sketch with {PROBES} probes, seed 1")
    print("median over the head of empirical σ / σ of the map\n")
    print("| SNR | spacing | calibration | coil-map noise | total σ | magnitude σ |")
    print("|---|---|---|---|---|---|")
    for snr, spacing, calibration in CASES:
        head = simulated_head(SHAPE, COILS, snr=snr, mask=equispaced(SHAPE, spacing, calibration), seed=1)
        scans = [head.acquire(seed).replace(coil_maps=None) for seed in range(draws)]
        images = torch.stack([propagated.bind(s)(s.kspace) for s in scans]).to(torch.complex128)
        inside = head.foreground & (images.abs() > 0).all(0)
        total, magnitude = images.var(0).sqrt(), images.abs().std(0)
        for name, method in methods.items():
            nm = noise_map(method, scans[0], method="sketch", n_samples=PROBES)
            ratios = [float((a / b)[inside].median()) for a, b in ((total, nm.std), (magnitude, nm.magnitude_std))]
            print(f"| {snr} | {spacing} | {calibration} | {name} | {ratios[0]:.3f} | {ratios[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
