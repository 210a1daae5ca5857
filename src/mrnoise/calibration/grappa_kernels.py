"""GRAPPA kernels: weights that make missing samples of k-space of acquired ones, fitted to calibration lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, product
from math import pi, prod

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.sampling.regular_lattice import RegularLattice

# Smallest regularization, where round-off ends.
ROUND_OFF = 1e-12
# Places at most that kernels are fitted to, the nearest to the centre along fully sampled axes.
PLACES = 2**14


@dataclass(frozen=True, eq=False)
class KernelShape:
    """Which acquired samples each missing one is made of, by their distance from the first sample of its cell.

    All missing samples of a cell are made of the same acquired ones, as in Griswold 2002, doi:10.1002/mrm.10171.

    Parameters
    ----------
    lattice
        Of the acquired samples.
    spatial_dims
        2 or 3.
    size
        Acquired samples along each undersampled axis, and samples along each of the others.

    Examples
    --------
    >>> from mrnoise.sampling import Grid, equispaced
    >>> shape = KernelShape(RegularLattice.of(Grid(equispaced((24, 16), 3))), 2, (4, 5))
    >>> shape.targets.flatten().tolist(), shape.sources.flatten().tolist(), shape.along.flatten().tolist()
    ([1, 2], [0, -3, 3, 6], [-2, -1, 0, 1, 2])
    """

    lattice: RegularLattice
    spatial_dims: int
    size: tuple[int, int]

    @property
    def whole_axes(self) -> tuple[int, ...]:
        """The axes that are not undersampled, counted from the end."""
        return tuple(axis for axis in range(-self.spatial_dims, 0) if axis not in self.lattice.axes)

    @cached_property
    def targets(self) -> Tensor:
        """Missing samples of a cell, (target, undersampled axes)."""
        return self.lattice.places()[1:]

    @cached_property
    def sources(self) -> Tensor:
        """Acquired samples around it, (source, undersampled axes)."""
        return self.lattice.near([self.size[0]] * len(self.lattice.axes))

    @cached_property
    def along(self) -> Tensor:
        """Steps along the other axes, (step, other axes)."""
        n = len(self.whole_axes)
        return torch.tensor(list(product(self._steps, repeat=n)), dtype=torch.long).reshape(len(self._steps) ** n, n)

    def offsets(self, of_lattice: Tensor, along: Tensor) -> Tensor:
        """Every step (n, undersampled axes) with every step along the others, (n · steps, spatial axes)."""
        both = torch.zeros(len(of_lattice), len(along), self.spatial_dims, dtype=torch.long)
        both[..., list(self.lattice.axes)] = of_lattice[:, None]
        both[..., list(self.whole_axes)] = along[None]
        return both.flatten(0, 1)

    def at_planes(self, kernels: Tensor, axis: int, n: int) -> Tensor:
        """Kernels (..., step) of a volume as those of each of its n planes across an axis that is not undersampled.

        (plane, ..., step), the steps along what is left.
        """
        if not self.lattice.axes:
            return kernels.expand(n, *kernels.shape)
        n_whole = len(self.whole_axes)
        across = kernels.unflatten(-1, [self.size[1]] * n_whole).movedim(self.whole_axes.index(axis) - n_whole, -1)
        steps = torch.tensor(self._steps)[:, None]
        return in_image(across, steps, [n]).movedim(-1, 0).reshape(n, *kernels.shape[:-1], -1)

    @property
    def _steps(self) -> range:
        return range(-(self.size[1] // 2), self.size[1] - self.size[1] // 2)


def fit_grappa_kernels(kspace: Tensor, region: Tensor, shape: KernelShape, regularization: float) -> Tensor:
    """Kernels of least squares over every place where a cell and all that it is made of were acquired.

    With the samples around each place as the columns of A and its missing ones as those of B,

        W = argmin ‖W A - B‖² + λ tr(A Aᴴ)/n ‖W‖² = B Aᴴ (A Aᴴ + λ tr(A Aᴴ)/n)⁻¹,

    n the rows of A: λ is relative to the mean eigenvalue of A Aᴴ. Differentiable with respect to k-space (``jvp``,
    ``vjp``, ``vmap``) at the cost of a few products with A: the derivative is that of the solution, no factorization
    of its own. In double precision.

    Parameters
    ----------
    kspace
        Complex, (..., coil, *spatial). Whiten it first: least squares take all coils alike.
    region
        Bool, (*spatial): the samples that are calibration lines. Others that were acquired may be among them.
    shape
        Of the kernels.
    regularization
        λ ≥ 0.

    Returns
    -------
    Tensor
        (..., target, coil, coil of the source, source, step), in the precision of ``kspace``.

    Raises
    ------
    InputError
        If there are fewer places than unknowns of a missing sample.

    References
    ----------
    Griswold et al., Magn Reson Med 2002, doi:10.1002/mrm.10171

    Examples
    --------
    >>> from mrnoise.sampling import Grid, equispaced
    >>> from mrnoise.simulation import simulate
    >>> mask = equispaced((32, 24), 2, calibration=12)
    >>> scan = simulate((32, 24), 4, mask=mask)
    >>> shape = KernelShape(RegularLattice.of(Grid(mask)), 2, (2, 3))
    >>> kernels = fit_grappa_kernels(scan.whiten(scan.kspace), mask, shape, 1e-3)
    >>> tuple(kernels.shape)
    (1, 4, 4, 2, 3)
    """
    n_coils = kspace.shape[-shape.spatial_dims - 1]
    sources, targets = shape.offsets(shape.sources, shape.along), shape.offsets(shape.targets, 0 * shape.along[:1])
    places = calibration_places(region, torch.cat([sources, targets]), shape.whole_axes)
    of_cell = torch.cat([shape.sources, shape.targets])
    check_enough(
        len(places),
        n_coils * len(sources),
        span=(of_cell.amax(0) - of_cell.amin(0) + 1).tolist(),
        across=[region.shape[axis] for axis in shape.whole_axes],
        step=shape.size[1],
    )
    a, b = (gathered(kspace, places, offsets) for offsets in (sources, targets))
    weights = least_squares(a.flatten(-3, -2), b.movedim(-3, -2).flatten(-3, -2), regularization)
    split = (len(shape.targets), n_coils), (n_coils, len(shape.sources), len(shape.along))
    return weights.unflatten(-1, split[1]).unflatten(-4, split[0]).to(kspace.dtype)


def in_image(kernels: Tensor, steps: Tensor, matrix: Sequence[int]) -> Tensor:
    """Kernels (..., step) along axes of k-space as products in the image, (..., position); steps are (step, axes)."""
    if not matrix:
        return kernels
    position = torch.cartesian_prod(*(torch.arange(n) - n // 2 for n in matrix)).reshape(-1, len(matrix))
    angle = -2 * pi * (steps.double() / torch.tensor(matrix)) @ position.double().T
    return kernels @ torch.polar(torch.ones_like(angle), angle).to(kernels)


def calibration_places(region: Tensor, offsets: Tensor, central: tuple[int, ...]) -> Tensor:
    """Every sample (place, spatial axes) around which those at all offsets (n, spatial axes) lie in a region.

    At most `PLACES`, the nearest to the centre along the axes ``central``.
    """
    region, dims = region.cpu(), region.ndim
    reach = int(offsets.abs().max())
    padded = torch.nn.functional.pad(region, [reach] * 2 * dims)
    found = region.clone()
    for offset in offsets.tolist():
        found &= padded[tuple(slice(reach + o, reach + o + n) for o, n in zip(offset, region.shape, strict=True))]
    places = found.nonzero()
    centre = torch.tensor([n // 2 for n in region.shape])
    distance = (places - centre).abs()[:, list(central)]
    if len(places) > PLACES and central:
        places = places[distance.amax(1).argsort(stable=True)[:PLACES]]
    return places


def gathered(kspace: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    """Samples at offsets (n, spatial axes) from places (m, spatial axes), (..., *spatial) → (..., n, m)."""
    spatial = kspace.shape[-places.shape[1] :]
    steps = torch.tensor([prod(spatial[i + 1 :]) for i in range(len(spatial))])
    index = (offsets @ steps)[:, None] + places @ steps
    return kspace.flatten(-len(spatial))[..., index.to(kspace.device)]


def least_squares(a: Tensor, b: Tensor, regularization: float) -> Tensor:
    """W of W A = B as in `fit_grappa_kernels`, (..., n, m) and (..., k, m) → (..., k, n), complex128."""
    a, b = a.to(torch.complex128), b.to(torch.complex128)
    relative = max(regularization, ROUND_OFF) / a.shape[-2]
    fixed = a.detach()
    gram = fixed @ fixed.mH
    ridge = relative * gram.diagonal(dim1=-2, dim2=-1).real.sum(-1) + torch.finfo(torch.float64).tiny
    eye = torch.eye(a.shape[-2], dtype=a.dtype, device=a.device)
    factor = torch.linalg.cholesky(gram + ridge[..., None, None] * eye)
    weights = torch.cholesky_solve(fixed @ b.detach().mH, factor).mH
    # A step of Newton's method: it does not move the solution, and carries its derivative.
    ridge = relative * (a.real.square() + a.imag.square()).sum((-2, -1)) + torch.finfo(torch.float64).tiny
    residual = (b - weights @ a) @ a.mH - ridge[..., None, None] * weights
    return weights + torch.cholesky_solve(residual.mH, factor).mH


def check_enough(places: int, unknowns: int, *, span: Sequence[int], across: Sequence[int], step: int) -> None:
    """Raise `InputError` where kernels have more unknowns than there are places to fit them to.

    Parameters
    ----------
    places, unknowns
        Their numbers, those of one sample that is made.
    span
        Lines that a kernel takes up along each undersampled axis.
    across
        Samples along each of the other axes, of which it takes ``step``.
    """
    if places >= unknowns:
        return
    per_line = prod(max(0, n - step + 1) for n in across)
    if per_line == 0:
        raise InputError(
            "the kernel is longer than the lines",
            expected=f"at most {min(across)} samples along them",
            received=str(step),
            remedy="Take a smaller kernel.",
        )
    needed = next(n for n in count(max(span)) if prod(n - lines + 1 for lines in span) * per_line >= unknowns)
    raise InputError(
        "too few calibration lines for the kernel",
        expected=f"{' × '.join([str(needed)] * len(span))} fully sampled central lines: {unknowns} weights, as many "
        "places to fit them to",
        received=f"{places} places with all samples of a kernel, which takes up {' × '.join(map(str, span))} lines",
        remedy="Take a smaller kernel, a scan with more calibration lines, or give separate ones: "
        "Acquisition(calibration=...).",
    )
