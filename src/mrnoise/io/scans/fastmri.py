"""HDF5 files of arrays: those of the fastMRI kind, with an ISMRMRD header, and others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrnoise.acquisition import Geometry
from mrnoise.files.opening import array, datasets, opened_hdf5, text
from mrnoise.io.scans.axis_order import Evidence
from mrnoise.io.scans.complex_arrays import KINDS
from mrnoise.io.scans.mrd_header import parse_header
from mrnoise.io.scans.scan_arrays import ScanArrays, chosen_arrays, noise_arrays, unused

if TYPE_CHECKING:
    import numpy as np

HEADER = "ismrmrd_header"
# Images that are part of fastMRI files.
IMAGES = ("reconstruction_rss", "reconstruction_esc")


def fastmri_arrays(path: Path) -> ScanArrays:
    """Arrays of an HDF5 file.

    ``kspace`` is (slice, coil, ky, kx), or (slice, ky, kx) for a single coil, as fastMRI names its axes.
    There the **last** axis is the phase encoding and the one before it the readout; the axes are kept as
    they are, so k0 is the phase encoding and the image has the orientation of the file. ``mask`` (kx,) is
    spread over the readout. Samples that are zero in every coil and slice count as not acquired; columns before the
    first and behind the last, the padding of a partial acquisition, as never encoded.

    fastMRI keeps the oversampling of the readout: k-space covers the encoded field of view, not the
    reconstructed one. It stays so here, and the voxel size is that of the whole grid: the encoded field of
    view over the length of each axis. The file says nothing of position and orientation, nor of gaps between slices.

    Raises
    ------
    InputError
        If the file cannot be read or none of its arrays is k-space.
    """
    with opened_hdf5(path) as file:
        found = datasets(file)
        chosen = chosen_arrays(found, path)
        chosen.pop("axes", None)
        loaded = {ours: array(file, name, KINDS) for ours, name in chosen.items()}
        header = text(file, HEADER)
    values = {name: some for name, some in loaded.items() if some is not None}
    said = None if header is None else parse_header(header, path)
    shape = found[chosen["kspace"]]
    notes = unused(found, chosen, (HEADER, *IMAGES))
    if said is not None and _turned(shape, said.encoding[0].encodedSpace.matrixSize.x):
        notes += ("the readout of the header is the last axis, the phase encoding the one before",)
    return ScanArrays(
        values,
        path,
        "HDF5" if said is None else "fastMRI",
        documented=(("slice", "ky", "kx"), ("slice", "coil", "ky", "kx")),
        evidence=_evidence(said, shape, {name: found[name] for name in IMAGES if name in found}),
        geometry=None if said is None else partial(_geometry, said.encoding[0].encodedSpace),
        columns=True,
        limits=(None, None if said is None or not shape else _encoded_columns(said.encoding[0], shape[-1])),
        notes=notes,
    )


def fastmri_noise(path: Path) -> np.ndarray | None:
    """The array ``noise`` of an HDF5 file or of one of its groups, ``None`` where there is not just one."""
    with opened_hdf5(path) as file:
        names = noise_arrays(datasets(file))
        return array(file, names[0], KINDS) if len(names) == 1 else None


def _evidence(header: Any, shape: tuple[int, ...], images: dict[str, tuple[int, ...]]) -> Evidence:
    """What header and images say of the axes; numbers that no axis has are left aside: coils may have been combined."""
    slices = {name: size[0] for name, size in images.items() if len(size) == 3 and size[0] in shape}
    if header is None:
        return Evidence(slices=slices, flat=bool(slices))
    system, matrix = header.acquisitionSystemInformation, header.encoding[0].encodedSpace.matrixSize
    channels = system.receiverChannels if system else None
    coils = {"the header": int(channels)} if channels in shape else {}
    if not coils and len(shape) == 3:
        coils = {"the header": 1}
    # The phase encoding may be padded or cut, the readout is as long as it was measured.
    readout = {"the readout of the header": (int(matrix.x),)} if matrix.x in shape else {}
    return Evidence(coils, slices, readout, flat=matrix.z == 1)


def _geometry(encoded: Any, shape: tuple[int, ...]) -> Geometry:
    """Readout along y and phase encoding along x, as in fastMRI, unless the header fits the other way round only."""
    fov = encoded.fieldOfView_mm
    along = (fov.y, fov.x) if _turned(shape, encoded.matrixSize.x) else (fov.x, fov.y)
    return Geometry((fov.z, along[0] / shape[0], along[1] / shape[1]))


def _turned(shape: tuple[int, ...], readout: int) -> bool:
    """Whether the readout of the header is as long as the last axis, and not as the one before."""
    return len(shape) > 1 and shape[-1] == readout != shape[-2]


def _encoded_columns(encoding: Any, n: int) -> tuple[int, int] | None:
    """First phase encoding and the one behind the last, of n columns, by the encoding limits; ``None`` without them."""
    limits = encoding.encodingLimits.kspace_encoding_step_1
    if limits is None or None in (limits.center, limits.maximum) or int(encoding.encodedSpace.matrixSize.y) != n:
        return None
    first = n // 2 - int(limits.center)
    return first, first + int(limits.maximum) + 1
