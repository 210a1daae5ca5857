"""The forward model of a scan."""

from __future__ import annotations

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding.cartesian import Cartesian
from mrnoise.encoding.non_cartesian import NonCartesian
from mrnoise.encoding.normal_equations import TOLERANCE
from mrnoise.encoding.protocol import Encoding
from mrnoise.sampling.trajectory import Trajectory


def encode(
    acquisition: Acquisition,
    maps: Tensor,
    *,
    tolerance: float = TOLERANCE,
    iterations: int | None = None,
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
    tolerance
        Relative residual at which the iterations of `Encoding.solve` stop.
    iterations
        Number after which they stop instead; ``None``: when they have converged.
    prepared_weight
        λ of the `Encoding.solve` that will be called often: what can be computed once, is computed now.

    Returns
    -------
    Encoding
        From images (..., y, x) or (..., z, y, x) to samples shaped as the k-space of the scan.

    Raises
    ------
    InputError
        If the maps are not of the image of the scan.

    Examples
    --------
    >>> from mrnoise.linearization import image_of
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> a = encode(scan, scan.whiten_maps(scan.coil_maps))
    >>> x = a.solve(a.adjoint(scan.whiten(scan.kspace)), 1e-2)
    >>> difference = x - image_of(CgSense(1e-2), scan)
    >>> a.image_shape, a.sample_shape, bool(difference.norm() < 1e-4 * x.norm())
    ((16, 12), (4, 16, 12), True)
    """
    if isinstance(acquisition.sampling, Trajectory):
        return NonCartesian(maps, acquisition.sampling, tolerance, iterations, prepared_weight)
    grid = acquisition.sampling
    return Cartesian(maps, grid.mask, grid.spatial_dims, grid.extent, tolerance, iterations, prepared_weight)
