"""FᴴMF of coil images, by transforms of the image grid alone: circular on a grid, Toeplitz for a trajectory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.encoding.nufft import Nufft

# Accuracy of a trajectory's point spread, and what of it is taken for zero.
POINT_SPREAD_TOLERANCE, NEGLIGIBLE = 1e-12, 1e-10
# Voxels of coil images at once: a megabyte in single precision. More are slower, by what is fetched from memory.
IN_CACHE = 2**17


@dataclass(frozen=True, eq=False)
class Convolution:
    """T = Σ_p D_p* F⁻¹ K_p F D_p with real K_p, F the transform along some axes.

    Cartesian sampling has one term, K its mask and D = 1, in images whose centre is at index 0. A trajectory has 2^d: a
    convolution over the d axes, computed on a grid of twice the size, is the sum over the even and odd frequencies of
    that grid along each axis, a transform of the image itself and one of the image times a ramp of phase. Nothing is
    padded, and the terms share what they have in common: along the first axis there are 2 transforms, not 2^d.

    Parameters
    ----------
    axes
        Those of the images that are transformed, from the end.
    spectra
        K_p: one, broadcast with the coil images; of a trajectory one for every choice of even and odd frequencies, the
        even ones first and the last axis slowest. Each axis, from the last to the first, has changed places with the
        one at the end.
    ramps
        Of each axis, the phase that turns its odd frequencies into even ones; ``None`` where there are none. Empty:
        Cartesian.
    """

    axes: tuple[int, ...]
    spectra: tuple[Tensor, ...]
    ramps: tuple[Tensor | None, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """T of images, (..., *spatial)."""
        if not self.axes:
            return images * self.spectra[0]
        if not self.ramps:
            kspace = torch.fft.fftn(images, dim=self.axes, norm="ortho")
            return torch.fft.ifftn(kspace * self.spectra[0], dim=self.axes, norm="ortho")
        return self._along(images, len(self.axes), self.spectra)

    def combined(self, maps: Tensor, image: Tensor, coil_axis: int) -> Tensor:
        """SᴴTS x, (..., *spatial), so many coils at once as stay in the cache of a processor."""
        coils = maps.shape[coil_axis]
        step = coils if image.is_cuda else min(coils, max(1, IN_CACHE // image.numel()))
        total: Tensor | None = None
        for some in maps.split(step, dim=coil_axis):
            term = torch.linalg.vecdot(some, self(some * image.unsqueeze(coil_axis)), dim=coil_axis)
            total = term if total is None else total.add_(term)
        assert total is not None
        return total

    def _along(self, images: Tensor, n_axes: int, spectra: tuple[Tensor, ...]) -> Tensor:
        """Along the first of the axes, the last of them first, each brought to the end: strided transforms are slow."""
        axis, ramp = self.axes[n_axes - 1], self.ramps[n_axes - 1]
        images = images.transpose(axis, -1).contiguous()
        phases = (None,) if ramp is None else (None, ramp)
        share = len(spectra) // len(phases)
        total: Tensor | None = None
        for parity, phase in enumerate(phases):
            part = torch.fft.fft(images if phase is None else images * phase)
            if n_axes > 1:
                part = self._along(part, n_axes - 1, spectra[parity * share : (parity + 1) * share]).contiguous()
            else:
                part = part.mul_(spectra[parity])
            part = torch.fft.ifft(part)
            part = part if phase is None else part.mul_(phase.conj())
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.transpose(axis, -1)


@dataclass(frozen=True, eq=False)
class PointSpread:
    """t(r) = 1/N Σ_j exp(2πi Σ_d k_dj r_d / n_d) of a trajectory: EᴴE, E its `Nufft`, convolves with it.

    Parameters
    ----------
    values
        t at the lags of two voxels, lag 0 at the centre, double precision. Along an axis 2n lags; n where all k are
        whole numbers (that of a stack), which makes t periodic; 1 where t is a single point.
    image_shape
        n, (y, x) or (z, y, x).
    """

    values: Tensor
    image_shape: tuple[int, ...]

    @classmethod
    def of(cls, coordinates: Tensor, image_shape: tuple[int, ...]) -> PointSpread:
        """That of coordinates (dimension, *samples) in cycles per field of view."""
        k = coordinates.detach().flatten(1).double()
        factors = [1 if bool((row == row.round()).all()) else 2 for row in k]
        grid = tuple(f * n for f, n in zip(factors, image_shape, strict=True))
        e = Nufft(k * torch.tensor(factors, device=k.device)[:, None], grid, POINT_SPREAD_TOLERANCE)
        t = e.adjoint(torch.ones_like(k[0], dtype=torch.complex128)) * (math.prod(grid) ** 0.5 / math.prod(image_shape))
        for axis, factor in enumerate(factors):
            if factor == 2:  # The lag -n lies between no two voxels; without it the spectrum is real.
                t.narrow(axis, 0, 1).zero_()
        return cls(_shrunk(t), image_shape)

    @classmethod
    def of_mask(cls, mask: Tensor) -> PointSpread:
        """That of Cartesian sampling, (y, x) or (z, y, x)."""
        axes = tuple(range(mask.ndim))
        t = torch.fft.ifftn(torch.fft.ifftshift(mask.to(torch.complex128)), dim=axes)
        return cls(_shrunk(torch.fft.fftshift(t)), tuple(mask.shape))

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """From each of the second voxels to each of the first, indices (a, dimension), (b, dimension) → (a, b)."""
        place = torch.zeros((), dtype=torch.long, device=first.device)
        apart = torch.zeros((), dtype=torch.bool, device=first.device)
        for axis, n_lags in enumerate(self.values.shape):
            lag = first[:, None, axis] - second[:, axis]
            if n_lags == 1:
                apart = apart | (lag != 0)
                continue
            place = place * n_lags + (lag + n_lags // 2) % n_lags
        t = self.values.to(first.device).flatten()[place]
        return torch.where(apart, 0, t)

    @property
    def at_zero(self) -> float:
        """t(0), the number of samples for each voxel."""
        return float(self.values[tuple(n // 2 for n in self.values.shape)].real)

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of the image along which t is more than a point, from the end."""
        return tuple(axis - self.values.ndim for axis, n in enumerate(self.values.shape) if n > 1)

    def convolution(self, like: Tensor) -> Convolution:
        """EᴴE in the precision and on the device of these images."""
        axes = self.axes
        doubled = [self.values.shape[axis] == 2 * self.image_shape[axis] for axis in axes]
        spectrum = _spectrum(self.values, axes) / 2 ** sum(doubled)
        ramps = []
        for axis, twice in zip(axes, doubled, strict=True):
            n = self.image_shape[axis]
            phase = torch.arange(n, dtype=torch.float64, device=spectrum.device) * (-math.pi / n)
            ramps.append(torch.polar(torch.ones_like(phase), phase).to(like.device, like.dtype) if twice else None)
        spectra = []
        # The last axis, which is transformed first, is the slowest.
        for parity in itertools.product(*(range(1 + twice) for twice in reversed(doubled))):
            part = spectrum
            for axis, p, twice in zip(reversed(axes), parity, reversed(doubled), strict=True):
                part = part[(..., slice(p, None, 1 + twice), *[slice(None)] * (-axis - 1))].transpose(axis, -1)
            spectra.append(part.to(like.device, like.real.dtype).contiguous())
        return Convolution(axes, tuple(spectra), tuple(ramps))

    def nearest_circulant(self, maps: Tensor) -> Tensor:
        """D ≥ 0 of FᴴDF, the circulant matrix nearest to SᴴEᴴES (Chan 1988, doi:10.1137/0909051), *spatial.

        Its first column is, over all pairs of voxels a lag d apart modulo n,
        c(d) = 1/N Σ t(d) Σ_c S_c*(i + d) S_c(i).
        """
        shape = self.image_shape
        correlation = torch.zeros([2 * n for n in shape], dtype=torch.complex128, device=maps.device)
        for s in maps:
            correlation += torch.fft.fftn(s.to(torch.complex128), s=correlation.shape).abs().square()
        c = torch.fft.fftshift(torch.fft.ifftn(correlation)).conj() / math.prod(shape)
        t = self.values.to(maps.device)
        for axis, n in enumerate(shape):
            lags = t.shape[axis]
            if lags == 1:
                c = c.narrow(axis, n, 1)
            elif lags == n:
                c = _folded(c, axis, n)
        c = c * t
        for axis, n in enumerate(shape):
            if t.shape[axis] == 2 * n:
                c = _folded(c, axis, n)
        return _spectrum(c, self.axes).clamp_min(0)


def _shrunk(t: Tensor) -> Tensor:
    """One lag along axes where t is a point."""
    for axis, n in enumerate(t.shape):
        centre = t.narrow(axis, n // 2, 1)
        if float(t.abs().sum() - centre.abs().sum()) < NEGLIGIBLE * float(centre.abs().sum()):
            t = centre
    return t


def _folded(c: Tensor, axis: int, n: int) -> Tensor:
    """Lags -n … n-1 added modulo n, lag 0 at n // 2."""
    return c.unflatten(axis, (2, n)).sum(axis).roll(n // 2, axis)


def _spectrum(t: Tensor, axes: Sequence[int]) -> Tensor:
    """Real spectrum of a Hermitian array whose lag 0 is at the centre of these axes."""
    if not axes:
        return t.real
    return torch.fft.fftn(torch.fft.ifftshift(t, dim=tuple(axes)), dim=tuple(axes)).real
