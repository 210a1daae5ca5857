"""Scans with a known answer: phantom, coils, noise and the k-space they give."""

from mrnoise.simulation.coils import biot_savart_coils, random_noise_covariance
from mrnoise.simulation.phantom import beating_disc, head_phantom, smooth_phase
from mrnoise.simulation.scan import Simulation, simulate, simulated_head

__all__ = [
    "Simulation",
    "beating_disc",
    "biot_savart_coils",
    "head_phantom",
    "random_noise_covariance",
    "simulate",
    "simulated_head",
    "smooth_phase",
]
