"""Files for a denoiser, with a JSON file beside them that says what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mrnoise.export.series import Series
from mrnoise.files.atomic import replacing
from mrnoise.files.record import to_json
from mrnoise.io.maps.nifti import nifti_image

DESCRIPTION = "export.json"
SCALE = "1: intensities are those of the map"


def nifti(series: Series, volumes: np.ndarray, words: str) -> Callable[[Path], None]:
    """Writes volumes (…, z, y, x)."""
    kept = volumes.astype(np.complex64 if np.iscomplexobj(volumes) else np.float32)
    return lambda path: nifti_image(kept, series.grid, words).to_filename(path)


def write_described(
    folder: str | PathLike[str],
    series: Series,
    files: Mapping[str, Callable[[Path], None]],
    record: Mapping[str, Any],
) -> list[Path]:
    """Write files by what writes each, and ``record`` beside them with what all of them share."""
    targets = [Path(folder) / name for name in (*files, DESCRIPTION)]
    axes = {"volumes": len(series.image), "axes": ["x", "y", "z", *reversed(series.grid.other_axes)]}
    with replacing(*targets) as partial:
        for write, path in zip(files.values(), partial, strict=False):
            write(path)
        text = to_json({"scale": SCALE, **record, **axes, "remarks": series.remarks}, indent=2)
        partial[-1].write_text(text + "\n", encoding="utf-8")
    return targets
