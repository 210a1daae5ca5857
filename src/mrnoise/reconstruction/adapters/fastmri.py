"""Networks of fastMRI that start from k-space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.reconstruction.adapters.common import (
    BoundAdapter,
    SliceAdapter,
    check_choice,
    check_single,
    checked_output,
)


@dataclass(frozen=True)
class FastmriVarNet(SliceAdapter):
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
        On `bind`, if samples were skipped along another axis.

    Examples
    --------
    >>> from mrnoise.sampling import equispaced
    >>> from mrnoise.simulation import simulate
    >>> class RootSumOfSquares(torch.nn.Module):
    ...     def forward(self, kspace, mask, num_low_frequencies):
    ...         images = torch.fft.ifft2(torch.view_as_complex(kspace), norm="ortho")
    ...         return images.abs().square().sum(1).sqrt()
    >>> scan = simulate((8, 6), 2, mask=equispaced((8, 6), 2))
    >>> FastmriVarNet(RootSumOfSquares(), 2).bind(scan)(scan.kspace).shape
    torch.Size([8, 6])
    """

    unit_gain = False  # root sum of squares of the coils
    estimates_coil_maps = True
    model: nn.Module = field(repr=False)
    n_calibration_lines: int | None = None
    phase_encoding: int | None = None

    def __post_init__(self) -> None:
        check_choice("phase_encoding", self.phase_encoding, (None, -2, -1))

    def bind(self, acquisition: Acquisition) -> BoundFastmriVarNet:
        """Return kspace (coil, k1, k0) → real image (y, x)."""
        return BoundFastmriVarNet(self, acquisition, *acquired_lines(acquisition, self.phase_encoding))


@dataclass(frozen=True, eq=False, repr=False)
class BoundFastmriVarNet(BoundAdapter):
    """`FastmriVarNet` of one scan.

    Parameters
    ----------
    mask
        The lines that were acquired, (1, 1, 1, phase encoding, 1).
    turned
        Whether the phase encoding is the axis before the last.
    """

    method: FastmriVarNet
    mask: Tensor
    turned: bool

    def __call__(self, kspace: Tensor) -> Tensor:
        """The image of the network, (coil, k1, k0) → (y, x)."""
        return of_lines(self.network, kspace, self.mask, self.turned, self.method.n_calibration_lines)


def acquired_lines(acquisition: Acquisition, phase_encoding: int | None) -> tuple[Tensor, bool]:
    """The acquired lines of a slice, (1, 1, 1, phase encoding, 1), and whether that is the axis before the last.

    Raises
    ------
    InputError
        If samples were skipped along another axis.
    """
    check_single(acquisition, (2,))
    axis = phase_encoding_axis(acquisition.mask, phase_encoding)
    lines = acquisition.mask.movedim(axis, -1)[0]
    return lines[None, None, None, :, None].to(acquisition.kspace.device), axis == -2


def of_lines(network: Callable[..., Any], kspace: Tensor, mask: Tensor, turned: bool, *options: Any) -> Tensor:
    """Image of network(kspace (1, coil, readout, phase encoding, 2), mask, *options)."""
    y = (kspace.mT if turned else kspace).clone(memory_format=torch.contiguous_format)
    y = torch.view_as_real(y)[None]
    x = checked_output(network(y, mask, *options), (1, *y.shape[2:4]))[0]
    return x.mT if turned else x


def phase_encoding_axis(mask: Tensor, asked: int | None) -> int:
    """Axis of a mask (k1, k0) along which lines were skipped, -2 or -1.

    Raises
    ------
    InputError
        If it is not the one that was asked for, or not the only one.
    """
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
