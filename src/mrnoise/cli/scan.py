"""From the options of a command to an acquisition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mrnoise.errors import InputError

if TYPE_CHECKING:
    from mrnoise.acquisition import Acquisition


def load_scan(
    path: Path,
    noise: Path | None,
    *,
    slice_index: int | None,
    acceleration: float | None,
    pattern: str,
    calibration: int,
    coil_maps: str,
    sampling_seed: int = 0,
    device: str = "cpu",
) -> Acquisition:
    """Read a scan, choose a slice, find its coil maps, undersample it, move it to a device; in this order.

    Fixed maps are those of the file, else ESPIRiT maps of the scan as read, before undersampling.
    """
    from mrnoise.calibration import with_coil_maps
    from mrnoise.io import read
    from mrnoise.sampling import pattern as sampling_pattern

    if coil_maps not in ("fixed", "propagated"):
        raise InputError(
            "unknown choice of coil maps",
            expected="fixed or propagated",
            received=coil_maps,
            remedy="Use fixed, the classical definition.",
        )
    acquisition = read(path, noise=noise)
    if slice_index is not None:
        slices = list(acquisition.slices())
        if not 0 <= slice_index < len(slices):
            raise InputError(
                "no such slice",
                expected=f"0 to {len(slices) - 1}",
                received=str(slice_index),
                remedy=f"Run mrnoise info {path} to see the shape of the scan.",
            )
        acquisition = slices[slice_index]
    if coil_maps == "propagated":
        acquisition = acquisition.replace(coil_maps=None)
    elif acquisition.coil_maps is None and acquisition.n_coils > 1:
        acquisition = with_coil_maps(acquisition)
    if acceleration is not None:
        shape = acquisition.spatial_shape
        acquisition = acquisition.undersample(
            sampling_pattern(pattern, shape, acceleration, calibration, sampling_seed)
        )
    return acquisition if device == "cpu" else acquisition.to(device)
