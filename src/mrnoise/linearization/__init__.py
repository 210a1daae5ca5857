"""From a reconstruction to the linear map that carries its noise."""

from mrnoise.linearization.linearization import NoiseToImage, image_of, linearize, n_images
from mrnoise.linearization.preflight import Check, Preflight, preflight

__all__ = ["Check", "NoiseToImage", "Preflight", "image_of", "linearize", "n_images", "preflight"]
