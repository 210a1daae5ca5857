"""The forward model of Cartesian sampling: coil maps, Fourier transform, mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from mrnoise import fourier
from mrnoise.encoding.alias_sets import AliasInverse
from mrnoise.encoding.convolution import Convolution, PointSpread
from mrnoise.encoding.lines import line_inverse, on_lines
from mrnoise.encoding.normal_equations import TOLERANCE, NormalEquations
from mrnoise.encoding.preconditioning import preconditioned
from mrnoise.encoding.unfolding import unfold
from mrnoise.errors import InputError
from mrnoise.sampling.extent import within
from mrnoise.sampling.grid import varying_axes


@dataclass(frozen=True, eq=False, repr=False)
class Cartesian:
    """A = M F S P, an `Encoding`: S coil maps, F the centred orthonormal Fourier transform, M the mask.

    P = Fᴴ E F leaves of an image what lies in the extent E that was encoded: where nothing was measured, no noise is
    amplified. Where E is all of k-space, P is not there.

    Samples keep their places on the grid, with zeros where nothing was acquired, as in `Acquisition.kspace`; `adjoint`
    relies on these zeros. With whitened maps and samples it is the model of white noise, with the maps of the coils
    that of k-space as measured.

    Parameters
    ----------
    maps
        S, complex, (..., coil, y, x) or (..., coil, z, y, x).
    mask
        M, bool or real, (k1, k0) or (k2, k1, k0), with leading axes where sampling differs between images.
    spatial_dims
        2 or 3.
    extent
        E, bool, the spatial shape, or that of ``mask``; ``None``: all of k-space.
    tolerance
        Relative residual at which the iterations of `solve` stop.
    iterations
        Number after which they stop instead; ``None``: when they have converged.
    prepared_weight
        λ of the `solve` that will be called often, as a number. Alias sets of regular sampling, and the lines along the
        one axis along which sampling varies, are independent systems, small enough to be inverted once, now: the same
        solution without iterations. Else whether a circulant preconditioner saves iterations is tried, now.

    Raises
    ------
    InputError
        If mask and maps do not lie on the same grid.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> a = Cartesian(head.coil_maps, equispaced((16, 12), 2))
    >>> y = a.forward(head.image)
    >>> x = a.solve(a.adjoint(y), weight=0.0)
    >>> tuple(y.shape), round(float((x - head.image).norm() / head.image.norm()), 3)
    ((4, 16, 12), 0.0)
    """

    maps: Tensor
    mask: Tensor
    spatial_dims: int = 2
    extent: Tensor | None = None
    tolerance: float = TOLERANCE
    iterations: int | None = None
    prepared_weight: float | None = None
    # The same arrays with the centre at index 0, which saves four shifts in every product, and the axes along which
    # sampling varies at the end: transforms of strided axes are slow. Not on demand: what is first computed inside a
    # transform of torch.func must not outlive it.
    _order: tuple[int, ...] = field(init=False)
    _maps: Tensor = field(init=False)
    _iterated: NormalEquations = field(init=False)
    _prepared: NormalEquations = field(init=False)

    def __post_init__(self) -> None:
        grid = tuple(self.mask.shape[-self.spatial_dims :])
        if self.maps.ndim <= self.spatial_dims or tuple(self.maps.shape[-self.spatial_dims :]) != grid:
            raise InputError(
                "coil maps do not lie on the grid of the samples",
                expected=f"shape (..., coil, {', '.join(map(str, grid))})",
                received=str(tuple(self.maps.shape)),
                remedy="Give coil maps of the matrix of k-space, the coil axis before the spatial ones.",
            )
        varying = varying_axes(self.mask, self.spatial_dims)
        if self.extent is not None:
            varying = tuple(sorted({*varying, *varying_axes(self.extent, self.spatial_dims)}))
        object.__setattr__(self, "_order", tuple(sorted(self._axes, key=lambda axis: axis in varying)))
        maps, mask = self._shifted(self.maps).contiguous(), self._shifted(self.mask).contiguous()
        axes = tuple(range(-len(varying), 0))
        extent = None if self.extent is None else self._shifted(self.extent).contiguous()
        # Along the others the mask is constant.
        across = (..., *(slice(None if axis in axes else 1) for axis in self._axes))
        iterated = NormalEquations(
            Convolution(axes, (mask[across].unsqueeze(self._coil_axis),)),
            self._coil_axis,
            self.tolerance,
            self.iterations,
            extent=None if extent is None else Convolution(axes, (extent[across],)),
        )
        prepared = iterated
        if self.prepared_weight is not None and self.iterations is None and mask.ndim == self.spatial_dims:
            weight, one_image = self.prepared_weight, maps.ndim == self.spatial_dims + 1
            inverse: Callable[[Tensor], Tensor] | None = None
            if one_image and extent is None:
                inverse = AliasInverse.of(maps.detach(), torch.fft.fftshift(mask), weight)
            if inverse is None:
                lines = line_inverse(maps, mask, axes, weight, extent)
                inverse = None if lines is None else partial(on_lines, lines, axes=axes)
            prepared = replace(iterated, inverse=inverse)
            if inverse is None and one_image:
                spread = PointSpread.of_mask(torch.fft.fftshift(mask))
                prepared = preconditioned(iterated, spread, maps.detach(), weight)
        object.__setattr__(self, "_maps", maps)
        object.__setattr__(self, "_iterated", iterated)
        object.__setattr__(self, "_prepared", prepared)

    def __repr__(self) -> str:
        return f"Cartesian({self.sample_shape[self._coil_axis]} coils, image {self.image_shape})"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(..., y, x) or (..., z, y, x), with the leading axes of maps and mask."""
        dims = self.spatial_dims
        leading = torch.broadcast_shapes(self.maps.shape[: self._coil_axis], self.mask.shape[:-dims])
        return (*leading, *self.maps.shape[-dims:])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(..., coil, k1, k0) or (..., coil, k2, k1, k0)."""
        image = self.image_shape
        dims = self.spatial_dims
        return (*image[:-dims], self.maps.shape[self._coil_axis], *image[-dims:])

    def forward(self, image: Tensor) -> Tensor:
        """A x = M F S P x, (..., y, x) → (..., coil, k1, k0)."""
        image = image if self.extent is None else within(image, self.extent, self.spatial_dims)
        coil_images = self.maps * image.unsqueeze(self._coil_axis)
        return self.mask.unsqueeze(self._coil_axis) * fourier.to_kspace(coil_images, self.spatial_dims)

    def adjoint(self, samples: Tensor) -> Tensor:
        """Aᴴ y = P Sᴴ Fᴴ y of samples that are zero outside the mask, (..., coil, k1, k0) → (..., y, x)."""
        image = (self.maps.conj() * fourier.to_image(samples, self.spatial_dims)).sum(self._coil_axis)
        return image if self.extent is None else within(image, self.extent, self.spatial_dims)

    def gram(self, image: Tensor) -> Tensor:
        """AᴴA x = P Sᴴ Fᴴ M F S P x."""
        return self._centred(self._iterated.gram(self._shifted(image), self._maps))

    def norm2(self) -> Tensor:
        """Max Σ_c |S_c|² ≥ ‖A‖²: P, F and M have no eigenvalue above 1."""
        return self.maps.abs().square().sum(self._coil_axis).amax()

    def unfold(self, image: Tensor) -> Tensor:
        """SENSE to start from: most of (AᴴA)⁻¹ b, b = Aᴴ y, see `encoding.unfolding.unfold`."""
        return self._centred(unfold(lambda step: self._iterated.gram(step, self._maps), self._shifted(image)))

    def solve(self, image: Tensor, weight: float | Tensor) -> Tensor:
        """P (AᴴA + λ)⁻¹ P x by conjugate gradients, or by the inverse of ``prepared_weight``.

        Differentiable in x, in the coil maps and in λ: as the converged solution, where each derivative is one more
        solve, or as the number of iterations that is made.
        """
        if isinstance(weight, Tensor):
            equations = self._iterated
        else:
            equations = self._prepared if weight == self.prepared_weight else self._iterated
            weight = torch.full((), weight, dtype=torch.float64, device=image.device)
        return self._centred(equations.solve(self._shifted(image), self._maps, weight))

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.spatial_dims, 0))

    @property
    def _coil_axis(self) -> int:
        return -self.spatial_dims - 1

    def _shifted(self, image: Tensor) -> Tensor:
        return torch.fft.ifftshift(image.movedim(self._order, self._axes), dim=self._axes)

    def _centred(self, image: Tensor) -> Tensor:
        return torch.fft.fftshift(image, dim=self._axes).movedim(self._axes, self._order)
