"""Arrays of a scan by name: which of a file they are, and what its format says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mrnoise.acquisition import Geometry
from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io.scans.axis_order import Evidence

COMPANIONS = (
    "noise",
    "noise_covariance",
    "mask",
    "extent",
    "coil_maps",
    "voxel_size",
    "spatial_dims",
    "axes",
    "trajectory",
    "density",
    "image_shape",
)
MOST_NAMED = 6


@dataclass(frozen=True, eq=False)
class ScanArrays:
    """Arrays of a file by name, and what its format says of them.

    Parameters
    ----------
    values
        ``kspace`` and those of `COMPANIONS` that there are.
    path
        The file.
    kind
        What its format is called.
    documented
        Orders of axes that the format is known for, one for each number of axes.
    axes
        Names of all axes where the format fixes them.
    evidence
        What the file says of its axes beside the arrays.
    geometry
        Of images (y, x) of this shape; ``None``: the file says nothing.
    columns
        Whether the format is known for masks along the last axis, shared by all slices.
    fastest_first
        Whether its files begin with the axis that others have last.
    limits
        What its header says of the extent along (y, x), see `mrnoise.sampling.encoded_extent`.
    notes
        Sentences of the reader.
    """

    values: Mapping[str, np.ndarray]
    path: Path
    kind: str
    documented: tuple[tuple[str, ...], ...] = ()
    axes: tuple[str, ...] | None = None
    evidence: Evidence = field(default_factory=Evidence)
    geometry: Callable[[tuple[int, ...]], Geometry] | None = None
    columns: bool = False
    fastest_first: bool = False
    limits: tuple[tuple[int, int] | None, ...] | None = None
    notes: tuple[str, ...] = ()


def chosen_arrays(found: Iterable[str], path: Path) -> dict[str, str]:
    """Which arrays of a file are k-space and its companions: our name → name in the file.

    K-space is the array ``kspace``, of the file or else of a group in it, or the only one with that in its name.
    Companions lie beside it, in its group (a struct of MATLAB 7.3 is one), or in the file.

    Parameters
    ----------
    found
        Names of all arrays.
    path
        The file.

    Raises
    ------
    InputError
        If none may be k-space, or several.

    Examples
    --------
    >>> chosen_arrays(["kspace_full", "mask", "image"], Path("scan.mat"))
    {'kspace': 'kspace_full', 'mask': 'mask'}
    """
    names = list(found)
    last = {name: name.rpartition("/")[2].lower().replace("_", "") for name in names}
    ways = (
        [name for name in names if name == "kspace"],
        [name for name in names if last[name] == "kspace"],
        [name for name in names if "kspace" in last[name]],
    )
    several = next(filter(None, ways), [])
    if len(several) == 1:
        group, slash, _ = several[0].rpartition("/")
        beside = {name: group + slash + name for name in COMPANIONS}
        companions = {name: beside[name] if beside[name] in names else name for name in COMPANIONS}
        return {"kspace": several[0], **{ours: name for ours, name in companions.items() if name in names}}
    if noise_arrays(names) and not several:
        raise InputError(
            f"{path.name} holds a noise scan, but no k-space",
            expected="an array kspace",
            received=_listed(names),
            remedy="Give this file as noise= and the scan as path.",
        )
    raise InputError(
        f"several arrays of {path.name} may be k-space" if several else f"{path.name} holds no k-space",
        expected="one array named kspace",
        received=_listed(several or names) or "nothing",
        remedy="Rename the array to kspace, or convert raw data with a tool of the ISMRMRD project.",
    )


def noise_arrays(found: Iterable[str]) -> list[str]:
    """Names of the arrays that are a noise scan: ``noise`` of the file, else of the groups in it."""
    names = [name for name in found if name.rpartition("/")[2] == "noise"]
    return ["noise"] if "noise" in names else names


def unused(found: Iterable[str], chosen: Mapping[str, str], known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What has to be said of the arrays from which nothing is read; ``known`` ones are no surprise."""
    others = [name for name in found if name not in (*chosen.values(), *known)]
    return (f"not used: {_listed(others)}; arrays are known by the names {', '.join(COMPANIONS)}",) if others else ()


def _listed(names: Iterable[str]) -> str:
    words = [printable(name) for name in names]
    return ", ".join(words[:MOST_NAMED]) + (f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else "")


def spatial_dims(values: Mapping[str, np.ndarray], path: Path) -> int:
    """Number of spatial axes that a file gives, 2 where it gives none."""
    value = values.get("spatial_dims", np.array(2))
    if value.size != 1 or value.dtype.kind not in "iuf" or value.item() not in (2, 3):
        raise InputError(
            f"spatial_dims in {path.name} is not 2 or 3",
            expected="2 for slices (coil, y, x), 3 for volumes (coil, z, y, x)",
            received=f"{value.dtype}, {value.tolist()}",
            remedy="Correct it, or leave it out.",
        )
    return int(value.item())


def geometry_of(values: Mapping[str, np.ndarray], path: Path) -> Geometry | None:
    """Voxel size that a file gives, ``None`` where it gives none."""
    if "voxel_size" not in values:
        return None
    size = values["voxel_size"]
    if size.size != 3 or size.dtype.kind not in "iuf":
        raise InputError(
            f"voxel_size in {path.name} has the wrong shape or type",
            expected="three lengths in mm, (z, y, x)",
            received=f"{size.dtype}, shape {size.shape}",
            remedy="For 2D slices z is the distance between slice centres.",
        )
    z, y, x = (float(v) for v in size.flat)
    return Geometry((z, y, x))
