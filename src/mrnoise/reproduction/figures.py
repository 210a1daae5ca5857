"""The figures of the evaluation, from shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from mrnoise.figures.drawing import colour_bar, data_address, label_axes, new_figure
from mrnoise.figures.panel import INK, QUIET, window
from mrnoise.reproduction import published
from mrnoise.reproduction.tables import Shard, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0b7285", "#c2541b", "#7048a8", "#2b8a3e", "#a61e4d", "#495057")
WIDTH, HEIGHT = 10.5, 3.6  # inches
LARGEST_DIFFERENCE = 0.15

Captioned = tuple[str, str]
"""Data address of a figure, and its caption."""


def figures(table: str, shards: Sequence[Shard]) -> list[Captioned]:
    """The figures of a table, as far as its shards are there."""
    if table not in FIGURES or not shards:
        return []
    return [(data_address(figure), caption) for figure, caption in FIGURES[table](shards)]


def _maps(shards: Sequence[Shard]) -> Iterator[tuple[Figure, str]]:
    """σ by reference and sketch, and what lies between them, a column a network."""
    for anatomy in dict.fromkeys(shard["parameters"]["weights"] for shard in shards):
        shown = [s for s in shards if s["parameters"]["weights"] == anatomy and s["arrays"]]
        if not shown:
            continue
        ny, nx = shown[0]["arrays"]["map"].shape
        names = [shard["parameters"]["reconstruction"] for shard in shown]
        figure = _rows([shard["arrays"] for shard in shown], names, ("replicas", "sketch", "difference"), ny / nx)
        yield (
            figure,
            (
                f"{anatomy.capitalize()}: σ by replicas, by the sketch, and their difference relative to the mean σ "
                "of the object. The two should look alike, and the difference be noise without structure; where "
                "it shows anatomy, first order fails. Each column has its own scale of σ."
            ),
        )


def _g_maps(shards: Sequence[Shard]) -> Iterator[tuple[Figure, str]]:
    shown = [shard for shard in shards if shard["arrays"]]
    if not shown:
        return
    ny, nx = shown[0]["arrays"]["map"].shape
    scans = [shard["parameters"]["scan"] for shard in shown]
    names = [f"{scan['pattern']}, R = {scan['acceleration']}" for scan in scans]
    figure = _rows([shard["arrays"] for shard in shown], names, ("closed form", "sketch", "difference"), ny / nx)
    yield (
        figure,
        "g-factor of SENSE in closed form and by the sketch; the difference relative to the mean g of the object.",
    )


def _rows(
    columns: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], labels: tuple[str, str, str], aspect: float
) -> Figure:
    """Reference, map and difference from top to bottom, a column each."""
    wide = min(1.9, WIDTH / len(columns))
    figure = new_figure(wide * len(columns) + 1.2, 3 * wide * aspect + 0.4)
    axes = figure.subplots(3, len(columns), squeeze=False)
    difference: Any = None
    for k, (arrays, name) in enumerate(zip(columns, names, strict=True)):
        inside = arrays["inside"]
        pair = np.stack([arrays["reference"], arrays["map"]])
        low, high = window(pair, np.broadcast_to(inside, pair.shape), False)
        for ax, values in zip(axes[:2, k], pair, strict=True):
            ax.imshow(np.where(inside, values, np.nan), cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
        relative = np.where(inside, (pair[1] - pair[0]) / pair[0][inside].mean(), np.nan)
        difference = axes[2, k].imshow(
            100 * relative,
            cmap="RdBu_r",
            vmin=-100 * LARGEST_DIFFERENCE,
            vmax=100 * LARGEST_DIFFERENCE,
            interpolation="nearest",
        )
        axes[0, k].set_title(name, fontsize=10, color=INK)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_visible(False)
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label, fontsize=10, color=INK)
    colour_bar(figure, difference, list(axes[2])).set_label("%", fontsize=9, color=QUIET)
    return figure


def _nonlinearity(shards: Sequence[Shard]) -> Iterator[tuple[Figure, str]]:
    networks = list(dict.fromkeys(shard["parameters"]["reconstruction"] for shard in shards))
    figure = new_figure(3.6 * len(networks) + 0.6, HEIGHT)
    for ax, network in zip(figure.subplots(1, len(networks), squeeze=False, sharey=True)[0], networks, strict=True):
        rows = [shard for shard in shards if shard["parameters"]["reconstruction"] == network]
        alphas = [shard["parameters"]["scan"]["alpha"] for shard in rows]
        for name, colour, marker in (("sketch", COLOURS[1], "o"), ("auto", COLOURS[0], "s")):
            found = [shard["result"][name] for shard in rows]
            ax.loglog(alphas, _percent(found, "nrmse"), color=colour, marker=marker, markersize=5, label=name)
            ax.loglog(alphas, _percent(found, "floor"), color=colour, linestyle=":", label=f"floor of {name}")
        _log_axes(ax, "noise level α", "error of σ (%)" if ax.get_subplotspec().is_first_col() else "")
        ax.set_title(network, fontsize=10.5, color=INK)
        ax.legend(frameon=False, fontsize=8.5)
    yield (
        figure,
        (
            "Masked error of σ against replicas. First order leaves its floor where the network is nonlinear at the "
            "noise level of the scan; auto takes replicas there."
        ),
    )


def _cost(shards: Sequence[Shard]) -> Iterator[tuple[Figure, str]]:
    figure = new_figure(4.4 * len(shards) + 1.6, HEIGHT)
    axes = figure.subplots(1, len(shards), squeeze=False, sharey=True)[0]
    for ax, shard in zip(axes, shards, strict=True):
        ways: dict[str, list[Mapping[str, Any]]] = {}
        for name, found in shard["result"].items():
            ways.setdefault(name.partition(", ")[0], []).append(found)
        for (way, found), colour in zip(ways.items(), (*COLOURS[:5], INK), strict=False):
            products = [f["n_products"] for f in found]
            style = {"marker": "*", "markersize": 11, "linestyle": ""} if way.startswith("auto") else {"marker": "o"}
            ax.loglog(products, _percent(found, "nrmse"), color=colour, label=way, **{"markersize": 4.5, **style})
        n = np.array(ax.get_xlim())
        ax.loglog(n, 50 / np.sqrt(n), color=QUIET, linestyle=":", linewidth=1, label="1 / 2√N")
        _log_axes(ax, "products", "error of σ (%)" if ax.get_subplotspec().is_first_col() else "")
        ax.set_title(shard["parameters"]["reconstruction"], fontsize=10.5, color=INK)
    axes[-1].legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1, 1))
    yield (
        figure,
        (
            "A sketch and as many replicas err alike, 1/2√N for proper noise: sketching has no statistical gain of "
            "its own. Control variates lower the line; probing of the image lies above it for a network."
        ),
    )


def _pico(shards: Sequence[Shard]) -> Iterator[tuple[Figure, str]]:
    figure = new_figure(6.4, HEIGHT + 0.3)
    ax = figure.subplots()
    for name, colour in zip(("replicas", "sketch", "probe"), COLOURS, strict=False):
        found = [shard["result"][name] for shard in shards]
        samples = [f["n_samples"] for f in found]
        ax.loglog(samples, _percent(found, "g_nrmse"), color=colour, marker="o", markersize=5, label=name)
    n = np.array([shards[0]["result"]["replicas"]["n_samples"], shards[-1]["result"]["replicas"]["n_samples"]])
    ax.loglog(n, 50 / np.sqrt(n), color=QUIET, linestyle=":", label="1 / 2√N")
    ax.loglog(n, 100 / np.sqrt(2 * n), color=QUIET, linestyle="--", label="1 / √2N: both σ by replicas")
    for name, error, colour in (
        ("replicas", published.PICO_REPLICAS, COLOURS[0]),
        ("probe", published.PICO_PROBES, COLOURS[2]),
    ):
        at = [published.PICO_SAMPLES]
        ax.loglog(at, [error], color=colour, marker="x", markersize=8, linestyle="", label=f"{name}, published")
    _log_axes(ax, "samples N", "error of g (%)")
    ax.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1, 1))
    yield (
        figure,
        (
            "Error of the g-map against the closed form. The lattice is not drawn: its error is that of rounding, "
            "from one draw of two probes. The published error of replicas is above what theory says for them."
        ),
    )


def _snr_psnr(shards: Sequence[Shard]) -> Iterator[tuple[Figure, str]]:
    groups = list(ranked(shards))
    figure = new_figure(2.7 * len(groups), HEIGHT - 0.4)
    for ax, (anatomy, alpha, rows, rho) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        for (network, snr, psnr), colour in zip(sorted(rows), COLOURS, strict=False):
            ax.plot(snr, psnr, "o", color=colour, markersize=7)
            ax.annotate(network, (snr, psnr), (5, 4), textcoords="offset points", fontsize=8, color=INK)
        ax.margins(0.22)
        label_axes(ax, "median SNR", "PSNR (dB)" if ax.get_subplotspec().is_first_col() else "")
        ax.set_title(f"{anatomy}, α = {alpha:g}: ρ = {rho:+.2f}", fontsize=10, color=INK)
    yield (
        figure,
        (
            "If SNR, which needs no ground truth, ranked as PSNR does, the points would rise from left to right (rank "
            "correlation ρ = 1). It can only where noise is what limits the image."
        ),
    )


FIGURES: Mapping[str, Callable[[Sequence[Shard]], Iterator[tuple[Figure, str]]]] = MappingProxyType(
    {
        "methods": _maps,
        "noise_level": _nonlinearity,
        "samples": _cost,
        "g_factor": _g_maps,
        "pico": _pico,
        "ranking": _snr_psnr,
    }
)


def _percent(found: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [float("nan") if f[key] is None else 100 * f[key] for f in found]


def _log_axes(ax: Axes, x: str, y: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.25, which="major")
    label_axes(ax, x, y)
