"""Subspace: every voxel a combination of a few given courses over time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding.subspace import SubspaceEquations
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.reconstruction.sense import check_regularization
from mrnoise.reconstruction.series import encoded_together, place_of, series_axis

# Courses over time that depend on others but for this part count as dependent.
DEPENDENT = 1e-6


@dataclass(frozen=True, eq=False)
class Subspace(Reconstruction):
    """Subspace-constrained least squares: x = Φ c, c = (ΦᴴAᴴAΦ + λ)⁻¹ ΦᴴAᴴy with A and y whitened.

    The columns of Φ span what a voxel can do over time, from simulation or training data (Liang 2007,
    doi:10.1109/ISBI.2007.357020; Tamir et al. 2017, doi:10.1002/mrm.26102). They are made orthonormal, so that λ does
    not depend on how they are given. Noise in x stays in their span: frames share it, and σ falls about as the square
    root of rank over frames. Linear; its derivative is that of the converged solution.

    Parameters
    ----------
    basis
        Φ, (frame, rank), real or complex.
    regularization
        Tikhonov λ ≥ 0, relative to |S|² = 1.
    axis
        Of the series. ``None``: the only leading axis beside slices.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        If the basis is no matrix of independent columns; on `bind`, if the scan has no such axis, or another number of
        images; of an image, if it has not converged after 2,000 iterations.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, n_frames=8, snr=20.0)
    >>> time = torch.arange(8) * 2 * torch.pi / 8
    >>> basis = torch.stack([torch.ones(8), time.cos(), time.sin()], 1)  # a mean and one harmonic
    >>> for method in (CgSense(1e-3), Subspace(basis)):
    ...     nm = noise_map(method, scan, method="sketch", n_samples=50)
    ...     print(round(float(nm.std.mean()), 3))  # √(3/8) = 0.61 of the noise
    0.021
    0.013
    """

    basis: Tensor
    regularization: float = 1e-3
    axis: str | None = None
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        check_regularization(self.regularization)
        basis = torch.as_tensor(self.basis)
        object.__setattr__(self, "basis", basis)
        valid = basis.ndim == 2 and basis.numel() > 0 and bool(torch.isfinite(torch.view_as_real(basis + 0j)).all())
        if not valid or _rank(basis) < basis.shape[1]:
            raise InputError(
                "the basis spans no subspace",
                expected="a finite matrix (frame, rank) of linearly independent columns",
                received=f"shape {tuple(basis.shape)}" + (f", rank {_rank(basis)}" if valid else ""),
                remedy="Take the first left singular vectors of training courses: torch.linalg.svd(courses)[0][:, :k].",
            )

    @property
    def title(self) -> str:
        """With the shape of the basis alone."""
        frames, rank = self.basis.shape
        return f"Subspace({frames} × {rank} basis, regularization={self.regularization})"

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """The axis of the series."""
        return (series_axis(acquisition, self.axis),)

    def bind(self, acquisition: Acquisition) -> BoundSubspace:
        """Return kspace (frame, coil, k1, k0) or (frame, coil, *samples) → complex images (frame, y, x)."""
        place = place_of(acquisition, self.axis)
        acquisition = encoded_together(acquisition, place)
        n = acquisition.batch_shape[place]
        if n != len(self.basis):
            raise InputError(
                "the basis is not that of the series",
                expected=f"{n} rows, one for each {series_axis(acquisition, self.axis)}",
                received=f"{len(self.basis)}",
                remedy="Give the basis as (frame, rank).",
            )
        maps = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        basis = torch.linalg.qr(self.basis.to(torch.complex128))[0].to(acquisition.kspace)
        bound = BoundSubspace(self, acquisition, None, basis)
        return bound if maps is None else replace(bound, fixed=bound.equations(maps))


@dataclass(frozen=True, eq=False, repr=False)
class BoundSubspace(Bound):
    """`Subspace` of one series.

    Parameters
    ----------
    fixed
        Normal equations of the fixed coil maps; ``None``: the maps follow from each k-space.
    basis
        Φ, orthonormal.
    """

    method: Subspace
    fixed: SubspaceEquations | None
    basis: Tensor

    @property
    def complex_linear(self) -> bool:
        """With fixed coil maps."""
        return self.fixed is not None

    def equations(self, maps: Tensor) -> SubspaceEquations:
        """Those of whitened coil maps."""
        scan = self.acquisition
        place = place_of(scan, self.method.axis) - len(scan.image_shape)
        return SubspaceEquations.of(scan, maps, self.basis, place, self.method.regularization)

    def __call__(self, kspace: Tensor) -> Tensor:
        """Φ c, (frame, coil, k1, k0) → (frame, y, x)."""
        samples, fixed = self.acquisition.whiten(kspace), self.fixed
        if fixed is not None:
            return fixed.images(fixed.solve(fixed.right_side(samples)))
        maps = whitened_coil_maps(self.acquisition, kspace)
        normal, held = self.equations(maps), self.equations(maps.detach())
        b = normal.right_side(samples)
        c = held.solve(b.detach())
        # What is added is zero, but its derivative is that of c with respect to b and to the coil maps.
        return held.images(c + held.solve(b - normal(c)))


def _rank(basis: Tensor) -> int:
    exact = basis.to(torch.complex128)
    norm = torch.linalg.vector_norm(exact, dim=0, keepdim=True)
    return int(torch.linalg.matrix_rank(exact / torch.where(norm > 0, norm, 1.0), rtol=DEPENDENT))
