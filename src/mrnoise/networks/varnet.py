"""End-to-end variational network: coil maps are estimated inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrnoise import fourier
from mrnoise.networks.encoding import AXES, Encoding
from mrnoise.networks.layers import ConvNet, residual


class VarNet(nn.Module):
    """k_{t+1} = k_t - η_t M(k_t - y) + F S U_t(Sᴴ Fᴴ k_t), with coil maps S learned from the calibration lines.

    Sriram et al. 2020, doi:10.1007/978-3-030-59713-9_7. The image is Sᴴ Fᴴ k, complex, instead of the root sum of
    squares: its phase noise is known too. k_0 is the k-space of `Encoding.unfold` with these maps instead of y, which
    saves cascades.

    Parameters
    ----------
    cascades
        Number of steps.
    features, poolings
        Of the U-Net U_t in each of them.
    map_features, map_poolings
        Of the U-Net that refines the coil maps.
    """

    estimates_coil_maps = True

    def __init__(
        self,
        cascades: int = 6,
        features: int = 12,
        poolings: int = 3,
        map_features: int = 8,
        map_poolings: int = 3,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(ConvNet(features, poolings) for _ in range(cascades))
        self.step = nn.Parameter(torch.ones(cascades))
        self.map_network = ConvNet(map_features, map_poolings)

    def coil_maps(self, calibration: Tensor) -> Tensor:
        """S = s / √Σ_c |s_c|² with s_c = Fᴴ y_c + U(Fᴴ y_c) of the calibration lines y, zero elsewhere.

        (coil, k1, k0) → (coil, y, x), both whitened.
        """
        images = fourier.to_image(calibration)
        maps = images + residual(self.map_network, images)
        power = (maps.real.square() + maps.imag.square()).sum(-3, keepdim=True)
        return maps * (power + 1e-8).rsqrt()

    def forward(self, kspace: Tensor, mask: Tensor, maps: Tensor) -> Tensor:
        """Whitened, normalised kspace (coil, k1, k0), mask (k1, k0), unit maps (coil, y, x) → image (y, x)."""
        encoding = Encoding(maps, mask)
        start = encoding.unfold(encoding.adjoint(kspace))
        # Inside the loop both origins are at index 0: shifting one image is cheaper than shifting all coils.
        kspace, mask, maps, start = (torch.fft.ifftshift(t, dim=AXES) for t in (kspace, mask, maps, start))
        k = torch.fft.fftn(maps * start, dim=AXES, norm="ortho")
        for network, step in zip(self.networks, self.step, strict=True):
            image = torch.fft.fftshift(_combine(k, maps), dim=AXES)
            change = torch.fft.ifftshift(residual(network, image), dim=AXES)
            k = k - step * mask * (k - kspace) + torch.fft.fftn(maps * change, dim=AXES, norm="ortho")
        return torch.fft.fftshift(_combine(k, maps), dim=AXES)


def _combine(kspace: Tensor, maps: Tensor) -> Tensor:
    return (maps.conj() * torch.fft.ifftn(kspace, dim=AXES, norm="ortho")).sum(-3)
