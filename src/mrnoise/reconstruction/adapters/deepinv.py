"""Reconstruction networks of deepinv."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import encode
from mrnoise.reconstruction.adapters.common import (
    Adapter,
    BoundAdapter,
    as_channels,
    check_choice,
    check_single,
    checked_output,
    from_channels,
    offset_and_scale,
    package_of_host,
)


@dataclass(frozen=True)
class Deepinv(Adapter):
    """A reconstruction network of deepinv (MoDL, VarNet, ArtifactRemoval, …), called as model(y, physics).

    ``y`` (1, 2, coil, k1, k0) are the whitened samples √ψ Ψ^{-1/2} y and ``physics`` is
    `deepinv.physics.MultiCoilMRI` with the mask, the coil maps whitened alike, and Gaussian noise of standard
    deviation √(ψ/2) in each real channel, ψ the mean coil variance. Its least-squares solvers (MoDL) are
    differentiated through their iterations: the implicit derivative of deepinv has no forward mode.

    Parameters
    ----------
    model
        (y, physics) → image (1, 2, y, x), or (1, 1, y, x) for a real one.
    normalization
        ``"none"``: the network gets the units of the scan. ``"maximum"``: the largest magnitude of Aᴴy is 1.
    differentiate_normalization
        Propagate noise through that maximum (True), or hold it at its value for this scan.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        On `bind`, if deepinv cannot be imported.
    """

    model: Callable[[Tensor, Any], Tensor] = field(repr=False)
    normalization: str = "none"
    differentiate_normalization: bool = True
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        check_choice("normalization", self.normalization, ("maximum", "none"))

    def bind(self, acquisition: Acquisition) -> BoundDeepinv:
        """Return kspace (coil, k1, k0) → image (y, x)."""
        check_single(acquisition)
        deepinv_physics()
        mask = acquisition.mask.to(acquisition.kspace.device, acquisition.kspace.real.dtype)
        maps = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        bound = BoundDeepinv(self, acquisition, mask, maps, None)
        if self.differentiate_normalization:
            return bound
        y = acquisition.whiten(acquisition.kspace)
        return dataclasses.replace(bound, scale=bound.scale_of(y, bound.maps_of(acquisition.kspace)))


@dataclass(frozen=True, eq=False, repr=False)
class BoundDeepinv(BoundAdapter):
    """`Deepinv` of one scan.

    Parameters
    ----------
    mask
        That of the scan, in numbers.
    maps
        Fixed coil maps, whitened; ``None``: they follow from each k-space.
    scale
        What the network's input is divided by, for the measured data; ``None``: that of each k-space.
    """

    method: Deepinv
    mask: Tensor
    maps: Tensor | None
    scale: Tensor | None

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of the network, (coil, k1, k0) → (y, x)."""
        physics, scan = deepinv_physics(), self.acquisition
        y, maps = scan.whiten(kspace), self.maps_of(kspace)
        scale = self.scale_of(y, maps) if self.scale is None else self.scale
        # Built anew each time: networks change the mask and the maps of the physics they are given.
        operator = physics.MultiCoilMRI(
            mask=self.mask,
            coil_maps=maps[None],
            three_d=scan.spatial_dims == 3,
            device=kspace.device,
            noise_model=physics.GaussianNoise((scan.noise_covariance.mean_variance / 2) ** 0.5 / scale),
            implicit_backward_solver=False,
        )
        x = self.network(as_channels(y) / scale, operator)
        return from_channels(checked_output(x, *((1, c, *scan.spatial_shape) for c in (2, 1))) * scale)

    def maps_of(self, kspace: Tensor) -> Tensor:
        """Whitened coil maps, (coil, y, x)."""
        return whitened_coil_maps(self.acquisition, kspace) if self.maps is None else self.maps

    def scale_of(self, y: Tensor, maps: Tensor) -> Tensor:
        """What whitened samples are divided by."""
        return offset_and_scale(as_channels(encode(self.acquisition, maps).adjoint(y)), self.method.normalization)[1]


def deepinv_physics() -> Any:
    """The module `deepinv.physics`."""
    return package_of_host("deepinv.physics", "deepinv")
