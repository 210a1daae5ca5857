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
# Voxels whose products stay in the cache of a processor.
CHUNK = 2048
# Added to the second moments of the features for the fit, relative to their mean.
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

        V = E(|δ|² - |h|²) + c G cᴴ,    P = E(δ² - h²) + c G cᵀ,    h = c g,    g = (Re f, Im f),

    c complex, and G = E g gᵀ known from E f fᴴ of complex-linear f. The coefficients of a voxel are fitted to the
    samples before those they are used for: the mean is unbiased whatever they are. Where h explains the fraction ρ²
    of Gaussian noise, the variance of V falls by 1 - ρ⁴ (control variates with estimated coefficients: Lavenberg and
    Welch 1981, doi:10.1287/mnsc.27.3.322).

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
        self._covariance = _of_parts(features.covariance.to(torch.complex128))
        # Samples with coefficients of their own, as many times as their number was doubled; and those of the last.
        self._blocks: list[_Block] = []
        self._sums, self._past = (_Sums(self._covariance) for _ in "ab")
        zero = torch.zeros_like(self._covariance[0])
        self._coefficients, self._expected = torch.complex(zero, zero), (zero[0], torch.complex(zero[0], zero[0]))

    @property
    def count(self) -> int:
        """Samples, those of the earlier estimate included."""
        return self._own + (0 if self.start is None else self.start.n_samples)

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in δ, (B, *image), and the noise it is the response to."""
        f = self._features(probes)
        z = torch.stack([samples.real, samples.imag if samples.is_complex() else torch.zeros_like(samples)], 1)
        z = torch.cat([z, f.real.to(z), f.imag.to(z)], 1)
        first = end = SAMPLES_PER_COEFFICIENT * len(self._covariance)
        while len(z):
            while end <= self._own:
                end *= 2
            if self._own >= first and 2 * self._own == end:
                self._fit()
            part = min(len(z), end - self._own)
            self._sums.add(z[:part])
            self._own += part
            z = z[part:]

    def _fit(self) -> None:
        """Coefficients by least squares over all samples and the voxels around each, for the samples that follow."""
        self._blocks.append(self._block())
        self._past.merge(self._sums)
        moments = self._past.moments
        if moments.ndim >= 4:
            moments = local_mean(moments, WINDOW)
        self._coefficients = _least_squares(moments)
        through = (self._covariance * self._coefficients.unsqueeze(1)).sum(0)
        self._expected = (through * self._coefficients.conj()).sum(0).real, (through * self._coefficients).sum(0)

    def _block(self) -> _Block:
        return _Block.of(self._sums, self._coefficients, *self._expected)

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
        blocks = [*self._blocks, self._block()]
        square = torch.stack([b.d_square for b in blocks]).sum(0) / n
        pseudo, mean = (torch.stack([getattr(b, name) for b in blocks]).sum(0) / n for name in ("d_pseudo", "d_sum"))
        nu = n
        if not self.known_mean:
            nu = n - 1
            square = (square - mean.abs().square()) * n / max(nu, 1)
            pseudo = (pseudo - mean.square()) * n / max(nu, 1)
        blocks = [b for b in blocks if b.count]
        v = square + torch.stack([(b.count * b.expected - b.square) / n for b in blocks]).sum(0)
        p = pseudo + torch.stack([(b.count * b.expected_pseudo - b.pseudo) / n for b in blocks]).sum(0)
        explained = torch.stack([b.sum / n for b in blocks]).sum(0)
        undefined = torch.nan if nu == 0 else 1.0
        return Estimate(
            variance=v.clamp_min(0) * undefined,
            pseudo_variance=p * undefined,
            error=self._error(blocks, square, pseudo, nu if n > 1 else 0),
            method=self.method,
            n_samples=n,
            n_products=n,
            interrupted=interrupted,
            mean=None if self.known_mean else mean - explained,
            mean_error=None if self.known_mean else self._mean_error(blocks, square),
        )

    def _mean_error(self, blocks: list[_Block], v: Tensor) -> Tensor:
        """Standard error of the mean of δ - h, √E|error|²."""
        rest = v.clone()
        for block in blocks:
            rest = rest + (block.count * block.expected - 2 * block.with_conjugate.real) / self._own
        return (rest.clamp_min(0) / self._own).sqrt()

    def _error(self, blocks: list[_Block], v: Tensor, p: Tensor, nu: int) -> EmpiricalError:
        """Of Gaussian δ and h, from their second moments, by Isserlis' theorem.

        var(|δ|² - |h|²) = V² + |P|² + W² + |Q|² - 2 (|c|² + |e|²), and so on, with W and Q those of h, c = E δh* and
        e = E δh.
        """
        total = [v.square() + p.abs().square(), 2 * v * p, 2 * v.square(), 2 * p.square()]
        for block in blocks:
            w, q, m = block.expected, block.expected_pseudo, block.count
            c, e = block.with_conjugate / m, block.with_h / m
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


class _Sums:
    """Σ z and the upper triangle of Σ z zᵀ over samples of z = (Re δ, Im δ, g), zeros below."""

    def __init__(self, covariance: Tensor) -> None:
        m, image = len(covariance) + 2, covariance.shape[2:]
        self.count = 0
        self.sum = covariance.new_zeros(m, *image)
        self.moments = covariance.new_zeros(m, m, *image)

    def add(self, z: Tensor) -> None:
        """Take in (B, 2 + 2K, *image)."""
        self.count += len(z)
        z, moments = z.flatten(2), self.moments.flatten(2)
        self.sum += z.sum(0).reshape(self.sum.shape)
        for start in range(0, z.shape[-1], CHUNK):
            part = z[..., start : start + CHUNK].contiguous()
            for i in range(part.shape[1]):
                moments[i, i:, start : start + CHUNK] += (part[:, i : i + 1] * part[:, i:]).sum(0)

    def merge(self, other: _Sums) -> None:
        """Take over all samples of other sums, which are empty then."""
        self.count += other.count
        self.sum += other.sum
        self.moments += other.moments
        other.count = 0
        other.sum.zero_()
        other.moments.zero_()


@dataclass(frozen=True)
class _Block:
    """Samples with the same coefficients: sums of |δ|², δ², δ, |h|², h², h, δh*, δh, and E|h|² and E h²."""

    count: int
    d_square: Tensor
    d_pseudo: Tensor
    d_sum: Tensor
    square: Tensor
    pseudo: Tensor
    sum: Tensor
    with_conjugate: Tensor
    with_h: Tensor
    expected: Tensor
    expected_pseudo: Tensor

    @staticmethod
    def of(sums: _Sums, c: Tensor, expected: Tensor, expected_pseudo: Tensor) -> _Block:
        """From sums over its samples, c (2K, *image), and what is expected with it."""
        z, zz = sums.sum, sums.moments
        with_re, with_im = ((c * zz[i, 2:]).sum(0) for i in range(2))
        square, pseudo = torch.zeros_like(expected), torch.zeros_like(expected_pseudo)
        for i in range(len(c)):
            row = zz[2 + i, 2 + i :]
            # The diagonal once, what lies beside it twice.
            re, im = (2 * (part[i:] * row).sum(0) - part[i] * row[0] for part in (c.real, c.imag))
            square += c.real[i] * re + c.imag[i] * im
            pseudo += torch.complex(c.real[i] * re - c.imag[i] * im, c.real[i] * im + c.imag[i] * re)
        return _Block(
            count=sums.count,
            d_square=zz[0, 0] + zz[1, 1],
            d_pseudo=torch.complex(zz[0, 0] - zz[1, 1], 2 * zz[0, 1]),
            d_sum=torch.complex(z[0], z[1]),
            square=square,
            pseudo=pseudo,
            sum=(c * z[2:]).sum(0),
            with_conjugate=with_re.conj() + 1j * with_im.conj(),
            with_h=with_re + 1j * with_im,
            expected=expected,
            expected_pseudo=expected_pseudo,
        )


def _least_squares(moments: Tensor) -> Tensor:
    """Coefficients c (2K, *image) that minimise E|δ - c g|² + ridge |c|², from the upper triangle of E z zᵀ.

    Elimination without pivots, all voxels at once: the matrix is positive definite.
    """
    among, with_d = moments[2:, 2:].clone(), torch.complex(moments[0, 2:], moments[1, 2:])
    n = len(among)
    # Where no coil sees anything, there is nothing to fit.
    ridge = RIDGE * among.diagonal().mean(-1) + torch.finfo(among.dtype).tiny
    for i in range(n):
        among[i, i] += ridge
    for i in range(n):
        for j in range(i + 1, n):
            factor = among[i, j] / among[i, i]
            among[j, j:] -= factor * among[i, j:]
            with_d[j] -= factor * with_d[i]
    c = torch.zeros_like(with_d)
    for i in reversed(range(n)):
        c[i] = (with_d[i] - (among[i, i + 1 :] * c[i + 1 :]).sum(0)) / among[i, i]
    return c


def _of_parts(covariance: Tensor) -> Tensor:
    """E g gᵀ of g = (Re f, Im f), (2K, 2K, *image), from E f fᴴ of proper f."""
    re, im = covariance.real, covariance.imag
    return 0.5 * torch.cat([torch.cat([re, -im], 1), torch.cat([im, re], 1)])
