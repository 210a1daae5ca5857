"""Delays with which the centre of k-space, as delayed spokes measured it, is that of one image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Half the width of the centre in cycles per field of view and the matrix of its image, by the axes along which spokes
# run; steps; numbers in its matrix and combinations of coils at most.
CENTRE, STEPS, MOST, COILS = {1: (8, 24), 2: (7, 20), 3: (3, 10)}, 4, 3 * 10**6, 6
# Of the mean eigenvalue: what holds the image where samples do not, and the phase that all spokes share.
RIDGE = 1e-6


def consistent_delays(
    kspace: Tensor, k: Tensor, start: Tensor, entries: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor, float, float]:
    """Entries of T that minimize Σ_j |y_j - exp(iφ) Σ_r x(r) exp(-2πi (k_j - T v)·r / n)|² over T, x and φ.

    Gauss–Newton; x, an image a coil, is eliminated (Golub and Pereyra 1973, doi:10.1137/0710036). φ is a phase of each
    spoke.

    Parameters
    ----------
    kspace
        y, (coil, spoke, sample), white noise.
    k
        Where the samples were meant to be, (spoke, sample, dimension); v is its step.
    start
        T to begin with, its entries on and above the diagonal.
    entries
        The axes (a, b) of each of them.

    Returns
    -------
    tuple
        T, the standard errors of its entries from what is left, the mean of |what is left|² and of |y|².
    """
    axes = sorted({a for pair in entries for a in pair})
    places = [(axes.index(a), axes.index(b)) for a, b in entries]
    width, matrix = CENTRE[len(axes)]
    k, v = k[..., axes], k.diff(dim=1)[:, :1, axes].expand(-1, k.shape[1], -1)
    near = k.abs().amax(-1) <= width
    every = max(1, -(-int(near.sum()) * matrix ** len(axes) // MOST))
    near[torch.arange(len(near)) % every > 0] = False
    spoke = torch.arange(len(near))[:, None].expand_as(near)[near]
    k, v, y = k[near], v[near], kspace[:, near].T  # (sample, dimension), (sample, coil)
    if y.shape[1] > COILS:
        y = y @ torch.linalg.eigh(y.mH @ y).eigenvectors[:, -COILS:]
    grid = [torch.arange(matrix, dtype=torch.float64) - matrix // 2] * len(axes)
    r = torch.stack(torch.meshgrid(*grid, indexing="ij")).flatten(1) * (-2 * torch.pi / matrix)
    delays, phases, n = start.clone(), torch.zeros(int(spoke.max()) + 1, dtype=torch.float64), len(entries)

    def by_spoke(values: Tensor) -> Tensor:
        return values.new_zeros(len(phases), *values.shape[1:]).index_add(0, spoke, values)

    for _ in range(STEPS):
        late = torch.zeros(len(axes), len(axes), dtype=torch.float64)
        for (i, j), value in zip(places, delays, strict=True):
            late[i, j] = late[j, i] = value
        angle = (k - v @ late) @ r
        e = torch.polar(torch.ones_like(angle), angle)
        gram = e.mH @ e
        factor = torch.linalg.cholesky(gram + RIDGE * len(e) * torch.eye(len(gram)))
        turned = y * torch.polar(torch.ones_like(phases), -phases)[spoke, None]
        x = torch.cholesky_solve(e.mH @ turned, factor)
        model = e @ x
        residual = turned - model
        slopes = [e @ (1j * r[i, :, None] * x) for i in range(len(axes))]
        changes = []
        for i, j in places:
            change = -v[:, j, None] * slopes[i] - (v[:, i, None] * slopes[j] if i != j else 0)
            # What another image would explain as well says nothing of T.
            changes.append(change - e @ torch.cholesky_solve(e.mH @ change, factor))
        # The normal equations of T and φ, whose derivatives are these changes and i model on each spoke.
        change = torch.stack(changes)
        equations = torch.zeros(n + len(phases), n + len(phases), dtype=torch.float64)
        equations[:n, :n] = torch.einsum("pjc,qjc->pq", change.conj(), change).real
        mixed = by_spoke((1j * model * change.conj()).real.sum(-1).T)
        equations[:n, n:], equations[n:, :n] = mixed.T, mixed
        equations[n:, n:] = torch.diag(by_spoke(model.abs().square().sum(1)))
        for column in model.T:
            back = by_spoke(e.conj() * column[:, None]).T  # (voxel, spoke)
            equations[n:, n:] -= (back.mH @ torch.cholesky_solve(back, factor)).real
        right = torch.cat(
            [
                torch.einsum("pjc,jc->p", change.conj(), residual).real,
                by_spoke((-1j * model.conj() * residual).real.sum(1)),
            ]
        )
        shared = RIDGE * float(equations[n:, n:].diagonal().mean())
        equations[n:, n:] += shared * torch.eye(len(phases))
        inverse = torch.linalg.inv(equations)
        step = inverse @ right
        delays, phases = delays + step[:n], phases + step[n:]
    degrees = max(1.0, residual.numel() - x.numel() - len(phases) / 2)
    unexplained = float(residual.abs().square().sum()) / degrees
    return delays, (unexplained / 2 * inverse.diagonal()[:n]).sqrt(), unexplained, float(y.abs().square().mean())
