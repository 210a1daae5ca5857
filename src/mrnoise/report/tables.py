"""The parts of the report that are text: key figures, summary, provenance."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from mrnoise.estimators.choice.linearity import LINEAR
from mrnoise.figures.panel import values_inside
from mrnoise.files.text import printable, significant
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.preview import sentence
from mrnoise.result.quantities import quantities

SMALL_NOISE_SNR = 3.0
LONGEST_TITLE = 400
COLUMNS = ("median", "mean", "5 %", "95 %")
TITLES = {
    "method": "Method",
    "why": "Why this method",
    "control_variate": "Control variates",
    "half_precision": "Half precision",
    "noise_model": "Noise model",
    "reconstruction": "Reconstruction",
    "n_samples": "Probes or replicas",
    "n_products": "Products (reconstructions, jvps, vjps)",
    "target_error": "Target relative error of σ",
    "certified_error": "Certified relative error of σ",
    "distribution": "Distribution of the probes",
    "seed": "Seed",
    "interrupted": "Interrupted",
    "preflight": "Preflight",
    "linearity": "Linearity",
    "preview": "Preview",
    "noise_scale": "Noise relative to that of the scan",
    "noise_covariance": "Noise covariance Ψ",
    "coil_maps": "Coil maps",
    "sampling": "Sampling",
    "input": "Input",
    "command": "Options of mrnoise map",
    "notes": "What was read",
    "geometry": "Geometry",
    "voxel_size": "Voxel size",
    "versions": "Versions",
    "created": "Created",
    "seconds": "Computing time in s",
}


def banners(noise_map: NoiseMap, notes: Sequence[str]) -> str:
    """What a reader must know before believing the map."""
    messages = []
    if noise_map.estimate.interrupted:
        messages.append(
            "<b>Interrupted.</b> The run was stopped before it reached its target. The intervals hold for the "
            "probes that were made; slices that were not reached are empty."
        )
    scale = noise_map.provenance.noise_scale or 1.0
    if scale != 1:
        messages.append(
            f"<b>Another noise level.</b> The noise is {scale:.4g} times that "
            "of the scan, to first order; whether first order holds there was not checked."
        )
    if noise_map.provenance.preview is not None:
        messages.append(f"<b>Preview.</b> {escape(sentence(noise_map.provenance.preview))}.")
    if noise_map.linearity is not None and noise_map.linearity.verdict != LINEAR:
        messages.append(
            f"<b>First order may not hold.</b> The reconstruction is {escape(noise_map.linearity.sentence)}. "
            "A map by the method <code>nonlinear</code> holds at any noise level."
        )
    if not noise_map.geometry.measured:
        messages.append(
            "<b>Geometry assumed.</b> The scan gave no voxel size and orientation: voxels are drawn as "
            f"{' × '.join(f'{v:g}' for v in noise_map.geometry.voxel_size[::-1])} mm (x, y, z)."
        )
    messages += [escape(note) for note in notes]
    return "".join(f'<p class="banner">{message}</p>' for message in messages)


def key_figures(noise_map: NoiseMap, inside: np.ndarray) -> str:
    """Medians inside the object, as tiles."""
    tiles = [("Median SNR", "snr", 1.0, ""), ("Median σ", "std", 1.0, "a.u.")]
    if noise_map.reference_std is not None:
        tiles.append(("Median g-factor", "g_factor", 1.0, ""))
    tiles.append(("Median error of σ", "relative_error", 100.0, "%"))
    cells = [
        (title, significant(scale * _median(noise_map, name, inside)), units) for title, name, scale, units in tiles
    ]
    cells += [
        ("Acceleration R", f"{noise_map.acceleration:.3g}", ""),
        ("Probes or replicas", str(noise_map.n_samples), ""),
    ]
    return "".join(
        f"<div><dt>{title}</dt><dd>{value} <small>{units}</small></dd></div>" for title, value, units in cells
    )


def summary(noise_map: NoiseMap, inside: np.ndarray) -> str:
    """Rows of the summary table: every quantity inside the object, with its definition."""
    rows = []
    for name, quantity in quantities().items():
        values = values_inside(noise_map, name, inside)
        if values is None:
            continue
        figures = ["–"] * len(COLUMNS)
        if values.size:
            scaled = values * quantity.scale
            low, middle, high = np.percentile(scaled, (5, 50, 95))
            figures = [significant(float(v)) for v in (middle, scaled.mean(), low, high)]
        # On a narrow page the head of the table is gone.
        cells = "".join(
            f'<td class="number" data-column="{column}">{figure}</td>'
            for column, figure in zip(COLUMNS, figures, strict=True)
        )
        about = f'<td data-column="unit">{quantity.short_unit}</td><td>{escape(quantity.definition)}</td>'
        rows.append(f'<tr><th scope="row">{name}</th>{cells}{about}</tr>')
    return "\n".join(rows)


def scope(noise_map: NoiseMap, inside: np.ndarray) -> str:
    """Which voxels the summary is about, and where the small-noise formulas end."""
    text = f"{int(inside.sum()):,} of {inside.size:,} voxels lie inside the object.".replace(",", "\u2009")
    values = values_inside(noise_map, "snr", inside)
    if values is not None and values.size:
        low = 100 * float((values < SMALL_NOISE_SNR).mean())
        text += (
            f" {significant(low, 2)} % of them have an SNR below {SMALL_NOISE_SNR:g}, where magnitude and phase "
            "noise of the small-noise formulas no longer hold."
        )
    if noise_map.linearity is not None:
        text += f" The reconstruction is {escape(noise_map.linearity.sentence)}."
    return text


def provenance(noise_map: NoiseMap) -> str:
    """Rows of the table "How it was computed"; nested records are flattened into one cell."""
    record = {
        "method": noise_map.method,
        "n_samples": noise_map.n_samples,
        "n_products": noise_map.n_products,
        "certified_error": noise_map.certified_error,
        "interrupted": noise_map.interrupted,
        "linearity": None if noise_map.linearity is None else noise_map.linearity.describe(),
        "sampling": {"acceleration": noise_map.acceleration},
        "geometry": {
            "voxel size (z, y, x) in mm": noise_map.geometry.voxel_size,
            "source": "scan" if noise_map.geometry.measured else "assumed",
        },
        **noise_map.provenance.stated(),
    }
    return record_rows(record)


def reconstruction_in_words(title: str) -> str:
    """A reconstruction without its settings, which are in the table.

    Examples
    --------
    >>> reconstruction_in_words("Pocs(inner=CgSense(regularization=0.001, iterations=None), iterations=10)")
    'Pocs of CgSense'
    >>> reconstruction_in_words("CommandLine('bart pics {kspace} {sens}')")
    'CommandLine: bart pics {kspace} {sens}'
    >>> reconstruction_in_words("varnet-brain 1ee4c2ce (noise of the normalization propagated)")
    'varnet-brain 1ee4c2ce'
    """
    if len(title) > LONGEST_TITLE:
        return f"{title[:LONGEST_TITLE]}…"
    try:
        call = ast.parse(title, mode="eval").body
    except (SyntaxError, ValueError):
        return title.partition(" (")[0]
    if not isinstance(call, ast.Call):
        return title
    words = ast.unparse(call.func)
    for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
        if isinstance(value, ast.Call):
            return f"{words} of {reconstruction_in_words(ast.unparse(value))}"
    named = [value for value in call.args if isinstance(value, ast.Constant | ast.Name)]
    return f"{words}: {', '.join(_plain(value) for value in named)}" if named else words


def _plain(value: ast.Constant | ast.Name) -> str:
    return value.id if isinstance(value, ast.Name) else str(value.value)


def record_rows(record: Mapping[str, Any]) -> str:
    """Rows of a record, nested ones flattened into one cell."""
    order = [*TITLES, *(key for key in record if key not in TITLES)]
    rows = [
        f'<tr><th scope="row">{escape(TITLES.get(key, _words(key)))}</th><td>{_cell(record[key])}</td></tr>'
        for key in order
        if record.get(key) is not None
    ]
    return "\n".join(rows)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = []
        for key, item in value.items():
            if key == "checks":
                parts.append("".join(_checks(item)))
            elif item is not None:
                parts.append(f'<span class="pair"><i>{escape(_words(key))}</i> {_cell(item)}</span>')
        return " ".join(parts)
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 else significant(value, 4)
    text = escape(printable(str(value)))
    return f"<code>{text}</code>" if len(text) >= 40 and " " not in text else text


def _checks(checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for check in checks:
        passed = bool(check.get("passed"))
        yield (
            f'<div class="check {"passed" if passed else "failed"}">{"✓" if passed else "✗"} '
            f"{escape(_words(str(check.get('name', ''))))}"
            f" <i>{escape(str(check.get('detail', '')))}</i></div>"
        )


def _words(key: str) -> str:
    return key.replace("_", " ")


def _median(noise_map: NoiseMap, name: str, inside: np.ndarray) -> float:
    values = values_inside(noise_map, name, inside)
    return float(np.median(values)) if values is not None and values.size else math.nan
