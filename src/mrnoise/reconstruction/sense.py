"""SENSE by unaliasing, for regular sampling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding.alias_sets import own_column, set_gram
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.planewise import with_fixed_maps
from mrnoise.reconstruction.protocol import Planewise, Reconstruction
from mrnoise.sampling.lattice import AliasLattice


@dataclass(frozen=True)
class Sense(Reconstruction):
    """SENSE: unfold each alias set, x = (H + λ)⁻¹ ψ AᴴΨ⁻¹ y with H = ψ AᴴΨ⁻¹A, ψ the mean coil variance.

    For regular sampling H splits into blocks of R aliased voxels, solved exactly (Pruessmann 1999,
    doi:10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S).

    Parameters
    ----------
    regularization
        Tikhonov λ ≥ 0, relative to |S|² = 1.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        On `bind`, if the sampling is not a regular lattice or differs between images.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4, mask=equispaced((16, 12), 2)), n_samples=100)
    >>> nm.method, round(float(nm.g_factor[8, 6]), 2)
    ('lattice', 2.01)
    """

    regularization: float = 0.0
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        check_regularization(self.regularization)

    def planewise(self, volume: Acquisition, axis: int) -> Planewise | None:
        """With fixed coil maps."""
        return with_fixed_maps(self, volume, axis, self.differentiate_coil_maps)

    def bind(self, acquisition: Acquisition) -> BoundSense:
        """Return kspace (..., coil, k1, k0) → complex image (..., y, x)."""
        lattice = acquisition.grid.lattice()
        maps = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        weights = None if maps is None else unfolding_weights(maps, lattice, self.regularization)
        return BoundSense(self, acquisition, lattice, weights)


@dataclass(frozen=True, eq=False, repr=False)
class BoundSense(Bound):
    """`Sense` of one scan.

    Parameters
    ----------
    lattice
        Which voxels are aliased onto each other.
    weights
        `unfolding_weights` of the fixed coil maps; ``None``: the maps follow from each k-space.
    """

    method: Sense
    lattice: AliasLattice
    weights: Tensor | None

    @property
    def complex_linear(self) -> bool:
        """With fixed coil maps."""
        return self.weights is not None

    def __call__(self, kspace: Tensor) -> Tensor:
        """Σ_c W_c z_c, (..., coil, k1, k0) → (..., y, x)."""
        scan, weights = self.acquisition, self.weights
        if weights is None:
            weights = unfolding_weights(whitened_coil_maps(scan, kspace), self.lattice, self.method.regularization)
        folded = fourier.to_image(scan.whiten(kspace), scan.spatial_dims)
        return (weights * folded).sum(scan.coil_axis)


def unfolding_weights(maps: Tensor, lattice: AliasLattice, regularization: float) -> Tensor:
    """Weights W with x(r) = Σ_c W_c(r) z_c(r), z the zero-filled images.

    x = (R BᴴB + λ)⁻¹ R Bᴴ z, see `mrnoise.encoding.alias_sets.set_gram`, and W is the row of the voxel itself.

    Parameters
    ----------
    maps
        Whitened coil maps (..., coil, *spatial).
    """
    gram, b = set_gram(maps, lattice)
    weights = (lattice.acceleration * b @ own_column(gram, regularization).unsqueeze(-1)).squeeze(-1).conj()
    return weights.movedim(-1, -len(lattice.shifts[0]) - 1).to(maps.dtype)  # from (..., *spatial, coil)


def check_regularization(value: float) -> None:
    """Raise if a Tikhonov weight is negative or not finite."""
    if not 0 <= value < float("inf"):
        raise InputError(
            "invalid regularisation",
            expected="a finite number ≥ 0",
            received=str(value),
            remedy="Use 0 for none; 1e-3 is a usual start.",
        )
