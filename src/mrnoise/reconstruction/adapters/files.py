"""Networks in files: TorchScript and torch.export."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

import torch

from mrnoise.errors import InputError
from mrnoise.reconstruction.adapters.common import first_line
from mrnoise.reconstruction.adapters.kspace_network import KspaceNetwork

# Suffixes that `from_file` reads.
NETWORK_FILES = (".pt", ".ts", ".pt2")


def from_file(path: str | Path) -> KspaceNetwork:
    """A reconstruction from a file: TorchScript (.pt, .ts) or torch.export (.pt2).

    The file holds a whole reconstruction, complex k-space (coil, k1, k0) → real or complex image (y, x), saved
    by ``torch.jit.save`` or ``torch.export.save``. An exported program takes the shapes it was exported for, and
    whether it was in evaluation mode is part of it.

    Raises
    ------
    InputError
        If the file is missing or holds no network.

    Examples
    --------
    >>> import tempfile
    >>> class FirstCoil(torch.nn.Module):
    ...     def forward(self, kspace):
    ...         return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace[0])))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "first_coil.ts"
    ...     torch.jit.trace(FirstCoil(), torch.ones(2, 8, 6, dtype=torch.complex64)).save(file)
    ...     from_file(file)
    KspaceNetwork(source='first_coil.ts')
    """
    path = Path(path)
    if path.suffix not in NETWORK_FILES or not os.path.isfile(path):
        raise InputError(
            "cannot load a network",
            expected=f"a file ending in {', '.join(NETWORK_FILES)}",
            received=f"{path}" + ("" if os.path.isfile(path) else ", which does not exist"),
            remedy="Save it with torch.jit.save (.pt, .ts) or torch.export.save (.pt2).",
        )
    log = logging.getLogger("torch.export")
    log.disabled = True  # it prints the traceback of what is raised anyway
    try:
        with warnings.catch_warnings():
            # What torch says of its own future.
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
            model = torch.export.load(path) if path.suffix == ".pt2" else torch.jit.load(path, map_location="cpu")
    except Exception as error:  # each format fails in its own ways
        raise InputError(
            "cannot load a network",
            expected="a whole network: TorchScript in .pt and .ts, torch.export in .pt2",
            received=f"{path} ({first_line(error)})",
            remedy="A checkpoint of weights is not enough: torch.jit.script(model).save(path), or "
            "torch.export.save(torch.export.export(model, (kspace,)), path).",
        ) from error
    finally:
        log.disabled = False
    return KspaceNetwork(model, source=path.name)
