"""What an image of simultaneous slices shows of the other slices."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.linearization import Images
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction


def slice_leakage(reconstruction: Reconstruction | KspaceToImage, acquisition: Acquisition) -> Tensor:
    """Signal of all other slices in the image of each of simultaneous slices.

    [J t_z]_z with J the derivative of the image and t_z the k-space of the slices without z, from the calibration lines
    of single slices: all of k-space of them, for leakage at full resolution. The slices have one receiver noise, that
    of the collapsed k-space, and σ of a noise map has all of it; 1 - 1/g² of σ² is what separating them costs. Leakage
    is signal. It adds to the error of an image,

        E|error|² = σ² + |leakage|²,    leakage's share |leakage|² / (σ² + |leakage|²),

    and to the noise of a series as far as the other slices fluctuate.

    Parameters
    ----------
    reconstruction
        Of all slices at once: `SliceGrappa`, or `Sense`, `CgSense`, any callable.
    acquisition
        A volume as `mrnoise.acquisition.simultaneous_slices` makes it.

    Returns
    -------
    Tensor
        Complex or real as the image, (..., z, y, x).

    Raises
    ------
    InputError
        If there are no calibration lines, or the image is no stack of all slices.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import SliceGrappa
    >>> from mrnoise.sampling import caipi
    >>> from mrnoise.simulation import simulate
    >>> shape = (2, 32, 24)
    >>> single = simulate(shape, 6, snr=40.0)
    >>> scan = single.undersample(caipi(shape, (1, 2))).replace(calibration=single.kspace)
    >>> for split in (False, True):
    ...     method = SliceGrappa((3, 3), split=split, combination="sense")
    ...     leakage = slice_leakage(method, scan).abs().square().mean()
    ...     share = leakage / (leakage + noise_map(method, scan).variance.mean())
    ...     print(f"{float(share):.2f}")
    0.46
    0.35
    """
    calibration = acquisition.calibration
    if calibration is None or acquisition.spatial_dims != 3:
        raise InputError(
            "no single slices that could leak",
            expected="a volume with calibration lines of each slice alone",
            received=f"spatial_dims {acquisition.spatial_dims}, "
            + ("no calibration lines" if calibration is None else "calibration lines of one slice"),
            remedy="Make one with mrnoise.acquisition.simultaneous_slices.",
        )
    images = Images.of(reconstruction, acquisition, planewise=False)
    return images.join([_of_image(operator.derivative, operator.acquisition) for operator in images])


def _of_image(derivative: KspaceToImage, scan: Acquisition) -> Tensor:
    assert scan.calibration is not None
    slices = fourier.to_image(scan.calibration.to(scan.kspace).movedim(-3, -1), 1)
    n = slices.shape[-1]
    others = (1 - torch.eye(n, device=slices.device))[(slice(None), *[None] * (slices.ndim - 1))]
    kspace = fourier.to_kspace(slices * others, 1).movedim(-1, -3) * scan.mask.unsqueeze(-4)
    leaked = derivative(kspace)  # (slice that is left out, ..., z, y, x)
    return torch.stack([leaked[z].select(-3, z) for z in range(n)], -3)
