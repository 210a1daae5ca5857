"""What the viewer shows: the maps, their intervals and how to draw them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from mrnoise.figures.panel import chosen_quantities, chosen_slice, leading_axes, window
from mrnoise.files.record import to_numpy
from mrnoise.quantiles import chi_square
from mrnoise.report.packing import pack, pack_mask
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.quantities import quantities

COLOURS = ("viridis", "inferno", "magma", "cividis", "gray", "RdBu")
LEVEL, TABLE_POINTS = 0.95, 1000
FREEDOM_BITS = 11
LARGEST = 4_000_000  # voxels, about 20 bytes of report each


@dataclass(frozen=True)
class Grid:
    """The image as (frame, z, y, x), thinned where it is too large for a web page."""

    frames: int
    shape: tuple[int, int, int]
    frame_step: int
    slice_step: int

    @classmethod
    def of(cls, image_shape: tuple[int, ...]) -> Grid:
        """Every slice where they fit, else every n-th, then every n-th frame."""
        nz, ny, nx = ((1,) * 3 + image_shape)[-3:]
        frames = int(np.prod(image_shape[:-3]))
        slice_step = min(-(-frames * nz * ny * nx // LARGEST), nz)
        kept = -(-nz // slice_step)
        frame_step = min(-(-frames * kept * ny * nx // LARGEST), frames)
        return cls(frames, (nz, ny, nx), frame_step, slice_step)

    def take(self, array: np.ndarray) -> np.ndarray:
        """The kept part of an image-shaped array, (frame, z, y, x)."""
        return array.reshape(self.frames, *self.shape)[:: self.frame_step, :: self.slice_step]


def viewer_data(noise_map: NoiseMap, inside: np.ndarray) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings of the viewer, JSON-able, and its packed volumes by name."""
    grid = Grid.of(tuple(noise_map.image.shape))
    volumes = {"inside": pack_mask(grid.take(inside))}
    described = []
    ranges: list[np.ndarray] = []
    freedoms: dict[str, str | float | None] = {}
    for name, quantity in quantities().items():
        style, value = quantity.style, quantity.value(noise_map)
        if style is None or value is None or (name == "relative_error" and not bool((value > 0).any())):
            continue  # an exact map has no error to show, a preview none a voxel
        array = to_numpy(value).astype(float) * quantity.scale
        volumes[name] = pack(grid.take(array))
        base = quantity.component
        if base is not None and base not in freedoms:
            freedom = grid.take(to_numpy(noise_map.effective_degrees_of_freedom(base, LEVEL)))
            freedoms[base] = _constant_or_packed(freedom, f"freedom_{base}", volumes)
            ranges.append(freedom[np.isfinite(freedom)])
        described.append(
            {
                "name": name,
                "title": style.title,
                "definition": quantity.definition,
                "units": quantity.short_unit or "1",
                "colours": style.colours,
                "window": window(array, inside, style.from_zero),
                "rule": None if base is None else quantity.rule,
                "freedom": freedoms[base] if base is not None else None,
            }
        )
    index = chosen_slice(noise_map.image, inside)
    settings = {
        "shape": grid.take(inside).shape,
        "frames": grid.frames,
        "slices": grid.shape[0],
        "frameStep": grid.frame_step,
        "sliceStep": grid.slice_step,
        "axes": leading_axes(noise_map),
        "slice": index[-1] // grid.slice_step if index else 0,
        "spacing": noise_map.geometry.spacing,
        "volume": noise_map.spatial_dims == 3 and grid.shape[0] > 1,
        "directions": _directions(noise_map),
        "quantities": described,
        "panels": chosen_quantities(noise_map),
        "factors": _factor_table(np.concatenate(ranges)),
        "colourMaps": _colour_maps(),
    }
    return settings, volumes


def _constant_or_packed(freedom: np.ndarray, name: str, volumes: dict[str, str]) -> str | float | None:
    """One number where it is the same everywhere (0 stands for exact), else the name of a new volume."""
    first = freedom.flat[0]
    if np.isposinf(freedom).all():
        return 0.0
    if np.allclose(freedom, first, rtol=1e-9, equal_nan=True):
        return None if np.isnan(first) else float(first)
    volumes[name] = pack(np.where(np.isposinf(freedom), 0, freedom), FREEDOM_BITS)
    return name


def _factor_table(freedom: np.ndarray) -> dict[str, Any]:
    """√(ν / χ²_ν) at both ends of the interval, evenly spaced in ln ν; the viewer interpolates their logarithm."""
    usable = freedom[freedom > 0]
    if usable.size == 0:
        return {"start": 0.0, "step": 1.0, "low": [0.0, 0.0], "high": [0.0, 0.0]}
    # A margin for the rounding of packed values.
    start, stop = np.log(usable.min()) - 0.01, np.log(usable.max()) + 0.01
    nu = np.exp(np.linspace(start, stop, TABLE_POINTS))
    tail = 0.5 - 0.5 * LEVEL
    with np.errstate(divide="ignore", over="ignore"):  # of voxels about which nothing is known
        low, high = (0.5 * np.log(nu / chi_square(p, nu)) for p in (1 - tail, tail))
    return {
        "start": start,
        "step": (stop - start) / (TABLE_POINTS - 1),
        "low": low.round(6).tolist(),
        "high": high.round(6).tolist(),
    }


def _colour_maps() -> dict[str, str]:
    """256 RGB triples each."""
    from matplotlib import colormaps

    tables = {name: colormaps[name](np.arange(256), bytes=True)[:, :3] for name in COLOURS}
    return {name: base64.b64encode(table.tobytes()).decode("ascii") for name, table in tables.items()}


def _directions(noise_map: NoiseMap) -> list[str] | None:
    """Anatomical letters at the low and high end of x, y and z, where the file gave the orientation."""
    import nibabel

    if noise_map.geometry.affine is None or not noise_map.geometry.measured:
        return None
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    codes = cast(Any, nibabel.aff2axcodes)(noise_map.geometry.affine)  # untyped
    return [opposite[code] + code for code in codes]
