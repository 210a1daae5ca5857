"""MRD lines on a Cartesian grid, sorted into k-space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.files.text import printable
from mrnoise.io.scans.mrd_calibration import calibration_kspace
from mrnoise.io.scans.mrd_dwell import dwell_weights
from mrnoise.io.scans.mrd_file import MrdFile
from mrnoise.io.scans.mrd_geometry import mrd_geometry
from mrnoise.io.scans.mrd_phase_encoding import PhaseEncoding, phase_encoding
from mrnoise.io.scans.mrd_readout import Readouts, readouts
from mrnoise.io.scans.mrd_roles import AXES, IMAGE_COUNTERS, Roles
from mrnoise.io.scans.mrd_sorting import Repeats, numbered, repeats, sort_lines
from mrnoise.sampling import Grid, encoded_extent

# Lines that differ in these alone are averaged, unless their signal would be lost.
AVERAGED = ("average", "segment")


def on_grid(file: MrdFile, chosen: Roles) -> tuple[Acquisition, float, float]:
    """Acquisition with its Ψ to be found, the variance of its samples relative to those of the file, its dwell time."""
    lines = chosen.image
    encodings = [phase_encoding(file, lines, axis) for axis in (1, 2)]
    rows = [encoding.rows(file, lines) for encoding in encodings]
    found = readouts(file, lines)
    dwell, weights, said = dwell_weights(file, lines)
    found = replace(found, weight=found.weight * weights.unsqueeze(1))
    notes = [*encodings[0].notes, *encodings[1].notes, *found.notes, *said]
    names, counters, words = _counters(file, lines, rows, found)
    notes += words
    lead = [int(values.max()) + 1 for values in counters]
    kspace, counts = sort_lines(file, found, counters, lead, rows, encodings)
    dims = 3 if encodings[1].size > 1 else 2
    missing = int((counts.flatten(-dims).amax(-1) == 0).sum())
    if missing:
        notes.append(f"{missing} of {counts.flatten(-dims)[..., 0].numel()} images have no lines.")
    counts = _shared(counts, dims)
    mask, averages = counts > 0, counts if float(counts.max()) > 1 else None
    calibration = None
    if chosen.calibration.size:
        calibration, words = calibration_kspace(file, lines, chosen.calibration, encodings, kspace)
        notes += words
    acquisition = Acquisition(
        kspace=kspace,
        noise_covariance=torch.eye(int(kspace.shape[-dims - 1])),
        sampling=_sampling(mask, dims, encodings),
        averages=averages,
        calibration=calibration,
        geometry=_geometry(file, lines, counters[-1], tuple(kspace.shape[-3:]), dims),
        spatial_dims=dims,
        axes=[AXES.get(name, name) for name, n in zip(names, lead, strict=True) if n > 1],
        source=f"{printable(file.path.name)} (MRD)",
        notes=notes,
    )
    return acquisition, found.noise, dwell


def _counters(
    file: MrdFile, lines: np.ndarray, rows: list[np.ndarray], found: Readouts
) -> tuple[list[str], list[np.ndarray], list[str]]:
    """Names of the leading axes, the number of each line along them, and what is to say about it."""
    names, notes = list(IMAGE_COUNTERS), []
    counters = [numbered(file, lines, name) for name in names]

    def repeated() -> Repeats:
        return repeats(np.unique(np.stack([*counters, *rows]), axis=1, return_inverse=True)[1].ravel(), found)

    again = repeated()
    for name in AVERAGED:
        numbers = numbered(file, lines, name)
        if again.out_of_phase(numbers):
            names.insert(-1, name)
            counters.insert(-1, numbers)
            again = repeated()
            notes.append(f"Lines of {int(numbers.max()) + 1} {name}s are out of phase: kept apart, as an axis.")
    if again.out_of_phase(np.arange(len(lines))):
        notes.append(
            "In doubt: lines of one place are out of phase, and no counter tells them apart. They are averaged."
        )
    return names, counters, notes


def _sampling(mask: Tensor, dims: int, encodings: list[PhaseEncoding]) -> Grid:
    """With what was encoded, by lines and limits."""
    limits = [(encoding.first, encoding.last + 1) for encoding in reversed(encodings[: dims - 1])]
    return Grid(mask, dims, encoded_extent(mask, dims, [*limits, None]))


def _shared(counts: Tensor, dims: int) -> Tensor:
    """Counts without leading axes where all images share them."""
    images = counts.reshape(-1, *counts.shape[-dims:])
    return images[0] if bool((images == images[0]).all()) else counts


def _geometry(file: MrdFile, lines: np.ndarray, slices: np.ndarray, shape: tuple[int, ...], dims: int) -> Geometry:
    heads = file.heads[[lines[np.argmax(slices == s)] for s in range(int(slices.max()) + 1)]]
    encoding = file.encoding(lines)
    if dims == 2:
        return mrd_geometry(encoding, (len(heads), shape[-2], shape[-1]), heads)
    volume = mrd_geometry(encoding, (shape[-3], shape[-2], shape[-1]), heads[:1])
    # Several slabs lie apart from each other: no single affine.
    return volume if len(heads) == 1 else Geometry(volume.voxel_size)
