"""Reconstruction networks of MONAI."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.reconstruction.adapters.common import BoundAdapter, SliceAdapter, check_choice
from mrnoise.reconstruction.adapters.fastmri import acquired_lines, of_lines


@dataclass(frozen=True)
class MonaiVarNet(SliceAdapter):
    """``monai.apps.reconstruction`` ``VariationalNetworkModel``, or a module called the same way: model(kspace, mask).

    K-space and mask are those that `FastmriVarNet` gives. The network estimates its coil maps from the acquired lines
    around the centre, noise included. The image is its root sum of squares, real. Image networks of MONAI:
    `ImageNetwork`.

    Parameters
    ----------
    model
        The network.
    phase_encoding
        Axis of the phase encoding, -2 (k1) or -1 (k0). ``None``: the undersampled one, or -1.

    Raises
    ------
    InputError
        On `bind`, if samples were skipped along another axis.

    Examples
    --------
    >>> import torch
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> class RootSumOfSquares(torch.nn.Module):
    ...     def forward(self, kspace, mask):
    ...         images = torch.fft.ifft2(torch.view_as_complex(kspace), norm="ortho")
    ...         return images.abs().square().sum(1).sqrt()
    >>> scan = simulate((8, 6), 2, mask=equispaced((8, 6), 2))
    >>> MonaiVarNet(RootSumOfSquares()).bind(scan)(scan.kspace).shape
    torch.Size([8, 6])
    """

    unit_gain = False  # root sum of squares of the coils
    estimates_coil_maps = True
    model: nn.Module = field(repr=False)
    phase_encoding: int | None = None

    def __post_init__(self) -> None:
        check_choice("phase_encoding", self.phase_encoding, (None, -2, -1))

    def bind(self, acquisition: Acquisition) -> BoundMonaiVarNet:
        """Return kspace (coil, k1, k0) → real image (y, x)."""
        return BoundMonaiVarNet(self, acquisition, *acquired_lines(acquisition, self.phase_encoding))


@dataclass(frozen=True, eq=False, repr=False)
class BoundMonaiVarNet(BoundAdapter):
    """`MonaiVarNet` of one scan.

    Parameters
    ----------
    mask, turned
        As for `BoundFastmriVarNet`.
    """

    method: MonaiVarNet
    mask: Tensor
    turned: bool

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of the network, (coil, k1, k0) → (y, x)."""
        return of_lines(self.network, kspace, self.mask, self.turned)
