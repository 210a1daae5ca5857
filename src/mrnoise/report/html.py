"""Assemble the report: data, script and style go into one file."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from mrnoise.files.atomic import replacing
from mrnoise.files.record import to_json, to_numpy
from mrnoise.foreground import foreground
from mrnoise.report import tables
from mrnoise.report.volumes import LARGEST, viewer_data
from mrnoise.result.noise_map import NoiseMap

SCRIPTS = ("volumes.js", "view.js", "histogram.js", "report.js")


def write_html(noise_map: NoiseMap, path: Path) -> None:
    """Write a report that opens in any browser without a network.

    An interactive viewer of the maps with the value and the 95 % interval of the voxel under the pointer,
    histograms, a summary inside the object, and how the map was computed. About 20 bytes a voxel; of images above
    four million voxels, every n-th slice.

    Parameters
    ----------
    noise_map
        What is shown.
    path
        Of the ``.html`` file.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4), n_samples=16)
    >>> write_html(nm, Path("head.html"))
    >>> Path("head.html").read_text()[:15]
    '<!doctype html>'
    """
    inside = to_numpy(foreground(noise_map.image))
    if not inside.any():
        # An image without an object is summarised over everything.
        inside = np.ones_like(inside)
    settings, volumes = viewer_data(noise_map, inside)
    text = Template(_asset("template.html")).substitute(
        title=escape(_title(noise_map)),
        subtitle=escape(_subtitle(noise_map)),
        banners=tables.banners(noise_map, _notes(settings)),
        key_figures=tables.key_figures(noise_map, inside),
        summary=tables.summary(noise_map, inside),
        scope=tables.scope(noise_map, inside),
        provenance=tables.provenance(noise_map),
        # "<" could end the script element.
        settings=to_json(settings).replace("<", "\\u003c"),
        volumes="\n".join(
            f'<script type="text/plain" id="volume-{name}">{data}</script>' for name, data in volumes.items()
        ),
        style=_asset("report.css"),
        script="\n".join(_asset(name) for name in SCRIPTS),
    )
    with replacing(Path(path)) as (partial,):
        partial.write_text(text, encoding="utf-8")


def _asset(name: str) -> str:
    return (files("mrnoise.report") / name).read_text(encoding="utf-8")


def _title(noise_map: NoiseMap) -> str:
    name = (noise_map.provenance.input or {}).get("source")
    return f"Noise map of {name}" if name else "Noise map"


def _subtitle(noise_map: NoiseMap) -> str:
    record = noise_map.provenance
    shape = " × ".join(str(n) for n in reversed(noise_map.image.shape))
    parts = [
        record.reconstruction,
        noise_map.method.replace("_", " "),
        f"{shape} voxels",
        (record.created or "")[:10],
    ]
    return "  ·  ".join(str(part) for part in parts if part)


def _notes(settings: dict[str, Any]) -> list[str]:
    notes = []
    for kind, step in (("slice", settings["sliceStep"]), ("frame", settings["frameStep"])):
        if step > 1:
            notes.append(
                f"The viewer holds one {kind} in {step} of this image of more than {LARGEST:,} voxels; the tables "
                "are about all of them."
            )
    return notes
