"""How the noise of one voxel goes with that of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.linearization import Images
from mrnoise.linearization.checks import refuse
from mrnoise.measurement.place import operator_at
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap


@dataclass(frozen=True, eq=False)
class NoiseCorrelation:
    """Covariance of the magnitude noise of one voxel with that of all voxels of its image.

    Parameters
    ----------
    voxel
        Its index in the whole image, and in ``covariance`` by its last axes.
    covariance
        cov(|x_j|, |x_i|) for every j, shaped as the image (as the slice that holds the voxel, where slices are
        reconstructed one by one), image units squared, float64. Exact.
    coefficient
        covariance / (σ_i σ_j), between -1 and 1 and 1 at the voxel itself; ``None`` without a noise map. NaN where
        a voxel has no noise.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> nm = noise_map(CgSense(1e-3), scan, method="exact")
    >>> found = noise_correlation(CgSense(1e-3), scan, (8, 6), nm)
    >>> round(float(found.coefficient[8, 6]), 3), round(float(found.coefficient[8, 7]), 3)
    (1.0, 0.0)
    """

    voxel: tuple[int, ...]
    covariance: Tensor
    coefficient: Tensor | None


def noise_correlation(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    voxel: Sequence[int],
    noise_map: NoiseMap | None = None,
) -> NoiseCorrelation:
    """Correlation of the noise around a voxel, by one backward and one forward derivative.

    The noise of |x_j| is Re(ū_j δx_j) with the phase u = x/|x| of each voxel. Its covariance with that of voxel i is
    a column of ½ Re(Ū L Lᵀ U),

        cov_ji = ½ Re(ū_j [L Lᵀ (u_i e_i)]_j).

    It describes the magnitude image whether or not the complex noise is proper.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`.
    voxel
        Index into the image, all axes: (y, x), (z, y, x), (slice, y, x).
    noise_map
        Map of the same reconstruction and scan, whose ``magnitude_std`` turns covariance into correlation. Its
        sampling error is that of σ_j; σ_i is exact.

    Returns
    -------
    NoiseCorrelation
        Covariance in squared image units and, with a map, the coefficient.

    Raises
    ------
    InputError
        If there is no such voxel, the map is of another image, or a derivative fails the preflight.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> nm = noise_map(Sense(), scan, method="exact")
    >>> found = noise_correlation(Sense(), scan, (10, 6), nm)
    >>> alias = round(float(found.coefficient[2, 6]), 2)  # 16 / R = 8 rows away
    >>> alias, round(float(found.coefficient[9, 6]), 2)
    (-0.15, 0.0)
    """
    operator, index = operator_at(reconstruction, acquisition, voxel)
    if operator.preflight.vjp_mode is None:
        raise refuse(operator.preflight, "adjoint", otherwise="take the autocorrelation of noise_power_spectrum")
    unit = torch.zeros_like(operator.value)
    unit[index] = operator.phase[index]
    column = operator.apply(operator.adjoint(unit[None]))[0]
    covariance = 0.5 * (operator.phase.conj() * column).real.double().cpu()
    where = tuple(int(i) for i in voxel)
    if noise_map is None:
        return NoiseCorrelation(where, covariance, None)
    images = Images.of(reconstruction, acquisition, planewise=False)
    if noise_map.image.shape != (*images.batch_shape, *covariance.shape[len(images.within) :]):
        outer = len(images.apart)
        raise InputError(
            "the noise map is of another image",
            expected=f"an image {operator.image_shape}" + (f" for each of {outer} leading axes" if outer else ""),
            received=str(tuple(noise_map.image.shape)),
            remedy="Map the same scan with the same reconstruction.",
        )
    place = images.place(where)
    assert place is not None
    sigma = images.split(noise_map.magnitude_std)[place[0]].clone()
    sigma[index] = covariance[index].clamp_min(0).sqrt()
    scale = sigma * sigma[index]
    coefficient = torch.where(scale > 0, covariance / scale, torch.nan)
    # The sampling error of σ_j alone can carry it beyond ±1.
    return NoiseCorrelation(where, covariance, coefficient.clamp(-1, 1))
