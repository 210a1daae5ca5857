"""Unrolled networks with coil maps given: gradient and conjugate-gradient data consistency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrnoise.encoding import Encoding
from mrnoise.networks.layers import ResNet, residual


class UnrolledResNet(nn.Module):
    """Unrolled proximal gradient, x_{t+1} = z_t + R_t(z_t) with z_t = x_t - η_t Aᴴ(A x_t - y).

    The network of Dalmaz et al. 2025 (doi:10.48550/arXiv.2505.02007) and, with unshared ResNets R_t, of Diamond
    et al. 2017 (doi:10.48550/arXiv.1705.08041). They start from Aᴴ y; x_0 = `Encoding.unfold` needs fewer steps
    where k-space is thinly sampled.

    Parameters
    ----------
    unrolls
        Number of steps.
    features
        Channels of each ResNet; 128 in the paper.

    Examples
    --------
    >>> from mrnoise.encoding import encode
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> network = UnrolledResNet(unrolls=2, features=4)
    >>> image = network(scan.whiten(scan.kspace), encode(scan, scan.whiten_maps(scan.coil_maps)))
    >>> tuple(image.shape), sum(p.numel() for p in network.parameters())
    ((16, 12), 1214)
    """

    estimates_coil_maps = False

    def __init__(self, unrolls: int = 6, features: int = 32) -> None:
        super().__init__()
        self.networks = nn.ModuleList(ResNet(features) for _ in range(unrolls))
        self.step = nn.Parameter(torch.ones(unrolls))

    def forward(self, samples: Tensor, encoding: Encoding) -> Tensor:
        """Whitened, normalised samples and the forward model of unit coil maps → image (y, x)."""
        b = encoding.adjoint(samples)
        x = encoding.unfold(b)
        for network, step in zip(self.networks, self.step, strict=True):
            z = x - step * (encoding.gram(x) - b)
            x = z + residual(network, z)
        return x


class MoDL(nn.Module):
    """x_{t+1} = (AᴴA + μ)⁻¹ (Aᴴ y + μ z_t), z_t = x_t + D(x_t); the same D in every step, μ learned.

    Aggarwal et al. 2019, doi:10.1109/TMI.2018.2865356. x_0 is the solution with z = 0, Tikhonov-regularised SENSE.
    The derivative of each solution is that of the converged one, by one more solve.

    Parameters
    ----------
    unrolls
        Number of steps.
    features
        Channels of the ResNet D.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.networks import DeepReconstruction
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> network = DeepReconstruction(MoDL(unrolls=2, features=4))
    >>> nm = noise_map(network, scan, method="sketch", n_samples=50)
    >>> tuple(nm.image.shape), nm.n_products
    ((16, 12), 50)
    """

    estimates_coil_maps = False

    def __init__(self, unrolls: int = 5, features: int = 48) -> None:
        super().__init__()
        self.unrolls = unrolls
        self.network = ResNet(features)
        self.log_weight = nn.Parameter(torch.tensor(-3.0))

    def forward(self, samples: Tensor, encoding: Encoding) -> Tensor:
        """Whitened, normalised samples and the forward model of unit coil maps → image (y, x)."""
        # A solve from the last one: what changes is μ(z_t - z_{t-1}), and a smaller tolerance will do.
        weight = self.log_weight.exp()
        z = torch.zeros((), dtype=samples.dtype, device=samples.device)
        x = encoding.solve(encoding.adjoint(samples), weight)
        for _ in range(self.unrolls):
            previous, z = z, x + residual(self.network, x)
            x = x + encoding.solve(weight * (z - previous), weight)
        return x
