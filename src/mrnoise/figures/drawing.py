"""Figures of the HTML pages: their size, axes and colour bars, and how a page holds them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrnoise.figures.panel import INK, PAPER, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that can be drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes, in the style of the pages."""
    axes.set_xlabel(x, fontsize=9.5, color=QUIET)
    axes.set_ylabel(y, fontsize=9.5, color=QUIET)
    axes.tick_params(labelsize=9, colors=INK, length=3, width=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def colour_bar(figure: Figure, shown: Any, axes: Sequence[Axes]) -> Any:
    """A bar beside images that share their colours."""
    drawn = figure.colorbar(shown, ax=axes, shrink=0.85)
    drawn.ax.tick_params(labelsize=9, colors=INK, length=3, width=0.6)
    drawn.outline.set_visible(False)
    return drawn


def data_address(figure: Figure) -> str:
    """The figure as an SVG inside a data address."""
    import matplotlib

    buffer = io.BytesIO()
    # Neither a date nor random names: the same data give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "mrnoise"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor=PAPER)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
