"""Noise covariance from the imaging data itself, where there is no noise scan."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.noise_covariance import NoiseCovariance, noise_covariance_from_scan
from mrnoise.errors import InputError
from mrnoise.units import unit_of

# Voxels along each axis of a block of the image: 64 voxels in 2D and in 3D.
BLOCK = {2: 8, 3: 4}
SAMPLES_PER_COIL = 20
PERIPHERY_FRACTION = 0.05
# The background may exceed the periphery where a receiver filter darkens the edges of the readout.
LARGEST_RATIO = 1.6
# Energies within this ratio are counted together in the search for the most common one.
SEARCH_RATIO = 1.3


def estimate_noise_covariance(kspace: Tensor, mask: Tensor | None = None, *, spatial_dims: int = 2) -> NoiseCovariance:
    r"""Ψ from the image background, or from the k-space periphery where there is no background.

    An orthonormal transform leaves the covariance of white noise as it is, so

        Ψ = (1/N) Σ x xᴴ

    over N voxels or samples x (coil,) that hold noise only.

    Background, for k-space that is complete within its bounding box: the image is cut into blocks of 64
    voxels. Empty blocks share the energy tr Ψ within its sampling error ‖Ψ‖_F / √64, so the blocks within
    four such errors of the most common energy are taken. This window is symmetric and holds nearly all
    empty blocks: it does not bias the variance low as the blocks of lowest energy would.

    Periphery, for undersampled k-space (aliasing fills its background) and for images without enough
    background: the 5 % of the acquired samples farthest from the centre of k-space, at least 20 for each
    coil. They are chosen by position, never by value, and hold some signal: an upper bound.

    Parameters
    ----------
    kspace
        Complex, (..., coil, k1, k0) or (..., coil, k2, k1, k0), centre at n // 2.
    mask
        Bool, the samples that were acquired, (k1, k0) or (k2, k1, k0), with the leading axes where the
        images differ. Samples that are exactly zero in every coil count as not acquired in any case.
    spatial_dims
        2 or 3.

    Returns
    -------
    NoiseCovariance
        ``source`` says which of the two was used and on how many samples.

    Raises
    ------
    InputError
        If there are fewer than 20 samples for each coil to estimate from, the shapes do not fit, or
        k-space is not finite.

    Notes
    -----
    Measured on phantom data with a noise scan (16 coils, 96²): the background (1536 samples) has 0.61 to
    0.68 of the noise-scan variance in every coil, and its correlation coefficients differ from those of
    the noise scan by 0.028 RMS where sampling alone gives 0.027. The periphery (461 samples) has 0.65 to
    2.2 of that variance and differs by 0.15 RMS: signal leaks into it unevenly. Periphery over background
    in five data sets: 3.4 (64²), 2.0 (96²), 1.1 and 1.0 (128²), 0.8 (256²).

    Noise is not white along the readout: receiver filters attenuate the edges of an oversampled readout
    to 0.2 of the variance in its centre, and noise scans have a lag-1 correlation of 0.2. Blocks at those
    edges are not the most common ones and drop out. So the background gives the noise of the image where
    the object lies, and reads 0.75 to 0.85 of the standard deviation of an unscaled noise scan, whose
    dwell time and filter differ. If the object leaves nothing empty but those edges, the result is low;
    ringing of a truncated k-space makes it high (12 % for a disc of SNR 50 cut to 0.7 of its k-space).

    Examples
    --------
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((96, 80), 3)
    >>> psi = estimate_noise_covariance(head.acquire().kspace)
    >>> psi.source
    'estimated from the image background, 2944 samples'
    >>> round(psi.mean_variance / head.noise_covariance.mean_variance, 2)
    1.0
    """
    samples, acquired = _checked(kspace, mask, spatial_dims)
    unit = unit_of(samples)
    samples = samples / unit
    n_coils = samples.shape[1]
    needed = SAMPLES_PER_COIL * n_coils
    periphery = _periphery(samples, acquired)
    background = _background(samples, acquired, LARGEST_RATIO * _energy(periphery))
    if background.shape[1] >= needed:
        return noise_covariance_from_scan(background * unit, "estimated from the image background")
    if periphery.shape[1] >= needed:
        return noise_covariance_from_scan(periphery * unit, "estimated from the k-space periphery (upper bound)")
    raise InputError(
        "too few samples to estimate the noise covariance from",
        expected=f"at least {needed} samples of noise for {n_coils} coils",
        received=f"{background.shape[1]} in the background, {periphery.shape[1]} in the k-space periphery",
        remedy="Give a noise scan or the noise covariance.",
    )


def _checked(kspace: Tensor, mask: Tensor | None, dims: int) -> tuple[Tensor, Tensor]:
    """K-space (image, coil, *spatial) and the samples that were acquired (image, *spatial)."""
    if dims not in (2, 3) or kspace.ndim < dims + 1 or not kspace.is_complex():
        raise InputError(
            "cannot estimate the noise covariance from this array",
            expected="complex k-space (..., coil, k1, k0), or (..., coil, k2, k1, k0) with spatial_dims=3",
            received=f"{kspace.dtype}, shape {tuple(kspace.shape)}, spatial_dims={dims}",
            remedy="Add the coil axis: kspace[None] for a single coil.",
        )
    if not torch.isfinite(torch.view_as_real(kspace)).all():
        raise InputError(
            "k-space contains NaN or infinite samples",
            expected="finite samples",
            received=f"{int((~torch.isfinite(kspace.abs())).sum())} of {kspace.numel()} that are not",
            remedy="Mark missing samples in the mask and set them to zero.",
        )
    spatial = tuple(kspace.shape[-dims:])
    samples = kspace.reshape(-1, *kspace.shape[-dims - 1 :])
    acquired = (samples != 0).any(1)
    if mask is not None:
        if tuple(mask.shape) not in (spatial, tuple(kspace.shape[: -dims - 1]) + spatial):
            raise InputError(
                "sampling mask has the wrong shape",
                expected=f"{spatial}, the spatial axes of k-space",
                received=str(tuple(mask.shape)),
                remedy="Expand a line mask to every readout sample: mask[:, None].expand(k1, k0).",
            )
        acquired = acquired & mask.to(torch.bool).reshape(-1, *spatial)
    return samples, acquired


def _energy(samples: Tensor) -> float:
    """Mean of ‖x‖² over samples (coil, n)."""
    return float(samples.abs().square().sum(0).mean()) if samples.shape[1] else 0.0


def _periphery(samples: Tensor, acquired: Tensor) -> Tensor:
    """The acquired samples farthest from the centre of k-space, (coil, n)."""
    radius = torch.zeros(())
    for n in acquired.shape[1:]:
        radius = radius.unsqueeze(-1) + ((torch.arange(n) - n // 2) / (n / 2)).square()
    radius = radius.expand_as(acquired)
    ordered = radius[acquired].sort(descending=True).values
    n_coils = samples.shape[1]
    wanted = max(math.ceil(PERIPHERY_FRACTION * len(ordered)), SAMPLES_PER_COIL * n_coils)
    if wanted > len(ordered) // 2:  # the centre of k-space is no periphery
        return samples.new_zeros(n_coils, 0)
    return samples.movedim(1, 0)[:, acquired & (radius >= ordered[wanted - 1])]


def _background(samples: Tensor, acquired: Tensor, limit: float) -> Tensor:
    """Voxels (coil, n) of the image blocks that hold noise only; blocks above ``limit`` hold signal."""
    n_coils, dims = samples.shape[1], acquired.ndim - 1
    none = samples.new_zeros(n_coils, 0)
    if not bool(acquired.any()):
        return none
    indices = acquired.any(0).nonzero()
    low, high = indices.amin(0).tolist(), (indices.amax(0) + 1).tolist()
    box: tuple[Any, ...] = (..., *(slice(a, b) for a, b in zip(low, high, strict=True)))
    if not bool(acquired[box].all()):
        return none
    image = torch.fft.ifftn(samples[box], dim=tuple(range(-dims, 0)), norm="ortho")
    if min(image.shape[-dims:]) < BLOCK[dims]:
        return none
    for _ in range(dims):  # each spatial axis in turn: its blocks stay in place, their voxels go last
        image = image.unfold(-dims, BLOCK[dims], BLOCK[dims])
    blocks: Tensor = image.flatten(-dims).flatten(2, -2).transpose(1, 2).flatten(0, 1)
    blocks = blocks[blocks.abs().square().sum(1).mean(1) <= limit]
    if not len(blocks):
        return none
    return blocks[_most_common_energy(blocks)].movedim(1, 0).flatten(1)


def _most_common_energy(blocks: Tensor) -> Tensor:
    """Which of the blocks (n, coil, voxel) agree with the most common energy within sampling error."""
    energy = blocks.abs().square().sum(1).mean(1).double()
    ordered = energy.sort().values
    counts = torch.searchsorted(ordered, ordered * SEARCH_RATIO, right=True) - torch.arange(len(ordered))
    first = int(counts.argmax())
    chosen = (energy >= ordered[first]) & (energy <= ordered[first + int(counts[first]) - 1])
    for _ in range(5):
        members = blocks[chosen].movedim(1, 0).flatten(1).to(torch.complex128)
        psi = members @ members.mH / members.shape[1]
        error = psi.norm() / psi.diagonal().real.sum() / blocks.shape[-1] ** 0.5
        chosen = (energy / energy[chosen].median() - 1).abs() <= 4 * error
    return chosen
