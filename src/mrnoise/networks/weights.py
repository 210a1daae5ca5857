"""Weights on disk: safetensors with the architecture in the header."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mrnoise.errors import InputError
from mrnoise.files.atomic import replacing
from mrnoise.files.opening import reading
from mrnoise.networks.deep_reconstruction import DeepReconstruction
from mrnoise.networks.unet import UNet
from mrnoise.networks.unrolled import MoDL, UnrolledResNet
from mrnoise.networks.varnet import VarNet

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "unet": UNet,
    "varnet": VarNet,
    "modl": MoDL,
    "unrolled-resnet": UnrolledResNet,
}
SHIPPED = ("unet", "varnet", "modl", "ssdu", "n2r", "vortex")
ANATOMIES = ("brain", "knee")


def build(architecture: str, **settings: Any) -> nn.Module:
    """A network by the name of its architecture, with fresh weights.

    Parameters
    ----------
    architecture
        ``"unet"``, ``"varnet"``, ``"modl"`` or ``"unrolled-resnet"``.
    settings
        Of its class, by name.

    Returns
    -------
    nn.Module
        In single precision, on the CPU.

    Raises
    ------
    InputError
        If the architecture or one of its settings is unknown.

    Examples
    --------
    >>> network = build("unrolled-resnet", unrolls=3, features=8)
    >>> type(network).__name__, sum(p.numel() for p in network.parameters())
    ('UnrolledResNet', 6225)
    """
    if architecture not in ARCHITECTURES:
        raise InputError(
            "unknown architecture",
            expected="one of " + ", ".join(ARCHITECTURES),
            received=repr(architecture),
            remedy="Choose one from the list.",
        )
    try:
        return ARCHITECTURES[architecture](**settings)
    except TypeError as error:
        raise InputError(
            f"{architecture} cannot be built",
            expected="the settings of its class in mrnoise.networks",
            received=str(settings),
            remedy=str(error),
        ) from error


def save_weights(network: nn.Module, path: Path, header: dict[str, Any]) -> None:
    """Write half-precision weights; ``header`` holds ``architecture``, ``settings`` and whatever is worth keeping.

    Parameters
    ----------
    network
        Made by `build`.
    path
        Ends in ``.safetensors``; the file appears when it is complete.
    header
        JSON-able.

    Examples
    --------
    >>> settings = {"unrolls": 2, "features": 4}
    >>> header = {"name": "mine", "architecture": "modl", "settings": settings}
    >>> save_weights(build("modl", **settings), Path("mine.safetensors"), header)
    >>> Path("mine.safetensors").stat().st_size < 10_000  # bytes, half precision
    True
    """
    from safetensors.torch import save_file

    tensors = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in network.state_dict().items()}
    with replacing(path) as (partial,):
        save_file(tensors, partial, metadata={"mrnoise": json.dumps(header)})


def load_weights(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a file, in single precision, and its header.

    Parameters
    ----------
    path
        A ``.safetensors`` file.

    Returns
    -------
    network, header
        The module, and what `save_weights` was given as ``header``.

    Raises
    ------
    InputError
        If the file is missing or is not one of `save_weights`.

    Examples
    --------
    >>> settings = {"unrolls": 2, "features": 4}
    >>> header = {"name": "mine", "architecture": "modl", "settings": settings}
    >>> save_weights(build("modl", **settings), Path("mine.safetensors"), header)
    >>> network, header = load_weights(Path("mine.safetensors"))
    >>> type(network).__name__, header["settings"]
    ('MoDL', {'unrolls': 2, 'features': 4})
    """
    from safetensors import safe_open

    remedy = "Give a file of mrnoise train, or leave the weights out for those that are shipped."
    problem = "cannot read the weights of a network"
    with reading(path, "a .safetensors file written by mrnoise train", remedy, problem=problem):
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["mrnoise"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        network = build(header["architecture"], **header["settings"])
        network.load_state_dict(tensors)
    return network, header


def shipped_weights(name: str, anatomy: str) -> Path:
    """Path of the weights that come with mrnoise."""
    if name not in SHIPPED or anatomy not in ANATOMIES:
        raise InputError(
            "no such weights",
            expected=f"{', '.join(SHIPPED)} for {' or '.join(ANATOMIES)}",
            received=f"{name} for {anatomy}",
            remedy="Train your own with mrnoise train and give the file.",
        )
    return Path(str(files("mrnoise.networks") / "weights" / f"{name}-{anatomy}.safetensors"))


def pretrained(
    name: str,
    weights: str | Path = "brain",
    *,
    normalization: str = "propagated",
    differentiate_coil_maps: bool = True,
) -> DeepReconstruction:
    """A trained network, ready for `noise_map`.

    Parameters
    ----------
    name
        ``"unet"``, ``"varnet"``, ``"modl"``, ``"ssdu"``, ``"n2r"`` or ``"vortex"``.
    weights
        ``"brain"``, ``"knee"``, or a file of `mrnoise train`.
    normalization, differentiate_coil_maps
        As in `DeepReconstruction`.

    Returns
    -------
    DeepReconstruction
        Whose weights are those of the file.

    Raises
    ------
    InputError
        If there are no such weights.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((48, 40), 4, mask=equispaced((48, 40), 2, calibration=8))
    >>> nm = noise_map(pretrained("unet", "brain"), scan, method="sketch", n_samples=16)
    >>> tuple(nm.std.shape), round(float(nm.snr[24, 20]))
    ((48, 40), 19)
    """
    path = shipped_weights(name, str(weights)) if str(weights) in ANATOMIES else Path(weights)
    network, header = load_weights(path)
    label = f"{name} {header['name']}" if name != header["name"].split("-")[0] else header["name"]
    return DeepReconstruction(network, label, normalization, differentiate_coil_maps)
