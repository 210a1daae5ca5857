"""The report: one HTML file that opens anywhere without a network."""

from mrnoise.report.html import write_html

__all__ = ["write_html"]
