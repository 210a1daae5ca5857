"""Noise-aware choices: sampling patterns and reconstructions in the order of their noise."""

from mrnoise.ranking.networks import NetworkNoise, equal_psnr, rank_networks
from mrnoise.ranking.order import Uncertain, ranks, undecided
from mrnoise.ranking.patterns import PatternNoise, rank_patterns

__all__ = [
    "NetworkNoise",
    "PatternNoise",
    "Uncertain",
    "equal_psnr",
    "rank_networks",
    "rank_patterns",
    "ranks",
    "undecided",
]
