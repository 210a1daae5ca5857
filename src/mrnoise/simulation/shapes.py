"""Shapes in continuous space: signed distances in mm, positive inside, of points (..., 3) as (x, y, z)."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np
import torch
from torch import Tensor

Point = Sequence[float]


def ellipsoid(points: Tensor, centre: Point, axes: Point, turn: float = 0.0) -> Tensor:
    """Ellipsoid with these half axes, turned about z by ``turn`` degrees; the distance is exact near it."""
    offset = points - points.new_tensor(centre)
    if turn:
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        x, y, z = offset.unbind(-1)
        offset = torch.stack([c * x + s * y, c * y - s * x, z], -1)
    scaled = offset / points.new_tensor(axes)
    rho = scaled.square().sum(-1).sqrt()
    slope = (scaled / points.new_tensor(axes)).square().sum(-1).sqrt()
    return (1 - rho) * rho / slope.clamp_min(1e-6)


def tube(points: Tensor, path: Sequence[Point], radii: Sequence[float]) -> Tensor:
    """Tube along a polyline, its radius interpolated between the corners."""
    corners = points.new_tensor(path)
    inside = torch.full_like(points[..., 0], -torch.inf)
    for a, b, r, s in zip(corners[:-1], corners[1:], radii[:-1], radii[1:], strict=True):
        along = b - a
        t = ((points - a) @ along / (along @ along)).clamp(0, 1)
        distance = (points - a - t[..., None] * along).square().sum(-1).sqrt()
        inside = soft_union(inside, r + (s - r) * t - distance, 2.0)
    return inside


def soft_union(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Larger of two distances, the corner rounded over ``width`` mm."""
    blend = (0.5 + 0.5 * (b - a) / width).clamp(0, 1)
    difference = torch.where(torch.isfinite(a), b - a, torch.zeros_like(b))
    rounded = a + difference * blend + width * blend * (1 - blend)
    return torch.where(torch.isfinite(a), rounded, b)


def soft_intersection(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Smaller of two distances, the corner rounded over ``width`` mm."""
    return -soft_union(-a, -b, width)


def waves(points: Tensor, wavelength: float, seed: int, count: int = 24) -> Tensor:
    """Random field of unit variance: plane waves of this wavelength (± 25 %, in mm) in all directions."""
    generator = np.random.default_rng([seed, 11])
    direction = generator.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    number = 2 * pi / wavelength * generator.uniform(0.75, 1.25, (count, 1)) * direction
    phase = generator.uniform(0, 2 * pi, count)
    angle = points @ points.new_tensor(number.T) + points.new_tensor(phase)
    return torch.cos(angle).sum(-1) * float(np.sqrt(2 / count))


def bend(points: Tensor, wavelength: float, amplitude: float, seed: int) -> Tensor:
    """Points moved by a smooth random displacement of this standard deviation in mm along each axis."""
    shift = [waves(points, wavelength, seed + axis, 12) for axis in range(3)]
    return points + amplitude * torch.stack(shift, -1)
