"""A map from few samples, smoothed as far as that makes it better."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.sampling_error import EmpiricalError
from mrnoise.foreground import foreground
from mrnoise.result.noise_map import NoiseMap

# Above this a map needs no preview: σ is known to 9 % (κ = 0) to 13 % (κ = 1) in every voxel.
MOST_SAMPLES = 30
# Of the Gaussian kernel, standard deviation in voxels.
WIDTHS = (0.0, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
# Each by itself, and the wide ones with what they leave smoothed again.
KERNELS = (*((width, False) for width in WIDTHS), *((width, True) for width in WIDTHS if width >= 2))
# Errors are relative to the variance smoothed this far; its own noise would favour voxels that came out low.
REFERENCE_WIDTH = 1.0

Smooth = Callable[..., np.ndarray]


def preview(noise_map: NoiseMap) -> NoiseMap:
    """Smooth a map from few samples inside the object, by the width with the smallest estimated risk.

    Ṽ = H V̂ with H = G, a normalised Gaussian convolution over the voxels of the object, or, where that has less risk,
    2G - G²: what G leaves is smoothed too, so that less of curvature and of edges is lost and G may be wider (twicing:
    Tukey, Exploratory Data Analysis, 1977). H is linear in V̂, which is unbiased: Ṽ is an unbiased estimate of the local
    mean of V, and needs no correction as the mean of a logarithm would. Its mean-square error is estimated, whatever
    the distribution of the samples and the correlation of voxels, by

        R(H) = ‖(I-H) V̂‖² - ‖(I-H) D‖² + ‖H D‖²,

    each voxel relative to V̂ smoothed by one voxel, with D `Estimate.error_sample`, a realisation of the sampling
    error. The first two terms are the product of the residuals of the even and of the odd samples, as in
    cross-validation. (Stein's estimate, doi:10.1214/aos/1176345632, with the variance of each voxel in place of D
    takes errors for white. Those of a smooth reconstruction are not.) With control variates D is the error that these
    leave, and the width that of a smaller error.

    Parameters
    ----------
    noise_map
        By ``sketch`` or ``monte_carlo``, with control variates or without, in single precision, from 2 to 30 samples.

    Returns
    -------
    NoiseMap
        Variance and pseudo-variance smoothed, the latter relative to the phase of each voxel; outside the object they
        are as before. No voxel has an error bar any more (NaN). ``provenance.preview`` has the width of G in voxels
        (standard deviation), whether it was applied twice and, inside the object, the predicted root-mean-square
        relative error of σ with and without smoothing and their ratio, the gain. Where no width is predicted to help,
        the width is 0 and the map unchanged.

    Raises
    ------
    InputError
        If the map is of another kind or from more samples.

    Notes
    -----
    One width, that of the smallest error of the total σ, serves all components and all slices. Slices are smoothed
    in-plane, volumes along three axes. The prediction scatters: by a quarter in an object of 1700 voxels.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((64, 48), 4, mask=equispaced((64, 48), 2))
    >>> record = preview(noise_map(CgSense(1e-3), scan, method="sketch", n_samples=8)).provenance.preview
    >>> record["width_voxels"], round(record["error_without"], 2), round(record["predicted_error"], 2)
    (2.8, 0.17, 0.06)
    """
    check_few(noise_map.n_samples)
    estimate = noise_map.estimate
    if estimate.error_sample is None:
        raise InputError(
            "no preview of this kind of map",
            expected="a map by sketch or monte_carlo in single precision",
            received=noise_map.method + (" in half precision" if noise_map.provenance.half_precision else ""),
            remedy='Map with method="sketch"; lattice and exact have no sampling error to smooth.',
        )
    inside = _inside(noise_map)
    smooth = _smoother(inside, noise_map.spatial_dims)
    variance, error = estimate.variance.numpy(), estimate.error_sample.numpy()
    weight = 1 / smooth(variance, REFERENCE_WIDTH)[inside]

    def mean_square(values: np.ndarray) -> float:
        return float(np.square(weight * values[inside]).mean())

    risks, certain = [], []
    for kernel in KERNELS:
        smoothed, spread = smooth(variance, *kernel), smooth(error, *kernel)
        certain.append(mean_square(spread))
        risks.append(mean_square(variance - smoothed) - mean_square(error - spread) + certain[-1])
    best = int(np.argmin(risks))
    # The squared bias may come out negative. Half of the relative error of σ² is that of σ.
    errors = [0.5 * max(risk, spread) ** 0.5 for risk, spread in zip(risks, certain, strict=True)]
    record = {
        "width_voxels": KERNELS[best][0],
        "twice": KERNELS[best][1],
        "predicted_error": errors[best],
        "error_without": errors[0],
        "predicted_gain": errors[0] / errors[best],
    }
    provenance = dataclasses.replace(noise_map.provenance, preview=record)
    if best == 0:
        return dataclasses.replace(noise_map, provenance=provenance)
    phase = torch.sgn(noise_map.image).to(torch.complex128)
    along = torch.where(phase == 0, 1.0, phase).square()
    pseudo = smooth((estimate.pseudo_variance * along.conj()).numpy(), *KERNELS[best])
    smoothed = smooth(variance, *KERNELS[best])
    # 2G - G² has negative weights.
    smoothed = np.where(smoothed > 0, smoothed, smooth(variance, KERNELS[best][0]))
    unknown = torch.full_like(estimate.variance, torch.nan)
    return dataclasses.replace(
        noise_map,
        estimate=dataclasses.replace(
            estimate,
            variance=torch.from_numpy(smoothed),
            pseudo_variance=torch.from_numpy(pseudo) * along,
            error=EmpiricalError(unknown, unknown, unknown, unknown, torch.zeros(())),
            certified_error=None,
            error_sample=None,
        ),
        provenance=provenance,
    )


def sentence(record: Mapping[str, Any]) -> str:
    """What ``provenance.preview`` says, in words."""
    before = f"{record['error_without']:.1%}"
    if record["width_voxels"] == 0:
        return f"not smoothed, since no width is predicted to make the σ of this map better than {before}"
    kernel = f"a Gaussian of {record['width_voxels']:g} voxels (standard deviation)"
    kernel += ", what that leaves too," if record.get("twice") else ""
    return (
        f"σ is smoothed inside the object by {kernel} and predicted to be wrong by {record['predicted_error']:.1%} "
        f"instead of {before} (root mean square); there is no error bar for a voxel"
    )


def check_few(n_samples: int | None) -> None:
    """Raise unless a map from so many samples has use for a preview."""
    if n_samples is None or not 2 <= n_samples <= MOST_SAMPLES:
        raise InputError(
            "no preview from this number of samples",
            expected=f"2 ≤ S ≤ {MOST_SAMPLES} samples",
            received="no number" if n_samples is None else str(n_samples),
            remedy="Give n_samples=16 (--samples 16); with more samples use the map as it is.",
        )


def _inside(noise_map: NoiseMap) -> np.ndarray:
    """Voxels of the object that have noise; all that have where the image shows no object."""
    noisy: Tensor = noise_map.variance > 0  # False for NaN, in slices that were not reached
    inside = foreground(noise_map.image) & noisy
    return (inside if bool(inside.any()) else noisy).numpy()


def _smoother(inside: np.ndarray, spatial_dims: int) -> Smooth:
    """(values, width, twice) → G v, or (2G - G²) v, over the voxels ``inside``; the others keep their values."""
    batch = (0.0,) * (inside.ndim - spatial_dims)

    def smooth(values: np.ndarray, width: float, twice: bool = False) -> np.ndarray:
        if width == 0:
            return values
        if twice:
            once = smooth(values, width)
            return np.asarray(once + smooth(values - once, width))
        widths = (*batch, *[width] * spatial_dims)
        total = ndimage.gaussian_filter(np.where(inside, values, 0), widths, mode="constant")
        share = ndimage.gaussian_filter(inside.astype(float), widths, mode="constant")
        mean: np.ndarray = np.divide(total, share, out=values.copy(), where=inside)
        return mean

    return smooth
