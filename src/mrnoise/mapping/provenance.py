"""Where a result comes from: the scan, the software, the time."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.result.provenance import Provenance
from mrnoise.sampling.grid import Grid


def of_scan(acquisition: Acquisition, own_coil_maps: bool = False) -> Provenance:
    """Everything about the scan that a map depends on; without its coil maps where a network has its own."""
    given = acquisition.coil_maps is not None and not own_coil_maps
    return Provenance(
        coil_maps="given, held fixed" if given else "those of the reconstruction",
        noise_covariance=acquisition.noise_covariance.describe(),
        sampling=_sampling(acquisition),
        notes=acquisition.notes or None,
        input={"source": acquisition.source, "sha256": fingerprint(acquisition)},
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _sampling(acquisition: Acquisition) -> dict[str, Any]:
    sampling = acquisition.sampling
    record: dict[str, Any] = {
        "acceleration": acquisition.acceleration,
        "acquired_fraction": 1 / acquisition.acceleration,
    }
    if not isinstance(sampling, Grid):
        record["trajectory"] = " × ".join(map(str, sampling.sample_shape)) + " samples"
    elif sampling.extent is not None:
        record["encoded"] = sampling.encoded()
        # Of the image that was encoded furthest, where they differ.
        ends = zip(
            acquisition.spatial_shape, sampling.box, acquisition.geometry.voxel_size[-len(sampling.box) :], strict=True
        )
        record["resolution_mm"] = [size * n / (behind - first) for n, (first, behind), size in ends]
    return record


def fingerprint(acquisition: Acquisition) -> str:
    """SHA-256 of all that a map depends on: k-space, sampling, noise covariance, coil maps, calibration, averages."""
    digest = hashlib.sha256()
    optional = (acquisition.coil_maps, acquisition.calibration, acquisition.averages)
    sampling = acquisition.sampling
    if isinstance(sampling, Grid):
        places = (sampling.mask, sampling.extent)
    else:
        places = (sampling.coordinates, sampling.density)
    for values in (acquisition.kspace, *places, acquisition.noise_covariance.matrix, *optional):
        if values is None:
            digest.update(b"none")
            continue
        digest.update(str(tuple(values.shape)).encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "mrnoise": version("mrnoise"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def hardware(device: torch.device) -> str:
    """Where a result was computed, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({_processor()}), {torch.get_num_threads()} of {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor()) or platform.machine()
