"""A region that was drawn on a map: what the map knows of it, and its exact σ from scan and reconstruction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.measurement.roi import Measurement, roi_mean
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap

# Of the mean of a map and the mean of the image that was made again, in σ of the mean.
SAME_MEAN = 0.1


class Missing(Exception):
    """What is missing for an exact σ, in words for the page.

    Examples
    --------
    >>> raise Missing("The scan is not at hand.")
    Traceback (most recent call last):
        ...
    mrnoise.review.region.Missing: The scan is not at hand.
    """


@dataclass(frozen=True, eq=False)
class Source:
    """What a map was made of.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`.
    words
        What they are.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> Source(CgSense(), simulate((16, 12), 4), "a simulation").words
    'a simulation'
    """

    reconstruction: Reconstruction | KspaceToImage
    acquisition: Acquisition
    words: str


def drawn(message: Mapping[str, Any], shape: tuple[int, ...]) -> Tensor:
    """The bool image of a region in one slice: ``{frame, slice, rows: [[y, first x, x behind the last], …]}``.

    Leading axes before the slice count as one, ``frame``.

    Raises
    ------
    InputError
        If it is something else, or lies outside the image.
    """
    nz, ny, nx = ((1,) * 3 + shape)[-3:]
    mask = torch.zeros(math.prod(shape[:-3]), nz, ny, nx, dtype=torch.bool)
    frame, place, rows = (message.get(name) for name in ("frame", "slice", "rows"))
    if _inside(frame, len(mask)) and _inside(place, nz) and isinstance(rows, list):
        for row in rows:
            if not (isinstance(row, list) and len(row) == 3 and _inside(row[0], ny)):
                break
            y, first, behind = row
            if not (_inside(first, nx) and _inside(behind, nx + 1)):
                break
            mask[frame, place, y, first:behind] = True
        else:
            if bool(mask.any()):
                return mask.reshape(shape)
    raise InputError(
        "this is no region of the map",
        expected=f"frame, slice and rows of voxels inside the image {shape}",
        received=str(message)[:200],
        remedy="Draw the region on the page.",
    )


def _inside(number: object, size: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < size


def of_map(noise_map: NoiseMap, region: Tensor) -> dict[str, float]:
    """What a map says of a region without its scan.

    The mean of |x|, and the most that its σ can be: σ of a sum is at most the sum of σ, reached where all voxels are
    fully correlated. How correlated they are a map does not say, so it has no σ of the mean.
    """
    sigma = noise_map.magnitude_std[region]
    return {
        "voxels": int(region.sum()),
        "mean": float(noise_map.image.abs().double()[region].mean()),
        "most": float(sigma.mean()),
        "uncorrelated": float(sigma.square().sum().sqrt() / len(sigma)),
    }


def exact(noise_map: NoiseMap, source: Source, region: Tensor) -> Measurement:
    """Mean of |x| over a region of a map and its σ, by one backward pass: that of `mrnoise roi`.

    Raises
    ------
    Missing
        If the reconstruction gives another image than the map has.
    InputError
        As `mrnoise.measurement.roi_mean`.
    """
    found = roi_mean(source.reconstruction, source.acquisition, region)
    found = Measurement(found.value, found.std * (noise_map.provenance.noise_scale or 1.0))
    difference = abs(found.value - of_map(noise_map, region)["mean"])
    if not difference <= SAME_MEAN * found.std + 1e-5 * found.value:
        raise Missing(
            f"{source.words} gives a mean of {found.value:.5g} here, not that of the map: weights, code or a setting "
            "are others now. Map again, and measure in the new map."
        )
    return found


def answers(noise_map: NoiseMap, region: Tensor, source: Iterator[str | Source]) -> Iterator[dict[str, Any]]:
    """What to tell who waits: what the map knows, each step, and the outcome.

    ``source`` tells its steps in words before it gives the source, or raises `Missing`.
    """
    yield {"map": of_map(noise_map, region)}
    try:
        for step in source:
            if isinstance(step, str):
                yield {"step": step}
                continue
            yield {"step": "one backward pass through the reconstruction"}
            found = exact(noise_map, step, region)
            yield {
                "mean": found.value,
                "std": found.std,
                "interval": found.interval(0.95),
                "snr": found.ratio,
                "words": step.words,
            }
    except Missing as reason:
        yield {"missing": str(reason)}
    except InputError as error:
        yield {"missing": str(error)}
