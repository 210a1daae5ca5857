"""The normal equations of parallel imaging and their differentiable solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrnoise.encoding.convolution import Convolution
from mrnoise.errors import InputError
from mrnoise.units import unit_of

# Relative residual at which conjugate gradients stop (a derivative needs the converged solution), and their bound.
TOLERANCE, MAX_ITERATIONS = 1e-6, 2000
# Converged images are put aside when no more than this part of them goes on.
PUT_ASIDE = 0.75
# A preconditioner that amplifies more than this does not help.
SMALLEST_OF_CIRCULANT = 1e-6


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """s Fᴴ (D + λ⟨s²⟩)⁻¹ F s, near (H + λ)⁻¹.

    Coil maps that vary make H far from circulant; s H s with s = (diag H + λ)^{-1/2} is nearer. FᴴDF is the circulant
    matrix nearest to it (`PointSpread.nearest_circulant`), ⟨s²⟩ the mean over the image. Voxels that no coil sees have
    H = 0: they stand alone, s = 0.

    Parameters
    ----------
    scale
        s, *spatial.
    spectrum
        D ≥ 0, broadcast with the image.
    axes
        Those that F transforms, from the end.
    """

    scale: Tensor
    spectrum: Tensor
    axes: tuple[int, ...]

    def at(self, regularization: Tensor) -> Callable[[Tensor], Tensor]:
        """What is near (H + λ)⁻¹, of (..., *spatial)."""
        spectrum = self.spectrum + regularization.to(self.spectrum) * self.scale.square().mean()
        spectrum = spectrum.clamp_min(SMALLEST_OF_CIRCULANT * spectrum.max())
        alone = ratio(torch.ones_like(regularization), regularization).to(spectrum)

        def near_inverse(r: Tensor) -> Tensor:
            kspace = torch.fft.fftn(self.scale * r, dim=self.axes)
            seen = self.scale * torch.fft.ifftn(kspace / spectrum, dim=self.axes)
            return torch.where(self.scale > 0, seen, alone * r)

        return near_inverse

    def of(self, axis: int, plane: int) -> Preconditioner:
        """That of a plane that is a system of its own."""
        return replace(self, scale=self.scale.narrow(axis, plane, 1))


@dataclass(frozen=True)
class NormalEquations:
    """H = P SᴴTS P of one sampling, T = FᴴMF.

    Maps and regularisation are passed beside it, so that they can be differentiated.

    Parameters
    ----------
    convolution
        T.
    coil_axis
        -3 for slices, -4 for volumes.
    tolerance
        Relative residual at which conjugate gradients stop, preconditioned where they are.
    iterations
        Stop after so many instead, neither preconditioned nor by lines; ``None``: when they have converged.
    inverse
        (H + λ)⁻¹ instead of conjugate gradients: by alias sets, lines or planes.
    extent
        P = FᴴEF, E what was encoded; ``None``: all of k-space.
    preconditioner
        Of conjugate gradients; ``None``: they have none.
    """

    convolution: Convolution
    coil_axis: int
    tolerance: float = TOLERANCE
    iterations: int | None = None
    inverse: Callable[[Tensor], Tensor] | None = None
    extent: Convolution | None = None
    preconditioner: Preconditioner | None = None

    @property
    def apart(self) -> tuple[int, ...]:
        """Spatial axes along which T mixes nothing."""
        return tuple(axis for axis in range(self.coil_axis + 1, 0) if axis not in self.convolution.axes)

    @property
    def _same_sampling(self) -> bool:
        """Whether all images were sampled, and encoded, alike."""
        extents = () if self.extent is None else self.extent.spectra
        alike = all(extent.ndim < -self.coil_axis for extent in extents)
        return alike and all(spectrum.ndim <= -self.coil_axis for spectrum in self.convolution.spectra)

    def within(self, x: Tensor) -> Tensor:
        """P x, what lies in the extent."""
        return x if self.extent is None else self.extent(x)

    def gram(self, x: Tensor, maps: Tensor) -> Tensor:
        """P SᴴTS P x."""
        return self.within(self.convolution.combined(maps, self.within(x), self.coil_axis))

    def solve(self, b: Tensor, maps: Tensor, regularization: Tensor) -> Tensor:
        """P (P SᴴTS P + λ)⁻¹ P b, differentiable in b, S and λ: as converged, or as the iterations that were made.

        Parameters
        ----------
        b
            (..., y, x).
        maps
            (..., coil, y, x).
        regularization
            λ ≥ 0, a scalar.
        """
        if self.iterations is not None:
            return self.stopped(b, maps, regularization, self.iterations)
        return _Solve.apply(b, maps, regularization, self)

    def stopped(self, b: Tensor, maps: Tensor, regularization: Tensor, iterations: int) -> Tensor:
        """The image after so many conjugate-gradient steps from zero, which is not linear in b."""
        spatial = tuple(range(self.coil_axis + 1, 0))
        b = self.within(b)
        unit = unit_of(b, spatial)
        r = p = b / unit
        x, rs = torch.zeros_like(r), _norm2(r, spatial)
        for _ in range(iterations):
            hp = self.gram(p, maps) + regularization * p
            step = ratio(rs, inner(p, hp, spatial))
            x, r = x + step * p, r - step * hp
            previous, rs = rs, _norm2(r, spatial)
            p = r + ratio(rs, previous) * p
        return unit * x

    def conjugate_gradients(self, b: Tensor, maps: Tensor, regularization: Tensor, most: int | None = None) -> Tensor:
        """Every leading index, and every plane that T does not mix with others, is a system with a stopping point.

        Images that have converged are put aside. After ``most`` iterations x is as it is.

        Raises
        ------
        InputError
            Without ``most``, if one has not converged after `MAX_ITERATIONS`.
        """
        dims = -self.coil_axis - 1
        if maps.ndim > -self.coil_axis and maps.shape[: self.coil_axis].numel() == 1:
            maps = maps.reshape(maps.shape[self.coil_axis :])
        one_matrix = maps.ndim == -self.coil_axis and self._same_sampling
        if b.ndim > dims + 1 and one_matrix:
            x = self.conjugate_gradients(b.flatten(0, -dims - 1), maps, regularization, most)
            return x.reshape(b.shape)
        if one_matrix and len(self.convolution.axes) > 1:
            for axis in self.apart:
                if b.shape[axis] > 1:
                    return self._plane_by_plane(b, maps, regularization, most, axis)
        spatial = self.convolution.axes or self.apart
        b = self.within(b)
        unit = unit_of(b, spatial)
        b = b / unit
        x, r = torch.zeros_like(b), b
        near_inverse = None if self.preconditioner is None else self.preconditioner.at(regularization)
        z = p = r if near_inverse is None else self.within(near_inverse(r))
        # What is left to do, z ≈ (H + λ)⁻¹ r, is nearer to the error of x than r is.
        left = _norm2(z, spatial)
        goal = self.tolerance**2 * left
        rz = left if self.preconditioner is None else inner(r, z, spatial)
        batched = b.ndim == dims + 1 and one_matrix
        running = torch.arange(len(b) if batched else 1, device=b.device)
        converged = x
        for _ in range(MAX_ITERATIONS if most is None else most):
            active = left > goal
            if not bool(active.any()):
                break
            if batched and len(running) > 1:
                going_on = active.flatten(1).any(1)
                if int(going_on.sum()) <= PUT_ASIDE * len(running):
                    converged = converged.index_copy(0, running, x)
                    running = running[going_on]
                    x, r, p, left, goal, rz, active = (t[going_on] for t in (x, r, p, left, goal, rz, active))
            hp = self.gram(p, maps) + regularization * p
            step = torch.where(active, ratio(rz, inner(p, hp, spatial)), 0.0)
            x = x + step * p
            r = r - step * hp
            z = r if near_inverse is None else self.within(near_inverse(r))
            left, previous = torch.where(active, _norm2(z, spatial), left), rz
            rz = left if self.preconditioner is None else torch.where(active, inner(r, z, spatial), rz)
            p = torch.where(active, z + ratio(rz, previous) * p, p)
        else:
            if most is None and bool((left > goal).any()):
                raise _not_converged(float(ratio(left, goal).max().sqrt()) * self.tolerance, self.tolerance)
        return unit * (converged.index_copy(0, running, x) if batched else x)

    def _plane_by_plane(self, b: Tensor, maps: Tensor, regularization: Tensor, most: int | None, axis: int) -> Tensor:
        """Each in as many iterations as it takes, in the cache of a processor; zero where b is."""
        x = torch.zeros_like(b)
        for plane in range(b.shape[axis]):
            of_b, of_maps = (t.narrow(axis, plane, 1) for t in (b, maps))
            if bool((of_b != 0).any()):
                preconditioner = None if self.preconditioner is None else self.preconditioner.of(axis, plane)
                one = replace(self, preconditioner=preconditioner)
                x.narrow(axis, plane, 1).copy_(one.conjugate_gradients(of_b, of_maps, regularization, most))
        return x


class _Solve(torch.autograd.Function):
    """x = (SᴴTS + λ)⁻¹ b with the derivative of the converged solution.

    dx = (H+λ)⁻¹ (db - dH x - dλ x): the derivative is another solve of the same system.
    """

    @staticmethod
    def forward(b: Tensor, maps: Tensor, regularization: Tensor, equations: NormalEquations) -> Tensor:
        if equations.inverse is not None:
            return equations.inverse(b)
        return equations.conjugate_gradients(b, maps, regularization)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, maps, regularization, equations = inputs
        # Zeros for what does not change, mostly the maps, would cost as much as the rest.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output, maps, regularization)
        ctx.save_for_forward(output, maps, regularization)
        ctx.equations = equations

    @staticmethod
    def jvp(ctx: Any, db: Tensor | None, dmaps: Tensor | None, dregularization: Tensor | None, *_: Any) -> Tensor:
        x, maps, regularization = ctx.saved_tensors
        equations: NormalEquations = ctx.equations
        rhs = torch.zeros_like(x) if db is None else db
        if dmaps is not None:
            axis = equations.coil_axis
            sx = equations.convolution(maps * x.unsqueeze(axis))
            dsx = equations.convolution(dmaps * x.unsqueeze(axis))
            rhs = rhs - (dmaps.conj() * sx + maps.conj() * dsx).sum(axis)
        if dregularization is not None:
            rhs = rhs - dregularization * x
        return _Solve.apply(rhs, maps, regularization, equations)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        if grad is None:  # nothing behind depends on the solution
            return None, None, None, None
        x, maps, regularization = ctx.saved_tensors
        equations: NormalEquations = ctx.equations
        w = _Solve.apply(grad, maps, regularization, equations)
        grad_maps = grad_regularization = None
        if ctx.needs_input_grad[1]:
            # Gradient of -Re⟨w, H x⟩ = -Re⟨S w, T S x⟩ with respect to S.
            wc, xc = w.unsqueeze(equations.coil_axis), x.unsqueeze(equations.coil_axis)
            sx, sw = equations.convolution(maps * xc), equations.convolution(maps * wc)
            grad_maps = -(wc.conj() * sx + xc.conj() * sw).sum_to_size(maps.shape)
        if ctx.needs_input_grad[2]:
            grad_regularization = -(w.conj() * x).real.sum()
        return w, grad_maps, grad_regularization, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        b: Tensor,
        maps: Tensor,
        regularization: Tensor,
        equations: NormalEquations,
    ) -> tuple[Tensor, int]:
        # Bring the mapped axis to the front and align the leading axes; the solver is batched already.
        b_dim, maps_dim, *_ = in_dims
        trailing = -equations.coil_axis
        lead = max(b.ndim - (b_dim is not None) - (trailing - 1), maps.ndim - (maps_dim is not None) - trailing)

        def aligned(t: Tensor, dim: int | None, keep: int) -> Tensor:
            t = t.unsqueeze(0) if dim is None else t.movedim(dim, 0)
            return t.reshape(t.shape[0], *[1] * (lead + keep + 1 - t.ndim), *t.shape[1:])

        b, maps = aligned(b, b_dim, trailing - 1), aligned(maps, maps_dim, trailing)
        b = b.expand(info.batch_size, *b.shape[1:])
        return _Solve.apply(b, maps, regularization, equations), 0


def _not_converged(residual: float, tolerance: float) -> InputError:
    return InputError(
        "conjugate gradients do not converge",
        expected=f"a relative residual of {tolerance:.2g} within {MAX_ITERATIONS} iterations",
        received=f"{residual:.2g}: the samples hardly determine the image",
        remedy="Give a larger regularization, a smaller matrix or double precision; or stop early on purpose, "
        "CgSense(iterations=20).",
    )


def _norm2(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (x.real.square() + x.imag.square()).sum(axes, keepdim=True)


def inner(x: Tensor, y: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Re⟨x, y⟩ of each system."""
    return (x.conj() * y).real.sum(axes, keepdim=True)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """Quotient, zero where b has converged to zero."""
    positive = b > 0
    return torch.where(positive, a / torch.where(positive, b, 1.0), 0.0)
