"""The forward model of a scan."""

from __future__ import annotations

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding.cartesian import MAX_ITERATIONS, TOLERANCE, Cartesian
from mrnoise.encoding.protocol import Encoding


def encode(
    acquisition: Acquisition,
    maps: Tensor,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    prepared_weight: float | None = None,
) -> Encoding:
    """A of the sampling of a scan and these coil maps.

    Parameters
    ----------
    acquisition
        Says where samples lie.
    maps
        Coil maps (..., coil, *spatial): whitened, Ψ^{-1/2} S √ψ, for samples that are whitened by
        `Acquisition.whiten`; those of the coils, S, for samples in the units of k-space. A is differentiable in them.
    tolerance, max_iterations
        When the iterations of `Encoding.solve` stop.
    prepared_weight
        λ of the `Encoding.solve` that will be called often: what can be computed once, is computed now.

    Raises
    ------
    InputError
        If the maps do not lie on the grid of the scan.
    """
    return Cartesian(maps, acquisition.mask, acquisition.spatial_dims, tolerance, max_iterations, prepared_weight)
