"""Regions of interest from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mrnoise.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

NUMBER = r"(\d+(?:\.\d+)?)"
CIRCLE = re.compile(rf"circle:{NUMBER},{NUMBER},{NUMBER}")
BOX = re.compile(r"box:(\d+),(\d+),(\d+),(\d+)")


def region(text: str, shape: tuple[int, ...]) -> Tensor:
    """Bool image from ``circle:Y,X,RADIUS``, ``box:Y0,X0,Y1,X1`` (voxels, end excluded) or a mask file.

    Circles and boxes are in-plane and hold for every slice.

    Raises
    ------
    InputError
        If the text is none of these, the mask does not fit, or no voxel is inside.
    """
    import torch

    y, x = torch.meshgrid(torch.arange(shape[-2]), torch.arange(shape[-1]), indexing="ij")
    if circle := CIRCLE.fullmatch(text):
        cy, cx, radius = map(float, circle.groups())
        inside = (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    elif box := BOX.fullmatch(text):
        y0, x0, y1, x1 = (min(int(edge), max(shape)) for edge in box.groups())
        inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    elif Path(text).suffix:
        inside = read_mask(Path(text))
    else:
        raise InputError(
            "invalid region",
            expected="circle:Y,X,RADIUS or box:Y0,X0,Y1,X1 in voxels, or a mask file",
            received=text,
            remedy="For example circle:64,64,5.",
        )
    if tuple(inside.shape) not in (shape, shape[-2:]):
        raise InputError(
            "mask does not fit the image",
            expected=f"{shape} or {shape[-2:]}",
            received=str(tuple(inside.shape)),
            remedy="Draw the mask on the reconstructed image.",
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


def read_mask(path: Path) -> Tensor:
    """Bool image from .npy, .npz (one array) or NIfTI; NIfTI axes (x, y, z) become (z, y, x).

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    import numpy as np
    import torch

    from mrnoise.files.opening import check_kind, reading

    with reading(path, "a mask: a .npy, .npz or NIfTI image", "Save the mask as a bool array with numpy.save."):
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                values = archive[archive.files[0]]
        else:
            import nibabel

            values = np.asarray(nibabel.load(path).dataobj).T  # type: ignore[attr-defined]
    values = check_kind(values, "the mask", path)
    if not np.isfinite(values).all():
        raise InputError(
            "the mask holds values that are no numbers",
            expected="zero outside, something else inside",
            received=f"{int((~np.isfinite(values)).sum())} of {values.size} values NaN or infinite in {path}",
            remedy="Save the mask as a bool array with numpy.save.",
        )
    return torch.from_numpy(np.ascontiguousarray(values != 0)).squeeze()
