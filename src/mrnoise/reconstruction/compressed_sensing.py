"""Compressed sensing: least squares with the ℓ1 norm of wavelet coefficients or of differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import Encoding, encode
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.differences import Differences
from mrnoise.reconstruction.fista import Fista, Sparsifying
from mrnoise.reconstruction.protocol import Reconstruction
from mrnoise.reconstruction.wavelets import Wavelets, check_wavelet


@dataclass(frozen=True)
class L1Wavelet(Reconstruction):
    """Compressed sensing with wavelets, argmin_x ½‖A x - y‖² + λ s ‖W x‖₁ with A and y whitened.

    W are the details of an orthogonal wavelet transform (Lustig et al. 2007, doi:10.1002/mrm.21391) of the spatial
    axes, s = max |Aᴴy| of the scan that is bound, held fixed: λ does not depend on the units of k-space, and noise does
    not change it; S is scaled to Σ_c |S_c|² = 1, whose square root the image is divided by at the end. Solved by
    accelerated proximal steps from Aᴴy / ‖A‖² (Beck and Teboulle 2009, doi:10.1137/080716542).

    Parameters
    ----------
    regularization
        λ > 0.
    iterations
        Number of steps, differentiated as they are made; ``None``: until it has converged, differentiated as the
        solution.
    wavelet
        Name of an orthogonal wavelet.
    levels
        Number of scales.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        If λ is not positive, there are no steps or no such wavelet; on `bind`, if the image is too small for it.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.sampling import poisson_disc
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((24, 20), 4, mask=poisson_disc((24, 20), 2, calibration=6), snr=20.0)
    >>> sparse = L1Wavelet(0.01, iterations=20, wavelet="haar", levels=2)
    >>> noise = [float(noise_map(r, scan, n_samples=20).std.mean()) for r in (sparse, CgSense())]
    >>> noise[0] < 0.8 * noise[1]
    True
    """

    regularization: float = 3e-3
    iterations: int | None = 100
    wavelet: str = "db4"
    levels: int = 3
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        _check(self.regularization, self.iterations)
        check_wavelet(self.wavelet, self.levels)

    def bind(self, acquisition: Acquisition) -> BoundCompressedSensing:
        """Return kspace (..., coil, k1, k0) or (..., coil, *samples) → complex image (..., y, x)."""
        sparsifying = Wavelets(acquisition.spatial_shape, self.wavelet, self.levels)
        return BoundCompressedSensing.of(self, acquisition, sparsifying)


@dataclass(frozen=True)
class TotalVariation(Reconstruction):
    """Compressed sensing with total variation, argmin_x ½‖A x - y‖² + λ s Σ_r ‖(D x)_r‖₂ with A and y whitened.

    (D x)_r are the differences to the next voxels along ``axes`` (Rudin et al. 1992,
    doi:10.1016/0167-2789(92)90242-F; Block et al. 2007, doi:10.1002/mrm.21236), s = max |Aᴴy| of the scan that is
    bound, held fixed: λ does not depend on the units of k-space, and noise does not change it. Solved as `L1Wavelet`.

    Parameters
    ----------
    regularization
        λ > 0.
    iterations
        Number of steps, differentiated as they are made; ``None``: until it has converged, differentiated as the
        solution.
    axes
        Names of axes, ``"x"``, ``"y"``, ``"z"`` and those of the acquisition: ``("frame",)`` is temporal total
        variation. ``None``: the spatial ones.
    differentiate_coil_maps
        As for `L1Wavelet`.

    Raises
    ------
    InputError
        If λ is not positive, or there are no steps or no axes; on `bind`, if the scan has no such axis.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import poisson_disc
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((24, 20), 4, mask=poisson_disc((24, 20), 2, calibration=6), snr=20.0)
    >>> weak, strong = (TotalVariation(weight, iterations=20) for weight in (1e-3, 1e-2))
    >>> noise = [float(noise_map(r, scan, n_samples=20).std.mean()) for r in (weak, strong)]
    >>> noise[1] < 0.7 * noise[0]
    True
    """

    regularization: float = 3e-3
    iterations: int | None = 100
    axes: tuple[str, ...] | None = None
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        _check(self.regularization, self.iterations)
        axes: Any = self.axes
        if axes is not None and (isinstance(axes, str) or not axes or len(set(axes)) < len(axes)):
            raise InputError(
                "total variation needs axes",
                expected="a tuple of different names of axes",
                received=repr(axes),
                remedy='For example axes=("y", "x"), or ("frame",) for a series.',
            )

    def joint_axes(self, acquisition: Acquisition) -> tuple[str, ...]:
        """The leading axes of the acquisition among ``axes``."""
        return tuple(axis for axis in acquisition.axes if axis in (self.axes or ()))

    def bind(self, acquisition: Acquisition) -> BoundCompressedSensing:
        """Return kspace (joint axes, coil, k1, k0) or (joint axes, coil, *samples) → image, joint axes first."""
        spatial = ("z", "y", "x")[-acquisition.spatial_dims :]
        names = (*acquisition.axes, *spatial)
        chosen = spatial if self.axes is None else self.axes
        missing = [axis for axis in chosen if axis not in names]
        if missing:
            raise InputError(
                "the scan has no such axis",
                expected="axes among " + ", ".join(names),
                received=", ".join(missing),
                remedy="Name the axes of the acquisition: Acquisition(axes=…), its leading ones, then z, y, x.",
            )
        axes = tuple(sorted(names.index(axis) - len(names) for axis in chosen))
        return BoundCompressedSensing.of(self, acquisition, Differences(axes, len(names)))


@dataclass(frozen=True, eq=False, repr=False)
class BoundCompressedSensing(Bound):
    """`L1Wavelet` or `TotalVariation` of one scan.

    Parameters
    ----------
    sparsifying
        K.
    fixed
        √p and the forward model of unit coil maps, where these are fixed; ``None``: the maps follow from each k-space.
    norm2
        ‖A‖².
    scale
        s.
    """

    method: L1Wavelet | TotalVariation
    sparsifying: Sparsifying
    fixed: tuple[Tensor, Encoding] | None
    norm2: float
    scale: float

    @classmethod
    def of(
        cls, method: L1Wavelet | TotalVariation, acquisition: Acquisition, sparsifying: Sparsifying
    ) -> BoundCompressedSensing:
        """With what the scan fixes."""
        maps = fixed_coil_maps(acquisition, method.differentiate_coil_maps)
        if maps is None and method.iterations is None:
            raise InputError(
                "the solution cannot be differentiated in the coil maps",
                expected="coil maps that are fixed, or a number of iterations",
                received="coil maps that follow from each k-space, iterations=None",
                remedy="Give coil maps, differentiate_coil_maps=False, or iterations=100.",
            )
        with torch.no_grad():
            first = _of_unit_maps(
                acquisition, whitened_coil_maps(acquisition, acquisition.kspace) if maps is None else maps
            )
            encoding = first[1]
            scale = float(encoding.adjoint(acquisition.whiten(acquisition.kspace)).abs().max()) or 1.0
        return cls(method, acquisition, sparsifying, None if maps is None else first, float(encoding.norm2()), scale)

    def __call__(self, kspace: Tensor) -> Tensor:
        """The minimum, or what the steps have come to, (..., coil, k1, k0) → (..., y, x)."""
        scan = self.acquisition
        norm, encoding = self.fixed or _of_unit_maps(scan, whitened_coil_maps(scan, kspace))
        problem = Fista(encoding, self.sparsifying, self.norm2, self.method.regularization)
        b = encoding.adjoint(scan.whiten(kspace)) / self.scale
        steps = self.method.iterations
        x = problem.converged(b) if steps is None else problem.stopped(b, steps)
        return torch.where(norm > 0, self.scale * x / torch.where(norm > 0, norm, 1.0), 0.0)


def _of_unit_maps(acquisition: Acquisition, maps: Tensor) -> tuple[Tensor, Encoding]:
    """√p and the forward model of S/√p."""
    axis = -acquisition.spatial_dims - 1
    # Where no coil sees anything, the derivative of the norm is not finite.
    power = maps.abs().square().sum(axis)
    norm = torch.where(power > 0, torch.where(power > 0, power, 1.0).sqrt(), 0.0)
    unit = maps / torch.where(norm > 0, norm, 1.0).unsqueeze(axis)
    return norm, encode(acquisition, unit)


def _check(regularization: float, iterations: int | None) -> None:
    if not 0 < regularization < float("inf") or (iterations is not None and iterations < 1):
        raise InputError(
            "invalid compressed sensing",
            expected="a regularization > 0 and at least 1 iteration",
            received=f"regularization {regularization}, iterations {iterations}",
            remedy="1e-3 to 1e-2 is usual, relative to the largest magnitude of Aᴴy; CgSense has none.",
        )
