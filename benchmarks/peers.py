"""Other ways to a noise map, written from their publications in plain torch: what `benchmarks/estimators.py` races.

Every method is a generator over increasing numbers of samples. It yields that number, the total complex variance of
the image noise, and the seconds spent so far, those of building probes and of averaging included. A method that can
take more samples goes on from those it has; one whose samples come in a single call starts anew, and its seconds are
those of that call.

An estimate by probing of the image can be negative; it is left so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

REPLICAS_PER_BATCH = 8

Estimates = Iterator[tuple[int, Tensor, float]]


@dataclass(frozen=True, eq=False)
class Problem:
    """A reconstruction of one slice and its noise.

    Parameters
    ----------
    reconstruct
        g, k-space (coil, k1, k0) → complex image (y, x).
    kspace
        The measured data y.
    colour, colour_adjoint
        Ψ^{1/2} and its adjoint, with zeros where nothing was acquired, on (..., coil, k1, k0).
    linear
        Whether g is complex-linear, g(n) = J n; a user of SENSE knows.
    """

    reconstruct: Callable[[Tensor], Tensor]
    kspace: Tensor
    colour: Callable[[Tensor], Tensor]
    colour_adjoint: Callable[[Tensor], Tensor]
    linear: bool = False

    def derivative(self, tangent: Tensor) -> Tensor:
        """J t; the reconstruction itself where it is linear."""
        with torch.no_grad():
            if self.linear:
                return self.reconstruct(tangent)
            return torch.func.jvp(self.reconstruct, (self.kspace,), (tangent,))[1]


def paper(problem: Problem, checkpoints: Sequence[int], seed: int) -> Estimates:
    """Jacobian sketching: mean |J Ψ^{1/2} v|² over S random-phase v, all in one vectorised call.

    Dalmaz et al., ICML 2025, arXiv:2505.02007.
    """
    generator = torch.Generator().manual_seed(seed)
    y = problem.kspace
    for count in checkpoints:
        started = time.process_time()
        tangents = problem.colour(_random_phase((count, *y.shape), y.dtype, generator))
        with torch.no_grad():
            responses = torch.func.vmap(lambda t: torch.func.jvp(problem.reconstruct, (y,), (t,))[1])(tangents)
        variance = responses.abs().square().mean(0)
        yield count, variance, time.process_time() - started


def replicas(problem: Problem, checkpoints: Sequence[int], seed: int) -> Estimates:
    """Pseudo multiple replica: sample variance over reconstructions of noisy data, one after the other.

    Robson et al. 2008, doi:10.1002/mrm.21728.
    """
    return _replicas(problem, checkpoints, seed, 1)


def batched_replicas(problem: Problem, checkpoints: Sequence[int], seed: int) -> Estimates:
    """The same, eight replicas in one vectorised reconstruction."""
    return _replicas(problem, checkpoints, seed, REPLICAS_PER_BATCH)


def _replicas(problem: Problem, checkpoints: Sequence[int], seed: int, batch: int) -> Estimates:
    generator = torch.Generator().manual_seed(seed)
    y = problem.kspace
    seconds, done = 0.0, 0
    total = square = first = torch.zeros(())
    for count in checkpoints:
        started = time.process_time()
        while done < count:
            n = min(batch, count - done)
            noisy = y + problem.colour(torch.randn((n, *y.shape), dtype=y.dtype, generator=generator))
            with torch.no_grad():
                images = problem.reconstruct(noisy[0])[None] if n == 1 else torch.func.vmap(problem.reconstruct)(noisy)
            # Sums of differences from one of the images lose no digits.
            first = images[0] if done == 0 else first
            change = (images - first).to(torch.complex128)
            total, square = total + change.sum(0), square + change.abs().square().sum(0)
            done += n
        variance = (square - total.abs().square() / done) / (done - 1)
        seconds += time.process_time() - started
        yield count, variance, seconds


def pico(problem: Problem, checkpoints: Sequence[int], seed: int) -> Estimates:
    """Image-space probing: mean of Re w* ⊙ (J Ψ Jᴴ w) over complex Rademacher images w, a vjp and a jvp each.

    Dalmaz et al. 2026, arXiv:2605.09590; Bekas et al. 2007, doi:10.1016/j.apnum.2007.01.003.
    """
    generator = torch.Generator().manual_seed(seed)
    seconds, done = 0.0, 0
    covariance = total = None
    for count in checkpoints:
        started = time.process_time()
        covariance = covariance or _covariance(problem)
        while done < count:
            w = _complex_signs(covariance.shape, problem.kspace.dtype, generator)
            diagonal = (w.conj() * covariance(w)).real.double()
            total = diagonal if total is None else total + diagonal
            done += 1
        variance = total / done
        seconds += time.process_time() - started
        yield count, variance, seconds


def xdiag(problem: Problem, checkpoints: Sequence[int], seed: int) -> Estimates:
    """XDiag of the image covariance: m probes for a low-rank part, used again for the rest; 4 m products.

    By the package skerch where it is installed, else by `exchangeable_diagonal`. Epperly, Tropp and Webber 2024,
    doi:10.1137/23M1548323.
    """
    for count in checkpoints:
        started = time.process_time()
        matrix = _Matrix(_covariance(problem), real=not problem.linear)
        diagonal = _diagonal_by_skerch(matrix, count, seed) if skerch() else exchangeable_diagonal(matrix, count, seed)
        variance = matrix.variance(diagonal)
        yield count, variance, time.process_time() - started


PEERS = {"paper": paper, "replicas": replicas, "batched replicas": batched_replicas, "pico": pico, "xdiag": xdiag}


def skerch() -> str | None:
    """Version of the package, if it is there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("skerch")
    except PackageNotFoundError:
        return None


# -- the covariance of the image as an operator ----------------------------------------------------------------------


class _covariance:
    """w ↦ J Ψ Jᴴ w; the reconstruction is evaluated once for all vjps."""

    def __init__(self, problem: Problem) -> None:
        value, self._pull = torch.func.vjp(problem.reconstruct, problem.kspace)
        self._problem, self.shape, self.dtype = problem, tuple(value.shape), value.dtype

    def __call__(self, w: Tensor) -> Tensor:
        kspace = self._pull(w)[0].detach()
        return self._problem.derivative(self._problem.colour(self._problem.colour_adjoint(kspace)))


class _Matrix:
    """A covariance with columns for images, as a numerical library wants it: complex, or real of twice the size."""

    def __init__(self, covariance: _covariance, real: bool) -> None:
        self._covariance, self._real = covariance, real
        n = math.prod(covariance.shape) * (2 if real else 1)
        self.shape = (n, n)
        self.dtype = torch.float64 if real else torch.complex128

    def __matmul__(self, columns: Tensor) -> Tensor:
        return torch.stack([self._apply(column) for column in columns.T], 1)

    def __rmatmul__(self, rows: Tensor) -> Tensor:
        # Hermitian.
        return (self @ rows.mH).mH

    def variance(self, diagonal: Tensor) -> Tensor:
        """Total variance; unit circular noise has variance 1/2 in each of its real components."""
        if self._real:
            diagonal = 0.5 * diagonal.reshape(2, -1).sum(0)
        return diagonal.real.reshape(self._covariance.shape)

    def _apply(self, column: Tensor) -> Tensor:
        w = torch.complex(*column.reshape(2, -1)) if self._real else column
        image = self._covariance(w.reshape(self._covariance.shape).to(self._covariance.dtype)).flatten()
        return (torch.cat([image.real, image.imag]) if self._real else image).to(self.dtype)


def exchangeable_diagonal(matrix: _Matrix, count: int, seed: int) -> Tensor:
    """Mean over i of diag(Q_i Q_iᴴ A) + ω̄_i ⊙ (1 - Q_i Q_iᴴ) A ω_i, Q_i a basis of A Ω without its column i.

    With AΩ = QR and s_i the normalised column i of R^{-H}: Q_i Q_iᴴ = Q (1 - s_i s_iᴴ) Qᴴ.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (matrix.shape[0], count)
    complex_ = matrix.dtype.is_complex
    omega = _random_phase(shape, matrix.dtype, generator) if complex_ else _signs(shape, generator)
    q, r = torch.linalg.qr(matrix @ omega)
    inverse = torch.linalg.inv(r).mH
    s = inverse / inverse.norm(dim=0)
    eye = torch.eye(count, dtype=q.dtype)
    low_rank = (q @ (eye - s @ s.mH / count) * (matrix @ q).conj()).sum(1)
    rest = q @ (s * (s.conj() * r).sum(0))
    return low_rank + (omega.conj() * rest).mean(1)


def _diagonal_by_skerch(matrix: _Matrix, count: int, seed: int) -> Tensor:
    from skerch.algorithms import xhutchpp

    noise = "phase" if matrix.dtype.is_complex else "rademacher"
    return xhutchpp(matrix, torch.device("cpu"), matrix.dtype, x_dims=count, seed=seed, noise_type=noise)["diag"]


# -- probes ----------------------------------------------------------------------------------------------------------


def _random_phase(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    angle = 2 * torch.pi * torch.rand(tuple(shape), generator=generator, dtype=dtype.to_real())
    return torch.polar(torch.ones_like(angle), angle)


def _signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, tuple(shape), generator=generator).double() - 1.0


def _complex_signs(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """(±1 ± j) / √2."""
    return (0.5**0.5 * torch.complex(_signs(shape, generator), _signs(shape, generator))).to(dtype)
