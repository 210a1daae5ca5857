"""Locally low rank: patches of a series whose voxels share few courses over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import Encoding, encode
from mrnoise.encoding.unfolding import largest_eigenvalue
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.fista import extrapolated
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.reconstruction.series import encoded_together, place_of, series_axis
from mrnoise.reconstruction.shrinkage import patches_shrunk

# Of the width of a patch: by how much the grid of patches moves from step to step, so that it leaves no edges.
MOVE = 0.618
# Threshold of a scan without signal.
SMALLEST = 1e-30


@dataclass(frozen=True)
class LowRank(Reconstruction):
    """Locally low rank, argmin_x ½‖A x - y‖² + τ Σ_P ‖(w x)_P‖_* with A and y whitened and w² = Σ_c |S_c|².

    (w x)_P is a patch of n voxels as a matrix n × T, T the length of the series, ‖·‖_* the sum of its singular values
    (Trzasko and Manduca 2011, doi:10.1109/ACSSC.2011.6189957; Zhang et al. 2015, doi:10.1002/mrm.25100). In w x noise
    is nearly uniform, whatever the coils. τ = λ s (√n + √T) with s = max |Aᴴy / w| of the scan that is bound, held
    fixed: white noise of σ = λ s has no singular value above τ. Solved by accelerated proximal gradient steps from
    Aᴴy / w (Beck and Teboulle 2009, doi:10.1137/080716542), whose grid of patches moves from step to step.

    Parameters
    ----------
    regularization
        λ > 0.
    patch
        Width of a patch in voxels, along every spatial axis.
    iterations
        Number of steps. The derivative is that of the steps as they are made.
    axis
        Of the series. ``None``: the only leading axis beside slices.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        If λ, the patch or the number of steps is not possible; on `bind`, if the scan has no such axis.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, n_frames=8, snr=20.0)
    >>> for method in (CgSense(1e-3), LowRank(0.02, iterations=10)):
    ...     nm = noise_map(method, scan, method="sketch", n_samples=50)
    ...     print(tuple(nm.std.shape), round(float(nm.std.mean()), 3))
    (8, 16, 12) 0.021
    (8, 16, 12) 0.008
    """

    regularization: float = 0.01
    patch: int = 8
    iterations: int = 50
    axis: str | None = None
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.regularization < math.inf or self.patch < 1 or self.iterations < 1:
            raise InputError(
                "invalid low-rank reconstruction",
                expected="a regularization > 0, patches of at least 1 voxel and at least 1 iteration",
                received=f"regularization {self.regularization}, patch {self.patch}, iterations {self.iterations}",
                remedy="The regularization is the σ of the noise relative to the brightest voxel: 0.01 is usual.",
            )

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """The axis of the series."""
        return (series_axis(acquisition, self.axis),)

    def bind(self, acquisition: Acquisition) -> BoundLowRank:
        """Return kspace (frame, coil, k1, k0) or (frame, coil, *samples) → complex images (frame, y, x)."""
        place = place_of(acquisition, self.axis)
        acquisition = encoded_together(acquisition, place)
        n_images = acquisition.batch_shape[place]
        n_voxels = math.prod(min(self.patch, n) for n in acquisition.spatial_shape)
        maps = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        with torch.no_grad():
            held = whitened_coil_maps(acquisition, acquisition.kspace) if maps is None else maps
            weighted = Weighted.of(acquisition, held)
            scale = float(weighted.adjoint(acquisition.whiten(acquisition.kspace)).abs().max())
            step = 1 / weighted.norm2()
        threshold = self.regularization * scale * (n_voxels**0.5 + n_images**0.5)
        fixed = None if maps is None else weighted
        return BoundLowRank(self, acquisition, fixed, max(threshold, SMALLEST), step)


@dataclass(frozen=True, eq=False, repr=False)
class BoundLowRank(Bound):
    """`LowRank` of one series.

    Parameters
    ----------
    fixed
        Forward model of the fixed coil maps; ``None``: the maps follow from each k-space.
    threshold
        τ.
    step
        Of the gradient.
    """

    method: LowRank
    fixed: Weighted | None
    threshold: float
    step: float

    def __call__(self, kspace: Tensor) -> Tensor:
        """The images after the steps, (frame, coil, k1, k0) → (frame, y, x)."""
        scan, method, weighted = self.acquisition, self.method, self.fixed
        if weighted is None:
            weighted = Weighted.of(scan, whitened_coil_maps(scan, kspace))
        place, dims = place_of(scan, method.axis), scan.spatial_dims
        b = weighted.adjoint(scan.whiten(kspace))
        z = ahead = b
        momentum = 1.0
        for k in range(method.iterations):
            moved = (ahead - self.step * (weighted.gram(ahead) - b)).movedim(place, -dims - 1)
            offset = round(k * MOVE * method.patch) % method.patch
            patched = patches_shrunk(moved, method.patch, offset, self.step * self.threshold, dims)
            previous, z = z, patched.movedim(-dims - 1, place)
            ahead, momentum = extrapolated(z, previous, momentum)
        return weighted.inverse_weight * z


@dataclass(frozen=True, eq=False)
class Weighted:
    """A w⁻¹ of images w x.

    Parameters
    ----------
    encoding
        A.
    inverse_weight
        1/w, zero where no coil sees anything.
    """

    encoding: Encoding
    inverse_weight: Tensor

    @classmethod
    def of(cls, acquisition: Acquisition, maps: Tensor) -> Weighted:
        """With w of whitened coil maps, the axis of the coils left out."""
        power = (maps.real.square() + maps.imag.square()).sum(-acquisition.spatial_dims - 1)
        seen = power > 0
        return cls(encode(acquisition, maps), torch.where(seen, torch.where(seen, power, 1.0).rsqrt(), 0.0))

    def adjoint(self, samples: Tensor) -> Tensor:
        """w⁻¹ Aᴴ y."""
        return self.inverse_weight * self.encoding.adjoint(samples)

    def gram(self, image: Tensor) -> Tensor:
        """w⁻¹ AᴴA w⁻¹ z."""
        return self.inverse_weight * self.encoding.gram(self.inverse_weight * image)

    def norm2(self) -> float:
        """‖A w⁻¹‖² by power iterations, 1 where it is zero."""
        x = torch.ones(self.encoding.image_shape, dtype=torch.complex64, device=self.inverse_weight.device)
        return float(largest_eigenvalue(self.gram, x.to(self.inverse_weight.dtype.to_complex()))) or 1.0
