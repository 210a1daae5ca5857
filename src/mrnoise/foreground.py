"""Which voxels of an image lie inside the object."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mrnoise.errors import InputError

SMOOTHING_VOXELS = 0.7
BRIGHT_PERCENTILE, BACKGROUND_PERCENTILE = 99.0, 20.0
# The threshold is twice the background, but at least 8 % and at most half of the bright level.
BACKGROUND_FACTOR, LOWEST_FRACTION, HIGHEST_FRACTION = 2.0, 0.08, 0.5
SMALLEST_PART = 0.1


def foreground(image: Tensor) -> Tensor:
    """Voxels inside the object.

    |x| smoothed in-plane, a threshold between background and object, every connected part of at least 10 % of
    the largest one (both legs, both breasts), holes filled slice by slice, and the rim of one voxel removed.

    Parameters
    ----------
    image
        (..., y, x) or (..., z, y, x), complex or real. A stack of slices has one threshold; axes before the
        slice axis (frames, echoes) are treated one by one.

    Returns
    -------
    Tensor
        bool, shaped like the image, on its device; all False where the image is zero.

    Notes
    -----
    Assumes that the object covers more than 2 % of the field of view; where it covers more than 80 %, the
    darkest tissue counts as background unless the object encloses it.
    """
    if image.ndim < 2:
        raise InputError(
            "not an image",
            expected="at least two axes, (y, x)",
            received=f"shape {tuple(image.shape)}",
            remedy="Give the image with its spatial axes last.",
        )
    magnitude = np.nan_to_num(image.detach().abs().double().cpu().numpy(), nan=0.0, posinf=0.0)
    stacks = magnitude.reshape(-1, *((1,) * (3 - magnitude.ndim) + magnitude.shape[-3:]))
    inside = np.stack([_inside(stack) for stack in stacks])
    return torch.from_numpy(inside.reshape(magnitude.shape)).to(image.device)


def _inside(stack: np.ndarray) -> np.ndarray:
    smooth = ndimage.gaussian_filter(stack, (0, SMOOTHING_VOXELS, SMOOTHING_VOXELS), mode="nearest")
    bright, background = np.percentile(smooth, (BRIGHT_PERCENTILE, BACKGROUND_PERCENTILE))
    threshold = np.clip(BACKGROUND_FACTOR * background, LOWEST_FRACTION * bright, HIGHEST_FRACTION * bright)
    parts, count = ndimage.label(smooth > threshold)
    if count == 0:
        return np.zeros(stack.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())[1:]
    large = np.flatnonzero(sizes >= SMALLEST_PART * sizes.max()) + 1
    filled = np.stack([ndimage.binary_fill_holes(part) for part in np.isin(parts, large)])
    # Smoothing spreads the edge outwards by about a voxel; voxels cut by the field of view are no edge.
    in_plane = ndimage.generate_binary_structure(2, 1)[None]
    eroded = ndimage.binary_erosion(filled, in_plane, border_value=1)
    return eroded if eroded.any() else filled
