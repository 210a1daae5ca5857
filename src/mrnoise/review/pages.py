"""The pages: the report with a list of maps above it and a region beside it, and one with a message."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from mrnoise.files.text import significant
from mrnoise.foreground import foreground
from mrnoise.report.html import Surroundings, page
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.ratio import compare, snr_ratio


def review_page(names: Sequence[str], name: str, nm: NoiseMap, second: str | None, other: NoiseMap | None) -> str:
    """The page of a map, beside a second one where there is one.

    Raises
    ------
    InputError
        If the two differ in shape.
    """
    place = names.index(name)
    settings: dict[str, Any] = {
        "map": name,
        "secondMap": second,
        "before": names[place - 1] if place else None,
        "behind": names[place + 1] if place + 1 < len(names) else None,
        "shapeOfImage": list(nm.image.shape),
    }
    found = "" if other is None else f'<p class="agreement">{escape(agreement(nm, other))}</p>'
    navigation = Template(_asset("navigation.html")).substitute(
        number=f"{place + 1} of {len(names)}",
        maps=_options(names, name),
        others=_options([one for one in names if one != name], second),
        second="" if second is None else f" · B {escape(second)}",
        label="" if second is None else "A ",
        name=escape(name),
        agreement=found,
    )
    around = Surroundings(
        kind="review",
        navigation=navigation,
        panel=_asset("region.html"),
        settings=settings,
        style=_asset("review.css"),
        script=_asset("drawing.js") + _asset("review.js"),
        connect="'self'",
    )
    return page(nm, around, other)


def agreement(nm: NoiseMap, other: NoiseMap) -> str:
    """What is to be said of two maps in one sentence."""
    inside = foreground(nm.image)
    found = compare(nm, other, inside)
    ratio = snr_ratio(nm, other)[inside]
    gain = float(ratio[ratio.isfinite()].median()) if bool(ratio.isfinite().any()) else float("nan")
    parts = [1 / found.ratio, gain, 100 * found.nrmse, 100 * found.floor]
    sigma, snr, differs, explained = (significant(part, 2) for part in parts)
    return (
        f"Inside the object of A: mean σ of B / A {sigma}, median SNR of B / A {snr}; σ differs by {differs} % (root "
        f"mean square, of the mean of B), of which sampling alone explains {explained} %."
    )


def message_page(title: str, words: str) -> str:
    """A page that says what is wrong."""
    return Template(_asset("message.html")).substitute(title=escape(title), words=escape(words))


def _options(names: Sequence[str], chosen: str | None) -> str:
    return "".join(
        f'<option value="{escape(one)}"{" selected" * (one == chosen)}>{escape(one)}</option>' for one in names
    )


def _asset(name: str) -> str:
    return (files("mrnoise.review") / name).read_text(encoding="utf-8")
