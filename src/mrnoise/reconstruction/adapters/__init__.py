"""Bring your own network: fastMRI, deepinv, any image network, TorchScript and torch.export files.

An adapter translates conventions (axes, channels, normalisation, precision) inside the map that is differentiated,
so that the noise passes through the translation too. On `bind` a `torch.nn.Module` is put in evaluation mode and
moved, in place, to the device and the precision of the scan.
"""

from mrnoise.reconstruction.adapters.deepinv import Deepinv
from mrnoise.reconstruction.adapters.fastmri import FastmriVarNet
from mrnoise.reconstruction.adapters.files import NETWORK_FILES, from_file
from mrnoise.reconstruction.adapters.image_network import ImageNetwork
from mrnoise.reconstruction.adapters.kspace_network import KspaceNetwork

__all__ = ["NETWORK_FILES", "Deepinv", "FastmriVarNet", "ImageNetwork", "KspaceNetwork", "from_file"]
