"""Reconstructions: methods that `bind` to an acquisition and map k-space to image."""

from mrnoise.reconstruction.adapters import Deepinv, FastmriVarNet, ImageNetwork, KspaceNetwork, from_file
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.compressed_sensing import L1Wavelet, TotalVariation
from mrnoise.reconstruction.grappa import Grappa
from mrnoise.reconstruction.gridding import Gridding
from mrnoise.reconstruction.partial_fourier import Homodyne, Pocs
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.sense import Sense
from mrnoise.reconstruction.slice_grappa import SliceGrappa
from mrnoise.reconstruction.zero_filled import RootSumOfSquares, ZeroFilled

__all__ = [
    "CgSense",
    "Deepinv",
    "FastmriVarNet",
    "Grappa",
    "Gridding",
    "Homodyne",
    "ImageNetwork",
    "KspaceNetwork",
    "KspaceToImage",
    "L1Wavelet",
    "Pocs",
    "Reconstruction",
    "RootSumOfSquares",
    "Sense",
    "SliceGrappa",
    "TotalVariation",
    "ZeroFilled",
    "from_file",
]
