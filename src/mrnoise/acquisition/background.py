"""Where a scan is empty: voxels of the image, or of readouts side by side, that hold noise only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Voxels along each axis of a block of the image: 64 voxels in 2D and in 3D.
BLOCK = {2: 8, 3: 4}
IMAGE, RINGING, READOUTS = "image background", "image background without ringing", "background of the readouts"
# Readouts are empty where the centre of k-space has less than this multiple of the energy of its outer half.
EMPTY = 2.0
# Fewer blocks that agree may be alike by chance, or hold the same signal.
FEWEST_BLOCKS = 6
UPPER_BOUND = "(upper bound)"
# Energies within this ratio are counted together in the search for the most common one.
SEARCH_RATIO = 1.3
# Standard errors by which a block may hold more energy on a coarse scale, and all of them more than without ringing.
COARSE, RINGS = 4.0, 3.0


def background(samples: Tensor, acquired: Tensor, limit: float, fewest: int) -> tuple[Tensor, str]:
    """Samples (coil, n) of the blocks that hold noise only, and where they lie; blocks above ``limit`` hold signal.

    K-space is transformed along all axes along which each acquired line is complete: the image where all are, else
    readouts side by side.

    Parameters
    ----------
    samples, acquired
        K-space (image, coil, *spatial), and which of it was acquired (image, *spatial).
    limit
        Largest ‖x‖² of noise.
    fewest
        How many samples are needed: there may be fewer without ringing than with it.
    """
    nothing = samples.new_zeros(samples.shape[1], 0), ""
    there = acquired.flatten(1).any(1)
    samples, acquired = samples[there], acquired[there]
    if not len(samples):
        return nothing
    dims, box = acquired.ndim - 1, bounding_box(acquired)
    inside = acquired[box]
    complete = [axis for axis in range(-dims, 0) if bool((inside.any(axis) == inside.all(axis)).all())]
    if not complete or min(inside.shape[axis] for axis in complete) < BLOCK[min(dims, len(complete) + 1)]:
        return nothing
    if len(complete) == dims:
        centre = [n // 2 - part.start for n, part in zip(acquired.shape[1:], box[1:], strict=True)]
        return _of_image(samples[box], centre, limit, fewest)
    return _of_readouts(samples[box], acquired, complete, limit)


def bounding_box(acquired: Tensor) -> tuple[Any, ...]:
    """Index of the smallest box that holds all acquired samples (image, *spatial), along the last axes of an array."""
    indices = acquired.any(0).nonzero()
    low, high = indices.amin(0).tolist(), (indices.amax(0) + 1).tolist()
    return (..., *(slice(a, b) for a, b in zip(low, high, strict=True)))


def squared_radius(shape: Sequence[int]) -> Tensor:
    """Squared distance from the centre of k-space, 1 at the edge of each axis."""
    radius = torch.zeros(())
    for n in shape:
        radius = radius.unsqueeze(-1) + ((torch.arange(n) - n // 2) / (n / 2)).square()
    return radius


def _of_image(kspace: Tensor, centre: list[int], limit: float, fewest: int) -> tuple[Tensor, str]:
    """Of complete k-space (image, coil, *spatial) with its origin at ``centre``.

    Noise is white, signal is not. What an object leaves in a block is smooth: its sum over cells of half a block along
    each axis, divided by the root of their voxels, has more energy than its voxels. Its ringing alternates from voxel
    to voxel: a Hann window over k-space takes it away, and a known part of white noise.
    """
    dims, side = len(centre), BLOCK[len(centre)]
    axes = list(range(-dims, 0))
    whole = (..., *(slice(n // side * side) for n in kspace.shape[-dims:]))
    image = torch.fft.ifftn(kspace.roll([-c for c in centre], axes), dim=axes, norm="ortho")[whole]
    sums, windowed = image, kspace
    for axis in axes:
        sums = sums.unfold(axis, side // 2, side // 2).sum(-1) / (side // 2) ** 0.5
        hann = torch.hann_window(kspace.shape[axis]) * (8 / 3) ** 0.5
        windowed = windowed * hann.reshape(-1, *[1] * (-1 - axis))
    # Every other voxel: the noise of neighbours is no longer independent.
    smooth = torch.fft.ifftn(windowed, dim=axes, norm="ortho")[whole][(..., *[slice(None, None, 2)] * dims)]
    blocks, cells, smooth = _blocks(image, side, dims), _blocks(sums, 2, dims), _blocks(smooth, side // 2, dims)
    energy = _energies(blocks)
    quiet = energy <= limit
    error = _spread(_alike(blocks[quiet])) * (1 / cells.shape[-1] - 1 / blocks.shape[-1]) ** 0.5
    white = _energies(cells) <= energy * (1 + COARSE * error)
    plain, smooth = _alike(blocks[quiet & white]), _alike(smooth[white & (_energies(smooth) <= limit)])
    if _count(smooth) >= fewest:
        error = _spread(smooth) / _count(smooth) ** 0.5
        least = float(_energies(smooth).mean()) * (1 + RINGS * error)
        if _count(plain) < fewest or least < float(_energies(plain).mean()):
            return _samples(smooth), RINGING if len(smooth) >= FEWEST_BLOCKS else f"{RINGING} {UPPER_BOUND}"
    return _samples(plain), IMAGE if len(plain) >= FEWEST_BLOCKS else f"{IMAGE} {UPPER_BOUND}"


def _of_readouts(kspace: Tensor, acquired: Tensor, complete: list[int], limit: float) -> tuple[Tensor, str]:
    """Of lines that are complete along some axes: readouts beside each other."""
    dims = len(complete) + 1
    image, centre, outer = _readouts(torch.fft.ifftn(kspace, dim=complete, norm="ortho"), acquired, complete)
    if image.shape[2] < BLOCK[dims]:
        return image.new_zeros(image.shape[1], 0), READOUTS
    for axis in range(1 - dims, 0):
        centre, outer = (part.unfold(axis, BLOCK[dims], BLOCK[dims]).mean(-1) for part in (centre, outer))
    blocks = _blocks(image, BLOCK[dims], dims)
    empty = (centre < EMPTY * outer).flatten().repeat(len(blocks) // centre.numel())
    blocks = blocks[(_energies(blocks) <= limit) & empty]
    kept = _alike(blocks) if len(blocks) >= FEWEST_BLOCKS else blocks[:0]
    return _samples(kept), READOUTS


def _readouts(hybrid: Tensor, acquired: Tensor, complete: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Acquired lines (1, coil, line, *complete) of k-space that was transformed along the axes ``complete``.

    With them the mean energy (*complete) of the central quarter of the lines, and of the outer half.
    """
    box, n = bounding_box(acquired), len(complete)
    last = list(range(-n, 0))
    dims = acquired.ndim - 1
    radius = squared_radius([1 if axis in complete else acquired.shape[axis] for axis in range(-dims, 0)])
    away, there = (
        values.expand_as(acquired)[box].movedim(complete, last).flatten(-n)[..., 0] for values in (radius, acquired)
    )
    image = hybrid.movedim(1, -1).movedim([axis - 1 for axis in complete], [axis - 1 for axis in last])[there]
    energy, away = image.abs().square().sum(-1), away[there]
    ordered = away.sort().values
    centre = energy[away <= ordered[len(ordered) // 4]].mean(0)
    outer = energy[away >= ordered[len(ordered) // 2]].mean(0)
    return image.movedim(-1, 0)[None], centre, outer


def _blocks(image: Tensor, side: int, dims: int) -> Tensor:
    """The image (image, coil, *spatial) as blocks (block, coil, voxel) of ``side`` voxels along each axis."""
    for _ in range(dims):  # each spatial axis in turn: its blocks stay in place, their voxels go last
        image = image.unfold(-dims, side, side)
    return image.flatten(-dims).movedim(1, -2).flatten(0, -3)


def _samples(blocks: Tensor) -> Tensor:
    """All samples of the blocks, (coil, n)."""
    return blocks.movedim(1, 0).flatten(1)


def _count(blocks: Tensor) -> int:
    """Number of samples of each coil."""
    return len(blocks) * blocks.shape[-1]


def _energies(blocks: Tensor) -> Tensor:
    """Mean of ‖x‖² over the voxels of each block."""
    return blocks.abs().square().sum(1).mean(1).double()


def _spread(blocks: Tensor) -> float:
    """‖Ψ‖_F / tr Ψ: standard deviation of ‖x‖² relative to its mean, over independent voxels."""
    members = _samples(blocks).to(torch.complex128)
    psi = members @ members.mH
    return float(psi.norm() / psi.diagonal().real.sum().clamp_min(1e-300))


def _alike(blocks: Tensor) -> Tensor:
    """Those of the blocks that agree with the most common energy within sampling error."""
    if not len(blocks):
        return blocks
    energy = _energies(blocks)
    ordered = energy.sort().values
    counts = torch.searchsorted(ordered, ordered * SEARCH_RATIO, right=True) - torch.arange(len(ordered))
    first = int(counts.argmax())
    chosen = (energy >= ordered[first]) & (energy <= ordered[first + int(counts[first]) - 1])
    for _ in range(5):
        error = _spread(blocks[chosen]) / blocks.shape[-1] ** 0.5
        chosen = (energy / energy[chosen].median() - 1).abs() <= 4 * error
    return blocks[chosen]
