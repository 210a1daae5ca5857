"""A network as a reconstruction: whitening, normalisation and coil maps around it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.espirit_maps import calibration_block
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import Encoding, encode
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.gridding import coil_images
from mrnoise.reconstruction.protocol import KspaceToImage, Planewise, Reconstruction
from mrnoise.sampling.extent import within
from mrnoise.sampling.grid import Grid
from mrnoise.units import unit_of

# How far below 1 the median norm of coil maps may be, and how far above any; and what is not divided by.
UNIT, TINY = 0.02, 1e-30
# Relative residual at which the solvers inside a network stop: its derivative needs the converged solution.
SOLVER_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class DeepReconstruction(Reconstruction):
    """x = s(y) N(Ψ^{-1/2} √ψ y / s(y)), a trained network N between normalisation and its inverse.

    The derivative of the whole map carries the noise: also through s, `intensity`, and through the coil maps,
    which VarNet learned to estimate and the other networks take from the acquisition or from ESPIRiT. Given maps
    with another norm than 1 are normalised, and the image divided by that norm: it stays the image of SENSE.

    Parameters
    ----------
    network
        A module of `mrnoise.networks`, or one called alike: whitened, normalised samples (coil, k1, k0) and the
        `mrnoise.encoding.Encoding` of unit coil maps → image (y, x). Its ``estimates_coil_maps`` says whether the maps
        come from its ``coil_maps(calibration)`` or are given. Put into evaluation mode, and on `bind`, in place, to
        device and precision of the scan.
    name
        What records call it.
    normalization
        ``"propagated"``: s follows the noise. ``"fixed"``: s is that of the measured data.
    differentiate_coil_maps
        Propagate noise through the estimate of coil maps (True) or hold them fixed.

    Raises
    ------
    InputError
        On `bind`, if the acquisition is not two-dimensional or has no calibration lines that the network needs.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.networks import build
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> network = DeepReconstruction(build("modl", unrolls=2, features=4), name="my MoDL")
    >>> scan = simulate((16, 12), 4, mask=equispaced((16, 12), 2))
    >>> nm = noise_map(network, scan, method="sketch", n_samples=50)
    >>> tuple(nm.std.shape), nm.linearity.verdict
    ((16, 12), 'linear')
    """

    network: nn.Module
    name: str = field(default="")
    normalization: str = "propagated"
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        if self.normalization not in ("propagated", "fixed"):
            raise InputError(
                "unknown normalisation",
                expected="propagated or fixed",
                received=repr(self.normalization),
                remedy="Use propagated: its noise is part of the image.",
            )
        self.network.eval().requires_grad_(False)

    def __repr__(self) -> str:
        name = self.name or type(self.network).__name__
        maps = "its own" if self.estimates_coil_maps else "estimated"
        held = "propagated" if self.differentiate_coil_maps else "fixed"
        noise = f"noise of the normalization {self.normalization}, of {maps} coil maps {held}"
        return f"{name} {fingerprint(self.network)} ({noise})"

    @property
    def estimates_coil_maps(self) -> bool:  # type: ignore[override]
        """Whether the network ignores the coil maps of the acquisition."""
        return bool(self.network.estimates_coil_maps)

    def planewise(self, volume: Acquisition, axis: int) -> Planewise:
        """A 2D network, plane by plane."""
        return Planewise.by(self, volume, axis)

    def bind(self, acquisition: Acquisition) -> BoundNetwork:
        """Return kspace (coil, k1, k0) or (coil, *samples) → complex image (y, x).

        The network itself is moved, in place, to the device and the precision of the scan: what was bound before to a
        scan of another device or precision has to be bound again.
        """
        if acquisition.spatial_dims != 2 or acquisition.batch_shape:
            raise InputError(
                "the network reconstructs one slice",
                expected="k-space (coil, k1, k0)",
                received=f"shape {tuple(acquisition.kspace.shape)}, spatial_dims {acquisition.spatial_dims}",
                remedy="noise_map takes a volume apart where an axis was sampled as a whole; else bind slices.",
            )
        self.network.to(acquisition.kspace.device, acquisition.kspace.real.dtype)
        to_images = coil_images(acquisition)
        scale = intensity(acquisition.whiten(acquisition.kspace), to_images) if self.normalization == "fixed" else None
        maps, window = self._fixed_maps(acquisition)
        norm = None
        if maps is not None and acquisition.coil_maps is not None and not self.estimates_coil_maps:
            norm = other_norm(maps)
            maps = maps if norm is None else maps / norm.clamp_min(TINY)
        fixed = None if maps is None else self.encoding(acquisition, maps)
        return BoundNetwork(self, acquisition, to_images, scale, fixed, window, norm)

    def encoding(self, acquisition: Acquisition, maps: Tensor) -> Encoding:
        """The forward model of unit coil maps that the network is given."""
        return encode(acquisition, maps, tolerance=SOLVER_TOLERANCE)

    def _fixed_maps(self, acquisition: Acquisition) -> tuple[Tensor | None, Tensor | None]:
        """Coil maps that do not depend on the k-space of the image, or the window of it that its own come from."""
        if not self.estimates_coil_maps:
            return fixed_coil_maps(acquisition, self.differentiate_coil_maps), None
        lines = acquisition.calibration
        if lines is None:
            window = calibration_window(acquisition.mask)
            if self.differentiate_coil_maps:
                return None, window
            whitened = acquisition.whiten(acquisition.kspace)
            return self.coil_maps(window * whitened / intensity(whitened)), None
        whitened = acquisition.whiten(lines)
        return self.coil_maps(whitened / intensity(whitened)), None

    def coil_maps(self, calibration: Tensor) -> Tensor:
        """Those that the network estimates from whitened, normalised calibration lines."""
        estimate: Callable[[Tensor], Tensor] = self.network.coil_maps  # type: ignore[assignment]
        return estimate(calibration)


@dataclass(frozen=True, eq=False, repr=False)
class BoundNetwork(Bound):
    """`DeepReconstruction` of one scan.

    Parameters
    ----------
    to_images
        From whitened samples to the coil images of which s is the scale.
    scale
        s of the measured data; ``None``: that of each k-space.
    fixed
        Forward model of the fixed coil maps; ``None``: the maps follow from each k-space.
    window
        Place of the calibration lines, (k1, k0), where the maps are the network's own; ``None``: ESPIRiT's.
    norm
        √Σ_c |S_c|² of the maps that were given, (y, x), by which the image is divided; ``None``: it is 1.
    """

    method: DeepReconstruction
    to_images: KspaceToImage
    scale: Tensor | None
    fixed: Encoding | None
    window: Tensor | None
    norm: Tensor | None

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image s N(y / s) of the whitened k-space y, (coil, k1, k0) → (y, x)."""
        whitened = self.acquisition.whiten(kspace)
        scale = intensity(whitened, self.to_images) if self.scale is None else self.scale
        normalized = whitened / scale
        image = scale * self.method.network(normalized, self._encoding(kspace, normalized))
        sampling = self.acquisition.sampling
        if isinstance(sampling, Grid) and sampling.extent is not None:  # what was never encoded stays zero
            image = within(image, sampling.extent, sampling.spatial_dims)
        return image if self.norm is None else torch.where(self.norm > 0, image / self.norm.clamp_min(TINY), 0)

    def _encoding(self, kspace: Tensor, normalized: Tensor) -> Encoding:
        if self.fixed is not None:
            return self.fixed
        if self.window is None:
            maps = whitened_coil_maps(self.acquisition, kspace)
        else:
            maps = self.method.coil_maps(self.window * normalized)
        return self.method.encoding(self.acquisition, maps)


def other_norm(maps: Tensor) -> Tensor | None:
    """√Σ_c |S_c|² of coil maps (coil, y, x), (y, x); ``None`` where it is 1 already."""
    norm = maps.abs().square().sum(-3).sqrt()
    # Below 1, the soft edge of ESPIRiT maps is a support, not a norm.
    seen = norm[norm > 0]
    if bool(seen.numel()) and (float(seen.median()) < 1 - UNIT or float(seen.max()) > 1 + UNIT):
        return norm
    return None


def fingerprint(network: nn.Module) -> str:
    """First eight digits of the SHA-256 of the weights."""
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def intensity(kspace: Tensor, to_images: KspaceToImage = fourier.to_image) -> Tensor:
    """Scale of an image, s = √(Σ_r p_r² / Σ_r p_r), p = Σ_c |Fᴴ y_c|² the power of its zero-filled coil images.

    The mean of p, weighted by itself: that of bright tissue whatever the share of air. Unlike a percentile it is
    smooth, and no single voxel lends its noise to the whole image.

    Parameters
    ----------
    kspace
        Whitened, (coil, k1, k0) or (coil, *samples).
    to_images
        From these to coil images, Fᴴ.

    Returns
    -------
    Tensor
        Scalar, in the units of ``kspace``.

    Examples
    --------
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> kspace = head.acquire().whiten(head.signal)
    >>> round(float(intensity(3 * kspace) / intensity(kspace)), 3)
    3.0
    """
    unit = unit_of(kspace)
    images = to_images(kspace / unit)
    power = (images.real.square() + images.imag.square()).sum(-3)
    return unit * (power.square().sum() / power.sum()).sqrt()


def calibration_window(mask: Tensor) -> Tensor:
    """The fully sampled centre of a mask (k1, k0): 1 there, 0 elsewhere.

    Parameters
    ----------
    mask
        Bool or real, (k1, k0).

    Returns
    -------
    Tensor
        float32, (k1, k0).

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> calibration_window(equispaced((12, 8), 3, calibration=4))[:, 0].tolist()
    [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    shape = tuple(mask.shape)
    block = calibration_block(shape, mask, max(shape))
    if min(block) < 2:
        raise InputError(
            "no calibration lines for the coil maps of the network",
            expected="a fully sampled centre of k-space of at least 2 lines",
            received=f"a centre of {block[0]}×{block[1]}",
            remedy="Acquire calibration lines, or give them as Acquisition(calibration=...).",
        )
    window = torch.zeros(shape, device=mask.device)
    window[tuple(slice(n // 2 - w // 2, n // 2 - w // 2 + w) for n, w in zip(shape, block, strict=True))] = 1
    return window
