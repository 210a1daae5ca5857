"""Images whose every sample of k-space is interpolated from the nearest acquired ones: cheap, of known covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import torch
from torch import Tensor

# Samples that one is interpolated from; the window holds so many, were sampling even.
NEAREST = 6
# Systems solved at once; samples whose products are summed at once.
SYSTEMS, SAMPLES = 512, 256


@dataclass(frozen=True, eq=False)
class Interpolation:
    """I images x_i of unit noise v, whose k-space is a sum over near samples: x̂_i(k) = Σ_s Σ_c w_i(k, s, c) v_c(s).

    Parameters
    ----------
    weights
        w at k = s - δ, (sample s, image × δ, coil).
    offsets
        δ, (n, 2), the same for every image.
    samples
        s as (k1, k0), its centre at index 0, (n, 2).
    shape
        Matrix (y, x).
    """

    weights: Tensor
    offsets: Tensor
    samples: Tensor
    shape: tuple[int, int]

    @property
    def n_images(self) -> int:
        """I."""
        return self.weights.shape[1] // len(self.offsets)

    def __call__(self, noise: Tensor) -> Tensor:
        """Noise of the samples, (B, coil, sample) → images with their centre at index 0, (B, I, y, x)."""
        parts = self.weights @ noise.permute(2, 1, 0)
        parts = torch.view_as_real(parts).reshape(-1, 2 * len(noise))
        n = self.n_images * self.shape[0] * self.shape[1]
        kspace = parts.new_zeros(n, 2 * len(noise)).index_add_(0, self._places().flatten(), parts)
        kspace = torch.view_as_complex(kspace.reshape(n, len(noise), 2)).T
        return torch.fft.ifft2(kspace.reshape(len(noise), -1, *self.shape), norm="ortho")

    def covariance(self, features: Sequence[tuple[int, Tensor]]) -> Tensor:
        """E f fᴴ of filtered images f in every voxel, (K, K, y, x).

        With D_a(s, δ) the weight of f_a at k = s - δ and T_ab(δ, ε) = Σ_s,c D_a(s, δ) D_b*(s, ε),

            E f_a(r) f_b*(r) = 1/N Σ_δε T_ab(δ, ε) exp(i (ε-δ)·r).

        Parameters
        ----------
        features
            Which image, and the response of the filter, real (k1, k0) with its centre at index 0.
        """
        n, n_offsets = len(features), len(self.offsets)
        total = self.weights.new_zeros(n * n_offsets, n * n_offsets)
        for start in range(0, len(self.weights), SAMPLES):
            some = slice(start, start + SAMPLES)
            weights = self.weights[some].unflatten(1, (self.n_images, n_offsets))
            to = _flat(self.samples[some, None] - self.offsets, self.shape)
            d = torch.cat([weights[:, i] * response.flatten()[to].unsqueeze(-1) for i, response in features], 1)
            d = d.transpose(1, 2).flatten(0, 1)
            total += d.mT @ d.conj()
        difference = _flat(self.offsets[None] - self.offsets[:, None], self.shape).flatten()
        pairs = total.unflatten(0, (n, n_offsets)).unflatten(2, (n, n_offsets)).transpose(1, 2).reshape(n * n, -1)
        spread = pairs.new_zeros(n * n, self.shape[0] * self.shape[1]).index_add_(1, difference, pairs)
        return torch.fft.ifft2(spread.reshape(n, n, *self.shape))

    def _places(self) -> Tensor:
        """Where every weight leads to, one image after the other, (sample, image × δ)."""
        to = _flat(self.samples[:, None] - self.offsets, self.shape)
        step = self.shape[0] * self.shape[1]
        return torch.cat([to + i * step for i in range(self.n_images)], 1)


def interpolation(maps: Tensor, mask: Tensor, priors: Sequence[tuple[Tensor, float]]) -> Interpolation:
    """Interpolation with least error, x̂(k) = E x̂(k) yᴴ (E y yᴴ)⁻¹ v over the samples y nearest to k.

    Of images x with independent voxels of variance w, y = FSx + n and noise n of variance λ,

        E y_c(k) y_d*(l) = 1/N Σ_r w S_c S_d* exp(-i (k-l)·r) + λ δ_cd δ_kl,
        E x̂(k) y_d*(l)   = 1/N Σ_r w S_d* exp(-i (k-l)·r),

    which fall off within a few samples, since coil maps are smooth (Yeh et al. 2005, doi:10.1002/mrm.20490). From all
    samples instead of the nearest, x = (SᴴFᴴMFS + λ/w)⁻¹ SᴴFᴴ v.

    Parameters
    ----------
    maps
        S with the centre at index 0, complex (coil, y, x).
    mask
        Acquired samples, the centre at index 0, (k1, k0).
    priors
        w, (y, x), and λ of every image.
    """
    n_coils, *_ = maps.shape
    shape = (mask.shape[0], mask.shape[1])
    # Where sampling is dense, the nearest are nearer.
    reach = ceil((sqrt(NEAREST * mask.numel() / max(1, int(mask.sum()))) - 1) / 2)
    # No sample twice.
    reaches = [min(reach, (n - 1) // 2) for n in shape]
    offsets = torch.cartesian_prod(*(torch.arange(-r, r + 1, device=mask.device) for r in reaches))
    offsets = offsets[offsets.square().sum(1).argsort(stable=True)]
    samples = mask.nonzero()
    number = torch.full((mask.numel(),), -1, device=mask.device)
    number[mask.flatten()] = torch.arange(len(samples), device=mask.device)

    k = torch.cartesian_prod(*(torch.arange(n, device=mask.device) for n in shape))
    near = number[_flat(k[:, None] + offsets, shape)]
    # The first acquired ones; where there are fewer, one that is not, whose weight is zero.
    which = torch.where(near >= 0, 0, 1).argsort(dim=1, stable=True)[:, :NEAREST]
    near = near.gather(1, which)

    weights = maps.new_zeros(len(samples), len(priors), len(offsets), n_coils)
    for i, (w, regularization) in enumerate(priors):
        among = torch.fft.fft2(w * maps[:, None] * maps.conj(), norm="forward").permute(2, 3, 0, 1).flatten(0, 1)
        with_x = torch.fft.fft2(w * maps.conj(), norm="forward").flatten(1).T
        # The last row is that of samples that are not.
        among, with_x = (torch.cat([table, torch.zeros_like(table[:1])]) for table in (among, with_x))
        for start in range(0, len(k), SYSTEMS):
            of, offset = near[start : start + SYSTEMS], which[start : start + SYSTEMS]
            d, acquired = offsets[offset], of >= 0
            pairs = torch.where(acquired[:, :, None] & acquired[:, None], _flat(d[:, :, None] - d[:, None], shape), -1)
            a = among[pairs].transpose(2, 3).flatten(3, 4).flatten(1, 2)
            a.diagonal(dim1=1, dim2=2).add_(torch.where(acquired, regularization, 1.0).repeat_interleave(n_coils, 1))
            b = with_x[torch.where(acquired, _flat(-d, shape), -1)].flatten(1, 2)
            # x̂ = b a⁻¹ v with Hermitian a.
            solved = torch.cholesky_solve(b.conj()[..., None], torch.linalg.cholesky(a))[..., 0].conj()
            weights[of[acquired], i, offset[acquired]] = solved.unflatten(1, (-1, n_coils))[acquired]
    return Interpolation(weights.flatten(1, 2), offsets, samples, shape)


def _flat(places: Tensor, shape: tuple[int, int]) -> Tensor:
    """Index of (k1, k0) in a flat array."""
    return (places[..., 0] % shape[0]) * shape[1] + places[..., 1] % shape[1]
