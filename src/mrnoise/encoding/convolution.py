"""FᴴMF of coil images, by transforms of the image grid alone: circular on a grid, Toeplitz for a trajectory."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.encoding.nufft import Nufft

# Accuracy of a trajectory's point spread, and what of it is taken for zero.
POINT_SPREAD_TOLERANCE, NEGLIGIBLE = 1e-12, 1e-10


@dataclass(frozen=True, eq=False)
class Convolution:
    """T = Σ_p D_p* F⁻¹ K_p F D_p with real K_p, F the transform along some axes.

    Cartesian sampling has one term, K its mask and D = 1, in images whose centre is at index 0. A trajectory has 2^d: a
    convolution over the d axes, computed on a grid of twice the size, is the sum over the even and odd frequencies of
    that grid, each a transform of the image itself. Nothing is padded.

    Parameters
    ----------
    axes
        Those of the images that are transformed, from the end.
    spectra
        K_p, each broadcast with the coil images.
    modulations
        D_p, of modulus 1, each broadcast with the image; empty: 1.
    """

    axes: tuple[int, ...]
    spectra: tuple[Tensor, ...]
    modulations: tuple[Tensor, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """T of images, (..., *spatial)."""
        if not self.modulations:
            return self._term(images, self.spectra[0])
        terms = (d.conj() * self._term(images * d, k) for d, k in zip(self.modulations, self.spectra, strict=True))
        return sum(terms, start=next(terms))

    def combined(self, maps: Tensor, image: Tensor, coil_axis: int) -> Tensor:
        """SᴴTS x: each term over the coils at once, (..., *spatial)."""
        modulations: tuple[Tensor | None, ...] = self.modulations or (None,)
        total: Tensor | None = None
        for d, k in zip(modulations, self.spectra, strict=True):
            x = image if d is None else image * d
            images = self._term(maps * x.unsqueeze(coil_axis), k)
            term = torch.linalg.vecdot(maps, images, dim=coil_axis)
            term = term if d is None else term * d.conj()
            total = term if total is None else total + term
        assert total is not None
        return total

    def _term(self, images: Tensor, spectrum: Tensor) -> Tensor:
        """F⁻¹ K F."""
        if not self.axes:
            return images * spectrum
        kspace = torch.fft.fftn(images, dim=self.axes, norm="ortho")
        return torch.fft.ifftn(kspace * spectrum, dim=self.axes, norm="ortho")


def toeplitz(coordinates: Tensor, image_shape: tuple[int, ...], like: Tensor) -> Convolution:
    """EᴴE of a trajectory, E its `Nufft`: a convolution with t(r) = 1/N Σ_j exp(2πi Σ_d k_dj r_d / n_d).

    An axis along which all k are whole numbers (that of a stack) is circular, and needs no doubling; one along which t
    is a single point needs no transform.

    Parameters
    ----------
    coordinates
        (dimension, *samples), as those of `mrnoise.sampling.Trajectory`.
    image_shape
        (y, x) or (z, y, x).
    like
        Precision and device of the images.
    """
    dims = len(image_shape)
    k = coordinates.detach().flatten(1).double()
    doubled = [not bool((row == row.round()).all()) for row in k]
    grid = tuple(n * (1 + d) for n, d in zip(image_shape, doubled, strict=True))
    scale = torch.tensor([1 + d for d in doubled], device=k.device)[:, None]
    spread = Nufft(k * scale, grid, POINT_SPREAD_TOLERANCE).adjoint(torch.ones_like(k[0], dtype=torch.complex128))
    spread = spread * (math.prod(grid) ** 0.5 / math.prod(image_shape))
    for axis, is_doubled in enumerate(doubled):
        if is_doubled:  # The lag -n occurs between no two voxels; without it K is real.
            spread.narrow(axis, 0, 1).zero_()
    axes = []
    for axis in range(dims):
        centre = spread.narrow(axis, grid[axis] // 2, 1)
        rest = spread.abs().sum() - centre.abs().sum()
        if float(rest) > NEGLIGIBLE * float(centre.abs().sum()):
            axes.append(axis)
        else:
            spread = centre
    spread = torch.fft.ifftshift(spread, dim=axes)
    spectrum = torch.fft.fftn(spread, dim=axes).real if axes else spread.real
    spectra, modulations = [], []
    dtype = like.real.dtype
    for parity in itertools.product(*(range(1 + (doubled[a] and a in axes)) for a in range(dims))):
        part, phase = spectrum, torch.zeros((1,) * dims, dtype=torch.float64, device=k.device)
        for axis, p in enumerate(parity):
            n = image_shape[axis]
            if doubled[axis] and axis in axes:
                index = torch.arange(p, 2 * n, 2, device=k.device)
                part = part.index_select(axis, index)
                r = torch.arange(n, dtype=torch.float64, device=k.device) * (-math.pi * p / n)
                phase = phase + r.reshape(-1, *[1] * (dims - 1 - axis))
        terms = 2 ** sum(doubled[a] for a in axes)
        spectra.append((part / terms).to(like.device, dtype).contiguous())
        modulations.append(torch.polar(torch.ones_like(phase), phase).to(like.device, like.dtype))
    return Convolution(tuple(a - dims for a in axes), tuple(spectra), tuple(modulations))
