"""What adapters share: the network made ready for a scan, channels and normalisation, checks."""

from __future__ import annotations

import dataclasses
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.reconstruction.bound import Bound
from mrnoise.reconstruction.protocol import Planewise, Reconstruction

# Networks that are files by nature.
FORMATS = (torch.jit.ScriptModule, torch.export.ExportedProgram)


class Adapter(Reconstruction):
    """A reconstruction around a network of others, which can be pickled where the network can."""

    model: Any

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"model": AsFile(self.model) if isinstance(self.model, FORMATS) else self.model}


class SliceAdapter(Adapter):
    """One whose network takes slices."""

    def planewise(self, volume: Acquisition, axis: int) -> Planewise:
        """Plane by plane."""
        return Planewise.by(self, volume, axis)


@dataclass(frozen=True, eq=False, repr=False)
class BoundAdapter(Bound):
    """A network of others, bound to one scan.

    Where it is unpickled, or copied, the network is made ready anew.
    """

    method: Adapter
    network: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", ready(self.method.model, self.acquisition))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, item.name) for item in dataclasses.fields(self) if item.init)


@dataclass(frozen=True)
class AsFile:
    """A network of TorchScript or torch.export, pickled as the bytes of its file: there is no other way to."""

    network: Any

    def __reduce__(self) -> tuple[Any, ...]:
        file = io.BytesIO()
        if isinstance(self.network, torch.export.ExportedProgram):
            torch.export.save(self.network, file)
            return exported, (file.getvalue(),)
        torch.jit.save(self.network, file)
        return scripted, (file.getvalue(),)


def exported(file: bytes) -> torch.export.ExportedProgram:
    """The network in a file of torch.export."""
    return torch.export.load(io.BytesIO(file))


def scripted(file: bytes) -> torch.jit.ScriptModule:
    """The network in a file of TorchScript."""
    return torch.jit.load(io.BytesIO(file), map_location="cpu")


def ready(model: Any, acquisition: Acquisition) -> Any:
    """The model in evaluation mode, on the device and in the precision of the scan.

    A module is changed in place, an exported program is not.
    """
    kspace = acquisition.kspace
    program = isinstance(model, torch.export.ExportedProgram)
    if program:
        from torch.export.passes import move_to_device_pass

        model = move_to_device_pass(model, kspace.device).module()
    if isinstance(model, nn.Module):
        # Exported programs refuse eval(): their mode is fixed.
        model = (model if program else model.eval()).to(kspace.device)
        # Not .to(dtype), which would drop the imaginary part of complex parameters.
        model = model.double() if kspace.dtype == torch.complex128 else model.float()
    return model


def as_channels(values: Tensor) -> Tensor:
    """(…) as (1, 1, …), or complex as (1, 2, …) of real and imaginary part."""
    if values.is_complex():
        return torch.view_as_real(values).movedim(-1, 0)[None]
    return values[None, None]


def from_channels(values: Tensor) -> Tensor:
    """Inverse of `as_channels`."""
    if values.shape[1] == 2:
        return torch.view_as_complex(values[0].movedim(0, -1).contiguous())
    return values[0, 0]


def offset_and_scale(x: Tensor, normalization: str) -> tuple[Tensor, Tensor]:
    """μ and σ of an image (1, channel, ...): ``"standard"``, of each channel, ``"maximum"``, or 0 and 1."""
    if normalization == "standard":
        axes = tuple(range(2, x.ndim))
        offset, scale = x.mean(axes, keepdim=True), x.std(axes, keepdim=True)
    elif normalization == "maximum":
        # √ has no derivative at zero: the maximum first.
        offset, scale = x.new_zeros(()), x.square().sum(1).amax().sqrt()
    else:
        return x.new_zeros(()), x.new_ones(())
    return offset, scale.clamp_min(torch.finfo(x.dtype).tiny)


def package_of_host(module: str, extra: str) -> Any:
    """A module of the package of an adapter.

    Raises
    ------
    InputError
        If it cannot be imported; the extra that brings it is named.

    Examples
    --------
    >>> package_of_host("json", "sigpy").dumps([1])
    '[1]'
    """
    name = module.partition(".")[0]
    try:
        importlib.import_module(name)
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
        raise InputError(
            f"{name} cannot be imported",
            expected=f"the package of mrnoise[{extra}], and where it needs torchvision that of this build of torch",
            received=first_line(error),
            remedy=f"pip install 'mrnoise[{extra}]', after a torchvision of the same index as torch.",
        ) from error


def check_single(acquisition: Acquisition, dims: tuple[int, ...] = (2, 3)) -> None:
    """Raise unless the scan is one image, of so many spatial axes."""
    if acquisition.spatial_dims not in dims:
        raise InputError(
            "this network takes slices",
            expected="k-space (coil, k1, k0), spatial_dims=2",
            received=f"spatial_dims={acquisition.spatial_dims}, shape {tuple(acquisition.kspace.shape)}",
            remedy="noise_map takes a volume apart where an axis was sampled as a whole; else bind slices.",
        )
    if acquisition.batch_shape:
        raise InputError(
            "this reconstruction takes one image at a time",
            expected="k-space without leading axes",
            received=f"shape {tuple(acquisition.kspace.shape)}",
            remedy="noise_map does this by itself; else bind each of acquisition.slices().",
        )


def checked_output(output: Any, *shapes: tuple[int, ...]) -> Tensor:
    """What a network returned, which has to be a tensor of one of these shapes."""
    if not isinstance(output, Tensor) or tuple(output.shape) not in shapes:
        raise InputError(
            "the network returns something else than an image",
            expected="a tensor of shape " + " or ".join(map(str, shapes)),
            received=str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__,
            remedy="Check its number of output channels; crop, pad and pick the image inside the network.",
        )
    return output


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise unless an option is one of its choices."""
    if value not in choices:
        raise InputError(
            f"invalid {name}",
            expected=" or ".join(map(str, choices)),
            received=str(value),
            remedy="Leave it out for the default.",
        )


def first_line(error: Exception) -> str:
    """Class and first line of what was raised."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:160]
