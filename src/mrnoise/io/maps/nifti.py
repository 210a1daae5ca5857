"""NIfTI: one float32 file a quantity, each with a JSON file beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.files.atomic import remove_with_others, replacing
from mrnoise.files.record import to_json, to_numpy
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.quantities import quantities

# NIFTI_XFORM_SCANNER_ANAT where the position is measured; where it is assumed, the files of a map are aligned
# to each other only (NIFTI_XFORM_ALIGNED_ANAT).
MEASURED_CODE, ASSUMED_CODE = 1, 2


def write_nifti(noise_map: NoiseMap, path: Path) -> list[Path]:
    """Write ``<stem>_<quantity>.nii.gz`` and ``.json`` for every quantity the map has.

    Axes are (x, y, z), z the slices, then that of time, then all others, named in the JSON file. A value that is not
    finite is stored as NaN. A quantity that an earlier map of the same name had and this one lacks is removed, so that
    the files always belong together.

    Returns
    -------
    list of Path
        The files, each followed by its JSON file.
    """
    ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else ".nii"
    stem = path.name[: -len(ending)]
    return write_quantities(noise_map, lambda name: path.with_name(f"{stem}_{name}{ending}"), ending)


def write_quantities(
    noise_map: NoiseMap,
    path_of: Callable[[str], Path],
    ending: str,
    more: Callable[[str, str, str], Mapping[str, Any]] = lambda name, unit, definition: {},
) -> list[Path]:
    """Write each quantity where ``path_of`` says; ``more`` gives what its JSON file says besides."""
    drawn = [name for name, quantity in quantities().items() if quantity.style is not None]
    maps = {name: value for name in drawn if (value := noise_map.quantity(name)) is not None}

    def both(names: Iterable[str]) -> list[Path]:
        paths = [path_of(name) for name in names]
        return [p for path in paths for p in (path, path.with_name(path.name.removesuffix(ending) + ".json"))]

    targets, grid = both(maps), noise_map.image_grid
    with replacing(*targets) as partial:
        for (name, value), image_path, json_path in zip(maps.items(), partial[::2], partial[1::2], strict=True):
            array, quantity = finite_float32(to_numpy(value)), quantities()[name]
            words = f"{name}, {noise_map.method}, {noise_map.n_samples} samples"
            nifti_image(grid.volumes(array), grid, words).to_filename(image_path)
            record = {**more(name, quantity.unit, quantity.definition), **sidecar(noise_map, name, array)}
            json_path.write_text(to_json(record, indent=2) + "\n", encoding="utf-8")
    remove_with_others(*both(name for name in drawn if name not in maps))
    return targets


def nifti_image(volumes: np.ndarray, grid: ImageGrid, description: str) -> Any:
    """A NIfTI image of an array (…, z, y, x) on the grid of an image."""
    import nibabel

    affine = grid.affine
    image: Any = cast(Any, nibabel.Nifti1Image)(volumes.T, affine)  # nibabel is only partly typed
    code = MEASURED_CODE if grid.placed else ASSUMED_CODE
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    if not np.allclose(image.get_qform(), affine, atol=1e-4 * np.abs(affine).max()):
        # A quaternion cannot hold shear.
        image.set_qform(affine, 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"mrnoise {description}"[:79].encode()
    return image


def finite_float32(array: np.ndarray) -> np.ndarray:
    """As it is stored: what is not finite becomes NaN."""
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def sidecar(noise_map: NoiseMap, name: str, array: np.ndarray) -> dict[str, Any]:
    """What the file of a quantity holds, and how it was made."""
    quantity = quantities()[name]
    provenance = noise_map.provenance
    return {
        "quantity": name,
        "units": quantity.unit,
        "definition": quantity.definition,
        "axes": ["x", "y", "z", *reversed(noise_map.image_grid.other_axes)],
        "method": noise_map.method,
        "why": provenance.why,
        "n_samples": noise_map.n_samples,
        "n_products": noise_map.n_products,
        "seed": provenance.seed,
        "linearity": None if noise_map.linearity is None else noise_map.linearity.sentence,
        "interrupted": noise_map.estimate.interrupted,
        "acceleration": noise_map.acceleration,
        "geometry_measured": noise_map.image_grid.placed,
        "summary": _summary(array),
        "versions": provenance.versions,
        "created": provenance.created,
    }


def _summary(array: np.ndarray) -> dict[str, Any]:
    """Of all voxels that have a value, background included."""
    values = array[np.isfinite(array)].astype(float)
    counts = {"voxels": array.size, "voxels_without_value": array.size - values.size}
    if values.size == 0:
        return counts
    low, middle, high = np.percentile(values, (5, 50, 95))
    return {
        **counts,
        "minimum": values.min(),
        "percentile_5": low,
        "median": middle,
        "mean": values.mean(),
        "percentile_95": high,
        "maximum": values.max(),
    }
