"""Scan and reconstruction as a command was told them; `mrnoise map` keeps this in the map, to be made again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrnoise.acquisition import Acquisition
    from mrnoise.reconstruction import KspaceToImage, Reconstruction

FILES = ("scan", "noise", "trajectory", "noise_covariance")


@dataclass(frozen=True)
class Recipe:
    """Scan and reconstruction in the words of the command line; see `mrnoise.cli.options`."""

    scan: Path
    noise: Path | None = None
    group: str | None = None
    axes: str | None = None
    trajectory: Path | None = None
    matrix: str | None = None
    trajectory_unit: str | None = None
    correct_gradient_delays: bool = False
    noise_covariance: Path | None = None
    drop_coils: str | None = None
    reconstruction: str = "cg-sense"
    weights: str = "brain"
    normalization: str = "propagated"
    regularization: float | None = None
    mean_over: str | None = None
    tsnr_over: str | None = None
    coil_maps: str = "fixed"
    acceleration: float | None = None
    spacing: str | None = None
    pattern: str = "equispaced"
    calibration: int | None = None
    sampling_seed: int = 0
    part: str | None = None

    def method(self) -> Reconstruction | KspaceToImage:
        """The reconstruction.

        Raises
        ------
        InputError
            If there is none of this name, or with these settings.
        """
        from mrnoise.catalogue import Settings, reconstruction
        from mrnoise.reconstruction import TemporalMean
        from mrnoise.reconstruction.protocol import as_reconstruction

        settings = Settings(self.regularization, self.weights, self.normalization, self.coil_maps)
        found = reconstruction(self.reconstruction, settings)
        settings.check_taken(self.reconstruction)
        return found if self.mean_over is None else TemporalMean(as_reconstruction(found), self.mean_over)

    def acquisition(self, method: Reconstruction | KspaceToImage, device: str = "cpu") -> Acquisition:
        """The scan.

        Raises
        ------
        InputError
            If it cannot be read, or not in this way.
        """
        from mrnoise.cli.scan import Undersampling, load_scan

        return load_scan(
            self.scan,
            self.noise,
            group=self.group,
            axes=self.axes,
            trajectory=self.trajectory,
            matrix=self.matrix,
            trajectory_unit=self.trajectory_unit,
            correct_gradient_delays=self.correct_gradient_delays,
            noise_covariance=self.noise_covariance,
            drop_coils=self.drop_coils,
            part=self.part,
            coil_maps=self.coil_maps,
            reconstruction=method,
            undersampling=Undersampling(
                self.acceleration, self.spacing, self.pattern, self.calibration, self.sampling_seed
            ),
            device=device,
        )

    def stated(self) -> dict[str, Any]:
        """What was not left to its default, and the reconstruction."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "reconstruction" or value != field.default:
                found[field.name] = str(value) if isinstance(value, Path) else value
        return found

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Recipe:
        """From `stated`; names that it does not know are left out.

        Raises
        ------
        KeyError, TypeError
            If it has no scan, or a value of another kind.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        known = {name: value for name, value in record.items() if name in defaults}
        numbers = {"regularization": float, "acceleration": float, "calibration": int, "sampling_seed": int}
        for name, value in known.items():
            kind = numbers.get(name, bool if name == "correct_gradient_delays" else str)
            if not isinstance(value, int | float if kind is float else kind):
                raise TypeError(f"{name} is {value!r}")
        return cls(**known | {name: Path(known[name]) for name in FILES if name == "scan" or name in known})
