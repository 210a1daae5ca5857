"""Fourier transform between an image and samples anywhere in k-space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError

# The smaller grid needs wider kernels: in volumes it is faster down to 10⁻⁵ only. Below 10⁻⁸ it does not reach.
SMALL_GRID, SMALL_GRID_PAYS = 1.25, {2: 1e-8, 3: 1e-5}
# From here on the rounding of sums in single precision is below the tolerance.
SINGLE_SUFFICES = 1e-3
# What each precision holds.
FINEST = {torch.complex64: 1e-7, torch.complex128: 1e-14}


@dataclass(frozen=True, eq=False, repr=False)
class Nufft:
    """E, the transform of a `mrnoise.sampling.Trajectory`, and its adjoint.

        (E x)_j = 1/√(Π n_d) Σ_r x(r) exp(-2πi Σ_d k_dj r_d / n_d),   r_d counted from n_d // 2,

    by finufft (Barnett et al. 2019, doi:10.1137/18M120885X), on a GPU by cufinufft where it is installed. Forward and
    adjoint are adjoint to rounding. Both are differentiable in their argument and in the coordinates, forwards,
    backwards and repeatedly, and under `torch.func.vmap`.

    Parameters
    ----------
    coordinates
        k in cycles per field of view, (dimension, *samples), 2 or 3 dimensions ordered as the axes of the image.
    image_shape
        n, (y, x) or (z, y, x).
    tolerance
        Relative error of a transform, about. Below 10⁻³ sums are in double precision also where values are in single:
        the rounding that a later solution amplifies is that of the result alone.

    Raises
    ------
    InputError
        If the tolerance is below what the precision can give.

    Examples
    --------
    >>> k = torch.linspace(-8, 7.5, 32)
    >>> angle = torch.arange(5)[:, None] * 2.4
    >>> e = Nufft(torch.stack([k * angle.sin(), k * angle.cos()]), (16, 16))
    >>> x, y = torch.ones(16, 16) + 0j, torch.ones(5, 32) + 0j
    >>> inner = torch.vdot(e.forward(x).flatten(), y.flatten()), torch.vdot(x.flatten(), e.adjoint(y).flatten())
    >>> bool((inner[0] - inner[1]).abs() < 1e-4 * inner[0].abs())
    True
    """

    coordinates: Tensor
    image_shape: tuple[int, ...]
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise _tolerance(self.tolerance, FINEST[torch.complex128])

    def __repr__(self) -> str:
        return f"Nufft({self.coordinates.shape[1:].numel()} samples, image {self.image_shape}, {self.tolerance:g})"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of the samples."""
        return tuple(self.coordinates.shape[1:])

    def forward(self, image: Tensor) -> Tensor:
        """E x, (..., *image_shape) → (..., *sample_shape)."""
        return self._apply(image, adjoint=False).unflatten(-1, self.sample_shape)

    def adjoint(self, samples: Tensor) -> Tensor:
        """Eᴴ y, (..., *sample_shape) → (..., *image_shape)."""
        return self._apply(samples.flatten(-len(self.sample_shape)), adjoint=True)

    def _apply(self, values: Tensor, adjoint: bool) -> Tensor:
        if not values.is_complex():
            values = values.to(torch.complex128 if values.dtype == torch.float64 else torch.complex64)
        if self.tolerance < FINEST[values.dtype]:
            raise _tolerance(self.tolerance, FINEST[values.dtype])
        points = self.coordinates.flatten(1).double()
        return _Transform.apply(values, points, self.image_shape, self.tolerance, adjoint)


class _Transform(torch.autograd.Function):
    """E or Eᴴ of values (..., *n) or (..., M) at points (dimension, M); its derivatives are made of itself."""

    @staticmethod
    def forward(values: Tensor, points: Tensor, shape: tuple[int, ...], tolerance: float, adjoint: bool) -> Tensor:
        own = points.shape[1:] if adjoint else shape
        batch = values.shape[: values.ndim - len(own)]
        summed = values.dtype if tolerance >= SINGLE_SUFFICES else torch.complex128
        flat = values.reshape(-1, *own).to(summed).contiguous()
        result = _transform(flat, points, shape, tolerance, adjoint).to(values.dtype)
        return result.reshape(*batch, *result.shape[1:]).div_(math.prod(shape) ** 0.5)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, points, *ctx.options = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(values, points)
        ctx.save_for_forward(values, points)

    @staticmethod
    def jvp(ctx: Any, dvalues: Tensor | None, dpoints: Tensor | None, *_: Any) -> Tensor | None:
        values, points = ctx.saved_tensors
        shape, _, adjoint = ctx.options
        change = None if dvalues is None else _Transform.apply(dvalues, points, *ctx.options)
        if dpoints is None:
            return change
        for dk, ramp in zip(dpoints.to(values.real.dtype), _ramps(shape, values), strict=True):
            if adjoint:
                along = ramp.conj() * _Transform.apply(dk * values, points, *ctx.options)
            else:
                along = dk * _Transform.apply(ramp * values, points, *ctx.options)
            change = along if change is None else change + along
        return change

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        values, points = ctx.saved_tensors
        shape, tolerance, adjoint = ctx.options
        of_values = of_points = None
        if grad is not None and ctx.needs_input_grad[0]:
            of_values = _Transform.apply(grad, points, shape, tolerance, not adjoint)
        if grad is not None and ctx.needs_input_grad[1]:
            image, samples = (grad, values) if adjoint else (values, grad)
            forward = (shape, tolerance, False)
            along = [_Transform.apply(ramp * image, points, *forward) for ramp in _ramps(shape, image)]
            products = [(samples.conj() * a).real.reshape(-1, points.shape[1]).sum(0) for a in along]
            of_points = torch.stack(products).to(points.dtype)
        return of_values, of_points, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], values: Tensor, points: Tensor, *options: Any) -> tuple[Tensor, int]:
        of_values, of_points, *_ = in_dims
        if of_points is None:
            return _Transform.apply(values.movedim(of_values, 0), points, *options), 0
        each = points.movedim(of_points, 0)
        some = [values] * len(each) if of_values is None else list(values.movedim(of_values, 0))
        return torch.stack([_Transform.apply(v, p, *options) for v, p in zip(some, each, strict=True)]), 0


def _ramps(shape: tuple[int, ...], like: Tensor) -> list[Tensor]:
    """-2πi r_d / n_d along each axis d of the image: the derivative of the exponential with respect to k_d."""
    ramps = []
    for d, n in enumerate(shape):
        r = torch.arange(n, device=like.device, dtype=like.real.dtype) - n // 2
        ramps.append((-2j * math.pi / n * r).reshape(-1, *[1] * (len(shape) - 1 - d)))
    return ramps


def _transform(flat: Tensor, points: Tensor, shape: tuple[int, ...], tolerance: float, adjoint: bool) -> Tensor:
    """Σ over voxels or samples, without the factor, of (B, *n) or (B, M)."""
    if not len(flat):
        return flat.new_zeros(0, *(shape if adjoint else points.shape[1:]))
    scale = torch.tensor([2 * math.pi / n for n in shape], dtype=points.dtype, device=points.device)
    angles = (points * scale[:, None]).to(flat.real.dtype)
    options: dict[str, Any] = {
        "n_trans": len(flat),
        "eps": tolerance,
        "dtype": "complex64" if flat.dtype == torch.complex64 else "complex128",
        "upsampfac": SMALL_GRID if tolerance >= SMALL_GRID_PAYS[len(shape)] else 2.0,
    }
    gpu = _cufinufft() if flat.is_cuda else None
    if gpu is not None:
        plan = gpu.Plan(1 if adjoint else 2, shape, isign=1 if adjoint else -1, **options)
        plan.setpts(*angles.contiguous())
        out = plan.execute(flat if len(flat) > 1 else flat[0])
        return torch.as_tensor(out, device=flat.device).reshape(len(flat), *(shape if adjoint else points.shape[1:]))
    import finufft

    # One plan for both directions: what it rounds, both round.
    plan = finufft.Plan(2, shape, isign=-1, nthreads=torch.get_num_threads(), showwarn=0, **options)
    plan.setpts(*np.ascontiguousarray(angles.detach().cpu().numpy()))
    values = flat.detach().resolve_conj().cpu().numpy()
    values = values if len(flat) > 1 else values[0]
    out = plan.execute_adjoint(values) if adjoint else plan.execute(values)
    return torch.from_numpy(out).to(flat.device).reshape(len(flat), *(shape if adjoint else points.shape[1:]))


def _cufinufft() -> ModuleType | None:
    try:
        import cufinufft
    except ImportError:
        return None
    return cufinufft


def _tolerance(received: float, finest: float) -> InputError:
    return InputError(
        "this tolerance of the transform cannot be kept",
        expected=f"at least {finest:g}, below 1",
        received=f"{received:g}",
        remedy="Ask for less, or give k-space in double precision.",
    )
