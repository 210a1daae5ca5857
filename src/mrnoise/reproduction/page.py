"""The report of the evaluation: one HTML file, a pure function of shards, that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mrnoise.files.atomic import replacing
from mrnoise.reproduction.figures import figures
from mrnoise.reproduction.grid import GRID
from mrnoise.reproduction.shards import Cell, read_shard
from mrnoise.reproduction.tables import TABLES, Shard

UNROLLED = ("varnet", "modl", "ssdu", "n2r", "vortex")


def read_tables(cells: Sequence[Cell], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Shards by table, in the order of the grid, of those cells that have one."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in GRID}
    for cell in cells:
        shard = read_shard(cell, folder)
        if shard is not None:
            found[cell.table].append(shard)
    return {name: shards for name, shards in found.items() if shards}


def write_page(cells: Sequence[Cell], folder: Path, path: Path) -> None:
    """Write the report of the shards in a folder."""
    tables = read_tables(cells, folder)
    total = sum(map(len, tables.values()))
    with replacing(path) as (partial,):
        partial.write_text(page(tables, f"{total} of {len(cells)} cells are there"), encoding="utf-8")


def page(tables: dict[str, list[dict[str, Any]]], extent: str) -> str:
    """HTML text."""
    shards = [shard for found in tables.values() for shard in found]
    assets = files("mrnoise.report")
    return Template((files("mrnoise.reproduction") / "page.html").read_text(encoding="utf-8")).substitute(
        style=(assets / "report.css").read_text(encoding="utf-8"),
        extent=extent,
        phantom=_phantom(shards),
        key_figures=_key_figures(tables),
        contents=" · ".join(f'<a href="#{name}">{escape(TABLES[name].title)}</a>' for name in tables),
        sections="\n".join(_section(name, found) for name, found in tables.items()),
        provenance=_provenance(shards),
    )


def _section(name: str, shards: Sequence[Shard]) -> str:
    table = TABLES[name]
    drawn = "".join(
        f'<figure><img class="figure" alt="{escape(table.title)}" src="{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for source, caption in figures(name, shards)
    )
    rows = table.html(shards)
    return f'<section id="{name}"><h2>{escape(table.title)}</h2><p>{escape(table.text)}</p>{drawn}{rows}</section>'


def _phantom(shards: Sequence[Shard]) -> str:
    if not any(shard["input"].get("anatomy") == "generated phantom" for shard in shards):
        return ""
    return (
        '<p class="banner">No anatomy was given: brain and knee are both the generated head phantom. A folder given '
        "with --data has the slices that the networks were made for.</p>"
    )


def _key_figures(tables: dict[str, list[dict[str, Any]]]) -> str:
    """What the evaluation is about, in a few numbers."""
    sketches = [(shard, shard["result"]["sketch"]) for shard in tables.get("methods", [])]
    corrected = [s["result"]["nonlinear"] for s in tables.get("methods", []) if "nonlinear" in s["result"]]
    auto = [shard["result"]["auto"] for shard in tables.get("noise_level", [])]
    unrolled = [found for shard, found in sketches if shard["parameters"]["reconstruction"] in UNROLLED]
    found = []
    if sketches:
        mean = sum(f["correlation"] for _, f in sketches) / len(sketches)
        found.append(("mean PCC, all methods", f"{100 * mean:.2f} %", "published 99.8 %"))
    if unrolled:
        found.append(("lowest PCC, unrolled networks", f"{100 * min(f['correlation'] for f in unrolled):.2f} %", ""))
    for title, some in (
        ("largest error / floor, unrolled", unrolled),
        ("U-Net, nonlinear", corrected),
        ("auto, any α", auto),
    ):
        if some:
            found.append((title, f"{max(f['nrmse'] / f['floor'] for f in some):.2f}", "floors"))
    return "".join(
        f"<div><dt>{escape(title)}</dt><dd>{value} <small>{unit}</small></dd></div>" for title, value, unit in found
    )


def _provenance(shards: Sequence[Shard]) -> str:
    """What the shards say of where they come from."""
    inputs = dict.fromkeys(f"{name} {value}" for shard in shards for name, value in shard["input"].items())
    rows = {
        "Versions": "; ".join(dict.fromkeys(", ".join(map(" ".join, shard["versions"].items())) for shard in shards)),
        "Hardware": "; ".join(dict.fromkeys(shard["hardware"] for shard in shards)),
        "Work": f"{sum(shard['seconds'] for shard in shards) / 60:.1f} min of one core or device",
        "Input (SHA-256)": "; ".join(inputs),
    }
    return "".join(f'<tr><th scope="row">{name}</th><td>{escape(value)}</td></tr>' for name, value in rows.items())
