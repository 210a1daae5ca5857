"""Which voxels alias onto each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.errors import InputError

# A side lobe of the point spread function below this fraction of its peak is round-off.
ROUND_OFF = 1e-9
# Voxels of an alias set that are told apart.
LARGEST_SET = 1024


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

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> lattice = alias_lattice(equispaced((12, 8), 3))
    >>> lattice.acceleration, lattice.shifts
    (3, ((0, 0), (-4, 0), (4, 0)))
    >>> image = torch.arange(12.0)[:, None].expand(12, 8)
    >>> lattice.aliases(image)[:, 0, 0].tolist()  # these fold onto row 0
    [0.0, 4.0, 8.0]
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


def alias_colours(mask: Tensor, most: int = LARGEST_SET) -> Tensor:
    """Colouring of a matrix by which the voxels of an alias set all differ: integers from 0, (y, x) or (z, y, x).

    A mask that stays what it is when shifted by t in k-space spreads voxels by displacements r with exp(i t·r) = 1
    only. They form a group; voxels that differ by one of them are an alias set. The noise of a linear reconstruction
    that treats alias sets apart is uncorrelated within a colour. Regular sampling has sets of R voxels, any other along
    one axis the lines of that axis.

    Parameters
    ----------
    mask
        Bool, (k1, k0) or (k2, k1, k0).
    most
        Colours.

    Returns
    -------
    Tensor
        Shape of the mask.

    Raises
    ------
    InputError
        If it takes more.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> colours = alias_colours(equispaced((6, 4), 3))
    >>> colours[:, 0].tolist()  # rows 0, 2 and 4 fold onto each other
    [0, 0, 1, 1, 2, 2]
    """
    axes = tuple(range(mask.ndim))
    overlap = torch.fft.ifftn(torch.fft.fftn(mask.double()).abs().square()).real
    same = (overlap > int(mask.sum()) - 0.5).double()
    shifts = torch.nonzero(torch.fft.fftn(same).abs() > 0.5).tolist()
    if len(shifts) > most:
        raise InputError(
            "too many voxels alias onto each other",
            expected=f"regular sampling, or whole lines: sets of at most {most} voxels",
            received=f"{int(mask.sum())} of {mask.numel()} samples in a pattern with sets of {len(shifts)}",
            remedy='Use method="sketch", which takes any sampling.',
        )
    place = torch.arange(mask.numel(), device=mask.device).reshape(mask.shape)
    colours = torch.zeros_like(place)
    for shift in shifts:
        colours += place.roll(shift, axes) < place
    return colours


def alias_lattice(mask: Tensor) -> AliasLattice:
    """Alias lattice of a sampling mask.

    Parameters
    ----------
    mask
        Bool, (k1, k0) or (k2, k1, k0).

    Returns
    -------
    AliasLattice
        Its R shifts in voxels and their coefficients.

    Raises
    ------
    InputError
        If the sampling is not regular: calibration lines, random patterns, or a spacing that does not divide the
        matrix.

    Examples
    --------
    >>> from mrnoise.sampling import caipi
    >>> lattice = alias_lattice(caipi((8, 6), (2, 2)))
    >>> lattice.acceleration, lattice.shifts
    (4, ((0, 0), (-4, 0), (-2, -3), (2, -3)))
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
            expected="a regular pattern whose spacing divides the matrix, without calibration lines",
            received=f"{int(mask.sum())} of {mask.numel()} samples, whose point spread function has "
            f"{len(peaks)} unequal peaks",
            remedy="Use CgSense, which takes any sampling, or drop the calibration lines with "
            "acquisition.undersample(mask).",
        )
    shifts = [tuple(int(v) - n // 2 for v, n in zip(peak, shape, strict=True)) for peak in peaks]
    order = sorted(range(len(shifts)), key=lambda j: (any(shifts[j]), shifts[j]))
    return AliasLattice(tuple(shifts[j] for j in order), coefficients[order])
