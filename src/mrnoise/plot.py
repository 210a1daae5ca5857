"""A figure of a noise map: image, noise, SNR and g-factor in one row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.foreground import foreground
from mrnoise.io.atomic import replacing
from mrnoise.io.record import to_numpy
from mrnoise.result import QUANTITIES, NoiseMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_WIDTH, MARGIN, HEADER, FOOTER = 3.0, 0.22, 0.62, 0.42  # inches
BAR_HEIGHT, BAR_GAP, BAR_LABEL = 0.1, 0.1, 0.42
TALLEST, FLATTEST = 1.5, 0.4  # panel height / width
BACKGROUND_VEIL = 0.88
INK, QUIET, PAPER = "#1b1f24", "#6a737d", "white"


@dataclass(frozen=True)
class Style:
    """How one quantity is drawn."""

    title: str
    definition: str
    colours: str
    from_zero: bool
    percent: bool = False


STYLES = {
    "image": Style("Image", "magnitude |x|", "gray", True),
    "std": Style("Noise σ", "total complex, √E|δx|²", "inferno", False),
    "magnitude_std": Style("Noise of |x|", "σ along the phase", "inferno", False),
    "phase_std": Style("Phase noise", "σ of the phase", "inferno", False),
    "snr": Style("SNR", "|x| / σ of |x|", "viridis", True),
    "g_factor": Style("g-factor", "σ / (√R σ of full sampling)", "cividis", False),
    "relative_error": Style("Error of σ", "standard error / σ", "cividis", True, percent=True),
}


def write_png(noise_map: NoiseMap, path: Path) -> None:
    """Write `panel` as a PNG of 200 dots per inch."""
    figure = panel(noise_map)
    with replacing(Path(path)) as (partial,):
        figure.savefig(partial, dpi=200, format="png", facecolor=PAPER)


def panel(noise_map: NoiseMap) -> Figure:
    """Image, σ, SNR and g-factor (the error of σ where there is none) of the middle slice.

    Colours span the 1st to the 99th percentile inside the object of the whole stack; the image and the SNR start
    at zero. The background is veiled in grey.

    Returns
    -------
    Figure
        Not attached to a window; save it with ``figure.savefig``.
    """
    # A Figure of its own leaves the caller's pyplot backend and open figures alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = _chosen(noise_map)
    inside = to_numpy(foreground(noise_map.image))
    index = chosen_slice(noise_map.image, inside)
    ny, nx = inside.shape[-2:]
    _, dy, dx = spacing(noise_map)
    height = PANEL_WIDTH * min(max(ny * dy / (nx * dx), FLATTEST), TALLEST)
    total_width = len(names) * PANEL_WIDTH + (len(names) + 1) * MARGIN
    total_height = HEADER + height + BAR_GAP + BAR_HEIGHT + BAR_LABEL + FOOTER

    figure = Figure(figsize=(total_width, total_height), facecolor=PAPER)
    FigureCanvasAgg(figure)
    for k, name in enumerate(names):
        left = MARGIN + k * (PANEL_WIDTH + MARGIN)

        def box(bottom: float, tall: float, left: float = left) -> tuple[float, float, float, float]:
            return (
                left / total_width,
                bottom / total_height,
                PANEL_WIDTH / total_width,
                tall / total_height,
            )

        base = FOOTER + BAR_LABEL
        axes = figure.add_axes(box(base + BAR_HEIGHT + BAR_GAP, height))
        bar = figure.add_axes(box(base, BAR_HEIGHT))
        value = noise_map.quantity(name)
        assert value is not None  # `_chosen` keeps what exists
        _draw(figure, axes, bar, name, value, inside, index, dy / dx)
    figure.text(
        MARGIN / total_width,
        0.16 / total_height,
        _footer(noise_map, inside, index),
        fontsize=8.5,
        color=QUIET,
        va="bottom",
    )
    return figure


def _chosen(noise_map: NoiseMap) -> list[str]:
    last = "relative_error"
    if noise_map.reference_std is not None:
        last = "g_factor"
    elif not bool((noise_map.estimate.variance_error > 0).any()):
        last = "magnitude_std"  # an exact map has no error to show
    return ["image", "std", "snr", last]


def chosen_slice(image: Tensor, inside: np.ndarray) -> tuple[int, ...]:
    """First frame, and the slice with object that is nearest to the middle; () for a single image.

    Slices that an interrupted run has not reached are NaN.
    """
    leading = inside.shape[:-2]
    if not leading:
        return ()
    frame = (0,) * (len(leading) - 1)
    usable = inside[frame].any(axis=(-2, -1)) & to_numpy(torch.isfinite(image[frame].abs()).any(-1).any(-1))
    middle = leading[-1] // 2
    if usable.any():
        candidates = np.flatnonzero(usable)
        middle = int(candidates[np.abs(candidates - middle).argmin()])
    return (*frame, middle)


def spacing(noise_map: NoiseMap) -> tuple[float, float, float]:
    """Millimetres along (z, y, x); an affine goes before the voxel size."""
    affine = noise_map.geometry.affine
    if affine is None:
        return noise_map.geometry.voxel_size
    dx, dy, dz = np.linalg.norm(affine[:3, :3], axis=0)
    return float(dz), float(dy), float(dx)


def _draw(
    figure: Figure,
    axes: Axes,
    bar: Axes,
    name: str,
    value: Tensor,
    inside: np.ndarray,
    index: tuple[int, ...],
    pixel: float,
) -> None:
    from matplotlib import colormaps

    style = STYLES[name]
    array = to_numpy(value).astype(float) * (100 if style.percent else 1)
    low, high = window(array, inside, style.from_zero)
    colours = colormaps[style.colours].with_extremes(bad=PAPER)
    shown = axes.imshow(
        np.ma.masked_invalid(array[index]),
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect=pixel,
        interpolation="nearest",
    )
    if name != "image":
        veil = np.zeros((*inside.shape[-2:], 4))
        veil[..., :3] = 0.93
        veil[..., 3] = np.where(inside[index], 0, BACKGROUND_VEIL)
        axes.imshow(veil, aspect=pixel, interpolation="nearest")
    axes.set_axis_off()
    for text, points, size, colour in ((style.title, 21, 13, INK), (style.definition, 6, 9, QUIET)):
        axes.annotate(text, (0, 1), (0, points), "axes fraction", "offset points", fontsize=size, color=colour)
    _colour_bar(figure, bar, shown, name, array[inside & np.isfinite(array)], low, high)


def window(array: np.ndarray, inside: np.ndarray, from_zero: bool) -> tuple[float, float]:
    """Range of colours: 1st (or zero) to 99th percentile of the finite values inside the object."""
    values = array[inside & np.isfinite(array)]
    if values.size == 0:
        values = array[np.isfinite(array)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, (1, 99))
    if from_zero or high - low < 0.02 * abs(high):  # a nearly constant map would show rounding only
        low = min(low, 0.0)
    return float(low), float(high if high > low else low + 1)


def _colour_bar(figure: Figure, bar: Axes, shown: Any, name: str, values: np.ndarray, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    below = values.size and values.min() < low
    above = values.size and values.max() > high
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[bool(below), bool(above)]
    drawn = figure.colorbar(shown, cax=bar, orientation="horizontal", extend=extend)
    # The power of ten belongs to the unit, where it cannot overlap a tick.
    power = math.floor(math.log10(max(abs(low), abs(high))))
    power = power if power < -2 or power > 4 else 0
    drawn.ax.xaxis.set_major_locator(MaxNLocator(5))
    drawn.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:.4g}"))
    drawn.ax.tick_params(labelsize=9, colors=INK, length=3, width=0.6)
    drawn.outline.set_visible(False)
    unit = "%" if STYLES[name].percent else QUANTITIES[name][0].replace("image units", "a.u.")
    parts = (rf"$\times 10^{{{power}}}$" if power else "", "" if unit == "1" else unit)
    drawn.set_label(" ".join(part for part in parts if part), fontsize=9, color=QUIET, labelpad=2)


def _footer(noise_map: NoiseMap, inside: np.ndarray, index: tuple[int, ...]) -> str:
    samples = "replicas" if noise_map.method == "monte_carlo" else "probes"
    parts = [noise_map.method.replace("_", " "), f"{noise_map.n_samples} {samples}"]
    error = to_numpy(noise_map.relative_error)
    values = error[inside & np.isfinite(error)]
    if values.size == 0 or values.max() > 0:
        known = f"{100 * np.median(values):.2g} %" if values.size else "unknown"
        parts.append(f"median relative error of σ {known}")
    else:
        parts[1] = "no sampling error"
    parts.append(f"R = {noise_map.acceleration:.3g}")
    covariance = noise_map.provenance.get("noise_covariance")
    if isinstance(covariance, Mapping) and covariance.get("source"):
        parts.append(f"Ψ: {covariance['source']}")
    if index:
        parts.append(f"slice {index[-1] + 1} of {inside.shape[-3]}")
    if noise_map.estimate.interrupted:
        parts.append("INTERRUPTED before its target")
    return "   ·   ".join(parts)
