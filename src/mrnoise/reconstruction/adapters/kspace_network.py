"""Networks that are a whole reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.reconstruction.adapters.common import Adapter, BoundAdapter, check_single


@dataclass(frozen=True)
class KspaceNetwork(Adapter):
    """A network that is a whole reconstruction: complex k-space (coil, k1, k0) → real or complex image (y, x).

    The k-space is that of the scan, as read, zero where nothing was acquired.

    Parameters
    ----------
    model
        A `torch.nn.Module`, a scripted one, a `torch.export.ExportedProgram` or any callable.
    source
        What the record of a map calls it.

    Examples
    --------
    >>> import torch
    >>> from mrnoise.simulation import simulate
    >>> class OneCoil(torch.nn.Module):
    ...     def forward(self, kspace):
    ...         return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace[0]), norm="ortho"))
    >>> scan = simulate((8, 6), 2)
    >>> reconstruct = KspaceNetwork(OneCoil(), source="one coil").bind(scan)
    >>> reconstruct, reconstruct(scan.kspace).shape
    (KspaceNetwork(source='one coil'), bound to k-space (2, 8, 6), torch.Size([8, 6]))
    """

    model: Any = field(repr=False)
    source: str = ""

    def bind(self, acquisition: Acquisition) -> BoundKspaceNetwork:
        """Return kspace (coil, k1, k0) → image (y, x)."""
        check_single(acquisition)
        return BoundKspaceNetwork(self, acquisition)


@dataclass(frozen=True, eq=False, repr=False)
class BoundKspaceNetwork(BoundAdapter):
    """`KspaceNetwork` of one scan."""

    method: KspaceNetwork

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of the network, (coil, k1, k0) → (y, x)."""
        # A copy: a network may write into its input.
        return self.network(kspace.clone())
