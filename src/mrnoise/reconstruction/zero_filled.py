"""Reconstructions without unfolding: zero-filled coil combination."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import Encoding, encode
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.combination import root_sum_of_squares
from mrnoise.reconstruction.gridding import coil_images
from mrnoise.reconstruction.planewise import with_fixed_maps
from mrnoise.reconstruction.protocol import KspaceToImage, Planewise, Reconstruction


@dataclass(frozen=True)
class ZeroFilled(Reconstruction):
    """Zero-filled adjoint, x = ψ Sᴴ Ψ⁻¹ Fᴴ y with Ψ's mean variance ψ.

    Parameters
    ----------
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> full = simulate((16, 12), 4)
    >>> half = full.undersample(equispaced((16, 12), 2))
    >>> sigma = [noise_map(ZeroFilled(), scan, method="exact").std for scan in (full, half)]
    >>> round(float((sigma[1] / sigma[0]).mean()), 3)  # half of the samples: 1/√2 of the noise
    0.707
    """

    unit_gain = False  # undersampling lowers the intensity
    differentiate_coil_maps: bool = True

    def planewise(self, volume: Acquisition, axis: int) -> Planewise | None:
        """With fixed coil maps."""
        return with_fixed_maps(self, volume, axis, self.differentiate_coil_maps)

    def bind(self, acquisition: Acquisition) -> BoundZeroFilled:
        """Return kspace (..., coil, k1, k0) → complex image (..., y, x)."""
        acquisition.grid  # noqa: B018  # refuses a trajectory, whose samples need a density
        maps = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        return BoundZeroFilled(self, acquisition, None if maps is None else encode(acquisition, maps))


@dataclass(frozen=True, eq=False, repr=False)
class BoundZeroFilled(Bound):
    """`ZeroFilled` of one scan.

    Parameters
    ----------
    fixed
        Forward model of the fixed coil maps; ``None``: the maps follow from each k-space.
    """

    fixed: Encoding | None

    @property
    def complex_linear(self) -> bool:
        """With fixed coil maps."""
        return self.fixed is not None

    def __call__(self, kspace: Tensor) -> Tensor:
        """Aᴴ of the whitened k-space, (..., coil, k1, k0) → (..., y, x)."""
        scan, encoding = self.acquisition, self.fixed
        if encoding is None:
            encoding = encode(scan, whitened_coil_maps(scan, kspace))
        return encoding.adjoint(scan.whiten(kspace))


@dataclass(frozen=True)
class RootSumOfSquares(Reconstruction):
    """Root sum of squares of the zero-filled coil images, x = √Σ_c |Fᴴ y_c|²; real and non-negative.

    Of a trajectory, the coil images of `Gridding`, EᴴW y_c.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(RootSumOfSquares(), simulate((16, 12), 4, snr=20.0), method="exact")
    >>> nm.image.dtype, round(float(nm.snr[8, 6]), 1)
    (torch.float32, 12.6)
    """

    unit_gain = False  # the coils are not weighted by their maps
    needs_coil_maps = False

    def planewise(self, volume: Acquisition, axis: int) -> Planewise:
        """Voxel by voxel."""
        return Planewise.by(self, volume, axis)

    def bind(self, acquisition: Acquisition) -> BoundRootSumOfSquares:
        """Return kspace (..., coil, k1, k0) or (..., coil, *samples) → real image (..., y, x)."""
        return BoundRootSumOfSquares(self, acquisition, coil_images(acquisition))


@dataclass(frozen=True, eq=False, repr=False)
class BoundRootSumOfSquares(Bound):
    """`RootSumOfSquares` of one scan.

    Parameters
    ----------
    to_images
        From the samples of coils to their images.
    """

    to_images: KspaceToImage

    def __call__(self, kspace: Tensor) -> Tensor:
        """√Σ_c |Fᴴ y_c|², (..., coil, k1, k0) → (..., y, x)."""
        return root_sum_of_squares(self.to_images(kspace), -self.acquisition.spatial_dims - 1)
