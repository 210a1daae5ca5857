"""Control variates: the part of the noise that cheap linear images explain, whose variance is known well."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrnoise.estimators.estimate import EmpiricalError, Estimate, pooled
from mrnoise.estimators.moments import local_mean

# Coefficients are fitted for the first time after this many samples for each, then whenever their number has doubled.
SAMPLES_PER_COEFFICIENT = 2
# Voxels along a side of the window in which they are fitted: neighbours filter noise alike. With the unrolled network
# at R = 4, 128 samples are worth 1.87 times as many without control variates; with each voxel fitted alone, 1.65.
WINDOW = 3
# No standard error is below this fraction of that of the voxels around.
ERROR_WINDOW, LEAST_ERROR = 5, 0.3
# Added to the moments of the features for the fit, relative to their mean.
RIDGE = 1e-2


class Features(Protocol):
    """K images f that are complex-linear in the noise, cheap, and of known covariance."""

    @property
    def covariance(self) -> Tensor:
        """E f fᴴ in every voxel, (K, K, *image)."""
        ...

    def __call__(self, noise: Tensor) -> Tensor:
        """Unit noise (B, *noise) → (B, K, *image)."""
        ...


class ControlledMoments:
    """Running sums of |δ|² - |h|² and δ² - h², with h = αf + βf* the part of δ that the features f explain.

        V = E(|δ|² - |h|²) + α C αᴴ + β C* βᴴ,    P = E(δ² - h²) + 2 α C βᵀ,    C = E f fᴴ,

    C known. The coefficients of a voxel are fitted to the samples before those they are used
    for: the mean is unbiased whatever they are. Where h explains the fraction ρ² of Gaussian noise, the variance of V
    falls by 1 - ρ⁴ (control variates with estimated coefficients: Lavenberg and Welch 1981,
    doi:10.1287/mnsc.27.3.322).

    Parameters
    ----------
    features
        Cheap images of the same noise.
    method
        Name recorded in the estimate.
    known_mean
        True for linear responses; False for replicas, whose mean is estimated too.
    start
        An earlier estimate from the samples before these, averaged with theirs; coefficients are fitted anew.
    """

    def __init__(self, features: Features, method: str, known_mean: bool, start: Estimate | None = None) -> None:
        self.method, self.known_mean = method, known_mean
        self.start, self._own = start, 0
        self._features = features
        # Of z = (δ, f, f*): Σ z zᴴ, Σ δ², Σ δ.
        self._moments: Tensor | float = 0.0
        self._square: Tensor | float = 0.0
        self._sum: Tensor | float = 0.0
        # As many as the number of samples was doubled.
        self._blocks = [_Block(None)]

    @property
    def count(self) -> int:
        """Samples, those of the earlier estimate included."""
        return self._own + (0 if self.start is None else self.start.n_samples)

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in δ, (B, *image), and the noise it is the response to."""
        d = samples.to(torch.complex128)
        f = self._features(probes).to(torch.complex128)
        f = torch.cat([f, f.conj()], 1)
        first = end = SAMPLES_PER_COEFFICIENT * f.shape[1]
        while len(d):
            while end <= self._own:
                end *= 2
            if self._own >= first and 2 * self._own == end:
                self._blocks.append(_Block(self._fit()))
            part = min(len(d), end - self._own)
            self._take(d[:part], f[:part])
            d, f = d[part:], f[part:]

    def _take(self, d: Tensor, f: Tensor) -> None:
        z = torch.cat([d.unsqueeze(1), f], 1)
        self._moments = self._moments + _outer(z)
        self._square = self._square + d.square().sum(0)
        self._sum = self._sum + d.sum(0)
        self._blocks[-1].add(d, f)
        self._own += len(d)

    def _fit(self) -> Tensor:
        """Coefficients (2K, *image) of f and f*, by least squares over all samples and the voxels around each."""
        moments = torch.as_tensor(self._moments)
        if moments.ndim >= 4:
            moments = local_mean(moments, WINDOW)
        moments = moments.movedim((0, 1), (-2, -1))
        with_d, among = moments[..., :1, 1:], moments[..., 1:, 1:]
        mean = among.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None]
        eye = torch.eye(among.shape[-1], dtype=among.dtype, device=among.device)
        # Where no coil sees anything, there is nothing to fit.
        among = among + (RIDGE * mean + torch.finfo(torch.float64).tiny) * eye
        return torch.linalg.solve(among, with_d, left=False)[..., 0, :].movedim(-1, 0)

    # -- what they say -----------------------------------------------------------------------------------------

    def estimate(self, interrupted: bool) -> Estimate:
        """Variance and pseudo-variance; NaN error where too few samples tell."""
        if self.start is None:
            return self._of_own(interrupted)
        if self._own == 0:
            return dataclasses.replace(self.start, interrupted=interrupted, certified_error=None)
        return pooled(self.start, self._of_own(interrupted).cpu())

    def _of_own(self, interrupted: bool) -> Estimate:
        n = self._own
        covariance = self._features.covariance.to(torch.complex128)
        square = torch.as_tensor(self._moments)[0, 0].real / n
        pseudo, mean = torch.as_tensor(self._square) / n, torch.as_tensor(self._sum) / n
        nu = n
        if not self.known_mean:
            nu = n - 1
            square = (square - mean.abs().square()) * n / max(nu, 1)
            pseudo = (pseudo - mean.square()) * n / max(nu, 1)
        parts = [(block.count / n, block, *block.expected(covariance)) for block in self._blocks]
        v = square + sum(share * (w - block.square / block.count) for share, block, w, _ in parts)
        p = pseudo + sum(share * (q - block.pseudo / block.count) for share, block, _, q in parts)
        explained = sum(share * block.sum / block.count for share, block, _, _ in parts)
        undefined = torch.nan if nu == 0 else 1.0
        return Estimate(
            variance=v.clamp_min(0) * undefined,
            pseudo_variance=p * undefined,
            error=self._error(square, pseudo, covariance, nu if n > 1 else 0),
            method=self.method,
            n_samples=n,
            n_products=n,
            interrupted=interrupted,
            mean=None if self.known_mean else mean - explained,
            mean_error=None if self.known_mean else self._mean_error(square, covariance),
        )

    def _mean_error(self, v: Tensor, covariance: Tensor) -> Tensor:
        """Standard error of the mean of δ - h, √E|error|²."""
        rest = v.clone()
        for block in self._blocks:
            w, _ = block.expected(covariance)
            rest = rest + (block.count * w - 2 * torch.as_tensor(block.with_conjugate).real) / self._own
        return (rest.clamp_min(0) / self._own).sqrt()

    def _error(self, v: Tensor, p: Tensor, covariance: Tensor, nu: int) -> EmpiricalError:
        """Of Gaussian δ and h, from their second moments, by Isserlis' theorem.

        var(|δ|² - |h|²) = V² + |P|² + W² + |Q|² - 2 (|c|² + |e|²), and so on, with W and Q those of h, c = E δh* and
        e = E δh.
        """
        total = [v.square() + p.abs().square(), 2 * v * p, 2 * v.square(), 2 * p.square()]
        for block in self._blocks:
            w, q = block.expected(covariance)
            m = block.count
            c, e = torch.as_tensor(block.with_conjugate) / m, torch.as_tensor(block.with_h) / m
            # |c|² and |e|² of a mean are too large by its variance.
            excess = (2 * v * w + c.abs().square() + e.abs().square()) / m
            share = m / self._own
            total[0] = total[0] + share * (
                w.square() + q.abs().square() - 2 * (c.abs().square() + e.abs().square() - excess).clamp_min(0)
            )
            total[1] = total[1] + share * (2 * w * q - 2 * c.conj() * e - 2 * c * e)
            total[2] = total[2] + share * (2 * w.square() - 4 * c.square().real)
            total[3] = total[3] + share * (2 * q.square() - 4 * e.square())
        scale = 1 / nu if nu else torch.nan
        error = [scale * t for t in total]
        # What features explain of a single voxel is known poorly: where it looks like all, the error is not zero.
        power = v.square().clamp_min(torch.finfo(v.dtype).tiny)
        error[0] = error[0].real
        if v.ndim >= 2:
            nearby = power * local_mean(error[0] / power, ERROR_WINDOW)
            error[0] = torch.maximum(error[0], LEAST_ERROR**2 * nearby)
        freedom = torch.tensor(float(nu), device=v.device)
        return EmpiricalError(error[0].clamp_min(0), error[1], error[2].real.clamp_min(0), error[3], freedom)


@dataclass
class _Block:
    """Samples with the same coefficients: Σ|h|², Σh², Σh, Σδh*, Σδh."""

    coefficients: Tensor | None
    count: int = 0
    square: Tensor | float = 0.0
    pseudo: Tensor | float = 0.0
    sum: Tensor | float = 0.0
    with_conjugate: Tensor | float = 0.0
    with_h: Tensor | float = 0.0

    def add(self, d: Tensor, f: Tensor) -> None:
        """Take in δ, (B, *image), and the features with their conjugates, (B, 2K, *image)."""
        self.count += len(d)
        if self.coefficients is None:
            return
        h = (self.coefficients * f).sum(1)
        self.square = self.square + (h.real.square() + h.imag.square()).sum(0)
        self.pseudo = self.pseudo + h.square().sum(0)
        self.sum = self.sum + h.sum(0)
        self.with_conjugate = self.with_conjugate + (d * h.conj()).sum(0)
        self.with_h = self.with_h + (d * h).sum(0)

    def expected(self, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """E|h|² and E h² from E f fᴴ, (K, K, *image)."""
        if self.coefficients is None:
            zero = torch.zeros(covariance.shape[2:], dtype=covariance.dtype, device=covariance.device)
            return zero.real, zero
        alpha, beta = self.coefficients.chunk(2)
        through = (alpha.unsqueeze(1) * covariance).sum(0)  # α C
        square = (through * alpha.conj()).sum(0).real
        square = square + ((beta.unsqueeze(1) * covariance.conj()).sum(0) * beta.conj()).sum(0).real
        return square, 2 * (through * beta).sum(0)


def _outer(z: Tensor) -> Tensor:
    """Σ z zᴴ over the batch, (B, K, *image) → (K, K, *image)."""
    k = z.shape[1]
    below = {(i, j): (z[:, i] * z[:, j].conj()).sum(0) for i in range(k) for j in range(i + 1)}
    rows = [[below[i, j] if j <= i else below[j, i].conj() for j in range(k)] for i in range(k)]
    return torch.stack([torch.stack(row) for row in rows])
