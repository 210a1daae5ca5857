"""Previews from few samples against maps from many: the width that is chosen, the error that is true and predicted.

python benchmarks/preview.py [--seeds 8] [--networks varnet]
"""

from __future__ import annotations

import argparse

import torch

import mrnoise
from mrnoise import NoiseMap, networks
from mrnoise.acquisition import Acquisition
from mrnoise.estimators import Plan, sketch
from mrnoise.estimators.key import Key
from mrnoise.foreground import foreground
from mrnoise.fourier import to_image, to_kspace
from mrnoise.linearization import NoiseToImage, linearize
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulated_head

SHAPE, COILS, SNR = (64, 56), 6, 40
SAMPLES = (8, 16, 30)
TRUTH_SAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--networks", nargs="*", default=[])
    options = parser.parse_args()
    regular = simulated_head(SHAPE, COILS, snr=SNR, mask=equispaced(SHAPE, 2), seed=1).acquire()
    irregular = simulated_head(SHAPE, COILS, snr=SNR, mask=equispaced(SHAPE, 3, 10), seed=1).acquire()
    hann = [torch.hann_window(n + 2, periodic=False)[1:-1] for n in SHAPE]
    sense = Sense().bind(regular)
    cases: dict[str, tuple[Reconstruction | KspaceToImage, Acquisition]] = {
        "SENSE, R = 2": (sense, regular),
        "SENSE, R = 2, Hann filter": (lambda k: to_image(hann[0][:, None] * hann[1] * to_kspace(sense(k))), regular),
        "CG-SENSE, spacing 3": (CgSense(0.01), irregular),
        **{f"{name}, spacing 3": (networks.pretrained(name), irregular) for name in options.networks},
    }
    print(
        f"{SHAPE[0]}×{SHAPE[1]}, {COILS} coils, SNR {SNR}; {options.seeds} seeds, truth from {TRUTH_SAMPLES} samples\n"
    )
    print(
        "| reconstruction | S | error of σ without | of the preview | predicted | magnitude σ | σ² | width (voxels) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, (reconstruction, scan) in cases.items():
        (operator,) = linearize(reconstruction, scan)
        truth = sampled(operator, TRUTH_SAMPLES, 10**6)
        floor = (1 + truth.estimate.impropriety.square()) / (4 * TRUTH_SAMPLES)
        for n in SAMPLES:
            rows = []
            for seed in range(options.seeds):
                raw = sampled(operator, n, seed)
                rows.append(row(raw, mrnoise.preview(raw), truth, floor))
            found = torch.tensor(rows, dtype=torch.float64)
            without, after, predicted, before_m, after_m = (100 * v for v in found[:, :5].square().mean(0).sqrt())
            widths = " ".join(f"{w:g}" for w in sorted(set(found[:, 6].tolist())))
            print(
                f"| {name} | {n} | {without:.1f} % | {after:.1f} % | {predicted:.1f} ± {100 * found[:, 2].std():.1f} % "
                f"| {before_m:.1f} → {after_m:.1f} % | {found[:, 5].mean():.3f} | {widths} |",
                flush=True,
            )


def sampled(operator: NoiseToImage, n: int, seed: int) -> NoiseMap:
    """A map by ``sketch``, without the checks of `noise_map`."""
    return NoiseMap(operator.value, sketch(operator, Plan(n_samples=n), key=Key(seed)))


def row(raw: NoiseMap, smooth: NoiseMap, truth: NoiseMap, floor: torch.Tensor) -> list[float]:
    """Errors of σ and of magnitude σ before and after, what was predicted, the ratio of σ², the width."""
    inside = foreground(raw.image)

    def error(nm: NoiseMap, name: str, least: float) -> float:
        squared = (nm.quantity(name) / truth.quantity(name) - 1)[inside].square().mean() - least
        return max(float(squared), 0.0) ** 0.5

    total, along = float(floor[inside].mean()), 0.5 / TRUTH_SAMPLES
    record = smooth.provenance.preview
    return [
        error(raw, "std", total),
        error(smooth, "std", total),
        record["predicted_error"],
        error(raw, "magnitude_std", along),
        error(smooth, "magnitude_std", along),
        float((smooth.variance / truth.variance)[inside].mean()),
        record["width_voxels"],
    ]


if __name__ == "__main__":
    main()
