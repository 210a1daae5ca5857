"""Bring your own: networks of fastMRI, DIRECT, MONAI, deepinv and files, other toolboxes, commands, NumPy functions.

An adapter translates conventions (axes, channels, normalisation, precision) inside the map that is differentiated,
so that the noise passes through the translation too. On `bind` a `torch.nn.Module` is put in evaluation mode and
moved, in place, to the device and the precision of the scan.
"""

from mrnoise.reconstruction.adapters.black_box import BlackBox
from mrnoise.reconstruction.adapters.command_line import CommandLine
from mrnoise.reconstruction.adapters.deepinv import Deepinv
from mrnoise.reconstruction.adapters.direct import Direct
from mrnoise.reconstruction.adapters.fastmri import FastmriVarNet
from mrnoise.reconstruction.adapters.files import NETWORK_FILES, from_file
from mrnoise.reconstruction.adapters.image_network import ImageNetwork
from mrnoise.reconstruction.adapters.kspace_network import KspaceNetwork
from mrnoise.reconstruction.adapters.mirtorch import Mirtorch
from mrnoise.reconstruction.adapters.monai import MonaiVarNet
from mrnoise.reconstruction.adapters.mrpro import Mrpro
from mrnoise.reconstruction.adapters.sigpy import SigpyApp

__all__ = [
    "NETWORK_FILES",
    "BlackBox",
    "CommandLine",
    "Deepinv",
    "Direct",
    "FastmriVarNet",
    "ImageNetwork",
    "KspaceNetwork",
    "Mirtorch",
    "MonaiVarNet",
    "Mrpro",
    "SigpyApp",
    "from_file",
]
