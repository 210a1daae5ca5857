"""Classical closed forms: the noise of SENSE, and the reference of every g-factor."""

from mrnoise.closed_form.sense import fully_sampled_std, sense_g_factor, sense_std

__all__ = ["fully_sampled_std", "sense_g_factor", "sense_std"]
