"""Position and orientation of the image of an MRD file."""

from __future__ import annotations

import numpy as np

from mrnoise.acquisition import Geometry
from mrnoise.io.scans.mrd_header import Encoding

# MRD gives patient coordinates to the left, posterior, superior; NIfTI to the right, anterior, superior.
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def along_normal(heads: np.ndarray) -> np.ndarray:
    """Position of each line's slice along the slice normal of the first line, in mm."""
    return np.asarray(heads["position"].astype(float) @ heads["slice_dir"][0].astype(float))


def mrd_geometry(encoding: Encoding, shape: tuple[int, int, int], heads: np.ndarray) -> Geometry:
    """Geometry of an image (z, y, x) from its header and one line head for each slice.

    With read, phase and slice direction r, p, s (unit vectors) and c the position of the line head, the
    voxel with index (i, j, k) along (x, y, z) lies at

        c + (i − n_x // 2) d_x r + (j − n_y // 2) d_y p + (k − n_z // 2) d_z s

    in a volume, since the origin of the Fourier transform is at n // 2. For slices c is the position of
    the first one and k counts from it. Image axes follow the gradients: x grows along r, y along p.

    Parameters
    ----------
    encoding
        Encoding of the header: fields of view in mm.
    shape
        (z, y, x), z the slices of a 2D scan or the partitions of a volume. A slice is as thick as one of the
        partitions that the header encodes.
    heads
        Line heads, one for each slice in the order of the image; one for a volume.

    Returns
    -------
    Geometry
        Without an affine where the file gives no directions, or slices are neither parallel nor equally
        spaced (localisers): no single affine describes them.
    """
    n_z, n_y, n_x = shape
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    width = min(encoded.fieldOfView_mm.x, recon.fieldOfView_mm.x)
    partitions = n_z if len(heads) == 1 and n_z > 1 else encoded.matrixSize.z
    thickness = encoded.fieldOfView_mm.z / partitions
    size = np.array([width / n_x, encoded.fieldOfView_mm.y / n_y, thickness])
    origin = np.array([n_x // 2, n_y // 2, 0.0])
    position = heads["position"][0].astype(float)
    axes = np.stack([heads[name][0].astype(float) for name in ("read_dir", "phase_dir", "slice_dir")], axis=1)
    regular = bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-2))
    if len(heads) == 1:
        origin[2] = n_z // 2
    elif regular:
        steps = np.diff(heads["position"].astype(float), axis=0)
        distance = float(steps.mean(0) @ axes[:, 2])
        parallel = all(
            np.allclose(heads[name], heads[name][0], atol=1e-3) for name in ("read_dir", "phase_dir", "slice_dir")
        )
        regular = parallel and distance > 0 and np.allclose(steps, distance * axes[:, 2], atol=0.01 * distance)
        size[2] = distance if regular else size[2]
    voxel = (float(size[2]), float(size[1]), float(size[0]))
    if not regular:
        return Geometry(voxel)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS[:, None] * axes * size
    affine[:3, 3] = LPS_TO_RAS * position - affine[:3, :3] @ origin
    return Geometry(voxel, affine)
