"""A volume as independent planes across an axis that was sampled as a whole."""

from __future__ import annotations

from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.sampling.grid import Grid, varying_axes


def whole_axis(acquisition: Acquisition) -> int | None:
    """The spatial axis of a volume along which sampling, extent and averages do not vary, such as its readout.

    Returns
    -------
    int
        -3, -2 or -1; the longest, the last of equal ones. ``None``: of a 2D scan, a trajectory, or if all vary.

    Examples
    --------
    >>> import torch
    >>> from mrnoise.sampling import equispaced
    >>> mask = equispaced((12, 10), 2)[:, None, :].expand(12, 8, 10)
    >>> kspace = torch.randn(4, 12, 8, 10, dtype=torch.complex64)
    >>> whole_axis(Acquisition(kspace, torch.eye(4), mask, spatial_dims=3))
    -1
    """
    grid = acquisition.sampling
    if not isinstance(grid, Grid):
        return None
    return max(_whole_axes(acquisition, grid), key=lambda axis: (grid.image_shape[axis], axis), default=None)


def planes(volume: Acquisition, axis: int) -> Acquisition:
    """The 2D scans that a volume is after one transform along an axis of `whole_axis`.

    With F the orthonormal transform along that axis, y'(r) = Σ_k F*(r, k) y(k) is the k-space of the plane at r: the
    forward model of the volume is that of each plane with the coil maps there, and white noise stays white, with the
    same Ψ and independent between planes. Nothing is approximated.

    Parameters
    ----------
    volume
        One volume, without leading axes.
    axis
        -3, -2 or -1.

    Returns
    -------
    Acquisition
        With the leading axis ``plane``, spatial axes the two others in their order.

    Raises
    ------
    InputError
        If sampling varies along the axis, or there are leading axes.

    Examples
    --------
    >>> import torch
    >>> from mrnoise.linearization import image_of
    >>> from mrnoise.reconstruction import ZeroFilled
    >>> from mrnoise.simulation import simulate
    >>> volume = simulate((12, 10, 8), 4)
    >>> scan = planes(volume, -2)
    >>> scan.axes, scan.batch_shape, scan.spatial_shape
    (('plane',), (10,), (12, 8))
    >>> torch.allclose(image_of(ZeroFilled(), scan)[3], image_of(ZeroFilled(), volume)[:, 3], atol=1e-5)
    True
    """
    grid = volume.grid
    if volume.batch_shape or axis not in _whole_axes(volume, grid):
        raise InputError(
            "this scan does not split into planes",
            expected="one volume whose sampling does not vary along the axis",
            received=f"k-space {tuple(volume.kspace.shape)}, spatial_dims={grid.spatial_dims}, axis {axis}",
            remedy="mrnoise.acquisition.planes.whole_axis(acquisition) says which axis it splits along, if any.",
        )

    def plane(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.select(axis, 0)

    extent = plane(grid.extent)
    return volume.replace(
        kspace=_transformed(volume.kspace, axis),
        sampling=Grid(grid.mask.select(axis, 0), 2, extent),
        coil_maps=None if volume.coil_maps is None else volume.coil_maps.movedim(axis, 0),
        averages=plane(volume.averages),
        calibration=None if volume.calibration is None else _transformed(volume.calibration, axis),
        geometry=None,
        spatial_dims=2,
        axes=("plane",),
    )


def _whole_axes(acquisition: Acquisition, grid: Grid) -> set[int]:
    """None of a 2D scan."""
    if grid.spatial_dims != 3:
        return set()
    of_samples = [values for values in (grid.mask, grid.extent, acquisition.averages) if values is not None]
    return {-3, -2, -1}.difference(*(varying_axes(values, 3) for values in of_samples))


def _transformed(kspace: Tensor, axis: int) -> Tensor:
    """(coil, k2, k1, k0) → (plane, coil, *others); coil by coil, since a volume is large."""
    others = [n for i, n in enumerate(kspace.shape[1:], -3) if i != axis]
    result = kspace.new_empty(kspace.shape[axis], len(kspace), *others)
    for i, coil in enumerate(kspace):
        result[:, i] = fourier.to_image(coil.movedim(axis, -1), 1).movedim(-1, 0)
    return result
