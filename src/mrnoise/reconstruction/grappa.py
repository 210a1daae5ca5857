"""GRAPPA: missing samples of regular sampling from their neighbours in all coils."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from math import prod

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.planes import planes
from mrnoise.calibration.grappa_kernels import KernelShape, fit_grappa_kernels, in_image
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.combination import (
    Combination,
    CombinesCoils,
    adaptive_weights,
    combined,
    sense_weights,
)
from mrnoise.reconstruction.protocol import Planewise, Reconstruction
from mrnoise.reconstruction.sense import check_regularization
from mrnoise.sampling.grid import Grid
from mrnoise.sampling.regular_lattice import RegularLattice


@dataclass(frozen=True)
class Grappa(CombinesCoils):
    """GRAPPA of lines, of two undersampled axes, or of a CAIPIRINHA lattice, and a combination of its coil images.

    A missing sample is made of the acquired ones around it, in all coils, with the weights W that do so best in
    calibration lines (Griswold 2002, doi:10.1002/mrm.10171; `mrnoise.calibration.fit_grappa_kernels`). Acquired
    samples stay as they are, calibration lines too. Beyond the edge of k-space there are none, along undersampled axes;
    along the others k-space is continued periodically, so that kernels are products in the image. Coils are whitened
    first.

    Calibration lines are those of the acquisition where it has separate ones, which are held fixed, else the fully
    sampled centre of its own k-space. Noise of the latter reaches the image through W too.

    Parameters
    ----------
    kernel
        Acquired samples along each undersampled axis, and samples along each of the others.
    regularization
        Tikhonov λ ≥ 0 of the fit, relative to the mean eigenvalue of its normal equations.
    combination
        ``"rss"``: root sum of squares, real. ``"adaptive"``: Σ_c m_c* z_c with the unit vector m of
        `mrnoise.calibration.walsh` of the calibration lines. ``"sense"``: (SᴴS)⁻¹Sᴴ z with coil maps S, those of
        the acquisition or ESPIRiT maps of the calibration lines.
    differentiate_calibration
        Hold W, m and S of calibration lines within the scan fixed (False), or propagate their noise to first order
        (True). Where noise is strong enough for that to matter, first order has been seen to overestimate it; see the
        documentation.

    Raises
    ------
    InputError
        If a setting is not possible; on `bind`, if sampling is not regular, or calibration lines are too few.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 4, mask=equispaced((32, 24), 2, calibration=12), snr=30.0)
    >>> for propagated in (False, True):
    ...     method = Grappa(kernel=(2, 3), combination="sense", differentiate_calibration=propagated)
    ...     nm = noise_map(method, scan, method="exact")
    ...     print(f"mean σ {nm.std.mean():.4f}, mean g {nm.g_factor.mean():.2f}")
    mean σ 0.0250, mean g 1.43
    mean σ 0.0254, mean g 1.45
    """

    kernel: tuple[int, int] = (4, 5)
    regularization: float = 1e-3
    combination: Combination = "rss"
    differentiate_calibration: bool = False

    def __post_init__(self) -> None:
        check_regularization(self.regularization)
        self.check_combination()
        if len(self.kernel) != 2 or self.kernel[0] < 2 or self.kernel[1] < 1:
            raise InputError(
                "invalid kernel",
                expected="at least 2 acquired samples along undersampled axes and 1 sample along the others",
                received=str(self.kernel),
                remedy="The default is kernel=(4, 5).",
            )

    def planewise(self, volume: Acquisition, axis: int) -> Planewise | None:
        """With kernels and weights of the whole volume, if they are fixed: products across its planes."""
        bound = self.bind(volume)
        kernels, weights = bound.kernels, bound.weights
        if kernels is None or (weights is None and self.combination != "rss"):
            return None
        kernels = bound.interpolation.shape.at_planes(kernels, axis, volume.spatial_shape[axis])

        def of_plane(index: int) -> Reconstruction:
            return GrappaOfPlane(
                **{field.name: getattr(self, field.name) for field in fields(self)},
                kernels=kernels[index],
                weights=None if weights is None else weights.select(axis, index),
            )

        return Planewise(planes(volume, axis), of_plane)

    def bind(self, acquisition: Acquisition) -> BoundGrappa:
        """Return kspace (..., coil, k1, k0) → image (..., y, x), real for ``"rss"``, else complex."""
        lattice = RegularLattice.of(acquisition.grid)
        shape = KernelShape(lattice, acquisition.spatial_dims, self.kernel)
        calibration, axis = acquisition.calibration, acquisition.coil_axis
        if calibration is None:
            lines, region = acquisition.kspace, acquisition.grid.shared()
        else:
            lines = calibration
            region = (lines != 0).any(axis).reshape(-1, *acquisition.spatial_shape).all(0)
        lines = acquisition.whiten(lines.to(acquisition.kspace.dtype))
        bound = BoundGrappa(self, acquisition, Interpolation.of(shape, acquisition.grid), region, None, None)
        fixed = calibration is not None or not self.differentiate_calibration
        kernels = bound.fitted(lines)  # says what is missing now, not later
        weights = None
        if self.combination == "sense":
            maps = fixed_coil_maps(acquisition, self.differentiate_calibration)
            weights = None if maps is None else sense_weights(maps, axis)
        elif self.combination == "adaptive" and fixed:
            weights = adaptive_weights(lines, region)
        return replace(bound, kernels=kernels if fixed or not lattice.axes else None, weights=weights)


@dataclass(frozen=True, eq=False)
class GrappaOfPlane(Grappa):
    """`Grappa` of a plane, by kernels and weights of its volume."""

    kernels: Tensor = field(kw_only=True)
    weights: Tensor | None = field(kw_only=True)

    def bind(self, acquisition: Acquisition) -> BoundGrappa:
        """Return kspace (coil, k1, k0) → image (y, x)."""
        grid = acquisition.grid
        shape = KernelShape(RegularLattice.of(grid), acquisition.spatial_dims, self.kernel)
        return BoundGrappa(self, acquisition, Interpolation.of(shape, grid), grid.mask, self.kernels, self.weights)


@dataclass(frozen=True, eq=False)
class Interpolation:
    """From acquired samples to the images of coils, by kernels.

    Parameters
    ----------
    shape
        Of the kernels.
    plane
        Samples along the undersampled axes.
    sources
        Where in the plane, flattened, the samples around each cell with missing ones are, (source, cell); as many as
        there are samples where it has none.
    origins
        Where each sample of the plane comes from: itself, or what was made, (target, cell) flattened, behind it.
    """

    shape: KernelShape
    plane: tuple[int, ...]
    sources: Tensor
    origins: Tensor

    @classmethod
    def of(cls, shape: KernelShape, grid: Grid) -> Interpolation:
        """For the samples of a grid."""
        mask = grid.shared().cpu()
        extent = torch.ones_like(mask) if grid.extent is None else grid.extent.reshape(-1, *mask.shape).any(0).cpu()
        if shape.whole_axes:
            mask, extent = mask.any(shape.whole_axes), extent.any(shape.whole_axes)
        if not shape.lattice.axes:
            nothing = torch.zeros(0, dtype=torch.long)
            return cls(shape, (), nothing, nothing)
        plane, size = tuple(mask.shape), mask.numel()
        missing = (extent & ~mask).nonzero()
        first, place = shape.lattice.cells(missing)
        cells, of_cell = first.unique(dim=0, return_inverse=True)
        around = cells + shape.sources[:, None]
        inside = ((around >= 0) & (around < torch.tensor(plane))).all(-1)
        steps = torch.tensor([prod(plane[i + 1 :]) for i in range(len(plane))])
        index = torch.where(inside, around @ steps, size)
        inside &= torch.cat([mask.flatten(), torch.zeros(1, dtype=torch.bool)])[index]
        origins = torch.arange(size)
        origins[missing @ steps] = size + (place - 1) * len(cells) + of_cell
        device = grid.mask.device
        return cls(shape, plane, torch.where(inside, index, size).to(device), origins.to(device))

    def along(self, kernels: Tensor, spatial: tuple[int, ...]) -> Tensor:
        """Kernels (..., source, step) as products in the image along the other axes, (..., source, position)."""
        return in_image(kernels, self.shape.along, [spatial[axis] for axis in self.shape.whole_axes])

    def __call__(self, kspace: Tensor, kernels: Tensor) -> Tensor:
        """Whitened k-space (..., coil, *spatial) and kernels as fitted to images (..., coil, *spatial)."""
        dims = self.shape.spatial_dims
        if not self.plane:
            return fourier.to_image(kspace, dims)
        spatial, under, whole = tuple(kspace.shape[-dims:]), self.shape.lattice.axes, self.shape.whole_axes
        at_end = tuple(range(-len(under), 0))
        lines = kspace.movedim(whole, tuple(range(-len(whole), 0))) if whole else kspace
        lines = fourier.to_image(lines, len(whole)) if whole else lines
        rest = lines.shape[-len(whole) :] if whole else ()
        lines = lines.reshape(*kspace.shape[:-dims], self.origins.numel(), -1)  # (..., coil, sample, position)
        padded = torch.cat([lines, torch.zeros_like(lines[..., :1, :])], -2)
        made = lines.new_zeros(())
        # One source after the other: of a volume all at once are many times its k-space.
        for product, place in zip(self.along(kernels, spatial).unbind(-2), self.sources, strict=True):
            made = made + torch.einsum("...tcdf,...daf->...ctaf", product, padded[..., place, :])
        filled = torch.cat([lines, made.flatten(-3, -2)], -2)[..., self.origins, :]
        filled = filled.reshape(*kspace.shape[:-dims], *self.plane, *rest)
        filled = filled.movedim(tuple(range(-dims, -dims + len(under))), at_end)
        images = fourier.to_image(filled, len(under))
        return images.movedim(tuple(range(-dims, 0)), (*whole, *under))


@dataclass(frozen=True, eq=False, repr=False)
class BoundGrappa(Bound):
    """`Grappa` of one scan.

    Parameters
    ----------
    interpolation
        Where missing samples come from.
    calibrated
        Calibration lines, (*spatial).
    kernels
        As fitted; ``None``: they follow from each k-space.
    weights
        Of the combination of coils; ``None``: they follow from each k-space, or there are none.
    """

    method: Grappa
    interpolation: Interpolation
    calibrated: Tensor
    kernels: Tensor | None
    weights: Tensor | None

    @property
    def complex_linear(self) -> bool:
        """With fixed kernels and weights."""
        return self.kernels is not None and self.weights is not None

    def fitted(self, lines: Tensor) -> Tensor:
        """Kernels of whitened calibration lines."""
        shape = self.interpolation.shape
        if not shape.lattice.axes:
            return lines.new_zeros(0)
        return fit_grappa_kernels(lines, self.calibrated, shape, self.method.regularization)

    def coil_images(self, kspace: Tensor) -> Tensor:
        """Of whitened coils, (..., coil, *spatial)."""
        white = self.acquisition.whiten(kspace)
        kernels = self.fitted(white) if self.kernels is None else self.kernels
        return self.interpolation(white, kernels)

    def combination_weights(self, kspace: Tensor) -> Tensor | None:
        """W of Σ_c w_c z_c, (..., coil, *spatial); ``None`` of the root sum of squares."""
        scan, combination = self.acquisition, self.method.combination
        if self.weights is not None or combination == "rss":
            return self.weights
        if combination == "sense":
            return sense_weights(whitened_coil_maps(scan, kspace), scan.coil_axis)
        return adaptive_weights(scan.whiten(kspace), self.calibrated)

    def __call__(self, kspace: Tensor) -> Tensor:
        """Image of the filled k-space, (..., coil, k1, k0) → (..., y, x)."""
        return combined(self.coil_images(kspace), self.combination_weights(kspace), self.acquisition.coil_axis)
