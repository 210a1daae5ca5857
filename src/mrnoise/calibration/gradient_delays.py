"""Gradient delays of radial scans, from spokes that run against each other."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.spoke_consistency import consistent_delays
from mrnoise.errors import InputError
from mrnoise.sampling.trajectory import Trajectory

# Cycles per field of view that spokes deviate from straight lines, and that opposed ones pass beside each other.
STRAIGHT, BESIDE = 0.01, 0.5
OPPOSED = 5.0  # degrees between a spoke and the reverse of another
LARGEST, STEP = 4.0, 0.02  # samples: delays that are looked for, and how finely before the parabola
UNKNOWN = 0.1  # samples: a standard error of a delay that says nothing
MISFIT = 0.1  # part of the signal that may differ between spokes, off resonance or by relaxation


@dataclass(frozen=True, eq=False)
class GradientDelays:
    """Delays of the gradients, in samples of the readout, with their standard errors.

    A spoke whose coordinates grow by v a sample lies T v behind: T is symmetric, (dimension, dimension), ordered as the
    axes of the image. On the diagonal are the delays of the gradients along these axes; beside it what an oblique plane
    mixes. Of an axis along which no spoke runs they are 0.

    Parameters
    ----------
    delays, errors
        T and the standard error of each of its entries, from how far the pairs of spokes disagree.
    n_pairs
        Pairs of opposed spokes.

    Examples
    --------
    >>> print(GradientDelays(torch.tensor([[0.3, 0], [0, -0.1]]), torch.full((2, 2), 0.01), 20))
    gradient delays in samples: y 0.300 ± 0.010, x -0.100 ± 0.010, yx 0.000 ± 0.010, from 20 pairs of opposed spokes
    """

    delays: Tensor
    errors: Tensor
    n_pairs: int

    def __str__(self) -> str:
        names = "zyx"[-len(self.delays) :]
        entries = [(i, i) for i in range(len(names))] + list(itertools.combinations(range(len(names)), 2))
        shown = ", ".join(
            f"{names[i] if i == j else names[i] + names[j]} {self.delays[i, j]:.3f} ± {self.errors[i, j]:.3f}"
            for i, j in entries
            if self.errors[i, j] > 0
        )
        return f"gradient delays in samples: {shown}, from {self.n_pairs} pairs of opposed spokes"


def estimate_gradient_delays(acquisition: Acquisition) -> GradientDelays:
    """Delays of the gradients of a radial scan, from pairs of opposed spokes.

    A delay d moves the samples of a spoke back along it, those of the opposed spoke the other way: reversed, they are
    2 d samples apart. d maximizes the correlation Σ_images |Σ_coil,j y₁*(j + 2d) y₂(-j)|², which a constant phase of
    either does not change. T is the least-squares solution of d = vᵀTv / |v|² over all pairs, v in cycles per field of
    view a sample. Delays that differ between axes move spokes sideways too, each pair apart, which biases d by what the
    object is like; so T is refined such that all samples near the centre are those of one image a coil, but for a
    phase φ of each spoke, min Σ_j |y_j - exp(iφ) Σ_r x(r) exp(-2πi (k_j - T v)·r / n)|² over T, x and φ, for the
    strongest image.

    Parameters
    ----------
    acquisition
        Whose last axis of samples runs along straight spokes at equal steps through the centre: radial, stack of
        stars, 3D radial.

    Returns
    -------
    GradientDelays
        Of all images together.

    Raises
    ------
    InputError
        If there are no such spokes, too few pairs of opposed ones (within 5°), they disagree (a standard error above
        0.1 samples), or no image explains all spokes but for noise and a tenth of their signal: their angles or order
        are other ones.

    References
    ----------
    Peters et al., Magn Reson Med 2003, doi:10.1002/mrm.10501; oblique planes: Rosenzweig et al., Magn Reson Med 2019,
    doi:10.1002/mrm.27506

    Examples
    --------
    >>> from mrnoise.encoding import Nufft
    >>> from mrnoise.sampling import radial
    >>> from mrnoise.simulation import simulated_head
    >>> head, spokes = simulated_head((32, 32), 2), radial((32, 32), 20, angles=torch.arange(20) * torch.pi / 10)
    >>> late = spokes.coordinates - 0.4 * spokes.coordinates.diff(dim=-1)[..., :1]
    >>> kspace = Nufft(late, (32, 32)).forward(head.coil_maps * head.image)
    >>> found = estimate_gradient_delays(Acquisition(kspace, head.noise_covariance, sampling=spokes))
    >>> [round(float(delay), 2) for delay in found.delays.diagonal()]
    [0.4, 0.4]
    """
    trajectory = acquisition.sampling
    if not isinstance(trajectory, Trajectory):
        raise _no_spokes("samples on a grid")
    step, beside, centre = _spokes(trajectory)
    direction = step / torch.linalg.vector_norm(step, dim=1, keepdim=True)
    pairs = _opposed(direction, beside)
    active = [d for d in range(trajectory.spatial_dims) if bool((direction[:, d].abs() > 1e-3).any())]
    entries = [(a, b) for a, b in itertools.product(active, active) if a <= b]
    towards = direction[pairs[:, 0]]
    design = torch.stack([towards[:, a] * towards[:, b] * (1 if a == b else 2) for a, b in entries], 1)
    spread = torch.linalg.svdvals(design) if len(design) else design.new_zeros(1)
    if len(pairs) <= len(entries) or float(spread[-1]) < 1e-2 * float(spread[0]):
        raise InputError(
            "gradient delays need opposed spokes",
            expected=f"more than {len(entries)} pairs within {OPPOSED:g}° of opposite, in different directions",
            received=f"{len(pairs)} pairs among {len(step)} spokes",
            remedy="Measure a few spokes from both sides, for example over 360°; or leave the delays as they are.",
        )
    kspace = acquisition.whiten(acquisition.kspace).detach().to("cpu", torch.complex128)
    kspace = kspace.flatten(acquisition.coil_axis + 1, -2) if trajectory.sample_ndim > 2 else kspace
    kspace = kspace.reshape(-1, *kspace.shape[-3:])  # (image, coil, spoke, sample)
    found = torch.stack([_delay(kspace[:, :, i], kspace[:, :, k], float(centre[i] + centre[k])) for i, k in pairs])
    inverse = torch.linalg.inv(design.T @ design)
    solution = inverse @ (design.T @ found)
    variance = (found - design @ solution).square().sum() / (len(pairs) - len(entries))
    _check_error((variance * inverse.diagonal()).sqrt(), len(pairs))
    central = (torch.linalg.vector_norm(beside, dim=1) < BESIDE).nonzero().flatten()
    along = torch.arange(kspace.shape[-1], dtype=torch.float64) - centre[central, None]
    k = beside[central, None] + along[..., None] * step[central, None]  # (spoke, sample, dimension)
    strongest = int(kspace.abs().square().sum((1, 2, 3)).argmax())
    solution, error, unexplained, signal = consistent_delays(kspace[strongest][:, central], k, solution, entries)
    if unexplained > acquisition.noise_covariance.mean_variance + MISFIT**2 * signal:
        raise InputError(
            "the spokes are not those of one image",
            expected=f"all but noise and {MISFIT:.0%} of the signal near the centre explained by one image a coil",
            received=f"{(unexplained / signal) ** 0.5:.0%} not explained, whatever the delays",
            remedy="Check the angles and the order of the spokes.",
        )
    _check_error(error, len(pairs))
    delays, errors = (torch.zeros(trajectory.spatial_dims, trajectory.spatial_dims).double() for _ in range(2))
    for (a, b), value, of in zip(entries, solution, error, strict=True):
        delays[a, b] = delays[b, a] = value
        errors[a, b] = errors[b, a] = of
    return GradientDelays(delays, errors, len(pairs))


def correct_gradient_delays(acquisition: Acquisition, delays: GradientDelays | None = None) -> Acquisition:
    """The scan along its delayed spokes, k - T v; what was done is the last of its notes.

    Samples that leave the k-space of the image for any spoke are left out of all. A density stays that of the spokes as
    they were meant.

    Parameters
    ----------
    acquisition
        Radial, as for `estimate_gradient_delays`.
    delays
        T, for example of a calibration scan; ``None``: that of `estimate_gradient_delays` of this scan.

    Returns
    -------
    Acquisition
        The same samples at other coordinates.

    Raises
    ------
    InputError
        As `estimate_gradient_delays`.

    Examples
    --------
    >>> from mrnoise.sampling import radial
    >>> scan = Acquisition(torch.randn(3, 8, 32) + 0j, torch.eye(3), sampling=radial((16, 16), 8))
    >>> corrected = correct_gradient_delays(scan, GradientDelays(0.3 * torch.eye(2), torch.full((2, 2), 0.01), 20))
    >>> print(corrected.notes[-1][:60])
    corrected: gradient delays in samples: y 0.300 ± 0.010, x 0.
    >>> corrected.notes[-1].endswith("; 1 of 32 samples of each spoke left out, beyond k-space")
    True
    """
    trajectory = acquisition.sampling
    if not isinstance(trajectory, Trajectory):
        raise _no_spokes("samples on a grid")
    delays = estimate_gradient_delays(acquisition) if delays is None else delays
    step, *_ = _spokes(trajectory)
    late = (step @ delays.delays.to(step)).T.reshape(trajectory.spatial_dims, *trajectory.sample_shape[:-1], 1)
    coordinates = trajectory.coordinates - late.to(trajectory.coordinates)
    half = torch.tensor(trajectory.image_shape).to(coordinates).reshape(-1, *[1] * trajectory.sample_ndim) / 2
    inside = (coordinates.abs() <= half).flatten(0, -2).all(0)
    index = inside.nonzero().flatten()
    density = trajectory.density
    kept = {
        name: None if values is None else values.index_select(-1, index)
        for name in ("kspace", "averages", "calibration")
        for values in [getattr(acquisition, name)]
    }
    note = f"corrected: {delays}"
    if len(index) < len(inside):
        lost = len(inside) - len(index)
        note += f"; {lost} of {len(inside)} samples of each spoke left out, beyond k-space"
    sampling = Trajectory(
        coordinates.index_select(-1, index),
        trajectory.image_shape,
        None if density is None else density.index_select(-1, index),
    )
    return acquisition.replace(sampling=sampling, notes=(*acquisition.notes, note), **kept)


def _spokes(trajectory: Trajectory) -> tuple[Tensor, Tensor, Tensor]:
    """Step v a sample of each spoke (spoke, dimension), the point nearest to the centre, and its index on the spoke."""
    k = trajectory.coordinates.detach().cpu().double()
    if trajectory.sample_ndim < 2 or k.shape[-1] < 4:
        raise _no_spokes(f"samples {trajectory.sample_shape}")
    k = k.flatten(1, -2).movedim(0, 1)  # (spoke, dimension, sample)
    n = k.shape[-1]
    step = (k[..., -1] - k[..., 0]) / (n - 1)
    bent = (k - k[..., :1] - step[..., None] * torch.arange(n)).abs().amax()
    length = step.square().sum(1)
    centre = -(k[..., 0] * step).sum(1) / length
    if float(bent) > STRAIGHT or not bool(((centre > n / 4) & (centre < 3 * n / 4)).all()):
        raise _no_spokes(f"curves {float(bent):.2g} cycles from straight, or that do not pass the centre half way")
    return step, k[..., 0] + centre[:, None] * step, centre


def _opposed(direction: Tensor, beside: Tensor) -> Tensor:
    """Pairs (pair, 2) of spokes nearly opposite to each other, through nearly the same point."""
    from scipy.spatial import cKDTree

    tree = cKDTree(torch.cat([direction, beside], 1).numpy())
    _, other = tree.query(torch.cat([-direction, beside], 1).numpy())
    other = torch.from_numpy(np.asarray(other))
    angle = torch.linalg.vector_norm(direction + direction[other], dim=1)
    apart = torch.linalg.vector_norm(beside - beside[other], dim=1)
    near = (angle < np.deg2rad(OPPOSED)) & (apart < BESIDE)
    pairs = torch.stack([torch.arange(len(direction)), other], 1)[near]
    return torch.unique(pairs.sort(dim=1).values, dim=0)


def _delay(first: Tensor, second: Tensor, centres: float) -> Tensor:
    """Delay of two opposed spokes (image, coil, sample), the sum of whose centre indices is ``centres``."""
    n = first.shape[-1]
    turn = round(centres)  # sample j of the first is where turn - j of the second is
    low, high = max(0, turn - n + 1), min(n - 1, turn)
    reversed_ = second[..., turn - high : turn - low + 1].flip(-1)
    transforms = [torch.fft.fft(spoke) for spoke in (first[..., low : high + 1], reversed_)]
    cross = (transforms[0].conj() * transforms[1]).sum(1)
    count = int(LARGEST / STEP)
    shifts = 2 * STEP * torch.arange(-count, count + 1, dtype=torch.float64)
    frequency = torch.fft.fftfreq(cross.shape[-1], dtype=torch.float64)
    phase = torch.polar(torch.ones(()).double(), -2 * torch.pi * frequency[:, None] * shifts)
    correlation = (cross @ phase).abs().square().sum(0)
    best = int(correlation[1:-1].argmax()) + 1
    below, peak, above = correlation[best - 1 : best + 2]
    vertex = (below - above) / (2 * (below - 2 * peak + above))
    return (shifts[best] + 2 * STEP * vertex - (centres - turn)) / 2


def _check_error(error: Tensor, n_pairs: int) -> None:
    if not float(error.max()) < UNKNOWN:
        raise InputError(
            "opposed spokes disagree on the gradient delays",
            expected=f"delays with a standard error below {UNKNOWN:g} samples",
            received=f"{float(error.max()):.2g} samples from {n_pairs} pairs",
            remedy="Take a scan with more signal or spokes, or leave the delays as they are.",
        )


def _no_spokes(received: str) -> InputError:
    return InputError(
        "gradient delays are those of spokes",
        expected="a trajectory whose last axis of samples runs along straight lines through the centre, at equal steps",
        received=received,
        remedy="Leave the gradient delays of this scan as they are.",
    )
