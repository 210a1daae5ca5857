"""CG-SENSE: regularised least squares for any sampling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import Encoding, encode
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.planewise import with_fixed_maps
from mrnoise.reconstruction.protocol import Planewise, Reconstruction
from mrnoise.reconstruction.sense import check_regularization
from mrnoise.sampling.trajectory import Trajectory


@dataclass(frozen=True)
class CgSense(Reconstruction):
    """CG-SENSE with Tikhonov term, x = (H + λ)⁻¹ ψ AᴴΨ⁻¹ y with H = ψ AᴴΨ⁻¹A, ψ the mean coil variance.

    Its derivative is that of the converged solution, found by one more conjugate-gradient solve on the
    tangent (Pruessmann 2001, doi:10.1002/mrm.1241). Stopped early, after a number of ``iterations``, it is another
    reconstruction, not linear in the k-space, and is mapped as it is.

    Where sampling varies along one axis only and the coil maps are fixed, the lines along that axis are
    independent systems small enough to be inverted once, on `bind`: the same solution without iterations.

    Parameters
    ----------
    regularization
        Tikhonov λ ≥ 0, relative to |S|² = 1.
    tolerance
        Relative residual at which it has converged.
    iterations
        Number of iterations from zero after which it stops, converged or not; ``None``: when it has.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        If the stopping rule is not possible; on `bind`, if λ is 0 and a trajectory has too few samples for the matrix;
        of an image, if it has not converged after 2,000 iterations.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import poisson_disc
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=poisson_disc((16, 12), 2, calibration=4))
    >>> for weight in (1e-3, 1e-1):
    ...     nm = noise_map(CgSense(weight), scan, method="exact")
    ...     print(f"λ = {weight}: mean σ {nm.std.mean():.3f}")
    λ = 0.001: mean σ 0.076
    λ = 0.1: mean σ 0.017
    """

    regularization: float = 1e-3
    tolerance: float = 1e-6
    iterations: int | None = None
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        check_regularization(self.regularization)
        if not 0 < self.tolerance < 1 or (self.iterations is not None and self.iterations < 1):
            raise InputError(
                "invalid stopping rule",
                expected="0 < tolerance < 1 and at least 1 iteration",
                received=f"tolerance {self.tolerance}, iterations {self.iterations}",
                remedy="Leave both out for the defaults.",
            )

    def planewise(self, volume: Acquisition, axis: int) -> Planewise | None:
        """With fixed coil maps, converged: iterations that stop early are those of the whole volume."""
        if self.iterations is not None:
            return None
        return with_fixed_maps(self, volume, axis, self.differentiate_coil_maps)

    def bind(self, acquisition: Acquisition) -> BoundCgSense:
        """Return kspace (..., coil, k1, k0) or (..., coil, *samples) → complex image (..., y, x)."""
        maps = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        if maps is None:
            return BoundCgSense(self, acquisition, None)
        if self.regularization == 0 and isinstance(acquisition.sampling, Trajectory):
            _check_determined(acquisition.sampling, maps)
        return BoundCgSense(self, acquisition, self.encoding(acquisition, maps, self.regularization))

    def encoding(self, acquisition: Acquisition, maps: Tensor, prepared_weight: float | None = None) -> Encoding:
        """The forward model of whitened coil maps, with the stopping rule of this method."""
        return encode(
            acquisition,
            maps,
            tolerance=self.tolerance,
            iterations=self.iterations,
            prepared_weight=prepared_weight,
        )


@dataclass(frozen=True, eq=False, repr=False)
class BoundCgSense(Bound):
    """`CgSense` of one scan.

    Parameters
    ----------
    fixed
        Forward model of the fixed coil maps; ``None``: the maps follow from each k-space.
    """

    method: CgSense
    fixed: Encoding | None

    @property
    def complex_linear(self) -> bool:
        """With fixed coil maps, converged."""
        return self.fixed is not None and self.method.iterations is None

    def __call__(self, kspace: Tensor) -> Tensor:
        """(AᴴA + λ)⁻¹ Aᴴ of the whitened k-space, (..., coil, k1, k0) → (..., y, x)."""
        scan, encoding = self.acquisition, self.fixed
        if encoding is None:
            encoding = self.method.encoding(scan, whitened_coil_maps(scan, kspace))
        return encoding.solve(encoding.adjoint(scan.whiten(kspace)), self.method.regularization)


def _check_determined(trajectory: Trajectory, maps: Tensor) -> None:
    dims = trajectory.spatial_dims
    seen = (maps != 0).any(-dims - 1).reshape(-1, *trajectory.image_shape).flatten(1).sum(1)
    n_coils, n_voxels = maps.shape[-dims - 1], int(seen.max())
    left = trajectory.undetermined(n_coils, n_voxels)
    if left:
        raise InputError(
            "the trajectory has too few samples for the matrix",
            expected=f"at least as many samples as the {n_voxels} voxels that the coils see, or λ > 0",
            received=f"{trajectory.n_samples} samples of {n_coils} coils: {left} voxels or more are not determined",
            remedy="Give a regularization, or a smaller matrix.",
        )
