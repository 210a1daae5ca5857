"""From a reconstruction to the linear map that carries its noise."""

from mrnoise.linearization.checks import Check, Preflight, preflight
from mrnoise.linearization.noise_to_image import NoiseToImage, image_of, linearize, n_images

__all__ = ["Check", "NoiseToImage", "Preflight", "image_of", "linearize", "n_images", "preflight"]
