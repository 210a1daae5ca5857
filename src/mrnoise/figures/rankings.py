"""Figures of the rankings: sampling patterns by noise, reconstructions by SNR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mrnoise.figures.drawing import colour_bar, label_axes, new_figure
from mrnoise.figures.measurements import CORRELATION_COLOURS, CURVES, outline
from mrnoise.figures.panel import INK, QUIET, chosen_slice, window
from mrnoise.files.record import to_numpy
from mrnoise.foreground import foreground
from mrnoise.ranking import NetworkNoise, PatternNoise, Uncertain, equal_psnr, ranks
from mrnoise.sampling import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROI = "#5fe3ff"
LAGS, REACH = 5, 0.5  # voxels each side of an autocorrelation, and its colours
LABEL_GAP = 0.065  # smallest distance of two labels, of the height of the axes


def pattern_figure(rows: Sequence[PatternNoise], roi: Tensor) -> Figure:
    """Both σ of each pattern with 95 % intervals, beside samples and σ map of the least and of the most noise.

    Patterns that may be the best are coloured.

    Parameters
    ----------
    rows
        Of `mrnoise.ranking.rank_patterns`, in its order.
    roi
        Bool, image-shaped; outlined in the maps.
    """
    best, worst = rows[0], rows[-1]
    figure = new_figure(12.0, 4.8)
    grid = figure.add_gridspec(2, 4, width_ratios=(1.5, 1.5, 1, 1))
    names = ["\n".join((row.pattern, f"R = {row.acceleration:.2f}", *_quality(row.psnr))) for row in rows]
    for column, (title, numbers) in enumerate(
        (
            ("σ of the mean in the region", [row.roi_std for row in rows]),
            ("voxel σ in the region, rms", [row.voxel_std for row in rows]),
        )
    ):
        axes = figure.add_subplot(grid[:, column])
        _points(axes, numbers, names if column == 0 else [""] * len(rows), "image units")
        axes.set_title(title, fontsize=11, color=INK, loc="left")
    sigma = [to_numpy(row.noise_map.magnitude_std) for row in (best, worst)]
    region = to_numpy(roi)
    index = chosen_slice(best.noise_map.image, region)
    inside = np.stack([to_numpy(foreground(row.noise_map.image)) for row in (best, worst)])
    low, high = window(np.stack(sigma), inside, False)
    maps = []
    for line, (word, row, values) in enumerate(zip(("least", "most"), (best, worst), sigma, strict=True)):
        left, right = (figure.add_subplot(grid[line, column]) for column in (2, 3))
        _draw_samples(left, row.sampling)
        left.set_title(f"{word} noise: {row.pattern}", fontsize=10, color=INK, loc="left")
        _, dy, dx = row.noise_map.geometry.spacing
        shown = right.imshow(
            values[index], cmap="inferno", vmin=low, vmax=high, aspect=dy / dx, interpolation="nearest"
        )
        outline(right, region[index], ROI)
        right.set_title("σ of |x|", fontsize=10, color=INK, loc="left")
        maps.append(right)
        for axes in (left, right):
            axes.set_axis_off()
    drawn = colour_bar(figure, shown, maps)
    drawn.ax.tick_params(labelsize=8)
    drawn.ax.ticklabel_format(style="sci", scilimits=(-2, 4), useMathText=True)
    return figure


def network_figure(rows: Sequence[NetworkNoise]) -> Figure:
    """SNR against PSNR (against autocorrelation length without it) with 95 % intervals, and the noise texture of each.

    Those that may be the best are coloured. Bands hold reconstructions of equal PSNR, `mrnoise.ranking.equal_psnr`.
    The texture is the autocorrelation of the noise around lag 0, a pixel a voxel, in colours from -0.5 to 0.5.

    Parameters
    ----------
    rows
        Of `mrnoise.ranking.rank_networks`, in its order.
    """
    columns = 4 if len(rows) > 4 else 2
    lines = -(-len(rows) // columns)
    figure = new_figure(6.6 + 1.55 * columns, max(4.6, 1.9 * lines))
    grid = figure.add_gridspec(1, 2, width_ratios=(6.6, 1.55 * columns))
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    axes = left.add_subplot()
    against_psnr = all(row.psnr is not None for row in rows)
    lengths = [float(np.mean(row.noise_power.length)) for row in rows]
    x = [float(row.psnr) for row in rows if row.psnr is not None] if against_psnr else lengths
    y = [row.snr.value for row in rows]
    colours = [CURVES[0] if rank == 1 else QUIET for rank in ranks([row.snr for row in rows], largest_first=True)]
    for group in equal_psnr(rows):
        values = [row.psnr for row in group if row.psnr is not None]
        axes.axvspan(min(values) - 0.04, max(values) + 0.04, color=CURVES[1], alpha=0.12, linewidth=0)
    for row, at, colour in zip(rows, x, colours, strict=True):
        axes.errorbar(at, row.snr.value, _reach(row.snr), fmt="o", color=colour, capsize=3, markersize=6, linewidth=1.4)
    unit = rows[0].noise_power.unit
    label_axes(axes, "PSNR (dB)" if against_psnr else f"autocorrelation length ({unit})", "SNR, median in the region")
    axes.margins(x=0.12, y=0.12)
    _place_labels(axes, [row.name for row in rows], x, y)
    words = "SNR against PSNR; equal PSNR (0.5 dB) is shaded" if against_psnr else "SNR against noise texture"
    axes.set_title(words, fontsize=11, color=INK, loc="left")
    for row, panel in zip(rows, right.subplots(lines, columns, squeeze=False).flat, strict=False):
        rho = to_numpy(row.noise_power.autocorrelation)
        middle = [n // 2 for n in rho.shape]
        crop = tuple(slice(max(m - LAGS, 0), m + LAGS + 1) for m in middle[-2:])
        plane = rho[(*middle[:-2], *crop)]
        panel.imshow(plane, cmap=CORRELATION_COLOURS, vmin=-REACH, vmax=REACH, interpolation="nearest")
        size = " × ".join(f"{length:.1f}" for length in row.noise_power.length)
        panel.set_title(f"{row.name}\n{size} {unit}", fontsize=9, color=INK)
    for panel in right.axes:
        panel.set_axis_off()
    right.suptitle("Noise texture and its width", fontsize=11, color=INK)
    return figure


# -- parts -----------------------------------------------------------------------------------------------------


def _quality(psnr: float | None) -> list[str]:
    return [] if psnr is None else [f"{psnr:.1f} dB"]


def _reach(number: Uncertain) -> np.ndarray:
    """Of the interval below and above the value, (2, 1)."""
    low, high = number.interval
    return np.array([[number.value - low], [high - number.value]])


def _points(axes: Axes, numbers: Sequence[Uncertain], names: Sequence[str], unit: str) -> None:
    """A line a number, the first on top; those that may be the best are coloured."""
    for line, (number, rank) in enumerate(zip(numbers, ranks(numbers), strict=True)):
        colour = CURVES[0] if rank == 1 else QUIET
        style: dict[str, Any] = {"fmt": "o", "color": colour, "capsize": 4, "markersize": 6, "linewidth": 1.6}
        axes.errorbar(number.value, line, xerr=_reach(number), **style)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", color=QUIET, alpha=0.2, linewidth=0.6)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 4), useMathText=True)
    label_axes(axes, unit, "")


def _draw_samples(axes: Axes, sampling: Tensor | Trajectory) -> None:
    """A mask over (k1, k0), or over both phase encodes (k2, k1) of a volume; a trajectory, of a volume near k2 = 0."""
    if not isinstance(sampling, Trajectory):
        mask = to_numpy(sampling)
        plane = mask if mask.ndim == 2 else mask[:, :, mask.shape[2] // 2]
        axes.imshow(plane, cmap="gray", interpolation="nearest")
        return
    k = to_numpy(sampling.coordinates).reshape(sampling.spatial_dims, -1)
    y, x = k[-2:] if len(k) == 2 else k[1:, np.abs(k[0]) <= 1]
    axes.scatter(x, y, s=0.4, color=INK, linewidths=0)
    axes.set_aspect("equal")
    axes.invert_yaxis()


def _place_labels(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Names in a column right of the axes in the order of y, far enough apart, each led to its point."""
    low, high = axes.get_ylim()
    heights = [(value - low) / (high - low) for value in y]
    order = np.argsort(heights)
    placed = [heights[k] for k in order]
    for k in range(1, len(placed)):
        placed[k] = max(placed[k], placed[k - 1] + LABEL_GAP)
    excess = max(placed[-1] - 1.0, 0.0)
    for k, height in zip(order, placed, strict=True):
        axes.annotate(
            names[k],
            (x[k], y[k]),
            (1.03, height - excess),
            textcoords="axes fraction",
            fontsize=10,
            color=INK,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.6, "shrinkB": 5},
        )
