"""What it costs to hold the normalisation or the coil maps of a network fixed: docs/frozen.png.

    python benchmarks/frozen_derivatives.py [--figure FILE] [--json FILE]

The shipped brain VarNet estimates coil maps from the calibration lines of the scan and divides by a scale of the scan.
Both carry noise. Sketches with the same 200 probes, propagated and held fixed, differ by that noise alone. Simulated
head, 144×128, 8 coils, SNR 20, every third line and 8 for calibration.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from mrnoise import noise_map
from mrnoise.foreground import foreground
from mrnoise.networks import pretrained
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE, COILS, SNR, SPACING, CALIBRATION, N_PROBES = (144, 128), 8, 20.0, 3, 8, 200
HELD = {
    "normalisation fixed": {"normalization": "fixed"},
    "coil maps fixed": {"differentiate_coil_maps": False},
    "both fixed": {"normalization": "fixed", "differentiate_coil_maps": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scan = simulate(SHAPE, COILS, snr=SNR, mask=equispaced(SHAPE, SPACING, calibration=CALIBRATION), seed=0)
    maps = {
        name: noise_map(pretrained("varnet", **held), scan, method="sketch", n_samples=N_PROBES, seed=0)
        for name, held in {"propagated": {}, **HELD}.items()
    }
    whole = maps.pop("propagated")
    inside = foreground(whole.image)
    change = {name: 100 * (nm.std / whole.std - 1) for name, nm in maps.items()}
    print("| held fixed | σ, mean change | σ, 5 % to 95 % of voxels | magnitude σ, mean change |")
    print("|---|---|---|---|")
    record = {}
    for name, values in change.items():
        low, high = (float(values[inside].quantile(q)) for q in (0.05, 0.95))
        magnitude = 100 * float((maps[name].magnitude_std / whole.magnitude_std - 1)[inside].mean())
        record[name] = {"mean": float(values[inside].mean()), "low": low, "high": high, "magnitude_mean": magnitude}
        print(frozen_row(name, record[name]))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.figure:
        draw(options.figure, whole, change, inside)


def frozen_row(name: str, found: dict) -> str:
    return (
        f"| {name} | {found['mean']:+.2f} % | {found['low']:+.2f} % to {found['high']:+.2f} % | "
        f"{found['magnitude_mean']:+.2f} % |"
    )


def draw(path: Path, whole, change: dict[str, torch.Tensor], inside: torch.Tensor) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * (1 + len(change)), 3.9), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(change))
    outside = torch.where(inside, torch.nan, 1.0)
    sigma = axes[0].imshow(whole.std, cmap="inferno", vmin=0, vmax=float(whole.std[inside].quantile(0.99)))
    figure.colorbar(sigma, ax=axes[0], location="bottom", label="a.u.", shrink=0.9)
    axes[0].set_title("σ, everything propagated", fontsize=11)
    reach = max(float(values[inside].abs().quantile(0.98)) for values in change.values())
    for ax, (name, values) in zip(axes[1:], change.items(), strict=True):
        shown = ax.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach)
        ax.set_title(f"{name}: {float(values[inside].mean()):+.1f} %", fontsize=11)
    figure.colorbar(shown, ax=list(axes[1:]), location="bottom", label="change of σ, %", shrink=0.6)
    for ax in axes:
        ax.imshow(outside, cmap="Greys", vmin=0, vmax=8, alpha=0.9)
        ax.set_axis_off()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
