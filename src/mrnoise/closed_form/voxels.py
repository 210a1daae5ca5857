"""Closed-form noise of CG-SENSE in single voxels, of any sampling, at one solve a voxel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps
from mrnoise.closed_form.averages import uniform_averages
from mrnoise.encoding import encode
from mrnoise.errors import InputError
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.protocol import Reconstruction

# Relative residual of x over the relative error of σ that it leaves (root mean square over voxels): 6 of radial and
# spiral scans, more where iterations are few.
RESIDUAL = 5.0


def cg_sense_voxel_variance(
    reconstruction: Reconstruction, acquisition: Acquisition, error: float = 1e-3
) -> Callable[[Tensor], Tensor] | None:
    """σ² of the converged CG-SENSE image in single voxels.

    With x = (H + λ)⁻¹ e_i, e_i the image that is one in voxel i and zero elsewhere, H = ψ AᴴΨ⁻¹A, ψ the mean coil
    variance,

        σ_i² = ψ [(H+λ)⁻¹ H (H+λ)⁻¹]_ii = ψ (x_i - λ ‖x‖²).

    Conjugate gradients from zero are Gauss quadrature of its first term (Golub and Meurant 1997,
    doi:10.1007/BF02510247): it converges before x does.

    Parameters
    ----------
    reconstruction
        Any; `CgSense` with λ > 0 and coil maps that do not follow the noise has this form.
    acquisition
        One image.
    error
        Relative error of σ, root mean square over voxels, that the iterations may leave.

    Returns
    -------
    Callable
        Voxels (B, dims), their places in the image, to σ² (B,), float64. ``None`` where the form does not hold.

    Examples
    --------
    >>> from mrnoise.estimators import exact
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.sampling import poisson_disc
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=poisson_disc((16, 12), 2, calibration=4))
    >>> variance = cg_sense_voxel_variance(CgSense(1e-2), scan)
    >>> (operator,) = linearize(CgSense(1e-2), scan)
    >>> ratio = variance(torch.tensor([[8, 6]])) / exact(operator).variance[8, 6]
    >>> round(float(ratio), 2)
    1.0
    """
    if type(reconstruction) is not CgSense or reconstruction.iterations is not None:
        return None
    if reconstruction.regularization == 0 or acquisition.batch_shape:
        return None
    maps = fixed_coil_maps(acquisition, reconstruction.differentiate_coil_maps)
    try:
        repeats = float(uniform_averages(acquisition))
    except InputError:
        return None
    if maps is None:
        return None
    weight, scale = reconstruction.regularization, acquisition.noise_covariance.mean_variance / repeats
    encoding = encode(acquisition, maps, tolerance=RESIDUAL * error, prepared_weight=weight)

    def variance(voxels: Tensor) -> Tensor:
        which = (torch.arange(len(voxels), device=maps.device), *voxels.to(maps.device).unbind(1))
        units = maps.new_zeros(len(voxels), *encoding.image_shape)
        units[which] = 1
        x = encoding.solve(units, weight)
        square = torch.view_as_real(x).double().square().flatten(1).sum(1)
        return scale * (x[which].real.double() - weight * square)

    return variance
