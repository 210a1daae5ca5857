"""Reconstructions that torch cannot look into: functions of NumPy arrays, and what other programs compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import (
    coil_maps_in_units_of_coils,
    fixed_coil_maps,
    fixed_coil_maps_in_units_of_coils,
    whitened_coil_maps,
)
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.protocol import Reconstruction


@dataclass(frozen=True)
class BlackBox:
    """A function of NumPy arrays as a reconstruction k-space → image.

    It cannot be differentiated. Whether it is linear is found out on the scan: g(y + t) - g(y) = g(t) and
    g(it) = ig(t), t as large as the data. Where it is, its derivative is J t = g(t), and every first-order method that
    needs no adjoint applies; with an ``adjoint`` the others do too. Where it is not, replicas tell its noise.

    Parameters
    ----------
    function
        K-space, complex, (..., coil, k1, k0) or (..., coil, k2, k1, k0), with all leading axes of the scan → image,
        real or complex, (..., y, x) or (..., z, y, x). It gets a copy. For maps slice by slice, a
        `mrnoise.reconstruction.Reconstruction` whose ``bind`` returns one of these for each.
    adjoint
        Where it is linear, Jᴴ: image → k-space, Re⟨J t, w⟩ = Re⟨t, Jᴴ w⟩, which is tested.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.simulation import simulate
    >>> axes = (-2, -1)
    >>> def first_coil(kspace):
    ...     return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace[0], axes), norm="ortho"), axes)
    >>> scan = simulate((16, 12), 4)
    >>> nm = noise_map(BlackBox(first_coil), scan, n_samples=400)
    >>> nm.provenance.preflight["mode"]
    'J t = g(t)'
    >>> round(float(nm.variance.mean() / scan.noise_covariance.matrix[0, 0].real), 2)
    1.0
    """

    function: Callable[[np.ndarray], np.ndarray]
    adjoint: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image, on the device of the k-space, in the precision of the function."""
        return through_numpy(self.function, kspace)

    def vjp(self, point: Tensor, cotangents: Tensor) -> Tensor:
        """Jᴴ w for a batch of w."""
        if self.adjoint is None:
            raise NotImplementedError("no adjoint was given")
        return torch.stack([through_numpy(self.adjoint, w) for w in cotangents]).to(point)


def through_numpy(function: Callable[[np.ndarray], np.ndarray], values: Tensor) -> Tensor:
    """A function of NumPy arrays at a tensor.

    Within a derivative or vmap it raises before anything is computed: such tensors have no array.

    Raises
    ------
    InputError
        If it returns no array of numbers.
    """
    result = function(np.array(values.cpu().numpy()))
    array = np.asarray(result)
    if array.dtype.kind not in "iufc":
        raise InputError(
            "the function does not return an image",
            expected="a NumPy array of real or complex numbers",
            received=f"{type(result).__name__} of {array.dtype}",
            remedy="Return the array itself, images and nothing else.",
        )
    # A copy in the byte order of this machine: other programs hand out theirs, read-only, or the same array each time.
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C")).to(values.device)


@dataclass(frozen=True, kw_only=True, repr=False)
class OutsideTorch(Reconstruction):
    """A reconstruction of another program, which torch cannot look into.

    Parameters
    ----------
    whitened
        K-space and coil maps are handed over as √ψ Ψ^{-1/2} y and √ψ Ψ^{-1/2} S, ψ the mean coil variance: white noise,
        and the scale of the scan (True), or as they are (False).
    differentiate_coil_maps
        Where the acquisition has no coil maps: estimate them from each k-space (True), noise included, or hold them
        fixed.
    """

    whitened: bool = True
    differentiate_coil_maps: bool = True

    @property
    def called(self) -> str:
        """What is run."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """With the options that are not the usual ones."""
        options = [item for item in fields(self) if item.default is not MISSING]
        others = [item.name for item in options if getattr(self, item.name) != item.default]
        words = [self.called, *(f"{name}={getattr(self, name)!r}" for name in others)]
        return f"{type(self).__name__}({', '.join(words)})"

    def fixed_maps(self, acquisition: Acquisition) -> Tensor | None:
        """Coil maps that do not depend on the k-space, as they are handed over; ``None``: there are none."""
        of_scan = fixed_coil_maps if self.whitened else fixed_coil_maps_in_units_of_coils
        return of_scan(acquisition, self.differentiate_coil_maps)


@dataclass(frozen=True, eq=False, repr=False)
class BoundOutsideTorch(Bound):
    """`OutsideTorch` of one scan.

    Parameters
    ----------
    maps
        Fixed coil maps; ``None``: they follow from each k-space, or are not needed.
    """

    method: OutsideTorch
    maps: Tensor | None

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of the other program."""
        y = self.acquisition.whiten(kspace) if self.method.whitened else kspace
        return through_numpy(lambda values: self.image(values, self._maps(kspace)), y)

    def image(self, kspace: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
        """The same, of arrays that are handed over."""
        raise NotImplementedError

    def _maps(self, kspace: Tensor) -> np.ndarray | None:
        if not self.method.needs_coil_maps:
            return None
        maps, of_kspace = self.maps, whitened_coil_maps if self.method.whitened else coil_maps_in_units_of_coils
        maps = of_kspace(self.acquisition, kspace) if maps is None else maps
        return np.array(maps.cpu().numpy())
