"""Where the voxels of an image lie in the scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrnoise.errors import InputError


@dataclass(frozen=True, eq=False)
class Geometry:
    """Voxel size and orientation of an image with axes (z, y, x).

    Parameters
    ----------
    voxel_size
        Millimetres along (z, y, x). For 2D slices z is the distance between slice centres.
    affine
        4×4 matrix from voxel index (x, y, z) to patient coordinates in mm, axes right, anterior,
        superior (the NIfTI convention). ``None``: an axial image centred on the isocentre.
    measured
        False where the file gave no geometry and 1 mm voxels are assumed.

    Raises
    ------
    InputError
        If a voxel size is not positive and finite, or the affine is not an invertible 4×4 matrix.

    Examples
    --------
    >>> geometry = Geometry(voxel_size=(5.0, 1.5, 2.0))
    >>> geometry.spacing
    (5.0, 1.5, 2.0)
    >>> geometry.affine_for((3, 16, 12)).tolist()
    [[2.0, 0.0, 0.0, -12.0], [0.0, 1.5, 0.0, -12.0], [0.0, 0.0, 5.0, -5.0], [0.0, 0.0, 0.0, 1.0]]
    """

    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: np.ndarray | None = None
    measured: bool = True

    def __post_init__(self) -> None:
        size = tuple(float(v) for v in self.voxel_size)
        if len(size) != 3 or not all(np.isfinite(v) and v > 0 for v in size):
            raise InputError(
                "invalid voxel size",
                expected="three positive lengths in mm, (z, y, x)",
                received=str(self.voxel_size),
                remedy="Give the slice distance and the in-plane voxel size in mm.",
            )
        object.__setattr__(self, "voxel_size", size)
        if self.affine is not None:
            affine = np.asarray(self.affine, dtype=float)
            if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
                raise InputError(
                    "invalid affine",
                    expected="an invertible 4×4 matrix, voxel index (x, y, z) to mm (R, A, S)",
                    received=f"shape {affine.shape}",
                    remedy="Leave it out to place the image at the isocentre.",
                )
            object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along (z, y, x); an affine goes before the voxel size."""
        if self.affine is None:
            return self.voxel_size
        dx, dy, dz = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(dz), float(dy), float(dx)

    def affine_for(self, shape: tuple[int, int, int]) -> np.ndarray:
        """4×4 affine of an image of this (z, y, x) shape."""
        if self.affine is not None:
            return self.affine
        spacing = np.array(self.voxel_size[::-1])
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -spacing * (np.array(shape[::-1]) // 2)
        return affine

    def cropped(self, before: tuple[int, int, int]) -> Geometry:
        """Geometry after removing ``before`` voxels at the low end of (z, y, x)."""
        if self.affine is None:
            return self
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(before[::-1], dtype=float)
        return Geometry(self.voxel_size, affine, self.measured)
