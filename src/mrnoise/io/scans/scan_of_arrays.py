"""From the arrays of a file to an acquisition, whatever the format of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition import Acquisition
from mrnoise.acquisition.acquisition import DEFAULT_AXES
from mrnoise.errors import InputError
from mrnoise.files.opening import check_kind
from mrnoise.files.text import printable
from mrnoise.io.scans.axis_layout import Layout, averaged, line_mask, same_for_all
from mrnoise.io.scans.axis_order import SPATIAL, Evidence, axis_order, plausible
from mrnoise.io.scans.complex_arrays import alternating, as_tensor, noise_samples, numbers, paired
from mrnoise.io.scans.given_noise import GivenNoise
from mrnoise.io.scans.given_trajectory import NO_TRAJECTORY, GivenTrajectory
from mrnoise.io.scans.noise_lines import clean_samples, copied, no_noise
from mrnoise.io.scans.noise_scan import NoiseScan
from mrnoise.io.scans.scan_arrays import ScanArrays, geometry_of, spatial_dims
from mrnoise.io.scans.trajectory_arrays import along_trajectory
from mrnoise.sampling import Grid, encoded_extent
from mrnoise.sampling.extent import Limits


def scan_of(
    arrays: ScanArrays,
    noise: GivenNoise,
    axes: tuple[str, ...] | None,
    trajectory: GivenTrajectory = NO_TRAJECTORY,
) -> Acquisition:
    """Acquisition from the arrays of a file.

    Parameters
    ----------
    arrays
        What the file holds.
    noise
        What to use instead of its own ``noise`` or ``noise_covariance``. Without any, Ψ is estimated from k-space.
    axes
        Names of all axes of k-space; ``None``: those of the file, else what `axis_order` finds.
    trajectory
        What to use instead of its own ``trajectory``.

    Raises
    ------
    InputError
        If an array does not fit, or it is not clear which axis is which.
    """
    path = arrays.path
    values = {name: numbers(array, name, path) for name, array in arrays.values.items() if name != "axes"}
    noise = _with_own_covariance(noise, values, path)
    if "trajectory" in values or trajectory.source is not None:
        return _settled(along_trajectory(values, arrays, axes, trajectory), noise, values, path)
    if trajectory.anything:
        raise InputError(
            f"{path.name} holds no trajectory",
            expected="a matrix or a unit beside a trajectory",
            received="samples on a grid",
            remedy="Give the trajectory too, --trajectory FILE, or leave both out.",
        )
    raw = _complex(values["kspace"], axes or arrays.axes, path)
    names, note = _names(raw.shape, values, arrays, noise, axes)
    layout = Layout(names, raw.shape)
    dims, coil = len(layout.spatial), -len(layout.spatial) - 1
    kspace = as_tensor(layout.arranged(raw, "average", "coil"))
    kspace = kspace if "coil" in names else kspace.unsqueeze(coil)
    averages = None
    notes = [*arrays.notes, *([note] if note else [])]
    if "average" in names:
        kspace, averages = averaged(kspace, coil)
        notes.append(f"averaged over {raw.shape[names.index('average')]} measurements; Ψ of a sample is divided by m")
    mask = _mask(values, arrays, layout, kspace, notes)
    seen = None if averages is None else averages > 0
    # A mask that does not fit is reported by Acquisition.
    if averages is not None and seen is not None and (mask is None or mask.shape in (seen.shape, seen.shape[-dims:])):
        mask = same_for_all(seen if mask is None else seen & mask, dims)
        averages = averages if mask.ndim > dims else same_for_all(averages, dims)
        mask = mask.expand(averages.shape)
    maps = values.get("coil_maps")
    extent = as_tensor(layout.arranged(values["extent"])) if "extent" in values else None
    sampling = _sampling(kspace, mask, extent, arrays.limits, dims)
    place = geometry_of(values, path)
    if place is None and arrays.geometry is not None and kspace.numel():
        place = arrays.geometry(tuple(kspace.shape[-2:]))
    acquisition = Acquisition(
        kspace=kspace,
        # Too few axes are reported by Acquisition; any coil count will do until then.
        noise_covariance=torch.eye(kspace.shape[coil] if kspace.ndim >= -coil else 1),
        mask=mask if sampling is None else None,
        sampling=sampling,
        averages=averages,
        coil_maps=None if maps is None else as_tensor(layout.arranged(paired(maps, raw.ndim), "coil")),
        geometry=place,
        spatial_dims=dims,
        source=f"{printable(path.name)} ({arrays.kind})",
        axes=layout.leading,
        notes=notes,
    )
    return _settled(acquisition, noise, values, path)


def noise_scan(values: np.ndarray, path: Path, scan: Acquisition | None = None) -> NoiseScan:
    """Noise scan from an array (coil, ..., sample), or (sample, coil); ``scan`` is what it must not repeat."""
    values = numbers(values, "noise", path)
    flat = noise_samples(values, path)
    # Lines of the array, where the coils come first.
    length = values.shape[-1] if len(flat) == len(values) else flat.shape[1]
    lines = list(flat.unflatten(1, (-1, length)).movedim(1, 0))
    image: tuple[Tensor, ...] = ()
    if scan is not None:
        kspace = scan.kspace.movedim(scan.coil_axis, -2)
        image = tuple(kspace.reshape(-1, *kspace.shape[-2:]))
    source = f"noise scan of {printable(path.name)}"
    samples, left_out = clean_samples(lines, source)
    return NoiseScan(samples, source, notes=left_out, fault=copied(lines, image) or no_noise(lines))


def _with_own_covariance(noise: GivenNoise, values: Mapping[str, np.ndarray], path: Path) -> GivenNoise:
    """With the ``noise_covariance`` of the file, where nothing else is given."""
    if noise.scans or noise.covariance is not None or "noise" in values or "noise_covariance" not in values:
        return noise
    return replace(noise, covariance=as_tensor(values["noise_covariance"]), source=f"given in {printable(path.name)}")


def _settled(acquisition: Acquisition, noise: GivenNoise, values: Mapping[str, np.ndarray], path: Path) -> Acquisition:
    return noise.settled(acquisition, (noise_scan(values["noise"], path, acquisition),) if "noise" in values else ())


def _complex(kspace: np.ndarray, axes: tuple[str, ...] | None, path: Path) -> np.ndarray:
    """K-space that a file holds as complex numbers, as pairs, or as real and imaginary parts in turn."""
    if axes is None:
        kspace = paired(kspace, max(kspace.ndim - 1, 3))
    else:
        kspace = paired(kspace, len(axes))
        # Nothing but the names tells pairs in a row from many real coils.
        kspace = alternating(kspace) if kspace.ndim == len(axes) and axes[-1] == "coil" else kspace
    if np.iscomplexobj(kspace):
        return kspace
    raise InputError(
        f"k-space of {path.name} is not complex",
        expected="complex numbers, records (real, imag), or a last axis of two: real and imaginary part",
        received=f"{kspace.dtype}, shape {kspace.shape}",
        remedy="Where the coils are the last axis and real and imaginary parts alternate in it, give all axes, for "
        "example --axes slice,ky,kx,coil.",
    )


def _names(
    shape: tuple[int, ...],
    values: Mapping[str, np.ndarray],
    arrays: ScanArrays,
    noise: GivenNoise,
    axes: tuple[str, ...] | None,
) -> tuple[tuple[str, ...], str | None]:
    given = axes or arrays.axes or _of_file(len(shape), values, arrays)
    if given is None:
        evidence = _evidence(values, arrays.evidence, noise, arrays.path)
        return axis_order(shape, arrays.path.name, evidence, arrays.documented, arrays.kind, arrays.fastest_first)
    if len(given) != len(shape) or len(set(given)) != len(given):
        raise InputError(
            f"names of axes do not fit the k-space of {arrays.path.name}",
            expected=f"{len(shape)} different names, one for each axis of {shape}",
            received=", ".join(given),
            remedy="Name all of them in the order of the file, for example --axes slice,coil,ky,kx.",
        )
    if arrays.fastest_first and plausible(shape[::-1], given) and not plausible(shape, given):
        raise InputError(
            f"names of axes are those of {arrays.path.name} in reverse",
            expected="the order of size() in MATLAB",
            received=f"{', '.join(given)} for {shape}",
            remedy=f"Give --axes {','.join(reversed(given))}.",
        )
    return given, None


def _of_file(n: int, values: Mapping[str, np.ndarray], arrays: ScanArrays) -> tuple[str, ...] | None:
    """Names of all axes where the file gives those of the leading axes, or its number of spatial axes."""
    dims = spatial_dims(values, arrays.path)
    last = ("coil", *SPATIAL[-dims:])
    if "axes" in arrays.values:
        given = check_kind(arrays.values["axes"], "axes", arrays.path, "U")
        return (*(str(name) for name in np.atleast_1d(given)), *last)
    if "spatial_dims" not in values or not 0 <= n - len(last) <= len(DEFAULT_AXES):
        return None
    return (*reversed(DEFAULT_AXES[: n - len(last)]), *last)


def _evidence(values: Mapping[str, np.ndarray], of_format: Evidence, noise: GivenNoise, path: Path) -> Evidence:
    coils, spatial, whole = dict(of_format.coils), dict(of_format.spatial), dict(of_format.whole)
    if noise.scans:
        coils["the noise scan"] = noise.scans[0].n_coils
    elif "noise" in values:
        coils["the noise scan"] = len(noise_samples(values["noise"], path))
    elif noise.covariance is not None:
        coils["the noise covariance"] = len(noise.covariance)
    elif "noise_covariance" in values:
        coils["noise_covariance"] = len(np.atleast_1d(values["noise_covariance"]))
    if "mask" in values and 0 < len(lengths := [n for n in values["mask"].shape if n != 1]) <= 2:
        spatial["mask"] = tuple(lengths)
    if "image_shape" in values and values["image_shape"].ndim == 1:
        spatial["image_shape"] = tuple(values["image_shape"].tolist())
    if "coil_maps" in values and (maps := paired(values["coil_maps"], 3)).ndim == 3:
        whole["coil_maps"] = maps.shape
    return Evidence(coils, of_format.slices, spatial, whole, of_format.flat)


def _mask(
    values: Mapping[str, np.ndarray], arrays: ScanArrays, layout: Layout, kspace: Tensor, notes: list[str]
) -> Tensor | None:
    """The mask of the file, (..., *spatial); ``None`` where what is not zero was acquired."""
    given = values.get("mask")
    dims = len(layout.spatial)
    acquired = (kspace != 0).any(-dims - 1)
    columns = arrays.columns and set(layout.leading) <= {"slice"}
    shared = acquired.flatten(0, -dims - 1).any(0) if acquired.ndim > dims else acquired
    if given is None:
        return shared if columns else None
    mask = as_tensor(layout.arranged(given)).bool()
    if mask.numel() == max(mask.shape, default=0):
        spread = line_mask(mask.flatten(), shared, columns)
        if spread is not None:
            mask, axis = spread
            if columns and axis != -1:
                notes.append(f"mask runs along {layout.spatial[axis]}, not along the last axis")
    return mask & shared if columns and mask.shape == shared.shape else mask


def _sampling(
    kspace: Tensor, mask: Tensor | None, extent: Tensor | None, limits: Limits | None, dims: int
) -> Grid | None:
    """With what was encoded: as the file says, else as its samples tell; ``None`` where the arrays do not fit."""
    if not kspace.numel():
        return None
    acquired = same_for_all((kspace != 0).any(-dims - 1), dims) if mask is None else mask
    if not bool(acquired.any()) or tuple(acquired.shape[-dims:]) != tuple(kspace.shape[-dims:]):
        return None
    fits = limits is not None and len(limits) == dims
    found = encoded_extent(acquired, dims, limits if fits else None) if extent is None else extent
    return Grid(acquired, dims, found)
