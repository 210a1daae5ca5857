"""A receive array around the head: its sensitivities and its noise covariance."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, pi

import numpy as np
import torch
from scipy.special import ellipe, ellipk
from torch import Tensor

from mrnoise.acquisition.noise_covariance import NoiseCovariance
from mrnoise.checks import check_seed
from mrnoise.errors import InputError

CONDUCTOR = 0.12  # softens the field at the wire, which may cross the corners of the field of view


def biot_savart_coils(
    n_coils: int,
    shape: Sequence[int],
    seed: int | None = None,
    radius: float = 1.25,
    z: Sequence[float] | None = None,
) -> Tensor:
    """Receive sensitivities of circular loops on a cylinder around the head.

    S_c = (B_x - i B_y) of a unit current in loop c, from the closed form of the Biot-Savart integral of a
    circular loop. The main field points along z, the loops face the axis.

    Parameters
    ----------
    n_coils
        Number of loops: one ring up to 8, two up to 20, three beyond.
    shape
        (y, x) or (z, y, x); the field of view runs from -1 to 1 along every axis.
    seed
        Disturbs position, tilt and phase of every loop. ``None``: a regular array.
    radius
        Of the cylinder, in half fields of view.
    z
        Positions of the slices, in half fields of view. ``None``: the whole field of view for three axes,
        0 for two.

    Returns
    -------
    Tensor
        complex64, (coil, y, x) or (coil, z, y, x). Smooth everywhere and not normalised per voxel; the
        largest root sum of squares inside a sphere of 0.9 is 1.

    Raises
    ------
    InputError
        If a number or shape is not possible.

    Examples
    --------
    >>> maps = biot_savart_coils(8, (16, 12))
    >>> tuple(maps.shape), round(float(maps.abs().square().sum(0).sqrt()[8, 6]), 2)
    ((8, 16, 12), 0.32)
    >>> int(maps[:, 8, 11].abs().argmax()), int(maps[:, 8, 0].abs().argmax())  # nearest coils at high and low x
    (0, 4)
    """
    if n_coils < 1 or radius <= 0:
        raise InputError(
            "receive array is not possible",
            expected="at least 1 coil on a cylinder of positive radius",
            received=f"{n_coils} coils, radius {radius:g}",
            remedy="Use 8 coils at radius 1.25.",
        )
    points = positions(shape, z)
    if seed is not None:
        check_seed(seed)
    generator = None if seed is None else np.random.default_rng(seed)
    maps = np.stack([_loop(points, *loop) for loop in _array(n_coils, radius, generator)])
    inside = (points**2).sum(-1) < 0.9**2
    rss = np.sqrt((np.abs(maps) ** 2).sum(0))
    peak = rss[inside].max() if inside.any() else rss.max()
    maps = (maps / peak).reshape(n_coils, *shape)
    return torch.from_numpy(maps.astype(np.complex64))


def random_noise_covariance(n_coils: int, condition_number: float = 20.0, seed: int = 0) -> NoiseCovariance:
    """Noise covariance of a badly decoupled array.

    Ψ = U Λ Uᴴ with U a random unitary matrix, and eigenvalues evenly spaced in the logarithm from 1 to the
    condition number, then scaled to a mean variance of 1.

    Parameters
    ----------
    n_coils
        Number of coils.
    condition_number
        Largest over smallest eigenvalue, met exactly. 1 gives uncorrelated coils of equal noise.
    seed
        Draws U.

    Returns
    -------
    NoiseCovariance
        Total complex variance, mean over coils 1.

    Raises
    ------
    InputError
        If the condition number is below 1, or above 1 for a single coil.

    Examples
    --------
    >>> psi = random_noise_covariance(8, condition_number=20.0)
    >>> round(psi.condition_number, 6), round(psi.mean_variance, 6), round(psi.largest_correlation, 2)
    (20.0, 1.0, 0.55)
    """
    if n_coils < 1 or condition_number < 1 or (n_coils == 1 and condition_number != 1):
        raise InputError(
            "noise covariance is not possible",
            expected="a condition number of at least 1, exactly 1 for a single coil",
            received=f"{n_coils} coils, condition number {condition_number:g}",
            remedy="Use condition_number=1 for uncorrelated coils.",
        )
    check_seed(seed)
    generator = np.random.default_rng([seed, n_coils])
    gaussian = generator.standard_normal((n_coils, n_coils, 2)) @ np.array([1, 1j])
    unitary, triangle = np.linalg.qr(gaussian)
    unitary = unitary * (np.diag(triangle) / np.abs(np.diag(triangle)))  # Haar, doi:10.48550/math-ph/0609050
    eigenvalues = np.geomspace(1.0, condition_number, n_coils)
    matrix = (unitary * (eigenvalues / eigenvalues.mean())) @ unitary.conj().T
    return NoiseCovariance(torch.from_numpy(matrix), source="simulation")


def positions(shape: Sequence[int], z: Sequence[float] | None = None) -> np.ndarray:
    """Voxel centres (voxel, 3) as (x, y, z), from -1 to 1 over the field of view, origin at n // 2.

    ``shape`` is (y, x) or (z, y, x); ``z`` replaces the positions of its slices.
    """
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(
            "image has the wrong shape",
            expected="(y, x) or (z, y, x), no axis empty",
            received=str(tuple(shape)),
            remedy="Give the spatial axes of one image or volume.",
        )
    axes = [(np.arange(n) - n // 2) / (n / 2) for n in shape]
    if len(shape) == 2:
        axes.insert(0, np.zeros(1))
    if z is not None:
        if len(z) != len(axes[0]):
            raise InputError(
                "slice positions do not fit the image",
                expected=f"{len(axes[0])} positions for shape {tuple(shape)}",
                received=str(len(z)),
                remedy="Give one z for each slice.",
            )
        axes[0] = np.asarray(z, dtype=float)
    grid = np.meshgrid(*axes, indexing="ij")
    return np.stack([axis.ravel() for axis in grid[::-1]], axis=-1)


Loop = tuple[np.ndarray, np.ndarray, float, complex]  # centre, unit normal, radius, phase


def _array(n_coils: int, radius: float, generator: np.random.Generator | None) -> list[Loop]:
    """Rings of loops that overlap a little, every other ring turned by half a step."""
    n_rings = 1 if n_coils <= 8 else 2 if n_coils <= 20 else 3
    loops: list[Loop] = []
    for ring in range(n_rings):
        count = len(range(ring, n_coils, n_rings))
        size = min(1.2 * radius * pi / ceil(n_coils / n_rings), 0.6 * radius)
        height = (ring - (n_rings - 1) / 2) * 1.5 * size
        for k in range(count):
            angle = 2 * pi * (k + 0.5 * (ring % 2)) / count
            tilt, phase = np.zeros(3), 0.0
            if generator is not None:
                angle += 0.15 * size * generator.standard_normal()
                height += 0.05 * size * generator.standard_normal()
                tilt = 0.1 * generator.standard_normal(3)
                phase = 2 * pi * generator.random()
            outward = np.array([np.cos(angle), np.sin(angle), 0.0])
            centre = radius * outward + np.array([0.0, 0.0, height])
            normal = -outward + tilt
            loops.append((centre, normal / np.linalg.norm(normal), size, complex(np.exp(1j * phase))))
    return loops


def _loop(points: np.ndarray, centre: np.ndarray, normal: np.ndarray, a: float, phase: complex) -> np.ndarray:
    """B_x - i B_y of a current loop of radius a at all points.

    With s = a² + ρ² + h² + ε², β² = s + 2aρ, α² = s - 2aρ and m = 1 - α²/β², in the frame of the loop:
    B_h = 2 [(2a² - s) E(m) + α² K(m)] / (α² β),  B_ρ = 2 h [s E(m) - α² K(m)] / (ρ α² β).
    """
    offset = points - centre
    h = offset @ normal
    across = offset - h[:, None] * normal
    rho = np.maximum(np.linalg.norm(across, axis=-1), 1e-6)  # on the axis B_ρ is 0
    s = a**2 + rho**2 + h**2 + CONDUCTOR**2
    alpha2, beta2 = s - 2 * a * rho, s + 2 * a * rho
    m = 1 - alpha2 / beta2
    e, k = ellipe(m), ellipk(m)
    scale = 2 / (alpha2 * np.sqrt(beta2))
    b_h = scale * ((2 * a**2 - s) * e + alpha2 * k)
    b_rho = scale * h / rho * (s * e - alpha2 * k)
    field = b_h[:, None] * normal + (b_rho / rho)[:, None] * across
    return np.asarray(phase * (field[:, 0] - 1j * field[:, 1]))
