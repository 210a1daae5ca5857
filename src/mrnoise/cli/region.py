"""Regions of interest from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mrnoise.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from mrnoise.acquisition.image_grid import ImageGrid

NUMBER = r"(\d+(?:\.\d+)?)"
CIRCLE = re.compile(rf"circle:{NUMBER},{NUMBER},{NUMBER}")
BOX = re.compile(r"box:(\d+),(\d+),(\d+),(\d+)")


def region(text: str, grid: ImageGrid) -> Tensor:
    """Bool image from ``circle:Y,X,RADIUS``, ``box:Y0,X0,Y1,X1`` (voxels, end excluded) or a mask file.

    Circles and boxes are in-plane and hold for every slice; for masks see `mrnoise.io.read_mask`.

    Raises
    ------
    InputError
        If the text is none of these, the mask does not fit, or no voxel is inside.
    """
    import torch

    from mrnoise.io import read_mask

    shape = grid.shape
    y, x = torch.meshgrid(torch.arange(shape[-2]), torch.arange(shape[-1]), indexing="ij")
    if circle := CIRCLE.fullmatch(text):
        cy, cx, radius = map(float, circle.groups())
        inside = (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    elif box := BOX.fullmatch(text):
        y0, x0, y1, x1 = (min(int(edge), max(shape)) for edge in box.groups())
        inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    elif Path(text).suffix:
        inside = read_mask(Path(text), grid)
    else:
        raise InputError(
            "invalid region",
            expected="circle:Y,X,RADIUS or box:Y0,X0,Y1,X1 in voxels, or a mask file",
            received=text,
            remedy="For example circle:64,64,5.",
        )
    if not bool(inside.any()):
        raise InputError(
            "empty region",
            expected=f"voxels inside the image {shape}",
            received=f"{text}, which holds none",
            remedy="Coordinates are voxels (y, x), counted from 0.",
        )
    return inside.expand(shape)


def voxel(text: str, shape: tuple[int, ...], inside: Tensor | None) -> tuple[int, ...]:
    """Index from ``Y,X`` (``SLICE,Y,X`` and so on), or the voxel nearest to the centre of a region.

    Raises
    ------
    InputError
        If the text is neither or lies outside the image.
    """
    from mrnoise.measurement.place import central_voxel

    if text == "centre" and inside is not None:
        return central_voxel(inside)
    index = tuple(int(part) for part in text.split(",")) if re.fullmatch(r"\d+(,\d+)*", text) else ()
    if len(index) != len(shape) or any(i >= n for i, n in zip(index, shape, strict=True)):
        raise InputError(
            "no such voxel",
            expected=f"{len(shape)} whole numbers inside the image {shape}, or centre with a --region",
            received=text,
            remedy="Voxels are counted from 0, in the order of the image axes: Y,X or SLICE,Y,X.",
        )
    return index
