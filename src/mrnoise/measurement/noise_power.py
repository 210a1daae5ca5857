"""Noise power spectrum and autocorrelation of the noise in a region."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.checks import check_count
from mrnoise.errors import InputError
from mrnoise.estimators import Plan, monte_carlo, sketch
from mrnoise.estimators.key import Key
from mrnoise.linearization import Images, NoiseToImage
from mrnoise.measurement.place import full_width_at_half_maximum, operators_over, spacing
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction

# Independent groups of samples, whose spread gives every standard error: known to 1/√(2·15) = 18 %.
GROUPS = 16
# Lags at which less than this part of the window overlaps itself are not estimated.
SMALLEST_OVERLAP = 0.1


@dataclass(frozen=True, eq=False)
class NoisePowerSpectrum:
    """Noise power spectrum of |x| over a region, and what follows from it.

    Parameters
    ----------
    spectrum
        NPS(f), (fy, fx) or (fz, fy, fx), frequency 0 at n // 2, image units² · mm² (mm³ for volumes).
    frequencies
        Of each axis, in 1/mm.
    radial_frequency, radial, radial_error
        Means of |f| and NPS(f) over rings of one resolution element, and their standard error.
    autocorrelation
        ρ(τ), lag 0 at n // 2 of each axis, in steps of a voxel; NaN where the region is too small for the lag.
    length, length_error
        Autocorrelation length along each axis, the full width at half maximum of ρ, in mm: one voxel for white
        noise. Infinite where ρ does not fall to half within the region.
    variance, variance_error
        Mean variance of |x| in the region, ∫ NPS(f) df, image units².
    unit
        ``"mm"``, or ``"voxel"`` where the scan gives no voxel size: then lengths are in voxels, frequencies per
        voxel.
    n_samples
        Noise images averaged.
    method
        ``"sketch"`` or, where the derivative cannot be trusted, ``"monte_carlo"``.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi = torch.zeros(16, 12, dtype=torch.bool)
    >>> roi[4:12, 3:9] = True
    >>> nps = noise_power_spectrum(CgSense(1e-3), simulate((16, 12), 4), roi, n_samples=32)
    >>> tuple(nps.spectrum.shape), nps.unit, nps.method
    ((16, 12), 'mm', 'sketch')
    >>> step = nps.frequencies[0].diff()[0] * nps.frequencies[1].diff()[0]
    >>> round(float(nps.spectrum.sum() * step) / nps.variance, 2)  # ∫ NPS df is the variance
    1.0
    """

    spectrum: Tensor
    frequencies: tuple[Tensor, ...]
    radial_frequency: Tensor
    radial: Tensor
    radial_error: Tensor
    autocorrelation: Tensor
    length: tuple[float, ...]
    length_error: tuple[float, ...]
    variance: float
    variance_error: float
    unit: str
    n_samples: int
    method: str


def noise_power_spectrum(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    roi: Tensor,
    *,
    n_samples: int = 320,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> NoisePowerSpectrum:
    """Noise power spectrum over a region, from noise images of which only running sums are kept.

    With the window w and voxels of volume Δ (Siewerdsen et al. 2002, doi:10.1118/1.1513158),

        NPS(f) = Δ / Σw² · E|Σ_r w(r) δ(r) exp(-2πi f·r)|²,   ∫ NPS(f) df = Σ w² var / Σ w²,

    where δ = Re(ū δx) is the noise of |x|. White complex noise of variance V has the NPS V Δ / 2. The noise is taken
    as stationary within the region. The Fourier sum is padded to twice the region, so that the autocovariance
    is not cyclic: C(τ) = Σw² · ∫ NPS exp(2πi f·τ) df / Σ_r w(r) w(r+τ).

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`. Where the derivative fails the preflight, the noise images are replicas.
    roi
        Image-shaped. Bool: the window is 1 inside. Real: the window itself, tapered (Hann) where the spectrum is
        steep, since the sidelobes of a sharp window level it. Slices are averaged.
    n_samples
        Noise images a slice, rounded up to a multiple of 16 groups, whose jackknife gives the standard errors.
    seed
        Every noise image is seeded by (seed, slice, group, number).
    progress
        Told how many groups of how many are done.

    Returns
    -------
    NoisePowerSpectrum
        In image units² · mm² (mm³ for volumes), with ring means and autocorrelation lengths.

    Raises
    ------
    InputError
        If the region does not fit, is one voxel wide, or there are fewer than 32 samples.

    Examples
    --------
    >>> from mrnoise.reconstruction import ZeroFilled
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> low = torch.zeros(16, 12, dtype=torch.bool)
    >>> low[4:12] = True
    >>> roi = torch.zeros(16, 12, dtype=torch.bool)
    >>> roi[4:12, 3:9] = True
    >>> for mask in (torch.ones(16, 12), low):  # half the resolution along y
    ...     nps = noise_power_spectrum(ZeroFilled(), scan.undersample(mask), roi, n_samples=64)
    ...     print("noise is correlated over", " and ".join(f"{mm:.0f} mm" for mm in nps.length))
    noise is correlated over 14 mm and 18 mm
    noise is correlated over 33 mm and 18 mm
    """
    if n_samples < 2 * GROUPS:
        raise InputError(
            "too few noise samples",
            expected=f"at least {2 * GROUPS}, {GROUPS} groups of two",
            received=str(n_samples),
            remedy="Give n_samples=320.",
        )
    check_count(n_samples, "number of noise samples", 2 * GROUPS)
    window = torch.as_tensor(roi)
    steps, unit = spacing(acquisition)
    dims = len(steps)
    axes = tuple(range(-dims, 0))
    plan = Plan(n_samples=math.ceil(n_samples / GROUPS))
    box = _bounding_box(window, dims)
    size = [2 * (side.stop - side.start) for side in box[1:]]
    power = torch.zeros(GROUPS, *size, dtype=torch.float64)
    method = ""
    total = GROUPS * Images.of(reconstruction, acquisition, planewise=False).count
    for index, operator, part in operators_over(reconstruction, acquisition, window[None], planewise=False):
        estimate = sketch if operator.preflight.jvp_mode is not None else monte_carlo
        windowed = _spectrum_of(operator, part[0], box, size)
        for group in range(GROUPS):
            found = estimate(windowed, plan, key=Key(seed, index).of("noise power", group))
            if found.interrupted:
                raise KeyboardInterrupt
            method = found.method
            power[group] += found.variance.cpu().reshape(-1, *size).sum(0)
            if progress is not None:
                progress(GROUPS * index + group + 1, total)
    energy = float(window.double().square().sum())
    cell = math.prod(steps)
    spectra = power * cell / energy

    frequencies = tuple(torch.fft.fftfreq(n, d=step, dtype=torch.float64) for n, step in zip(size, steps, strict=True))
    rings = _Rings(frequencies, steps)
    overlap = _autocovariance(_window_spectrum(window[box].double(), size, dims), axes)

    def derived(nps: Tensor) -> tuple[Tensor, Tensor]:
        """Autocorrelation, and all that has a standard error in one vector."""
        covariance = _autocovariance(nps, axes) * energy / cell / overlap
        centre = [0] * dims
        variance = covariance[tuple(centre)]
        covariance = torch.where(overlap > SMALLEST_OVERLAP * overlap[tuple(centre)], covariance, torch.nan)
        rho = torch.fft.fftshift(covariance / variance, dim=axes)
        widths = full_width_at_half_maximum(rho, [n // 2 for n in size], steps)
        return rho, torch.cat([variance[None], torch.tensor(widths, dtype=torch.float64), rings.mean(nps)])

    nps = spectra.mean(0)
    rho, values = derived(nps)
    left_out = torch.stack([derived((GROUPS * nps - one) / (GROUPS - 1))[1] for one in spectra])
    errors = ((GROUPS - 1) * (left_out - left_out.mean(0)).square().mean(0)).sqrt()
    return NoisePowerSpectrum(
        spectrum=torch.fft.fftshift(nps, dim=axes),
        frequencies=tuple(torch.fft.fftshift(f) for f in frequencies),
        radial_frequency=rings.mean(rings.frequency),
        radial=values[1 + dims :],
        radial_error=errors[1 + dims :],
        autocorrelation=rho,
        length=tuple(values[1 : 1 + dims].tolist()),
        length_error=tuple(errors[1 : 1 + dims].tolist()),
        variance=float(values[0]),
        variance_error=float(errors[0]),
        unit=unit,
        n_samples=GROUPS * (plan.n_samples or 0),
        method=method,
    )


class _Rings:
    """Averages over |f|, one resolution element wide, up to the smallest Nyquist frequency."""

    def __init__(self, frequencies: tuple[Tensor, ...], steps: tuple[float, ...]) -> None:
        grid = torch.meshgrid(*frequencies, indexing="ij")
        self.frequency = torch.stack(grid).square().sum(0).sqrt()
        # The transform is padded to twice the region.
        width = 2 / max(len(f) * step for f, step in zip(frequencies, steps, strict=True))
        nyquist = 0.5 / max(steps)
        ring = (self.frequency / width + 0.5).floor().long()
        self._inside = self.frequency <= nyquist * (1 + 1e-9)
        self._ring = ring[self._inside]
        self._count = torch.bincount(self._ring).double()

    def mean(self, values: Tensor) -> Tensor:
        sums = torch.zeros_like(self._count).index_add_(0, self._ring, values[self._inside])
        return (sums / self._count)[self._count > 0]


def _spectrum_of(operator: NoiseToImage, window: Tensor, box: tuple[Any, ...], size: list[int]) -> NoiseToImage:
    """Fourier coefficients of the windowed noise of |x|."""
    weight = window[box].to(operator.value.real.dtype)
    phase = operator.phase[box].conj()
    axes = tuple(range(-len(size), 0))

    def read(image: Tensor) -> Tensor:
        return torch.fft.fftn(weight * (phase * image[box]).real, s=size, dim=axes)

    return operator.followed_by(read)


def _bounding_box(window: Tensor, dims: int) -> tuple[Any, ...]:
    """Index of the smallest box with all of the window: all slices, then a slice an axis."""
    inside = (window != 0).reshape(-1, *window.shape[-dims:]).any(0) if window.ndim >= dims else window != 0
    places = inside.nonzero()
    if not len(places):
        return (..., *[slice(0, 1)] * dims)  # refused with the window
    low, high = places.amin(0).tolist(), places.amax(0).tolist()
    if any(a == b for a, b in zip(low, high, strict=True)):
        raise InputError(
            "region too small for a noise power spectrum",
            expected="at least two voxels along every spatial axis",
            received=" × ".join(str(b - a + 1) for a, b in zip(low, high, strict=True)),
            remedy="Draw a larger region.",
        )
    return (..., *(slice(a, b + 1) for a, b in zip(low, high, strict=True)))


def _window_spectrum(window: Tensor, size: list[int], dims: int) -> Tensor:
    axes = tuple(range(-dims, 0))
    return torch.fft.fftn(window, s=size, dim=axes).abs().square().reshape(-1, *size).sum(0)


def _autocovariance(power: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.fft.ifftn(power, dim=axes).real
