"""Partial Fourier: the missing side of k-space from the conjugate of the other, and a phase that is smooth."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction

TINY = 1e-30


@dataclass(frozen=True)
class Homodyne(Reconstruction):
    """Homodyne detection of partial Fourier data, the real image x = Re(p* Fᴴ W F z).

    z is the image of what was encoded, p = l / |l| the phase of its symmetric centre l, Hann-filtered, and W weights
    k-space by 2 on the side that was encoded alone, by 0 on the other, by a ramp across the centre (Noll et al. 1991,
    doi:10.1109/42.79473). Its noise is real: with a phase that is known, σ² = ½ ψ ΣW²/N. Noise of the phase reaches the
    image only where the true phase is not that of the centre.

    Parameters
    ----------
    inner
        Gives z.

    Raises
    ------
    InputError
        On `bind`, if the scan was not encoded to one side along exactly one axis.

    Examples
    --------
    >>> from mrnoise import Acquisition, noise_map
    >>> from mrnoise.simulation import simulate
    >>> full = simulate((32, 24), 4, snr=50.0)
    >>> kspace = full.kspace.clone()
    >>> kspace[:, :10] = 0
    >>> scan = Acquisition(kspace, full.noise_covariance, coil_maps=full.coil_maps)
    >>> nm = noise_map(Homodyne(), scan, method="sketch", n_samples=100)
    >>> nm.image.dtype, round(float(nm.estimate.impropriety.mean()), 2)
    (torch.float32, 1.0)
    """

    inner: Reconstruction = field(default_factory=CgSense)

    unit_gain = False  # of one noise component

    def bind(self, acquisition: Acquisition) -> BoundHomodyne:
        """Return kspace (..., coil, k1, k0) → real image (..., y, x)."""
        sides = one_sided(acquisition)
        if len(sides) != 1:
            raise InputError(
                "homodyne detection needs partial Fourier along one axis",
                expected="k-space that was encoded to one side of its centre along one axis",
                received=f"an encoded extent {acquisition.grid.box} of {acquisition.spatial_shape}",
                remedy="Take Pocs for several axes; without partial Fourier take another reconstruction.",
            )
        ((axis, half, sign),) = sides
        n = acquisition.spatial_shape[axis]
        index = sign * (torch.arange(n) - n // 2).double()
        ramp = (1 + index / (half + 0.5)).clamp(0, 2)
        shape = [n if i == axis else 1 for i in range(acquisition.spatial_dims)]
        weight = ramp.to(acquisition.kspace.real).reshape(shape)
        return BoundHomodyne(
            self,
            acquisition,
            self.inner.bind(acquisition),
            symmetric_centre(acquisition),
            weight,
            scale_of(acquisition),
        )


@dataclass(frozen=True, eq=False, repr=False)
class BoundHomodyne(Bound):
    """`Homodyne` of one scan.

    Parameters
    ----------
    inner
        Gives z.
    centre
        Hann window of the symmetric centre of k-space.
    weight
        W.
    scale
        Of the data.
    """

    inner: KspaceToImage
    centre: Tensor
    weight: Tensor
    scale: float

    def __call__(self, kspace: Tensor) -> Tensor:
        """Re(p* Fᴴ W F z), (..., coil, k1, k0) → (..., y, x)."""
        dims = self.acquisition.spatial_dims
        samples = fourier.to_kspace(self.inner(kspace), dims)
        phase = unit_phase(fourier.to_image(self.centre * samples, dims), self.scale)
        return (phase.conj() * fourier.to_image(self.weight * samples, dims)).real


@dataclass(frozen=True)
class Pocs(Reconstruction):
    """Projection onto convex sets of partial Fourier data: x ← Fᴴ (E F z + (1 - E) F (|x| p)), from x = z.

    z is the image of what was encoded, E, and p the phase of its symmetric centre, Hann-filtered (Haacke et al. 1991,
    doi:10.1016/0022-2364(91)90253-P). The data stay what they are; the other side converges to that of an image of
    this phase. Its noise is improper: that of the two sides of k-space is correlated.

    Parameters
    ----------
    inner
        Gives z.
    iterations
        Number of steps.

    Raises
    ------
    InputError
        On `bind`, if the scan was encoded to both sides along every axis.

    Examples
    --------
    >>> from mrnoise import Acquisition, noise_map
    >>> from mrnoise.simulation import simulate
    >>> full = simulate((32, 24), 4, snr=50.0)
    >>> kspace = full.kspace.clone()
    >>> kspace[:, :10] = 0
    >>> scan = Acquisition(kspace, full.noise_covariance, coil_maps=full.coil_maps)
    >>> nm = noise_map(Pocs(), scan, method="monte_carlo", n_samples=50)
    >>> nm.image.dtype, round(float(nm.estimate.impropriety.median()), 1)
    (torch.complex64, 0.4)
    """

    inner: Reconstruction = field(default_factory=CgSense)
    iterations: int = 10

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise InputError(
                "invalid number of iterations",
                expected="at least 1",
                received=str(self.iterations),
                remedy="Leave it out for 10.",
            )

    def bind(self, acquisition: Acquisition) -> BoundPocs:
        """Return kspace (..., coil, k1, k0) → complex image (..., y, x)."""
        if not one_sided(acquisition):
            raise InputError(
                "there is no partial Fourier to complete",
                expected="k-space that was encoded to one side of its centre along an axis",
                received=f"an encoded extent {acquisition.grid.box} of {acquisition.spatial_shape}",
                remedy="Take another reconstruction.",
            )
        assert acquisition.grid.extent is not None
        encoded = acquisition.grid.extent.to(acquisition.kspace.real)
        inner = self.inner.bind(acquisition)
        return BoundPocs(self, acquisition, inner, symmetric_centre(acquisition), encoded, scale_of(acquisition))


@dataclass(frozen=True, eq=False, repr=False)
class BoundPocs(Bound):
    """`Pocs` of one scan.

    Parameters
    ----------
    inner
        Gives z.
    centre
        Hann window of the symmetric centre of k-space.
    encoded
        E, in numbers.
    scale
        Of the data.
    """

    method: Pocs
    inner: KspaceToImage
    centre: Tensor
    encoded: Tensor
    scale: float

    def __call__(self, kspace: Tensor) -> Tensor:
        """The completed image, (..., coil, k1, k0) → (..., y, x)."""
        dims = self.acquisition.spatial_dims
        x = self.inner(kspace) / self.scale
        samples = fourier.to_kspace(x, dims)
        phase = unit_phase(fourier.to_image(self.centre * samples, dims), 1.0)
        for _ in range(self.method.iterations):
            size = (x.real.square() + x.imag.square() + TINY).sqrt()
            guess = fourier.to_kspace(size * phase, dims)
            x = fourier.to_image(self.encoded * samples + (1 - self.encoded) * guess, dims)
        return x * self.scale


def one_sided(acquisition: Acquisition) -> list[tuple[int, int, int]]:
    """Axis, half width of the symmetric centre and the side that was encoded alone, of axes of partial Fourier.

    A difference of one sample is that of an even matrix.
    """
    found = []
    ends = zip(acquisition.grid.box, acquisition.spatial_shape, strict=True)
    for axis, ((first, behind), n) in enumerate(ends):
        below, above = n // 2 - first, behind - 1 - n // 2
        if abs(below - above) > 1:
            found.append((axis, max(0, min(below, above)), 1 if above > below else -1))
    return found


def symmetric_centre(acquisition: Acquisition) -> Tensor:
    """Hann window over the samples whose conjugates were encoded too, along axes of partial Fourier; 1 along others."""
    dims = acquisition.spatial_dims
    window = acquisition.kspace.real.new_ones(acquisition.spatial_shape)
    for axis, half, _ in one_sided(acquisition):
        n = acquisition.spatial_shape[axis]
        distance = (torch.arange(n) - n // 2).abs().to(window) / (half + 1)
        line = torch.where(distance < 1, 0.5 + 0.5 * torch.cos(torch.pi * distance), 0.0)
        window = window * line.reshape([n if i == axis else 1 for i in range(dims)])
    return window


def unit_phase(image: Tensor, scale: float) -> Tensor:
    """X / |x| of an image of this scale, and 0 where x is 0: with a derivative everywhere."""
    image = image / scale
    return image * (image.real.square() + image.imag.square() + TINY).rsqrt()


def scale_of(acquisition: Acquisition) -> float:
    """Largest sample, in whose units nothing vanishes."""
    return float(acquisition.kspace.abs().amax()) or 1.0
