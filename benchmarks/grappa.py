"""GRAPPA kernels held fixed, and kernels that follow the noise of their calibration lines: docs/grappa.png.

    python benchmarks/grappa.py [--figure FILE] [--json FILE]

A simulated head of 96×80, 8 coils, every third line, and more or fewer calibration lines within the scan; coil maps are
given, so that kernels alone differ. The truth are 400 scans of it with fresh noise, each with kernels of its own. σ of
fixed kernels is a closed form at one of these scans, first order with kernels that follow a sketch of 300 probes there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from mrnoise import noise_map
from mrnoise.reconstruction import Grappa
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulated_head

SHAPE, COILS, SPACING = (96, 80), 8, 3
SNRS, CALIBRATION = (100, 40), (13, 16, 20, 32)
SHOWN = (100, 13)
N_SCANS, N_PROBES = 400, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    record, maps = {}, {}
    print("| SNR | calibration lines | R | kernels fixed | kernels that follow | root mean square, floor |")
    print("|---|---|---|---|---|---|")
    for snr in SNRS:
        for lines in CALIBRATION:
            name = f"{snr}, {lines}"
            record[name], found = measured(snr, lines)
            maps = found if (snr, lines) == SHOWN else maps
            print(row(name, record[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.figure:
        draw(options.figure, record, maps)


def measured(snr: float, lines: int) -> tuple[dict, dict]:
    head = simulated_head(SHAPE, COILS, snr=snr, mask=equispaced(SHAPE, SPACING, calibration=lines))
    scan, inside = head.acquire(), head.foreground
    fixed, follow = (Grappa(combination="sense", differentiate_calibration=value) for value in (False, True))
    closed = noise_map(fixed, scan, method="closed_form").std
    first = noise_map(follow, scan, method="sketch", n_samples=N_PROBES)
    truth = std_of_scans(follow, head)
    error = {name: 100 * (sigma / truth - 1) for name, sigma in (("fixed", closed), ("follow", first.std))}
    floor = (first.relative_error.square() + 1 / (4 * N_SCANS))[inside].mean().sqrt()
    found = {
        "acceleration": scan.acceleration,
        "g": float(first.g_factor[inside].mean()),
        **{name: float(values[inside].mean()) for name, values in error.items()},
        "rms": float(error["follow"][inside].square().mean().sqrt()),
        "floor": 100 * float(floor),
        "verdict": first.linearity.verdict,
    }
    return found, {"truth": truth, "inside": inside, **error}


def std_of_scans(method: Grappa, head) -> torch.Tensor:
    """Of images of scans with fresh noise."""
    total = torch.zeros(SHAPE, dtype=torch.complex128)
    power = torch.zeros(SHAPE, dtype=torch.float64)
    for seed in range(1, 1 + N_SCANS):
        scan = head.acquire(seed)
        image = method.bind(scan)(scan.kspace).to(torch.complex128) - head.image
        total += image
        power += image.abs().square()
    return ((power - total.abs().square() / N_SCANS) / (N_SCANS - 1)).sqrt()


def row(name: str, found: dict) -> str:
    snr, lines = name.split(", ")
    return (
        f"| {snr} | {lines} | {found['acceleration']:.2f} | {found['fixed']:+.1f} % | {found['follow']:+.1f} % | "
        f"{found['rms']:.1f} %, {found['floor']:.1f} % |"
    )


def draw(path: Path, record: dict, maps: dict) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.4, 3.9), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
    inside = maps["inside"]
    outside = torch.where(inside, torch.nan, 1.0)
    top = float(maps["truth"][inside].quantile(0.99))
    shown = axes[0].imshow(maps["truth"], cmap="inferno", vmin=0, vmax=top)
    figure.colorbar(shown, ax=axes[0], location="bottom", label="a.u.", shrink=0.9)
    axes[0].set_title(f"σ of {N_SCANS} scans, {SHOWN[1]} lines", fontsize=11)
    reach = 15
    for ax, name, title in ((axes[1], "fixed", "kernels fixed"), (axes[2], "follow", "kernels that follow")):
        shown = ax.imshow(maps[name], cmap="RdBu_r", vmin=-reach, vmax=reach)
        ax.set_title(f"{title}: {float(maps[name][inside].mean()):+.1f} %", fontsize=11)
    figure.colorbar(shown, ax=list(axes[1:3]), location="bottom", label="σ against that of the scans, %", shrink=0.6)
    for ax in axes[:3]:
        ax.imshow(outside, cmap="Greys", vmin=0, vmax=8, alpha=0.9)
        ax.set_axis_off()
    for snr, colour in zip(SNRS, ("C0", "C1"), strict=True):
        for name, style, words in (("fixed", "o--", "fixed"), ("follow", "s-", "follow")):
            values = [record[f"{snr}, {lines}"][name] for lines in CALIBRATION]
            axes[3].plot(CALIBRATION, values, style, color=colour, label=f"{words}, SNR {snr}")
    axes[3].axhline(0, color="0.6", linewidth=1)
    axes[3].set_xlabel("calibration lines")
    axes[3].set_ylabel("mean error of σ, %")
    axes[3].set_title("against the scans", fontsize=11)
    axes[3].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
