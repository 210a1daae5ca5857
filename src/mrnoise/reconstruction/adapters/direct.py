"""Networks of DIRECT."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.fourier import to_image
from mrnoise.reconstruction.adapters.common import BoundAdapter, SliceAdapter, check_single, checked_output
from mrnoise.reconstruction.combination import root_sum_of_squares


@dataclass(frozen=True)
class Direct(SliceAdapter):
    """A reconstruction network of DIRECT (end-to-end and recurrent VarNet, vSHARP, U-Net, …).

    Called with those of masked_kspace (1, coil, k1, k0, 2), sampling_mask (1, 1, k1, k0, 1) and sensitivity_map
    (1, coil, y, x, 2) that its ``forward`` knows: the whitened samples √ψ Ψ^{-1/2} y, ψ the mean coil variance, and
    coil maps whitened alike. Its operators are ``direct.data.transforms.fft2`` and ``ifft2``, centred and normalized.
    Of several images the last is taken; k-space of the coils becomes their root sum of squares, as in the engines of
    DIRECT.

    Parameters
    ----------
    model
        The network.
    scaling
        What its input is divided by and its image multiplied with, a function of the k-space (1, coil, k1, k0, 2);
        DIRECT trains with a percentile of its magnitude. ``None``: the network gets the units of the scan.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the ESPIRiT
        estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        On `bind`, if the scan is not one slice; of an image, if the network gives something else.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> class FirstCoil(torch.nn.Module):
    ...     def forward(self, masked_kspace):
    ...         return torch.fft.ifft2(torch.view_as_complex(masked_kspace[:, 0]), norm="ortho").abs()
    >>> scan = simulate((8, 6), 2)
    >>> Direct(FirstCoil()).bind(scan)(scan.kspace).shape
    torch.Size([8, 6])
    """

    model: torch.nn.Module = field(repr=False)
    scaling: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    differentiate_coil_maps: bool = True

    def bind(self, acquisition: Acquisition) -> BoundDirect:
        """Return kspace (coil, k1, k0) → image (y, x), real or complex."""
        check_single(acquisition, (2,))
        return BoundDirect(self, acquisition, fixed_coil_maps(acquisition, self.differentiate_coil_maps))


@dataclass(frozen=True, eq=False, repr=False)
class BoundDirect(BoundAdapter):
    """`Direct` of one scan.

    Parameters
    ----------
    maps
        Fixed coil maps, whitened; ``None``: they follow from each k-space.
    """

    method: Direct
    maps: Tensor | None

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of the network, (coil, k1, k0) → (y, x)."""
        scan, shape = self.acquisition, self.acquisition.spatial_shape
        maps = whitened_coil_maps(scan, kspace) if self.maps is None else self.maps
        y = torch.view_as_real(scan.whiten(kspace))[None]
        scale = y.new_ones(()) if self.method.scaling is None else self.method.scaling(y)
        given = {
            "masked_kspace": y / scale,
            "sampling_mask": scan.mask.to(kspace.device)[None, None, :, :, None],
            "sensitivity_map": torch.view_as_real(maps)[None],
        }
        known = inspect.signature(self.method.model.forward).parameters
        output: Any = self.network(**{name: value for name, value in given.items() if name in known})
        if isinstance(output, list | tuple):
            output = output[-1]
        image = checked_output(output, (1, *shape), (1, *shape, 2), tuple(y.shape))[0] * scale
        if image.shape == shape:
            return image
        image = torch.view_as_complex(image.contiguous())
        return image if image.shape == shape else root_sum_of_squares(to_image(image), 0)
