"""Closed-form noise of GRAPPA with fixed kernels, from its unmixing weights in image space."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.closed_form.averages import uniform_averages
from mrnoise.errors import InputError
from mrnoise.reconstruction.grappa import BoundGrappa, Grappa, Interpolation

# Numbers of one block of positions along the other axes.
BLOCK = 2**24


def grappa_std(reconstruction: Grappa, acquisition: Acquisition) -> Tensor:
    """σ of a GRAPPA image with fixed kernels, in closed form; of a root sum of squares to first order.

    An acquired sample q of coil d reaches voxel r by itself and by each missing sample q + δ that it is a source of,

        u_d(r, q) = b_d(r) + Σ_δ e^(2πi δ·r/n) Σ_c b_c(r) W_cd^δ(r),   x(r) = N^(-1/2) Σ_qd e^(2πi q·r/n) u_d(r, q) y_qd

    along the undersampled axes, N samples, with b the weights of the combination; in the image along the others. Were
    every δ missing around every q, u would be the unmixing weights of Breuer 2009, doi:10.1002/mrm.22066, and σ² their
    Σ_d|u_d|² ψ/R. At edges and beside calibration lines some are not: the sum over q is a quadratic form,

        σ² = ψ/N Σ_d t_dᴴ Q t_d,   t_d = (b_d, …, Σ_c b_c W_cd^δ, …),

    Q_δδ' the number of samples q of which both q + δ and q + δ' are missing.

    Exact for any Ψ, with calibration lines kept. Of a root sum of squares b = z*/‖z‖ and σ² is half of that.

    Parameters
    ----------
    reconstruction
        With fixed kernels: ``differentiate_calibration=False``, or separate calibration lines.
    acquisition
        One image.

    Returns
    -------
    Tensor
        Standard deviation, image-shaped, float64: total complex, of a root sum of squares that of the real image.

    Raises
    ------
    InputError
        If kernels or weights follow the noise, or averages differ between samples.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 4, mask=equispaced((32, 24), 2, calibration=12))
    >>> method = Grappa((2, 3), combination="adaptive", differentiate_calibration=False)
    >>> exact = noise_map(method, scan, method="exact").std
    >>> torch.allclose(grappa_std(method, scan), exact, rtol=1e-4)
    True
    """
    bound = reconstruction.bind(acquisition)
    follows = bound.kernels is None or (bound.weights is None and reconstruction.combination != "rss")
    if follows or acquisition.batch_shape:
        raise InputError(
            "there is no closed form of this noise",
            expected="GRAPPA of one image with fixed kernels",
            received="kernels that follow the noise" if follows else f"images {acquisition.image_shape}",
            remedy='Use method="auto", or Grappa(differentiate_calibration=False).',
        )
    repeats = uniform_averages(acquisition)
    weights = bound.weights
    if weights is None:
        images = bound.coil_images(acquisition.kspace).to(torch.complex128)
        norm = torch.linalg.vector_norm(images, dim=0, keepdim=True)
        weights = images.conj() / torch.where(norm > 0, norm, 1.0)
    share = 0.5 if bound.weights is None else 1.0
    power = _power(bound, weights.to(torch.complex128))
    return (share * acquisition.noise_covariance.mean_variance / repeats * power).sqrt()


def _power(bound: BoundGrappa, weights: Tensor) -> Tensor:
    """Σ over acquired samples of the squared weight with which each reaches a voxel, (*spatial)."""
    interpolation, mask = bound.interpolation, bound.acquisition.grid.shared()
    whole, under = interpolation.shape.whole_axes, interpolation.shape.lattice.axes
    assert bound.kernels is not None
    if not under:
        return weights.abs().square().sum(0) * mask.double().mean()
    order = [axis + mask.ndim for axis in (*under, *whole)]
    # A partly encoded readout has less noise.
    measured = mask.double().mean() / mask.any(whole).double().mean() if whole else torch.ones(())
    size = interpolation.origins.numel()
    b = weights.permute(0, *(axis + 1 for axis in order)).reshape(len(weights), size, -1)  # (coil, r, position)
    w = interpolation.along(bound.kernels.to(torch.complex128), tuple(mask.shape))  # (t, c, d, source, position)
    phases, factor = _steering(interpolation, b), _meetings(interpolation, mask).to(b)
    rows = max(1, BLOCK // (size * len(b) * (1 + len(phases))))
    parts = []
    for some, kernels in zip(b.split(rows, -1), w.split(rows, -1), strict=True):
        made = torch.einsum("crf,tcdkf->tkdrf", some, kernels).flatten(0, 1) * phases[:, None, :, None]
        terms = torch.cat([some[None], made])  # (1 + t k, coil, r, position)
        met = torch.tensordot(factor, terms, 1)
        parts.append((met.real.square() + met.imag.square()).sum((0, 1)))
    power = torch.cat(parts, -1).reshape([mask.shape[axis] for axis in order])
    back = sorted(range(len(order)), key=order.__getitem__)
    return power.permute(back) * (measured / size)


def _steering(interpolation: Interpolation, like: Tensor) -> Tensor:
    """e^(2πi δ·r/n) of each target and source, δ the step from the source to the target, (t k, r)."""
    shape, plane = interpolation.shape, interpolation.plane
    steps = (shape.targets[:, None] - shape.sources[None]).flatten(0, 1).double()
    voxels = torch.cartesian_prod(*(torch.arange(n) - n // 2 for n in plane)).reshape(-1, len(plane)).double()
    angle = 2 * pi * (steps / torch.tensor(plane)) @ voxels.T
    return torch.polar(torch.ones_like(angle), angle).to(like)


def _meetings(interpolation: Interpolation, mask: Tensor) -> Tensor:
    """F with FᵀF = Q: how many acquired samples have each two of their uses, itself first, (m, 1 + t k), float64."""
    shape, size = interpolation.shape, interpolation.origins.numel()
    whole = shape.whole_axes
    acquired = (mask.any(whole) if whole else mask).flatten().cpu()
    sources, origins = interpolation.sources.cpu(), interpolation.origins.cpu()
    n_targets, (n_sources, n_cells) = len(shape.targets), sources.shape
    used = torch.zeros(n_targets, n_cells, dtype=torch.bool)
    made = origins[origins >= size] - size
    used.view(-1)[made] = True
    uses = torch.zeros(size + 1, 1 + n_targets * n_sources, dtype=torch.float64)
    uses[:size, 0] = acquired.double()
    for k in range(n_sources):
        uses[sources[k], 1 + k :: n_sources] = used.T.double()
    eigenvalues, vectors = torch.linalg.eigh(uses[:size].T @ uses[:size])
    kept = eigenvalues > 1e-12 * eigenvalues[-1]
    return (vectors[:, kept] * eigenvalues[kept].sqrt()).T
