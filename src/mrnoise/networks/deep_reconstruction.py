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
from mrnoise.errors import InputError
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, coil_maps_of

# How far below 1 the median norm of coil maps may be, and how far above any; and what is not divided by.
UNIT, TINY = 0.02, 1e-30


@dataclass(frozen=True, eq=False)
class DeepReconstruction(Reconstruction):
    """x = s(y) N(Ψ^{-1/2} √ψ y / s(y)), a trained network N between normalisation and its inverse.

    The derivative of the whole map carries the noise: also through s, `intensity`, and through the coil maps,
    which VarNet learned to estimate and the other networks take from the acquisition or from ESPIRiT. Given maps
    with another norm than 1 are normalised, and the image divided by that norm: it stays the image of SENSE.

    Parameters
    ----------
    network
        A module of `mrnoise.networks`, or one called alike: whitened, normalised kspace (coil, k1, k0), mask (k1, k0)
        and unit maps (coil, y, x) → image (y, x). Its ``estimates_coil_maps`` says whether the maps come from its
        ``coil_maps(calibration)`` or are given. Put into evaluation
        mode, and on `bind` to device and precision of the scan.
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

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (coil, k1, k0) → complex image (y, x)."""
        if acquisition.spatial_dims != 2 or acquisition.batch_shape:
            raise InputError(
                "the network reconstructs one slice",
                expected="k-space (coil, k1, k0)",
                received=f"shape {tuple(acquisition.kspace.shape)}, spatial_dims {acquisition.spatial_dims}",
                remedy="Transform the fully sampled axis of a volume to the image domain and bind each slice.",
            )
        network = self.network.to(acquisition.kspace.device, acquisition.kspace.real.dtype)
        mask = acquisition.mask.to(acquisition.kspace.real.dtype)
        maps_of, norm = self._maps_of(acquisition)
        fixed = intensity(acquisition.whiten(acquisition.kspace)) if self.normalization == "fixed" else None

        def reconstruct(kspace: Tensor) -> Tensor:
            whitened = acquisition.whiten(kspace)
            scale = intensity(whitened) if fixed is None else fixed
            normalized = whitened / scale
            image = scale * network(normalized, mask, maps_of(kspace, normalized))
            return image if norm is None else torch.where(norm > 0, image / norm.clamp_min(TINY), 0)

        return reconstruct

    def _maps_of(self, acquisition: Acquisition) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor | None]:
        """Unit coil maps of k-space and its normalised copy, and the norm of those given, where it is another."""
        if not self.estimates_coil_maps:
            given = coil_maps_of(acquisition, self.differentiate_coil_maps)
            if acquisition.coil_maps is None:
                return lambda kspace, normalized: given(kspace), None
            maps = given(acquisition.kspace)
            norm = maps.abs().square().sum(-3).sqrt()
            # Below 1, the soft edge of ESPIRiT maps is a support, not a norm.
            seen = norm[norm > 0]
            if bool(seen.numel()) and (float(seen.median()) < 1 - UNIT or float(seen.max()) > 1 + UNIT):
                unit = maps / norm.clamp_min(TINY)
                return lambda kspace, normalized: unit, norm
            return lambda kspace, normalized: maps, None
        estimate: Callable[[Tensor], Tensor] = self.network.coil_maps  # type: ignore[assignment]
        lines = acquisition.calibration
        if lines is not None:
            whitened = acquisition.whiten(lines)
            maps = estimate(whitened / intensity(whitened))
            return lambda kspace, normalized: maps, None
        window = calibration_window(acquisition.mask)
        if not self.differentiate_coil_maps:
            whitened = acquisition.whiten(acquisition.kspace)
            maps = estimate(window * whitened / intensity(whitened))
            return lambda kspace, normalized: maps, None
        return lambda kspace, normalized: estimate(window * normalized), None


def fingerprint(network: nn.Module) -> str:
    """First eight digits of the SHA-256 of the weights."""
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def intensity(kspace: Tensor) -> Tensor:
    """Scale of an image, s = √(Σ_r p_r² / Σ_r p_r), p = Σ_c |Fᴴ y_c|² the power of its zero-filled coil images.

    The mean of p, weighted by itself: that of bright tissue whatever the share of air. Unlike a percentile it is
    smooth, and no single voxel lends its noise to the whole image.

    Parameters
    ----------
    kspace
        Whitened, (coil, k1, k0).
    """
    images = fourier.to_image(kspace)
    power = (images.real.square() + images.imag.square()).sum(-3)
    return (power.square().sum() / power.sum()).sqrt()


def calibration_window(mask: Tensor) -> Tensor:
    """The fully sampled centre of a mask (k1, k0): 1 there, 0 elsewhere.

    Raises
    ------
    InputError
        If there is none.
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
