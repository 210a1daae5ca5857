"""Quality assurance: what a phantom scan says of a scanner, week by week."""

from mrnoise.quality.history import History, Record
from mrnoise.quality.limits import BASELINE, LEAST_CHANGE, Chart, Finding, charts, findings
from mrnoise.quality.phantom import CoilQuality, Quality, measure_quality

__all__ = [
    "BASELINE",
    "LEAST_CHANGE",
    "Chart",
    "CoilQuality",
    "Finding",
    "History",
    "Quality",
    "Record",
    "charts",
    "findings",
    "measure_quality",
]
