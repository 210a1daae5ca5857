"""The figure of a QA series: each number over time, with its limits."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrnoise.figures.drawing import label_axes, new_figure
from mrnoise.figures.measurements import CURVES
from mrnoise.figures.panel import INK, QUIET
from mrnoise.quality import Chart, Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALARM = "#c8102e"
TITLES = {
    "snr": ("SNR", "median in the region"),
    "std": ("σ", "image units, median in the region"),
    "noise": ("Noise of the receivers", "√ψ, k-space units"),
    "correlation": ("Largest correlation of two coils", "|ρ|"),
    "noise of coil": ("Noise of each coil", "relative, over the others"),
    "signal of coil": ("Signal of each coil", "relative, over the others"),
}


def quality_figure(dates: Sequence[datetime.date], charts: Sequence[Chart], findings: Sequence[Finding]) -> Figure:
    """Six panels over time: four numbers of the whole scan with their limits shaded, noise and signal of all coils.

    What is wrong with the newest scan is red.

    Parameters
    ----------
    dates
        Of the scans.
    charts, findings
        Of `mrnoise.quality.charts` and `mrnoise.quality.findings`.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    days = date2num(list(dates)).tolist()
    wrong = {finding.name: finding for finding in findings}
    figure = new_figure(12.0, 6.4)
    for axes, (key, (title, unit)) in zip(figure.subplots(2, 3).flat, TITLES.items(), strict=True):
        those = [chart for chart in charts if chart.name.rstrip("0123456789").rstrip() == key]
        for chart in those:
            _draw(axes, days, chart, chart.name in wrong)
        broken = [wrong[chart.name] for chart in those if chart.name in wrong]
        axes.set_title(title, fontsize=11, color=ALARM if broken else INK, loc="left")
        label_axes(axes, "", unit)
        axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=6))
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.grid(axis="y", color=QUIET, alpha=0.2, linewidth=0.6)
    return figure


def _draw(axes: Axes, days: Sequence[float], chart: Chart, wrong: bool) -> None:
    whole = " of coil " not in chart.name
    low, high = chart.limits
    if whole and low == low:
        axes.axhspan(low, high, color=CURVES[1], alpha=0.12, linewidth=0)
        axes.axhline(chart.centre, color=QUIET, linewidth=0.8)
    colour = ALARM if wrong else CURVES[0] if whole else QUIET
    axes.plot(days, chart.values, "-", color=colour, linewidth=1.4 if whole or wrong else 0.8, zorder=3 if wrong else 2)
    marked = [i for i, outside in enumerate(chart.outside) if outside]
    if whole:
        axes.plot(days, chart.values, "o", color=colour, markersize=4)
    axes.plot([days[i] for i in marked], [chart.values[i] for i in marked], "o", color=ALARM, markersize=6, zorder=4)
    if wrong and not whole:
        number = chart.name.rpartition(" ")[2]
        axes.annotate(
            f"coil {number}",
            (days[-1], chart.values[-1]),
            (-2, 8),
            textcoords="offset points",
            fontsize=9,
            color=ALARM,
            ha="right",
        )
