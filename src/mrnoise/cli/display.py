"""What the terminal shows: progress with running error and time left, tables of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mrnoise.files.text import counted
from mrnoise.progress import bar

if TYPE_CHECKING:
    from pathlib import Path

    from mrnoise.estimators import Linearity
    from mrnoise.measurement import Measurements
    from mrnoise.quality import Chart, Finding, History
    from mrnoise.reproduction.runner import GridProgress
    from mrnoise.result.noise_map import NoiseMap
    from mrnoise.training import TrainingProgress

# Names of files and reconstructions are no markup, nor emoji.
OUT = Console(markup=False, emoji=False)
ERR = Console(stderr=True, markup=False, emoji=False)


@contextmanager
def training_progress(label: str) -> Iterator[TrainingProgress]:
    """A bar over all steps, with the loss and the quality of the last validation."""
    with bar("steps") as update:

        def report(step: int, steps: int, loss: float, psnr: float, ssim: float) -> None:
            quality = f"{psnr:.2f} dB, SSIM {ssim:.3f}" if psnr == psnr else "?"
            update(label, step, steps, f"loss {loss:.3f}, validation {quality}")

        yield report


@contextmanager
def scan_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over scans."""
    with bar("scans") as update:
        yield lambda done, total: update(label, done, total)


@contextmanager
def grid_progress() -> Iterator[GridProgress]:
    """A bar over the predicted cost of all cells."""
    with bar("s of work") as update:
        yield update


@contextmanager
def measurement_progress(label: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar over the noise samples of one measurement after another."""
    with bar("samples") as update:
        yield lambda what, done, total: update(f"{label}, {what}", done, total)


@contextmanager
def ranking_progress() -> Iterator[Callable[[str, float, int], None]]:
    """A bar over the noise maps of a ranking."""
    with bar("maps") as update:
        yield update


def print_map(nm: NoiseMap, title: str) -> None:
    """Median and range inside the object of the quantities people ask for first."""
    from mrnoise.foreground import foreground
    from mrnoise.result.quantities import quantities

    inside = foreground(nm.image)
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("inside the object")
    for heading in ("median", "5 %", "95 %"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for name, quantity in quantities().items():
        values = quantity.value(nm) if quantity.asked_first else None
        if values is None:
            continue
        chosen = values[inside].double()
        chosen = chosen[chosen.isfinite()]
        if not len(chosen):
            continue
        cells = [f"{float(chosen.quantile(q)):.4g}" for q in (0.5, 0.05, 0.95)]
        table.add_row(name, *cells, quantity.unit)
    OUT.print(table)
    p = nm.provenance
    cost = ""
    if nm.n_samples:
        cost = f", {counted(nm.n_samples, 'samples')}, {counted(nm.n_products, 'products')}, {p.seconds:.1f} s"
    along = (p.sampling or {}).get("trajectory")
    sampled = "" if along is None else f" along a trajectory of {along}"
    OUT.print(
        f"{nm.method} ({p.why}){cost}; R = {nm.acceleration:.2f}{sampled}; Ψ: {(p.noise_covariance or {})['source']}",
        soft_wrap=True,
        highlight=False,
    )
    if p.preview is not None:
        from mrnoise.result.preview import sentence

        OUT.print(f"Preview: {sentence(p.preview)}", soft_wrap=True, highlight=False)
    if nm.linearity is not None:
        _print_linearity(nm.linearity)


def _print_linearity(linearity: Linearity) -> None:
    from mrnoise.estimators.choice.linearity import LINEAR

    OUT.print(f"Reconstruction: {linearity.sentence}", soft_wrap=True, highlight=False)
    if linearity.verdict != LINEAR:
        ERR.print(
            "warning: this first-order map may be wrong at the noise level of this scan; "
            "--method nonlinear gives the noise that it really has",
            style="yellow",
            soft_wrap=True,
            highlight=False,
        )


def print_measurements(found: Measurements, title: str) -> None:
    """A table: each number with its error, unit and definition."""
    from mrnoise.files.text import plus_minus, significant

    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("95 % interval", justify="right")
    table.add_column("definition")
    for name, rows in found.sections().items():
        table.add_section()
        table.add_row(name, style="bold")
        for row in rows:
            interval = " to ".join(significant(v, 4) for v in row.interval) if row.interval else ""
            table.add_row(row.quantity, plus_minus(row.value, row.error), row.unit, interval, row.definition)
    OUT.print(table)


def print_quality(history: History, charts: Sequence[Chart], findings: Sequence[Finding], baseline: int) -> None:
    """The newest scan of a QA series: each number of the whole scan with its limits, and what is wrong."""
    newest, n = history.records[-1], len(history.records)
    title = f"{newest.scan}, {newest.date}: scan {n} of the series"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for heading in ("value", "usual", "limits"):
        table.add_column(heading, justify="right")
    wrong = {finding.name for finding in findings}
    for chart in charts:
        if " of coil " in chart.name and chart.name not in wrong:
            continue
        known = isfinite(chart.centre)
        usual = f"{chart.centre:.4g}" if known else ""
        limits = "{:.4g} to {:.4g}".format(*chart.limits) if known else ""
        style = "red" if chart.name in wrong else ""
        table.add_row(chart.name, f"{chart.values[-1]:.4g}", usual, limits, style=style)
    OUT.print(table)
    for finding in findings:
        ERR.print(f"broken: {finding.text}", style="red", soft_wrap=True, highlight=False)
    if n < baseline:
        OUT.print(f"no limits yet: {n} of {baseline} scans of the baseline", highlight=False)
    elif not findings:
        OUT.print(f"in order: {len(charts)} numbers within their limits, none drifts", highlight=False)


def print_written(paths: list[Path]) -> None:
    """Name the files that a command left behind."""
    for path in paths:
        OUT.print(f"wrote {path}", highlight=False, soft_wrap=True)
