"""Slices that were excited at once, as the volume that they are planes of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.acquisition.noise_covariance import NoiseCovariance
from mrnoise.errors import InputError
from mrnoise.sampling.grid import Grid


def simultaneous_slices(
    kspace: Tensor, noise_covariance: NoiseCovariance | Tensor, calibration: Tensor, *, shift: int = 0, **others: Any
) -> Acquisition:
    """A scan of n simultaneous slices as a volume of n planes.

    A line of the collapsed k-space is the sum over slices z of exp(-2πi κ (z - n // 2) / n) times that of each slice,
    κ = ``shift`` · (number of the line, counted from the central one): controlled aliasing, by which slice z appears
    moved by shift · (z - n // 2) / n of the field of view. That is √n times a sample of the volume at k2 = κ, one for
    each line (Zhu 2016, doi:10.1109/TMI.2016.2531635): Ψ of the volume is 1/n of that of the collapsed k-space, R is n
    times that in the plane, and g is σ over that of slices excited one by one.

    Parameters
    ----------
    kspace
        Collapsed, complex, (coil, k1, k0), zero where not acquired.
    noise_covariance
        Ψ of it.
    calibration
        K-space of each slice alone, not moved, complex, (slice, coil, k1, k0), zero where not acquired.
    shift
        By which aliasing was controlled.
    others
        Further arguments of `Acquisition`; coil maps are (coil, slice, y, x).

    Returns
    -------
    Acquisition
        With ``spatial_dims=3``, k-space (coil, k2, k1, k0).

    Raises
    ------
    InputError
        If shapes do not fit.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> single = simulate((16, 12), 4, n_slices=3)
    >>> scan = simultaneous_slices(single.kspace.sum(0), single.noise_covariance, single.kspace)
    >>> tuple(scan.kspace.shape), scan.acceleration
    ((4, 3, 16, 12), 3.0)
    """
    if kspace.ndim != 3 or calibration.ndim != 4 or calibration.shape[1:] != kspace.shape:
        raise InputError(
            "calibration of single slices does not fit the collapsed k-space",
            expected="k-space (coil, k1, k0) and calibration (slice, coil, k1, k0)",
            received=f"{tuple(kspace.shape)} and {tuple(calibration.shape)}",
            remedy="Put the calibration lines at their places in zeros shaped as k-space, slice by slice.",
        )
    psi, n = NoiseCovariance.of(noise_covariance), len(calibration)
    acquired = (kspace != 0).any(0)
    lines = acquired.any(1).nonzero().flatten()
    central = int((lines - kspace.shape[1] // 2).abs().argmin())
    k2 = (n // 2 + shift * (torch.arange(len(lines), device=lines.device) - central)) % n
    volume = torch.zeros(kspace.shape[0], n, *kspace.shape[1:], dtype=kspace.dtype, device=kspace.device)
    volume[:, k2, lines] = kspace[:, lines] / n**0.5
    mask = torch.zeros(volume.shape[1:], dtype=torch.bool, device=kspace.device)
    mask[k2, lines] = acquired[lines]
    planes = fourier.to_kspace(calibration.movedim(0, -1), 1).movedim(-1, 1)
    return Acquisition(
        volume,
        psi.scaled(1 / n, f"one of {n} planes"),
        sampling=Grid(mask, 3),
        calibration=planes.to(volume),
        spatial_dims=3,
        **others,
    )
