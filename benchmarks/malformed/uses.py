"""What is done with an input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from malformed.bases import NX, NY
from malformed.changes import SilentlyAcceptedError


def use_scan(path: Path, **given: Any) -> None:
    """Read, with what is given beside the file, and describe."""
    import mrnoise

    scan = mrnoise.read(path, **given)
    scan.noise_covariance.describe()
    _ = scan.acceleration, scan.geometry.affine_for((1, *scan.spatial_shape)[-3:]), scan.image_shape


def use_map(path: Path) -> None:
    """Read, compute every quantity, write again."""
    import torch

    import mrnoise
    from mrnoise.foreground import foreground
    from mrnoise.result.quantities import quantities

    nm = mrnoise.read_noise_map(path)
    for quantity in quantities().values():
        quantity.value(nm)
    inside = foreground(nm.image) if bool(torch.isfinite(nm.image.abs()).all()) else None
    nm.confidence_interval()
    _ = nm.relative_error, inside, nm.linearity and nm.linearity.sentence
    mrnoise.save(nm, path.with_name("again.nii"))
    mrnoise.save(nm, path.with_name("again.h5"))


def use_region(path: Path, placed: bool) -> None:
    """As ``--region``, on an image whose place is known or not."""
    from mrnoise.acquisition.geometry import Geometry
    from mrnoise.acquisition.image_grid import ImageGrid
    from mrnoise.cli.region import region

    affine = np.diag([2.0, 1.0, 3.0, 1.0]) if placed else None
    region(str(path), ImageGrid((NY, NX), 2, (), Geometry(affine=affine, measured=placed)))


def use_reference(path: Path, map_file: Path) -> None:
    """Export a map as MR images of the patient of the reference, and read them."""
    import pydicom

    import mrnoise
    from mrnoise import export

    images = export.dicom_mr(mrnoise.read_noise_map(map_file), path.with_name("out"), reference=path)
    with pydicom.config.disable_value_validation():
        for written in (pydicom.dcmread(image) for image in images[:1]):
            for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
                if not pydicom.uid.UID(written[name].value).is_valid:
                    raise SilentlyAcceptedError(f"{name} {written[name].value!r}")
