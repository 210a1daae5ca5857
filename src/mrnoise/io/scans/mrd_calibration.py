"""K-space of the lines of an MRD file that only calibrate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mrnoise.fourier import central
from mrnoise.io.scans.mrd_file import MrdFile
from mrnoise.io.scans.mrd_phase_encoding import PhaseEncoding, phase_encoding
from mrnoise.io.scans.mrd_readout import readouts
from mrnoise.io.scans.mrd_sorting import numbered, sort_lines

# Fields of view that differ by less are the same.
SAME_FIELD = 0.01


def calibration_kspace(
    file: MrdFile, image: np.ndarray, lines: np.ndarray, encodings: list[PhaseEncoding], kspace: Tensor
) -> tuple[Tensor | None, list[str]]:
    """Mean of the calibration lines of each slice, shaped as the k-space of the image; and what is to say about them.

    Lines of another encoding space are put around the centre of k-space, where their field of view is that of the
    image; its matrix may be another.

    Parameters
    ----------
    file
        The file.
    image, lines
        Numbers of the lines of the image and of those that calibrate.
    encodings
        Phase encodings of the image along k1 and k2.
    kspace
        That of the image.
    """
    numbers = file.heads["idx"]["slice"]
    known = np.isin(numbers[lines], numbers[image])
    notes = [] if known.all() else [f"{int((~known).sum())} calibration lines of other slices were left out."]
    lines = lines[known]
    if not lines.size:
        return None, notes
    image_is_volume = encodings[1].size > 1
    space, other = (int(file.heads["encoding_space_ref"][some[0]]) for some in (image, lines))
    if space != other:
        if not np.allclose(_field(file, image), _field(file, lines), rtol=SAME_FIELD):
            return None, [
                *notes,
                f"{len(lines)} calibration lines of encoding space {other} were left out: another field of view.",
            ]
        encodings = [phase_encoding(file, lines, axis) for axis in (1, 2)]
        notes.append(f"Calibration lines of encoding space {other}, {len(lines)}, go into the coil maps only.")
    if image_is_volume != (encodings[1].size > 1):
        partitions = "one partition of a volume" if image_is_volume else "several partitions"
        return None, [*notes, f"{len(lines)} calibration lines were left out: {partitions}."]
    found = readouts(file, lines)
    notes += found.notes
    # Number the slices as the image does.
    rank = dict(zip(numbers[image].tolist(), numbered(file, image, "slice").tolist(), strict=True))
    slices = np.array([rank[n] for n in numbers[lines].tolist()])
    rows = [encoding.rows(file, lines) for encoding in encodings]
    mean, _ = sort_lines(file, found, [slices], [max(rank.values()) + 1], rows, encodings)
    dims = 3 if image_is_volume else 2
    return _centred(mean, kspace.shape[-dims:]).expand(kspace.shape).contiguous(), notes


def _centred(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Cut or filled with zeros to this shape along the last axes, the origin at index n // 2 of both."""
    found = values.new_zeros(*values.shape[: -len(shape)], *shape)
    smaller = [min(pair) for pair in zip(shape, values.shape[-len(shape) :], strict=True)]
    central(found, smaller).copy_(central(values, smaller))
    return found


def _field(file: MrdFile, lines: np.ndarray) -> tuple[float, float]:
    """Field of view along x, without oversampling, and y."""
    encoding = file.encoding(lines)
    encoded, recon = encoding.encodedSpace.fieldOfView_mm, encoding.reconSpace.fieldOfView_mm
    return min(encoded.x, recon.x), encoded.y
