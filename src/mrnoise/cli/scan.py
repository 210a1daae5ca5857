"""From the options of a command to an acquisition."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mrnoise.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from mrnoise.acquisition import Acquisition
    from mrnoise.reconstruction import KspaceToImage, Reconstruction


# Accelerations that are tried, up to twice what was asked for, where a part of the grid was encoded.
STEPS = 21


@dataclass(frozen=True)
class Undersampling:
    """What the options of a command say on sampling: a net acceleration, the spacing of a regular pattern, or neither.

    Raises
    ------
    InputError
        If they say both, or the pattern has no spacing.
    """

    acceleration: float | None
    spacing: str | None
    pattern: str
    calibration: int | None
    seed: int

    def __post_init__(self) -> None:
        from mrnoise.sampling import REGULAR

        if self.spacing is None:
            return
        if self.acceleration is not None:
            raise InputError(
                "acceleration and spacing exclude each other",
                expected="--acceleration or --spacing",
                received=f"--acceleration {self.acceleration:g} --spacing {self.spacing}",
                remedy="Give --acceleration for a net acceleration, --spacing for the distance between lines.",
            )
        if self.pattern not in REGULAR:
            raise InputError(
                "the pattern has no spacing",
                expected=f"--spacing with {' or '.join(REGULAR)}",
                received=f"--spacing {self.spacing} --pattern {self.pattern}",
                remedy="Give --acceleration, which every pattern takes.",
            )

    def mask_of(self, acquisition: Acquisition) -> Tensor | None:
        """The same of a scan: of what was encoded, at the acceleration asked for or as near as it comes."""
        import torch

        if self.acceleration is None and self.spacing is None:
            return None
        shape, ends = acquisition.spatial_shape, acquisition.grid.box
        sizes = [behind - first for first, behind in ends]
        if all(first + m // 2 == n // 2 for (first, _), m, n in zip(ends, sizes, shape, strict=True)):
            mask = torch.zeros(shape, dtype=torch.bool)
            drawn = self.mask(sizes)
            assert drawn is not None
            mask[tuple(slice(*both) for both in ends)] = drawn
            return mask
        if self.acceleration is None:
            return self.mask(shape)
        # The centre of k-space is not that of what was encoded: drawn on the whole grid, of which a part is left.
        found = []
        for step in range(STEPS):
            thinner = replace(self, acceleration=self.acceleration * (1 + step / STEPS))
            with contextlib.suppress(InputError):
                drawn = thinner.mask(shape)
                assert drawn is not None
                net = acquisition.undersample(drawn).acceleration
                found.append((abs(math.log(net / self.acceleration)), step, drawn))
        if not found:
            return self.mask(shape)
        return min(found, key=lambda one: one[:2])[2]

    def mask(self, shape: Sequence[int]) -> Tensor | None:
        """Which samples are kept, or ``None`` for all."""
        from mrnoise.sampling import caipi, equispaced, sampling_mask

        if self.acceleration is not None:
            return sampling_mask(self.pattern, self.acceleration, shape, self.seed, self.calibration)
        if self.spacing is None:
            return None
        numbers, along_lines = self.spacing.split(","), self.pattern == "equispaced"
        if len(numbers) > (1 if along_lines else 2) or not all(n.isdecimal() for n in numbers):
            raise InputError(
                "cannot read the spacing",
                expected="a whole number" + ("" if along_lines else ", or two, one for each phase encode"),
                received=f"--spacing {self.spacing} --pattern {self.pattern}",
                remedy="For example: --spacing 3" + ("" if along_lines else " or --spacing 2,3"),
            )
        first, last, calibration = int(numbers[0]), int(numbers[-1]), self.calibration or 0
        if along_lines:
            return equispaced(shape, first, calibration)
        return caipi(shape, (first, last), calibration=calibration)


def coils(text: str | None) -> list[int] | Literal["auto"]:
    """Coils to leave out: none, "auto" or numbers with commas between them.

    Raises
    ------
    InputError
        If the text is something else.
    """
    if text is None:
        return []
    if text == "auto":
        return "auto"
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise InputError(
            "cannot read the coils to leave out",
            expected="numbers with commas between them, or auto",
            received=f"--drop-coils {text}",
            remedy="For example: --drop-coils 3,7",
        )
    return [int(number) for number in numbers]


def load_scan(
    path: Path,
    noise: Path | None,
    *,
    noise_covariance: Path | None = None,
    drop_coils: str | None = None,
    group: str | None = None,
    slice_index: int | None,
    coil_maps: str,
    reconstruction: Reconstruction | KspaceToImage | None = None,
    axes: str | None = None,
    correct_gradient_delays: bool = False,
    undersampling: Undersampling | None = None,
    device: str = "cpu",
) -> Acquisition:
    """Read a scan, correct its gradients, choose a slice, find coil maps, undersample, move to a device; in this order.

    Fixed maps are those of the file, else ESPIRiT maps of the scan as read, before undersampling. A reconstruction that
    does without them goes on where the scan has no calibration lines.
    """
    from mrnoise.cli.display import ERR
    from mrnoise.io import read

    if coil_maps not in ("fixed", "propagated"):
        raise InputError(
            "unknown choice of coil maps",
            expected="fixed or propagated",
            received=coil_maps,
            remedy="Use fixed, the classical definition.",
        )
    acquisition = read(
        path,
        noise=noise,
        noise_covariance=noise_covariance,
        drop_coils=coils(drop_coils),
        group=group,
        axes=axes,
    )
    if correct_gradient_delays:
        from mrnoise.calibration import correct_gradient_delays as corrected

        acquisition = corrected(acquisition)
    whole = acquisition
    if slice_index is not None:
        slices = list(acquisition.slices())
        if not 0 <= slice_index < len(slices):
            raise InputError(
                "no such slice",
                expected=f"0 to {len(slices) - 1}",
                received=str(slice_index),
                remedy=f"Run mrnoise info {path} to see the shape of the scan.",
            )
        acquisition = slices[slice_index]
    if coil_maps == "propagated":
        acquisition = acquisition.replace(coil_maps=None)
    elif acquisition.coil_maps is None and acquisition.n_coils > 1:
        acquisition = _with_coil_maps(acquisition, whole, slice_index, reconstruction)
    for note in acquisition.notes:
        ERR.print(f"note: {note}", style="yellow", soft_wrap=True)
    mask = None if undersampling is None else undersampling.mask_of(acquisition)
    if mask is not None:
        acquisition = acquisition.undersample(mask)
    return acquisition if device == "cpu" else acquisition.to(device)


def _with_coil_maps(
    acquisition: Acquisition,
    whole: Acquisition,
    slice_index: int | None,
    reconstruction: Reconstruction | KspaceToImage | None,
) -> Acquisition:
    """With maps of its own calibration lines, else of the series that it is one of, else without if that will do."""
    from mrnoise.calibration import with_coil_maps
    from mrnoise.calibration.interleaved import interleaved_calibration
    from mrnoise.reconstruction.protocol import as_reconstruction
    from mrnoise.sampling import Grid

    try:
        return with_coil_maps(acquisition)
    except InputError as error:
        series = interleaved_calibration(whole) if isinstance(whole.sampling, Grid) else None
        if series is not None and slice_index is not None:
            return with_coil_maps(list(series.slices())[slice_index])
        method = None if reconstruction is None else as_reconstruction(reconstruction)
        if method is None or (method.needs_coil_maps and not method.estimates_coil_maps):
            raise
        without = f"no coil maps, hence no g-factor: {error.problem} ({error.received})"
        return acquisition.replace(notes=(*acquisition.notes, without))
