"""Figures: one noise map in a row, image, noise, SNR and g-factor; two maps of one scan side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.files.atomic import replacing
from mrnoise.files.record import to_numpy
from mrnoise.files.text import counted
from mrnoise.foreground import foreground
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.quantities import quantities
from mrnoise.result.ratio import snr_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

PANEL_WIDTH, SMALL_WIDTH, MARGIN, HEADER, FOOTER = 3.0, 2.2, 0.22, 0.62, 0.42  # inches
FOOTER_LINE, FOOTER_CHARACTER, ROW_LABEL = 0.18, 0.07, 0.26
BAR_HEIGHT, BAR_GAP, BAR_LABEL = 0.1, 0.1, 0.42
TALLEST, FLATTEST = 1.5, 0.4  # panel height / width
BACKGROUND_VEIL = 0.88
COMPARED = ("image", "std", "snr")
GAIN_COLOURS = "RdBu"
# Ticks of a ratio by the reach of its colours, ×1/reach to ×reach.
GAIN_STEPS = ((32.0, 10.0), (8.0, 4.0), (2.0, 2.0), (1.5, 1.5), (1.25, 1.25))
SAME_INTENSITY = 0.1
INK, QUIET, PAPER = "#1b1f24", "#6a737d", "white"


def write_png(noise_map: NoiseMap, path: Path) -> None:
    """Write `panel` as a PNG of 200 dots per inch."""
    _write(panel(noise_map), path)


def write_comparison_png(first: NoiseMap, second: NoiseMap, names: tuple[str, str], path: Path) -> None:
    """Write `comparison` as a PNG of 200 dots per inch."""
    _write(comparison(first, second, names), path)


def panel(noise_map: NoiseMap, index: tuple[int, ...] | None = None) -> Figure:
    """Image, σ, SNR and g-factor (the error of σ where there is none) of one slice, by default that in the middle.

    Colours span the 1st to the 99th percentile inside the object of the whole stack; the image and the SNR start
    at zero. The background is veiled in grey.

    Returns
    -------
    Figure
        Not attached to a window; save it with ``figure.savefig``.
    """
    names = chosen_quantities(noise_map)
    inside = to_numpy(foreground(noise_map.image))
    index = chosen_slice(noise_map.image, inside) if index is None else index
    height, pixel = _shape(noise_map, PANEL_WIDTH)
    base = FOOTER + BAR_LABEL + BAR_HEIGHT + BAR_GAP
    sheet = _Sheet(len(names) * (PANEL_WIDTH + MARGIN) + MARGIN, base + height + HEADER)
    for k, name in enumerate(names):
        left = MARGIN + k * (PANEL_WIDTH + MARGIN)
        axes = sheet.axes(left, base, PANEL_WIDTH, height)
        bar = sheet.axes(left, FOOTER + BAR_LABEL, PANEL_WIDTH, BAR_HEIGHT)
        _draw_column([axes], bar, name, [noise_map], inside, index, pixel)
    scan = [*_scan(noise_map), *_place(noise_map, index)]
    sheet.footer([[*_sampling(noise_map, inside), *scan]])
    return sheet.figure


def comparison(first: NoiseMap, second: NoiseMap, names: tuple[str, str]) -> Figure:
    """Image, σ and SNR of two reconstructions of one scan, a row each, and the ratio of their SNR.

    The two rows share the colours of each column, so that they compare directly; otherwise as in `panel`. The
    colours of the ratio are centred at 1 on a logarithmic scale. Where the intensity of the two images differs by
    more than 10 % the footer says so: σ is then not comparable, SNR is.

    Parameters
    ----------
    first, second
        Maps of one scan on one image grid. The object is what the first image shows, so that tissue which the
        second lost counts.
    names
        What the reconstructions are called.

    Returns
    -------
    Figure
        Not attached to a window; save it with ``figure.savefig``.

    Raises
    ------
    InputError
        If the maps differ in shape.
    """
    ratio = to_numpy(snr_ratio(first, second))
    maps = (first, second)
    inside = to_numpy(foreground(first.image))
    index = chosen_slice(first.image + second.image, inside)  # NaN where either is
    height, pixel = _shape(first, SMALL_WIDTH)
    tall = 2 * height + MARGIN
    wide = tall * SMALL_WIDTH / height
    footer = FOOTER + FOOTER_LINE
    base = footer + BAR_LABEL + BAR_HEIGHT + BAR_GAP
    right = MARGIN + ROW_LABEL + len(COMPARED) * (SMALL_WIDTH + MARGIN)
    bottoms = (base + height + MARGIN, base)

    sheet = _Sheet(right + wide + MARGIN, base + tall + HEADER)
    for k, name in enumerate(COMPARED):
        left = MARGIN + ROW_LABEL + k * (SMALL_WIDTH + MARGIN)
        rows = [sheet.axes(left, bottom, SMALL_WIDTH, height) for bottom in bottoms]
        bar = sheet.axes(left, footer + BAR_LABEL, SMALL_WIDTH, BAR_HEIGHT)
        _draw_column(rows, bar, name, maps, inside, index, pixel)
    for name, bottom in zip(names, bottoms, strict=True):
        sheet.text(MARGIN, bottom + height / 2, name, fontsize=13, color=INK, rotation=90, va="center")
    axes = sheet.axes(right, base, wide, tall)
    bar = sheet.axes(right, footer + BAR_LABEL, wide, BAR_HEIGHT)
    _draw_ratio(axes, bar, ratio, names, inside, index, pixel)

    sampling = [f"{name}: {', '.join(_sampling(nm, inside))}" for name, nm in zip(names, maps, strict=True)]
    scan = dict.fromkeys(part for nm in maps for part in _scan(nm))
    sheet.footer([sampling, [*scan, *_place(first, index), *_intensity(first, second, names, inside)]])
    return sheet.figure


class _Sheet:
    """A figure measured in inches from its lower left corner."""

    def __init__(self, width: float, height: float) -> None:
        # A Figure of its own leaves the caller's pyplot backend and open figures alone.
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        from mrnoise.figures.own import OwnFigure

        self.width, self.height = width, height
        self.figure = OwnFigure(figsize=(width, height), facecolor=PAPER)
        FigureCanvasAgg(self.figure)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, left: float, bottom: float, words: str, **style: Any) -> None:
        self.figure.text(left / self.width, bottom / self.height, words, **style)

    def footer(self, lines: Sequence[Sequence[str]]) -> None:
        most = int((self.width - 2 * MARGIN) / FOOTER_CHARACTER)
        joined = ["   ·   ".join(parts) for parts in lines]
        words = "\n".join(line if len(line) <= most else f"{line[: most - 1].rstrip()}…" for line in joined)
        self.text(MARGIN, 0.16, words, fontsize=8.5, color=QUIET, va="bottom", linespacing=1.5)


def _write(figure: Figure, path: Path) -> None:
    with replacing(Path(path)) as (partial,):
        figure.savefig(partial, dpi=200, format="png", facecolor=PAPER)


def _shape(noise_map: NoiseMap, width: float) -> tuple[float, float]:
    """Height in inches of an image of this width, and height / width of a pixel."""
    ny, nx = noise_map.image.shape[-2:]
    _, dy, dx = noise_map.geometry.spacing
    return width * min(max(ny * dy / (nx * dx), FLATTEST), TALLEST), dy / dx


def chosen_quantities(noise_map: NoiseMap) -> list[str]:
    """Those that stand side by side: image, σ, SNR, and g or, where there is none, the error of σ."""
    last = "relative_error"
    if noise_map.reference_std is not None:
        last = "g_factor"
    elif not bool((noise_map.estimate.variance_error > 0).any()):
        last = "magnitude_std"  # an exact map has no error to show
    return ["image", "std", "snr", last]


def object_or_all(noise_map: NoiseMap) -> np.ndarray:
    """Voxels of the object; of an image without one all."""
    inside = to_numpy(foreground(noise_map.image))
    return inside if inside.any() else np.ones_like(inside)


def values_inside(noise_map: NoiseMap, name: str, inside: np.ndarray) -> np.ndarray | None:
    """Finite values of a quantity inside, in its unit; ``None`` where the map has no such quantity."""
    value = noise_map.quantity(name)
    if value is None:
        return None
    array = to_numpy(value).astype(float)
    kept: np.ndarray = array[inside & np.isfinite(array)]
    return kept


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


def _draw_column(
    rows: Sequence[Axes],
    bar: Axes,
    name: str,
    maps: Sequence[NoiseMap],
    inside: np.ndarray,
    index: tuple[int, ...],
    pixel: float,
) -> None:
    """One quantity of one or more maps, from top to bottom, in the same colours."""
    from matplotlib.colors import Normalize

    quantity = quantities()[name]
    style = quantity.style
    assert style is not None
    values = [nm.quantity(name) for nm in maps]
    arrays = np.stack([to_numpy(v).astype(float) * quantity.scale for v in values if v is not None])
    within = np.broadcast_to(inside, arrays.shape)
    low, high = window(arrays, within, style.from_zero)
    for axes, array in zip(rows, arrays, strict=True):
        outside = None if name == "image" else ~inside[index]
        shown = _show(axes, array[index], style.colours, Normalize(low, high), outside, pixel)
    _title(rows[0], style.title, style.definition)
    drawn = _colour_bar(bar, shown, arrays[within & np.isfinite(arrays)])
    _unit_and_ticks(drawn, name, low, high)


def _draw_ratio(
    axes: Axes,
    bar: Axes,
    ratio: np.ndarray,
    names: tuple[str, str],
    inside: np.ndarray,
    index: tuple[int, ...],
    pixel: float,
) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = ratio[inside & (ratio > 0)]
    smallest = GAIN_STEPS[-1][0]
    reach = max(smallest, float(np.exp(np.percentile(np.abs(np.log(values)), 99)))) if values.size else smallest
    step = next(step for least, step in GAIN_STEPS if reach >= least)
    shown = _show(axes, ratio[index], GAIN_COLOURS, LogNorm(1 / reach, reach), ~inside[index], pixel)
    known = f"median ×{np.median(values):.2f} inside the object" if values.size else "unknown inside the object"
    _title(axes, "SNR ratio", f"{names[1]} / {names[0]}, {known}")
    drawn = _colour_bar(bar, shown, values)
    steps = math.floor(math.log(reach, step))
    drawn.ax.xaxis.set_major_locator(FixedLocator([step**k for k in range(-steps, steps + 1)]))
    drawn.ax.xaxis.set_minor_locator(NullLocator())
    drawn.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:.3g}"))


def _show(
    axes: Axes, array: np.ndarray, colours: str, scale: Normalize, outside: np.ndarray | None, pixel: float
) -> Any:
    """Draw one slice, veiled where it is outside the object."""
    from matplotlib import colormaps

    shown = axes.imshow(
        np.ma.masked_invalid(array),
        cmap=colormaps[colours].with_extremes(bad=PAPER),
        norm=scale,
        aspect=pixel,
        interpolation="nearest",
    )
    if outside is not None:
        veil = np.full((*outside.shape, 4), 0.93)
        veil[..., 3] = np.where(outside, BACKGROUND_VEIL, 0)
        axes.imshow(veil, aspect=pixel, interpolation="nearest")
    axes.set_axis_off()
    return shown


def _title(axes: Axes, title: str, definition: str) -> None:
    for text, points, size, colour in ((title, 21, 13, INK), (definition, 6, 9, QUIET)):
        axes.annotate(text, (0, 1), (0, points), "axes fraction", "offset points", fontsize=size, color=colour)


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


def _colour_bar(bar: Axes, shown: Any, values: np.ndarray) -> Any:
    """A bar under an image, pointed where there are values beyond its colours."""
    low, high = shown.get_clim()
    below = values.size and values.min() < low
    above = values.size and values.max() > high
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[bool(below), bool(above)]
    drawn = bar.figure.colorbar(shown, cax=bar, orientation="horizontal", extend=extend)
    drawn.ax.tick_params(labelsize=9, colors=INK, length=3, width=0.6)
    drawn.outline.set_visible(False)
    return drawn


def _unit_and_ticks(drawn: Any, name: str, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    # The power of ten belongs to the unit, where it cannot overlap a tick.
    power = math.floor(math.log10(max(abs(low), abs(high))))
    power = power if power < -2 or power > 4 else 0
    drawn.ax.xaxis.set_major_locator(MaxNLocator(5))
    drawn.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:.4g}"))
    parts = (rf"$\times 10^{{{power}}}$" if power else "", quantities()[name].short_unit)
    drawn.set_label(" ".join(part for part in parts if part), fontsize=9, color=QUIET, labelpad=2)


# -- footer ----------------------------------------------------------------------------------------------------


def _sampling(noise_map: NoiseMap, inside: np.ndarray) -> list[str]:
    """How the map was made, and how well it is known."""
    samples = "probes" if noise_map.bias is None else "replicas"
    if noise_map.method == "spots":
        samples = "exact voxels"
    parts = [noise_map.method.replace("_", " "), counted(noise_map.n_samples, samples)]
    if noise_map.provenance.preview is not None:
        parts.insert(0, "PREVIEW")
    error = to_numpy(noise_map.relative_error)
    values = error[inside & np.isfinite(error)]
    if values.size == 0 or values.max() > 0:
        known = f"{100 * np.median(values):.2g} %" if values.size else "unknown"
        parts.append(f"median relative error of σ {known}")
    else:
        parts[1] = "no sampling error"
    if noise_map.estimate.interrupted:
        parts.append("INTERRUPTED before its target")
    return parts


def _scan(noise_map: NoiseMap) -> list[str]:
    parts = [f"R = {noise_map.acceleration:.3g}"]
    along = (noise_map.provenance.sampling or {}).get("trajectory")
    if along is not None:
        parts.append(f"trajectory of {along}")
        if noise_map.reference_std is not None and noise_map.provenance.g_reference is None:
            parts.append("g against the grid")
    covariance = noise_map.provenance.noise_covariance or {}
    if covariance.get("source"):
        parts.append(f"Ψ: {covariance['source']}")
    return parts


def leading_axes(noise_map: NoiseMap) -> list[tuple[str, int]]:
    """Names and sizes of the axes before (y, x); the last axis of a volume before them is called slice."""
    sizes = noise_map.image.shape[:-2]
    names = [*noise_map.axes, *(["slice"] if noise_map.spatial_dims == 3 else [])]
    usual = ["frame"] * (len(sizes) - 1) + ["slice"]
    return list(zip(names if len(names) == len(sizes) else usual, sizes, strict=False))


def _place(noise_map: NoiseMap, index: tuple[int, ...]) -> list[str]:
    """Which of several images is shown."""
    axes = [(name, size, i) for (name, size), i in zip(leading_axes(noise_map), index, strict=True) if size > 1]
    return [", ".join(f"{name} {i + 1} of {size}" for name, size, i in axes)] if axes else []


def _intensity(first: NoiseMap, second: NoiseMap, names: tuple[str, str], inside: np.ndarray) -> list[str]:
    """A warning where |x₂| = slope · |x₁| has another slope than 1."""
    x, y = (to_numpy(nm.image.abs().double()) for nm in (first, second))
    chosen = inside & np.isfinite(x) & np.isfinite(y)
    power = np.square(x[chosen]).sum()
    slope = (x[chosen] * y[chosen]).sum() / power if power > 0 else 1.0
    if abs(slope - 1) <= SAME_INTENSITY:
        return []
    return [f"INTENSITY of {names[1]} ×{slope:.2g} that of {names[0]}: σ does not compare, SNR does"]
