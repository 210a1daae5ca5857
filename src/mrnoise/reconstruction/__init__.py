"""Reconstructions: methods that `bind` to an acquisition and map k-space to image."""

from mrnoise.reconstruction.adapters import (
    BlackBox,
    CommandLine,
    Deepinv,
    Direct,
    FastmriVarNet,
    ImageNetwork,
    KspaceNetwork,
    Mirtorch,
    MonaiVarNet,
    Mrpro,
    SigpyApp,
    from_file,
)
from mrnoise.reconstruction.cg_sense import CgSense
from mrnoise.reconstruction.gridding import Gridding
from mrnoise.reconstruction.partial_fourier import Homodyne, Pocs
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.sense import Sense
from mrnoise.reconstruction.zero_filled import RootSumOfSquares, ZeroFilled

__all__ = [
    "BlackBox",
    "CgSense",
    "CommandLine",
    "Deepinv",
    "Direct",
    "FastmriVarNet",
    "Gridding",
    "Homodyne",
    "ImageNetwork",
    "KspaceNetwork",
    "KspaceToImage",
    "Mirtorch",
    "MonaiVarNet",
    "Mrpro",
    "Pocs",
    "Reconstruction",
    "RootSumOfSquares",
    "Sense",
    "SigpyApp",
    "ZeroFilled",
    "from_file",
]
