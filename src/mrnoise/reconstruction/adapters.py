"""Bring your own network: fastMRI, deepinv, any image network, TorchScript and torch.export files.

An adapter translates conventions (axes, channels, normalisation, precision) inside the map that is differentiated,
so that the noise passes through the translation too. On `bind` a `torch.nn.Module` is put in evaluation mode and
moved, in place, to the device and the precision of the scan, and tried once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.calibration.maps_of_scan import fixed_coil_maps, whitened_coil_maps
from mrnoise.encoding import encode
from mrnoise.errors import InputError
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.reconstruction.zero_filled import RootSumOfSquares

# Suffixes that `from_file` reads.
NETWORK_FILES = (".pt", ".ts", ".pt2")


@dataclass(frozen=True)
class KspaceNetwork(Reconstruction):
    """A network that is a whole reconstruction: complex k-space (coil, k1, k0) → real or complex image (y, x).

    The k-space is that of the scan, as read, zero where nothing was acquired.

    Parameters
    ----------
    model
        A `torch.nn.Module`, a scripted one, a `torch.export.ExportedProgram` or any callable.
    source
        What the record of a map calls it.
    """

    model: Any = field(repr=False)
    source: str = ""

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (coil, k1, k0) → image (y, x)."""
        _check_single(acquisition)
        model = _ready(self.model, acquisition)

        def reconstruct(kspace: Tensor) -> Tensor:
            # A copy: a network may write into its input.
            return model(kspace.clone())

        expected = f"a network of {acquisition.kspace.dtype} k-space, (coil, k1, k0) → (y, x)"
        return _tried(reconstruct, acquisition, expected)


@dataclass(frozen=True)
class ImageNetwork(Reconstruction):
    """An image-to-image network behind a conventional reconstruction, e.g. a U-Net of fastMRI, MONAI or deepinv.

    x = σ f((x₀ - μ) / σ) + μ, with x₀ the image of ``image_from`` and μ, σ computed from x₀ itself: they carry
    noise too.

    Parameters
    ----------
    model
        f: (1, channel, y, x) → the same shape.
    image_from
        Reconstruction that makes its input.
    channels
        1: the real image, or the magnitude of a complex one; the result is real. 2: real and imaginary part; the
        result is complex. ``None``: as many as the image has.
    normalization
        ``"standard"``: mean and standard deviation of each channel (unbiased), as fastMRI does. ``"maximum"``: the
        largest magnitude. ``"none"``.
    differentiate_normalization
        Propagate noise through μ and σ (True), or hold them at their values for this scan.
    clip
        Normalised values are clamped to ± this; fastMRI trains its U-Net with 6.

    Raises
    ------
    InputError
        On `bind`, if channels, shape or normalisation do not fit.
    """

    model: Callable[[Tensor], Tensor] = field(repr=False)
    image_from: Reconstruction = field(default_factory=RootSumOfSquares)
    channels: int | None = None
    normalization: str = "standard"
    differentiate_normalization: bool = True
    clip: float | None = None

    def __post_init__(self) -> None:
        _check_choice("normalization", self.normalization, ("standard", "maximum", "none"))
        _check_choice("channels", self.channels, (None, 1, 2))

    @property
    def unit_gain(self) -> bool:  # type: ignore[override]
        """Whether the image has the intensity of the SENSE image: that of ``image_from`` is kept."""
        return self.image_from.unit_gain

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (coil, k1, k0) → image (y, x), real for one channel, complex for two."""
        _check_single(acquisition)
        model = _ready(self.model, acquisition)
        image_of = self.image_from.bind(acquisition)
        frozen = None
        if not self.differentiate_normalization:
            frozen = _normalization(self._as_channels(image_of(acquisition.kspace)), self.normalization)

        def reconstruct(kspace: Tensor) -> Tensor:
            x = self._as_channels(image_of(kspace))
            offset, scale = frozen or _normalization(x, self.normalization)
            x = (x - offset) / scale
            if self.clip is not None:
                x = x.clamp(-self.clip, self.clip)
            y = _checked_output(model(x), [tuple(x.shape)])
            return _from_channels(y * scale + offset)

        return _tried(reconstruct, acquisition, f"a network of images, (1, channel, {_axes(acquisition)}) → the same")

    def _as_channels(self, image: Tensor) -> Tensor:
        """Image (y, x) as (1, channel, y, x)."""
        if self.channels == 2 and not image.is_complex():
            raise InputError(
                "the image has no imaginary part for the second channel",
                expected=f"a complex image from {self.image_from!r}",
                received=str(image.dtype),
                remedy="Use image_from=ZeroFilled() or CgSense(), or channels=1.",
            )
        if self.channels == 1:
            image = image.abs()
        return _as_channels(image)


@dataclass(frozen=True)
class FastmriVarNet(Reconstruction):
    """`fastmri.models.VarNet`, or a module called the same way: model(kspace, mask, num_low_frequencies).

    The network gets k-space as real numbers (1, coil, readout, phase encoding, 2), with the phase encoding along the
    last axis whichever axis of the scan it is, and the mask as (1, 1, 1, phase encoding, 1). It estimates its
    coil maps from the calibration lines, noise included. The image is its root sum of squares, real.

    Parameters
    ----------
    model
        The network.
    n_calibration_lines
        ``num_low_frequencies``: central lines from which it estimates coil maps. ``None``: it counts the acquired
        lines around the centre. Where every line was acquired it finds only one; give their number then.
    phase_encoding
        Axis of the phase encoding, -2 (k1) or -1 (k0). ``None``: the undersampled one, or -1, where files of
        fastMRI have it.

    Raises
    ------
    InputError
        On `bind`, if samples were skipped along another axis, or the network cannot take the scan.
    """

    unit_gain = False  # root sum of squares of the coils
    model: nn.Module = field(repr=False)
    n_calibration_lines: int | None = None
    phase_encoding: int | None = None

    def __post_init__(self) -> None:
        _check_choice("phase_encoding", self.phase_encoding, (None, -2, -1))

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (coil, k1, k0) → real image (y, x)."""
        _check_single(acquisition, (2,))
        model = _ready(self.model, acquisition)
        axis = _phase_encoding(acquisition.mask, self.phase_encoding)
        swapped = axis == -2
        lines = acquisition.mask.movedim(axis, -1)[0]
        mask = lines[None, None, None, :, None].to(acquisition.kspace.device)

        def reconstruct(kspace: Tensor) -> Tensor:
            y = (kspace.mT if swapped else kspace).clone(memory_format=torch.contiguous_format)
            y = torch.view_as_real(y)[None]
            x = _checked_output(model(y, mask, self.n_calibration_lines), [(1, *y.shape[2:4])])[0]
            return x.mT if swapped else x

        return _tried(reconstruct, acquisition, "a network called as model(kspace, mask, num_low_frequencies)")


@dataclass(frozen=True)
class Deepinv(Reconstruction):
    """A reconstruction network of deepinv (MoDL, VarNet, ArtifactRemoval, …), called as model(y, physics).

    ``y`` (1, 2, coil, k1, k0) are the whitened samples √ψ Ψ^{-1/2} y and ``physics`` is
    `deepinv.physics.MultiCoilMRI` with the mask, the coil maps whitened alike, and Gaussian noise of standard
    deviation √(ψ/2) in each real channel, ψ the mean coil variance. Its least-squares solvers (MoDL) are
    differentiated through their iterations: the implicit derivative of deepinv has no forward mode.

    Parameters
    ----------
    model
        (y, physics) → image (1, 2, y, x), or (1, 1, y, x) for a real one.
    normalization
        ``"none"``: the network gets the units of the scan. ``"maximum"``: the largest magnitude of Aᴴy is 1.
    differentiate_normalization
        Propagate noise through that maximum (True), or hold it at its value for this scan.
    differentiate_coil_maps
        Where the acquisition has no coil maps: propagate the noise of the calibration lines through the
        ESPIRiT estimate (True) or hold the maps fixed.

    Raises
    ------
    InputError
        On `bind`, if deepinv cannot be imported or the network cannot take the scan.
    """

    model: Callable[[Tensor, Any], Tensor] = field(repr=False)
    normalization: str = "none"
    differentiate_normalization: bool = True
    differentiate_coil_maps: bool = True

    def __post_init__(self) -> None:
        _check_choice("normalization", self.normalization, ("maximum", "none"))

    def bind(self, acquisition: Acquisition) -> KspaceToImage:
        """Return kspace (coil, k1, k0) → image (y, x)."""
        _check_single(acquisition)
        physics = _deepinv_physics()
        model = _ready(self.model, acquisition)
        fixed = fixed_coil_maps(acquisition, self.differentiate_coil_maps)
        dims = acquisition.spatial_dims
        mask = acquisition.mask.to(acquisition.kspace.device, acquisition.kspace.real.dtype)
        sigma = (acquisition.noise_covariance.mean_variance / 2) ** 0.5

        def maps_of(kspace: Tensor) -> Tensor:
            return whitened_coil_maps(acquisition, kspace) if fixed is None else fixed

        def scale_of(y: Tensor, maps: Tensor) -> Tensor:
            return _normalization(_as_channels(encode(acquisition, maps).adjoint(y)), self.normalization)[1]

        frozen = None
        if not self.differentiate_normalization:
            frozen = scale_of(acquisition.whiten(acquisition.kspace), maps_of(acquisition.kspace))

        def reconstruct(kspace: Tensor) -> Tensor:
            y, maps = acquisition.whiten(kspace), maps_of(kspace)
            scale = scale_of(y, maps) if frozen is None else frozen
            # Built anew each time: networks change the mask and the maps of the physics they are given.
            operator = physics.MultiCoilMRI(
                mask=mask,
                coil_maps=maps[None],
                three_d=dims == 3,
                device=kspace.device,
                noise_model=physics.GaussianNoise(sigma / scale),
                implicit_backward_solver=False,
            )
            x = model(_as_channels(y) / scale, operator)
            return _from_channels(_checked_output(x, [(1, c, *acquisition.spatial_shape) for c in (2, 1)]) * scale)

        return _tried(reconstruct, acquisition, "a network called as model(y, physics)")


def from_file(path: str | Path) -> KspaceNetwork:
    """A reconstruction from a file: TorchScript (.pt, .ts) or torch.export (.pt2).

    The file holds a whole reconstruction, complex k-space (coil, k1, k0) → real or complex image (y, x), saved
    by ``torch.jit.save`` or ``torch.export.save``. An exported program takes the shapes it was exported for, and
    whether it was in evaluation mode is part of it.

    Raises
    ------
    InputError
        If the file is missing or holds no network.
    """
    path = Path(path)
    if path.suffix not in NETWORK_FILES or not path.is_file():
        raise InputError(
            "cannot load a network",
            expected=f"a file ending in {', '.join(NETWORK_FILES)}",
            received=f"{path}" + ("" if path.is_file() else ", which does not exist"),
            remedy="Save it with torch.jit.save (.pt, .ts) or torch.export.save (.pt2).",
        )
    log = logging.getLogger("torch.export")
    log.disabled = True  # it prints the traceback of what is raised anyway
    try:
        model = torch.export.load(path) if path.suffix == ".pt2" else torch.jit.load(path, map_location="cpu")
    except Exception as error:  # each format fails in its own ways
        raise InputError(
            "cannot load a network",
            expected="a whole network: TorchScript in .pt and .ts, torch.export in .pt2",
            received=f"{path} ({_first_line(error)})",
            remedy="A checkpoint of weights is not enough: torch.jit.script(model).save(path), or "
            "torch.export.save(torch.export.export(model, (kspace,)), path).",
        ) from error
    finally:
        log.disabled = False
    return KspaceNetwork(model, source=path.name)


def _ready(model: Any, acquisition: Acquisition) -> Any:
    """The model in evaluation mode, on the device and in the precision of the scan."""
    kspace = acquisition.kspace
    exported = isinstance(model, torch.export.ExportedProgram)
    if exported:
        from torch.export.passes import move_to_device_pass

        model = move_to_device_pass(model, kspace.device).module()
    if isinstance(model, nn.Module):
        # Exported programs refuse eval(): their mode is fixed.
        model = (model if exported else model.eval()).to(kspace.device)
        # Not .to(dtype), which would drop the imaginary part of complex parameters.
        model = model.double() if kspace.dtype == torch.complex128 else model.float()
    return model


def _tried(function: KspaceToImage, acquisition: Acquisition, expected: str) -> KspaceToImage:
    """The function, after one call on the scan: what does not fit is reported here, not as a failed derivative."""
    try:
        with torch.no_grad():
            function(acquisition.kspace)
    except InputError:
        raise
    except Exception as error:  # whatever a user's code raises
        raise InputError(
            "the network cannot take this scan",
            expected=expected,
            received=f"{_first_line(error)}, for k-space {tuple(acquisition.kspace.shape)}",
            remedy="Check the number of channels, and that its strides divide the matrix, else pad inside the network.",
        ) from error
    return function


def _as_channels(values: Tensor) -> Tensor:
    """(…) as (1, 1, …), or complex as (1, 2, …) of real and imaginary part."""
    if values.is_complex():
        return torch.view_as_real(values).movedim(-1, 0)[None]
    return values[None, None]


def _from_channels(values: Tensor) -> Tensor:
    """Inverse of `_as_channels`."""
    if values.shape[1] == 2:
        return torch.view_as_complex(values[0].movedim(0, -1).contiguous())
    return values[0, 0]


def _normalization(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Offset and scale of an image (1, channel, ...)."""
    if kind == "standard":
        axes = tuple(range(2, x.ndim))
        offset, scale = x.mean(axes, keepdim=True), x.std(axes, keepdim=True)
    elif kind == "maximum":
        # √ has no derivative at zero: the maximum first.
        offset, scale = x.new_zeros(()), x.square().sum(1).amax().sqrt()
    else:
        return x.new_zeros(()), x.new_ones(())
    return offset, scale.clamp_min(torch.finfo(x.dtype).tiny)


def _phase_encoding(mask: Tensor, asked: int | None) -> int:
    """Axis along which lines were skipped."""
    skipped = [axis for axis in (-2, -1) if not bool((mask == mask.narrow(axis, 0, 1)).all())]
    axis = asked if asked is not None else skipped[0] if skipped else -1
    if any(other != axis for other in skipped):
        raise InputError(
            "the sampling is not that of this network",
            expected="whole lines, skipped along the phase encoding" + (f", axis {axis}" if asked is not None else ""),
            received=f"samples skipped along {'both axes' if len(skipped) == 2 else f'axis {skipped[0]}'}",
            remedy="Use a 1D sampling pattern, and leave phase_encoding out to have its axis found.",
        )
    return axis


def _check_single(acquisition: Acquisition, dims: tuple[int, ...] = (2, 3)) -> None:
    if acquisition.spatial_dims not in dims:
        raise InputError(
            "this network takes slices",
            expected="k-space (coil, k1, k0), spatial_dims=2",
            received=f"spatial_dims={acquisition.spatial_dims}, shape {tuple(acquisition.kspace.shape)}",
            remedy="Transform the volume along its fully sampled axis and map the slices.",
        )
    if acquisition.batch_shape:
        raise InputError(
            "a network takes one image at a time",
            expected="k-space without leading axes",
            received=f"shape {tuple(acquisition.kspace.shape)}",
            remedy="noise_map does this by itself; else bind each of acquisition.slices().",
        )


def _checked_output(output: Any, shapes: list[tuple[int, ...]]) -> Tensor:
    if not isinstance(output, Tensor) or tuple(output.shape) not in shapes:
        raise InputError(
            "the network returns something else than an image",
            expected="a tensor of shape " + " or ".join(map(str, shapes)),
            received=str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__,
            remedy="Check its number of output channels; crop and pick the image inside the network.",
        )
    return output


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise InputError(
            f"invalid {name}",
            expected=" or ".join(map(str, choices)),
            received=str(value),
            remedy="Leave it out for the default.",
        )


def _deepinv_physics() -> Any:
    try:
        from deepinv import physics
    except ImportError as error:
        raise InputError(
            "deepinv cannot be imported",
            expected="deepinv and its dependency torchvision",
            received=_first_line(error),
            remedy="pip install deepinv, with the torchvision of your torch build.",
        ) from error
    return physics


def _axes(acquisition: Acquisition) -> str:
    return ", ".join(map(str, acquisition.spatial_shape))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:160]
