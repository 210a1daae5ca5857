"""U-Net: the image domain only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrnoise.encoding import Encoding
from mrnoise.networks.layers import ConvNet, residual


class UNet(nn.Module):
    """x = z + U(z) of the Tikhonov-regularised SENSE image z = (AᴴA + λ)⁻¹ Aᴴ y, λ learned.

    The samples are not consulted again (Zbontar et al. 2018, doi:10.48550/arXiv.1811.08839, there on the
    zero-filled magnitude).

    Parameters
    ----------
    features, poolings
        Channels of the first level and number of levels below it.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.networks import DeepReconstruction
    >>> from mrnoise.simulation import simulate
    >>> network = DeepReconstruction(UNet(features=4, poolings=1))
    >>> nm = noise_map(network, simulate((16, 12), 4), method="exact")
    >>> tuple(nm.image.shape), nm.image.dtype, bool(nm.g_factor[8, 6] < 1)  # regularised
    ((16, 12), torch.complex64, True)
    """

    estimates_coil_maps = False

    def __init__(self, features: int = 24, poolings: int = 3) -> None:
        super().__init__()
        self.network = ConvNet(features, poolings)
        self.log_weight = nn.Parameter(torch.tensor(-3.0))

    def forward(self, samples: Tensor, encoding: Encoding) -> Tensor:
        """Whitened, normalised samples and the forward model of unit coil maps → image (y, x)."""
        z = encoding.solve(encoding.adjoint(samples), self.log_weight.exp())
        return z + residual(self.network, z)
