"""The page of measurements: one HTML file that opens anywhere without a network."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from mrnoise.figures.measurements import figures
from mrnoise.files.text import plus_minus, significant
from mrnoise.measurement.measurements import Measurements
from mrnoise.report.tables import reconstruction_in_words, record_rows


def measurement_page(found: Measurements, title: str) -> str:
    """HTML text: the numbers with their errors, the pictures, how they were made.

    Parameters
    ----------
    found
        Outcome of `mrnoise.measurement.measure`.
    title
        Heading of the page.

    Returns
    -------
    str
        One page that needs no other file and no network.

    Examples
    --------
    >>> import torch
    >>> from mrnoise.measurement import measure
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi = torch.zeros(16, 12, dtype=torch.bool)
    >>> roi[6:10, 4:8] = True
    >>> page = measurement_page(measure(CgSense(1e-3), simulate((16, 12), 4), roi=roi), "Head")
    >>> "SNR of the mean" in page
    True
    """
    assets = files("mrnoise.report")
    return Template((assets / "measurements.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=escape(reconstruction_in_words(found.provenance.reconstruction or "")),
        style=(assets / "report.css").read_text(encoding="utf-8"),
        tables="\n".join(_table(name, found) for name in found.sections()),
        figures="\n".join(
            f'<section><h2>{escape(name)}</h2><p>{escape(text)}</p><img class="figure" alt="{escape(name)}" '
            f'src="{source}"></section>'
            for name, text, source in figures(found)
        ),
        provenance=record_rows(found.stated()),
    )


def _table(name: str, found: Measurements) -> str:
    rows = []
    for row in found.sections()[name]:
        interval = " to ".join(significant(v, 4) for v in row.interval) if row.interval else ""
        rows.append(
            f'<tr><th scope="row">{escape(row.quantity)}</th>'
            f'<td class="number" data-column="value">{plus_minus(row.value, row.error)}</td>'
            f'<td data-column="unit">{row.unit}</td>'
            f'<td class="number" data-column="95 % interval">{interval}</td><td>{escape(row.definition)}</td></tr>'
        )
    return (
        f'<section><h2>{escape(name)}</h2><div class="scroll"><table class="measurements">'
        "<thead><tr><th></th><th>Value</th><th>Unit</th><th>95 % interval</th><th>Definition</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )
