"""At the scanner: a server of the MRD streaming protocol that maps scans while they come in, and a client."""

from mrnoise.serving.parameters import Parameters
from mrnoise.serving.server import Server
from mrnoise.serving.session import Limits

__all__ = ["Limits", "Parameters", "Server"]
