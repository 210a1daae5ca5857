"""Ratios of noise maps: the g-factor, the gain in SNR, and how far two maps agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.result.noise_map import NoiseMap


@dataclass(frozen=True, eq=False)
class GFactor:
    """Voxel-wise g with its standard error relative to g.

    Parameters
    ----------
    value
        g, NaN where the reference has no noise.
    relative_error
        Sampling errors of both maps in quadrature.
    acceleration
        The R that was divided out.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> full = simulate((16, 12), 4)
    >>> half = full.undersample(equispaced((16, 12), 2))
    >>> maps = [noise_map(Sense(), scan, method="sketch", n_samples=50) for scan in (half, full)]
    >>> g = g_factor(*maps, acceleration=2)
    >>> round(float(g.value.median()), 1), round(float(g.relative_error.median()), 2)
    (1.7, 0.1)
    """

    value: Tensor
    relative_error: Tensor
    acceleration: float


def g_factor(accelerated: NoiseMap, reference: NoiseMap, acceleration: float) -> GFactor:
    """G = σ_accelerated / (√R σ_reference).

    Below 1 is possible for regularised and learned reconstructions.

    Parameters
    ----------
    accelerated, reference
        Maps of the same image grid; the reference fully sampled.
    acceleration
        R, the true acceleration of the first relative to the second: the quotient of their own, see C22 of the
        conventions.

    Returns
    -------
    GFactor
        Image-shaped, a pure number.

    Raises
    ------
    InputError
        If the maps differ in shape or R is below 1.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import random_1d
    >>> from mrnoise.simulation import simulate
    >>> full = simulate((16, 12), 4)
    >>> half = full.undersample(random_1d((16, 12), 2, calibration=4))
    >>> maps = [noise_map(CgSense(1e-2), scan, method="closed_form") for scan in (half, full)]
    >>> g = g_factor(*maps, acceleration=half.acceleration)
    >>> g.acceleration, round(float(g.value[8, 6]), 2)
    (2.0, 1.31)
    """
    _check_same_shape(accelerated.std, reference.std)
    if not 1 <= acceleration < math.inf:
        raise InputError(
            "invalid acceleration",
            expected="a finite R ≥ 1, all samples over acquired samples",
            received=str(acceleration),
            remedy="Use acquisition.acceleration of the accelerated scan.",
        )
    sigma = reference.std
    value = torch.where(sigma > 0, accelerated.std / (acceleration**0.5 * sigma), torch.nan)
    error = (accelerated.relative_error.square() + reference.relative_error.square()).sqrt()
    return GFactor(value, error, float(acceleration))


def snr_ratio(first: NoiseMap, second: NoiseMap) -> Tensor:
    """SNR of the second map over that of the first, free of the intensity of either; NaN where either has none.

    Parameters
    ----------
    first, second
        Maps of the same image grid.

    Returns
    -------
    Tensor
        Image-shaped, a pure number.

    Raises
    ------
    InputError
        If the maps differ in shape.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> low, high = (noise_map(CgSense(1e-3), head.with_snr(snr).acquire(), n_samples=50) for snr in (20, 40))
    >>> round(float(snr_ratio(low, high)[head.foreground].median()), 1)
    2.0
    """
    _check_same_shape(second.std, first.std)
    ratio = second.snr / first.snr
    return torch.where(ratio.isfinite(), ratio, torch.nan)


@dataclass(frozen=True)
class Comparison:
    """How far one σ map is from another inside the object.

    Parameters
    ----------
    nrmse
        Mean-normalised: rms(σ_a - σ_b) / mean(σ_b) inside the mask.
    floor
        What sampling alone explains: the stated relative errors of both maps in quadrature, root mean square
        inside the mask. For sketch and replicas this is √((1+κ²)(1/4S + 1/4N)).
    paper_nrmse
        rms(σ_a - σ_b) / max(σ_b) over all pixels (Dalmaz et al. 2025).
    correlation
        Pearson, over all pixels.
    ratio
        mean(σ_a) / mean(σ_b) inside the mask; 1 without bias, √2 after a mistake in the convention.
    voxels
        Number of voxels inside the mask.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> scan = head.acquire()
    >>> sketch = noise_map(CgSense(1e-3), scan, method="sketch", n_samples=100)
    >>> truth = noise_map(CgSense(1e-3), scan, method="closed_form")
    >>> agreement = compare(sketch, truth, head.foreground)
    >>> round(agreement.nrmse, 3), round(agreement.floor, 3)  # what sampling explains
    (0.053, 0.05)
    """

    nrmse: float
    floor: float
    paper_nrmse: float
    correlation: float
    ratio: float
    voxels: int


def compare(a: NoiseMap, b: NoiseMap, mask: Tensor) -> Comparison:
    """Compare the total σ of two maps; ``b`` is the reference.

    Parameters
    ----------
    a, b
        Maps of the same image grid.
    mask
        Bool, image-shaped: the object.

    Returns
    -------
    Comparison
        Figures relative to σ of ``b``.

    Raises
    ------
    InputError
        If the shapes differ, or the mask is empty or does not fit.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> scan = head.acquire()
    >>> a = noise_map(CgSense(1e-3), scan, method="monte_carlo", n_samples=200)
    >>> b = noise_map(CgSense(1e-3), scan, method="exact")
    >>> found = compare(a, b, head.foreground)
    >>> round(found.ratio, 2), found.voxels
    (1.0, 104)
    """
    sa, sb = a.std, b.std
    _check_same_shape(sa, sb)
    if mask.shape != sb.shape:
        raise InputError(
            "mask does not fit the maps",
            expected=str(tuple(sb.shape)),
            received=str(tuple(mask.shape)),
            remedy="Draw the mask on the reconstructed image.",
        )
    inside = mask.bool() & torch.isfinite(sa) & torch.isfinite(sb)
    if not bool(inside.any()):
        raise InputError(
            "nothing to compare",
            expected="at least one voxel inside the mask with noise in both maps",
            received="none",
            remedy="Check the mask and that the maps are not empty.",
        )
    difference = sa - sb
    mean = sb[inside].mean()
    error = torch.stack([a.relative_error, b.relative_error]).nan_to_num(0.0)[:, inside]
    everywhere = torch.isfinite(difference)
    pair = torch.stack([sa[everywhere], sb[everywhere]])
    return Comparison(
        nrmse=float(difference[inside].square().mean().sqrt() / mean),
        floor=float(error.square().sum(0).mean().sqrt()),
        paper_nrmse=float(difference[everywhere].square().mean().sqrt() / sb[everywhere].max()),
        correlation=float(torch.corrcoef(pair)[0, 1]),
        ratio=float(sa[inside].mean() / mean),
        voxels=int(inside.sum()),
    )


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise InputError(
            "the two maps differ in shape",
            expected=str(tuple(b.shape)),
            received=str(tuple(a.shape)),
            remedy="Map both on the same image grid.",
        )
