"""The normal equations of a series in a subspace over time, and their differentiable solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding.normal_equations import MAX_ITERATIONS, TOLERANCE, inner, ratio
from mrnoise.encoding.of_scan import encode
from mrnoise.encoding.protocol import Encoding
from mrnoise.errors import InputError
from mrnoise.sampling.extent import within
from mrnoise.sampling.grid import Grid
from mrnoise.units import unit_of


@dataclass(frozen=True, eq=False)
class SubspaceEquations:
    """N = ΦᴴAᴴAΦ + λ of coefficients c with images x = Φ c.

    On a grid ΦᴴAᴴAΦ = P Sᴴ Fᴴ (ΦᴴMΦ) F S P: for each sample of k-space a small matrix mixes the coefficients, and there
    are as many transforms as coefficients, not as images (Tamir et al. 2017, doi:10.1002/mrm.26102).

    Parameters
    ----------
    encoding
        A of all images.
    basis
        Φ, (frame, rank), orthonormal.
    place
        Axis of the series and of the coefficients, from the end.
    weight
        λ.
    diagonal
        Near that of N, as far as coil maps vary: the preconditioner.
    mixing
        ΦᴴMΦ, the centre at index 0, (rank, rank, *spatial), and the axes along which sampling varies; ``None`` where
        there are further leading axes, coil maps of each image, or a trajectory.
    maps, extent
        S, and what was encoded.
    """

    encoding: Encoding
    basis: Tensor
    place: int
    weight: float
    diagonal: Tensor
    mixing: tuple[Tensor, tuple[int, ...]] | None
    maps: Tensor
    extent: Tensor | None

    @classmethod
    def of(cls, acquisition: Acquisition, maps: Tensor, basis: Tensor, place: int, weight: float) -> SubspaceEquations:
        """Of whitened coil maps."""
        dims, sampling = acquisition.spatial_dims, acquisition.sampling
        power = (maps.real.square() + maps.imag.square()).sum(-dims - 1)
        if power.ndim >= -place:  # coil maps of each image
            power = power.mean(place, keepdim=True)
        diagonal = power / acquisition.acceleration + weight
        diagonal = torch.where(diagonal > 0, diagonal, 1.0)
        mixing = extent = None
        if isinstance(sampling, Grid) and len(acquisition.batch_shape) == 1 and maps.ndim == dims + 1:
            extent, axes = sampling.extent, sampling.varying_axes
            if axes and (extent is None or extent.ndim == dims):
                across = (..., *(slice(None) if axis in axes else slice(1) for axis in range(-dims, 0)))
                mask = torch.fft.ifftshift(sampling.mask[across].expand(len(basis), *[-1] * dims), dim=axes)
                pairs = basis.conj().unsqueeze(2) * basis.unsqueeze(1)  # (frame, rank, rank)
                mixing = torch.tensordot(pairs, mask.to(basis), ([0], [0])), axes
        return cls(encode(acquisition, maps), basis, place, weight, diagonal, mixing, maps, extent)

    @property
    def axes(self) -> tuple[int, ...]:
        """Those of one system."""
        return tuple(range(-len(self.encoding.image_shape), 0))

    def images(self, coefficients: Tensor) -> Tensor:
        """Φ c."""
        return self._along(self.basis, coefficients)

    def right_side(self, samples: Tensor) -> Tensor:
        """ΦᴴAᴴ y of whitened samples."""
        return self._along(self.basis.mH, self.encoding.adjoint(samples))

    def __call__(self, c: Tensor) -> Tensor:
        """N c, of any number of coefficient images."""
        if self.mixing is None:
            return self._along(self.basis.mH, self.encoding.gram(self.images(c))) + self.weight * c
        matrix, axes = self.mixing
        dims = self.maps.ndim - 1
        image = c if self.extent is None else within(c, self.extent, dims)
        total = torch.zeros_like(c)
        for coil in self.maps:
            kspace = torch.fft.fftn(coil * image, dim=axes)
            mixed = torch.zeros_like(kspace)
            for column, coefficient in zip(matrix.unbind(1), kspace.split(1, dim=-dims - 1), strict=True):
                mixed = mixed + column * coefficient
            total = total + coil.conj() * torch.fft.ifftn(mixed, dim=axes)
        return (total if self.extent is None else within(total, self.extent, dims)) + self.weight * c

    def solve(self, b: Tensor) -> Tensor:
        """N⁻¹ b by conjugate gradients, differentiated as converged in b; coil maps and λ are held fixed.

        Raises
        ------
        InputError
            If they have not converged after 2,000 iterations.
        """
        solution: Tensor = _Solve.apply(b, self)
        return solution

    def conjugate_gradients(self, b: Tensor) -> Tensor:
        """Every leading index is a system with a stopping point."""
        unit = unit_of(b, self.axes)
        r = b / unit
        x, p = torch.zeros_like(r), r / self.diagonal
        left = inner(r, p, self.axes)
        goal = TOLERANCE**2 * left
        for _ in range(MAX_ITERATIONS):
            active = left > goal
            if not bool(active.any()):
                return unit * x
            through = self(p)
            step = torch.where(active, ratio(left, inner(p, through, self.axes)), 0.0)
            x, r = x + step * p, r - step * through
            z = r / self.diagonal
            previous, left = left, torch.where(active, inner(r, z, self.axes), left)
            p = torch.where(active, z + ratio(left, previous) * p, p)
        raise InputError(
            "conjugate gradients do not converge",
            expected=f"a relative residual of {TOLERANCE:.0e} within {MAX_ITERATIONS} iterations",
            received=f"{TOLERANCE * float(ratio(left, goal).max().sqrt()):.2g}: samples hardly determine the series",
            remedy="Give a larger regularization, a basis of lower rank, or double precision.",
        )

    def _along(self, matrix: Tensor, images: Tensor) -> Tensor:
        return torch.tensordot(images.movedim(self.place, -1), matrix, ([-1], [1])).movedim(-1, self.place)


class _Solve(torch.autograd.Function):
    """N⁻¹ b of a Hermitian N that is held fixed: its derivative is N⁻¹, and so is its adjoint."""

    @staticmethod
    def forward(b: Tensor, equations: SubspaceEquations) -> Tensor:
        return equations.conjugate_gradients(b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.equations = inputs[1]

    @staticmethod
    def jvp(ctx: Any, change: Tensor, *_: Any) -> Tensor:
        equations: SubspaceEquations = ctx.equations
        return equations.solve(change)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        return ctx.equations.solve(grad_outputs[0]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], b: Tensor, equations: SubspaceEquations) -> tuple[Tensor, int]:
        return equations.solve(b.movedim(in_dims[0], 0)), 0
