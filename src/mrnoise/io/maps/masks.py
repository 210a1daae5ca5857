"""Masks from files, brought to the voxels of an image."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.errors import InputError
from mrnoise.files.opening import check_kind, reading

# Of a voxel. Centres of voxels that lie on an edge of the mask's go one way, whatever the rounding of an affine.
ON_THE_EDGE = 1e-3
# What nibabel corrects where it contradicts the rest or means nothing.
CORRECTED = ("sizeof_hdr", "bitpix", "qform_code", "sform_code")
# Relative difference of the values of a mask that comes from rounding.
SAME_VALUE = 1e-3
DRAW_AGAIN = "Draw the mask on the saved map (.nii.gz), or resample it to it."


def read_mask(path: str | PathLike[str], grid: ImageGrid) -> Tensor:
    """Read a mask: zero is outside, one other value inside.

    A NIfTI mask is brought to the image by its affine: each voxel of the image takes the value of the mask at its
    centre (nearest neighbour), whatever the orientation, resolution and extent of the mask. Where the file says
    nothing of its place (no sform and no qform, or the identity) its voxels are those of the image, as are those of an
    array. A mask of one volume holds for every frame, echo and so on, one of a slice, (y, x), for every slice too.

    Parameters
    ----------
    path
        NIfTI; or ``.npy``, ``.npz`` (one array) in the order of the image axes.
    grid
        Of the image: ``noise_map.image_grid`` or ``acquisition.image_grid``.

    Returns
    -------
    Tensor
        Bool, of the shape of the image.

    Raises
    ------
    InputError
        If the file cannot be read, holds labels or probabilities, its shape does not fit, it lies outside the image,
        or it has a place and the image has none.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> inside = np.zeros((16, 12), bool)
    >>> inside[4:7, 5] = True
    >>> np.save("mask.npy", inside)
    >>> int(read_mask("mask.npy", scan.image_grid).sum())
    3
    """
    path = Path(path)
    with reading(path, "a mask: a .npy, .npz or NIfTI image", "Save the mask as a bool array with numpy.save."):
        place = None
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                values = archive[archive.files[0]]
        else:
            values, place = _read_nifti(path)
    values = check_kind(values, "the mask", path)
    if not values.size:
        raise InputError(
            "the mask is empty",
            expected="the voxels of an image",
            received=f"shape {values.shape} in {path}",
            remedy=DRAW_AGAIN,
        )
    if np.iscomplexobj(values):
        raise InputError(
            "the mask holds complex values",
            expected="zero outside and one value inside",
            received=f"{values.dtype} {values.shape} in {path}",
            remedy="An image is no mask: set a threshold to its magnitude.",
        )
    if not np.isfinite(values).all():
        raise InputError(
            "the mask holds values that are no numbers",
            expected="zero outside, something else inside",
            received=f"{int((~np.isfinite(values)).sum())} of {values.size} values NaN or infinite in {path}",
            remedy="Save the mask as a bool array with numpy.save.",
        )
    inside = values != 0
    found = np.unique(values[inside]).astype(float)
    if found.size and np.ptp(found) > SAME_VALUE * np.abs(found).max():
        raise InputError(
            "the mask holds several values",
            expected="zero outside and one value inside",
            received=f"{found.size} values other than 0, {found[0]:g} to {found[-1]:g}, in {path}",
            remedy="Save one label as a mask of its own; set a threshold to probabilities.",
        )
    if place is not None:
        if not np.isfinite(place).all() or abs(np.linalg.det(place)) < np.finfo(float).tiny:
            raise InputError(
                "the mask lies nowhere",
                expected="an affine that can be inverted",
                received=f"{place.tolist()} in {path}",
                remedy=DRAW_AGAIN,
            )
        # Numbers of a damaged file can be of any size.
        with np.errstate(all="ignore"):
            return torch.from_numpy(_resampled(inside, place, grid, path))
    if path.suffix not in (".npy", ".npz") and inside.shape == grid.volumes_shape:
        inside = grid.from_volumes(inside)
    return torch.from_numpy(_as_array(inside, grid))


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Values (…, z, y, x), and the affine, ``None`` where the file says nothing of its place."""
    import nibabel

    image: Any = nibabel.load(path)  # nibabel is only partly typed
    if isinstance(image, nibabel.Nifti1Pair):
        _check_header(image)
    values = np.asarray(image.dataobj)
    values = values.reshape(*values.shape, *[1] * (3 - values.ndim)).T
    if isinstance(image, nibabel.Nifti1Pair):
        stated = int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
    else:
        # Analyze files do not say which side is left.
        stated = not isinstance(image, nibabel.AnalyzeImage)
    affine = np.asarray(image.affine, dtype=float)
    return values, affine if stated and not np.array_equal(affine, np.eye(4)) else None


def _check_header(image: Any) -> None:
    """Raise where the header contradicts itself: nibabel corrects it without a word."""
    holder = image.file_map.get("header", image.file_map["image"])
    with holder.get_prepare_fileobj("rb") as file:
        written = type(image.header).from_fileobj(file, check=False)
    wrong = [f"{name} {written[name]}" for name in CORRECTED if written[name] != image.header[name]]
    if written.is_single and written["vox_offset"] < written.single_vox_offset:
        wrong.append(f"vox_offset {written['vox_offset']}")
    if wrong:
        raise ValueError(f"a header with {' and '.join(wrong)}")


def _as_array(inside: np.ndarray, grid: ImageGrid) -> np.ndarray:
    """A mask whose voxels are those of the image."""
    for values in (inside, inside.squeeze()):
        if values.shape == grid.shape:
            return np.array(values)
        if values.shape in (grid.spatial_shape, grid.shape[-2:]):
            return np.array(grid.from_volumes(np.broadcast_to(values, grid.volumes_shape)))
    raise _unfit(inside.shape, grid)


def _resampled(inside: np.ndarray, place: np.ndarray, grid: ImageGrid, path: Path) -> np.ndarray:
    """A mask (…, z, y, x) at the centres of the voxels of the image."""
    if inside.shape[:-3] != grid.volumes_shape[:-3]:
        if math.prod(inside.shape[:-3]) != 1:
            raise _unfit(inside.shape, grid)
        inside = inside.reshape(inside.shape[-3:])
    # (x, y, z) of the image → (x, y, z) of the mask.
    matrix = np.linalg.inv(place) @ grid.affine
    if not grid.placed and not _same_voxels(matrix, inside.shape[-3:], grid.spatial_shape):
        raise InputError(
            "the mask has a place, the image has none",
            expected=f"the voxels of the image, {grid.spatial_shape} (z, y, x): the scan does not say where they lie",
            received=f"shape {inside.shape}, affine {np.round(place, 3).tolist()} in {path}",
            remedy=DRAW_AGAIN,
        )
    if inside.any() and not _overlap(inside, np.linalg.inv(matrix), grid.spatial_shape):
        raise InputError(
            "the mask lies outside the image",
            expected=f"voxels in {_extent(np.zeros(3), np.array(grid.spatial_shape[::-1]) - 1, grid.affine)}",
            received=f"{_extent(*_ends(inside), place)} in {path}",
            remedy=DRAW_AGAIN,
        )
    _, ny, nx = grid.spatial_shape
    y, x = np.indices((ny, nx)).reshape(2, -1)
    sizes = np.array(inside.shape[:-4:-1])[:, None]
    volumes = np.zeros((*inside.shape[:-3], *grid.spatial_shape), bool)
    for z, plane in enumerate(np.moveaxis(volumes, -3, 0)):
        where = matrix[:3] @ np.stack([x, y, np.full_like(x, z), np.ones_like(x)])
        index = np.floor(where + 0.5 - ON_THE_EDGE).astype(int)
        there = ((index >= 0) & (index < sizes)).all(0)
        i, j, k = np.where(there, index, 0)
        plane[...] = (inside[..., k, j, i] & there).reshape(*plane.shape)
    return np.array(grid.from_volumes(np.broadcast_to(volumes, grid.volumes_shape)))


def _same_voxels(matrix: np.ndarray, shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether two grids have the same voxels, in any order of axes and directions."""
    whole = np.round(matrix[:3])
    permuted = [(np.abs(whole[:, :3]).sum(axis) == 1).all() for axis in (0, 1)]
    if not all(permuted) or not np.allclose(matrix[:3], whole, atol=0.01):
        return False
    corner = np.array(target[::-1]) - 1
    ends = np.sort(np.stack([whole[:, 3], whole[:, :3] @ corner + whole[:, 3]]), axis=0)
    return bool((ends[0] == 0).all() and (ends[1] == np.array(shape[::-1]) - 1).all())


def _overlap(inside: np.ndarray, matrix: np.ndarray, target: tuple[int, ...]) -> bool:
    """Whether any voxel of the mask has its centre in the image, or nearer to it than its own size."""
    index = np.argwhere(inside.reshape(-1, *inside.shape[-3:]).any(0))[:, ::-1].T
    where = matrix[:3, :3] @ index + matrix[:3, 3:]
    half = 0.5 + np.abs(matrix[:3, :3]).sum(1, keepdims=True) / 2
    return bool(((where > -half) & (where < np.array(target[::-1])[:, None] - 1 + half)).all(0).any())


def _ends(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index (x, y, z) of a mask (…, z, y, x)."""
    index = np.argwhere(inside)[:, :-4:-1]
    return index.min(0), index.max(0)


def _extent(low: np.ndarray, high: np.ndarray, affine: np.ndarray) -> str:
    """The box in mm that holds the voxels from one index to another."""
    corners = np.stack(np.meshgrid(*zip(low - 0.5, high + 0.5, strict=True), indexing="ij")).reshape(3, -1)
    mm = affine[:3, :3] @ corners + affine[:3, 3:]
    return ", ".join(f"{n} {a:.0f} to {b:.0f}" for n, a, b in zip("RAS", mm.min(1), mm.max(1), strict=True)) + " mm"


def _unfit(shape: tuple[int, ...], grid: ImageGrid) -> InputError:
    return InputError(
        "mask does not fit the image",
        expected=" or ".join(map(str, dict.fromkeys((grid.shape, grid.spatial_shape, grid.shape[-2:])))),
        received=str(tuple(shape)),
        remedy="Draw the mask on the reconstructed image.",
    )
