"""Deep reconstructions: architectures, and weights trained by the recipes of `mrnoise.training`."""

from mrnoise.networks.deep_reconstruction import DeepReconstruction, calibration_window, intensity
from mrnoise.networks.unet import UNet
from mrnoise.networks.unrolled import MoDL, UnrolledResNet
from mrnoise.networks.varnet import VarNet
from mrnoise.networks.weights import build, load_weights, pretrained, save_weights

__all__ = [
    "DeepReconstruction",
    "MoDL",
    "UNet",
    "UnrolledResNet",
    "VarNet",
    "build",
    "calibration_window",
    "intensity",
    "load_weights",
    "pretrained",
    "save_weights",
]
