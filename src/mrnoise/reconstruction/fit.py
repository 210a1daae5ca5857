"""Parameters that are fitted to a series of images, voxel by voxel: T1, T2, ADC, field maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.foreground import foreground
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.series import OneOfSeries

# Step of the differences, relative to the voxel in each image; or, where that is small, this part of its course.
STEP, SMALLEST = 1e-3, 1e-3
# Of the bright part of the object: what is darker has no signal to fit.
DARK, BRIGHT_QUANTILE = 0.1, 0.99


@dataclass(frozen=True, eq=False)
class Fit(OneOfSeries):
    """A parameter of each voxel from its course over a series, p = f(x_1, …, x_T): an image of k-space like any other.

    Its noise follows from J of both steps, ∂p/∂x · ∂x/∂y, so that correlation between frames or echoes is counted,
    and every method, region and interval holds for it. ∂p/∂x comes from central differences of f, voxel by voxel: f may
    be NumPy, an optimiser, a table. `mrnoise.NoiseMap.value_interval` has the interval of p. Where noise is so strong
    that f is curved within it, as at the floor of magnitudes, `NoiseMap.linearity` says so; replicas hold there too.

    Parameters
    ----------
    function
        f, images (T, *spatial), complex128 as they are reconstructed (float64 of real ones), → p, real, (*spatial),
        torch or NumPy. A voxel of p depends on the same voxel of the series only; what does not passes no preflight and
        is mapped by replicas.
    inner
        Gives the images; a `Reconstruction` or any callable k-space → images.
    axis
        Of the series. ``None``: the only leading axis beside slices.
    region
        Bool, (*spatial): voxels that are fitted, outside p is 0 without noise. ``None``: found on `bind`, the object
        where it has a tenth of the signal of its bright parts at least.

    Raises
    ------
    InputError
        On `bind`, if the scan has no such axis; of an image, if f does not return one real number a voxel.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.simulation import simulated_head
    >>> echo_times = torch.tensor([10.0, 30.0, 50.0, 70.0])  # ms
    >>> head = simulated_head((16, 12), 4, snr=100.0).series(torch.exp(-echo_times / 80)[:, None, None], "echo")
    >>> def t2(images):
    ...     slope = torch.linalg.lstsq(
    ...         torch.stack([torch.ones(4), echo_times], 1).double(), images.abs().log().flatten(1)
    ...     ).solution[1]
    ...     return -1 / slope.reshape(images.shape[1:])
    >>> nm = noise_map(Fit(t2), head.acquire(), method="exact")
    >>> low, high = nm.value_interval(0.95)
    >>> voxel = (8, 6)
    >>> print(f"T2 = {nm.image[voxel]:.0f} ± {nm.std[voxel]:.0f} ms, within {low[voxel]:.0f} to {high[voxel]:.0f} ms")
    T2 = 80 ± 2 ms, within 75 to 85 ms
    """

    function: Callable[[Any], Any]
    inner: Reconstruction = field(default_factory=CgSense)
    axis: str | None = None
    region: Tensor | None = None

    unit_gain = False  # of another quantity

    @property
    def title(self) -> str:
        """By the name of the function."""
        name = getattr(self.function, "__name__", None) or type(self.function).__name__
        return f"Fit({name}, {self.inner.title})"

    def bind(self, acquisition: Acquisition) -> BoundFit:
        """Return kspace (echo, coil, k1, k0) → real image (y, x)."""
        images, place = self.series(acquisition)
        region = self.region
        if region is None:
            with torch.no_grad():
                region = _bright(images(acquisition.kspace).abs().square().mean(place).sqrt())
        region = torch.as_tensor(region)
        if region.dtype != torch.bool:
            raise InputError(
                "the region of a fit is no mask",
                expected="bool, True in voxels that are fitted",
                received=str(region.dtype),
                remedy="Compare it with a number: region > 0.",
            )
        return BoundFit(self, acquisition, images, place, region.to(acquisition.kspace.device))


@dataclass(frozen=True, eq=False, repr=False)
class BoundFit(Bound):
    """`Fit` to one series.

    Parameters
    ----------
    series
        k-space → images.
    place
        Of their axis.
    fitted
        Voxels that are fitted.
    """

    method: Fit
    series: KspaceToImage
    place: int
    fitted: Tensor

    @property
    def region(self) -> Tensor:
        """Voxels that are fitted."""
        return self.fitted

    def __call__(self, kspace: Tensor) -> Tensor:
        """p, (echo, coil, k1, k0) → (y, x)."""
        images = self.series(kspace).movedim(self.place, 0)
        parameter: Tensor = _Voxelwise.apply(images, self)
        return parameter

    def value(self, images: Tensor) -> Tensor:
        """What the function gives in double precision, zero outside the region."""
        given = self.method.function(images)
        try:
            p = torch.as_tensor(given, device=images.device)
        except (TypeError, ValueError, RuntimeError) as error:  # of what is no array
            raise self._no_parameter(images, type(given).__name__) from error
        fits = p.shape == images.shape[1:] and self.fitted.shape == p.shape[-self.fitted.ndim :]
        if not fits or not p.is_floating_point():
            raise self._no_parameter(images, f"{p.dtype}, shape {tuple(p.shape)}")
        return torch.where(self.fitted, p.double(), 0.0)

    def _no_parameter(self, images: Tensor, received: str) -> InputError:
        return InputError(
            "the fit does not give one real number a voxel",
            expected=f"a real floating-point array of shape {tuple(images.shape[1:])}, as the region",
            received=f"{received}, and a region {tuple(self.fitted.shape)}",
            remedy="Return one parameter: images (T, y, x) → (y, x); map others by a Fit each.",
        )

    def gradient(self, images: Tensor) -> Tensor:
        """∂p/∂Re x_t + i ∂p/∂Im x_t, (T, *spatial), by central differences."""
        size = images.abs()
        step = STEP * torch.maximum(size, SMALLEST * size.square().mean(0).sqrt())
        step = torch.where(step > 0, step, 1.0)
        gradient = torch.zeros_like(images)
        for t in range(len(images)):
            for direction in (1, 1j) if images.is_complex() else (1,):
                change = torch.zeros_like(images)
                change[t] = direction * step[t]
                gradient[t] += direction * (self.value(images + change) - self.value(images - change)) / (2 * step[t])
        return gradient


def _bright(magnitude: Tensor) -> Tensor:
    inside = foreground(magnitude)
    if not bool(inside.any()):
        return inside
    return inside & (magnitude > DARK * magnitude[inside].quantile(BRIGHT_QUANTILE))


def _exact(images: Tensor) -> Tensor:
    return images.to(torch.complex128 if images.is_complex() else torch.float64)


class _Voxelwise(torch.autograd.Function):
    """The fit, whose derivative mixes no voxels: δp = Re Σ_t ḡ_t δx_t."""

    @staticmethod
    def forward(images: Tensor, fit: BoundFit) -> Tensor:
        return fit.value(_exact(images)).to(images.real.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        images, ctx.fit = inputs
        ctx.save_for_backward(images)
        ctx.save_for_forward(images)

    @staticmethod
    def jvp(ctx: Any, change: Tensor, *_: Any) -> Tensor:
        product = _Gradient.apply(*ctx.saved_tensors, ctx.fit).conj() * change
        return (product.real if product.is_complex() else product).sum(0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        return _Gradient.apply(*ctx.saved_tensors, ctx.fit) * grad_outputs[0], None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], images: Tensor, fit: BoundFit) -> tuple[Tensor, int]:
        # f may depend on the place of a voxel: each image has its own call.
        return torch.stack([_Voxelwise.apply(one, fit) for one in images.unbind(in_dims[0])]), 0


class _Gradient(torch.autograd.Function):
    """Its gradient, held fixed; a function of its own because NumPy takes tensors outside of transforms only."""

    @staticmethod
    def forward(images: Tensor, fit: BoundFit) -> Tensor:
        return fit.gradient(_exact(images)).to(images.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> None:
        return None

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], images: Tensor, fit: BoundFit) -> tuple[Tensor, int]:
        return torch.stack([_Gradient.apply(one, fit) for one in images.unbind(in_dims[0])]), 0
