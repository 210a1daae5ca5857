"""Classical closed forms to compare with."""

from mrnoise.baselines.sense import fully_sampled_std, sense_g_factor, sense_noise_map, sense_std

__all__ = ["fully_sampled_std", "sense_g_factor", "sense_noise_map", "sense_std"]
