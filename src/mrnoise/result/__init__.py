"""What a noise map holds, and what is read from one map or two."""

from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance
from mrnoise.result.ratio import Comparison, GFactor, compare, g_factor, snr_ratio

__all__ = ["Comparison", "GFactor", "NoiseMap", "Provenance", "compare", "g_factor", "snr_ratio"]
