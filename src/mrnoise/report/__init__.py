"""Reports: one HTML file that opens anywhere without a network."""

from mrnoise.report.html import write_html
from mrnoise.report.measurement_page import measurement_page
from mrnoise.report.ranking_figures import network_figure, pattern_figure

__all__ = ["measurement_page", "network_figure", "pattern_figure", "write_html"]
