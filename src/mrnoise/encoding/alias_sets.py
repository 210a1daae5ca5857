"""Regular sampling: every alias set of the image is a system of its own, of R voxels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.lattice import AliasLattice, alias_lattice
from mrnoise.tensor_record import TensorRecord

# Voxels of a set up to which its matrix is small.
LARGEST_SET = 32


@dataclass(frozen=True, eq=False)
class AliasInverse(TensorRecord):
    """(H + λ)⁻¹ of regular sampling: x(r) = Σ_j W_j(r) b(r - s_j), s_j the shifts of the alias lattice.

    Parameters
    ----------
    shifts
        s_j.
    weights
        W, (R, *spatial).
    """

    shifts: tuple[tuple[int, ...], ...]
    weights: Tensor

    @classmethod
    def of(cls, maps: Tensor, mask: Tensor, regularization: float) -> AliasInverse | None:
        """Of coil maps (coil, *spatial) and a mask with its centre at n // 2.

        W is the row of the voxel itself of (H + λ)⁻¹ on its set. ``None``: sampling is not regular, or sets are large.
        """
        try:
            lattice = alias_lattice(mask)
        except InputError:
            return None
        if lattice.acceleration > LARGEST_SET:
            return None
        row = own_column(set_gram(maps, lattice)[0], regularization).conj()
        return cls(lattice.shifts, row.movedim(-1, 0).to(maps.dtype).contiguous())

    def __call__(self, b: Tensor) -> Tensor:
        """(H + λ)⁻¹ b, (..., *spatial)."""
        axes = tuple(range(-len(self.shifts[0]), 0))
        x = self.weights[0] * b
        for shift, weight in zip(self.shifts[1:], self.weights[1:], strict=True):
            x = x + weight * b.roll(shift, axes)
        return x


def set_gram(maps: Tensor, lattice: AliasLattice) -> tuple[Tensor, Tensor]:
    """H on the alias set of each voxel, and B of which it is made.

    z_c(r) = Σ_j p_j S_c(r - s_j) x(r - s_j) = Σ_j B_cj x_j of the zero-filled images z, so that H = R BᴴB. In double
    precision: near-singular sets lose most of the other.

    Parameters
    ----------
    maps
        Whitened coil maps (..., coil, *spatial).
    lattice
        Of the sampling.

    Returns
    -------
    gram
        (..., *spatial, R, R), complex128.
    b
        (..., *spatial, coil, R), complex128.
    """
    dims = len(lattice.shifts[0])
    b = lattice.aliases(maps.to(torch.complex128))  # (R, ..., coil, *spatial)
    b = b.movedim(0, -1).movedim(-dims - 2, -2) * lattice.coefficients.to(maps.device)
    return lattice.acceleration * b.mH @ b, b


def own_column(gram: Tensor, regularization: float) -> Tensor:
    """The column of the voxel itself of (H + λ)⁻¹ on its alias set, (..., R, R) → (..., R).

    A voxel that no coil sees has no equation: it stays what it is.
    """
    unseen = (gram.diagonal(dim1=-2, dim2=-1).real == 0).to(gram.dtype)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    own = eye[:, :1].expand(*gram.shape[:-1], 1)
    return torch.linalg.solve(gram + torch.diag_embed(unseen) + regularization * eye, own).squeeze(-1)
