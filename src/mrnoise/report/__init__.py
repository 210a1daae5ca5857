"""Reports: one HTML file that opens anywhere without a network."""

from mrnoise.report.html import write_html
from mrnoise.report.measurements import measurement_page

__all__ = ["measurement_page", "write_html"]
