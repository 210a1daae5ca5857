"""Reconstructions with operators of MIRTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.reconstruction.adapters.common import check_single, checked_output, package_of_host
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.sampling.trajectory import Trajectory


@dataclass(frozen=True)
class Mirtorch(Reconstruction):
    """A reconstruction with operators and algorithms of MIRTorch, called as solve(y, A).

    ``y`` are the whitened samples √ψ Ψ^{-1/2} y, (coil, k1, k0) or (coil, sample) of a trajectory, ψ the mean coil
    variance; ``A`` is the `mirtorch.linear.Sense` of coil maps whitened alike, or 1/√N times a `NuSense`, whose own
    "ortho" is not unitary: both keep the scale of the scan. Conjugate gradients of MIRTorch stop at an absolute squared
    residual unless they are given ``rtol``.

    Parameters
    ----------
    solve
        (y, A) → image (y, x).
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the ESPIRiT
        estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        On `bind`, if MIRTorch cannot be imported or the scan is more than one image; of an image, if it is none.
    """

    solve: Callable[[Tensor, Any], Tensor] = field(repr=False)
    differentiate_coil_maps: bool = True

    def bind(self, acquisition: Acquisition) -> BoundMirtorch:
        """Return kspace (coil, k1, k0) or (coil, *samples) → image (y, x)."""
        check_single(acquisition)
        package_of_host("mirtorch.linear", "mirtorch")
        return BoundMirtorch(self, acquisition, fixed_coil_maps(acquisition, self.differentiate_coil_maps))


@dataclass(frozen=True, eq=False, repr=False)
class BoundMirtorch(Bound):
    """`Mirtorch` of one scan.

    Parameters
    ----------
    maps
        Fixed coil maps, whitened; ``None``: they follow from each k-space.
    """

    method: Mirtorch
    maps: Tensor | None

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of ``solve``, (coil, k1, k0) → (y, x)."""
        scan = self.acquisition
        maps = whitened_coil_maps(scan, kspace) if self.maps is None else self.maps
        y = scan.whiten(kspace)
        if isinstance(scan.sampling, Trajectory):
            y = y.flatten(1)
        return checked_output(self.method.solve(y, operator_of(scan, maps)), scan.spatial_shape)


def operator_of(acquisition: Acquisition, maps: Tensor) -> Any:
    """A of MIRTorch: image (y, x) → samples of the coils."""
    linear, sampling, shape = package_of_host("mirtorch.linear", "mirtorch"), acquisition.sampling, maps.shape[1:]
    if not isinstance(sampling, Trajectory):
        mask = sampling.shared().to(maps.device, maps.real.dtype)
        return linear.Sense(maps, mask, batchmode=False)
    voxels = sampling.coordinates.new_tensor(shape).unsqueeze(-1)
    radians = (2 * math.pi * sampling.coordinates.flatten(1) / voxels).to(maps.device, maps.real.dtype)
    return linear.NuSense(maps, radians, norm=None, batchmode=False) * (1 / math.prod(shape) ** 0.5)
