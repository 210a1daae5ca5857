"""Magnitude images of real anatomy, in blocks of slices for training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.files.opening import reading
from mrnoise.simulation import head_phantom

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

TRAIN, VALIDATION = 0.70, 0.12  # of the slices that are not in a gap; the rest is test
BRIGHT = 0.5  # of the robust maximum: brain and fat, not the dark neck
# Slices with fewer bright voxels than this fraction of the fullest slice are left out.
LEAST_BRAIN, LEAST_KNEE = 0.25, 0.45
BRAIN_GAP, KNEE_GAP, PHANTOM_GAP = 8, 1, 3  # 5.3 mm, 3 mm, 6 mm
PERCENTILE = 99.5
PHANTOM_SPAN = (-0.25, 0.55)  # in half fields of view: orbits to vertex


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Slices of one subject, ordered along one axis.

    Parameters
    ----------
    name
        Where the slices come from.
    slices
        float32, (slice, contrast, y, x), from 0 to 1, square pixels.
    gap
        Slices between two blocks that belong to none, so that no test slice has a neighbour in training.

    Raises
    ------
    InputError
        If the axes are wrong, or the slices too few for three blocks and two gaps.

    Examples
    --------
    >>> from mrnoise.simulation import head_phantom
    >>> slices = head_phantom((20, 32, 24))[:, None]  # one contrast
    >>> anatomy = Anatomy("head phantom", slices, gap=1)
    >>> [len(anatomy.split(part)) for part in ("train", "validation", "test")]
    [13, 2, 3]
    """

    name: str
    slices: Tensor
    gap: int

    def __post_init__(self) -> None:
        if self.slices.ndim != 4 or self.slices.dtype != torch.float32:
            raise InputError(
                "anatomy has the wrong shape or type",
                expected="float32 (slice, contrast, y, x)",
                received=f"{self.slices.dtype}, shape {tuple(self.slices.shape)}",
                remedy="Add an axis of length 1 for a single contrast.",
            )
        if self.gap < 0 or min(len(block) for block in self._blocks().values()) < 1:
            raise InputError(
                "anatomy has too few slices for training, validation and test",
                expected=f"about {2 * self.gap + 8} slices or more, with a gap of {self.gap} (at least 0)",
                received=f"{len(self.slices)}",
                remedy="Give more slices, or a smaller gap.",
            )

    def split(self, part: Part) -> Tensor:
        """Slices of one part, (slice, contrast, y, x): about 70 %, 12 % and 18 %, in this order along the axis.

        Raises
        ------
        InputError
            If there is no such part.
        """
        if part not in PARTS:
            raise InputError(
                "anatomy has no such part",
                expected=", ".join(PARTS),
                received=repr(part),
                remedy="Choose one of the three.",
            )
        block = self._blocks()[part]
        return self.slices[block.start : block.stop]

    def _blocks(self) -> dict[str, range]:
        n, gap = len(self.slices), self.gap
        usable = n - 2 * gap
        train, validation = round(TRAIN * usable), round(VALIDATION * usable)
        second = train + gap
        third = second + validation + gap
        return {
            "train": range(train),
            "validation": range(second, second + validation),
            "test": range(third, n),
        }


def read_anatomy(path: Path | None) -> Anatomy:
    """Anatomy from an npz file, or the head phantom.

    Slices with little tissue are left out, and each image is divided by its 99.5th percentile and cut off at 1.

    Parameters
    ----------
    path
        File with ``volume``, a brain (superior, posterior, x), of which axial slices with anterior at low y are
        taken; or ``echoes``, a knee (echo, slice, y, x). ``None``: `phantom_anatomy`.

    Returns
    -------
    Anatomy
        Slices (slice, contrast, y, x), from 0 to 1.

    Raises
    ------
    InputError
        If the file cannot be read or holds neither array in the expected form.

    Examples
    --------
    >>> import numpy as np
    >>> from mrnoise.simulation import head_phantom
    >>> np.savez("brain.npz", volume=head_phantom((40, 64, 48)))
    >>> anatomy = read_anatomy(Path("brain.npz"))
    >>> anatomy.name, tuple(anatomy.slices.shape)
    ('brain', (32, 1, 64, 48))
    """
    if path is None:
        return phantom_anatomy()
    path = Path(path)
    remedy = "Check the path and that the file is complete."
    with reading(path, "an npz file", remedy, problem=f"anatomy {path} cannot be read"), np.load(path) as arrays:
        names = list(arrays.files)
        found = next((name for name in ("volume", "echoes") if name in names), None)
        values = None if found is None else arrays[found]
    if values is None:
        raise InputError(
            f"anatomy {path} holds no images",
            expected="an array 'volume' or 'echoes'",
            received=", ".join(names) or "an empty file",
            remedy="Name the array 'volume' (slice, y, x) or 'echoes' (echo, slice, y, x).",
        )
    axes = 3 if found == "volume" else 4
    magnitude = values.dtype.kind in "uif" and bool(np.isfinite(values).all() and values.any() and values.min() >= 0)
    if values.ndim != axes or not magnitude:
        raise InputError(
            f"images of anatomy {path} cannot be used",
            expected=f"{axes} axes of finite numbers that are not negative and not all zero",
            received=f"{values.dtype}, shape {values.shape}",
            remedy="Give magnitude images, 'volume' (slice, y, x) or 'echoes' (echo, slice, y, x).",
        )
    if found == "volume":
        return _anatomy(path.stem, values[:, None], LEAST_BRAIN, BRAIN_GAP)
    return _anatomy(path.stem, values.swapaxes(0, 1), LEAST_KNEE, KNEE_GAP)


def phantom_anatomy(n_slices: int = 40, size: int = 192) -> Anatomy:
    """Axial slices of `mrnoise.simulation.head_phantom`, from the orbits to the vertex.

    Parameters
    ----------
    n_slices
        Number of slices.
    size
        Voxels along y and x, over 220 mm.
    """
    z = np.linspace(*PHANTOM_SPAN, n_slices).tolist()
    return Anatomy("phantom", head_phantom((n_slices, size, size), z)[:, None], PHANTOM_GAP)


def _anatomy(name: str, values: np.ndarray, least: float, gap: int) -> Anatomy:
    """Normalised slices of (slice, contrast, y, x) that are full enough in the first contrast."""
    first = values[:, 0]
    level = BRIGHT * np.percentile(first[first > 0], PERCENTILE)
    bright = np.count_nonzero(first > level, axis=(1, 2))
    full = np.flatnonzero(bright >= least * bright.max())
    kept = values[full[0] : full[-1] + 1]  # neighbours stay neighbours
    images = torch.from_numpy(kept.astype(np.float32))
    top = torch.from_numpy(np.percentile(kept, PERCENTILE, axis=(2, 3), keepdims=True).astype(np.float32))
    return Anatomy(name, (images / top.clamp_min(torch.finfo().tiny)).clamp(0, 1), gap)
