"""The lattice that regularly undersampled k-space repeats on, with a fully sampled centre among its samples or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.extent import box
from mrnoise.sampling.grid import Grid

# Largest acceleration that is tried.
LARGEST = 32
# Part of the box around samples beside the lattice that is acquired, from which on they are a centre: all of it along
# one axis, over two an ellipse, which has 0.79.
CENTRE = {1: 1.0, 2: 0.7}


@dataclass(frozen=True)
class RegularLattice:
    """Samples at the points of a lattice along the undersampled axes of a grid, and whole lines along the others.

    Parameters
    ----------
    axes
        The undersampled axes, counted from the end: none, one or two.
    basis
        Of the lattice, in Hermite normal form: ``((R,),)`` of lines at distance R; of two axes ``((a, b), (0, c))``:
        rows at distance a with samples at distance c, each row b samples further than the one before.
    origin
        One of its points.

    Examples
    --------
    >>> from mrnoise.sampling import caipi, equispaced
    >>> lines = RegularLattice.of(Grid(equispaced((22, 8), 3, calibration=6)))
    >>> lines.axes, lines.basis, lines.origin, lines.acceleration
    ((-2,), ((3,),), (2,), 3)
    >>> RegularLattice.of(Grid(caipi((12, 10, 8), (2, 2), calibration=4), 3)).basis
    ((2, 1), (0, 2))
    """

    axes: tuple[int, ...]
    basis: tuple[tuple[int, ...], ...]
    origin: tuple[int, ...]

    @classmethod
    def of(cls, grid: Grid) -> RegularLattice:
        """The densest lattice whose points were all acquired, within what was encoded.

        Samples beside it have to lie together, as calibration lines do.

        Raises
        ------
        InputError
            If there is none, or sampling differs between images.
        """
        mask = grid.shared()
        extent = torch.ones_like(mask) if grid.extent is None else grid.extent.reshape(-1, *grid.image_shape).any(0)
        axes = tuple(axis for axis in range(-mask.ndim, 0) if not _is_whole(mask, extent, axis))
        if not axes:
            return cls((), (), ())
        others = tuple(axis for axis in range(-mask.ndim, 0) if axis not in axes)
        plane, encoded = (x.any(others) if others else x for x in (mask.cpu(), extent.cpu()))
        if len(axes) <= 2:
            for basis in _bases(plane.shape):
                for origin in _contained(plane, encoded, basis):
                    return cls(axes, basis, origin)
        raise InputError(
            "sampling is not regular",
            expected="lines at one spacing, or a lattice over two axes, with or without a fully sampled centre",
            received=f"{int(mask.sum())} of {mask.numel()} samples, undersampled along {len(axes)} axes"
            + ("" if len(axes) > 2 else f", on no lattice with 1 in {LARGEST} or more of them"),
            remedy="Use CgSense, which takes any sampling.",
        )

    @property
    def cell(self) -> tuple[int, ...]:
        """Size of the block of samples that repeats: one that was acquired, at its first place, and the others."""
        return tuple(row[i] for i, row in enumerate(self.basis))

    @property
    def acceleration(self) -> int:
        """Samples of a cell."""
        return prod(self.cell)

    def places(self) -> Tensor:
        """The samples of a cell by their distance from the first, (R, axes), the first one itself first."""
        return torch.cartesian_prod(*(torch.arange(n) for n in self.cell)).reshape(self.acceleration, -1)

    def cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The first sample of the cell of each point (n, axes), and which place in it the point is, (n,)."""
        left, place = points - torch.tensor(self.origin), torch.zeros(len(points), dtype=torch.long)
        inside = []
        for i, row in enumerate(self.basis):
            steps = torch.div(left[:, i], row[i], rounding_mode="floor")
            left = left - steps[:, None] * torch.tensor(row)
            inside.append(left[:, i])
            place = place * row[i] + left[:, i]
        return points - torch.stack(inside, 1), place

    def near(self, width: Sequence[int]) -> Tensor:
        """Points of the lattice around a cell by their distance from its first, (n, axes), the nearest first.

        About ``width`` of them along each axis: those within half so many cells of the centre of the cell.
        """
        half = [n * w / 2 for n, w in zip(self.cell, width, strict=True)]
        centre = [(n - 1) / 2 for n in self.cell]
        reach = [range(-int(h) - n, int(h) + n + 1) for n, h in zip(self.cell, half, strict=True)]
        around = torch.cartesian_prod(*(torch.tensor(list(r)) for r in reach)).reshape(-1, len(self.cell))
        place = self.cells(around + torch.tensor(self.origin))[1]
        distance = (around - torch.tensor(centre)).abs()
        found = around[(place == 0) & (distance < torch.tensor(half)).all(1)]
        return found[found.abs().sum(1).argsort(stable=True)]


def _is_whole(mask: Tensor, extent: Tensor, axis: int) -> bool:
    """Whether every line along an axis was acquired as far as it was encoded, or not at all."""
    others = tuple(i for i in range(-mask.ndim, 0) if i != axis)
    ends = extent.any(others)
    lines = mask.movedim(axis, -1)
    return bool((lines == (lines.any(-1, keepdim=True) & ends)).all())


def _bases(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every lattice of these axes, the densest first."""
    for size in range(2, LARGEST + 1):
        if len(shape) == 1:
            yield ((size,),)
            continue
        for a in range(1, size + 1):
            if size % a == 0:
                yield from (((a, b), (0, size // a)) for b in range(size // a))


def _contained(plane: Tensor, encoded: Tensor, basis: tuple[tuple[int, ...], ...]) -> Iterator[tuple[int, ...]]:
    """The first point of each coset that was acquired as far as it was encoded, beside nothing but a centre."""
    lattice = RegularLattice(tuple(range(-plane.ndim, 0)), basis, (0,) * plane.ndim)
    points = encoded.nonzero()
    coset = lattice.cells(points)[1]
    acquired = plane[tuple(points.T)]
    missed = torch.bincount(coset, weights=(~acquired).double(), minlength=lattice.acceleration)
    for number in torch.nonzero((missed == 0) & (torch.bincount(coset, minlength=len(missed)) > 0)).flatten().tolist():
        own = points[coset == number]
        if any(len(own[:, i].unique()) < 2 for i in range(plane.ndim)):
            continue
        beside = plane.clone()
        beside[tuple(own.T)] = False
        if bool(beside.any()):
            centre = tuple(slice(*ends) for ends in box(beside))
            if int(plane[centre].sum()) < CENTRE[plane.ndim] * int(encoded[centre].sum()):
                continue
        yield tuple(own[0].tolist())
