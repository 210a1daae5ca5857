"""A reconstruction of one scan."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.reconstruction.protocol import Reconstruction


@dataclass(frozen=True, eq=False, repr=False)
class Bound:
    """What `Reconstruction.bind` returns: k-space → image, everything that belongs to the scan held as fields.

    A value and no closure: it can be pickled, gives the same bits in another process, and says what it is. It lives on
    the device and in the precision of the k-space of its scan.

    Parameters
    ----------
    method
        The reconstruction.
    acquisition
        The scan.
    """

    method: Reconstruction
    acquisition: Acquisition

    @property
    def complex_linear(self) -> bool:
        """Whether its image is a complex-linear function of k-space, up to round-off.

        Then the derivative is taken at zero, where solvers have nothing to do, and compared with differences as large
        as the data: curvature could not hide in these.
        """
        return False

    @property
    def region(self) -> Tensor | None:
        """Voxels of the object, bool, where its image does not show them; ``None``: its foreground."""
        return None

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of this k-space, shaped as that of the scan."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.method!r}, bound to k-space {tuple(self.acquisition.kspace.shape)}"
