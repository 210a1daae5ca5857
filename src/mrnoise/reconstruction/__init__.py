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
from mrnoise.reconstruction.compressed_sensing import L1Wavelet, TotalVariation
from mrnoise.reconstruction.fit import Fit
from mrnoise.reconstruction.grappa import Grappa
from mrnoise.reconstruction.gridding import Gridding
from mrnoise.reconstruction.low_rank import LowRank
from mrnoise.reconstruction.partial_fourier import Homodyne, Pocs
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.sense import Sense
from mrnoise.reconstruction.slice_grappa import SliceGrappa
from mrnoise.reconstruction.sliding_window import SlidingWindow
from mrnoise.reconstruction.subspace import Subspace
from mrnoise.reconstruction.temporal_mean import TemporalMean
from mrnoise.reconstruction.zero_filled import RootSumOfSquares, ZeroFilled

__all__ = [
    "BlackBox",
    "CgSense",
    "CommandLine",
    "Deepinv",
    "Direct",
    "FastmriVarNet",
    "Fit",
    "Grappa",
    "Gridding",
    "Homodyne",
    "ImageNetwork",
    "KspaceNetwork",
    "KspaceToImage",
    "L1Wavelet",
    "LowRank",
    "Mirtorch",
    "MonaiVarNet",
    "Mrpro",
    "Pocs",
    "Reconstruction",
    "RootSumOfSquares",
    "Sense",
    "SigpyApp",
    "SliceGrappa",
    "SlidingWindow",
    "Subspace",
    "TemporalMean",
    "TotalVariation",
    "ZeroFilled",
    "from_file",
]
