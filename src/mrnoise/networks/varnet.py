"""End-to-end variational network: coil maps are estimated inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mrnoise import fourier
from mrnoise.encoding import Cartesian
from mrnoise.networks.layers import ConvNet, residual

AXES = (-2, -1)
# Coil maps are smooth: they are estimated on MAP_GRID² points of the field of view, with a Gaussian window of MAP_WIDTH
# samples (standard deviation) in k-space, in MAP_STEPS power iterations.
MAP_GRID, MAP_WIDTH, MAP_STEPS = 64, 8.0, 3
# Squared norm, relative to that of tissue, below which maps fade: those of air are noise, and follow none linearly.
FADE_VECTORS, FADE_MAPS = 1e-5, 0.1
TINY = 1e-20


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
        Of the U-Net that refines the coil maps on their coarse grid.
    consistency
        Steps x - Aᴴ(A x - y) after the last cascade, whose U-Net may have moved measured samples.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.networks import DeepReconstruction
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((32, 24), 4, mask=equispaced((32, 24), 2, calibration=8)).replace(coil_maps=None)
    >>> network = DeepReconstruction(VarNet(cascades=1, features=4, map_features=4))
    >>> nm = noise_map(network, scan, method="sketch", n_samples=4)
    >>> tuple(nm.image.shape), nm.image.dtype
    ((32, 24), torch.complex64)
    """

    estimates_coil_maps = True

    def __init__(
        self,
        cascades: int = 6,
        features: int = 16,
        poolings: int = 2,
        map_features: int = 8,
        map_poolings: int = 2,
        consistency: int = 4,
    ) -> None:
        super().__init__()
        self.consistency = consistency
        self.networks = nn.ModuleList(ConvNet(features, poolings) for _ in range(cascades))
        self.step = nn.Parameter(torch.ones(cascades))
        self.map_network = ConvNet(map_features, map_poolings)

    def coil_maps(self, calibration: Tensor) -> Tensor:
        """S ∝ v + U(v), v(r) the dominant eigenvector of Σ_r' w(r - r') y(r') y(r')ᴴ, with norm 1 in tissue, 0 in air.

        y are the images of the calibration lines on a coarse grid and w a Gaussian (Walsh et al. 2000,
        doi:10.1002/(SICI)1522-2594(200005)43:5<682::AID-MRM10>3.0.CO;2-G); v is found by power iterations, which are
        smooth and do not depend on the order of coils. (coil, k1, k0) → (coil, y, x), both whitened.
        """
        images = fourier.to_image(_centred(calibration, (MAP_GRID, MAP_GRID)))
        vectors = _dominant(images)
        maps = vectors + residual(self.map_network, vectors)
        kspace = _centred(fourier.to_kspace(maps), calibration.shape[-2:])
        return _faded(fourier.to_image(kspace) * (kspace[0].numel() / maps[0].numel()) ** 0.5, FADE_MAPS)

    def forward(self, kspace: Tensor, encoding: Cartesian) -> Tensor:
        """Whitened, normalised kspace (coil, k1, k0) and the forward model of unit coil maps → image (y, x)."""
        b = encoding.adjoint(kspace)
        start = encoding.unfold(b)
        # Inside the loop both origins are at index 0: shifting one image is cheaper than shifting all coils.
        arrays = (kspace, encoding.mask, encoding.maps, start)
        kspace, mask, maps, start = (torch.fft.ifftshift(t, dim=AXES) for t in arrays)
        k = torch.fft.fftn(maps * start, dim=AXES, norm="ortho")
        for network, step in zip(self.networks, self.step, strict=True):
            image = torch.fft.fftshift(_combine(k, maps), dim=AXES)
            change = torch.fft.ifftshift(residual(network, image), dim=AXES)
            k = k - step * mask * (k - kspace) + torch.fft.fftn(maps * change, dim=AXES, norm="ortho")
        x = torch.fft.fftshift(_combine(k, maps), dim=AXES)
        for _ in range(self.consistency):
            x = x + b - encoding.gram(x)
        return x


def _combine(kspace: Tensor, maps: Tensor) -> Tensor:
    return (maps.conj() * torch.fft.ifftn(kspace, dim=AXES, norm="ortho")).sum(-3)


def _dominant(images: Tensor) -> Tensor:
    """Dominant eigenvector over coils of the covariance in a Gaussian window around each voxel."""
    offset = (torch.arange(MAP_GRID, device=images.device) - MAP_GRID // 2).to(images.real.dtype)
    window = torch.exp(-0.5 * (offset / MAP_WIDTH).square())
    window = window[:, None] * window
    # To start with, the same vector everywhere: the mean of the image.
    vectors = images.mean(AXES, keepdim=True)
    for _ in range(MAP_STEPS):
        combined = (vectors.conj() * images).sum(-3, keepdim=True)
        found = fourier.to_image(window * fourier.to_kspace(images * combined.conj()))
        power = _power(found)
        vectors = _faded(found * ((power + TINY).sum() / (power.square().sum() + TINY**2)).sqrt(), FADE_VECTORS)
    return vectors


def _faded(maps: Tensor, fade: float) -> Tensor:
    """Norm 1 where Σ_c |s_c|² is 1 or far above ``fade``, and 0 far below."""
    return maps * ((1 + fade) / (_power(maps) + fade)).sqrt()


def _power(maps: Tensor) -> Tensor:
    """Σ_c |s_c|², (1, y, x)."""
    return (maps.real.square() + maps.imag.square()).sum(-3, keepdim=True)


def _centred(kspace: Tensor, shape: Sequence[int]) -> Tensor:
    """The centre of k-space (..., k1, k0) on another grid: cropped, or with zeros around it."""
    for axis, n in zip(AXES, shape, strict=True):
        before = n // 2 - kspace.shape[axis] // 2
        after = n - kspace.shape[axis] - before
        padding = (before, after) if axis == -1 else (0, 0, before, after)
        kspace = functional.pad(kspace, padding)
    return kspace
