"""A head to scan: anatomy drawn by formulas in continuous space, at any resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi

import numpy as np
import torch
from torch import Tensor

from mrnoise.simulation.coils import positions
from mrnoise.simulation.shapes import bend, ellipsoid, soft_intersection, soft_union, tube, waves

HALF_FIELD = 110.0  # mm
CENTRE = 6.0  # mm, height of the field of view above the origin of the anatomy
EDGE = 0.8  # mm, over which tissues mix at least
CHUNK = 2**15  # points drawn at a time
DISC, DISC_BEAT, DISC_CONTRAST = 30.0, 10.0, 0.6  # of a beating disc: radius at rest and its change in mm, brightness

# Signal of a T1-weighted gradient echo.
SIGNAL = {
    "air": 0.0,
    "skin": 0.42,
    "fat": 0.9,
    "muscle": 0.36,
    "bone": 0.05,
    "marrow": 0.62,
    "dura": 0.3,
    "fluid": 0.13,
    "grey": 0.52,
    "white": 0.8,
    "deep": 0.58,
    "pallidum": 0.69,
    "thalamus": 0.64,
    "lesion": 0.45,
    "vessel": 0.97,
}


def head_phantom(shape: Sequence[int], z: Sequence[float] | None = None) -> Tensor:
    """T1-weighted head without noise: scalp, skull, folded cortex, ventricles, deep grey matter, lesions.

    Parameters
    ----------
    shape
        (y, x) for an axial slice, (z, y, x) for a volume; 220 mm along every axis, anterior at low y,
        superior at high z.
    z
        Positions of the slices from -1 to 1 over the field of view, as in `biot_savart_coils`.
        ``None``: the whole field of view for three axes, 0 (basal ganglia) for two.

    Returns
    -------
    Tensor
        float32, ``shape``, from 0 to 1. Edges are as wide as a voxel, and 0.8 mm at least.

    Raises
    ------
    InputError
        If the shape is not that of an image or volume, or ``z`` does not fit it.

    Examples
    --------
    >>> head = head_phantom((64, 48))
    >>> tuple(head.shape), float(head[0, 0]), round(float(head.max()), 2)
    ((64, 48), 0.0, 0.91)
    >>> tuple(head_phantom((10, 64, 48)).shape)
    (10, 64, 48)
    """
    points = torch.from_numpy(positions(shape, z).astype(np.float32)) * HALF_FIELD
    edge = max(EDGE, 2 * HALF_FIELD / max(shape[-2:]))
    image = torch.cat([_draw(some, edge) for some in torch.split(points, CHUNK)])
    return image.reshape(tuple(shape)).clamp(0, 1)


def beating_disc(shape: Sequence[int], n_frames: int, z: Sequence[float] | None = None) -> Tensor:
    """What a disc that beats does to an image: factors of its signal over one beat.

    Inside a disc (in a volume, a ball) in the middle, whose radius is 30 mm less 10 mm (1 - cos 2πk/T) / 2 in frame k
    of T, the signal is 1.6 times as strong.

    Parameters
    ----------
    shape, z
        As for `head_phantom`.
    n_frames
        T.

    Returns
    -------
    Tensor
        float32, (frame, *shape).

    Raises
    ------
    InputError
        As `head_phantom`.

    Examples
    --------
    >>> factor = beating_disc((64, 48), 4)
    >>> tuple(factor.shape), [int((frame > 1.3).sum()) for frame in factor]  # voxels inside
    ((4, 64, 48), [177, 125, 83, 125])
    """
    points = torch.from_numpy(positions(shape, z).astype(np.float32)) * HALF_FIELD
    if len(shape) == 2 or z is not None:
        points = points[:, :2]
    distance = points.square().sum(-1).sqrt().reshape(tuple(shape))
    phase = 2 * pi * torch.arange(n_frames) / n_frames
    radius = (DISC - 0.5 * DISC_BEAT * (1 - torch.cos(phase))).reshape(-1, *[1] * len(shape))
    edge = max(EDGE, 2 * HALF_FIELD / max(shape[-2:]))
    return 1 + DISC_CONTRAST * (0.5 + (radius - distance) / edge).clamp(0, 1)


def smooth_phase(shape: Sequence[int], seed: int = 0, z: Sequence[float] | None = None) -> Tensor:
    """Phase of the object in rad, a slowly varying random polynomial of third order.

    Parameters
    ----------
    shape
        (y, x) or (z, y, x).
    seed
        Draws the coefficients.
    z
        Positions of the slices, as in `head_phantom`.

    Returns
    -------
    Tensor
        float32, ``shape``.

    Raises
    ------
    InputError
        As `head_phantom`.

    Examples
    --------
    >>> phase = smooth_phase((16, 12), seed=3)
    >>> step = phase.diff(dim=0).abs().max()  # rad from voxel to voxel
    >>> tuple(phase.shape), round(float(step), 2)
    ((16, 12), 0.71)
    """
    x, y, h = positions(shape, z).T
    generator = np.random.default_rng([seed, 3])
    phase = np.zeros_like(x)
    for i in range(4):
        for j in range(4 - i):
            for k in range(4 - i - j):
                phase += generator.standard_normal() * x**i * y**j * h**k
    return torch.from_numpy(phase.reshape(tuple(shape)).astype(np.float32))


class _Canvas:
    """Tissues painted over each other."""

    def __init__(self, like: Tensor, edge: float, image: Tensor | None = None) -> None:
        self.image = torch.zeros_like(like) if image is None else image
        self.edge = edge

    def paint(self, inside: Tensor, signal: str | Tensor, strength: float = 1.0) -> None:
        cover = strength * (0.5 + inside / self.edge).clamp(0, 1)
        value = SIGNAL[signal] if isinstance(signal, str) else signal
        self.image = self.image + cover * (value - self.image)


def _draw(points: Tensor, edge: float) -> Tensor:
    """Signal of points (point, 3) in mm."""
    p = bend(points + points.new_tensor([0.0, 0.0, CENTRE]), 90.0, 1.6, 1)  # no head is symmetric
    scalp = _scalp(p)
    head = scalp > -edge
    p, scalp = p[head], scalp[head]
    canvas = _Canvas(scalp, edge)
    _paint_scalp_and_skull(canvas, p, scalp)
    _paint_face(canvas, p, scalp)
    _paint_posterior_fossa(canvas, p, scalp)
    brain = _brain_depth(p, scalp)
    inside = brain > -2 * edge
    cerebrum = _Canvas(brain[inside], edge, canvas.image[inside])
    _paint_cerebrum(cerebrum, p[inside], brain[inside])
    _paint_deep_structures(cerebrum, p[inside])
    canvas.image[inside] = cerebrum.image
    image = torch.zeros_like(points[:, 0])
    image[head] = canvas.image
    return image


# -- outside the brain -----------------------------------------------------------------------------------------


def _scalp(p: Tensor) -> Tensor:
    """Depth below the skin."""
    x, y, z = p.unbind(-1)
    x = x / (1 + 0.0006 * y)  # widest behind the ears
    z = torch.where(z > 0, z, 0.35 * z)  # face and neck instead of a closed ellipsoid
    return ellipsoid(torch.stack([x, y, z], -1), (0, 2, 0), (76, 95, 92))


def _paint_scalp_and_skull(canvas: _Canvas, p: Tensor, scalp: Tensor) -> None:
    x, y, z = p.unbind(-1)
    thick = waves(p, 60.0, 20)
    temple = torch.exp(-(((y + 25) / 28) ** 2) - ((z + 12) / 32) ** 2) * (x.abs() > 30)
    outer = 5.5 + 0.8 * thick + 5 * temple  # depth of the outer table
    canvas.paint(scalp, "skin")
    canvas.paint(scalp - 1.8, torch.as_tensor(SIGNAL["fat"]) + 0.04 * waves(p, 9.0, 21))
    canvas.paint(torch.minimum(scalp - 3.2, 7.5 * temple - (scalp - 3.2)), "muscle")
    canvas.paint(torch.minimum(scalp - outer + 0.9, outer - scalp + 0.4), "muscle")
    canvas.paint(scalp - outer, "bone")
    diploe = 1.5 + 0.5 * waves(p, 45.0, 22) - 1.2 * temple
    middle = outer + 3.6
    canvas.paint(diploe - (scalp - middle).abs(), torch.as_tensor(SIGNAL["marrow"]) + 0.08 * waves(p, 7.0, 23))
    canvas.paint(scalp - outer - 7.0, "dura")
    canvas.paint(scalp - outer - 7.9, "fluid")


def _paint_face(canvas: _Canvas, p: Tensor, scalp: Tensor) -> None:
    """Skull base, orbits and nasal cavity, where there is no brain above them."""
    x, y, z = p.unbind(-1)
    below = torch.minimum(scalp - 7, _floor(p) - z + 1.5)
    canvas.paint(below, SIGNAL["muscle"] + 0.07 * waves(p, 16.0, 90) + 0.03 * waves(p, 6.0, 91))
    plate = 2.2 - (_floor(p) - z - 1.5).abs() - 3 * torch.sigmoid((y - 28) / 2)
    canvas.paint(torch.minimum(below, plate), "bone")
    canvas.paint(torch.minimum(below, waves(p, 22.0, 92) * 3 - 2.5), "bone")
    p = torch.stack([x.abs(), y, z], -1)
    orbit = torch.minimum(ellipsoid(p, (30, -54, -36), (18, 25, 16)), scalp - 1.5)
    canvas.paint(orbit, "bone")
    orbit = torch.minimum(orbit - 1.8, scalp - 3.0)
    canvas.paint(orbit, SIGNAL["fat"] + 0.05 * waves(p, 7.0, 93))
    for path in (((41, -58, -36), (38, -46, -36), (20, -34, -35)), ((18, -58, -36), (17, -45, -36), (14, -34, -35))):
        canvas.paint(tube(p, path, (1.4, 2.2, 1.4)), "muscle")
    canvas.paint(tube(p, ((29, -56, -36), (24, -42, -34), (9, -28, -30)), (1.9, 1.8, 1.8)), "white")
    globe = ellipsoid(p, (29.5, -65, -36), (11.5, 11.5, 11.5))
    canvas.paint(globe, "skin")
    canvas.paint(globe - 1.2, "fluid")
    canvas.paint(ellipsoid(p, (29.5, -73, -36), (4.4, 1.9, 4.4)), "deep")
    nose = ellipsoid(p, (0, -62, -44), (10, 24, 24))
    canvas.paint(nose, "bone")
    canvas.paint(torch.minimum(nose, 1.2 - (waves(p, 9.0, 94) * 2.2).abs()), "muscle")
    canvas.paint(ellipsoid(p, (0, -32, -46), (11, 10, 9)), "air")  # sphenoid sinus
    canvas.paint(torch.minimum(ellipsoid(p, (50, 22, -46), (15, 15, 14)), scalp - 8), "bone")  # mastoid


def _paint_posterior_fossa(canvas: _Canvas, p: Tensor, scalp: Tensor) -> None:
    """Cerebellum and brain stem below the tentorium."""
    x, y, z = p.unbind(-1)
    mirrored = torch.stack([x.abs(), y, z], -1)
    lobes = ellipsoid(mirrored, (20, 45, -42), (33, 30, 25))
    room = soft_union(lobes + 3, ellipsoid(p, (0, 14, -36), (18, 17, 60)), 6.0)
    room = torch.minimum(torch.minimum(room, scalp - 13.5), _floor(p) + 1 - z)
    canvas.paint(room + 1.5, "bone")
    canvas.paint(room, "fluid")
    cerebellum = torch.minimum(soft_intersection(lobes, scalp - 15, 3.0), _floor(p) - 1.8 - z)
    stripe = torch.stack([x, y - 16, 1.2 * (z + 34)], -1).square().sum(-1).sqrt()
    folia = torch.cos(2 * pi * stripe / 4.4 + 1.5 * waves(p, 16.0, 95) + 0.6 * waves(p, 7.0, 96))
    canvas.paint(cerebellum, SIGNAL["grey"] + 0.13 * folia - 0.14 * (folia < -0.6) * (cerebellum < 14))
    core = ellipsoid(mirrored, (17, 36, -38), (16, 11, 9), 35)
    canvas.paint(torch.minimum(cerebellum, core + 1.8 * waves(p, 12.0, 97)), "white")
    canvas.paint(ellipsoid(mirrored, (15, 38, -38), (6, 3.5, 4), 35), "thalamus")  # dentate nucleus
    stem = tube(p, ((0, 9, -8), (0, 11, -22), (0, 10, -36), (0, 19, -62), (0, 24, -115)), (11, 13, 16, 9, 7))
    canvas.paint(stem, SIGNAL["white"] - 0.05 + 0.02 * waves(p, 10.0, 98))
    canvas.paint(ellipsoid(p, (0, 27, -38), (6.5, 4, 10)), "fluid")  # fourth ventricle
    canvas.paint(ellipsoid(p, (0, -6, -34), (2.0, 2.0, 40)), "vessel")  # basilar artery


# -- cerebrum --------------------------------------------------------------------------------------------------


def _floor(p: Tensor) -> Tensor:
    """Height of the skull base: anterior fossa, middle fossae beside the sella, tentorium."""
    x, y, _ = p.unbind(-1)
    middle = torch.sigmoid((y + 34) / 3) * torch.sigmoid((x.abs() - 17) / 2.5)
    behind = torch.sigmoid((y - 24 - 0.2 * x.abs()) / 4)
    return -23 - 22 * middle * (1 - behind) + (6 - 0.3 * (y - 30)) * behind


def _brain_depth(p: Tensor, scalp: Tensor) -> Tensor:
    """Depth below the surface that wraps the cerebrum."""
    hull = scalp - 15.3 - 0.9 * waves(p, 60.0, 20) + 0.5 * waves(p, 30.0, 24)
    return soft_intersection(hull, p[:, 2] - _floor(p), 5.0)


def _sheet_distance(field: Callable[[Tensor], Tensor], p: Tensor) -> Tensor:
    """Distance to the zero level of a field, |g| / |∇g|."""
    with torch.enable_grad():
        at = p.detach().requires_grad_()
        value = field(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach().abs() / slope.square().sum(-1).sqrt().clamp_min(0.04)


def _lateral_folds(p: Tensor) -> Tensor:
    """Zero where a sulcus enters from the convexity: nearly constant along rays from the centre."""
    p = bend(p, 26.0, 2.0, 30)
    scaled = p / p.new_tensor([1.0, 1.25, 1.0])
    rho = (scaled.square().sum(-1, keepdim=True) + 25.0).sqrt() / 62.0
    return waves(p * rho.pow(-0.75), 18.0, 50, 40)


def _medial_folds(p: Tensor) -> Tensor:
    """Zero where a sulcus enters from the midline: nearly constant across it."""
    p = bend(p, 24.0, 2.0, 50)
    return waves(p * p.new_tensor([0.35, 1.0, 1.0]), 21.0, 60, 40)


def _paint_cerebrum(canvas: _Canvas, p: Tensor, brain: Tensor) -> None:
    x = p[:, 0]
    midline = x - 0.8 * waves(p, 50.0, 70, 12)
    core = ellipsoid(p, (0, 2, -6), (60, 37, 28))  # corpus callosum and all below it: no fissure
    fissure = (midline.square() + core.clamp_min(0).square()).sqrt()

    reach = 15 + 3.5 * waves(p, 34.0, 71)
    lateral = (_sheet_distance(_lateral_folds, p).square() + (brain - reach).clamp_min(0).square()).sqrt()
    reach = 9 + 3 * waves(p, 34.0, 72)
    medial = (_sheet_distance(_medial_folds, p).square() + (fissure - reach).clamp_min(0).square()).sqrt()

    width = 0.55 + 0.35 * waves(p, 40.0, 73)
    fluid = torch.stack([width - lateral, 0.4 - medial, 0.8 - fissure, 0.9 - _insula(p)]).amax(0)
    cortex = 2.7 + 0.35 * waves(p, 28.0, 74)
    grey = torch.maximum(fluid + cortex, cortex + 0.4 - brain)
    texture = 0.008 * waves(p, 5.0, 75)
    canvas.paint(brain, SIGNAL["grey"] + texture)
    canvas.paint(torch.minimum(brain, -grey), SIGNAL["white"] + 0.02 * waves(p, 40.0, 76) + texture)
    canvas.paint(torch.minimum(brain + 1.0, fluid), "fluid")
    canvas.paint(torch.minimum(torch.minimum(brain + 2.0, 0.35 - midline.abs()), -core - 6), "dura")


def _insula(p: Tensor) -> Tensor:
    """Distance to the Sylvian fissure and the insular cortex at its bottom."""
    x, y, z = p.unbind(-1)
    side = x.abs()
    bottom = side - 39 + 0.008 * (y + 6).square() + 1.2 * torch.cos(y / 3.0)
    over = (((y + 6).abs() - 22).clamp_min(0)).square() + ((z - 2).abs() - 20).clamp_min(0).square()
    floor = (bottom.square() + over).sqrt()
    gap = y + 8 - 0.35 * (side - 40) + 2.2 * torch.sin(side / 4 + 2 * torch.sign(x))
    beside = (39 - side).clamp_min(0).square() + ((z - 2).abs() - 16).clamp_min(0).square()
    return torch.minimum(floor, (gap.square() + beside).sqrt())


VENTRICLE = ((11, -36, 4), (8.5, -24, 10), (9, -6, 20), (12, 12, 21), (22, 29, 10), (32, 14, -13), (31, -4, -19))
VENTRICLE_RADII = (3.2, 4.4, 4.2, 4.4, 5.6, 2.6, 1.6)
OCCIPITAL_HORN = ((22, 29, 8), (25, 42, 4), (23, 54, 3))
OCCIPITAL_RADII = (5.2, 3.8, 1.4)
LESIONS = (  # x, y, z, radius
    (30, -38, 6, 2.4),
    (-27, -42, 5, 1.5),
    (33, 20, 6, 1.3),
    (-31, 46, 7, 2.2),
    (38, 33, 5, 3.0),
    (-29, 4, 34, 2.8),
    (24, 8, 40, 2.4),
    (-22, -22, 44, 2.0),
)


def _paint_deep_structures(canvas: _Canvas, p: Tensor) -> None:
    for x, y, z, radius in LESIONS:
        canvas.paint(ellipsoid(p, (x, y, z), (radius,) * 3) + 0.5 * waves(p, 6.0, 85), "lesion")
    _paint_perivascular_spaces(canvas, p)
    p = torch.stack([p[:, 0].abs(), p[:, 1], p[:, 2]], -1)  # both hemispheres at once
    p = bend(p, 30.0, 0.5, 80)
    putamen = ellipsoid(p, (26, -4, 2), (5.2, 17, 13), -14)
    canvas.paint(torch.minimum(0.55 - (putamen + 2.6).abs(), p[:, 0] - 27), "grey")  # claustrum
    canvas.paint(putamen, "deep")
    pallidum = ellipsoid(p, (19.5, -0.5, 0), (4.6, 10.5, 8), -24)
    canvas.paint(pallidum + 0.5, "white", 0.6)
    canvas.paint(pallidum, "pallidum")
    canvas.paint(ellipsoid(p, (14, -22, 8), (5.8, 11.5, 12), 12), "deep")  # head of the caudate
    thalamus = ellipsoid(p, (10, 11.5, 4), (8.6, 14.5, 11), 18)
    canvas.paint(thalamus, SIGNAL["thalamus"] + 0.02 * waves(p, 9.0, 81))
    ventricle = soft_union(tube(p, VENTRICLE, VENTRICLE_RADII), tube(p, OCCIPITAL_HORN, OCCIPITAL_RADII), 2.0)
    canvas.paint(torch.minimum(ventricle + 0.7, -ventricle), "deep", 0.5)
    canvas.paint(ventricle, "fluid")
    canvas.paint(ellipsoid(p, (21, 30, 9), (2.0, 4.5, 4), 25), "deep")  # choroid plexus
    canvas.paint(ellipsoid(p, (0, 5, -4), (2.3, 15, 12)), "fluid")  # third ventricle
    canvas.paint(ellipsoid(p, (0, 23, 0), (2.4, 3.0, 3)), "thalamus")  # pineal gland
    canvas.paint(tube(p, ((8, -22, -17), (24, -17, -12), (39, -9, -5)), (1.5, 1.3, 1.0)), "vessel")
    canvas.paint(tube(p, ((2, -28, -16), (1.6, -41, 2), (1.6, -34, 26)), (1.2, 1.1, 0.9)), "vessel")


def _paint_perivascular_spaces(canvas: _Canvas, p: Tensor) -> None:
    """Thin fluid-filled channels through the white matter, towards the ventricles."""
    generator = np.random.default_rng(86)
    for _ in range(24):
        angle, height = generator.uniform(0, 2 * pi), generator.uniform(-5, 40)
        outer = np.array([38 * np.cos(angle), 50 * np.sin(angle), height])
        inner = outer * generator.uniform(0.6, 0.8) + generator.uniform(-3, 3, 3)
        canvas.paint(tube(p, (tuple(outer), tuple(inner)), (0.45, 0.6)), "fluid", 0.6)
