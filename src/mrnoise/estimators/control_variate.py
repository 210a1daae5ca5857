"""Control variates: the part of the noise that cheap linear images explain, whose variance is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.moments import Accumulator, local_mean
from mrnoise.estimators.sampling_error import GaussianError, MomentError

# Coefficients are fitted for the first time after this many samples for each, then whenever there are this many times
# as many.
SAMPLES_PER_COEFFICIENT, GROWTH = 2, 1.25
# Voxels along a side of the window in which they are fitted: neighbours filter noise alike.
WINDOW = 3
# Voxels whose products stay in the cache of a processor.
CHUNK = 2048
# Added to the second moments of the features for the fit, relative to their mean.
RIDGE = 1e-2


class Features(Protocol):
    """K images f that are complex-linear in the noise, cheap, and of known covariance."""

    @property
    def n_images(self) -> int:
        """K."""
        ...

    @property
    def covariance(self) -> Tensor:
        """E f fᴴ in every voxel, (K, K, *image)."""
        ...

    def __call__(self, noise: Tensor) -> Tensor:
        """Unit noise (B, *noise) → (B, K, *image)."""
        ...


class ControlledMoments(Accumulator):
    """Running sums of |δ|² - |h|² and δ² - h², with h = αf + βf* the part of δ that the features f explain.

        V = E(|δ|² - |h|²) + E|h|²,    P = E(δ² - h²) + E h²,

    the last of each known from E f fᴴ of complex-linear f. The coefficients for every other sample are fitted to those
    between: the mean is unbiased whatever they are. Where h explains the fraction ρ² of Gaussian noise, the variance of
    V falls by 1 - ρ⁴ (control variates with estimated coefficients: Lavenberg and Welch 1981,
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
        An interrupted estimate to go on from, which has the sums.
    """

    def __init__(self, features: Features, method: str, known_mean: bool, start: Estimate | None = None) -> None:
        self.method, self.known_mean = method, known_mean
        self.count = 0
        self._features = features
        self._covariance = features.covariance.to(torch.complex128)
        # Of samples with even and odd index; those of one are explained with coefficients fitted to the other.
        like = self._covariance[0, 0]
        self._folds = tuple(_Sums(features.n_images, like) for _ in range(2))
        none = _Coefficients(like.new_zeros(2 * features.n_images, *like.shape), 0 * like.real, 0 * like)
        self._coefficients, self._fitted = (none, none), False
        if start is not None and start.sums is not None:
            self._restore(start.sums)

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in δ, (B, *image), and the noise it is the response to."""
        f = self._features(probes)
        z = torch.stack([samples.real, samples.imag if samples.is_complex() else torch.zeros_like(samples)], 1)
        z = torch.cat([z, f.real.to(z), f.imag.to(z)], 1)
        while len(z):
            # At fixed numbers of samples, whatever the batches.
            end = SAMPLES_PER_COEFFICIENT * 2 * self._features.n_images
            while end <= self.count:
                end = math.ceil(GROWTH * end)
            part, z = z[: end - self.count], z[end - self.count :]
            for fold in range(2):
                self._folds[fold].add(part[(fold - self.count) % 2 :: 2])
            self.count += len(part)
            if self.count == end:
                self._coefficients, self._fitted = (self._fit(self._folds[1]), self._fit(self._folds[0])), True

    def sums(self) -> Mapping[str, Tensor]:
        """Themselves, and the coefficients."""
        kept = {"count": torch.tensor([self.count, *(fold.count for fold in self._folds)])}
        for i, (fold, coefficients) in enumerate(zip(self._folds, self._coefficients, strict=True)):
            kept |= {f"sum {i}": fold.sum, f"moments {i}": fold.moments}
            kept |= {f"coefficients {i}": coefficients.c} if self._fitted else {}
        return kept

    def _restore(self, kept: Mapping[str, Tensor]) -> None:
        self.count, *counts = (int(n) for n in kept["count"])
        self._fitted = "coefficients 0" in kept
        for i, fold in enumerate(self._folds):
            fold.count = counts[i]
            fold.sum, fold.moments = (kept[f"{name} {i}"].to(fold.sum.device).clone() for name in ("sum", "moments"))
        if self._fitted:
            device = self._covariance.device
            found = [_Coefficients.of(kept[f"coefficients {i}"].to(device), self._covariance) for i in range(2)]
            self._coefficients = (found[0], found[1])

    def _fit(self, sums: _Sums) -> _Coefficients:
        """By least squares over the samples and the voxels around each."""
        moments = local_mean(sums.moments, WINDOW) if sums.moments.ndim >= 4 else sums.moments
        return _Coefficients.of(_least_squares(moments), self._covariance)

    # -- what they say -----------------------------------------------------------------------------------------

    def estimate(self, interrupted: bool) -> Estimate:
        """Variance and pseudo-variance; NaN error where too few samples tell."""
        n = self.count
        folds = [_Fold(sums, c) for sums, c in zip(self._folds, self._coefficients, strict=True) if sums.count]
        shares = [fold.count / n for fold in folds]

        def mean_of(name: str) -> Tensor:
            return torch.stack([share * getattr(fold, name) for share, fold in zip(shares, folds, strict=True)]).sum(0)

        square, pseudo, mean = mean_of("d_square"), mean_of("d_pseudo"), mean_of("d")
        some = square > 0
        # Of the rest δ - h. Its mean is that of δ, without the noise that h explains.
        centre = mean - mean_of("h")
        rest = square + mean_of("square") - 2 * mean_of("with_conjugate").real
        nu = n
        if not self.known_mean:
            nu = n - 1
            rest = (rest - centre.abs().square()).clamp_min(0) * n / max(nu, 1)
            pseudo_rest = pseudo + mean_of("pseudo") - 2 * mean_of("with_h") - centre.square()
            # About the centre, which takes E|error|² of it away.
            square = square - 2 * (mean.conj() * centre).real + centre.abs().square() + rest / n
            pseudo = pseudo - 2 * mean * centre + centre.square() + pseudo_rest / max(nu, 1)
        v = square + mean_of("expected") - mean_of("square")
        p = pseudo + mean_of("expected_pseudo") - mean_of("pseudo")
        # Where no coil sees anything there is no noise, whatever the features around it.
        v, p = (torch.where(some, moment, 0) for moment in (v, p))
        error_sample = None
        if len(folds) == 2:
            # What the folds say by themselves, about the same centre: independent but for the coefficients.
            own = [fold.controlled(0 * centre if self.known_mean else centre) for fold in folds]
            contrast = torch.where(some, own[0] - own[1], 0)
            error_sample = contrast * (shares[0] * shares[1] * n / nu) ** 0.5
        undefined = torch.nan if nu == 0 else 1.0
        freedom = torch.tensor(float(nu if n > 1 else 0))
        return Estimate(
            variance=v.clamp_min(0) * undefined,
            pseudo_variance=p * undefined,
            error=_error(folds, self.known_mean, nu) if self._fitted else GaussianError(freedom),
            method=self.method,
            n_samples=n,
            n_products=n,
            interrupted=interrupted,
            mean=None if self.known_mean else centre,
            mean_error=None if self.known_mean else (rest / n).sqrt(),
            error_sample=error_sample,
        )


def _error(folds: Sequence[_Fold], known_mean: bool, nu: int) -> MomentError:
    """Of Gaussian δ and h, from their second moments, by Isserlis' theorem.

    var(|δ|² - |h|²) = V² + |P|² + W² + |Q|² - 2 (|c|² + |e|²), and so on, with W and Q those of h, c = E δh* and
    e = E δh. All are taken from the samples, those of h too: what h leaves, V + W - 2 Re c, would be lost in the noise
    of V and c otherwise.
    """
    parts = []
    for fold in folds:
        v, p, w, q, c, e = fold.moments() if known_mean else fold.central_moments()
        rest = c.abs().square() + e.abs().square()
        parts.append(
            (
                v.square() + p.abs().square() + w.square() + q.abs().square() - 2 * rest,
                2 * (v * p + w * q - 2 * c.real * e),
                2 * (v.square() + w.square() - 2 * c.square().real),
                2 * (p.square() + q.square() - 2 * e.square()),
            )
        )
    n = sum(fold.count for fold in folds)
    total = [sum(fold.count / n * x for fold, x in zip(folds, xs, strict=True)) for xs in zip(*parts, strict=True)]
    some = torch.stack([fold.d_square for fold in folds]).sum(0) > 0
    error = [torch.where(some, t / nu, 0) for t in total]
    freedom = torch.tensor(float(nu), device=v.device)
    return MomentError(error[0].real.clamp_min(0), error[1], error[2].real.clamp_min(0), error[3], freedom)


class _Sums:
    """Σ z and the upper triangle of Σ z zᵀ over samples of z = (Re δ, Im δ, g), zeros below."""

    def __init__(self, n_features: int, like: Tensor) -> None:
        m = 2 + 2 * n_features
        self.count = 0
        self.sum = like.new_zeros(m, *like.shape, dtype=torch.float64)
        self.moments = like.new_zeros(m, m, *like.shape, dtype=torch.float64)

    def add(self, z: Tensor) -> None:
        """Take in (B, 2 + 2K, *image)."""
        self.count += len(z)
        z, moments = z.flatten(2), self.moments.flatten(2)
        self.sum += z.sum(0).reshape(self.sum.shape)
        for start in range(0, z.shape[-1], CHUNK):
            part = z[..., start : start + CHUNK].contiguous()
            for i in range(part.shape[1]):
                moments[i, i:, start : start + CHUNK] += (part[:, i : i + 1] * part[:, i:]).sum(0)


@dataclass(frozen=True)
class _Coefficients:
    """c, (2K, *image), with E|h|² and E h² of h = c g."""

    c: Tensor
    square: Tensor
    pseudo: Tensor

    @classmethod
    def of(cls, c: Tensor, covariance: Tensor) -> _Coefficients:
        """By the covariance of f.

        h = u + y* with u and y complex-linear in f: E|h|² = E|u|² + E|y|² and E h² = 2 E uy*.
        """
        re, im = c.chunk(2)
        u, y = 0.5 * (re - 1j * im), 0.5 * (re + 1j * im).conj()
        through_u, through_y = ((covariance * x.unsqueeze(1)).sum(0) for x in (u, y))
        square = (through_u * u.conj()).sum(0).real + (through_y * y.conj()).sum(0).real
        return cls(c, square, 2 * (through_u * y.conj()).sum(0))


class _Fold:
    """Means over samples with the same coefficients: of |δ|², δ², δ, |h|², h², h, δh* and δh; E|h|² and E h²."""

    def __init__(self, sums: _Sums, coefficients: _Coefficients) -> None:
        self.count, c = sums.count, coefficients.c
        z, zz = sums.sum / sums.count, sums.moments / sums.count
        self.d_square = zz[0, 0] + zz[1, 1]
        self.d_pseudo = torch.complex(zz[0, 0] - zz[1, 1], 2 * zz[0, 1])
        self.d, self.h = torch.complex(z[0], z[1]), (c * z[2:]).sum(0)
        self.expected, self.expected_pseudo = coefficients.square, coefficients.pseudo
        self.square, self.pseudo = torch.zeros_like(self.d_square), torch.zeros_like(self.d_pseudo)
        for i in range(len(c)):
            row = zz[2 + i, 2 + i :]
            # The diagonal once, what lies beside it twice.
            re, im = (2 * (part[i:] * row).sum(0) - part[i] * row[0] for part in (c.real, c.imag))
            self.square += c.real[i] * re + c.imag[i] * im
            self.pseudo += torch.complex(c.real[i] * re - c.imag[i] * im, c.real[i] * im + c.imag[i] * re)
        with_re, with_im = ((c * zz[i, 2:]).sum(0) for i in range(2))
        self.with_conjugate, self.with_h = with_re.conj() + 1j * with_im.conj(), with_re + 1j * with_im

    def controlled(self, centre: Tensor) -> Tensor:
        """V of these samples alone, |d - centre|² - |h|² + E|h|² on average, but for |centre|²."""
        return self.d_square - 2 * (self.d * centre.conj()).real - self.square + self.expected

    def moments(self) -> tuple[Tensor, ...]:
        """V, P, W, Q, c and e."""
        return self.d_square, self.d_pseudo, self.square, self.pseudo, self.with_conjugate, self.with_h

    def central_moments(self) -> tuple[Tensor, ...]:
        """The same about the means."""
        d, h = self.d, self.h
        products = (d.abs().square(), d.square(), h.abs().square(), h.square(), d * h.conj(), d * h)
        scale = self.count / max(self.count - 1, 1)
        return tuple(scale * (m - product) for m, product in zip(self.moments(), products, strict=True))


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
