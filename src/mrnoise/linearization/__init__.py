"""From a reconstruction to the linear map that carries its noise."""

from mrnoise.linearization.checks import Check, Preflight, preflight
from mrnoise.linearization.images import Images, image_of, linearize
from mrnoise.linearization.noise_to_image import NoiseToImage

__all__ = ["Check", "Images", "NoiseToImage", "Preflight", "image_of", "linearize", "preflight"]
