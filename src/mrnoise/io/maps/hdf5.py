"""HDF5: a noise map without loss, and its derived maps for other programs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.geometry import Geometry
from mrnoise.errors import InputError
from mrnoise.estimators.choice.linearity import Finding, Linearity
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.sampling_error import (
    EmpiricalError,
    GaussianError,
    LeakageError,
    MomentError,
    NoError,
    SamplingError,
)
from mrnoise.files.atomic import replacing
from mrnoise.files.heaps import check_heaps
from mrnoise.files.opening import array, attribute, opened_hdf5, text
from mrnoise.files.record import to_json, to_numpy
from mrnoise.files.text import printable
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance
from mrnoise.result.quantities import quantities

if TYPE_CHECKING:
    import h5py

FORMAT, FORMAT_VERSION = "mrnoise noise map", 1
WRITTEN = f"an .h5 file written by mrnoise.save, format version {FORMAT_VERSION} or older"
KINDS: dict[str, type[SamplingError]] = {
    kind.__name__: kind for kind in (GaussianError, EmpiricalError, MomentError, LeakageError, NoError)
}


def write_hdf5(noise_map: NoiseMap, path: Path) -> None:
    """Write everything `read_noise_map` needs, and under ``maps`` what other programs want.

    Layout: ``image``, ``reference_std``, ``estimate/{variance, pseudo_variance, mean, mean_error, certified_error,
    error_sample}``, ``estimate/error``, ``estimate/sums`` of an interrupted run, ``linearity/{departure,
    findings}``, ``geometry``, ``provenance`` (JSON) and the attributes ``spatial_dims``, ``acceleration`` and
    ``axes``, all as they are in the map; ``maps/<quantity>`` is float32 with the attributes ``units`` and
    ``definition``. Image axes are (…, z, y, x) or (…, y, x).
    """
    import h5py

    estimate, geometry = noise_map.estimate, noise_map.geometry
    with replacing(path) as (partial,), h5py.File(partial, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["spatial_dims"] = noise_map.spatial_dims
        file.attrs["acceleration"] = noise_map.acceleration
        file.attrs["axes"] = list(noise_map.axes)
        # A dataset, because attributes are limited to 64 kB.
        file["provenance"] = to_json(noise_map.provenance.stated())
        _put(file, "image", noise_map.image)
        _put(file, "reference_std", noise_map.reference_std)

        group = file.create_group("estimate")
        for name in ("method", "n_samples", "n_products", "interrupted"):
            group.attrs[name] = getattr(estimate, name)
        for name in ("variance", "pseudo_variance", "mean", "mean_error", "certified_error", "error_sample"):
            _put(group, name, getattr(estimate, name))
        _put_error(group.create_group("error"), estimate.error)
        for name, total in (estimate.sums or {}).items():
            _put(group, f"sums/{name}", total)

        if noise_map.linearity is not None:
            _put_linearity(file.create_group("linearity"), noise_map.linearity)

        place = file.create_group("geometry")
        place.attrs["voxel_size"] = geometry.voxel_size
        place.attrs["measured"] = geometry.measured
        if geometry.affine is not None:
            place["affine"] = geometry.affine

        maps = file.create_group("maps")
        for name, quantity in quantities().items():
            value = quantity.value(noise_map)
            if value is not None:
                _put(maps, name, value.float())
                maps[name].attrs.update(units=quantity.unit, definition=quantity.definition)


def read_noise_map(path: str | PathLike[str]) -> NoiseMap:
    """Read a map that was saved as ``.h5``, also one of an interrupted run.

    Parameters
    ----------
    path
        File of `mrnoise.save`.

    Returns
    -------
    NoiseMap
        As it was saved, provenance included.

    Raises
    ------
    InputError
        If the file does not exist, is not a noise map, is truncated, or was written by a newer version.

    Examples
    --------
    >>> from mrnoise import noise_map, save
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4), n_samples=16)
    >>> (path,) = save(nm, "head.h5")
    >>> torch.equal(read_noise_map(path).std, nm.std)
    True
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise _unreadable(path, "no such file")
    check_heaps(path)
    with opened_hdf5(path, WRITTEN, problem="cannot read a noise map") as file:
        if "format" not in file.attrs or attribute(file, "format") != FORMAT:
            raise _unreadable(path, "an HDF5 file of another kind")
        if _number(file, "format_version") not in range(1, FORMAT_VERSION + 1):
            raise _unreadable(path, f"format version {file.attrs['format_version']}")
        try:
            nm = _read(file)
        except InputError as error:
            raise _unreadable(path, f"{error.problem}: {error.received}") from error
        if wrong := _inconsistency(nm):
            raise _unreadable(path, wrong)
    return nm


def holds_noise_map(path: Path) -> bool:
    """Whether a file is one of `write_hdf5`, whole or not."""
    try:
        with opened_hdf5(path) as file:
            return "format" in file.attrs and attribute(file, "format") == FORMAT
    except InputError:
        return False


def _unreadable(path: Path, received: str) -> InputError:
    return InputError(
        "cannot read a noise map",
        expected=WRITTEN,
        received=f"{path} ({received})",
        remedy="Save the map again; scans are read with mrnoise.read.",
    )


def _inconsistency(nm: NoiseMap) -> str | None:
    """What does not fit in a map from a file, ``None`` where all does."""
    image, estimate = nm.image, nm.estimate
    if nm.spatial_dims not in (2, 3) or image.ndim < nm.spatial_dims or 0 in image.shape:
        return f"an image of shape {tuple(image.shape)} with spatial_dims {nm.spatial_dims}"
    if nm.axes and len(nm.axes) != image.ndim - nm.spatial_dims:
        return f"axes {nm.axes} of an image of shape {tuple(image.shape)}"
    if not 0 < nm.acceleration < math.inf or min(estimate.n_samples, estimate.n_products) < 0:
        return f"acceleration {nm.acceleration}, {estimate.n_samples} samples, {estimate.n_products} products"
    spatial = image.shape[-nm.spatial_dims :]
    for name, total in (estimate.sums or {}).items():
        if (total.dtype != torch.int64) if name == "count" else total.shape[-nm.spatial_dims :] != spatial:
            return f"running sums {name} of type {total.dtype}, shape {tuple(total.shape)}"
    shaped = {
        "variance": (estimate.variance, False),
        "pseudo_variance": (estimate.pseudo_variance, True),
        "reference_std": (nm.reference_std, False),
        "mean": (estimate.mean, True),
        "mean_error": (estimate.mean_error, False),
        "error": (estimate.variance_error, False),
        "departure": (nm.departure, False),
    }
    for name, (value, may_be_complex) in shaped.items():
        real = value is None or value.is_floating_point() or (may_be_complex and value.is_complex())
        if value is not None and (value.shape != image.shape or not real):
            return f"{name} of type {value.dtype}, shape {tuple(value.shape)} for an image {tuple(image.shape)}"
    return None


def _read(file: h5py.File) -> NoiseMap:
    group, place = file["estimate"], file["geometry"]
    z, y, x = (float(v) for v in attribute(place, "voxel_size"))
    variance, pseudo_variance = _needed(group, "variance"), _needed(group, "pseudo_variance")
    image = _needed(file, "image")
    if not (image.is_floating_point() or image.is_complex()):
        raise TypeError(f"an image of type {image.dtype}")
    estimate = Estimate(
        variance=variance,
        pseudo_variance=pseudo_variance,
        error=_get_error(group["error"]),
        method=printable(_word(group, "method")),
        n_samples=int(_number(group, "n_samples")),
        n_products=int(_number(group, "n_products")),
        interrupted=_flag(group, "interrupted"),
        mean=_get(group, "mean"),
        certified_error=_get(group, "certified_error"),
        mean_error=_get(group, "mean_error"),
        error_sample=_get(group, "error_sample"),
        sums={name: _needed(group["sums"], name) for name in group["sums"]} if "sums" in group else None,
    )
    return NoiseMap(
        image=image,
        estimate=estimate,
        geometry=Geometry(
            voxel_size=(z, y, x),
            affine=array(place, "affine"),
            measured=_flag(place, "measured"),
        ),
        spatial_dims=int(_number(file, "spatial_dims")),
        reference_std=_get(file, "reference_std"),
        acceleration=_number(file, "acceleration", "iuf"),
        linearity=_get_linearity(file["linearity"]) if "linearity" in file else None,
        axes=tuple(str(axis) for axis in (attribute(file, "axes") if "axes" in file.attrs else ())),
        provenance=Provenance.of(_json(file, "provenance", dict)),
    )


def _put(group: h5py.Group, name: str, value: Tensor | None) -> None:
    if value is None:
        return
    # Scalars cannot be compressed.
    packing: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if value.ndim else {}
    group.create_dataset(name, data=to_numpy(value), **packing)


def _get(group: h5py.Group, name: str) -> Tensor | None:
    values = array(group, name)
    if values is None and name in group:
        raise KeyError(f"{name} is no array")
    # A writable copy in the byte order of this machine.
    return None if values is None else torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def _needed(group: h5py.Group, name: str) -> Tensor:
    value = _get(group, name)
    if value is None:
        raise KeyError(f"{name} is missing")
    return value


def _number(group: h5py.Group, name: str, kinds: str = "iu") -> float:
    value = np.asarray(attribute(group, name))
    if value.ndim or value.dtype.kind not in kinds:
        raise TypeError(f"the attribute {name} is {value}")
    return float(value) if value.dtype.kind == "f" else int(value)


def _flag(group: h5py.Group, name: str) -> bool:
    value = attribute(group, name)
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"the attribute {name} is {value}")
    return bool(value)


def _word(group: h5py.Group, name: str) -> str:
    value = attribute(group, name)
    if not isinstance(value, str) or not value:
        raise TypeError(f"the attribute {name} is {value!r}")
    return value


def _json(group: h5py.Group, name: str, kind: type) -> Any:
    value = json.loads(text(group, name) or b"null")
    if not isinstance(value, kind):
        raise TypeError(f"{name} is no {kind.__name__}")
    return value


def _put_error(group: h5py.Group, error: SamplingError) -> None:
    if KINDS.get(type(error).__name__) is not type(error):
        raise InputError(
            "sampling error of unknown kind",
            expected=" or ".join(KINDS),
            received=type(error).__name__,
            remedy="Save the map as .nii.gz, or give one of the known kinds.",
        )
    group.attrs["kind"] = type(error).__name__
    for field in dataclasses.fields(error):  # type: ignore[arg-type]  # all kinds are dataclasses
        _put(group, field.name, getattr(error, field.name))


def _get_error(group: h5py.Group) -> SamplingError:
    kind = KINDS[_word(group, "kind")]
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(*(_needed(group, name) for name in names))


def _put_linearity(group: h5py.Group, linearity: Linearity) -> None:
    _put(group, "departure", linearity.departure)
    group["findings"] = to_json([dataclasses.asdict(found) for found in linearity.findings])


def _get_linearity(group: h5py.Group) -> Linearity:
    def known(value: Any) -> Any:
        return math.nan if value is None else value  # JSON knows no NaN

    findings = _json(group, "findings", list)
    if not findings:
        raise ValueError("no findings on linearity")
    findings = [Finding(**{name: known(value) for name, value in found.items()}) for found in findings]
    return Linearity(_needed(group, "departure"), tuple(findings))
