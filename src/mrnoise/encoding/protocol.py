"""What a forward model is: image to samples and back, and the normal equations of both."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Encoding(Protocol):
    """A, from the image to the samples of a scan, linear in the image.

    Reconstructions see nothing else of the scan: not where its samples lie, nor how they are transformed. In whitened
    units (whitened samples and coil maps with Σ_c |S_c|² ≤ 1) the eigenvalues of AᴴA lie between 0 and 1, and the
    weight λ of `solve` is relative to a fully sampled scan. Batches lead: every method takes any number of further
    axes before those of its argument. A is differentiable in the image, in the samples and in the coil maps it was
    made of.

    Examples
    --------
    >>> from mrnoise.encoding import encode
    >>> from mrnoise.simulation import simulate
    >>> def least_squares(samples: Tensor, a: Encoding) -> Tensor:
    ...     return a.solve(a.adjoint(samples), 1e-6)
    >>> scan = simulate((16, 12), 4, snr=20.0)
    >>> a = encode(scan, scan.coil_maps)
    >>> residual = a.forward(least_squares(scan.kspace, a)) - scan.kspace
    >>> a.image_shape, a.sample_shape, bool(residual.norm() < scan.kspace.norm())
    ((16, 12), (4, 16, 12), True)
    """

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, (..., y, x) or (..., z, y, x)."""
        ...

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of its samples, the coil axis before those of one coil."""
        ...

    def forward(self, image: Tensor) -> Tensor:
        """A x, image (..., *image_shape) → samples (..., *sample_shape)."""
        ...

    def adjoint(self, samples: Tensor) -> Tensor:
        """Aᴴ y, samples (..., *sample_shape) → image (..., *image_shape)."""
        ...

    def gram(self, image: Tensor) -> Tensor:
        """AᴴA x, without a detour over samples where there is a shorter way."""
        ...

    def norm2(self) -> Tensor:
        """A bound of ‖A‖²."""
        ...

    def unfold(self, image: Tensor) -> Tensor:
        """Most of (AᴴA)⁻¹ x at a fraction of the cost of `solve`, what would amplify noise much left out."""
        ...

    def solve(self, image: Tensor, weight: float | Tensor) -> Tensor:
        """(AᴴA + λ)⁻¹ x with λ ≥ 0, a number or a scalar tensor; differentiated as it is computed."""
        ...
