"""A figure that notebooks show, whether or not pyplot was imported."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class OwnFigure(Figure):
    """A figure of no window."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100, facecolor=self.get_facecolor())
        return buffer.getvalue()
