"""How a map shows itself: its figure, and the HTML of a notebook."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from mrnoise.errors import InputError
from mrnoise.figures.panel import (
    chosen_quantities,
    chosen_slice,
    leading_axes,
    object_or_all,
    panel,
    values_inside,
    window,
)
from mrnoise.files.record import to_numpy
from mrnoise.files.text import counted, significant
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.preview import sentence
from mrnoise.result.quantities import quantities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 190  # CSS pixels of a picture
VEILED = 0.12  # opacity outside the object
# Colours that hold on light and on dark paper: those of the notebook.
ROW = "display:flex;flex-wrap:wrap;gap:14px;margin:8px 0"
QUIET = "opacity:0.7"
CELL = "padding:2px 14px 2px 0;text-align:right;background:none;border:0"


def plot(noise_map: NoiseMap, place: Sequence[int] | int | None = None) -> Figure:
    """Image, σ, SNR and g-factor (the error of σ where there is none) of one slice, as one figure.

    Parameters
    ----------
    noise_map
        What is shown.
    place
        Index along the axes before (y, x): a slice, or (frame, slice) and so on; ``None``: that in the middle.

    Returns
    -------
    Figure
        A figure of Matplotlib that shows itself in a notebook; elsewhere save it with ``savefig``.

    Raises
    ------
    InputError
        If there is no such slice.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4, n_slices=3), n_samples=16)
    >>> plot(nm, 2).savefig("slice.png")
    """
    if place is None:
        return panel(noise_map)
    index = (place,) if isinstance(place, int) else tuple(place)
    axes = leading_axes(noise_map)
    if len(index) != len(axes) or any(not 0 <= i < n for i, (_, n) in zip(index, axes, strict=True)):
        raise InputError(
            "no such slice",
            expected="an index along " + (", ".join(f"{name} (0 to {n - 1})" for name, n in axes) or "no axis"),
            received=str(place),
            remedy="Leave it out for the middle.",
        )
    return panel(noise_map, index)


def html(noise_map: NoiseMap) -> str:
    """HTML of a notebook: pictures of one slice, medians, and what a reader must know; no other file, no script.

    Parameters
    ----------
    noise_map
        What is shown.

    Returns
    -------
    str
        Text and lines have the colours of the notebook, light or dark.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> "95 %" in html(noise_map(Sense(), simulate((16, 12), 4), n_samples=16))
    True
    """
    inside = object_or_all(noise_map)
    index = chosen_slice(noise_map.image, inside)
    pictures = "".join(_picture(noise_map, name, inside, index) for name in chosen_quantities(noise_map))
    rows = "".join(_row(noise_map, name, inside) for name, quantity in quantities().items() if quantity.asked_first)
    heads = "".join(f'<th style="{CELL};font-weight:400;{QUIET}">{head}</th>' for head in ("median", "5 %", "95 %", ""))
    said = "".join(f'<div style="margin:4px 0">{escape(one)}</div>' for one in _said(noise_map))
    words = escape(_words(noise_map, index))
    return (
        f'<div style="font:13px/1.4 system-ui,sans-serif"><div><b>Noise map</b> {words}</div>'
        f'<div style="{ROW}">{pictures}</div>'
        f'<table style="border-collapse:collapse;font-size:13px;margin:0"><tr><th style="{CELL};text-align:left;'
        f'font-weight:400;{QUIET}">inside the object</th>{heads}</tr>{rows}</table>{said}</div>'
    )


def _picture(noise_map: NoiseMap, name: str, inside: np.ndarray, index: tuple[int, ...]) -> str:
    from matplotlib import colormaps
    from matplotlib.image import imsave

    quantity = quantities()[name]
    value, style = quantity.value(noise_map), quantity.style
    assert value is not None and style is not None
    array = to_numpy(value).astype(float) * quantity.scale
    low, high = window(array, inside, style.from_zero)
    shown = array[index]
    colours = colormaps[style.colours]
    with np.errstate(invalid="ignore"):
        pixels = colours(np.clip((shown - low) / (high - low or 1.0), 0, 1))
    veiled = np.full(shown.shape, 1.0) if name == "image" else np.where(inside[index], 1.0, VEILED)
    pixels[..., 3] = np.where(np.isfinite(shown), veiled, 0.0)
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png")
    source = base64.b64encode(buffer.getvalue()).decode()
    _, dy, dx = noise_map.geometry.spacing
    ny, nx = shown.shape
    steps = ",".join("#" + "".join(f"{round(255 * c):02x}" for c in colours(k / 8)[:3]) for k in range(9))
    unit = quantity.short_unit
    return (
        f'<figure style="margin:0;width:{WIDTH}px"><figcaption>{escape(style.title)}</figcaption>'
        f'<img alt="{escape(style.title)}: {escape(style.definition)}" src="data:image/png;base64,{source}" '
        f'style="display:block;width:100%;aspect-ratio:{nx * dx:g}/{ny * dy:g};image-rendering:pixelated;margin:3px 0">'
        f'<div style="height:7px;background:linear-gradient(to right,{steps})"></div>'
        f'<div style="display:flex;justify-content:space-between;font-size:12px;{QUIET}">'
        f"<span>{significant(low)}</span><span>{significant(high)} {unit}</span></div></figure>"
    )


def _row(noise_map: NoiseMap, name: str, inside: np.ndarray) -> str:
    quantity = quantities()[name]
    values = values_inside(noise_map, name, inside)
    if values is None or not values.size:
        return ""
    numbers = [significant(float(v)) for v in np.percentile(values * quantity.scale, (50, 5, 95))]
    cells = "".join(f'<td style="{CELL}">{text}</td>' for text in (*numbers, quantity.short_unit))
    title = quantity.style.title if quantity.style is not None else name
    return (
        f'<tr style="background:none" title="{escape(quantity.definition)}">'
        f'<th style="{CELL};text-align:left;font-weight:600">{escape(title)}</th>{cells}</tr>'
    )


def _words(noise_map: NoiseMap, index: tuple[int, ...]) -> str:
    shape = " × ".join(str(n) for n in noise_map.image.shape)
    places = [f"{name} {i}" for (name, n), i in zip(leading_axes(noise_map), index, strict=True) if n > 1]
    samples = counted(noise_map.n_samples, "samples") if noise_map.n_samples else ""
    parts = [noise_map.method, samples, f"R = {noise_map.acceleration:.3g}", shape, ", ".join(places)]
    return " · ".join(part for part in parts if part)


def _said(noise_map: NoiseMap) -> list[str]:
    """What a reader must know before believing the map."""
    found = []
    if noise_map.interrupted:
        found.append("Interrupted: it ends before its target, or before its last image.")
    if noise_map.provenance.preview is not None:
        found.append(f"Preview: {sentence(noise_map.provenance.preview)}.")
    if noise_map.linearity is not None:
        found.append(f"Reconstruction: {noise_map.linearity.sentence}.")
    return found
