"""Image quality of magnitude images against a reference without noise."""

from __future__ import annotations

import torch
from torch import Tensor

from mrnoise.errors import require_extra


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, 20 log₁₀(max |x| / RMS(|x̂| - |x|)), (y, x).

    Parameters
    ----------
    image, reference
        Real magnitude or complex, (y, x).

    Returns
    -------
    float
        In dB.

    Examples
    --------
    >>> reference = torch.tensor([[1.0, 0.5], [0.25, 0.0]])
    >>> round(psnr(reference + 0.01, reference), 2)
    40.0
    """
    difference = image.abs() - reference.abs()
    return float(20 * torch.log10(reference.abs().max() / difference.square().mean().sqrt()))


def ssim(image: Tensor, reference: Tensor) -> float:
    """Structural similarity with windows of 7×7, data range max |x|, (y, x).

    Wang et al. 2004, doi:10.1109/TIP.2003.819861, as in fastMRI.

    Parameters
    ----------
    image, reference
        Real magnitude or complex, (y, x).

    Returns
    -------
    float
        1 for equal images.

    Examples
    --------
    >>> from mrnoise.simulation import head_phantom
    >>> head = head_phantom((64, 48))
    >>> round(ssim(head, head), 2), round(ssim(head.roll(1, 0), head), 2)
    (1.0, 0.72)
    """
    require_extra("train", "skimage")
    from skimage.metrics import structural_similarity

    wanted = reference.abs().cpu().double().numpy()
    return float(structural_similarity(wanted, image.abs().cpu().double().numpy(), data_range=wanted.max()))
