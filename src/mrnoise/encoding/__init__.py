"""The forward model: image to samples and back, and the solution of its normal equations."""

from mrnoise.encoding.cartesian import Cartesian
from mrnoise.encoding.density import pipe_menon_density
from mrnoise.encoding.non_cartesian import NonCartesian
from mrnoise.encoding.nufft import Nufft
from mrnoise.encoding.of_scan import encode
from mrnoise.encoding.protocol import Encoding
from mrnoise.encoding.resampling import resample

__all__ = ["Cartesian", "Encoding", "NonCartesian", "Nufft", "encode", "pipe_menon_density", "resample"]
