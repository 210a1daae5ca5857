"""From scan and reconstruction to noise map."""

from mrnoise.mapping.coilwise import CoilSketch, coil_sketch
from mrnoise.mapping.run import choose, noise_map

__all__ = ["CoilSketch", "choose", "coil_sketch", "noise_map"]
