"""Regular sampling: which voxels alias onto each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.errors import InputError

# A side lobe of the point spread function below this fraction of its peak is round-off.
ROUND_OFF = 1e-9


@dataclass(frozen=True)
class AliasLattice:
    """The alias sets of a regular sampling pattern.

    The point spread function FᴴMF δ of a regular mask consists of R peaks: the voxel r receives
    Σ_j coefficients_j · x(r - shifts_j), the first peak being the voxel itself.

    Parameters
    ----------
    shifts
        R displacements in voxels, each ((z,) y, x); the first is zero.
    coefficients
        R complex heights, all of size 1/R.
    """

    shifts: tuple[tuple[int, ...], ...]
    coefficients: Tensor

    @property
    def acceleration(self) -> int:
        """R, the number of voxels in an alias set."""
        return len(self.shifts)

    def aliases(self, values: Tensor) -> Tensor:
        """Values at r - shift_j for every r, stacked on a new first axis: (R, *values.shape)."""
        axes = tuple(range(-len(self.shifts[0]), 0))
        return torch.stack([values.roll(shift, axes) for shift in self.shifts])

    def colours(self, shape: Sequence[int]) -> Tensor:
        """Colouring of a matrix, integers 0 to R - 1: the voxels of an alias set all differ in colour.

        The noise of any linear reconstruction that treats alias sets apart is uncorrelated within a colour.
        """
        place = torch.arange(prod(shape)).reshape(tuple(shape))
        return (self.aliases(place) < place).sum(0)


def alias_lattice(mask: Tensor) -> AliasLattice:
    """Alias lattice of a sampling mask.

    Parameters
    ----------
    mask
        Bool, (k1, k0) or (k2, k1, k0).

    Raises
    ------
    InputError
        If the sampling is not regular: calibration lines, random patterns, or an acceleration that does
        not divide the matrix.
    """
    shape = mask.shape
    # The response of k-space weights M is the transform of M over √N, at the image centre.
    response = fourier.to_image(mask.to(torch.complex128), mask.ndim) / mask.numel() ** 0.5
    peaks = torch.nonzero(response.abs() > ROUND_OFF)
    coefficients = response[tuple(peaks.T)]
    regular = bool((coefficients.abs() - 1 / len(peaks)).abs().max() < 1e-6)
    if not regular:
        raise InputError(
            "sampling is not a regular lattice",
            expected="every R-th sample, with R dividing the matrix, and no calibration lines",
            received=f"{int(mask.sum())} of {mask.numel()} samples, whose point spread function has "
            f"{len(peaks)} unequal peaks",
            remedy="Use CgSense, which takes any sampling, or drop the calibration lines with "
            "acquisition.undersample(mask).",
        )
    centre = torch.tensor([n // 2 for n in shape])
    shifts = [tuple(int(v) for v in peak - centre) for peak in peaks]
    order = sorted(range(len(shifts)), key=lambda j: (any(shifts[j]), shifts[j]))
    return AliasLattice(tuple(shifts[j] for j in order), coefficients[order])
