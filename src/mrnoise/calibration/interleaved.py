"""Calibration lines of a series whose images interleave."""

from __future__ import annotations

from mrnoise.acquisition.acquisition import Acquisition

# Axes along which an object changes little, and lines interleave.
SERIES = ("frame", "phase", "average", "segment", "set", "echo")


def interleaved_calibration(acquisition: Acquisition) -> Acquisition | None:
    """A series with the mean of its k-space as calibration: its images sample other lines, and all of them together.

    As vendors do for interleaved frames (TGRAPPA: Breuer et al. 2005, doi:10.1002/mrm.20430). Each sample is the mean
    over the images that have it.

    Parameters
    ----------
    acquisition
        Cartesian, with leading axes along which sampling differs.

    Returns
    -------
    Acquisition
        With ``calibration``; ``None`` where sampling is the same in all images.

    Examples
    --------
    >>> import torch
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> full = simulate((32, 24), 3)
    >>> masks = torch.stack([equispaced((32, 24), 2, offset=offset) for offset in (0, 1)])
    >>> series = full.replace(kspace=full.kspace * masks[:, None], mask=masks, coil_maps=None, axes=("frame",))
    >>> bool((interleaved_calibration(series).calibration != 0).all())
    True
    """
    dims, mask = acquisition.spatial_dims, acquisition.mask
    axes = [i for i, axis in enumerate(acquisition.axes) if axis in SERIES]
    if mask.ndim == dims or not axes:
        return None
    counts = mask.unsqueeze(-dims - 1).to(acquisition.kspace.real)
    total = acquisition.kspace.sum(axes, keepdim=True)
    mean = total / counts.sum(axes, keepdim=True).clamp_min(1)
    together = " and ".join(f"{acquisition.batch_shape[i]} {acquisition.axes[i]}s" for i in axes)
    return acquisition.replace(
        calibration=mean.expand(acquisition.kspace.shape).contiguous(),
        notes=(*acquisition.notes, f"Coil maps are those of the mean over {together}, whose lines interleave."),
    )
