"""One scan: everything a noise map needs to know about what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.noise_covariance import NoiseCovariance
from mrnoise.errors import InputError

# Of leading axes without names, the last first.
DEFAULT_AXES = ("slice", "frame", "echo", "set", "phase")


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Raw k-space with its noise covariance, sampling, coil maps and geometry.

    Parameters
    ----------
    kspace
        Complex, (..., coil, k1, k0) or, with ``spatial_dims=3``, (..., coil, k2, k1, k0); centre at n // 2.
        Leading axes are independent images (slice, frame, echo). Samples outside the mask are set to zero.
    noise_covariance
        Ψ, total complex variance in squared k-space units: a `NoiseCovariance` or a (coil, coil) tensor.
    mask
        Bool, the samples that were acquired: (k1, k0) or (k2, k1, k0), with the leading axes where the
        images differ. ``None``: the samples that are not exactly zero in every coil.
    coil_maps
        Complex, shaped as ``kspace`` in image space, or without its leading axes.
    averages
        How often each sample was measured and averaged, shaped as ``mask``; its noise covariance is
        Ψ / averages. ``None``: once.
    calibration
        K-space of separate calibration lines, shaped as ``kspace`` and zero where not acquired: the source of
        coil maps, not of the image.
    geometry
        Voxel size and orientation of the image.
    spatial_dims
        2 or 3.
    source
        Where the data came from.
    axes
        Names of the leading axes, e.g. ``("frame", "slice")``. ``None``: the last of them is ``slice``, those before
        ``frame``, ``echo``, ``set``, ``phase``.

    Raises
    ------
    InputError
        If a shape, type or value does not fit.
    """

    kspace: Tensor
    noise_covariance: NoiseCovariance
    mask: Tensor = None  # type: ignore[assignment]  # always a tensor after construction
    coil_maps: Tensor | None = None
    averages: Tensor | None = None
    calibration: Tensor | None = None
    geometry: Geometry = field(default_factory=lambda: Geometry(measured=False))
    spatial_dims: int = 2
    source: str = "memory"
    axes: tuple[str, ...] = None  # type: ignore[assignment]  # always names after construction

    def __post_init__(self) -> None:
        kspace = torch.as_tensor(self.kspace)
        _check_kspace(kspace, self.spatial_dims)
        psi = NoiseCovariance.of(self.noise_covariance)
        n_coils = kspace.shape[-self.spatial_dims - 1]
        if psi.n_coils != n_coils:
            raise InputError(
                "coil count of the noise covariance does not match the k-space",
                expected=f"{n_coils} × {n_coils}, axis {-self.spatial_dims - 1} of k-space "
                f"{tuple(kspace.shape)} being the coils",
                received=f"{psi.n_coils} × {psi.n_coils}",
                remedy="Check the axis order (..., coil, k1, k0), or select the coils with data.",
            )
        object.__setattr__(self, "noise_covariance", psi)
        mask = self._checked_mask(kspace, self.mask)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "kspace", kspace * mask.unsqueeze(-self.spatial_dims - 1))
        object.__setattr__(self, "axes", self._checked_axes())
        self._check_coil_maps()
        self._check_averages()
        self._check_calibration()

    # -- shapes ------------------------------------------------------------------------------------------

    @property
    def coil_axis(self) -> int:
        """Axis of the coils, counted from the end."""
        return -self.spatial_dims - 1

    @property
    def n_coils(self) -> int:
        """Number of receive coils."""
        return int(self.kspace.shape[self.coil_axis])

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(k1, k0) or (k2, k1, k0)."""
        return tuple(self.kspace.shape[-self.spatial_dims :])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: slice, frame, echo."""
        return tuple(self.kspace.shape[: self.coil_axis])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the coil-combined image."""
        return self.batch_shape + self.spatial_shape

    @property
    def acceleration(self) -> float:
        """True acceleration R: all samples over acquired samples, calibration lines counted."""
        return float(self.mask.numel() / self.mask.sum())

    # -- derived acquisitions ----------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Acquisition:
        """Copy with some fields changed; k-space with another number of leading axes has the usual names of them."""
        kspace = changes.get("kspace")
        if kspace is not None and kspace.ndim != self.kspace.ndim:
            changes.setdefault("axes", None)
        return dataclasses.replace(self, **changes)

    def undersample(self, mask: Tensor) -> Acquisition:
        """Keep only the samples of ``mask`` (k1, k0) that were acquired."""
        mask = torch.as_tensor(mask, dtype=torch.bool)
        if mask.shape != self.spatial_shape:
            raise _wrong_mask(self.spatial_shape, mask)
        return self.replace(mask=self.mask & mask)

    def at(self, **index: int) -> Acquisition:
        """The part at an index of some of its leading axes, without these axes: ``at(slice=3)``."""
        lead, sizes = len(self.axes), self.batch_shape

        def part(values: Tensor | None, trailing: int) -> Tensor | None:
            if values is None or values.ndim == trailing:
                return values
            return values[tuple(index.get(axis, slice(None)) for axis in self.axes)]

        dims = self.spatial_dims
        if not index:
            return self
        assert lead == len(sizes) and set(index) <= set(self.axes)
        return self.replace(
            kspace=part(self.kspace, dims + 1),
            mask=part(self.mask, dims),
            coil_maps=part(self.coil_maps, dims + 1),
            averages=part(self.averages, dims),
            calibration=part(self.calibration, dims + 1),
            axes=tuple(axis for axis in self.axes if axis not in index),
        )

    def slices(self) -> Iterator[Acquisition]:
        """The independent images one by one, without leading axes."""
        if not self.batch_shape:
            yield self
            return
        n = len(self.batch_shape)

        def each(values: Tensor | None, trailing: int) -> list[Any]:
            count = int(torch.tensor(self.batch_shape).prod())
            if values is None or values.ndim == trailing:
                return [values] * count
            return list(values.flatten(0, n - 1))

        dims = self.spatial_dims
        for kspace, mask, maps, averages, calibration in zip(
            each(self.kspace, dims + 1),
            each(self.mask, dims),
            each(self.coil_maps, dims + 1),
            each(self.averages, dims),
            each(self.calibration, dims + 1),
            strict=True,
        ):
            yield self.replace(
                kspace=kspace, mask=mask, coil_maps=maps, averages=averages, calibration=calibration, axes=()
            )

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

    def colour_adjoint(self, values: Tensor) -> Tensor:
        """Adjoint of `colour`."""
        return self.noise_covariance.colour_adjoint(values * self._weight(values), self.coil_axis)

    def _weight(self, like: Tensor) -> Tensor:
        weight = self.mask.to(like.real.dtype)
        if self.averages is not None:
            weight = weight / self.averages.to(like.real.dtype).clamp_min(1).sqrt()
        return weight.unsqueeze(self.coil_axis).to(like.device)

    # -- checks ------------------------------------------------------------------------------------------

    def _checked_mask(self, kspace: Tensor, given: Tensor | None) -> Tensor:
        coil_axis = -self.spatial_dims - 1
        image_shape = kspace.shape[:coil_axis] + kspace.shape[coil_axis + 1 :]
        if given is None:
            mask = (kspace != 0).any(dim=coil_axis)
            shared = mask.reshape(-1, *kspace.shape[-self.spatial_dims :])
            if bool((shared == shared[0]).all()):
                mask = shared[0]
        else:
            mask = torch.as_tensor(given).to(torch.bool)
        if mask.shape not in (image_shape, kspace.shape[-self.spatial_dims :]):
            raise _wrong_mask(tuple(kspace.shape[-self.spatial_dims :]), mask)
        if not bool(mask.any()):
            raise InputError(
                "sampling mask is empty",
                expected="at least one acquired sample",
                received="no acquired sample" + (" (k-space is zero)" if given is None else ""),
                remedy="Check that True marks the samples that were acquired.",
            )
        return mask

    def _checked_axes(self) -> tuple[str, ...]:
        n = len(self.batch_shape)
        axes = tuple(reversed(DEFAULT_AXES[:n])) if self.axes is None else tuple(self.axes)
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
        full = tuple(self.kspace.shape)
        single = full[self.coil_axis :]
        if tuple(maps.shape) not in (full, single) or not maps.is_complex():
            raise InputError(
                "coil maps do not fit the k-space",
                expected=f"complex, shape {single}" + (f" or {full}" if full != single else ""),
                received=f"{maps.dtype}, shape {tuple(maps.shape)}",
                remedy="Coil maps have the axes of k-space, (..., coil, y, x).",
            )
        if not torch.isfinite(torch.view_as_real(maps)).all():
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
        if averages.shape != self.mask.shape or bool((averages[self.mask] < 1).any()):
            raise InputError(
                "averages do not fit the sampling mask",
                expected=f"shape {tuple(self.mask.shape)}, at least 1 wherever a sample was acquired",
                received=f"shape {tuple(averages.shape)}, smallest {float(averages.min()):g}",
                remedy="Give the number of averages of each sample.",
            )

    def _check_calibration(self) -> None:
        calibration = self.calibration
        if calibration is not None and (calibration.shape != self.kspace.shape or not calibration.is_complex()):
            raise InputError(
                "calibration lines do not fit the k-space",
                expected=f"complex, shape {tuple(self.kspace.shape)}, zero where not acquired",
                received=f"{calibration.dtype}, shape {tuple(calibration.shape)}",
                remedy="Put the lines at their places in an array of zeros shaped as k-space.",
            )


def _check_kspace(kspace: Tensor, spatial_dims: int) -> None:
    if spatial_dims not in (2, 3):
        raise InputError(
            "wrong number of spatial axes",
            expected="spatial_dims 2 or 3",
            received=str(spatial_dims),
            remedy="Use 2 for slices (coil, k1, k0), 3 for volumes (coil, k2, k1, k0).",
        )
    axes = "(..., coil, k1, k0)" if spatial_dims == 2 else "(..., coil, k2, k1, k0)"
    if kspace.ndim < spatial_dims + 1 or 0 in kspace.shape:
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
    finite = torch.isfinite(torch.view_as_real(kspace))
    if not finite.all():
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
