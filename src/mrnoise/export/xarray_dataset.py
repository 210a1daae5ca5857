"""A map as a dataset of xarray: axes with names, coordinates in mm, units and definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mrnoise.errors import require_extra
from mrnoise.files.record import to_json, to_numpy
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.quantities import quantities

if TYPE_CHECKING:
    import xarray


def to_xarray(noise_map: NoiseMap) -> xarray.Dataset:
    """All quantities of a map as variables of one dataset of xarray.

    Parameters
    ----------
    noise_map
        What is wanted.

    Returns
    -------
    xarray.Dataset
        Variables have the names of `mrnoise.result.quantities.QUANTITIES` with ``units`` and ``definition``; dimensions
        are the axes of the image, ``frame``, ``slice``, ``y``, ``x`` and so on. Where the scan gave a voxel size,
        ``x``, ``y`` and ``z`` (of slices along ``slice``) are mm from the voxel n // 2, along the axes of the image;
        the attribute ``affine`` leads from voxels (x, y, z) to the patient (R, A, S). ``provenance`` is JSON.

    Raises
    ------
    InputError
        If xarray is not installed.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4, n_slices=3), n_samples=16)
    >>> data = to_xarray(nm)  # doctest: +SKIP
    >>> data.std.sel(slice=1).sel(x=0.0, method="nearest").dims  # doctest: +SKIP
    ('y',)
    """
    require_extra("xarray", "xarray")
    import xarray

    grid, geometry = noise_map.image_grid, noise_map.geometry
    dims = (*grid.axes, *("z", "y", "x")[-noise_map.spatial_dims :])
    sizes = dict(zip(dims, noise_map.image.shape, strict=True))
    variables: dict[str, Any] = {}
    for name, quantity in quantities().items():
        value = quantity.value(noise_map)
        if value is not None:
            words = {"units": quantity.unit, "long_name": name.replace("_", " "), "definition": quantity.definition}
            variables[name] = (dims, to_numpy(value), words)
    coordinates: dict[str, Any] = {
        axis: (axis, np.arange(n)) for axis, n in sizes.items() if axis not in ("z", "y", "x")
    }
    about: dict[str, Any] = {
        "method": noise_map.method,
        "n_samples": noise_map.n_samples,
        "acceleration": noise_map.acceleration,
    }
    if geometry.measured:
        for name, step in zip(("z", "y", "x"), geometry.spacing, strict=True):
            along = "slice" if name == "z" and "z" not in dims else name
            if along in sizes:
                n = sizes[along]
                words = {"units": "mm", "long_name": f"{name}, from voxel {n // 2} along the axis of the image"}
                coordinates[name] = (along, step * (np.arange(n) - n // 2), words)
        about["affine"] = grid.affine.ravel()
    about["provenance"] = to_json(noise_map.provenance.stated())
    return xarray.Dataset(variables, coordinates, about)
