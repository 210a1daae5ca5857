"""The receiver noise covariance Ψ: estimated, checked, factored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from mrnoise.checks import all_finite
from mrnoise.errors import InputError
from mrnoise.tensor_record import TensorRecord

HERMITIAN_TOLERANCE = 1e-4
# A coil with less than this part of the largest variance is dead.
DEAD = 1e-12
# Two coils with 1 - |correlation|² below this are one: noise of single precision is no reason to differ by more.
COPY = 1e-6


@dataclass(frozen=True, eq=False)
class NoiseCovariance(TensorRecord):
    """Covariance between coils of the noise of one k-space sample, Ψ = E[n nᴴ].

    Ψ_cc = E|n_c|² is the total complex variance, real plus imaginary part.

    Parameters
    ----------
    matrix
        (coil, coil), Hermitian and positive definite, in squared k-space units. Stored as complex128.
    source
        How it was obtained, for the record of every map that rests on it.
    n_samples
        Noise samples behind it, where it was estimated.

    Raises
    ------
    InputError
        If the matrix is not square, finite, Hermitian and positive definite.

    Examples
    --------
    >>> psi = NoiseCovariance(torch.tensor([[2.0, 0.5j], [-0.5j, 1.0]]))
    >>> psi.n_coils, psi.mean_variance, round(psi.largest_correlation, 3), round(psi.condition_number, 2)
    (2, 1.5, 0.354, 2.78)
    >>> torch.allclose(psi.whiten(psi.factor, 0), torch.eye(2, dtype=torch.complex128))
    True
    """

    matrix: Tensor
    source: str = "given"
    n_samples: int | None = field(default=None)

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.matrix).to(torch.complex128).resolve_conj()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
            raise InputError(
                "noise covariance has the wrong shape",
                expected="a square matrix (coil, coil)",
                received=f"shape {tuple(matrix.shape)}",
                remedy="Give Ψ = (1/N) N Nᴴ of the noise samples N (coil, sample).",
            )
        if not all_finite(matrix):
            raise InputError(
                "noise covariance contains NaN or infinite entries",
                expected="finite entries",
                received=f"{int((~torch.isfinite(matrix.abs())).sum())} entries that are not",
                remedy="Check the noise scan for corrupt readouts.",
            )
        asymmetry = float((matrix - matrix.mH).abs().max() / matrix.abs().max().clamp_min(1e-300))
        if asymmetry > HERMITIAN_TOLERANCE:
            raise InputError(
                "noise covariance is not Hermitian",
                expected=f"Ψ = Ψᴴ within {HERMITIAN_TOLERANCE:g} of its largest entry",
                received=f"a largest difference of {asymmetry:.3g}",
                remedy="Compute Ψ = (1/N) N Nᴴ with the conjugate transpose, not the transpose.",
            )
        matrix = 0.5 * (matrix + matrix.mH)
        eigenvalues = torch.linalg.eigvalsh(matrix)
        # Below this an eigenvalue is zero as far as double precision can tell.
        floor = matrix.shape[0] * torch.finfo(torch.float64).eps * float(eigenvalues.abs().max())
        if float(eigenvalues[0]) <= floor:
            faulty = faulty_coils(matrix)
            named = "".join(f"; coil {i} is {what}" for i, what in faulty.items())
            raise InputError(
                "noise covariance is not positive definite",
                expected="all eigenvalues positive",
                received=f"eigenvalue 0 of {len(eigenvalues)} = {float(eigenvalues[0]):.3g} "
                f"(largest {float(eigenvalues[-1]):.3g}){named}",
                remedy=f"Leave these coils out: --drop-coils {','.join(map(str, faulty))}, or --drop-coils auto."
                if faulty
                else "Measure more noise samples than coils; combined or virtual coils depend on each other.",
            )
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def of(cls, matrix: NoiseCovariance | Tensor) -> NoiseCovariance:
        """The covariance itself, or one made of a (coil, coil) matrix."""
        return matrix if isinstance(matrix, cls) else cls(torch.as_tensor(matrix))

    @property
    def n_coils(self) -> int:
        """Number of coils."""
        return int(self.matrix.shape[0])

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor Ψ^{1/2} with Ψ^{1/2} (Ψ^{1/2})ᴴ = Ψ."""
        return torch.linalg.cholesky(self.matrix)

    @cached_property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues, ascending."""
        return torch.linalg.eigvalsh(self.matrix)

    @property
    def condition_number(self) -> float:
        """Ratio of the largest to the smallest eigenvalue."""
        return float(self.eigenvalues[-1] / self.eigenvalues[0])

    @property
    def mean_variance(self) -> float:
        """Mean over coils of Ψ_cc."""
        return float(self.matrix.diagonal().real.mean())

    @property
    def largest_correlation(self) -> float:
        """Largest |Ψ_ab| / √(Ψ_aa Ψ_bb) between two different coils."""
        scale = self.matrix.diagonal().real.rsqrt()
        correlation = (scale[:, None] * self.matrix * scale).abs()
        return float((correlation - torch.eye(self.n_coils, dtype=torch.float64, device=correlation.device)).max())

    @cached_property
    def inverse_factor(self) -> Tensor:
        """Ψ^{-1/2}, lower triangular, complex128."""
        identity = torch.eye(self.n_coils, dtype=torch.complex128, device=self.matrix.device)
        return torch.linalg.solve_triangular(self.factor, identity, upper=False)

    def colour(self, noise: Tensor, coil_axis: int) -> Tensor:
        """Ψ^{1/2} applied along ``coil_axis``: unit circular noise becomes receiver noise."""
        return _along(self.factor.to(noise), noise, coil_axis)

    def colour_adjoint(self, values: Tensor, coil_axis: int) -> Tensor:
        """(Ψ^{1/2})ᴴ applied along ``coil_axis``."""
        return _along(self.factor.mH.to(values), values, coil_axis)

    def whiten(self, values: Tensor, coil_axis: int) -> Tensor:
        """Ψ^{-1/2} applied along ``coil_axis``: receiver noise becomes unit circular noise."""
        return _along(self.inverse_factor.to(values), values, coil_axis)

    def select(self, coils: list[int]) -> NoiseCovariance:
        """Covariance of these coils, in this order."""
        index = torch.tensor(coils, device=self.matrix.device)
        return NoiseCovariance(self.matrix[index][:, index], self.source, self.n_samples)

    def scaled(self, factor: float, why: str) -> NoiseCovariance:
        """Covariance multiplied by ``factor``; ``why`` is added to the source."""
        return NoiseCovariance(self.matrix * factor, f"{self.source}; {why}", self.n_samples)

    def describe(self) -> dict[str, object]:
        """The conditioning report."""
        return {
            "source": self.source,
            "coils": self.n_coils,
            "samples": self.n_samples,
            "mean_variance": self.mean_variance,
            "condition_number": self.condition_number,
            "smallest_eigenvalue": float(self.eigenvalues[0]),
            "largest_eigenvalue": float(self.eigenvalues[-1]),
            "largest_correlation": self.largest_correlation,
        }


def faulty_coils(matrix: Tensor) -> dict[int, str]:
    """Coils that alone make a covariance singular, counted from 0, and what is wrong with each.

    Parameters
    ----------
    matrix
        (coil, coil), Hermitian.

    Returns
    -------
    dict
        "dead" for a coil without variance, "a copy of coil i" for one that is proportional to an earlier one.

    Examples
    --------
    >>> faulty_coils(torch.tensor([[2.0, 0, 2.0], [0, 0, 0], [2.0, 0, 2.0]]))
    {1: 'dead', 2: 'a copy of coil 0'}
    """
    variance = matrix.diagonal().real
    found = dict.fromkeys((variance <= DEAD * variance.max()).nonzero().flatten().tolist(), "dead")
    copies = matrix.abs().square() > (1 - COPY) * variance[:, None] * variance
    for first, second in copies.triu(1).nonzero().tolist():
        if first not in found:
            found.setdefault(second, f"a copy of coil {first}")
    return dict(sorted(found.items()))


def _along(matrix: Tensor, values: Tensor, axis: int) -> Tensor:
    # Not tensordot: its derivative imports the compiler of torch, seconds of the first map.
    return (values.movedim(axis, -1) @ matrix.mT).movedim(-1, axis)


def noise_covariance_from_scan(noise: Tensor, source: str = "noise scan") -> NoiseCovariance:
    """Ψ = (1/N) N Nᴴ from samples that hold noise only.

    Parameters
    ----------
    noise
        Complex, (coil, ...); everything behind the coil axis is samples.

    Returns
    -------
    NoiseCovariance
        Total complex variance, in the squared units of the samples; it knows their number.

    Raises
    ------
    InputError
        If there are not more samples than coils, or the samples are not finite.

    Examples
    --------
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 3)
    >>> psi = noise_covariance_from_scan(head.noise_scan(5000))
    >>> psi.n_samples, round(psi.mean_variance / head.noise_covariance.mean_variance, 2)
    (5000, 0.99)
    """
    samples = noise.reshape(noise.shape[0], -1).to(torch.complex128)
    n_coils, n_samples = samples.shape
    if n_samples <= n_coils:
        raise InputError(
            "too few noise samples",
            expected=f"more than {n_coils} samples for {n_coils} coils",
            received=f"{n_samples}",
            remedy="Give a longer noise scan; the coil axis comes first: (coil, sample).",
        )
    if not all_finite(samples):
        raise InputError(
            "noise samples contain NaN or infinite values",
            expected="finite samples",
            received=f"{int((~torch.isfinite(samples.abs())).sum())} samples that are not",
            remedy="Remove the corrupt readouts from the noise scan.",
        )
    return NoiseCovariance(samples @ samples.mH / n_samples, f"{source}, {n_samples} samples", n_samples)
