"""A fully sampled scan as another trajectory would have measured it."""

from __future__ import annotations

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding.nufft import Nufft
from mrnoise.errors import InputError
from mrnoise.fourier import to_image
from mrnoise.sampling.trajectory import Trajectory


def resample(acquisition: Acquisition, trajectory: Trajectory) -> Acquisition:
    """Samples E F⁻¹ y along a trajectory of a fully sampled scan y, with its Ψ and coil maps.

    The noise that the samples hold is that of y, interpolated; what a map says is that of a scan along the trajectory.

    Parameters
    ----------
    acquisition
        Cartesian, fully sampled.
    trajectory
        Of the same matrix.

    Returns
    -------
    Acquisition
        With k-space (..., coil, *samples), without calibration lines and averages.

    Raises
    ------
    InputError
        If the scan is not fully sampled, was averaged, or has another matrix.

    Examples
    --------
    >>> from mrnoise.sampling import radial
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 3)
    >>> resample(scan, radial((16, 12), 5)).kspace.shape
    torch.Size([3, 5, 32])
    """
    if acquisition.spatial_shape != trajectory.image_shape or not bool(acquisition.mask.all()):
        raise InputError(
            "the scan cannot be resampled along the trajectory",
            expected=f"a fully sampled scan of the matrix {trajectory.image_shape}",
            received=f"{acquisition.spatial_shape}, R = {acquisition.acceleration:.2f}",
            remedy="Give a trajectory of the matrix of a fully sampled scan.",
        )
    if acquisition.averages is not None:
        raise InputError(
            "the scan cannot be resampled along the trajectory",
            expected="a scan whose samples were measured once",
            received="averages",
            remedy="Scale the noise covariance by their number, and leave averages out.",
        )
    dims = acquisition.spatial_dims
    images = to_image(acquisition.kspace, dims)
    samples = Nufft(trajectory.coordinates.to(images.device), trajectory.image_shape).forward(images)
    return acquisition.replace(kspace=samples, sampling=trajectory, calibration=None, axes=acquisition.axes)
