"""Images of a noise map as they are sent: one series for each quantity, in the place of their lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mrnoise.io.scans.mrd_geometry import mrd_geometry
from mrnoise.io.scans.mrd_header import Encoding
from mrnoise.result.quantities import quantities
from mrnoise.serving.messages import IMAGE_HEAD, MAGNITUDE, Meta, with_image

# Number of the series of each quantity; that of a preview is ten above.
SERIES = {"image": 1, "snr": 2, "std": 3, "g_factor": 4}
OF_PREVIEW = 10
# Largest stored integer: scanners keep twelve bits.
MOST_STORED = 4095
# A preview goes out before the largest value of its series is known: room for so many times that of the first image.
ROOM = 8.0
SAME_NAMES = (
    "measurement_uid",
    "position",
    "read_dir",
    "phase_dir",
    "slice_dir",
    "patient_table_position",
    "acquisition_time_stamp",
    "physiology_time_stamp",
    "user_int",
    "user_float",
)
COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")
Status = Literal["certified", "preview", "without a map"]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image of one quantity.

    Parameters
    ----------
    quantity
        Its name.
    values
        (y, x) or (z, y, x), as the map has them.
    line
        Head of a line of it.
    encoding
        That of its lines.
    index
        Number in the series, counted from 1.
    words
        How it was made.
    status
        ``"certified"``, ``"preview"``, or ``"without a map"`` of an image whose noise could not be mapped.
    corrected
        Whether it replaces one that was sent before.
    """

    quantity: str
    values: np.ndarray
    line: np.void
    encoding: Encoding
    index: int
    words: str
    status: Status = "certified"
    corrected: bool = False

    @property
    def preview(self) -> bool:
        """Whether it is a preview."""
        return self.status == "preview"

    @property
    def series(self) -> int:
        """Number of its series."""
        return SERIES[self.quantity] + (OF_PREVIEW if self.preview else 0)

    @property
    def key(self) -> tuple[int, int]:
        """Series and number in it."""
        return self.series, self.index

    @property
    def stored(self) -> np.ndarray:
        """As float32, (z, y, x)."""
        with np.errstate(over="ignore"):
            values = self.values.astype(np.float32)
        return values.reshape((1,) * (3 - values.ndim) + values.shape)

    @property
    def largest(self) -> float:
        """The largest finite value, 0 without any."""
        finite = self.stored[np.isfinite(self.stored)]
        return float(finite.max()) if finite.size else 0.0

    def message(self, slope: float | None = None) -> bytes:
        """The message, in float32, or in int16 with this slope: what is no number is 0, what is too large cut off."""
        values = self.stored
        undefined = int((~np.isfinite(values)).sum())
        more: dict[str, str | float] = {"mrnoise_undefined_voxels": undefined} if undefined else {}
        if slope is not None:
            scaled = np.rint(np.where(np.isfinite(values), values, 0.0) / slope)
            if cut := int((scaled > MOST_STORED).sum()):
                more["mrnoise_cut_off_voxels"] = cut
            values = np.clip(scaled, 0, MOST_STORED).astype("<i2")
            more |= {"RescaleSlope": slope, "RescaleIntercept": 0.0}
        return with_image(self._head(values.shape), {**self._meta(), **more}, values)

    def _head(self, shape: tuple[int, ...]) -> np.ndarray:
        head = np.zeros((), IMAGE_HEAD)
        for name in SAME_NAMES:
            head[name] = self.line[name]
        for name in COUNTERS:
            head[name] = self.line["idx"][name]
        lines = np.array([self.line])
        size = mrd_geometry(self.encoding, (shape[0], shape[1], shape[2]), lines).voxel_size
        head["field_of_view"] = [n * mm for n, mm in zip(shape[::-1], size[::-1], strict=True)]
        head["image_type"], head["image_index"], head["image_series_index"] = MAGNITUDE, self.index, self.series
        return head

    def _meta(self) -> Meta:
        quantity = quantities()[self.quantity]
        title = self.quantity if quantity.style is None else quantity.style.title
        label = f"{title} preview" if self.preview else title
        unit = "no unit" if quantity.unit == "1" else quantity.unit
        comment = f"{label} ({unit}), {self.words}. For research, not for diagnosis"
        meta: dict[str, str | float | list[str | float]] = {
            "DataRole": ["Image"] if self.quantity == "image" else ["Image", "Quantitative"],
            "ImageProcessingHistory": ["mrnoise"],
            "ImageComments": comment,
            "SeriesDescriptionAdditional": f"mrnoise_{self.quantity}" + ("_preview" if self.preview else ""),
            "Keep_image_geometry": 1,
            "ImageRowDir": [float(v) for v in self.line["read_dir"]],
            "ImageColumnDir": [float(v) for v in self.line["phase_dir"]],
            "ImageSliceDir": [float(v) for v in self.line["slice_dir"]],
            "mrnoise_quantity": self.quantity,
            "mrnoise_status": self.status,
            "mrnoise_unit": quantity.unit,
            "mrnoise_definition": quantity.definition,
        }
        if self.corrected:
            meta["mrnoise_replaces"] = "the image of this number that was sent before"
        return meta


def slope_of(largest: float) -> float:
    """Unit of an integer, so that the largest value fits."""
    return largest / MOST_STORED if largest > 0 else 1.0
