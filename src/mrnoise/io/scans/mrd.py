"""MRD (ISMRMRD) raw data: lines sorted into k-space."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition, Geometry
from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
from mrnoise.checks import check_memory
from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.fourier import to_image, to_kspace
from mrnoise.io.scans.mrd_file import REVERSE, MrdFile, load_mrd, same_coils
from mrnoise.io.scans.mrd_geometry import along_normal, mrd_geometry
from mrnoise.io.scans.noise_scan import NoiseScan
from mrnoise.sampling import Grid, encoded_extent

COUNTERS = ("repetition", "set", "phase", "contrast", "slice")
CHECK_MATRIX = "Check the encoded matrix size of the header."
# What an acquisition calls the axis of each.
AXES = dict(zip(COUNTERS, ("frame", "set", "phase", "echo", "slice"), strict=True))


def read_mrd(path: str | Path, noise: NoiseScan | None = None) -> Acquisition:
    """Acquisition from an MRD HDF5 file with Cartesian lines.

    K-space is (frame, set, phase, echo, slice, coil, k1, k0), or (…, coil, k2, k1, k0) for a volume; frames are
    repetitions, echoes contrasts; counters with a single value have no axis. Slices are in the order of their
    positions.

    - Lines of noise, navigation, phase correction, feedback and dummy scans are left out. Only the first
      encoding space is read.
    - Lines that only calibrate are not part of the image; together with those that calibrate and image they
      become ``calibration``, averaged over everything but slices.
    - Readout oversampling is removed: k-space is cut to the reconstructed field of view in image space,
      which leaves Ψ as it is. Phase-encoding directions keep the encoded field of view.
    - The centre of k-space is put at n // 2 by ``center_sample`` and the encoding limits. Of a reversed
      line the order of samples is turned round first; ``center_sample`` counts in the turned order.
    - Lines measured more than once are averaged; ``averages`` counts them.

    Parameters
    ----------
    path
        The file.
    noise
        Noise scan to use instead of the noise lines of the file. Without either, Ψ is estimated from
        k-space. The scaling to the bandwidth of the lines is that of `bandwidth_factor`.

    Raises
    ------
    InputError
        If the file cannot be read, is not Cartesian, holds no image lines, or lines and header do not fit.
    """
    path = Path(path)
    file = load_mrd(path)
    encoding = file.header.encoding[0]
    trajectory = str(getattr(encoding.trajectory, "value", encoding.trajectory))
    if trajectory != "cartesian":
        raise InputError(
            f"{path.name} is not Cartesian",
            expected="the trajectory cartesian",
            received=trajectory,
            remedy="Grid the data first, or build an Acquisition from gridded k-space.",
        )
    image, first_space = file.imaging(), file.heads["encoding_space_ref"] == 0
    lines = np.flatnonzero(image & first_space)
    if not lines.size:
        raise InputError(
            f"{path.name} holds no image lines",
            expected="imaging lines of the first encoding space",
            received=f"{len(file.heads)} lines, {int(image.sum())} of them imaging",
            remedy="This may be a noise scan: give it as noise=.",
        )
    file.check_places(lines)
    others = int(image.sum()) - len(lines)
    readouts, acquired = _readouts(file, lines)
    counters = [_counter(file, lines, name) for name in COUNTERS]
    dims = 3 if int(encoding.encodedSpace.matrixSize.z) > 1 else 2
    kspace, counts = _sorted(file, lines, readouts, acquired, counters, [int(c.max()) + 1 for c in counters])
    counts = _shared(counts, dims)
    mask, averages = counts > 0, counts if float(counts.max()) > 1 else None
    labels, dwell = file.labels(int(lines[0])), file.dwell_us(lines)
    noise = noise or file.noise_scan()
    if noise is not None:
        psi = noise.covariance(int(kspace.shape[-dims - 1]), dwell, labels)
    else:  # the mean of N lines has the noise of one line over √N
        weighted = kspace * counts.clamp_min(1).sqrt().unsqueeze(-dims - 1)
        psi = estimate_noise_covariance(weighted, mask, spatial_dims=dims)
    return Acquisition(
        kspace=kspace,
        noise_covariance=psi,
        sampling=Grid(mask, dims, encoded_extent(mask, dims)),
        averages=averages,
        calibration=_calibration(file, lines, kspace),
        geometry=_geometry(file, lines, counters[-1], tuple(kspace.shape[-3:]), dims),
        spatial_dims=dims,
        axes=[AXES[name] for name, values in zip(COUNTERS, counters, strict=True) if values.max() > 0],
        source=f"{printable(path.name)} (MRD)"
        + (f"; {others} lines of other encoding spaces left out" if others else ""),
    )


def _calibration(file: MrdFile, lines: np.ndarray, kspace: Tensor) -> Tensor | None:
    """K-space of the calibration lines, shaped as ``kspace``; ``None`` without lines that only calibrate."""
    first_space = file.heads["encoding_space_ref"] == 0
    if not (file.only_calibration() & first_space).any():
        return None
    numbers = file.heads["idx"]["slice"]
    chosen = np.flatnonzero(file.calibration() & first_space & np.isin(numbers, numbers[lines]))
    if not chosen.size:
        return None
    # Number the slices as the image does.
    rank = dict(zip(numbers[lines].tolist(), _counter(file, lines, "slice").tolist(), strict=True))
    slices = np.array([rank[n] for n in numbers[chosen].tolist()])
    readouts, acquired = _readouts(file, chosen)
    found, _ = _sorted(file, chosen, readouts, acquired, [slices], lead=[max(rank.values()) + 1])
    return found.expand(kspace.shape).contiguous()


def _readouts(file: MrdFile, lines: np.ndarray) -> tuple[Tensor, Tensor]:
    """Lines (line, coil, k0) without oversampling, centre at n // 2, and which samples were acquired."""
    encoding = file.header.encoding[0]
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    n = int(encoded.matrixSize.x)
    check_memory(8 * len(lines) * same_coils(file, lines) * n, f"k-space of {file.path.name}", CHECK_MATRIX)
    readouts = np.zeros((len(lines), same_coils(file, lines), n), np.complex64)
    acquired = torch.zeros(len(lines), n, dtype=torch.bool)
    reverse = file.flagged(REVERSE)
    for row, i in enumerate(lines):
        head, line = file.heads[i], file.samples[i]
        first, last = int(head["discard_pre"]), int(head["discard_post"])
        centre = int(head["center_sample"]) or line.shape[1] // 2  # zero: not given
        if reverse[i]:
            line, first, last = line[:, ::-1], last, first
        line = line[:, first : line.shape[1] - last]
        start = n // 2 - centre + first
        if start < 0 or start + line.shape[1] > n:
            raise InputError(
                f"line {i} of {file.path.name} does not fit the encoded matrix",
                expected=f"samples within {n}, the centre at {n // 2}",
                received=f"{line.shape[1]} samples, their centre at {centre - first}",
                remedy="Check center_sample and the encoded matrix size of the header.",
            )
        readouts[row, :, start : start + line.shape[1]] = line
        acquired[row, start : start + line.shape[1]] = True
    values = torch.from_numpy(readouts)
    kept = round(n * recon.fieldOfView_mm.x / encoded.fieldOfView_mm.x)
    if kept >= n:
        return values, acquired
    if kept < 1:
        raise InputError(
            f"the header of {file.path.name} leaves no voxel along the readout",
            expected=f"a reconstructed field of view of at least 1/{n} of the encoded one",
            received=f"{recon.fieldOfView_mm.x:g} of {encoded.fieldOfView_mm.x:g} mm",
            remedy="Correct the fields of view of the header.",
        )
    before = n // 2 - kept // 2
    values = to_kspace(to_image(values, 1)[..., before : before + kept], 1)
    # Sample j of the short readout lies where this sample of the long one does.
    nearest = (n // 2 + (torch.arange(kept) - kept // 2) * n / kept).round().long().clamp(0, n - 1)
    return values, acquired[:, nearest]


def _counter(file: MrdFile, lines: np.ndarray, name: str) -> np.ndarray:
    """A counter of each line, numbered without gaps; slices by position."""
    values, numbered = np.unique(file.heads["idx"][name][lines], return_inverse=True)
    if name != "slice" or len(values) == 1:
        return np.asarray(numbered)
    firsts = np.array([lines[np.argmax(numbered == s)] for s in range(len(values))])
    rank = np.argsort(np.argsort(along_normal(file.heads[firsts]), kind="stable"), kind="stable")
    return np.asarray(rank[numbered])


def _step(file: MrdFile, lines: np.ndarray, axis: int) -> tuple[Tensor, int]:
    """Row of each line along k1 or k2, centre at n // 2, and n."""
    encoding = file.header.encoding[0]
    n = int(getattr(encoding.encodedSpace.matrixSize, "yz"[axis - 1]))
    limits: Any = getattr(encoding.encodingLimits, f"kspace_encoding_step_{axis}")
    centre = n // 2 if limits is None else int(limits.center)
    rows = file.heads["idx"][f"kspace_encode_step_{axis}"][lines].astype(np.int64) - centre + n // 2
    if rows.min() < 0 or rows.max() >= n:
        raise InputError(
            f"phase encodings of {file.path.name} do not fit the encoded matrix",
            expected=f"rows 0 to {n - 1} of k{axis}, the centre of k-space at {n // 2}",
            received=f"rows {rows.min()} to {rows.max()} with the centre of the encoding limits, {centre}",
            remedy="Check the encoding limits and the encoded matrix size of the header.",
        )
    return torch.from_numpy(rows), n


def _sorted(
    file: MrdFile,
    lines: np.ndarray,
    readouts: Tensor,
    acquired: Tensor,
    counters: list[np.ndarray],
    lead: list[int],
) -> tuple[Tensor, Tensor]:
    """Mean of the lines at each place, (..., coil, [k2,] k1, k0), and how many, (..., [k2,] k1, k0).

    ``lead`` is the number of values of each counter.
    """
    k1, n1 = _step(file, lines, 1)
    k2, n2 = _step(file, lines, 2)
    place = torch.zeros(len(lines), dtype=torch.long)
    for values, n in zip(counters, lead, strict=True):
        place = place * n + torch.from_numpy(values)
    place = (place * n2 + k2) * n1 + k1
    cells = math.prod(lead) * n2 * n1
    n_coils, n0 = readouts.shape[1:]
    check_memory(8 * cells * n_coils * n0, f"k-space of {file.path.name}", CHECK_MATRIX)
    total = readouts.new_zeros(cells, n_coils, n0).index_add_(0, place, readouts * acquired.unsqueeze(1))
    counts = torch.zeros(cells, n0).index_add_(0, place, acquired.float())
    mean = total / counts.clamp_min(1).unsqueeze(1)
    shape = [n for n in lead if n > 1]
    volume = [n2, n1] if n2 > 1 else [n1]
    kspace = mean.reshape(*shape, *volume, n_coils, n0).movedim(-2, len(shape))
    return kspace.contiguous(), counts.reshape(*shape, *volume, n0)


def _shared(counts: Tensor, dims: int) -> Tensor:
    """Counts without leading axes where all images share them."""
    images = counts.reshape(-1, *counts.shape[-dims:])
    return images[0] if bool((images == images[0]).all()) else counts


def _geometry(file: MrdFile, lines: np.ndarray, slices: np.ndarray, shape: tuple[int, ...], dims: int) -> Geometry:
    heads = file.heads[[lines[np.argmax(slices == s)] for s in range(int(slices.max()) + 1)]]
    encoding = file.header.encoding[0]
    if dims == 2:
        return mrd_geometry(encoding, (len(heads), shape[-2], shape[-1]), heads)
    volume = mrd_geometry(encoding, (shape[-3], shape[-2], shape[-1]), heads[:1])
    # Several slabs lie apart from each other: no single affine.
    return volume if len(heads) == 1 else Geometry(volume.voxel_size)
