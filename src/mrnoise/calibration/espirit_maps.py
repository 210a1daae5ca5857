"""Coil maps from the calibration lines (ESPIRiT), differentiable with respect to k-space."""

from __future__ import annotations

from functools import partial
from math import pi
from typing import Any

import torch
from torch import Tensor

from mrnoise.calibration.eigenvector import divided_powers, dominant_eigenvector, virtual_coil
from mrnoise.errors import InputError

SHARPNESS = 2  # doublings in the exponent of the soft threshold: f(q) = q⁴ / (1 + q⁴)
CHUNK = 2**21  # matrix entries of one block of voxels, the working memory of `_maps_of_plane`


def espirit(
    kspace: Tensor,
    mask: Tensor | None = None,
    *,
    calibration: int = 24,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.8,
    spatial_dims: int = 2,
) -> Tensor:
    """Coil maps whose span every patch of the calibration data lies in.

    All patches p of kernel^d samples in all coils give the Gram matrix G = Σ p pᴴ. The projector on the
    signal subspace, P = f(G), is averaged into a convolution between coils, whose Fourier transform is one
    matrix M(r) for each voxel; S(r) is its eigenvector to the eigenvalue 1.

    Where the original cuts off singular values below threshold · σ_max, here an eigenvalue λ = σ² is
    weighted by f = q⁴ / (1 + q⁴) with q = λ / (threshold · σ_max)². The maps are therefore a smooth
    function of k-space: `torch.func.jvp`, `vjp` and `vmap(jvp)` propagate the noise of the calibration
    lines into them. Only two choices are held fixed in the derivative: which voxels are cropped, and which
    coil has the most energy. The phase reference, the first principal component over the coils of the
    calibration data, is differentiated.

    Parameters
    ----------
    kspace
        Complex, (..., coil, k1, k0) or, with ``spatial_dims=3``, (..., coil, k2, k1, k0). Whiten it first:
        the weights assume noise that is uncorrelated and equal between coils.
    mask
        Bool, (k1, k0) or (k2, k1, k0), the acquired samples; the largest fully sampled block around the
        centre is used, up to ``calibration`` along each axis. ``None``: a block of that size.
    calibration
        Samples of the calibration block along each axis.
    kernel
        Samples of a patch along each axis.
    threshold
        Singular values of the calibration matrix below this fraction of the largest count as noise.
    crop
        Voxels whose largest eigenvalue is below this are outside the object and zero.
    spatial_dims
        2 or 3.

    Returns
    -------
    Tensor
        Shape and type of ``kspace``, in image space; Σ_c |S_c|² = 1 inside the object and 0 outside.

    Raises
    ------
    InputError
        If an argument is out of range, or the calibration block has fewer than 2 · kernel - 1 samples along
        an axis.

    Notes
    -----
    Cost: one eigendecomposition of order coils · kernel^d, and one of order coils for each voxel. A
    derivative needs matrix products only. A backward pass keeps coils² complex numbers for each voxel.

    References
    ----------
    Uecker et al., Magn Reson Med 2014, doi:10.1002/mrm.24751 (ESPIRiT); Iyer et al., PLoS ONE 2020,
    doi:10.1371/journal.pone.0229418 (soft weights)

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 3, mask=equispaced((32, 24), 2, calibration=16))
    >>> maps = espirit(scan.whiten(scan.kspace), scan.mask, calibration=16)
    >>> power = maps.abs().square().sum(0)
    >>> round(float(power[16, 12]), 3), round(float(power[0, 0]), 3)  # brain, air
    (1.0, 0.0)
    """
    _check(kspace, kernel, threshold, crop, spatial_dims)
    shape = tuple(kspace.shape[-spatial_dims:])
    block = calibration_block(shape, mask, calibration)
    _check_block(block, kernel)
    if kspace.ndim > spatial_dims + 1:
        one = partial(espirit, calibration=calibration, kernel=kernel, threshold=threshold, crop=crop)
        return torch.stack([one(k, mask, spatial_dims=spatial_dims) for k in kspace])
    centre = tuple(slice(n // 2 - w // 2, n // 2 - w // 2 + w) for n, w in zip(shape, block, strict=True))
    # Squaring the singular values costs half the digits: the small matrices are in double precision.
    samples = kspace[(slice(None), *centre)].to(torch.complex128)
    projector = _signal_projector(_patches(samples, kernel), threshold)
    coupling = _convolution(projector, samples.shape[0], kernel, spatial_dims).to(kspace.dtype)
    reference = virtual_coil(samples.flatten(1)).to(kspace.dtype)
    if spatial_dims == 2:
        return _maps_of_plane(coupling, reference, (shape[0], shape[1]), crop)
    steering = _steering(shape[0], kernel, coupling)
    planes = [
        _maps_of_plane(torch.tensordot(coupling, row, dims=([2], [0])), reference, (shape[1], shape[2]), crop)
        for row in steering
    ]
    return torch.stack(planes, dim=1)


def calibration_block(shape: tuple[int, ...], mask: Tensor | None, largest: int) -> tuple[int, ...]:
    """Size of the largest fully sampled block around the centre, at most ``largest`` along each axis."""
    size = [min(largest, n) for n in shape]
    if mask is None:
        return tuple(size)
    if tuple(mask.shape) != shape:
        raise InputError(
            "sampling mask has the wrong shape",
            expected=f"{shape}, the spatial axes of k-space",
            received=str(tuple(mask.shape)),
            remedy="Give one mask for all coils and slices.",
        )

    def full(width: list[int]) -> bool:
        centre = tuple(slice(n // 2 - w // 2, n // 2 - w // 2 + w) for n, w in zip(shape, width, strict=True))
        return bool(mask[centre].all())

    # First along each axis through the centre, then all axes together (corners of an elliptical block).
    for axis in range(len(shape)):
        while size[axis] > 0 and not full([w if a == axis else 1 for a, w in enumerate(size)]):
            size[axis] -= 1
    while min(size) > 0 and not full(size):
        size[size.index(max(size))] -= 1
    return tuple(size)


# -- calibration data to a convolution between coils ---------------------------------------------------------


def _patches(samples: Tensor, kernel: int) -> Tensor:
    """All patches as columns, (coil · kernel^d, patch)."""
    index = torch.arange(samples[0].numel(), device=samples.device).reshape(samples.shape[1:])
    for axis in range(index.ndim):
        index = index.unfold(axis, kernel, 1)
    index = index.flatten(0, samples.ndim - 2).flatten(1)  # (patch, offset)
    return samples.flatten(1)[:, index.mT].flatten(0, 1)


def _signal_projector(patches: Tensor, threshold: float) -> Tensor:
    """P = f(G / (threshold · σ_max)²).

    The largest eigenvalue is replaced by ‖G²‖_F^{1/2} = (Σ λ⁴)^{1/4}, which is smooth and about as large.
    """
    tiny = torch.finfo(patches.dtype).tiny
    gram = patches @ patches.mH
    gram = gram / (gram.diagonal().real.sum() + tiny)
    squared = gram @ gram
    largest = ((squared.conj() * squared).real.sum() + tiny).pow(0.25)
    gram = 0.5 * (gram + gram.mH) / (threshold**2 * largest)
    return _SoftSubspace.apply(gram)[0]


class _SoftSubspace(torch.autograd.Function):
    """f(G) = V f(q) Vᴴ of a Hermitian G = V q Vᴴ, f(q) = q^p / (1 + q^p), p = 2^SHARPNESS.

    Daleckii-Krein: df = V (F ∘ Vᴴ dG V) Vᴴ with the divided differences
    F_ij = (f_i - f_j) / (q_i - q_j) = (q_i^p - q_j^p) / (q_i - q_j) / ((1 + q_i^p) (1 + q_j^p)).
    The map dG → df is its own adjoint.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, vectors = torch.linalg.eigh(gram)
        q = q.clamp_min(0)
        weight = q.pow(2**SHARPNESS)
        return (vectors * (weight / (1 + weight))) @ vectors.mH, vectors, q

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, vectors, q = output
        ctx.mark_non_differentiable(vectors, q)
        ctx.save_for_backward(vectors, q)
        ctx.save_for_forward(vectors, q)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None, None]:
        vectors, q = ctx.saved_tensors
        return _derivative(vectors, q, tangent), None, None

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> Tensor:
        vectors, q = ctx.saved_tensors
        return _derivative(vectors, q, gradient)


def _derivative(vectors: Tensor, q: Tensor, direction: Tensor) -> Tensor:
    damping = 1 / (1 + q.pow(2**SHARPNESS))
    difference = divided_powers(q, SHARPNESS) * damping[..., :, None] * damping[..., None, :]
    return vectors @ (difference * (vectors.mH @ direction @ vectors)) @ vectors.mH


def _convolution(projector: Tensor, n_coils: int, kernel: int, dims: int) -> Tensor:
    """K(Δ) = kernel^{-d} Σ P[(c, κ), (c', κ + Δ)], (coil, coil, Δ...), Δ from 1 - kernel to kernel - 1."""
    offset = torch.arange(kernel, device=projector.device)
    delta = torch.arange(1 - kernel, kernel, device=projector.device)
    pairs = (offset[None, :] - offset[:, None] == delta[:, None, None]).to(projector.dtype)  # (Δ, κ, κ')
    values = projector.reshape((n_coils, *(kernel,) * dims) * 2)
    for remaining in range(dims, 0, -1):
        values = torch.tensordot(values, pairs, dims=([1, remaining + 2], [1, 2]))
    coupling: Tensor = values / kernel**dims
    return coupling


# -- convolution to maps -------------------------------------------------------------------------------------


def _steering(n: int, kernel: int, like: Tensor) -> Tensor:
    """exp(-2πi Δ r / n) with r from the centre, (n, Δ)."""
    delta = torch.arange(1 - kernel, kernel, device=like.device)
    position = torch.arange(n, device=like.device) - n // 2
    angle = -2 * pi / n * (position[:, None] * delta).to(torch.float64)
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def _maps_of_plane(coupling: Tensor, reference: Tensor, shape: tuple[int, int], crop: float) -> Tensor:
    """Eigenvectors of M(r) = Σ_Δ K(Δ) exp(-2πi Δ·r / n), a few rows of voxels at a time."""
    n_coils = coupling.shape[0]
    kernel = (coupling.shape[-1] + 1) // 2
    along_x = torch.tensordot(coupling, _steering(shape[1], kernel, coupling), dims=([3], [1]))
    along_y = _steering(shape[0], kernel, coupling)
    rows = max(1, CHUNK // (shape[1] * n_coils**2))
    maps = []
    for some in torch.split(along_y, rows):
        matrix = torch.tensordot(some, along_x, dims=([1], [2])).movedim(-1, 1)  # (y, x, coil, coil)
        vector, eigenvalue = dominant_eigenvector(matrix, reference)
        maps.append(torch.where((eigenvalue > crop)[..., None], vector, torch.zeros_like(vector)))
    return torch.cat(maps).movedim(-1, 0)


# -- checks --------------------------------------------------------------------------------------------------


def _check(kspace: Tensor, kernel: int, threshold: float, crop: float, spatial_dims: int) -> None:
    if spatial_dims not in (2, 3) or kspace.ndim < spatial_dims + 1 or not kspace.is_complex():
        raise InputError(
            "k-space does not fit the coil calibration",
            expected="complex, (..., coil, k1, k0), or (..., coil, k2, k1, k0) with spatial_dims=3",
            received=f"{kspace.dtype}, shape {tuple(kspace.shape)}, spatial_dims={spatial_dims}",
            remedy="Check the axis order and spatial_dims.",
        )
    if kernel < 2 or not 0 < threshold < 1 or not 0 <= crop < 1:
        raise InputError(
            "coil calibration is not possible with these settings",
            expected="kernel of at least 2, threshold between 0 and 1, crop from 0 to below 1",
            received=f"kernel {kernel}, threshold {threshold:g}, crop {crop:g}",
            remedy="The defaults are kernel=6, threshold=0.02, crop=0.8.",
        )


def _check_block(block: tuple[int, ...], kernel: int) -> None:
    if min(block) < 2 * kernel - 1:
        raise InputError(
            "fully sampled centre of k-space is too small for coil calibration",
            expected=f"at least {2 * kernel - 1} samples along each axis for a kernel of {kernel}",
            received=" × ".join(str(w) for w in block),
            remedy="Give coil maps in the file or a scan with more calibration lines; -r rss needs no maps. In Python "
            "mrnoise.calibration.espirit takes a smaller kernel.",
        )
