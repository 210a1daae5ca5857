"""The normal equations of undersampled parallel imaging and their differentiable solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Bytes of the inverted lines: 256 × 256 needs half of it.
LARGEST_INVERSE = 2**28
LINES_AT_ONCE = 16
# Steps of `unfold`, and the smallest eigenvalue that it inverts: below, noise is amplified more than 20 times.
N_STEPS, SMALLEST = 8, 0.05


def undersampled_axes(mask: Tensor, dims: int) -> tuple[int, ...]:
    """Spatial axes along which the mask varies; along the others FᴴMF needs no transform."""
    return tuple(axis for axis in range(-dims, 0) if not bool((mask == mask.narrow(axis, 0, 1)).all()))


def line_gram(maps: Tensor, mask: Tensor, axes: tuple[int, ...]) -> Tensor | None:
    """H = SᴴFᴴMFS of every line along the one undersampled axis, (line, n, n).

    On a line, FᴴMF is the circulant matrix C of the mask, and H_ij = C_ij Σ_c S_c*(i) S_c(j).

    ``None`` if sampling varies along more axes, or the matrices would be too large.
    """
    parts = _line_grams(maps, mask, axes)
    return None if parts is None else torch.cat([part.to(maps.dtype) for part in parts])


def line_inverse(maps: Tensor, mask: Tensor, axes: tuple[int, ...], regularization: float | Tensor) -> Tensor | None:
    """(H + λ)⁻¹ of every line, as `line_gram`, λ a number or an image (y, x); ``None`` also if H is singular."""
    added = torch.as_tensor(regularization, dtype=torch.float64, device=maps.device).expand(mask.shape)
    added = added.movedim(axes[0] if axes else -1, -1).flatten(0, -2)
    parts = []
    for h, some in zip(_line_grams(maps, mask, axes) or (), added.split(LINES_AT_ONCE), strict=False):
        # A voxel that no coil sees has no equation: its solution is zero.
        unseen = h.diagonal(dim1=-2, dim2=-1) == 0
        factor, info = torch.linalg.cholesky_ex(h + torch.diag_embed(some + unseen))
        if bool(info.any()):
            return None
        parts.append(torch.cholesky_inverse(factor).to(maps.dtype))
    return torch.cat(parts) if parts else None


def _line_grams(maps: Tensor, mask: Tensor, axes: tuple[int, ...]) -> Iterator[Tensor] | None:
    """Some lines at a time, in double precision."""
    if len(axes) > 1 or maps.ndim != mask.ndim + 1:
        return None
    axis = axes[0] if axes else -1
    n = mask.shape[axis]
    if mask.numel() * n * maps.element_size() > LARGEST_INVERSE:
        return None
    weights = mask.movedim(axis, -1).reshape(-1, n)[0]
    response = torch.fft.ifft(weights.to(maps.device, torch.complex128))
    index = torch.arange(n, device=maps.device)
    circulant = response[(index[:, None] - index) % n]
    s = maps.movedim(axis, -1).flatten(1, -2).movedim(0, -1)  # (line, n, coil)
    some = (part.to(torch.complex128) for part in s.split(LINES_AT_ONCE))
    return (circulant * (part.conj() @ part.mT) for part in some)


def on_lines(matrices: Tensor, images: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Product of (line, n, n) with every line of images (..., y, x) along the undersampled axis."""
    axis = axes[0] if axes else -1
    lines = images.movedim(axis, -1)
    flat = lines.reshape(-1, *matrices.shape[:2])
    product = torch.einsum("lij,blj->bli", matrices.to(images), flat)
    return product.reshape(lines.shape).movedim(-1, axis)


def unfold(gram: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Most of H⁻¹ b: N steps of the Chebyshev iteration on the eigenvalues [a, 1] of H, which has none above 1.

    There the relative error is below 1/T_N((1+a)/(1-a)) = 5 %; smaller eigenvalues, which would amplify noise
    more, are inverted in part. Linear in b, at a fraction of the cost of convergence (Saad 2003, algorithm 12.1,
    doi:10.1137/1.9780898718003).

    Parameters
    ----------
    gram
        x → H x.
    b
        Anything ``gram`` takes.
    """
    middle, half = 0.5 * (1 + SMALLEST), 0.5 * (1 - SMALLEST)
    rho, residual = half / middle, b
    x = step = residual / middle
    for _ in range(N_STEPS - 1):
        residual = residual - gram(step)
        previous, rho = rho, 1 / (2 * middle / half - rho)
        step = rho * (previous * step + 2 / half * residual)
        x = x + step
    return x


@dataclass(frozen=True)
class NormalEquations:
    """SᴴFᴴMFS of one sampling, its arrays with the centre at index 0, which saves the shifts.

    Maps, mask and regularisation are passed beside it, so that they can be differentiated.

    Parameters
    ----------
    axes
        Those along which sampling varies, `undersampled_axes`.
    coil_axis
        -3 for slices, -4 for volumes.
    tolerance, max_iterations
        When conjugate gradients stop.
    inverse
        (H + λ)⁻¹ of every line, `line_inverse`, instead of conjugate gradients.
    """

    axes: tuple[int, ...]
    coil_axis: int
    tolerance: float = 1e-6
    max_iterations: int = 200
    inverse: Tensor | None = None

    def sample(self, images: Tensor, mask: Tensor) -> Tensor:
        """FᴴMF of coil images."""
        if not self.axes:
            return images * mask
        # Transforming all axes is exact too, and on a CPU three times as fast as one strided axis.
        axes = self.axes if self.axes == (-1,) else tuple(range(self.coil_axis + 1, 0))
        kspace = torch.fft.fftn(images, dim=axes, norm="ortho")
        return torch.fft.ifftn(kspace * mask, dim=axes, norm="ortho")

    def gram(self, x: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
        """SᴴFᴴMFS x."""
        images = self.sample(maps * x.unsqueeze(self.coil_axis), mask)
        return (maps.conj() * images).sum(self.coil_axis)

    def solve(self, b: Tensor, maps: Tensor, mask: Tensor, regularization: Tensor) -> Tensor:
        """(SᴴFᴴMFS + λ)⁻¹ b, differentiable in b, S and λ.

        Parameters
        ----------
        b
            (..., y, x).
        maps, mask
            (..., coil, y, x), the mask with a coil axis of 1.
        regularization
            λ ≥ 0, a scalar.
        """
        return _Solve.apply(b, maps, mask, regularization, self)

    def conjugate_gradients(self, b: Tensor, maps: Tensor, mask: Tensor, regularization: Tensor) -> Tensor:
        """Every leading index is its own system with its own stopping point."""
        spatial = tuple(range(self.coil_axis + 1, 0))
        x = torch.zeros_like(b)
        r, p = b, b
        rs = _norm2(r, spatial)
        goal = self.tolerance**2 * rs
        for _ in range(self.max_iterations):
            active = rs > goal
            if not bool(active.any()):
                break
            hp = self.gram(p, maps, mask) + regularization * p
            curvature = (p.conj() * hp).real.sum(spatial, keepdim=True)
            step = torch.where(active & (curvature > 0), rs / curvature.clamp_min(1e-38), 0.0)
            x = x + step * p
            r = r - step * hp
            previous, rs = rs, torch.where(active, _norm2(r, spatial), rs)
            p = torch.where(active, r + (rs / previous.clamp_min(1e-38)) * p, p)
        return x


class _Solve(torch.autograd.Function):
    """x = (SᴴFᴴMFS + λ)⁻¹ b with the derivative of the converged solution.

    dx = (H+λ)⁻¹ (db - dH x - dλ x): the derivative is another solve of the same system.
    """

    @staticmethod
    def forward(b: Tensor, maps: Tensor, mask: Tensor, regularization: Tensor, equations: NormalEquations) -> Tensor:
        if equations.inverse is not None:
            return on_lines(equations.inverse, b, equations.axes)
        return equations.conjugate_gradients(b, maps, mask, regularization)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, maps, mask, regularization, equations = inputs
        ctx.save_for_backward(output, maps, mask, regularization)
        ctx.save_for_forward(output, maps, mask, regularization)
        ctx.equations = equations

    @staticmethod
    def jvp(
        ctx: Any, db: Tensor | None, dmaps: Tensor | None, _: None, dregularization: Tensor | None, *__: Any
    ) -> Tensor:
        x, maps, mask, regularization = ctx.saved_tensors
        equations: NormalEquations = ctx.equations
        rhs = torch.zeros_like(x) if db is None else db
        if dmaps is not None:
            axis = equations.coil_axis
            sx = equations.sample(maps * x.unsqueeze(axis), mask)
            dsx = equations.sample(dmaps * x.unsqueeze(axis), mask)
            rhs = rhs - (dmaps.conj() * sx + maps.conj() * dsx).sum(axis)
        if dregularization is not None:
            rhs = rhs - dregularization * x
        return _Solve.apply(rhs, maps, mask, regularization, equations)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, maps, mask, regularization = ctx.saved_tensors
        equations: NormalEquations = ctx.equations
        w = _Solve.apply(grad, maps, mask, regularization, equations)
        grad_maps = grad_regularization = None
        if ctx.needs_input_grad[1]:
            # Gradient of -Re⟨w, H x⟩ = -Re⟨S w, FᴴMF S x⟩ with respect to S.
            wc, xc = w.unsqueeze(equations.coil_axis), x.unsqueeze(equations.coil_axis)
            sx, sw = equations.sample(maps * xc, mask), equations.sample(maps * wc, mask)
            grad_maps = -(wc.conj() * sx + xc.conj() * sw).sum_to_size(maps.shape)
        if ctx.needs_input_grad[3]:
            grad_regularization = -(w.conj() * x).real.sum()
        return w, grad_maps, None, grad_regularization, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        b: Tensor,
        maps: Tensor,
        mask: Tensor,
        regularization: Tensor,
        equations: NormalEquations,
    ) -> tuple[Tensor, int]:
        # Bring the mapped axis to the front and align the leading axes; the solver is batched already.
        b_dim, maps_dim, mask_dim, *_ = in_dims
        trailing = -equations.coil_axis
        lead = max(
            b.ndim - (b_dim is not None) - (trailing - 1),
            maps.ndim - (maps_dim is not None) - trailing,
            mask.ndim - (mask_dim is not None) - trailing,
        )

        def aligned(t: Tensor, dim: int | None, keep: int) -> Tensor:
            t = t.unsqueeze(0) if dim is None else t.movedim(dim, 0)
            return t.reshape(t.shape[0], *[1] * (lead + keep + 1 - t.ndim), *t.shape[1:])

        b = aligned(b, b_dim, trailing - 1)
        maps, mask = aligned(maps, maps_dim, trailing), aligned(mask, mask_dim, trailing)
        b = b.expand(info.batch_size, *b.shape[1:])
        return _Solve.apply(b, maps, mask, regularization, equations), 0


def _norm2(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (x.real.square() + x.imag.square()).sum(axes, keepdim=True)
