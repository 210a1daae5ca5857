"""DICOM: Parametric Maps, and MR images for archives that refuse them."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrnoise.errors import InputError, require_extra
from mrnoise.export.dicom_identity import identity
from mrnoise.export.dicom_images import Volume, mr_images, parametric_map
from mrnoise.files.atomic import replacing
from mrnoise.files.record import to_numpy
from mrnoise.io.maps.nifti import finite_float32
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.quantities import quantities

if TYPE_CHECKING:
    from pydicom import Dataset

# Of the first series; those of scanners begin at 1.
FIRST_SERIES = 9001


def dicom(
    noise_map: NoiseMap,
    folder: str | PathLike[str],
    *,
    reference: str | PathLike[str] | None = None,
    anonymous: bool = False,
) -> list[Path]:
    """Write a Parametric Map a quantity: ``std.dcm``, ``snr.dcm``, …, needs the extra ``dicom``.

    Float values with the real world value mapping that is mandatory: slope 1, units in UCUM, the definition of the
    quantity as a private code. One series a quantity; of several frames or echoes one a volume, ``std_frame2.dcm``.
    Slices are in the order of the image.

    Parameters
    ----------
    noise_map
        What is written.
    folder
        For the files.
    reference
        A DICOM image of the same study, or the MRD file of the scan: patient, study and frame of reference are its.
    anonymous
        Without a patient, in a new study and frame of reference.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If there is neither a reference nor ``anonymous``, the reference lacks what images must have, or the map has no
        position in the scanner, or one that DICOM cannot hold.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4), method="closed_form")
    >>> [path.name for path in dicom(nm, "maps", anonymous=True)][:2]
    ['image.dcm', 'std.dcm']
    """
    require_extra("dicom", "pydicom")
    who = identity(reference, anonymous)
    _check_place(noise_map, anonymous)
    names, images = [], []
    for stem, volume in _volumes(noise_map):
        names.append(f"{stem}.dcm")
        images.append(parametric_map(volume, _in_series(who)))
    return _write([Path(folder) / name for name in names], images)


def dicom_mr(
    noise_map: NoiseMap,
    folder: str | PathLike[str],
    *,
    reference: str | PathLike[str] | None = None,
    anonymous: bool = False,
) -> list[Path]:
    """Write MR images for archives that refuse Parametric Maps: a folder a quantity (``std/001.dcm``).

    Values are int16 with one slope for the series, as rescale slope and as real world value mapping. Voxels without a
    value are 0, those above 100 medians are cut; both are counted in the comment of each image. Everything else is as
    in `dicom`.

    Parameters
    ----------
    noise_map, folder, reference, anonymous
        As in `dicom`.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        As in `dicom`.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4), method="closed_form")
    >>> [path.parent.name for path in dicom_mr(nm, "images", anonymous=True)][:2]
    ['image', 'std']
    """
    require_extra("dicom", "pydicom")
    who = identity(reference, anonymous)
    _check_place(noise_map, anonymous)
    paths, images = [], []
    for stem, volume in _volumes(noise_map):
        series = mr_images(volume, _in_series(who))
        paths += [Path(folder) / stem / f"{z + 1:03d}.dcm" for z in range(len(series))]
        images += series
    return _write(paths, images)


def _check_place(noise_map: NoiseMap, anonymous: bool) -> None:
    if not anonymous and not noise_map.image_grid.placed:
        raise InputError(
            "the map has no position in the scanner",
            expected="a scan that gives position and direction of its slices",
            received="an assumed position, which must not enter the frame of reference of a patient",
            remedy="Use --anonymous, or save the map as .nii.gz.",
        )


def _volumes(noise_map: NoiseMap) -> Iterator[tuple[str, Volume]]:
    """Name of the file and volume, for each quantity and each frame, echo and so on."""
    grid = noise_map.image_grid
    shape = grid.volumes_shape[:-3]
    number = FIRST_SERIES
    for name, quantity in quantities().items():
        value = noise_map.quantity(name) if quantity.style is not None else None
        if value is None:
            continue
        volumes = grid.volumes(finite_float32(to_numpy(value)))
        for index in np.ndindex(*shape):
            places = list(zip(grid.other_axes, index, shape, strict=True))
            which = "".join(f"_{axis}{i + 1}" for axis, i, _ in places)
            of = "".join(f", {axis} {i + 1} of {n}" for axis, i, n in places)
            yield (
                f"{name}{which}",
                Volume(
                    values=volumes[index],
                    affine=grid.affine,
                    name=name,
                    quantity=quantity,
                    description=f"mrnoise {name}{of}"[:64],
                    words=f"{name}: {quantity.definition}. {noise_map.method}, {noise_map.n_samples} samples",
                    number=number,
                    volumetric=grid.spatial_dims == 3,
                ),
            )
            number += 1


def _in_series(who: Dataset) -> Dataset:
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    series = Dataset()
    series.update(who)
    series.SeriesInstanceUID = generate_uid()
    return series


def _write(paths: list[Path], images: list[Any]) -> list[Path]:
    with replacing(*paths) as partial:
        for path, image in zip(partial, images, strict=True):
            image.save_as(path, enforce_file_format=True)
    return paths
