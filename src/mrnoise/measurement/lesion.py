"""Local point spread: what becomes of a small lesion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding import encode
from mrnoise.errors import InputError
from mrnoise.linearization import NoiseToImage
from mrnoise.measurement.place import full_width_at_half_maximum, operator_at, spacing
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, as_reconstruction


@dataclass(frozen=True, eq=False)
class PointSpread:
    """First-order response of the image to a small lesion at one voxel.

    Parameters
    ----------
    voxel
        Its index in the whole image, and in ``response`` by its last axes.
    response
        Change of the image in phase with the lesion, for a lesion of peak 1; shaped as the image (as the slice
        that holds the voxel, where slices are reconstructed one by one), float64.
    contrast_recovery
        The response at the voxel: 1 where the lesion is shown at full contrast.
    width
        Full width at half maximum of the response along each spatial axis; infinite where it does not fall to half
        within the image, NaN where the lesion is lost.
    lesion_width
        Full width at half maximum of the lesion; 0 for a single voxel.
    unit
        Of the widths: ``"mm"``, or ``"voxel"`` where the scan gives no voxel size.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> found = point_spread(CgSense(1e-3), simulate((16, 12), 4), (8, 6))
    >>> round(found.contrast_recovery, 2), tuple(round(mm, 1) for mm in found.width), found.unit
    (1.0, (13.8, 18.3), 'mm')
    """

    voxel: tuple[int, ...]
    response: Tensor
    contrast_recovery: float
    width: tuple[float, ...]
    lesion_width: float
    unit: str


def point_spread(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    voxel: Sequence[int],
    *,
    lesion_width: float = 0.0,
) -> PointSpread:
    """Local impulse response of a reconstruction at the scan, by one forward derivative.

    h = Re(ū J A (u ℓ)) with A = M F S the sampled Fourier transform of the coil images, ℓ the lesion and u the phase
    of the image at its voxel (Fessler and Rogers 1996, doi:10.1109/83.535846). For a nonlinear reconstruction it
    depends on the scan, and holds for lesions of low contrast. A real image does not tell the phase of the
    object, nor does one whose coil maps are a network's own: there the lesion has the phase that the image shows best.

    Parameters
    ----------
    reconstruction
        As for `mrnoise.noise_map`.
    acquisition
        The scan, with coil maps.
    voxel
        Index into the image, all axes: (y, x), (z, y, x), (slice, y, x).
    lesion_width
        Full width at half maximum of a Gaussian lesion, in mm (in voxels where the scan gives no voxel size).
        0: a single voxel.

    Returns
    -------
    PointSpread
        The response, its height at the voxel and its widths in mm (in voxels where the scan gives no voxel
        size).

    Raises
    ------
    InputError
        Without coil maps, if there is no such voxel, or the derivative fails the preflight.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> for weight in (1e-3, 1e-1, 1.0):
    ...     found = point_spread(CgSense(weight), scan, (8, 6))
    ...     print(f"λ = {weight}: contrast recovery {found.contrast_recovery:.2f}")
    λ = 0.001: contrast recovery 0.99
    λ = 0.1: contrast recovery 0.55
    λ = 1.0: contrast recovery 0.17
    """
    if acquisition.coil_maps is None:
        raise InputError(
            "no coil maps",
            expected="an acquisition with coil maps, through which a lesion reaches k-space",
            received="none",
            remedy="Estimate them, e.g. with mrnoise.calibration.with_coil_maps.",
        )
    if not 0 <= lesion_width < math.inf:
        raise InputError(
            "invalid width of the lesion",
            expected="a finite number ≥ 0, in mm",
            received=str(lesion_width),
            remedy="Use 0 for a lesion of one voxel.",
        )
    steps, unit = spacing(acquisition)
    operator, index = operator_at(reconstruction, acquisition, voxel)
    lesion = _lesion(operator, index, steps, lesion_width)
    assert operator.acquisition.coil_maps is not None
    encoding = encode(operator.acquisition, operator.acquisition.coil_maps.to(lesion))
    phase = operator.phase[index]
    if operator.value.is_complex() and not as_reconstruction(reconstruction).estimates_coil_maps:
        response = (phase.conj() * operator.derivative(encoding.forward(phase * lesion)[None])[0]).real
    else:
        kspace = encoding.forward(lesion)
        pair = (phase.conj() * operator.derivative(torch.stack([kspace, 1j * kspace]))).real
        best = torch.stack([one[index] for one in pair])
        response = torch.tensordot(best / best.norm().clamp_min(torch.finfo(best.dtype).tiny), pair, 1)
    response = response.double().cpu()
    return PointSpread(
        voxel=tuple(int(i) for i in voxel),
        response=response,
        contrast_recovery=float(response[index]),
        width=full_width_at_half_maximum(response, index, steps),
        lesion_width=lesion_width,
        unit=unit,
    )


def _lesion(operator: NoiseToImage, index: tuple[int, ...], steps: tuple[float, ...], width: float) -> Tensor:
    """The lesion on the grid of k-space, of which the image may be the central part; in all that it is made of."""
    scan = operator.acquisition
    dims = scan.spatial_dims
    before = [n // 2 - m // 2 for n, m in zip(scan.spatial_shape, operator.image_shape[-dims:], strict=True)]
    if min(before) < 0:
        raise InputError(
            "the image is larger than k-space",
            expected=f"at most {scan.spatial_shape} voxels",
            received=str(operator.image_shape[-dims:]),
            remedy="Measure the point spread without interpolation.",
        )
    lesion = torch.zeros(scan.image_shape, dtype=scan.kspace.dtype, device=operator.device)
    outer, place = index[:-dims], [i + b for i, b in zip(index[-dims:], before, strict=True)]
    if width == 0:
        at_place: Any = (*outer, ..., *place)
        lesion[at_place] = 1
        return lesion
    profile = torch.ones(())
    for n, at, step in zip(scan.spatial_shape, place, steps, strict=True):
        distance = (torch.arange(n) - at) * step
        profile = profile[..., None] * torch.exp(-4 * math.log(2) * (distance / width) ** 2)
    images: Any = (*outer, ...)
    lesion[images] = profile.to(lesion)
    return lesion
