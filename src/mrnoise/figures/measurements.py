"""Figures of the page of measurements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mrnoise.figures.drawing import colour_bar, data_address, label_axes, new_figure
from mrnoise.figures.panel import INK, QUIET, chosen_slice
from mrnoise.files.record import to_numpy
from mrnoise.measurement import NoiseCorrelation, NoisePowerSpectrum, PointSpread
from mrnoise.measurement.measurements import AXES, Measurements

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGION, BACKGROUND, VOXEL, CURVES = "#ffb000", "#4dabf7", "#ff5d5d", ("#0b7285", "#c2541b", "#7048a8")
HEIGHT = 3.3  # inches
ZOOM = 12  # voxels each side of a point spread
CORRELATION_COLOURS = "RdBu_r"


def figures(found: Measurements) -> Iterator[tuple[str, str, str]]:
    """Title, explanation and data address of an SVG, for each that was measured."""
    yield "Where", "The image with the regions and the voxel.", data_address(_where(found))
    if found.noise_power is not None:
        yield (
            "Noise power spectrum",
            "Mean over rings of equal frequency with ± 2 standard errors, and the autocorrelation of the noise of |x| "
            "along each axis. White noise has a flat spectrum.",
            data_address(_noise_power(found.noise_power)),
        )
    if found.voxel is not None and found.correlation is not None and found.correlation.coefficient is not None:
        yield (
            "Noise correlation",
            "Correlation coefficient of the noise of |x| with that of the marked voxel. Islands far from it are "
            "voxels that undersampling folds onto it.",
            data_address(_correlation(found, found.correlation)),
        )
    if found.point_spread is not None:
        yield (
            "Point spread",
            "First-order response to a small lesion of contrast 1 at the voxel, and its profiles.",
            data_address(_point_spread(found, found.point_spread)),
        )


def _where(found: Measurements) -> Figure:
    image = to_numpy(found.image.double())
    index = _shown(found)
    figure = new_figure(HEIGHT, HEIGHT)
    axes = figure.add_subplot()
    axes.imshow(image[index], cmap="gray", aspect=_pixel(found), interpolation="nearest")
    for region, colour in ((found.roi, REGION), (found.background, BACKGROUND)):
        if region is not None and bool(region[index].any()):
            outline(axes, to_numpy(region[index]), colour)
    if found.voxel is not None:
        axes.plot(found.voxel[-1], found.voxel[-2], "+", color=VOXEL, markersize=9, markeredgewidth=1.4)
    axes.set_axis_off()
    return figure


def _noise_power(power: NoisePowerSpectrum) -> Figure:
    figure = new_figure(2.9 * HEIGHT, HEIGHT)
    left, right = figure.subplots(1, 2)
    f, value, error = (to_numpy(v) for v in (power.radial_frequency, power.radial, power.radial_error))
    left.fill_between(f, value - 2 * error, value + 2 * error, color=CURVES[0], alpha=0.22, linewidth=0)
    left.plot(f, value, color=CURVES[0], linewidth=1.8)
    left.set_xlim(0, f.max())
    left.set_ylim(0, None)
    dims = power.autocorrelation.ndim
    label_axes(left, f"frequency (1/{power.unit})", f"NPS (a.u.² {power.unit}{'²³'[dims - 2]})")
    rho = to_numpy(power.autocorrelation)
    for axis, frequency, colour in zip(range(-dims, 0), power.frequencies, CURVES, strict=False):
        place: list[Any] = [n // 2 for n in rho.shape]
        place[axis] = slice(None)
        n = len(frequency)
        step = 1 / float(n * (frequency[1] - frequency[0]))
        lags = (np.arange(n) - n // 2) * step
        right.plot(lags, rho[tuple(place)], color=colour, linewidth=1.8, marker=".", label=AXES[axis])
    right.axhline(0, color=QUIET, linewidth=0.6)
    right.legend(frameon=False, fontsize=9)
    label_axes(right, f"distance ({power.unit})", "autocorrelation")
    return figure


def _correlation(found: Measurements, correlation: NoiseCorrelation) -> Figure:
    assert correlation.coefficient is not None
    rho = to_numpy(correlation.coefficient)
    index = _voxel(found)[-rho.ndim :]
    figure = new_figure(2.4 * HEIGHT, HEIGHT)
    whole, near = figure.subplots(1, 2)
    plane = rho[index[:-2]]
    for axes in (whole, near):
        shown = axes.imshow(plane, cmap=CORRELATION_COLOURS, vmin=-1, vmax=1, aspect=_pixel(found))
        axes.set_axis_off()
    whole.plot(index[-1], index[-2], "+", color=INK, markersize=9, markeredgewidth=1.2)
    _zoom(near, index, plane.shape)
    colour_bar(figure, shown, [whole, near])
    return figure


def _point_spread(found: Measurements, spread: PointSpread) -> Figure:
    response = to_numpy(spread.response)
    index = _voxel(found)[-response.ndim :]
    figure = new_figure(2.9 * HEIGHT, HEIGHT)
    near, profile = figure.subplots(1, 2, width_ratios=(1, 1.5))
    plane = response[index[:-2]]
    y, x = index[-2:]
    near_by = plane[max(y - ZOOM, 0) : y + ZOOM + 1, max(x - ZOOM, 0) : x + ZOOM + 1]
    reach = float(np.abs(near_by).max()) or 1.0
    shown = near.imshow(plane, cmap=CORRELATION_COLOURS, vmin=-reach, vmax=reach, aspect=_pixel(found))
    near.set_axis_off()
    _zoom(near, index, plane.shape)
    colour_bar(figure, shown, [near])
    for axis, colour in zip(range(-len(found.spacing), 0), CURVES, strict=False):
        place: list[Any] = list(index)
        place[axis] = slice(None)
        line = response[tuple(place)]
        low, high = max(index[axis] - ZOOM, 0), min(index[axis] + ZOOM + 1, len(line))
        distance = (np.arange(low, high) - index[axis]) * found.spacing[axis]
        profile.plot(distance, line[low:high], color=colour, linewidth=1.8, marker=".", label=AXES[axis])
    profile.axhline(0, color=QUIET, linewidth=0.6)
    profile.legend(frameon=False, fontsize=9)
    label_axes(profile, f"distance ({spread.unit})", "response")
    return figure


# -- parts -----------------------------------------------------------------------------------------------------


def _voxel(found: Measurements) -> tuple[int, ...]:
    assert found.voxel is not None
    return found.voxel


def _shown(found: Measurements) -> tuple[int, ...]:
    """The slice with the voxel, else the middle one with the region."""
    if found.voxel is not None:
        return found.voxel[:-2]
    region = found.roi
    return chosen_slice(found.image, to_numpy(region)) if region is not None else ()


def _pixel(found: Measurements) -> float:
    dy, dx = found.spacing[-2:]
    return dy / dx


def _zoom(axes: Axes, index: tuple[int, ...], shape: tuple[int, ...]) -> None:
    y, x = index[-2:]
    axes.set_xlim(max(x - ZOOM, 0) - 0.5, min(x + ZOOM, shape[-1] - 1) + 0.5)
    axes.set_ylim(min(y + ZOOM, shape[-2] - 1) + 0.5, max(y - ZOOM, 0) - 0.5)


def outline(axes: Axes, region: np.ndarray, colour: str) -> None:
    """The edges between voxels inside and outside."""
    from matplotlib.collections import LineCollection

    padded = np.pad(region, 1)
    y, x = np.nonzero(padded[:, 1:] != padded[:, :-1])
    vertical = [((b - 0.5, a - 1.5), (b - 0.5, a - 0.5)) for a, b in zip(y, x, strict=True)]
    y, x = np.nonzero(padded[1:] != padded[:-1])
    horizontal = [((b - 1.5, a - 0.5), (b - 0.5, a - 0.5)) for a, b in zip(y, x, strict=True)]
    axes.add_collection(LineCollection([*vertical, *horizontal], colors=colour, linewidths=1.4))
