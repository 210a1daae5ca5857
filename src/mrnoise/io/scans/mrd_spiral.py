"""Spirals that the header of an MRD file describes by how their gradients were designed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mrnoise.errors import InputError
from mrnoise.io.scans.mrd_header import Encoding

# Identifier that converters give the design, and what they write of it.
IDENTIFIER = "HargreavesVDS2000"
WORDS = (
    "interleaves",
    "SamplingTime_ns",
    "MaxGradient_G_per_cm",
    "MaxSlewRate_G_per_cm_per_s",
    "FOVCoeff_1_cm",
    "krmax_per_cm",
)
GAMMA = 4258.0  # Hz/G, as the design has it


@dataclass(frozen=True)
class Spiral:
    """Spiral of Hargreaves (2000): the fastest that gradients allow, of turns one field of view apart.

    Parameters
    ----------
    interleaves
        N.
    dwell_s
        Time between samples, of gradients and data.
    gradient, slew
        Their largest values, G/cm and G/cm/s.
    fov_cm
        F: all interleaves together lie 1/F apart, dr/dθ = N / (2πF).
    radius
        At which it ends, 1/cm.
    """

    interleaves: int
    dwell_s: float
    gradient: float
    slew: float
    fov_cm: float
    radius: float

    def coordinates(self, n_samples: int) -> np.ndarray:
        """K in cycles per cm, (2, interleaf, sample), x first, of at most so many samples.

        The gradient is integrated as the C program of Hargreaves does it, r'' from the limit of the slew rate until
        that of the gradient, or of one cycle per field of view a sample, is reached. Interleaf i is turned by -2πi/N,
        and all signs are reversed, as by Gadgetron, which reads this description.
        """
        c = 2 * math.pi * self.fov_cm / self.interleaves
        fastest = min(GAMMA * self.gradient, 1 / (self.fov_cm * self.dwell_s))
        r, speed, k = 0.0, 0.0, [0j]
        while r < self.radius and len(k) < n_samples:
            limit = fastest / math.sqrt(1 + (c * r) ** 2)
            if speed > limit:
                change = (limit - speed) / self.dwell_s
            else:
                a = 1 + (c * r) ** 2
                b = 2 * c**2 * r * speed**2
                d = (c**2 * r * speed**2) ** 2 + 4 * c**2 * speed**4 - (GAMMA * self.slew) ** 2
                change = -b / (2 * a) + math.sqrt(max(b**2 / (4 * a**2) - d / a, 0.0))
            speed += change * self.dwell_s
            r += speed * self.dwell_s
            k.append(r * complex(math.cos(c * r), math.sin(c * r)))
        # The sample before a gradient, not the one behind it: the last one is where the design ends.
        one = np.array(k[:-1] if r >= self.radius else k)
        turned = -one * np.exp(-2j * np.pi * np.arange(self.interleaves) / self.interleaves)[:, None]
        return np.stack([turned.real, turned.imag])


def described_spiral(encoding: Encoding, name: str) -> Spiral:
    """The spiral of a header.

    Raises
    ------
    InputError
        If it is described in another way, or not completely.
    """
    known = encoding.trajectoryDescription
    numbers = [known.get(word) for word in WORDS]
    missing = [word for word, value in zip(WORDS, numbers, strict=True) if value is None or not value > 0]
    several = known.get("fov_coefficients", 1) != 1
    if encoding.identifier != IDENTIFIER or missing or several:
        received = f"the trajectory {encoding.trajectory or 'of no kind'}, without a description of it"
        if encoding.identifier == IDENTIFIER:
            lacking = f"{', '.join(missing)} missing or not above zero" if missing else "a field of view varying with k"
            received = f"such a description, {lacking}"
        elif encoding.identifier:
            received = f"the trajectory {encoding.trajectory}, described by {encoding.identifier}"
        raise InputError(
            f"{name} does not say where its samples lie",
            expected=f"coordinates of each line, or a trajectoryDescription by {IDENTIFIER} with {', '.join(WORDS)} "
            "and one FOV coefficient",
            received=received,
            remedy="Give the trajectory: --trajectory FILE (BART's .cfl, npy, npz), trajectory= in Python.",
        )
    interleaves, nanoseconds, gradient, slew, fov, radius = (float(value or 0) for value in numbers)
    return Spiral(round(interleaves), nanoseconds * 1e-9, gradient, slew, fov, radius)
