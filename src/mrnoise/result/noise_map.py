"""The result: an image, its voxel-wise noise, and everything read from the two."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.errors import InputError
from mrnoise.estimators.choice.linearity import Linearity
from mrnoise.estimators.estimate import Estimate
from mrnoise.quantiles import chi_square, chi_square_above, student
from mrnoise.result.provenance import Provenance
from mrnoise.result.quantities import Quantity, quantities

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


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
    axes
        Names of the axes of the image before its spatial ones.
    provenance
        How the map was made: why by this method, seed, versions, input hash, preflight, noise source.

    Notes
    -----
    All standard deviations are first-order (linearised) unless the method is ``monte_carlo`` or ``nonlinear``.
    ``magnitude_std`` and ``phase_std`` describe small noise and hold where SNR is above about 3.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2), snr=20.0)
    >>> nm = noise_map(CgSense(1e-3), scan, method="sketch", n_samples=100)
    >>> voxel = (8, 6)
    >>> round(float(nm.snr[voxel]), 1), round(float(nm.g_factor[voxel]), 2), round(float(nm.relative_error[voxel]), 3)
    (7.2, 2.03, 0.051)
    >>> low, high = nm.confidence_interval(0.95)
    >>> bool(low[voxel] < nm.std[voxel] < high[voxel])
    True
    """

    image: Tensor
    estimate: Estimate
    geometry: Geometry = field(default_factory=lambda: Geometry(measured=False))
    spatial_dims: int = 2
    reference_std: Tensor | None = None
    acceleration: float = 1.0
    linearity: Linearity | None = None
    axes: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def image_grid(self) -> ImageGrid:
        """Which of its axes is which, and where its voxels lie."""
        return ImageGrid(tuple(self.image.shape), self.spatial_dims, self.axes, self.geometry)

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
        """The map called ``name``, one of `mrnoise.result.quantities.QUANTITIES`; image and bias as magnitude."""
        return self._quantity(name).value(self)

    def _quantity(self, name: str) -> Quantity:
        known = quantities()
        if name not in known:
            raise InputError(
                "unknown quantity",
                expected=f"one of {', '.join(known)}",
                received=name,
                remedy="See CONVENTIONS.md for their definitions.",
            )
        return known[name]

    def confidence_interval(
        self, level: float = 0.95, quantity: str = "std", *, simultaneous: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Interval that holds the true noise of a voxel with probability ``level``.

        ν V̂ / χ²_ν with the effective degrees of freedom ν of the estimate. For S Gaussian samples ν = S for
        ``magnitude_std``, ``snr`` and every other single component, which is exact, and 2S / (1+κ̂²) for the total of
        both, which covers 94 to 97 % at ``level`` 0.95 from S = 8 on, whatever the impropriety (docs/measured.md).
        Those of ``probe`` follow from the spread of its samples and cover 93 to 97 % of the total from S = 8 on; of a
        component of improper noise it takes more samples.

        Parameters
        ----------
        level
            Between 0 and 1.
        quantity
            One that has a component in `mrnoise.result.quantities.QUANTITIES`.
        simultaneous
            A region, bool, image-shaped: with probability ``level`` the intervals hold for all of its voxels at
            once. Bonferroni: each is at the level 1 - (1 - ``level``) / n for n voxels, conservative where noise is
            correlated. Not for ``probe`` and ``spots``, whose samples say nothing of tails that far out.

        Returns
        -------
        lower, upper
            Image-shaped. They describe the sampling error of the estimate, not that of Ψ.

        Raises
        ------
        InputError
            If the level, the quantity or the region is invalid, or a band is asked of ``probe`` or ``spots``.
        """
        _check_level(level)
        if simultaneous is not None:
            if not self.estimate.error.simultaneous:
                raise InputError(
                    "no simultaneous intervals for this method",
                    expected="a map by sketch, monte_carlo (also with control variates), lattice, exact or closed_form",
                    received=self.method,
                    remedy='Map with method="sketch": the spread of a few samples says nothing of tails that far out.',
                )
            level = 1 - (1 - level) / _count(simultaneous, self.variance)
        value = self.quantity(quantity)
        if value is None:
            raise InputError(
                "no g-factor in this map",
                expected="a map of an acquisition with coil maps",
                received="none",
                remedy="Give the acquisition coil maps, e.g. from mrnoise.calibration.espirit.",
            )
        low, high = _chi_square_factors(self.effective_degrees_of_freedom(quantity, level), level)
        rule = self._quantity(quantity).rule
        if rule == "squared":
            return value * low, value * high
        if rule == "divided":
            return value / high.sqrt(), value / low.sqrt()
        return value * low.sqrt(), value * high.sqrt()

    def value_interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Interval that holds |x| without noise, of a real image x, with probability ``level``: of a fitted parameter.

        x ± t σ with Student's t of the degrees of freedom that σ is known with, to first order in the noise and without
        bias (see ``linearity`` and ``bias``).

        Parameters
        ----------
        level
            Between 0 and 1.

        Returns
        -------
        lower, upper
            Image-shaped.

        Raises
        ------
        InputError
            If the level is invalid.

        Examples
        --------
        >>> from mrnoise import noise_map
        >>> from mrnoise.reconstruction import Sense
        >>> from mrnoise.simulation import simulated_head
        >>> head = simulated_head((16, 12), 4, snr=20.0)
        >>> low, high = noise_map(Sense(), head.acquire(), method="exact").value_interval(0.95)
        >>> covered = (low < head.image.abs()) & (head.image.abs() < high)
        >>> round(float(covered[head.foreground].double().mean()), 2)  # of 75 voxels
        0.97
        """
        _check_level(level)
        value = (self.image.abs() if self.image.is_complex() else self.image).double()
        freedom = self.effective_degrees_of_freedom("magnitude_std", level)
        half = torch.from_numpy(student(0.5 + 0.5 * level, freedom.cpu().numpy())) * self.magnitude_std
        return value - half, value + half

    def effective_degrees_of_freedom(self, quantity: str = "std", level: float = 0.95) -> Tensor:
        """ν of the interval ν V̂ / χ²_ν of a quantity: infinite where it is exact, NaN where nothing is known."""
        component = self._quantity(quantity).component
        if component is None:
            raise InputError(
                "no interval for this quantity",
                expected=f"one of {', '.join(name for name, one in quantities().items() if one.component)}",
                received=quantity,
                remedy="Take the interval of std or magnitude_std.",
            )
        direction = None if component == "std" else self._direction(component)
        return self.estimate.effective_degrees_of_freedom(direction, level)

    # -- derived maps ------------------------------------------------------------------------------------

    def scaled(self, alpha: float) -> NoiseMap:
        """The map for noise ``alpha`` times as strong as that of this one, without another product.

        To first order σ(α) = α σ(1): standard deviations times α, variances, their errors and covariances times α²,
        SNR divided by α; relative errors and g-factor do not change. Whether first order holds was found out for
        one noise level only: the verdict is dropped.

        Parameters
        ----------
        alpha
            Positive; 2 for noise of twice the standard deviation, Ψ times 4.

        Raises
        ------
        InputError
            If the map is not first-order (``monte_carlo``, ``nonlinear``), or α not positive and finite.
        """
        if self.bias is not None:
            raise InputError(
                "this map holds for one noise level only",
                expected="a map to first order in the noise, e.g. by sketch",
                received=self.method,
                remedy="Scale the noise covariance of the acquisition and map again.",
            )
        if not 0 < alpha < math.inf:
            raise InputError(
                "invalid noise scale",
                expected="a positive, finite factor on the standard deviation of the noise",
                received=str(alpha),
                remedy="Use 2 for noise twice as strong.",
            )
        scale = alpha * (self.provenance.noise_scale or 1.0)
        return dataclasses.replace(
            self,
            estimate=self.estimate.scaled(alpha),
            reference_std=None if self.reference_std is None else alpha * self.reference_std,
            linearity=None,
            provenance=dataclasses.replace(self.provenance, noise_scale=scale),
        )

    # -- for people and other programs ---------------------------------------------------------------------

    # A result knows no figures: it asks the package, whose rooms are loaded on first use.

    def plot(self, place: Sequence[int] | int | None = None) -> Figure:
        """Figure of one slice: image, σ, SNR and g-factor; see `mrnoise.figures.plot`."""
        import mrnoise

        return mrnoise.figures.plot(self, place)

    def to_xarray(self) -> xarray.Dataset:
        """All quantities as a dataset of xarray; see `mrnoise.export.to_xarray`."""
        import mrnoise

        return mrnoise.export.to_xarray(self)

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.image.shape))
        return f"NoiseMap({shape} voxels, method={self.method!r}, n_samples={self.n_samples})"

    def _repr_html_(self) -> str:
        import mrnoise

        return mrnoise.figures.html(self)

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

    @property
    def interrupted(self) -> bool:
        """Whether it ends before its target, or before its last image."""
        return self.estimate.interrupted

    @property
    def certified_error(self) -> float | None:
        """The worst of its images, see `mrnoise.estimators.RegionError`; ``None`` where there was no target."""
        found = self.estimate.certified_error
        return float(found.max()) if found is not None and bool(found.isfinite().all()) else None

    def _component(self, name: str) -> tuple[Tensor, Tensor]:
        return self.estimate.component(self._direction(name))

    def _direction(self, name: str) -> Tensor:
        """Unit phase along which a component of the noise lies."""
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
        return direction


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(
            "invalid confidence level",
            expected="a number between 0 and 1",
            received=str(level),
            remedy="Use 0.95 for the 95 % interval.",
        )


def _chi_square_factors(freedom: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Factors on a variance estimate that bound the true variance."""
    nu = freedom.cpu().numpy()
    tail = 0.5 * (1 - level)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        low, high = nu / chi_square_above(tail, nu), nu / chi_square(tail, nu)
    certain = np.isinf(nu)
    low[certain] = high[certain] = 1.0
    return torch.from_numpy(low), torch.from_numpy(high)


def _count(region: Tensor, like: Tensor) -> int:
    """Voxels of a region that must hold at once."""
    if region.dtype != torch.bool or region.shape != like.shape or not bool(region.any()):
        raise InputError(
            "invalid region for a simultaneous interval",
            expected=f"a bool mask of shape {tuple(like.shape)} with at least one voxel",
            received=f"{region.dtype}, shape {tuple(region.shape)}, {int((region != 0).sum())} voxels",
            remedy="Draw the region on the reconstructed image.",
        )
    return int(region.sum())
