"""Assemble the report: data, script and style go into one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mrnoise.figures.panel import object_or_all
from mrnoise.files.atomic import replacing
from mrnoise.files.record import to_json
from mrnoise.report import tables
from mrnoise.report.volumes import LARGEST, viewer_data
from mrnoise.result.noise_map import NoiseMap

SCRIPTS = ("volumes.js", "view.js", "histogram.js", "report.js")


@dataclass(frozen=True)
class Surroundings:
    """What a page has around the viewer that the report has not.

    Parameters
    ----------
    kind
        Class of the page in its style.
    navigation, panel
        HTML above the viewer, and beside its picture.
    settings
        Of the viewer, beside its own, JSON-able.
    style, script
        Added to those of the report; the script starts the viewer.
    connect
        Whom the page may talk to, in the words of a content security policy.
    """

    kind: str = "report"
    navigation: str = ""
    panel: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""
    script: str = "start(Report);"
    connect: str = "'none'"


REPORT = Surroundings()


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
    with replacing(Path(path)) as (partial,):
        partial.write_text(page(noise_map), encoding="utf-8")


def page(noise_map: NoiseMap, around: Surroundings = REPORT, second: NoiseMap | None = None) -> str:
    """The report as text; with a second map of the same grid its viewer compares the two."""
    inside = object_or_all(noise_map)
    settings, volumes = viewer_data(noise_map, inside)
    if second is not None:
        settings["second"], others = viewer_data(second, object_or_all(second))
        volumes |= {f"second-{name}": data for name, data in others.items()}
    subtitles = [_subtitle(noise_map)]
    if second is not None:
        subtitles = [f"A  ·  {subtitles[0]}", f"B  ·  {_subtitle(second)}"]
    # "<" could end the script element.
    described = to_json(settings | dict(around.settings)).replace("<", "\\u003c")
    return Template(_asset("template.html")).substitute(
        title=escape(_title(noise_map)),
        subtitles="\n  ".join(f'<p class="subtitle">{escape(line)}</p>' for line in subtitles),
        banners=tables.banners(noise_map, _notes(settings)),
        key_figures="" if second is not None else f'<dl class="figures">{tables.key_figures(noise_map, inside)}</dl>',
        of=" of A" if second is not None else "",
        summary=tables.summary(noise_map, inside),
        scope=tables.scope(noise_map, inside),
        provenance=tables.provenance(noise_map),
        kind=around.kind,
        connect=around.connect,
        navigation=around.navigation,
        viewer=Template(_asset("viewer.html")).substitute(panel=around.panel),
        settings=described,
        volumes="\n".join(
            f'<script type="text/plain" id="volume-{name}">{data}</script>' for name, data in volumes.items()
        ),
        style=_asset("report.css") + around.style,
        script="\n".join([*map(_asset, SCRIPTS), around.script]),
    )


def _asset(name: str) -> str:
    return (files("mrnoise.report") / name).read_text(encoding="utf-8")


def _title(noise_map: NoiseMap) -> str:
    name = (noise_map.provenance.input or {}).get("source")
    return f"Noise map of {name}" if name else "Noise map"


def _subtitle(noise_map: NoiseMap) -> str:
    record = noise_map.provenance
    shape = " × ".join(str(n) for n in reversed(noise_map.image.shape))
    parts = [
        tables.reconstruction_in_words(record.reconstruction or ""),
        f"R = {noise_map.acceleration:.3g}",
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
