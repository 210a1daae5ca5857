"""Simulated multi-coil scans of anatomy: the examples a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
from torch import Tensor
from torch.nn import functional

from mrnoise.acquisition import Acquisition, NoiseCovariance
from mrnoise.calibration import with_coil_maps
from mrnoise.encoding import Cartesian
from mrnoise.errors import InputError
from mrnoise.sampling import PATTERNS, sampling_mask
from mrnoise.simulation import biot_savart_coils, random_noise_covariance, smooth_phase
from mrnoise.simulation.scan import FOREGROUND
from mrnoise.training.anatomy import PARTS, Anatomy, Part

# Coils and Poisson discs are slow to draw: examples share pools of them.
N_ARRAYS, N_DISCS = 24, 12
COARSE = 48  # grid of coil maps and phases, smooth enough to be interpolated
CALIBRATION_SCAN = 24
LARGEST_CONDITION = 40.0
EDGE = 0.06  # of the anatomy on each side, over which it fades: a leg has no end in a real image
CURVE = np.linspace(0, 1, 256)


@dataclass(frozen=True)
class ScanSettings:
    """What is drawn at random for an example.

    Parameters
    ----------
    matrix
        Choices of (y, x).
    coils
        Fewest and most coils.
    accelerations
        Choices of R, all samples over acquired samples, calibration lines counted.
    patterns
        Choices out of `mrnoise.sampling.PATTERNS`.
    snr
        Range of `mrnoise.simulation.Simulation.snr`, log-uniform.
    augment
        For training: random geometry and contrast; in half of the examples, a phase of fat and tissue of their own,
        and, in another half, maps that end at the object.
        Without, the whole anatomy fits the field of view, the slices come in order, and accelerations and
        patterns in turn.
    estimated_maps
        Coil maps by ESPIRiT from a separate noisy calibration scan instead of the true ones.

    Raises
    ------
    InputError
        If there is nothing to choose from, a pattern is unknown, or a range is not one.

    Examples
    --------
    >>> settings = ScanSettings(matrix=((32, 24),), coils=(4, 6), accelerations=(2,), snr=(20.0, 50.0))
    >>> settings.patterns, settings.augment
    (('caipi', 'equispaced', 'poisson', 'random_1d', 'random_2d'), True)
    """

    matrix: tuple[tuple[int, int], ...] = ((128, 128), (144, 128), (128, 160))
    coils: tuple[int, int] = (8, 16)
    accelerations: tuple[int, ...] = (4, 8, 12)
    patterns: tuple[str, ...] = tuple(sorted(PATTERNS))
    snr: tuple[float, float] = (10.0, 200.0)
    augment: bool = True
    estimated_maps: bool = False

    def __post_init__(self) -> None:
        possible = (
            bool(self.matrix and self.accelerations and self.patterns)
            and all(min(shape) >= 1 for shape in self.matrix)
            and all(r >= 1 for r in self.accelerations)
            and set(self.patterns) <= set(PATTERNS)
            and 1 <= self.coils[0] <= self.coils[1]
            and 0 < self.snr[0] <= self.snr[1] < float("inf")
        )
        if not possible:
            raise InputError(
                "scan settings are not possible",
                expected="a matrix, an acceleration of at least 1 and a pattern out of "
                + ", ".join(PATTERNS)
                + "; ranges (lowest, highest) of coils from 1 and of a positive SNR",
                received=str(self),
                remedy="Start from the defaults, ScanSettings().",
            )


@dataclass(frozen=True, eq=False)
class Example:
    """One scan and the image that a perfect reconstruction would give.

    Parameters
    ----------
    acquisition
        Noisy and undersampled, y = M (F S x + Ψ^{1/2} v), with coil maps whose whitened root sum of squares is 1.
    target
        complex64, (y, x): Σ_c conj(S'_c) (S' x)_c, S' the whitened maps, without noise.
    acceleration
        R that was asked for.
    pattern
        Name of the sampling pattern.
    snr
        `mrnoise.simulation.Simulation.snr` of the target in the true maps.
    slice_index
        Which slice of the part it shows.

    Examples
    --------
    >>> from mrnoise.simulation import head_phantom
    >>> anatomy = Anatomy("head phantom", head_phantom((20, 32, 24))[:, None], gap=1)
    >>> settings = ScanSettings(matrix=((32, 24),), coils=(4, 4), accelerations=(2,), snr=(30.0, 30.0))
    >>> example = SimulatedScans(anatomy, "train", settings).example(7)
    >>> example.acquisition.image_shape, tuple(example.target.shape), example.pattern, round(example.snr, 1)
    ((32, 24), (32, 24), 'random_1d', 30.0)
    """

    acquisition: Acquisition
    target: Tensor
    acceleration: int
    pattern: str
    snr: float
    slice_index: int


class SimulatedScans:
    """Random scans of one part of an anatomy, each a pure function of its index.

    Parameters
    ----------
    anatomy, part
        What is scanned. Parts differ in everything else that is drawn, too.
    settings
        What is drawn at random.
    seed
        Draws it.

    Raises
    ------
    InputError
        If there is no such part.

    Examples
    --------
    >>> from mrnoise.simulation import head_phantom
    >>> anatomy = Anatomy("head phantom", head_phantom((20, 32, 24))[:, None], gap=1)
    >>> scans = SimulatedScans(anatomy, "train", ScanSettings(matrix=((32, 24),), accelerations=(2,)), seed=3)
    >>> first, again = scans.example(5), scans.example(5)
    >>> len(scans), torch.equal(first.acquisition.kspace, again.acquisition.kspace)
    (13, True)
    """

    def __init__(self, anatomy: Anatomy, part: Part, settings: ScanSettings, seed: int = 0) -> None:
        self.settings = settings
        self._slices = anatomy.split(part)
        self._key = (seed, PARTS.index(part))
        self._arrays: dict[tuple[int, int], Tensor] = {}
        self._discs: dict[tuple[int, tuple[int, int], int], Tensor] = {}

    def __len__(self) -> int:
        """Number of slices of the part."""
        return len(self._slices)

    def example(self, index: int) -> Example:
        """Example of this index, any number from 0; calls before it make no difference.

        Raises
        ------
        InputError
            If the index is negative.
        """
        if index < 0:
            raise InputError(
                "example does not exist",
                expected="an index of at least 0",
                received=str(index),
                remedy="Examples are numbered from 0, without end.",
            )
        draw = np.random.default_rng([*self._key, 0, index])
        settings = self.settings
        shape = settings.matrix[draw.integers(len(settings.matrix))]
        acceleration, name = self._sampling(index, draw)
        slice_index, magnitude = self._magnitude(index, shape, draw)
        phase = draw.uniform(0, 1.5) * smooth_phase((COARSE, COARSE), _integer(draw))
        phase = _stretch(phase, shape) + float(draw.uniform(0, 2 * np.pi))
        if settings.augment and draw.random() < 0.5:
            phase = phase + _tissue_phase(magnitude, draw)
        image = torch.polar(magnitude, phase)

        n_coils = int(draw.integers(settings.coils[0], settings.coils[1] + 1))
        sensitivity = self._sensitivity(n_coils, shape, draw)
        condition = float(LARGEST_CONDITION ** draw.random()) if n_coils > 1 else 1.0
        psi = random_noise_covariance(n_coils, condition, _integer(draw))
        white = torch.view_as_real(psi.whiten(sensitivity, 0) * psi.mean_variance**0.5)
        rss = white.square().sum((0, -1)).sqrt()
        maps, target = sensitivity / rss, image * rss

        # σ of the fully sampled image is √ψ everywhere, as the whitened maps have unit norm.
        strength = target.abs()
        snr = float(np.exp(draw.uniform(*np.log(settings.snr))))
        std = float(strength[strength > FOREGROUND * strength.max()].mean()) / snr
        psi = psi.scaled(std**2 / psi.mean_variance, f"SNR {snr:.3g}")

        mask = self._mask(name, acceleration, shape, draw)
        signal = Cartesian(maps, torch.ones(shape, dtype=torch.bool)).forward(target)
        generator = torch.Generator().manual_seed(_integer(draw))
        if settings.augment and not settings.estimated_maps and draw.random() < 0.5:
            window = _window(magnitude, int(draw.integers(1, 4)), int(draw.integers(2, 5)))
            maps, target = maps * window, target * window
        source = f"simulation {self._key}, example {index}"
        acquisition = Acquisition(signal + _noise(signal, psi, generator), psi, mask, coil_maps=maps, source=source)
        if settings.estimated_maps:
            acquisition, target = _with_estimated_maps(acquisition, signal, generator)
        return Example(acquisition, target, acceleration, name, snr, slice_index)

    # -- sampling ----------------------------------------------------------------------------------------------

    def _sampling(self, index: int, draw: np.random.Generator) -> tuple[int, str]:
        accelerations, patterns = self.settings.accelerations, self.settings.patterns
        i, j = int(draw.integers(len(accelerations))), int(draw.integers(len(patterns)))
        if not self.settings.augment:
            j, i = divmod(index, len(accelerations))
        return accelerations[i], patterns[j % len(patterns)]

    def _mask(self, name: str, acceleration: int, shape: tuple[int, int], draw: np.random.Generator) -> Tensor:
        seed = _integer(draw)
        if name != "poisson":
            return sampling_mask(name, acceleration, shape, seed)
        member, flips = seed % N_DISCS, draw.integers(2, size=2)
        key = (acceleration, shape, member)
        if key not in self._discs:
            seed = _integer(np.random.default_rng([*self._key, 1, acceleration, *shape, member]))
            self._discs[key] = sampling_mask(name, acceleration, shape, seed)
        mask = self._discs[key]
        for axis, n in enumerate(shape):
            if flips[axis]:
                mask = mask[(slice(None),) * axis + ((2 * (n // 2) - torch.arange(n)) % n,)]  # the centre stays
        return mask

    # -- coils -------------------------------------------------------------------------------------------------

    def _sensitivity(self, n_coils: int, shape: tuple[int, int], draw: np.random.Generator) -> Tensor:
        """Sensitivities (coil, y, x) of an array of the pool, mirrored at random."""
        key = (n_coils, int(draw.integers(N_ARRAYS)))
        if key not in self._arrays:
            member = np.random.default_rng([*self._key, 2, *key])
            radius, z = float(member.uniform(1.2, 1.6)), float(member.uniform(-0.2, 0.2))
            array = biot_savart_coils(n_coils, (1, COARSE, COARSE), _integer(member), radius, [z])
            self._arrays[key] = array[:, 0]
        flipped = [axis + 1 for axis in range(2) if draw.integers(2)]
        array = self._arrays[key].flip(flipped)
        return torch.complex(_stretch(array.real, shape), _stretch(array.imag, shape))

    # -- object ------------------------------------------------------------------------------------------------

    def _magnitude(self, index: int, shape: tuple[int, int], draw: np.random.Generator) -> tuple[int, Tensor]:
        """The slice shown, and |x| (y, x), from 0 to about 1."""
        contrast = int(draw.integers(self._slices.shape[1]))
        if not self.settings.augment:
            chosen = index % len(self)
            pose, source = Pose(), self._slices[chosen, contrast]
        else:
            chosen = int(draw.integers(len(self)))
            source = _remap(self._slices[chosen, contrast], draw)
            pose = Pose(
                angle=float(np.radians(draw.uniform(-12, 12))),
                scale=float(np.exp(draw.uniform(np.log(0.8), np.log(1.6)))),
                shift=tuple(draw.uniform(-0.12, 0.12, 2).tolist()),
                flips=tuple(bool(f) for f in draw.integers(2, size=2)),
                turned=bool(draw.integers(2)),
            )
        return chosen, _place(source * self._fade, shape, pose)

    @cached_property
    def _fade(self) -> Tensor:
        sides = []
        for n in self._slices.shape[-2:]:
            distance = torch.minimum(torch.arange(n) + 0.5, n - torch.arange(n) - 0.5)
            sides.append(torch.sin(0.5 * torch.pi * (distance / (EDGE * n)).clamp(0, 1)) ** 2)
        return sides[0][:, None] * sides[1]


class Pose(NamedTuple):
    """How the anatomy lies in the field of view; the default fits it, upright and centred."""

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, ...] = (0.0, 0.0)  # (y, x), in fields of view
    flips: tuple[bool, ...] = (False, False)  # (y, x)
    turned: bool = False  # y and x exchanged


# -- noise -----------------------------------------------------------------------------------------------------


def _noise(signal: Tensor, psi: NoiseCovariance, generator: torch.Generator) -> Tensor:
    return psi.colour(torch.randn(signal.shape, dtype=signal.dtype, generator=generator), 0)


def _with_estimated_maps(
    acquisition: Acquisition, signal: Tensor, generator: torch.Generator
) -> tuple[Acquisition, Tensor]:
    """Acquisition with ESPIRiT maps of a separate calibration scan, and the target that belongs to them."""
    scan = signal + _noise(signal, acquisition.noise_covariance, generator)
    acquisition = with_coil_maps(acquisition.replace(calibration=calibration_scan(scan)))
    assert acquisition.coil_maps is not None
    everywhere = Cartesian(acquisition.whiten_maps(acquisition.coil_maps), torch.ones_like(acquisition.mask))
    return acquisition, everywhere.adjoint(acquisition.whiten(signal))


def calibration_scan(kspace: Tensor) -> Tensor:
    """The central 24×24 samples of (coil, k1, k0), zero elsewhere."""
    half = CALIBRATION_SCAN // 2
    rows, columns = (slice(max(n // 2 - half, 0), n // 2 + half) for n in kspace.shape[1:])
    lines = torch.zeros_like(kspace)
    lines[:, rows, columns] = kspace[:, rows, columns]
    return lines


def _integer(draw: np.random.Generator) -> int:
    return int(draw.integers(2**31))


# -- geometry and contrast -------------------------------------------------------------------------------------


def _stretch(fields: Tensor, shape: tuple[int, int]) -> Tensor:
    """Smooth fields (..., COARSE, COARSE) on another grid, corner on corner."""
    return _weights(shape[0]) @ fields @ _weights(shape[1]).mT


@cache
def _weights(n: int) -> Tensor:
    """Bicubic interpolation from COARSE points to n, (n, COARSE)."""
    eye = torch.eye(COARSE)[None, None]
    return functional.interpolate(eye, (n, COARSE), mode="bicubic", align_corners=True)[0, 0]


def _place(source: Tensor, shape: tuple[int, int], pose: Pose) -> Tensor:
    """Anatomy (y, x) in this pose on the grid of the scan, square pixels on square pixels."""
    if pose.turned:
        source = source.mT
    flipped = [axis for axis in range(2) if pose.flips[axis]]
    if flipped:
        source = source.flip(flipped)
    # Voxels of the scan for one of the anatomy; the resampling below neither shrinks nor enlarges.
    zoom = pose.scale * min(n / m for n, m in zip(shape, source.shape, strict=True))
    size = [max(1, round(zoom * m)) for m in source.shape]
    small = functional.interpolate(source[None, None], size, mode="bilinear", antialias=True, align_corners=False)
    c, s = np.cos(pose.angle), np.sin(pose.angle)
    (ny, nx), (my, mx) = shape, size
    dy, dx = pose.shift
    theta = torch.tensor(
        [[[c * nx / mx, s * ny / mx, -2 * dx * nx / mx], [-s * nx / my, c * ny / my, -2 * dy * ny / my]]],
        dtype=torch.float32,
    )
    grid = functional.affine_grid(theta, [1, 1, ny, nx], align_corners=False)
    placed = functional.grid_sample(small, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return placed[0, 0].clamp_min(0)


def _remap(source: Tensor, draw: np.random.Generator) -> Tensor:
    """Another contrast: gamma and a smooth curve through 0, so that air stays air."""
    gamma = np.exp(draw.uniform(-0.4, 0.5))
    knots = np.concatenate([[0.0], np.cumsum(draw.uniform(0.5, 1.5, 5))])
    values = np.concatenate([[0.0], draw.uniform(0.1, 1.0, 5)])
    curve = PchipInterpolator(knots / knots[-1], values)(CURVE**gamma)
    mix = draw.random()
    table = torch.from_numpy((mix * curve / curve.max() + (1 - mix) * CURVE**gamma).astype(np.float32))
    place = source * (len(CURVE) - 1)
    below = place.long().clamp_max(len(CURVE) - 2)
    return torch.lerp(table[below], table[below + 1], place - below)


def _tissue_phase(magnitude: Tensor, draw: np.random.Generator) -> Tensor:
    """Phase that follows the tissue, as chemical shift and susceptibility give it, and a rough one besides.

    Fat has its own frequency, and local fields turn the phase within a few voxels: a network that has only seen
    smooth phase blurs the scalp of a real scan.
    """
    edge, width = draw.uniform(0.2, 0.9), draw.uniform(0.05, 0.3)
    tissue = draw.uniform(-np.pi, np.pi) * torch.sigmoid((magnitude / magnitude.max() - edge) / width)
    rough = ndimage.gaussian_filter(draw.standard_normal(magnitude.shape), draw.uniform(2, 8), mode="wrap")
    rough *= draw.uniform(0, 0.5) / rough.std()
    return tissue + torch.from_numpy(rough.astype(np.float32))


def _window(magnitude: Tensor, margin: int, taper: int) -> Tensor:
    """1 on the object and ``margin`` voxels around it, then falling to 0 over 2 ``taper`` + 1 voxels."""
    inside = ndimage.binary_fill_holes((magnitude > 0.05 * magnitude.max()).numpy()).astype(np.float32)
    wide = ndimage.maximum_filter(inside, 2 * (margin + taper) + 1, mode="nearest")
    return torch.from_numpy(ndimage.uniform_filter(wide, 2 * taper + 1, mode="nearest").clip(0, 1))
