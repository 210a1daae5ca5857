"""Noise of series and of a fit against 500 repeated scans.

    python benchmarks/series.py [--only NAME ...] [--json FILE] [--figure FILE]

Cine: a simulated head in which a disc beats, 24 frames of 28×24, 4 coils, SNR 60, every fourth line and 4 for
calibration, which move from frame to frame (net R = 2.8). Each reconstruction is mapped from one scan by `sketch` with
200 probes, and 500 scans with their own noise are reconstructed.

T2: 4 echoes of the same head, every other line and 6 for calibration, CG-SENSE, a weighted log-linear fit, at several
SNR. 20 scans are mapped to first order (`exact`, which has no sampling error) and by `auto`.

- σ within: voxels of the head in which the variance over the scans lies in the 95 % interval of its ratio to that of
  the map. Of T2 for the scan without noise to first order; for the noisy scans also over 500 replicas of each, which
  have its k-space as their mean.
- |x| within: scans and voxels in which |x| ± t σ of the map, or p ± t σ, holds the value without noise.

What is in the file already is not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mrnoise import NoiseMap, noise_map
from mrnoise.measurement import temporal_snr
from mrnoise.quantiles import chi_square, chi_square_above
from mrnoise.reconstruction import CgSense, Fit, LowRank, Reconstruction, SlidingWindow, Subspace, TemporalMean
from mrnoise.reconstruction.series import Series
from mrnoise.sampling import equispaced
from mrnoise.simulation import Simulation, simulated_head

SHAPE, COILS, FRAMES, RANK = (28, 24), 4, 24, 4
SCANS, BATCH, PROBES, MAPPED = 500, 25, 200, 20
ECHO_TIMES = torch.tensor([10.0, 25.0, 40.0, 55.0])  # ms
T2, SNRS, FIGURE_SNR = 60.0, (20, 40, 80, 160), 80
BRIGHT = 0.2  # of the largest signal: voxels that are fitted


def cine() -> Simulation:
    """The beating disc."""
    masks = torch.stack([equispaced(SHAPE, 4, 4, offset=k) for k in range(FRAMES)])
    return simulated_head(SHAPE, COILS, n_frames=FRAMES, mask=masks, snr=60.0, seed=1)


def methods(head: Simulation) -> dict[str, Reconstruction]:
    """The basis of the subspace is that of the series without noise, as from training data."""
    basis = torch.linalg.svd(head.image.flatten(1), full_matrices=False)[0][:, :RANK]
    return {
        "CG-SENSE, frame by frame": CgSense(1e-2),
        "sliding window of 4": SlidingWindow(4, CgSense(1e-2)),
        f"subspace of rank {RANK}": Subspace(basis, 1e-2),
        "locally low rank": LowRank(0.01, iterations=30),
    }


def t2(images: Tensor) -> Tensor:
    """Log-linear fit weighted by the squared signal."""
    m, t = images.abs(), ECHO_TIMES.double().reshape(-1, 1, 1)
    w = m.square()
    centre, level = (w * t).sum(0) / w.sum(0), (w * m.log()).sum(0) / w.sum(0)
    return -(w * (t - centre).square()).sum(0) / (w * (t - centre) * (m.log() - level)).sum(0)


def echoes(snr: float) -> Simulation:
    """The head at four echo times."""
    masks = torch.stack([equispaced(SHAPE, 2, 6, offset=k) for k in range(len(ECHO_TIMES))])
    decay = torch.exp(-ECHO_TIMES / T2)[:, None, None]
    return simulated_head(SHAPE, COILS, snr=snr, seed=1).series(decay, "echo", masks)


def without_noise(head: Simulation) -> Tensor:
    """k-space of a scan without noise."""
    return head.signal * head.mask.unsqueeze(-3)


def repeats(bound: Callable[[Tensor], Tensor], head: Simulation, mean: Tensor | None = None) -> Tensor:
    """Images of all scans, the mean of whose k-space is that without noise, or another one."""
    shift = 0 if mean is None else mean - without_noise(head)
    parts = []
    with torch.no_grad():
        for first in range(0, SCANS, BATCH):
            scans = torch.stack([head.acquire(seed=k).kspace for k in range(first, first + BATCH)])
            parts.append(torch.func.vmap(bound)(scans + shift))
    return torch.cat(parts)


def coverage(nm: NoiseMap, images: Tensor, truth: Tensor, inside: Tensor) -> tuple[float, float]:
    """Of σ and of values."""
    values, exact = (x.abs() if x.is_complex() else x for x in (images.to(truth), truth))
    freedom = 2 * (len(images) - 1) / (1 + nm.estimate.impropriety.square())
    nu = 1 / (1 / nm.effective_degrees_of_freedom("std") + 1 / freedom)
    low, high = (torch.as_tensor(quantile(0.025, nu) / nu) for quantile in (chi_square, chi_square_above))
    ratio = images.to(torch.complex128).var(0) / nm.variance
    lower, upper = nm.value_interval(0.95)
    held = (values.double() - exact.double()).abs() < 0.5 * (upper - lower)
    return float(((low < ratio) & (ratio < high))[inside].double().mean()), float(held[:, inside].double().mean())


def mapped(method: Reconstruction, head: Simulation) -> tuple[NoiseMap, Tensor]:
    """The map of one scan, and √T σ of the mean over σ of a frame."""
    acq = head.acquire(seed=SCANS)
    maps = [noise_map(m, acq, method="sketch", n_samples=PROBES) for m in (method, TemporalMean(method))]
    return maps[0], FRAMES**0.5 * maps[1].std / maps[0].magnitude_std.square().mean(0).sqrt()


def cine_point(method: Reconstruction, head: Simulation) -> dict:
    """Figures of one reconstruction."""
    acq, inside = head.acquire(seed=SCANS), head.foreground
    nm, shared = mapped(method, head)
    tsnr = temporal_snr(method, acq, n_samples=PROBES)
    bound = Series(method).bind(acq)
    images, truth = repeats(bound, head), bound(without_noise(head))
    sigma, values = coverage(nm, images, truth, inside)
    always = inside.all(0)
    return {
        "std": float(nm.std[inside].median()),
        "shared": float(shared[always].median()),
        "tsnr": float(tsnr.snr[always].median()),
        "error": float((truth - head.image)[inside].norm() / head.image[inside].norm()),
        "sigma_within": sigma,
        "values_within": values,
        "verdict": nm.linearity.verdict,
    }


def fitted(head: Simulation) -> tuple[Fit, NoiseMap]:
    """The fit, and its exact map of the scan without noise."""
    fit = Fit(t2, CgSense(1e-2), region=head.image[0].abs() > BRIGHT * head.image.abs().max())
    return fit, noise_map(fit, head.acquire().replace(kspace=head.signal), method="exact")


def spread(values: Tensor) -> float:
    """Standard deviation by the quartiles, of normal numbers."""
    low, high = values.quantile(torch.tensor([0.25, 0.75], dtype=values.dtype)).tolist()
    return (high - low) / 1.349


def t2_point(snr: float) -> dict:
    """Figures at one SNR."""
    head = echoes(snr)
    fit, quiet = fitted(head)
    truth, inside = quiet.image, fit.region
    scans = repeats(fit.bind(head.acquire()), head)
    verdicts: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    moved: list[Tensor] = []
    within: dict[str, list[list[float]]] = {"exact": [], "auto": []}
    for seed in range(SCANS, SCANS + MAPPED):
        acq = head.acquire(seed=seed)
        replicas = repeats(fit.bind(acq), head, acq.kspace)
        for method, found in within.items():
            nm = noise_map(fit, acq, method=method, seed=seed)
            if method == "exact":
                verdicts[nm.linearity.verdict] += 1
                moved.append((nm.std / quiet.std)[inside].log())
            else:
                chosen[nm.method] += 1
            low, high = nm.value_interval(0.95)
            values = float(((low < truth) & (truth < high))[inside].double().mean())
            ratio = float((replicas.double().std(0) / nm.std)[inside].median())
            sigma = [coverage(nm, images, truth, inside)[0] for images in (replicas, scans)]
            found.append([ratio, *sigma, values])
    columns = ("ratio", "replicas_within", "scans_within", "values_within")
    return {
        "relative": float((quiet.std / truth)[inside].median()),
        "moved": spread(torch.cat(moved)),
        "sigma_within": coverage(quiet, scans, truth, inside)[0],
        "verdicts": dict(verdicts.most_common()),
        "chosen": dict(chosen.most_common()),
        **{m: dict(zip(columns, torch.tensor(rows).mean(0).tolist(), strict=True)) for m, rows in within.items()},
    }


def cine_row(name: str, found: dict) -> str:
    """One row of the table."""
    return (
        f"| {name} | {1e3 * found['std']:.1f} | {found['shared']:.2f} | {found['tsnr']:.0f} | {found['error']:.3f} | "
        f"{found['verdict']} | {100 * found['sigma_within']:.1f} % | {100 * found['values_within']:.1f} % |"
    )


def t2_row(snr: str, found: dict) -> str:
    """One row of the table."""
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in found["verdicts"].items())
    pairs = (
        f"{100 * found['exact'][name]:.0f}, {100 * found['auto'][name]:.0f} %"
        for name in ("replicas_within", "scans_within", "values_within")
    )
    ratio = f"{found['exact']['ratio']:.2f}, {found['auto']['ratio']:.2f}"
    relative, moved, sigma = (f"{100 * found[name]:.1f} %" for name in ("relative", "moved", "sigma_within"))
    columns = (snr, relative, moved, verdicts, sigma, ratio, *pairs)
    return "| " + " | ".join(columns) + " |"


def draw(columns: dict[str, list[Tensor]], path: Path) -> None:
    """Image, σ and what frames share of each reconstruction; T2, σ and relative σ."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.1 * len(columns), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, len(columns), squeeze=False)
    cines = [column for name, column in columns.items() if name != "T2"]
    titles = ("|x| of a frame", "σ of a frame", "√T σ of the mean / σ of a frame")
    styles = (("gray", 0.0), ("inferno", 0.0), ("viridis", 0.0))
    for i, (name, column) in enumerate(columns.items()):
        of_t2 = name == "T2"
        rows = ("T2 (ms)", "σ of T2 (ms)", "σ / T2") if of_t2 else titles
        for j, (values, title, (colours, low)) in enumerate(zip(column, rows, styles, strict=True)):
            axes = grid[j, i]
            top = float((values if of_t2 else torch.stack([c[j] for c in cines]))[..., 2:-2, 2:-2].quantile(0.995))
            shown = axes.imshow(values, cmap=colours, vmin=low, vmax=top)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{name}\n{title}" if j == 0 and not of_t2 else title, fontsize=7)
            if of_t2 or i == len(cines) - 1:
                figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=6)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="words in the names of rows; t2 for the fits")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    record = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"cine": {}, "t2": {}}
    head, pictures = cine(), {}

    def keep() -> None:
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n")

    def wanted(name: str) -> bool:
        return options.only is None or any(word in name for word in options.only)

    for name, method in methods(head).items():
        if wanted(name) and name not in record["cine"]:
            record["cine"][name] = cine_point(method, head)
            keep()
    for snr in map(str, SNRS):
        if wanted("t2") and snr not in record["t2"]:
            record["t2"][snr] = t2_point(float(snr))
            keep()
    for rows, row in ((record["cine"], cine_row), (record["t2"], t2_row)):
        print("\n".join(row(name, found) for name, found in rows.items()), flush=True)
    if options.figure:
        for name, method in methods(head).items():
            nm, shared = mapped(method, head)
            pictures[name] = [nm.image[0].abs(), nm.std[0], shared]
        _, nm = fitted(echoes(FIGURE_SNR))
        pictures["T2"] = [nm.image, nm.std, nm.std / nm.image.clamp_min(1)]
        draw(pictures, options.figure)


if __name__ == "__main__":
    main()
