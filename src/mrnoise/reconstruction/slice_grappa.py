"""Slice-GRAPPA: slices that were excited at once, separated by kernels."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.espirit_maps import espirit
from mrnoise.calibration.grappa_kernels import (
    KernelShape,
    calibration_places,
    check_enough,
    fit_grappa_kernels,
    gathered,
    in_image,
    least_squares,
)
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.combination import (
    Combination,
    CombinesCoils,
    adaptive_weights,
    combined,
    sense_weights,
)
from mrnoise.reconstruction.grappa import Interpolation
from mrnoise.reconstruction.sense import check_regularization
from mrnoise.sampling.grid import Grid
from mrnoise.sampling.regular_lattice import RegularLattice


@dataclass(frozen=True)
class SliceGrappa(CombinesCoils):
    """Slice-GRAPPA and split slice-GRAPPA of simultaneous slices, then GRAPPA in each slice where lines are left out.

    The scan is a volume whose planes are the slices, each of its lines k1 acquired at one k2
    (`mrnoise.acquisition.simultaneous_slices`), with calibration lines of single slices. A kernel a slice makes the
    k-space of that slice of the samples around it in the collapsed k-space (Setsompop 2012, doi:10.1002/mrm.23097),
    fitted to the sum of the single slices, or, split, to each of them: to pass its own slice and to block every
    other (Cauley 2014, doi:10.1002/mrm.24898). Beyond the edges k-space is continued periodically. Kernels are held
    fixed: the image is linear in k-space.

    Parameters
    ----------
    kernel
        Acquired lines and samples along them that a sample is made of.
    regularization
        Tikhonov λ ≥ 0 of the fits, relative to the mean eigenvalue of their normal equations.
    split
        Block leakage slice by slice.
    combination
        As of `Grappa`; coil maps of ``"sense"`` are those of the acquisition or ESPIRiT maps of each slice.
    in_plane
        Kernel of `Grappa` where lines of the slices are left out.

    Raises
    ------
    InputError
        If a setting is not possible; on `bind`, if slices were not collapsed in a regular way, or calibration lines are
        missing or too few.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import caipi
    >>> from mrnoise.simulation import simulate
    >>> shape = (2, 32, 24)
    >>> single = simulate(shape, 6, snr=40.0)
    >>> scan = single.undersample(caipi(shape, (1, 2))).replace(calibration=single.kspace)
    >>> for split in (False, True):
    ...     nm = noise_map(SliceGrappa((3, 3), split=split, combination="sense"), scan)
    ...     print(nm.method, round(float(nm.g_factor.mean()), 2))
    lattice 1.09
    lattice 1.16
    """

    kernel: tuple[int, int] = (5, 5)
    regularization: float = 1e-3
    split: bool = False
    combination: Combination = "rss"
    in_plane: tuple[int, int] = (4, 5)

    def __post_init__(self) -> None:
        check_regularization(self.regularization)
        self.check_combination()
        if min(*self.kernel, self.in_plane[0] - 1, self.in_plane[1]) < 1:
            raise InputError(
                "invalid kernel",
                expected="at least 1 line and 1 sample; of the in-plane kernel at least 2 acquired lines",
                received=f"{self.kernel}, in-plane {self.in_plane}",
                remedy="The defaults are kernel=(5, 5), in_plane=(4, 5).",
            )

    def bind(self, acquisition: Acquisition) -> BoundSliceGrappa:
        """Return kspace (..., coil, k2, k1, k0) → image (..., z, y, x), real for ``"rss"``, else complex."""
        lines = CollapsedLines.of(acquisition)
        single = lines.single_slices(acquisition)
        region = (single != 0).any(-3).reshape(-1, *single.shape[-2:]).all(0)
        separation = self._separation(single, region, lines)
        grid = Grid(acquisition.grid.shared().any(0))
        shape = KernelShape(RegularLattice.of(grid), 2, self.in_plane)
        kernels = single.new_zeros(0)
        if shape.lattice.axes:
            kernels = fit_grappa_kernels(single, region, shape, self.regularization)
        weights = None
        if self.combination == "adaptive":
            weights = adaptive_weights(single, region)
        elif self.combination == "sense":
            maps = acquisition.coil_maps
            maps = espirit(single, region) if maps is None else acquisition.whiten_maps(maps).movedim(-3, -4)
            weights = sense_weights(maps.to(single), -3)
        return BoundSliceGrappa(self, acquisition, lines, separation, Interpolation.of(shape, grid), kernels, weights)

    def _separation(self, single: Tensor, region: Tensor, lines: CollapsedLines) -> Tensor:
        """Of single slices (..., slice, coil, k1, k0): (..., slice, coil, coil of the source, line, position)."""
        n_slices, n_coils = single.shape[-4:-2]
        steps = torch.cartesian_prod(lines.around(self.kernel[0]) * lines.spacing, lines.around(self.kernel[1]))
        places = calibration_places(region, steps, (-1,))
        unknowns = n_coils * len(steps)
        span = (self.kernel[0] - 1) * lines.spacing + 1
        check_enough(len(places), unknowns, span=[span], across=[region.shape[1]], step=self.kernel[1])
        moved = single * lines.phases[:, None, :, None].to(single)
        b = gathered(moved, places, 0 * steps[:1]).flatten(-2)  # (..., slice, coil, place)
        if self.split:
            a = gathered(moved, places, steps).movedim(-4, -2)  # (..., coil, step, slice, place)
            own = torch.eye(n_slices, dtype=b.dtype, device=b.device)[:, None, :, None]
            a, b = a.flatten(-2), (own * b[..., None, :]).flatten(-2)
        else:
            a = gathered(moved.sum(-4), places, steps)  # (..., coil, step, place)
        weights = least_squares(a.flatten(-3, -2), b.flatten(-3, -2), self.regularization).to(single.dtype)
        weights = weights.unflatten(-1, (n_coils, *self.kernel)).unflatten(-4, (n_slices, n_coils))
        return in_image(weights, lines.around(self.kernel[1])[:, None], single.shape[-1:])


@dataclass(frozen=True, eq=False)
class CollapsedLines:
    """The lines of a scan of simultaneous slices.

    Parameters
    ----------
    places
        Those that were acquired, k1 of each.
    spacing
        Their distance.
    phases
        With which each slice is in each line k1, acquired or not, (slice, k1): a shift of its image.
    """

    places: Tensor
    spacing: int
    phases: Tensor

    @classmethod
    def of(cls, acquisition: Acquisition) -> CollapsedLines:
        """As the mask of a volume says.

        Raises
        ------
        InputError
            If not every line has one k2, or lines or their k2 do not advance by equal steps.
        """
        mask = acquisition.grid.shared().cpu()
        mask = mask if mask.ndim == 3 else mask[:, None]  # of one slice no line has neighbours
        plane = mask.any(2)
        n_slices, n = plane.shape
        places = plane.any(0).nonzero().flatten()
        k2 = plane.int().argmax(0)[places]
        spacing, step = (int(values[1] - values[0]) if len(values) > 1 else 0 for values in (places, k2))
        whole = mask.equal(plane[..., None] & mask.any(1).any(0))
        regular = spacing > 0 and bool(((places.diff() == spacing) & (k2.diff() % n_slices == step % n_slices)).all())
        if not whole or bool((plane.sum(0) > 1).any()) or not regular:
            raise InputError(
                "these are no simultaneous slices",
                expected="a volume (coil, k2, k1, k0), a plane a slice, each line k1 at one k2, in equal steps",
                received=f"{int(plane.sum())} lines of {tuple(mask.shape)} samples, {len(places)} at different k1",
                remedy="Make one of collapsed k-space with mrnoise.acquisition.simultaneous_slices.",
            )
        advance = (k2[0] - n_slices // 2) + step * (torch.arange(n) - places[0]).double() / spacing
        angle = -2 * pi / n_slices * torch.outer(torch.arange(n_slices).double() - n_slices // 2, advance)
        return cls(places, spacing, torch.polar(torch.ones_like(angle), angle).to(acquisition.kspace.device))

    @staticmethod
    def around(width: int) -> Tensor:
        """Steps of a kernel of this width."""
        return torch.arange(width) - width // 2

    def single_slices(self, acquisition: Acquisition) -> Tensor:
        """Whitened k-space of each slice alone, (..., slice, coil, k1, k0), zero where not calibrated.

        Raises
        ------
        InputError
            If there are no calibration lines.
        """
        calibration = acquisition.calibration
        if calibration is None:
            raise InputError(
                "no calibration lines of single slices",
                expected="an acquisition with calibration, each line at every k2",
                received="none",
                remedy="Give them: mrnoise.acquisition.simultaneous_slices(calibration=...).",
            )
        measured = (calibration != 0).any(acquisition.coil_axis).all(-3)[..., None, :, :]
        lines = acquisition.whiten(calibration.to(acquisition.kspace.dtype)).movedim(-3, -1)
        return fourier.to_image(lines, 1).movedim(-1, -4) * measured[..., None, :, :]

    def collapsed(self, kspace: Tensor) -> Tensor:
        """The sum of all slices in each line that was acquired, (..., coil, k2, k1, k0) → (..., coil, line, k0)."""
        return kspace.shape[-3] ** 0.5 * kspace.sum(-3)[..., self.places, :]


@dataclass(frozen=True, eq=False, repr=False)
class BoundSliceGrappa(Bound):
    """`SliceGrappa` of one scan.

    Parameters
    ----------
    lines
        Those that were acquired.
    separation
        Kernels that separate slices, (slice, coil, coil of the source, line, position).
    interpolation, kernels
        Of lines of the slices that were left out.
    weights
        Of the combination of coils, (slice, coil, y, x); ``None``: root sum of squares.
    """

    method: SliceGrappa
    lines: CollapsedLines
    separation: Tensor
    interpolation: Interpolation
    kernels: Tensor
    weights: Tensor | None

    @property
    def complex_linear(self) -> bool:
        """Unless coils are combined by root sum of squares."""
        return self.weights is not None

    def __call__(self, kspace: Tensor) -> Tensor:
        """Images of the separated slices, (..., coil, k2, k1, k0) → (..., z, y, x)."""
        lines = fourier.to_image(self.lines.collapsed(self.acquisition.whiten(kspace)), 1)
        around = [lines.roll(-int(step), -2) for step in self.lines.around(self.method.kernel[0])]
        separated = torch.einsum("...zcdkf,...dklf->...zclf", self.separation, torch.stack(around, -3))
        places = self.lines.places
        separated = fourier.to_kspace(separated, 1) * self.lines.phases[:, None, places, None].conj().to(lines)
        order = torch.full((kspace.shape[-2],), len(places))
        order[places] = torch.arange(len(places))
        apart = torch.cat([separated, torch.zeros_like(separated[..., :1, :])], -2)[..., order, :]
        return combined(self.interpolation(apart, self.kernels), self.weights, -3)
