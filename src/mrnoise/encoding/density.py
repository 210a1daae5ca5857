"""Density compensation of any trajectory by iterations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.checks import check_count
from mrnoise.encoding.nufft import Nufft
from mrnoise.sampling.trajectory import Trajectory

# Of the transform; what the weights depend on is the mean of several of them.
TOLERANCE = 1e-6
# Part of k-space around its centre that says what scale a density has.
CENTRE = 1 / 8


def pipe_menon_density(trajectory: Trajectory, n_iterations: int = 10) -> Tensor:
    """Density compensation of any trajectory such that samples have weight 1 in each cycle per field of view.

    Weights are divided by what they sum to around each sample, w ← w / (C w), from w = 1 on, with the kernel

        C_jl = 1/N Σ_r Λ(r) exp(-2πi Σ_d (k_jd - k_ld) r_d / n_d),   Λ(r) = Π_d (1 - |r_d| / n_d),

    r over all differences of two voxels: positive, and about a cycle wide along each axis. Two transforms of twice the
    matrix an iteration. The unit is that of all densities here, so that gridding Aᴴ w A has unit gain; at the edge of
    k-space, beyond which nothing was measured, weights are larger.

    Parameters
    ----------
    trajectory
        Any; its own density is not used.
    n_iterations
        Ten settle the sums. From then on weights of some samples, which others stand for too, go towards 0, and the
        noise of the others grows.

    Returns
    -------
    Tensor
        Positive, float64, shaped as the samples.

    Raises
    ------
    InputError
        If the number of iterations is not possible.

    References
    ----------
    Pipe and Menon, Magn Reson Med 1999, doi:10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V

    Examples
    --------
    >>> from mrnoise.sampling import radial
    >>> spokes = radial((24, 24), 40, angles="uniform")
    >>> ratio = pipe_menon_density(spokes) / spokes.density
    >>> round(float(ratio.median()), 2)
    1.0
    """
    check_count(n_iterations, "number of iterations")
    summed = _Summed.of(trajectory)
    w = torch.ones(trajectory.sample_shape, dtype=torch.float64, device=trajectory.coordinates.device)
    for _ in range(n_iterations):
        w = w / summed(w)
    return w


def unit_gain(trajectory: Trajectory, density: Tensor) -> Tensor:
    """A density of any scale in samples of the grid, see `Trajectory`.

    It is w / s with the mean s of C w of `pipe_menon_density`, weighted by w, over the samples within an eighth of
    k-space around its centre: there most trajectories leave no gaps, so that weights sum to 1 around each sample.

    Parameters
    ----------
    trajectory
        Any; its own density is not used.
    density
        w, positive, shaped as the samples.

    Returns
    -------
    Tensor
        Float64, shaped as the samples.

    Examples
    --------
    >>> from mrnoise.sampling import radial
    >>> spokes = radial((24, 24), 40, angles="uniform")
    >>> round(float((unit_gain(spokes, 50 * spokes.density) / spokes.density).mean()), 2)
    0.99
    """
    w, k = density.double(), trajectory.coordinates.detach().double()
    edge = torch.tensor(trajectory.image_shape, device=k.device).reshape(-1, *[1] * trajectory.sample_ndim) / 2
    radius = torch.linalg.vector_norm(k / edge, dim=0)
    w_near = w * (radius <= radius.min().clamp_min(CENTRE))
    return w * (w_near.sum() / (w_near * _Summed.of(trajectory)(w)).sum())


@dataclass(frozen=True, eq=False)
class _Summed:
    """C of `pipe_menon_density`: transform of twice the matrix, and Λ."""

    transform: Nufft
    taper: Tensor

    @classmethod
    def of(cls, trajectory: Trajectory) -> _Summed:
        shape = trajectory.image_shape
        k = trajectory.coordinates.detach().double()
        e = Nufft(2 * k, tuple(2 * n for n in shape), TOLERANCE)
        taper = torch.ones((1,) * len(shape), dtype=torch.float64, device=k.device)
        for axis, n in enumerate(shape):
            r = torch.arange(-n, n, dtype=torch.float64, device=k.device)
            taper = taper * (1 - r.abs() / n).reshape(-1, *[1] * (len(shape) - 1 - axis))
        return cls(e, taper * 2 ** len(shape))  # the transforms divide by the doubled matrix

    def __call__(self, density: Tensor) -> Tensor:
        """Density around each sample, (*samples)."""
        return self.transform.forward(self.taper * self.transform.adjoint(density.to(torch.complex128))).real
