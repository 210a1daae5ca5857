"""The one table of quantities: what is read from a noise map, its unit, definition, interval and looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from mrnoise.extensions import extensions

if TYPE_CHECKING:
    from mrnoise.result.noise_map import NoiseMap


@dataclass(frozen=True)
class Style:
    """How a quantity is drawn in figures and in the viewer.

    Parameters
    ----------
    title, definition
        Above its picture; the definition in a few words.
    colours
        Name of a colour map.
    from_zero
        Whether its colours begin at zero.
    percent
        Whether it is shown times 100.
    """

    title: str
    definition: str
    colours: str
    from_zero: bool
    percent: bool = False


@dataclass(frozen=True)
class Quantity:
    """What is read from a noise map, voxel by voxel.

    Parameters
    ----------
    unit
        ``"1"`` for a pure number.
    definition
        States the convention in words.
    value
        Noise map → real, image-shaped tensor; ``None`` where the map has it not.
    component
        Noise whose interval its own follows from: ``"std"`` for the total, ``"magnitude_std"``, ``"phase_std"``,
        ``"real_std"`` or ``"imaginary_std"``; ``None``: it has no interval.
    rule
        How it grows with that noise.
    style
        How it is drawn; ``None``: it is kept in HDF5 files and tables only, neither drawn nor written as NIfTI.
    asked_first
        Whether the terminal shows it.
    """

    unit: str
    definition: str
    value: Callable[[NoiseMap], Tensor | None]
    component: str | None = None
    rule: Literal["times", "squared", "divided"] = "times"
    style: Style | None = None
    asked_first: bool = False

    @property
    def short_unit(self) -> str:
        """For axes and tables: % where it is shown so, nothing for a pure number."""
        if self.style is not None and self.style.percent:
            return "%"
        return "" if self.unit == "1" else self.unit.replace("image units", "a.u.")

    @property
    def scale(self) -> float:
        """What it is multiplied by where it is shown."""
        return 100.0 if self.style is not None and self.style.percent else 1.0


def _magnitude(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.abs()


QUANTITIES: dict[str, Quantity] = {
    "image": Quantity(
        "image units",
        "magnitude |x| of the reconstructed image",
        lambda nm: nm.image.abs(),
        style=Style("Image", "magnitude |x|", "gray", True),
        asked_first=True,
    ),
    "variance": Quantity(
        "image units²",
        "E|δx|², total complex noise variance, real plus imaginary part",
        lambda nm: nm.variance,
        component="std",
        rule="squared",
    ),
    "std": Quantity(
        "image units",
        "√E|δx|², total complex noise standard deviation",
        lambda nm: nm.std,
        component="std",
        style=Style("Noise σ", "total complex, √E|δx|²", "inferno", False),
        asked_first=True,
    ),
    "magnitude_std": Quantity(
        "image units",
        "standard deviation of |x|: noise along the phase of the voxel",
        lambda nm: nm.magnitude_std,
        component="magnitude_std",
        style=Style("Noise of |x|", "σ along the phase", "inferno", False),
        asked_first=True,
    ),
    "phase_std": Quantity(
        "rad",
        "standard deviation of the phase of x: noise across the phase of the voxel / |x|",
        lambda nm: nm.phase_std,
        component="phase_std",
        style=Style("Phase noise", "σ of the phase", "inferno", False),
    ),
    "real_std": Quantity(
        "image units", "standard deviation of the real part of x", lambda nm: nm.real_std, component="real_std"
    ),
    "imaginary_std": Quantity(
        "image units",
        "standard deviation of the imaginary part of x",
        lambda nm: nm.imaginary_std,
        component="imaginary_std",
    ),
    "snr": Quantity(
        "1",
        "|x| / magnitude_std",
        lambda nm: nm.snr,
        component="magnitude_std",
        rule="divided",
        style=Style("SNR", "|x| / σ of |x|", "viridis", True),
        asked_first=True,
    ),
    "g_factor": Quantity(
        "1",
        "std / (√R · std of the fully sampled reference), R the true acceleration; the reference is the "
        "optimal SENSE combination with the same coils unless the record names another",
        lambda nm: nm.g_factor,
        component="std",
        style=Style("g-factor", "σ / (√R σ of full sampling)", "cividis", False),
        asked_first=True,
    ),
    "bias": Quantity(
        "image units",
        "|E g(y+n) - g(y)|, size of the noise-induced bias, itself known to bias_error",
        lambda nm: _magnitude(nm.bias),
        style=Style("Bias", "|E g(y+n) - g(y)|", "inferno", True),
    ),
    "bias_error": Quantity("image units", "standard error of the complex noise-induced bias", lambda nm: nm.bias_error),
    "departure": Quantity(
        "1",
        "rms|g(y+n) - g(y) - Jn| / rms|Jn| over a few n: departure of the reconstruction from its derivative; "
        "bounds the relative error of a first-order std",
        lambda nm: nm.departure,
        style=Style("Departure", "|g(y+n) - g(y) - Jn| / |Jn|", "cividis", True, percent=True),
    ),
    "relative_error": Quantity(
        "1",
        "standard error of std / std, from the number of probes",
        lambda nm: nm.relative_error,
        style=Style("Error of σ", "standard error / σ", "cividis", True, percent=True),
        asked_first=True,
    ),
}
"""Name → quantity. Others come in by ``QUANTITIES[name] = Quantity(…)``, or by an installed package whose entry points
of the group ``mrnoise.quantities`` name them: files, reports, figures and the terminal read this table."""


def quantities() -> Mapping[str, Quantity]:
    """Those of the table, then those of installed packages.

    Examples
    --------
    >>> quantities()["phase_std"].unit
    'rad'
    """
    points = extensions("mrnoise.quantities")
    return QUANTITIES | {name: point.load() for name, point in points.items() if name not in QUANTITIES}
