"""The result: an image, its voxel-wise noise, and everything read from the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from mrnoise.acquisition.geometry import Geometry
from mrnoise.errors import InputError
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.linearity import Linearity

# name: (unit, definition, which states the convention in words)
QUANTITIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "image": ("image units", "magnitude |x| of the reconstructed image"),
        "variance": ("image units²", "E|δx|², total complex noise variance, real plus imaginary part"),
        "std": ("image units", "√E|δx|², total complex noise standard deviation"),
        "magnitude_std": ("image units", "standard deviation of |x|: noise along the phase of the voxel"),
        "phase_std": (
            "rad",
            "standard deviation of the phase of x: noise across the phase of the voxel / |x|",
        ),
        "real_std": ("image units", "standard deviation of the real part of x"),
        "imaginary_std": ("image units", "standard deviation of the imaginary part of x"),
        "snr": ("1", "|x| / magnitude_std"),
        "relative_error": ("1", "standard error of std / std, from the number of probes"),
        "departure": (
            "1",
            "rms|g(y+n) - g(y) - Jn| / rms|Jn| over a few n: departure of the reconstruction from its derivative; "
            "bounds the relative error of a first-order std",
        ),
        "bias": ("image units", "|E g(y+n) - g(y)|, size of the noise-induced bias, itself known to bias_error"),
        "bias_error": ("image units", "standard error of the complex noise-induced bias"),
        "g_factor": (
            "1",
            "std / (√R · std of the fully sampled reference), R the true acceleration; the reference is the "
            "optimal SENSE combination with the same coils unless the record names another",
        ),
    }
)

# Quantities that carry a confidence interval.
WITH_INTERVAL = ("std", "variance", "magnitude_std", "phase_std", "real_std", "imaginary_std", "snr", "g_factor")


@dataclass(frozen=True, eq=False)
class NoiseMap:
    """Voxel-wise noise of a reconstructed image.

    Parameters
    ----------
    image
        The reconstruction, complex or real, (..., y, x) or (..., z, y, x).
    estimate
        Total and pseudo-variance with their sampling error; see `mrnoise.estimators.Estimate`.
    geometry
        Voxel size and orientation.
    spatial_dims
        2 for slices, 3 for volumes.
    reference_std
        σ of the fully sampled reference, needed for ``g_factor``: the unregularised SENSE image with the same
        coil maps and Ψ, unless the record names another.
    acceleration
        True acceleration R of the scan.
    linearity
        Whether the reconstruction is linear enough for the map; ``None`` where the map is not first-order.
    provenance
        How the map was made: method and why, seed, versions, input hash, preflight, noise source.

    Notes
    -----
    All standard deviations are first-order (linearised) unless the method is ``monte_carlo`` or ``nonlinear``.
    ``magnitude_std`` and ``phase_std`` describe small noise and hold where SNR is above about 3.
    """

    image: Tensor
    estimate: Estimate
    geometry: Geometry = field(default_factory=lambda: Geometry(measured=False))
    spatial_dims: int = 2
    reference_std: Tensor | None = None
    acceleration: float = 1.0
    linearity: Linearity | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    # -- noise -------------------------------------------------------------------------------------------

    @property
    def variance(self) -> Tensor:
        """E|δx|², total complex variance."""
        return self.estimate.variance

    @property
    def std(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def magnitude_std(self) -> Tensor:
        """Standard deviation of |x|, the noise along the phase of each voxel."""
        return self._component("magnitude_std")[0].sqrt()

    @property
    def phase_std(self) -> Tensor:
        """Standard deviation of the phase of x in radians; infinite where x is zero and noisy."""
        return self._component("phase_std")[0].sqrt() / self.image.abs().double()

    @property
    def real_std(self) -> Tensor:
        """Standard deviation of the real part."""
        return self._component("real_std")[0].sqrt()

    @property
    def imaginary_std(self) -> Tensor:
        """Standard deviation of the imaginary part."""
        return self._component("imaginary_std")[0].sqrt()

    @property
    def snr(self) -> Tensor:
        """|x| / magnitude_std (SNR units of Kellman and McVeigh, doi:10.1002/mrm.20713)."""
        sigma = self.magnitude_std
        return torch.where(sigma > 0, self.image.abs().double() / sigma, torch.nan)

    @property
    def relative_error(self) -> Tensor:
        """Standard error of ``std`` relative to ``std``; NaN where one sample cannot tell."""
        return 0.5 * self.estimate.variance_error / self.variance

    @property
    def departure(self) -> Tensor | None:
        """rms|g(y+n) - g(y) - Jn| / rms|Jn|; ``None`` where the map is not first-order."""
        return None if self.linearity is None else self.linearity.departure

    @property
    def bias(self) -> Tensor | None:
        """E g(y+n) - g(y), the noise-induced bias, complex; ``None`` where no replicas were made."""
        return self.estimate.mean

    @property
    def bias_error(self) -> Tensor | None:
        """Standard error of ``bias``, √E|error|²."""
        return self.estimate.mean_error

    @property
    def g_factor(self) -> Tensor | None:
        """σ / (√R σ_reference); ``None`` without a reference."""
        if self.reference_std is None:
            return None
        reference = self.reference_std
        return torch.where(reference > 0, self.std / (self.acceleration**0.5 * reference), torch.nan)

    def quantity(self, name: str) -> Tensor | None:
        """The map called ``name``, one of `QUANTITIES`; image and bias as magnitude."""
        if name not in QUANTITIES:
            raise InputError(
                "unknown quantity",
                expected=f"one of {', '.join(QUANTITIES)}",
                received=name,
                remedy="See CONVENTIONS.md for their definitions.",
            )
        value: Tensor | None = getattr(self, name)
        return value.abs() if name in ("image", "bias") and value is not None else value

    def confidence_interval(self, level: float = 0.95, quantity: str = "std") -> tuple[Tensor, Tensor]:
        """Interval that holds the true noise of a voxel with probability ``level``.

        ν V̂ / χ²_ν with the effective degrees of freedom ν = 2 (V̂ / s.e.)², which is exact for Gaussian
        samples of proper noise (ν = 2S) and of real noise (ν = S).

        Parameters
        ----------
        level
            Between 0 and 1.
        quantity
            One of `WITH_INTERVAL`.

        Returns
        -------
        lower, upper
            Image-shaped. They describe the sampling error of the estimate, not that of Ψ.
        """
        if not 0 < level < 1:
            raise InputError(
                "invalid confidence level",
                expected="a number between 0 and 1",
                received=str(level),
                remedy="Use 0.95 for the 95 % interval.",
            )
        if quantity not in WITH_INTERVAL:
            raise InputError(
                "no interval for this quantity",
                expected=f"one of {', '.join(WITH_INTERVAL)}",
                received=quantity,
                remedy="Take the interval of std or magnitude_std.",
            )
        base = {"snr": "magnitude_std", "g_factor": "std"}.get(quantity, quantity)
        value = self.quantity(quantity)
        if base in ("std", "variance"):
            variance, error = self.variance, self.estimate.variance_error
        else:
            variance, error = self._component(base)
        if value is None:
            raise InputError(
                "no g-factor in this map",
                expected="a map of an acquisition with coil maps",
                received="none",
                remedy="Give the acquisition coil maps, e.g. from mrnoise.acquisition.espirit.",
            )
        low, high = _chi_square_factors(variance, error, level)
        if quantity == "variance":
            return value * low, value * high
        if quantity == "snr":
            return value / high.sqrt(), value / low.sqrt()
        return value * low.sqrt(), value * high.sqrt()

    # -- record ------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """Estimator that made the map."""
        return self.estimate.method

    @property
    def n_samples(self) -> int:
        """Probes or replicas averaged; the smallest over slices."""
        return self.estimate.n_samples

    @property
    def n_products(self) -> int:
        """Reconstructions, jvps and vjps evaluated."""
        return self.estimate.n_products

    def save(self, path: str | PathLike[str]) -> None:
        """Write the map; the suffix chooses the format: .nii, .nii.gz, .h5, .png, .html."""
        from mrnoise.io import save

        save(self, path)

    def _component(self, name: str) -> tuple[Tensor, Tensor]:
        image = self.image
        unit = torch.complex(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))
        if name in ("magnitude_std", "phase_std"):
            z = image.to(torch.complex128)
            size = z.abs()
            direction = torch.where(size > 0, z / size.clamp_min(1e-300), unit)
        else:
            direction = unit.expand(image.shape)
        if name in ("phase_std", "imaginary_std"):
            direction = direction * 1j
        return self.estimate.component(direction)


def _chi_square_factors(variance: Tensor, error: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Factors on a variance estimate that bound the true variance."""
    v, e = variance.cpu().numpy(), error.cpu().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        nu = 2 * np.square(v / e)
        low = nu / stats.chi2.ppf(0.5 + 0.5 * level, nu)
        high = nu / stats.chi2.ppf(0.5 - 0.5 * level, nu)
    certain = e == 0
    low[certain] = high[certain] = 1.0
    return torch.from_numpy(low), torch.from_numpy(high)
