"""What was encoded: never-encoded k-space is not undersampling."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Part of the box outside the convex hull of the samples from which on its corners count as left out; an ellipse leaves
# out 0.21 of it, the hull of scattered samples up to a tenth.
CORNERS = 0.15
# Part of the rows and columns within the hull that has samples, from which on they are not scattered by chance.
REGULAR = 0.8
Limits = Sequence[tuple[int, int] | None]


def encoded_extent(mask: Tensor, spatial_dims: int = 2, limits: Limits | None = None) -> Tensor:
    """Region of k-space that was encoded, found from the samples of all images and, where they end apart, of each.

    Of whole lines, along each axis from the first to the last of lines at one spacing, with a fully sampled block among
    them or not; where no gap at an edge is wider than the spacing, both are undersampling and everything was encoded, a
    wider one is zero-padding, partial Fourier or an asymmetric echo. Lines at other distances, as of random patterns,
    do not tell; there the header does, else the whole axis counts. Of rows and columns that leave out the corners, as
    elliptical scanning does, it is the convex hull; of samples scattered by chance everything.

    An image that ends before the others by more than its spacing has an extent of its own: an asymmetric echo beside a
    whole one, the last repetition of an interrupted scan.

    Parameters
    ----------
    mask
        Bool, (..., k1, k0) or (..., k2, k1, k0).
    spatial_dims
        2 or 3.
    limits
        What a header says of each axis, first sample and the one behind the last; ``None``: nothing.

    Returns
    -------
    Tensor
        Bool, the spatial shape of ``mask``; the shape of ``mask`` where the extents of its images differ.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> mask = equispaced((18, 8), 3)
    >>> bool(encoded_extent(mask).all())  # rows 0, 3, … 15: the two behind are undersampling
    True
    >>> mask[:6] = False  # partial Fourier
    >>> encoded_extent(mask)[:, 0].int().tolist()
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    """
    shape = tuple(mask.shape[-spatial_dims:])
    images = mask.reshape(-1, *shape)
    acquired = images.any(0)
    if not bool(acquired.any()):
        return torch.ones_like(acquired)
    extent = _of_samples(acquired, limits or [None] * spatial_dims)
    if len(images) == 1:
        return extent
    ends = box(extent)
    own = [extent & _of_samples(image, ends, others=True) if bool(image.any()) else extent for image in images]
    return extent if all(bool((one == extent).all()) for one in own) else torch.stack(own).reshape(mask.shape)


def _of_samples(acquired: Tensor, limits: Limits, others: bool = False) -> Tensor:
    """The extent of these samples and limits, (*spatial); ``others``: the limits are where those of all images end."""
    profiles = [acquired.movedim(axis, -1).reshape(-1, n).any(0) for axis, n in enumerate(acquired.shape)]
    scattered = not bool((acquired == _product(profiles)).all())
    ends = []
    for n, profile, said in zip(acquired.shape, profiles, limits, strict=True):
        if scattered and (said is None or others):  # where the samples of an image end is chance
            ends.append(said or (0, n))
        else:
            ends.append(_range(profile, said))
    lines = [torch.arange(n, device=acquired.device) for n in acquired.shape]
    extent = _product([(line >= low) & (line < high) for line, (low, high) in zip(lines, ends, strict=True)])
    varying = [axis for axis in range(acquired.ndim) if not _constant(acquired, axis)]
    return extent & _hull(acquired, varying, extent) if scattered and len(varying) == 2 else extent


def _constant(acquired: Tensor, axis: int) -> bool:
    return bool((acquired == acquired.narrow(axis, 0, 1)).all())


def _product(profiles: Sequence[Tensor]) -> Tensor:
    """What holds along every axis."""
    dims = len(profiles)
    shaped = [profile.reshape([-1 if i == axis else 1 for i in range(dims)]) for axis, profile in enumerate(profiles)]
    return functools.reduce(operator.and_, shaped)


def within(image: Tensor, extent: Tensor, spatial_dims: int) -> Tensor:
    """Fᴴ E F x: the part of an image (..., *spatial) that lies in a region E of k-space, (..., *spatial)."""
    axes = tuple(range(-spatial_dims, 0))
    region = torch.fft.ifftshift(extent, dim=axes)
    shifted = torch.fft.fftn(torch.fft.ifftshift(image, dim=axes), dim=axes)
    return torch.fft.fftshift(torch.fft.ifftn(region * shifted, dim=axes), dim=axes)


def box(extent: Tensor) -> tuple[tuple[int, int], ...]:
    """First sample and the one behind the last, along each axis."""
    places = extent.nonzero()
    low, high = places.amin(0).tolist(), places.amax(0).tolist()
    return tuple((a, b + 1) for a, b in zip(low, high, strict=True))


def _range(acquired: Tensor, said: tuple[int, int] | None) -> tuple[int, int]:
    """First index and the one behind the last that were encoded, of samples along an axis."""
    n, places = len(acquired), acquired.nonzero().flatten().tolist()
    first, behind = places[0], places[-1] + 1
    gaps = [b - a - 1 for a, b in itertools.pairwise(places)]
    widest = max(gaps, default=0)
    # One spacing, but for the two gaps beside one fully sampled block.
    narrower = [i for i, gap in enumerate(gaps) if 0 < gap < widest]
    beside = len(narrower) <= 2 and all(0 in gaps[max(0, i - 1) : i + 2] for i in narrower)
    blocks = sum(gap == 0 and (i == 0 or gaps[i - 1] > 0) for i, gap in enumerate(gaps))
    if widest and not (beside and blocks <= 1 and gaps.count(widest) > 2):
        return (0, n) if said is None else (max(0, min(first, said[0])), min(n, max(behind, said[1])))
    if said is not None:  # a header that lies as near as the spacing knows better
        first = said[0] if 0 <= first - said[0] <= widest else first
        behind = said[1] if 0 <= said[1] - behind <= widest else behind
    # Beside a part that was never encoded k-space has no other end: samples beyond the last would be extrapolated.
    return (0, n) if first <= widest and n - behind <= widest else (first, behind)


def _hull(acquired: Tensor, varying: Sequence[int], extent: Tensor) -> Tensor:
    """Inside of the convex hull of samples along two axes; everything where that is nearly the box, or by chance."""
    from scipy.spatial import ConvexHull, QhullError

    others = tuple(axis for axis in range(acquired.ndim) if axis not in varying)
    plane: np.ndarray = np.asarray(acquired.cpu().numpy().any(axis=others) if others else acquired.cpu().numpy())
    region = extent.cpu().numpy().any(axis=others) if others else extent.cpu().numpy()
    everything = torch.ones_like(acquired)
    try:
        hull = ConvexHull(np.argwhere(plane))
    except (QhullError, ValueError):  # all on a line
        return everything
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in plane.shape), indexing="ij"), -1)
    inside = (grid @ hull.equations[:, :2].T + hull.equations[:, 2] <= 1e-9).all(-1)
    lattice = inside & region & np.logical_and.outer(plane.any(axis=1), plane.any(axis=0))
    scattered = plane.sum() < REGULAR * lattice.sum()
    if scattered or (inside & region).sum() > (1 - CORNERS) * region.sum():
        return everything
    shape = [n if axis in varying else 1 for axis, n in enumerate(acquired.shape)]
    return everything & torch.from_numpy(inside).reshape(shape).to(acquired.device)
