"""A series of volumes with one noise map, as denoisers take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.errors import InputError
from mrnoise.files.record import to_numpy
from mrnoise.result.noise_map import NoiseMap

# Denoisers divide all volumes by one map: how far σ of one volume may differ from it before that is said.
SAME_NOISE = 0.05


@dataclass(frozen=True, eq=False)
class Series:
    """The image of a map as volumes, and the noise that they share.

    Parameters
    ----------
    image
        (volume, z, y, x), complex or real; what is not finite is zero.
    std
        (z, y, x), total complex σ, root mean square over the volumes; zero where it is not known.
    magnitude_std
        (z, y, x), that of |x|.
    spread
        Largest difference of the median σ of one volume from that of all, relative.
    grid
        Where the volumes lie.
    """

    image: np.ndarray
    std: np.ndarray
    magnitude_std: np.ndarray
    spread: float
    grid: ImageGrid

    @classmethod
    def of(cls, noise_map: NoiseMap) -> Series:
        """The volumes of a map, the axis of time counting fastest."""
        grid = noise_map.image_grid
        image, variance, magnitude = (
            grid.volumes(to_numpy(value)).reshape(-1, *grid.spatial_shape)
            for value in (noise_map.image, noise_map.variance, noise_map.magnitude_std.square())
        )
        known = np.isfinite(variance).all(0) & (variance > 0).all(0)
        std, magnitude_std = (np.sqrt(np.where(known, v.mean(0), 0)) for v in (variance, magnitude))
        ratios = [np.median(np.sqrt(v[known]) / std[known]) for v in variance] if known.any() else [1.0]
        spread = float(np.abs(np.array(ratios) - 1).max())
        return cls(np.where(np.isfinite(image), image, 0), std, np.nan_to_num(magnitude_std), spread, grid)

    @property
    def is_complex(self) -> bool:
        """Whether the volumes have a phase."""
        return bool(np.iscomplexobj(self.image))

    @property
    def remarks(self) -> list[str]:
        """What whoever takes the one map for all volumes should know."""
        found = []
        if self.spread > SAME_NOISE:
            found.append(
                f"σ differs by up to {100 * self.spread:.0f} % between volumes; the map is its root mean square"
            )
        if missing := int((self.std == 0).sum()):
            found.append(f"{missing} of {self.std.size} voxels have no σ")
        if not self.grid.placed:
            found.append("the scan gave no position: the affine is assumed")
        return found

    def check_complex(self, tool: str) -> None:
        """Raise `InputError` unless the volumes are complex."""
        if not self.is_complex:
            raise InputError(
                f"{tool} takes complex images",
                expected="a map of a complex reconstruction",
                received=f"an image of type {self.image.dtype}",
                remedy="Map a reconstruction that keeps the phase, such as cg-sense.",
            )

    def check_volumes(self, tool: str) -> None:
        """Raise `InputError` unless there are several volumes."""
        if len(self.image) < 2:
            raise InputError(
                f"{tool} compares volumes",
                expected="a map with several frames, echoes or the like",
                received=f"one volume, shape {self.grid.shape}",
                remedy="Map the whole series in one scan.",
            )
