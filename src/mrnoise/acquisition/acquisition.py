"""One scan: everything a noise map needs to know about what was measured."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.image_grid import DEFAULT_AXES, ImageGrid
from mrnoise.acquisition.noise_covariance import NoiseCovariance
from mrnoise.checks import all_finite
from mrnoise.devices import checked_device
from mrnoise.errors import InputError
from mrnoise.sampling.extent import encoded_extent
from mrnoise.sampling.grid import Grid
from mrnoise.sampling.trajectory import Trajectory
from mrnoise.tensor_record import TensorRecord


@dataclass(frozen=True, eq=False, init=False)
class Acquisition(TensorRecord):
    """Raw k-space with its noise covariance, sampling, coil maps and geometry.

    Parameters
    ----------
    kspace
        Complex, (..., coil, k1, k0) or, with ``spatial_dims=3``, (..., coil, k2, k1, k0), centre at n // 2; of a
        trajectory (..., coil, *samples). Leading axes are independent images (slice, frame, echo). Samples outside the
        mask are set to zero, in a copy; without any the tensor itself is held.
    noise_covariance
        Ψ, total complex variance in squared k-space units: a `NoiseCovariance` or a (coil, coil) tensor.
    mask
        Bool, the samples that were acquired, (k1, k0) or (k2, k1, k0), with the leading axes where the images differ.
        Without it and ``sampling``: those that are not exactly zero in every coil. What was encoded is what
        `mrnoise.sampling.encoded_extent` finds for them; ``sampling=Grid(mask)`` says that all of k-space was.
    coil_maps
        Complex, (coil, *image), or with the leading axes of k-space.
    averages
        How often each sample was measured and averaged, shaped as the samples of one coil; its noise covariance is
        Ψ / averages. ``None``: once.
    calibration
        K-space of separate calibration lines, shaped as ``kspace`` and zero where not acquired: the source of
        coil maps, not of the image.
    geometry
        Voxel size and orientation of the image.
    spatial_dims
        2 or 3; that of a trajectory goes before.
    source
        Where the data came from.
    axes
        Names of the leading axes, e.g. ``("frame", "slice")``. ``None``: the last of them is ``slice``, those before
        ``frame``, ``echo``, ``set``, ``phase``.
    sampling
        A `mrnoise.sampling.Grid` or `mrnoise.sampling.Trajectory`.
    notes
        Sentences of the reader on what a file says beside this: what was left out, filled, corrected or is in doubt.
    coil_numbers
        Of each coil its number in the source, counted from 0. ``None``: none was left out.

    Raises
    ------
    InputError
        If a shape, type or value does not fit.

    Examples
    --------
    >>> kspace = torch.randn(3, 4, 8, 6, dtype=torch.complex64)
    >>> scan = Acquisition(kspace, torch.eye(4), axes=("frame",))
    >>> scan.image_shape, scan.acceleration, scan.at(frame=1).image_shape
    ((3, 8, 6), 1.0, (8, 6))
    """

    kspace: Tensor
    noise_covariance: NoiseCovariance
    sampling: Grid | Trajectory
    coil_maps: Tensor | None
    averages: Tensor | None
    calibration: Tensor | None
    geometry: Geometry
    spatial_dims: int
    source: str
    axes: tuple[str, ...]
    notes: tuple[str, ...]
    coil_numbers: tuple[int, ...]

    def __init__(
        self,
        kspace: Tensor,
        noise_covariance: NoiseCovariance | Tensor,
        mask: Tensor | None = None,
        coil_maps: Tensor | None = None,
        averages: Tensor | None = None,
        calibration: Tensor | None = None,
        geometry: Geometry | None = None,
        spatial_dims: int = 2,
        source: str = "memory",
        axes: Sequence[str] | None = None,
        *,
        sampling: Grid | Trajectory | None = None,
        notes: Sequence[str] = (),
        coil_numbers: Sequence[int] | None = None,
    ) -> None:
        if isinstance(sampling, Trajectory):
            spatial_dims = sampling.spatial_dims
        kspace = torch.as_tensor(kspace)
        sample_ndim = spatial_dims if sampling is None else sampling.sample_ndim
        _check_kspace(kspace, spatial_dims, sample_ndim)
        psi = NoiseCovariance.of(noise_covariance)
        psi = psi if psi.matrix.device == kspace.device else psi.to(kspace.device)
        n_coils = kspace.shape[-sample_ndim - 1]
        if psi.n_coils != n_coils:
            raise InputError(
                "coil count of the noise covariance does not match the k-space",
                expected=f"{n_coils} × {n_coils}, axis {-sample_ndim - 1} of k-space "
                f"{tuple(kspace.shape)} being the coils",
                received=f"{psi.n_coils} × {psi.n_coils}",
                remedy="Check the axis order (..., coil, k1, k0), or select the coils with data.",
            )
        if isinstance(sampling, Trajectory):
            _check_samples(kspace, sampling, mask)
        else:
            sampling = _grid(kspace, mask, spatial_dims) if sampling is None else _fitting(sampling, kspace)
            kspace = _masked(kspace, sampling)
        values = {
            "kspace": kspace,
            "noise_covariance": psi,
            "sampling": sampling,
            "coil_maps": None if coil_maps is None else torch.as_tensor(coil_maps),
            "averages": None if averages is None else torch.as_tensor(averages),
            "calibration": None if calibration is None else torch.as_tensor(calibration),
            "geometry": Geometry(measured=False) if geometry is None else geometry,
            "spatial_dims": spatial_dims,
            "source": source,
            "notes": tuple(notes),
            "coil_numbers": tuple(range(n_coils) if coil_numbers is None else coil_numbers),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "axes", self._checked_axes(axes))
        self._check_coil_maps()
        self._check_averages()
        self._check_calibration()

    # -- shapes ------------------------------------------------------------------------------------------

    @property
    def coil_axis(self) -> int:
        """Axis of the coils of k-space, counted from the end."""
        return -self.sampling.sample_ndim - 1

    @property
    def n_coils(self) -> int:
        """Number of receive coils."""
        return int(self.kspace.shape[self.coil_axis])

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.image_shape))
        return f"Acquisition({self.n_coils} coils, {shape} voxels, R = {self.acceleration:.3g}, {self.source})"

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Matrix of the image, (y, x) or (z, y, x); of a grid also that of k-space."""
        return self.sampling.image_shape

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: slice, frame, echo."""
        return tuple(self.kspace.shape[: self.coil_axis])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the coil-combined image."""
        return self.batch_shape + self.spatial_shape

    @property
    def image_grid(self) -> ImageGrid:
        """Which axis of this image is which, and where its voxels lie."""
        return ImageGrid(self.image_shape, self.spatial_dims, self.axes, self.geometry)

    @property
    def acceleration(self) -> float:
        """Net acceleration R; on a grid all encoded samples over acquired samples, calibration lines counted."""
        return self.sampling.acceleration

    @property
    def grid(self) -> Grid:
        """Its sampling, on the Cartesian grid.

        Raises
        ------
        InputError
            If it is a trajectory.
        """
        if isinstance(self.sampling, Trajectory):
            raise InputError(
                "this needs Cartesian sampling",
                expected="samples on a grid",
                received=f"a trajectory of {self.sampling.n_samples} samples",
                remedy="Use Gridding, RootSumOfSquares, CgSense, an unrolled network, or your own k-space → image that "
                "knows its trajectory.",
            )
        return self.sampling

    @property
    def trajectory(self) -> Trajectory:
        """Its sampling, anywhere in k-space.

        Raises
        ------
        InputError
            If it is Cartesian.
        """
        if isinstance(self.sampling, Grid):
            raise InputError(
                "this needs a trajectory",
                expected="samples with coordinates in k-space, a mrnoise.sampling.Trajectory",
                received=f"samples on a grid, {self.sampling.image_shape}",
                remedy="Use ZeroFilled, Sense or CgSense for Cartesian sampling.",
            )
        return self.sampling

    @property
    def mask(self) -> Tensor:
        """The samples of a grid that were acquired, bool."""
        return self.grid.mask

    # -- derived acquisitions ----------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Acquisition:
        """Copy with some fields changed; ``mask=`` sets its sampling.

        K-space with another number of leading axes has the usual names of them; another number of coils, none in the
        source.
        """
        kspace = changes.get("kspace")
        if kspace is not None and kspace.ndim != self.kspace.ndim:
            changes.setdefault("axes", None)
        if "mask" in changes:
            changes.setdefault("sampling", None)
        psi = changes.get("noise_covariance")
        if psi is not None and NoiseCovariance.of(psi).n_coils != self.n_coils:
            changes.setdefault("coil_numbers", None)
        kept = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Acquisition(**(kept | changes))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Copy with a function applied to every tensor."""
        moved = {
            name: function(value) if isinstance(value, Tensor) else value.map(function)
            for name, value in self._fields().items()
            if isinstance(value, Tensor | TensorRecord)
        }
        return self.replace(**moved)  # type: ignore[return-value]

    def to(self, device: torch.device | str) -> Self:
        """Copy with every tensor on a device.

        Raises
        ------
        InputError
            If there is no such device.
        """
        return super().to(checked_device(device))

    def undersample(self, mask: Tensor, axis: int = -2) -> Acquisition:
        """Keep only the samples of ``mask`` (k1, k0) that were acquired; what was encoded stays the same.

        Of a trajectory ``mask`` (n,) says which spokes or interleaves to keep, ``axis`` which axis of the samples they
        are; the density of those that are left is not known.
        """
        if isinstance(self.sampling, Trajectory):
            index = self.sampling.kept(mask, axis)
            kept = {
                name: None if values is None else values.index_select(axis, index)
                for name in ("kspace", "averages", "calibration")
                for values in [getattr(self, name)]
            }
            return self.replace(sampling=self.sampling.undersample(mask, axis), **kept)
        mask = torch.as_tensor(mask, dtype=torch.bool)
        if mask.shape != self.spatial_shape:
            raise _wrong_mask(self.spatial_shape, mask)
        return self.replace(sampling=self.grid.with_mask(self.mask & mask))

    def at(self, **index: int) -> Acquisition:
        """The part at an index of some of its leading axes, without these axes: ``at(slice=3)``.

        Raises
        ------
        InputError
            If there is no such axis or index.
        """
        if not index:
            return self
        sizes = dict(zip(self.axes, self.batch_shape, strict=True))
        if any(not 0 <= i < sizes.get(axis, 0) for axis, i in index.items()):
            raise InputError(
                "no such part of the scan",
                expected=", ".join(f"{axis} 0 to {n - 1}" for axis, n in sizes.items()) or "no leading axis",
                received=", ".join(f"{axis} {i}" for axis, i in index.items()),
                remedy="Leading axes are named by Acquisition.axes.",
            )
        place = tuple(index.get(axis, slice(None)) for axis in self.axes)

        def part(values: Tensor | None, trailing: int) -> Tensor | None:
            return values if values is None or values.ndim == trailing else values[place]

        dims, samples = self.spatial_dims, self.sampling.sample_ndim
        sampling = self.sampling
        if isinstance(sampling, Grid) and sampling.mask.ndim > dims:
            sampling = Grid(sampling.mask[place], dims, part(sampling.extent, dims))
        below = index.get("slice", 0) if dims == 2 else 0
        return self.replace(
            kspace=part(self.kspace, samples + 1),
            sampling=sampling,
            coil_maps=part(self.coil_maps, dims + 1),
            averages=part(self.averages, samples),
            calibration=part(self.calibration, samples + 1),
            geometry=self.geometry.cropped((below, 0, 0)),
            axes=tuple(axis for axis in self.axes if axis not in index),
        )

    def select_coils(self, coils: Sequence[int]) -> Acquisition:
        """The scan as these coils measured it, in this order, counted from 0.

        Raises
        ------
        InputError
            If there is no such coil, or none is left.

        Examples
        --------
        >>> scan = Acquisition(torch.randn(4, 8, 6, dtype=torch.complex64), torch.eye(4))
        >>> scan.select_coils([0, 3]).coil_numbers
        (0, 3)
        """
        if not coils or any(not 0 <= coil < self.n_coils for coil in coils):
            raise InputError(
                "no such coils",
                expected=f"some of 0 to {self.n_coils - 1}",
                received=str(list(coils)),
                remedy="Coils are counted from 0.",
            )
        index = torch.tensor(coils, device=self.kspace.device)

        def part(values: Tensor | None, axis: int) -> Tensor | None:
            return None if values is None else values.index_select(axis, index)

        return self.replace(
            kspace=part(self.kspace, self.coil_axis),
            noise_covariance=self.noise_covariance.select(list(coils)),
            coil_maps=part(self.coil_maps, -self.spatial_dims - 1),
            calibration=part(self.calibration, self.coil_axis),
            coil_numbers=[self.coil_numbers[coil] for coil in coils],
        )

    def slices(self) -> Iterator[Acquisition]:
        """The independent images one by one, without leading axes."""
        for place in itertools.product(*(range(n) for n in self.batch_shape)):
            yield self.at(**dict(zip(self.axes, place, strict=True)))

    # -- noise -------------------------------------------------------------------------------------------

    def colour(self, noise: Tensor) -> Tensor:
        """Unit circular noise, (..., *kspace.shape), turned into the noise of this scan.

        n = M Ψ^{1/2} v / √averages: correlated between coils, present only where samples were acquired.
        """
        return self.noise_covariance.colour(noise, self.coil_axis) * self._weight(noise)

    def whiten(self, values: Tensor) -> Tensor:
        """Ψ^{-1/2} √ψ applied to the coils: white noise of the mean coil variance ψ."""
        psi = self.noise_covariance
        return psi.whiten(values, self.coil_axis) * psi.mean_variance**0.5

    def whiten_maps(self, maps: Tensor) -> Tensor:
        """The same of coil maps or images, (..., coil, *spatial)."""
        psi = self.noise_covariance
        return psi.whiten(maps, -self.spatial_dims - 1) * psi.mean_variance**0.5

    def colour_adjoint(self, values: Tensor) -> Tensor:
        """Adjoint of `colour`."""
        return self.noise_covariance.colour_adjoint(values * self._weight(values), self.coil_axis)

    def _weight(self, like: Tensor) -> Tensor:
        weight = self.sampling.weight.to(like.real.dtype)
        if self.averages is not None:
            weight = weight / self.averages.to(like.real.dtype).clamp_min(1).sqrt()
        return weight.unsqueeze(self.coil_axis).to(like.device)

    # -- checks ------------------------------------------------------------------------------------------

    def _checked_axes(self, given: Sequence[str] | None) -> tuple[str, ...]:
        n = len(self.batch_shape)
        axes = tuple(reversed(DEFAULT_AXES[:n])) if given is None else tuple(given)
        if len(axes) != n or len(set(axes)) != n or not all(axis.isidentifier() for axis in axes):
            raise InputError(
                "names of axes do not fit the k-space",
                expected=f"{n} different names, one for each leading axis of {tuple(self.kspace.shape)}",
                received=str(axes),
                remedy='For example axes=("frame", "slice").',
            )
        return axes

    def _check_coil_maps(self) -> None:
        maps = self.coil_maps
        if maps is None:
            return
        single = (self.n_coils, *self.spatial_shape)
        full = (*self.batch_shape, *single)
        if tuple(maps.shape) not in (full, single) or not maps.is_complex():
            raise InputError(
                "coil maps do not fit the k-space",
                expected=f"complex, shape {single}" + (f" or {full}" if full != single else ""),
                received=f"{maps.dtype}, shape {tuple(maps.shape)}",
                remedy="Coil maps have the axes of the image behind the coil axis, (..., coil, y, x).",
            )
        if not all_finite(maps):
            raise InputError(
                "coil maps contain NaN or infinite values",
                expected="finite values, zero outside the object",
                received=f"{int((~torch.isfinite(maps.abs())).sum())} values that are not",
                remedy="Set undefined voxels to zero.",
            )

    def _check_averages(self) -> None:
        averages = self.averages
        if averages is None:
            return
        weight = self.sampling.weight
        if averages.shape != weight.shape or bool((averages[weight > 0] < 1).any()):
            raise InputError(
                "averages do not fit the sampling mask",
                expected=f"shape {tuple(weight.shape)}, at least 1 wherever a sample was acquired",
                received=f"shape {tuple(averages.shape)}, smallest {float(averages.min()):g}",
                remedy="Give the number of averages of each sample.",
            )

    def _check_calibration(self) -> None:
        calibration = self.calibration
        if calibration is not None and isinstance(self.sampling, Trajectory):
            raise InputError(
                "calibration lines are on a grid, this scan is not",
                expected="coil maps, or a trajectory whose centre is dense",
                received=f"calibration lines and a trajectory of {self.sampling.n_samples} samples",
                remedy="Estimate coil maps from the calibration scan (mrnoise.calibration.espirit) and give these.",
            )
        if calibration is not None and (calibration.shape != self.kspace.shape or not calibration.is_complex()):
            raise InputError(
                "calibration lines do not fit the k-space",
                expected=f"complex, shape {tuple(self.kspace.shape)}, zero where not acquired",
                received=f"{calibration.dtype}, shape {tuple(calibration.shape)}",
                remedy="Put the lines at their places in an array of zeros shaped as k-space.",
            )
        if calibration is not None and not all_finite(calibration):
            raise InputError(
                "calibration lines contain NaN or infinite values",
                expected="finite values, zero where not acquired",
                received=f"{int((~torch.isfinite(calibration.abs())).sum())} values that are not",
                remedy="Set samples that were not acquired to zero.",
            )


def _grid(kspace: Tensor, given: Tensor | None, spatial_dims: int) -> Grid:
    """Sampling of k-space on a grid: the mask that is given, else what is not exactly zero in every coil."""
    if given is not None:
        grid = _fitting(Grid(given, spatial_dims), kspace)
        return Grid(grid.mask, spatial_dims, encoded_extent(grid.mask, spatial_dims))
    spatial = tuple(kspace.shape[-spatial_dims:])
    mask = (kspace != 0).any(dim=-spatial_dims - 1)
    if not bool(mask.any()):
        raise InputError(
            "sampling mask is empty",
            expected="at least one acquired sample",
            received="no acquired sample (k-space is zero)",
            remedy="Check that True marks the samples that were acquired.",
        )
    images = mask.reshape(-1, *spatial)
    mask = images[0] if bool((images == images[0]).all()) else mask
    return Grid(mask, spatial_dims, encoded_extent(mask, spatial_dims))


def _fitting(grid: Grid, kspace: Tensor) -> Grid:
    """A sampling of this k-space, on its device."""
    dims = grid.spatial_dims
    spatial = tuple(kspace.shape[-dims:])
    if tuple(grid.mask.shape) not in (tuple(kspace.shape[: -dims - 1]) + spatial, spatial):
        raise _wrong_mask(spatial, grid.mask)
    return grid if grid.mask.device == kspace.device else grid.to(kspace.device)


def _masked(kspace: Tensor, grid: Grid) -> Tensor:
    """K-space that is zero outside the mask; itself where it is."""
    outside = ~grid.mask
    if not bool(outside.any()):
        return kspace
    coils = kspace.unbind(-grid.spatial_dims - 1)
    if not any(bool(((coil != 0) & outside).any()) for coil in coils):
        return kspace
    return kspace * grid.mask.unsqueeze(-grid.spatial_dims - 1)


def _check_samples(kspace: Tensor, trajectory: Trajectory, mask: Tensor | None) -> None:
    shape = trajectory.sample_shape
    if tuple(kspace.shape[-len(shape) :]) != shape or mask is not None:
        raise InputError(
            "the trajectory does not fit the k-space",
            expected=f"k-space (..., coil, {', '.join(map(str, shape))}) and no mask",
            received=f"k-space {tuple(kspace.shape)}" + ("" if mask is None else " and a mask"),
            remedy="One coordinate for each sample of a coil; leave samples out of both.",
        )


def _check_kspace(kspace: Tensor, spatial_dims: int, sample_ndim: int) -> None:
    if spatial_dims not in (2, 3):
        raise InputError(
            "wrong number of spatial axes",
            expected="spatial_dims 2 or 3",
            received=str(spatial_dims),
            remedy="Use 2 for slices (coil, k1, k0), 3 for volumes (coil, k2, k1, k0).",
        )
    axes = "(..., coil, k1, k0)" if spatial_dims == 2 else "(..., coil, k2, k1, k0)"
    if kspace.ndim < sample_ndim + 1 or 0 in kspace.shape:
        raise InputError(
            "k-space has the wrong shape",
            expected=f"{axes}, no axis empty",
            received=f"shape {tuple(kspace.shape)}",
            remedy="Add the coil axis: kspace[None] for a single coil.",
        )
    if not kspace.is_complex():
        raise InputError(
            "k-space is not complex",
            expected="complex64 or complex128",
            received=str(kspace.dtype),
            remedy="Combine real and imaginary parts with torch.complex, or torch.view_as_complex.",
        )
    if not all_finite(kspace):
        finite = torch.isfinite(torch.view_as_real(kspace))
        raise InputError(
            "k-space contains NaN or infinite samples",
            expected="finite samples",
            received=f"{int((~finite.all(-1)).sum())} of {kspace.numel()} that are not",
            remedy="Mark missing samples in the mask and set them to zero.",
        )


def _wrong_mask(shape: tuple[int, ...], mask: Tensor) -> InputError:
    return InputError(
        "sampling mask has the wrong shape",
        expected=f"{shape}, the spatial axes of k-space",
        received=str(tuple(mask.shape)),
        remedy="Expand a line mask to every readout sample: mask[:, None].expand(k1, k0).",
    )
