"""The forward model of a trajectory: coil maps and the transform to samples anywhere in k-space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mrnoise.encoding.convolution import PointSpread
from mrnoise.encoding.lines import on_lines
from mrnoise.encoding.normal_equations import TOLERANCE, NormalEquations
from mrnoise.encoding.nufft import Nufft
from mrnoise.encoding.planes import plane_inverse
from mrnoise.encoding.preconditioning import preconditioned
from mrnoise.encoding.unfolding import largest_eigenvalue, unfold
from mrnoise.errors import InputError
from mrnoise.sampling.trajectory import Trajectory

_POINT_SPREADS: WeakKeyDictionary[Trajectory, PointSpread] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class NonCartesian:
    """A = E S, an `Encoding`: S coil maps, E the transform of a trajectory (`Nufft`).

    AᴴA = SᴴTS without samples: T = EᴴE is a convolution (`PointSpread`), computed on the grid of the image, exact to
    rounding (Fessler et al. 2005, doi:10.1109/TSP.2005.853152).

    Parameters
    ----------
    maps
        S, complex, (..., coil, y, x) or (..., coil, z, y, x).
    trajectory
        Where samples lie. Its derivative flows through `forward` and `adjoint`, not through `gram` and `solve`.
    tolerance
        Relative residual at which the iterations of `solve` stop.
    iterations
        Number after which they stop instead; ``None``: when they have converged.
    prepared_weight
        λ of the `solve` that will be called often, as a number. A thousand voxels are inverted, now: the same solution
        without iterations. For more, whether a circulant preconditioner saves iterations is tried. Without it `solve`
        iterates as it is.
    transform_tolerance
        Of E; see `Nufft`.

    Raises
    ------
    InputError
        If maps and trajectory are not of one image.

    Examples
    --------
    >>> from mrnoise.simulation import simulated_head
    >>> head = simulated_head((16, 12), 4)
    >>> k = torch.linspace(-6, 6, 24)
    >>> angle = torch.arange(12)[:, None] * torch.pi / 12
    >>> spokes = Trajectory(torch.stack([k * angle.sin(), k * angle.cos()]), (16, 12))
    >>> a = NonCartesian(head.coil_maps, spokes, prepared_weight=1e-4)
    >>> y = a.forward(head.image)
    >>> x = a.solve(a.adjoint(y), 1e-4)
    >>> tuple(y.shape), bool((a.forward(x) - y).norm() < 0.01 * y.norm())
    ((4, 12, 24), True)
    """

    maps: Tensor
    trajectory: Trajectory
    tolerance: float = TOLERANCE
    iterations: int | None = None
    prepared_weight: float | None = None
    transform_tolerance: float = 1e-6
    _nufft: Nufft = field(init=False)
    _equations: NormalEquations = field(init=False)

    def __post_init__(self) -> None:
        shape, dims = self.trajectory.image_shape, self.trajectory.spatial_dims
        if self.maps.ndim <= dims or tuple(self.maps.shape[-dims:]) != shape:
            raise InputError(
                "coil maps are not of the image of the trajectory",
                expected=f"shape (..., coil, {', '.join(map(str, shape))})",
                received=str(tuple(self.maps.shape)),
                remedy="Give coil maps of the matrix of the trajectory, the coil axis before the spatial ones.",
            )
        object.__setattr__(self, "_nufft", Nufft(self.trajectory.coordinates, shape, self.transform_tolerance))
        spread = point_spread(self.trajectory)
        equations = NormalEquations(spread.convolution(self.maps), self._coil_axis, self.tolerance, self.iterations)
        if self.prepared_weight is not None and self.iterations is None and self.maps.ndim == dims + 1:
            inverse = plane_inverse(spread, self.maps.detach(), self.prepared_weight)
            if inverse is None:
                equations = preconditioned(equations, spread, self.maps.detach(), self.prepared_weight)
            else:
                equations = replace(equations, inverse=partial(on_lines, inverse, axes=spread.axes))
        object.__setattr__(self, "_equations", equations)

    def __repr__(self) -> str:
        coils = self.maps.shape[self._coil_axis]
        return f"NonCartesian({coils} coils, {self.trajectory.n_samples} samples, image {self.image_shape})"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(..., y, x) or (..., z, y, x), with the leading axes of the maps."""
        return (*self.maps.shape[: self._coil_axis], *self.trajectory.image_shape)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(..., coil, *samples)."""
        return (*self.maps.shape[: self._coil_axis + 1 or None], *self.trajectory.sample_shape)

    def forward(self, image: Tensor) -> Tensor:
        """A x = E S x, (..., y, x) → (..., coil, *samples)."""
        return self._nufft.forward(self.maps * image.unsqueeze(self._coil_axis))

    def adjoint(self, samples: Tensor) -> Tensor:
        """Aᴴ y = Sᴴ Eᴴ y, (..., coil, *samples) → (..., y, x)."""
        return torch.linalg.vecdot(self.maps, self._nufft.adjoint(samples), dim=self._coil_axis)

    def gram(self, image: Tensor) -> Tensor:
        """AᴴA x = Sᴴ T S x."""
        return self._equations.gram(image, self.maps)

    def norm2(self) -> Tensor:
        """‖A‖² by power iteration, and a margin."""
        maps = self.maps.detach()
        x = torch.ones(self.image_shape, dtype=maps.dtype, device=maps.device)
        return largest_eigenvalue(lambda image: self._equations.gram(image, maps), x)

    def unfold(self, image: Tensor) -> Tensor:
        """Most of (AᴴA)⁻¹ b, see `encoding.unfolding.unfold`, relative to the largest eigenvalue."""
        largest = self.norm2()
        return unfold(lambda step: self.gram(step) / largest, image / largest)

    def solve(self, image: Tensor, weight: float | Tensor) -> Tensor:
        """(AᴴA + λ)⁻¹ x by conjugate gradients, or by the inverse of ``prepared_weight``.

        Differentiable in x, in the coil maps and in λ: as the converged solution, where each derivative is one more
        solve, or as the number of iterations that is made.
        """
        equations = self._equations
        if isinstance(weight, Tensor) or weight != self.prepared_weight:
            equations = replace(equations, inverse=None)
        if not isinstance(weight, Tensor):
            weight = torch.full((), weight, dtype=torch.float64, device=image.device)
        return equations.solve(image, self.maps, weight)

    @property
    def _coil_axis(self) -> int:
        return -self.trajectory.spatial_dims - 1


def point_spread(trajectory: Trajectory) -> PointSpread:
    """That of a trajectory, computed once."""
    known = _POINT_SPREADS.get(trajectory)
    if known is None:
        known = PointSpread.of(trajectory.coordinates, trajectory.image_shape)
        # What is first computed inside a transform of torch.func must not outlive it.
        if not torch._C._functorch.is_functorch_wrapped_tensor(known.values):
            _POINT_SPREADS[trajectory] = known
    return known
