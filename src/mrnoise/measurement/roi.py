"""Exact error bars of regions of interest: mean, difference, contrast-to-noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.linearization.checks import refuse
from mrnoise.measurement.place import misfit, operators_over
from mrnoise.quantiles import normal
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap


@dataclass(frozen=True)
class Measurement:
    """A number read from the image and its standard deviation from scan to scan.

    Parameters
    ----------
    value
        Σ_i w_i |x_i|, in image units.
    std
        Its standard deviation, to first order in the noise, all correlations between voxels included.

    Examples
    --------
    >>> signal = Measurement(value=12.0, std=0.5)
    >>> signal.ratio, tuple(round(bound, 2) for bound in signal.interval(0.95))
    (24.0, (11.02, 12.98))
    """

    value: float
    std: float

    @property
    def ratio(self) -> float:
        """Value / std: the SNR of a mean, the contrast-to-noise ratio of a difference of means."""
        return self.value / self.std if self.std > 0 else float("nan")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Normal confidence interval of the noise-free value."""
        if not 0 < level < 1:
            raise InputError(
                "invalid confidence level",
                expected="a number between 0 and 1",
                received=str(level),
                remedy="Use 0.95 for the 95 % interval.",
            )
        half = normal(0.5 + 0.5 * level) * self.std
        return self.value - half, self.value + half


def roi_std(reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, weights: Tensor) -> float:
    """Standard deviation of Σ_i w_i |x_i|, to first order and without sampling.

    var = ½ ‖Lᵀ (w x/|x|)‖²: one backward pass a slice, all correlations between voxels included.

    Parameters
    ----------
    reconstruction
        As for `mrnoise.noise_map`.
    acquisition
        The scan.
    weights
        Image-shaped. Bool: the mean over the voxels that are True. Real: any linear measurement, e.g.
        1/n inside one region and -1/m inside another for their difference.

    Returns
    -------
    float
        In image units.

    Raises
    ------
    InputError
        If the weights do not fit the image or are all zero, or the adjoint fails the preflight.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> roi = torch.zeros(16, 12, dtype=torch.bool)
    >>> roi[6:10, 4:8] = True
    >>> round(roi_std(CgSense(1e-3), scan, roi), 4)
    0.0079
    """
    return weighted_sums(reconstruction, acquisition, [torch.as_tensor(weights)])[0].std


def roi_mean(reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, roi: Tensor) -> Measurement:
    """Mean of |x| over a region, with its standard deviation by one backward pass a slice.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`.
    roi
        Bool, image-shaped.

    Returns
    -------
    Measurement
        In image units.

    Raises
    ------
    InputError
        As `roi_std`, or if the region is not bool.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi = torch.zeros(16, 12, dtype=torch.bool)
    >>> roi[6:10, 4:8] = True
    >>> mean = roi_mean(CgSense(1e-3), simulate((16, 12), 4, snr=20.0), roi)
    >>> print(f"{mean.value:.3f} ± {mean.std:.3f}")
    0.558 ± 0.005
    """
    return weighted_sums(reconstruction, acquisition, [bool_region(roi)])[0]


def roi_difference(
    reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, roi: Tensor, background: Tensor
) -> Measurement:
    """Difference of the means of |x| over two regions, with its standard deviation by one backward pass a slice.

    Its ``ratio`` is the contrast-to-noise ratio of the two means,

        CNR = (m_roi - m_background) / σ(m_roi - m_background),

    which says how surely they differ: it grows with the size of the regions and counts the noise that they
    share. The CNR of single voxels is `contrast_to_noise`.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`.
    roi, background
        Bool, image-shaped.

    Returns
    -------
    Measurement
        Mean over ``roi`` minus that over ``background``, image units.

    Raises
    ------
    InputError
        As `roi_mean`.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi, background = torch.zeros(2, 16, 12, dtype=torch.bool)
    >>> roi[3:6, 4:8], background[7:9, 5:7] = True, True
    >>> contrast = roi_difference(CgSense(1e-3), simulate((16, 12), 4, snr=20.0), roi, background)
    >>> print(f"{contrast.value:.3f} ± {contrast.std:.3f}, CNR {contrast.ratio:.1f}")
    -0.087 ± 0.010, CNR -8.4
    """
    return weighted_sums(reconstruction, acquisition, [difference_weights(roi, background)])[0]


def difference_weights(roi: Tensor, background: Tensor) -> Tensor:
    """1/n inside one region minus 1/m inside the other."""
    first, second = bool_region(roi), bool_region(background)
    if first.shape != second.shape:
        raise misfit(tuple(first.shape), second.shape)
    return first.double() / first.sum() - second.double() / second.sum()


def contrast_to_noise(noise_map: NoiseMap, roi: Tensor, background: Tensor) -> float:
    """Classical contrast-to-noise ratio of single voxels.

    CNR = |m_roi - m_background| / σ with the means m of |x| and σ² = ½ (mean of σ_m² over the one + mean over the
    other region), σ_m the `NoiseMap.magnitude_std` of a voxel. It does not depend on the size of the regions; that
    of their means is `roi_difference`.

    Parameters
    ----------
    noise_map
        Image and noise.
    roi, background
        Bool, image-shaped.

    Returns
    -------
    float
        A pure number, at least 0.

    Raises
    ------
    InputError
        If a region does not fit the image, is empty or not bool.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi, background = torch.zeros(2, 16, 12, dtype=torch.bool)
    >>> roi[3:6, 4:8], background[7:9, 5:7] = True, True
    >>> nm = noise_map(CgSense(1e-3), simulate((16, 12), 4, snr=20.0), method="exact")
    >>> round(contrast_to_noise(nm, roi, background), 1)
    5.1
    """
    magnitude, variance = noise_map.image.abs().double(), noise_map.magnitude_std.square()
    regions = [bool_region(roi), bool_region(background)]
    for region in regions:
        if region.shape != magnitude.shape:
            raise misfit(tuple(magnitude.shape), region.shape)
    first, second = (magnitude[region].mean() for region in regions)
    sigma = torch.stack([variance[region].mean() for region in regions]).mean().sqrt()
    return float((first - second).abs() / sigma)


def weighted_sums(
    reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition, weights: Sequence[Tensor]
) -> list[Measurement]:
    """Σ_i w_i |x_i| for several image-shaped w, bool for a mean, from one linearisation.

    Raises
    ------
    InputError
        As `roi_std`.
    """
    for other in weights[1:]:
        if other.shape != weights[0].shape:
            raise misfit(tuple(weights[0].shape), other.shape)
    stacked = torch.stack([w.double() / w.sum().clamp_min(1) if w.dtype == torch.bool else w for w in weights])
    values = torch.zeros(len(stacked), dtype=torch.float64, device="cpu")
    variances = torch.zeros_like(values)
    for _, operator, pieces in operators_over(reconstruction, acquisition, stacked):
        if operator.preflight.vjp_mode is None:
            raise refuse(
                operator.preflight,
                "adjoint",
                otherwise="take the spread of the measurement over replicas (mrnoise.linearization.linearize)",
            )
        values += (pieces.double() * operator.value.abs().double()).flatten(1).sum(1).cpu()
        pulled = operator.adjoint((pieces * operator.phase).to(operator.image_dtype))
        variances += 0.5 * pulled.abs().double().square().flatten(1).sum(1).cpu()
    return [Measurement(float(v), float(s)) for v, s in zip(values, variances.sqrt(), strict=True)]


def bool_region(roi: Tensor) -> Tensor:
    """The region itself, if it is a bool mask with at least one voxel."""
    region = torch.as_tensor(roi)
    if region.dtype != torch.bool or not bool(region.any()):
        raise InputError(
            "invalid region of interest",
            expected="a bool mask with at least one True voxel",
            received=f"{region.dtype}, {int((region != 0).sum())} non-zero voxels",
            remedy="Mark at least one voxel; for weighted measurements there is roi_std.",
        )
    return region
