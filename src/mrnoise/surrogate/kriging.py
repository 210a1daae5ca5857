"""The same along a trajectory: every sample of k-space on the grid from the nearest ones, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

import torch
from torch import Tensor

from mrnoise.encoding.nufft import Nufft
from mrnoise.estimators.batching.clock import Stopwatch
from mrnoise.sampling.trajectory import Trajectory

# Samples that one of the grid is interpolated from: more than on a grid, as they lie closer together.
NEAREST = 12
# Samples of the grid whose covariances are computed at once, and systems that stay in the cache of a processor.
BLOCK, SYSTEMS = 1024, 64
# Of these covariances; that of the images follows from the weights, whatever they are.
TRANSFORM_TOLERANCE = 1e-4
# Numbers of noise gathered at once.
GATHERED = 2**20


@dataclass(frozen=True, eq=False)
class Kriging:
    """I images x_i of unit noise v, whose k-space is a sum over near samples: x̂_i(k) = Σ_s Σ_c w_i(k, s, c) v_c(s).

    Parameters
    ----------
    weights
        w, (k, image, near sample × coil).
    near
        Which samples s, (k, n).
    shape
        Matrix (y, x), whose samples k are those of the discrete Fourier transform in its order.
    """

    weights: Tensor
    near: Tensor
    shape: tuple[int, int]

    def __call__(self, noise: Tensor) -> Tensor:
        """Noise of the samples, (B, coil, sample) → images with their centre at index 0, (B, I, y, x)."""
        samples = noise.permute(2, 1, 0).contiguous()
        rows = max(1, GATHERED // (self.weights.shape[2] * len(noise)))
        parts = zip(self.weights.split(rows), self.near.split(rows), strict=True)
        kspace = torch.cat([weights @ samples[near].flatten(1, 2) for weights, near in parts])
        return torch.fft.ifft2(kspace.permute(2, 1, 0).unflatten(-1, self.shape), norm="ortho")

    def covariance(self, features: Sequence[tuple[int, Tensor]]) -> Tensor:
        """E f fᴴ of filtered images f in every voxel, (K, K, y, x).

        With W_a the weights of f_a as a sparse matrix (k, sample × coil),

            E f_a(r) f_b*(r) = 1/N Σ_kl (W_a W_bᴴ)_kl exp(i (k-l)·r).

        Parameters
        ----------
        features
            Which image, and the response of the filter, real (k1, k0) with its centre at index 0.
        """
        from scipy import sparse

        n, n_near = self.near.shape
        n_coils = self.weights.shape[2] // n_near
        columns = (self.near.cpu()[..., None] * n_coils + torch.arange(n_coils)).flatten().numpy()
        starts, size = torch.arange(0, len(columns) + 1, n_near * n_coils).numpy(), (n, int(columns.max()) + 1)
        filtered = [(self.weights[:, i] * response.flatten()[:, None]).flatten().cpu() for i, response in features]
        w = [sparse.csr_array((values.numpy(), columns, starts), shape=size) for values in filtered]

        k, shape = torch.cartesian_prod(*(torch.arange(m) for m in self.shape)), torch.tensor(self.shape)
        found = filtered[0].new_zeros(len(w), len(w), *self.shape)
        for a, left in enumerate(w):
            for b, right in enumerate(w[: a + 1]):
                pairs = (left @ right.conj().T).tocoo()
                lag = (k[pairs.row] - k[pairs.col]) % shape
                lag = lag[:, 0] * self.shape[1] + lag[:, 1]
                sums = filtered[0].new_zeros(n).index_add_(0, lag, torch.from_numpy(pairs.data))
                found[a, b] = torch.fft.ifft2(sums.unflatten(0, self.shape))
                found[b, a] = found[a, b].conj()
        return found.to(self.weights.device)


def kriging(
    maps: Tensor, trajectory: Trajectory, priors: Sequence[tuple[Tensor, float]], most_seconds: float = inf
) -> Kriging | None:
    """Interpolation with least error from the nearest samples, as `mrnoise.surrogate.interpolation.interpolation`.

    Of images x with independent voxels of variance w, y = ESx + n and noise n of variance λ, at any two places

        E y_c(s) y_d*(t) = 1/N Σ_r w S_c S_d* exp(-i (s-t)·r) + λ δ_cd δ_st,
        E x̂(k) y_d*(s)   = 1/N Σ_r w S_d* exp(-i (k-s)·r),

    two transforms to the differences of near samples, each pair of them once. Solving the systems takes N (nC)³ / 3
    complex multiplications an image.

    Parameters
    ----------
    maps
        S with the centre at index 0, complex (coil, y, x).
    trajectory
        Of a slice.
    priors
        w, (y, x), its centre at index 0, and λ of every image.
    most_seconds
        That it may take.

    Returns
    -------
    Kriging
        ``None`` as soon as it is going to take longer; what is done is kept.
    """
    from scipy.spatial import cKDTree

    clock = Stopwatch(maps.device)
    n_coils, *shape = maps.shape
    k = torch.cartesian_prod(*(torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in shape))
    samples = trajectory.coordinates.detach().flatten(1).T.double().cpu()
    n_near = min(NEAREST, len(samples))
    _, nearest = cKDTree(samples.numpy()).query(k.numpy(), k=range(1, n_near + 1))
    near = torch.from_numpy(nearest).sort(1).values.to(maps.device)
    k, samples = k.to(maps.device), samples.to(maps.device)
    i, j = torch.tril_indices(n_near, n_near, device=maps.device)
    fields = [
        (torch.fft.fftshift(w * maps[:, None] * maps.conj(), (-2, -1)), torch.fft.fftshift(w * maps.conj(), (-2, -1)))
        for w, _ in priors
    ]

    def mean(of: Tensor, differences: Tensor) -> Tensor:
        """1/N Σ_r of fields (..., y, x) with exp(-i d·r), d (n, 2) → (n, ...)."""
        e = Nufft(differences.T, trajectory.image_shape, TRANSFORM_TOLERANCE)
        return e.forward(of).movedim(-1, 0) / prod(shape) ** 0.5

    weights = maps.new_zeros(len(k), len(priors), n_near * n_coils)
    for start in range(0, len(k), BLOCK):
        some = near[start : start + BLOCK]
        pairs, pair = torch.unique(some[:, i] * len(samples) + some[:, j], return_inverse=True)
        between = samples[pairs // len(samples)] - samples[pairs % len(samples)]
        beyond = (k[start : start + BLOCK, None] - samples[some]).flatten(0, 1)
        for image, (of_pairs, of_one) in enumerate(fields):
            among, with_x = mean(of_pairs, between), mean(of_one, beyond).unflatten(0, some.shape).flatten(1)
            for system in torch.arange(len(some)).split(SYSTEMS):
                # The lower triangle, which is all that the factorization reads.
                a = maps.new_zeros(len(system), n_near, n_coils, n_near, n_coils)
                a[:, i, :, j] = among[pair[system]].transpose(0, 1)
                a = a.flatten(3).flatten(1, 2)
                a.diagonal(dim1=1, dim2=2).add_(priors[image][1])
                # x̂ = b a⁻¹ v with Hermitian a.
                b = with_x[system].conj()[..., None]
                solved = torch.cholesky_solve(b, torch.linalg.cholesky(a))[..., 0].conj()
                weights[start + system, image] = solved
        done = start + BLOCK
        if done < len(k) and clock.seconds() * len(k) > most_seconds * done:
            return None
    return Kriging(weights, near, (shape[0], shape[1]))
