"""Figures of the papers, as printed there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Dalmaz et al., ICML 2025, arXiv:2505.02007, table 1: PCC and NRMSE in %, R = 8, α = 1, S = 1000, N = 3000.
METHODS: Mapping[str, tuple[float, float | None]] = MappingProxyType(
    {
        "varnet-knee": (99.9, 0.7),
        "varnet-brain": (99.9, 0.5),
        "modl-knee": (99.9, 0.5),
        "modl-brain": (99.7, 1.1),
        "unet-knee": (99.4, 1.7),
        "unet-brain": (99.7, 1.8),
        "ssdu-knee": (99.9, None),
    }
)
MEAN_PCC, MEAN_NRMSE = 99.8, 0.8

# PICO, arXiv:2605.09590: error of the g-map in %, Cartesian SENSE R = 2, 320×256, 8 coils, at N = 200.
PICO_SAMPLES, PICO_PROBES, PICO_REPLICAS = 200, 1.61, 8.05
