"""Figures."""

from mrnoise.figures.notebook import html, plot

__all__ = ["html", "plot"]
