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
    from mrnoise.sampling import Trajectory


# Accelerations that are tried, up to twice what was asked for, where a part of the grid was encoded.
STEPS = 21
# Of an index.
MOST_DIGITS = 10


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
        """The same of a scan: of what was encoded, at the acceleration asked for or as near as it comes.

        Of a trajectory: which readouts.
        """
        import torch

        from mrnoise.sampling import Trajectory

        if isinstance(acquisition.sampling, Trajectory):
            return self.readouts_of(acquisition.sampling)
        if not self._asked_for():
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

    def readouts_of(self, trajectory: Trajectory) -> Tensor | None:
        """Which spokes or interleaves are kept, or ``None`` for all."""
        from mrnoise.sampling import readout_mask

        if self.pattern != "equispaced" or self.calibration:
            raise InputError(
                "a trajectory has no patterns and no calibration lines",
                expected="-R or --spacing, which leave out spokes or interleaves",
                received=f"--pattern {self.pattern}" + (f" --calibration {self.calibration}" * bool(self.calibration)),
                remedy="Leave --pattern and --calibration out.",
            )
        if self.acceleration is None and self.spacing is None:
            return None
        if self.spacing is not None and not self.spacing.isdecimal():
            raise InputError(
                "cannot read the spacing",
                expected="a whole number: every so many spokes or interleaves",
                received=f"--spacing {self.spacing}",
                remedy="For example: --spacing 3",
            )
        return readout_mask(trajectory, self.acceleration, None if self.spacing is None else int(self.spacing))

    def mask(self, shape: Sequence[int]) -> Tensor | None:
        """Which samples are kept, or ``None`` for all."""
        from mrnoise.sampling import caipi, equispaced, sampling_mask

        if not self._asked_for():
            return None
        if self.acceleration is not None:
            return sampling_mask(self.pattern, self.acceleration, shape, self.seed, self.calibration)
        assert self.spacing is not None
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

    def _asked_for(self) -> bool:
        """Whether samples are left out; how, without how many, is an error."""
        if self.acceleration is not None or self.spacing is not None:
            return True
        if self.pattern != "equispaced" or self.calibration:
            raise InputError(
                "nothing is undersampled",
                expected="--acceleration or --spacing beside --pattern and --calibration",
                received=f"--pattern {self.pattern}" + (f" --calibration {self.calibration}" * bool(self.calibration)),
                remedy="Give -R, or leave --pattern and --calibration out.",
            )
        return False


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
    if not all(number.isdecimal() and len(number) < MOST_DIGITS for number in numbers):
        raise InputError(
            "cannot read the coils to leave out",
            expected="numbers with commas between them, or auto",
            received=f"--drop-coils {text}",
            remedy="For example: --drop-coils 3,7",
        )
    return [int(number) for number in numbers]


def place_of(text: str, acquisition: Acquisition) -> dict[str, int]:
    """Which part of a stack is meant, for `Acquisition.at`.

    Parameters
    ----------
    text
        Names of leading axes with an index each, "echo=1,slice=3"; axes that are not named stay whole. Or the number of
        an image, of which the last leading axis varies fastest.
    acquisition
        The stack.

    Raises
    ------
    InputError
        If there is no such part, or the text is something else.
    """
    axes, sizes = acquisition.axes, acquisition.batch_shape
    if text.isdecimal() and len(text) < MOST_DIGITS and int(text) < math.prod(sizes):
        number, found = int(text), []
        for n in reversed(sizes):
            number, index = divmod(number, n)
            found.append(index)
        return dict(zip(axes, reversed(found), strict=True))
    named = [(axis.strip(), index.strip()) for axis, _, index in (one.partition("=") for one in text.split(","))]
    place = {axis: int(index) for axis, index in named if index.isdecimal() and len(index) < MOST_DIGITS}
    known = dict(zip(axes, sizes, strict=True))
    if len(place) < len(named) or any(index >= known.get(axis, 0) for axis, index in place.items()):
        ranges = ", ".join(f"{axis}=0 to {axis}={n - 1}" for axis, n in known.items())
        raise InputError(
            "no such slice",
            expected=f"0 to {math.prod(sizes) - 1}, or {ranges}" if ranges else "no --slice: the scan is one image",
            received=text,
            remedy="mrnoise info shows the leading axes of the scan and their lengths.",
        )
    return place


def load_scan(
    path: Path,
    noise: Path | None,
    *,
    noise_covariance: Path | None = None,
    drop_coils: str | None = None,
    group: str | None = None,
    part: str | None,
    coil_maps: str,
    reconstruction: Reconstruction | KspaceToImage | None = None,
    axes: str | None = None,
    trajectory: Path | None = None,
    matrix: str | None = None,
    trajectory_unit: str | None = None,
    correct_gradient_delays: bool = False,
    undersampling: Undersampling | None = None,
    device: str = "cpu",
) -> Acquisition:
    """Read a scan, correct gradients, choose a part, find coil maps, undersample, move to a device; in this order.

    Fixed maps are those of the file, else ESPIRiT maps of the scan as read, before undersampling. A reconstruction that
    does without them goes on where the scan has no calibration lines.
    """
    from mrnoise.cli.display import ERR
    from mrnoise.io import read
    from mrnoise.mapping.coil_maps import check_choice, with_chosen_maps

    check_choice(coil_maps)
    acquisition = read(
        path,
        noise=noise,
        noise_covariance=noise_covariance,
        drop_coils=coils(drop_coils),
        group=group,
        axes=axes,
        trajectory=trajectory,
        matrix=matrix,
        trajectory_unit=trajectory_unit,
    )
    if correct_gradient_delays:
        from mrnoise.calibration import correct_gradient_delays as corrected

        acquisition = corrected(acquisition)
    whole, place = acquisition, {} if part is None else place_of(part, acquisition)
    acquisition = acquisition.at(**place)
    if part is not None and part.isdecimal() and sum(n > 1 for n in whole.batch_shape) > 1:
        words = ", ".join(f"{axis} {i}" for axis, i in place.items())
        acquisition = acquisition.replace(notes=(*acquisition.notes, f"image {part} of the stack is {words}"))
    acquisition = with_chosen_maps(acquisition, coil_maps, reconstruction, whole, place)
    for note in acquisition.notes:
        ERR.print(f"note: {note}", style="yellow", soft_wrap=True)
    mask = None if undersampling is None else undersampling.mask_of(acquisition)
    if mask is not None:
        acquisition = acquisition.undersample(mask)
    return acquisition if device == "cpu" else acquisition.to(device)
