"""Everything measured in one image, and the rows that terminal, JSON and page share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.checks import check_seed
from mrnoise.errors import InputError
from mrnoise.linearization import image_of
from mrnoise.mapping.provenance import of_scan
from mrnoise.mapping.run import noise_map
from mrnoise.measurement.correlation import NoiseCorrelation, noise_correlation
from mrnoise.measurement.lesion import PointSpread, point_spread
from mrnoise.measurement.noise_power import NoisePowerSpectrum, noise_power_spectrum
from mrnoise.measurement.place import no_such_voxel, spacing
from mrnoise.measurement.roi import Measurement, bool_region, contrast_to_noise, difference_weights, weighted_sums
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, as_reconstruction
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance

AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Row:
    """One number.

    Parameters
    ----------
    quantity, unit, definition
        What it is; ``""`` for a number without unit.
    value
        The number.
    error
        Its standard deviation from scan to scan, or its standard error where it is estimated from noise samples;
        ``None`` where it has none.
    interval
        95 % interval.
    """

    quantity: str
    value: float
    unit: str
    definition: str
    error: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Measurements:
    """What `measure` found; what was not asked for is ``None``.

    Parameters
    ----------
    image
        Magnitude |x|, all axes.
    spacing, unit
        Distance between voxels along the spatial axes, in ``"mm"`` or ``"voxel"``.
    roi, background
        Bool, image-shaped.
    mean, background_mean, difference
        Of |x| over the regions.
    voxel
        Index of the voxel of the next three.
    voxel_value
        |x| there.
    correlation, point_spread
        Around it; no ``point_spread`` without coil maps.
    noise_power
        In ``roi``.
    noise_map
        Of the same scan and reconstruction; made where a background or a voxel needs it.
    provenance
        The scan, the reconstruction, the versions.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi = torch.zeros(16, 12, dtype=torch.bool)
    >>> roi[6:10, 4:8] = True
    >>> found = measure(CgSense(1e-3), simulate((16, 12), 4), roi=roi)
    >>> for heading, rows in found.sections().items():
    ...     print(heading, [row.quantity for row in rows])
    Region, 16 voxels ['mean of |x|', 'SNR of the mean']
    """

    image: Tensor
    spacing: tuple[float, ...]
    unit: str
    roi: Tensor | None = None
    background: Tensor | None = None
    mean: Measurement | None = None
    background_mean: Measurement | None = None
    difference: Measurement | None = None
    voxel: tuple[int, ...] | None = None
    voxel_value: Measurement | None = None
    correlation: NoiseCorrelation | None = None
    point_spread: PointSpread | None = None
    noise_power: NoisePowerSpectrum | None = None
    noise_map: NoiseMap | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def sections(self) -> dict[str, list[Row]]:
        """Rows by heading."""
        found: dict[str, list[Row]] = {}
        if self.roi is not None and self.mean is not None:
            found[f"Region, {int(self.roi.sum())} voxels"] = list(self._region(self.roi, self.mean))
        if self.difference is not None and self.background is not None:
            found[f"Against background, {int(self.background.sum())} voxels"] = list(self._contrast(self.difference))
        if self.noise_power is not None:
            found["Noise in the region"] = list(self._noise(self.noise_power))
        if self.voxel is not None:
            found[f"Voxel ({', '.join(map(str, self.voxel))})"] = list(self._voxel())
        return found

    def record(self) -> dict[str, Any]:
        """JSON-able: all rows, the radial noise power spectrum, how it was made."""
        record: dict[str, Any] = {
            "measurements": {name: [asdict(row) for row in rows] for name, rows in self.sections().items()}
        }
        if self.noise_power is not None:
            power = self.noise_power
            record["noise_power_spectrum"] = {
                "frequency": power.radial_frequency,
                "frequency_unit": f"1/{power.unit}",
                "value": power.radial,
                "standard_error": power.radial_error,
                "value_unit": f"image units² · {power.unit}^{len(self.spacing)}",
                "n_samples": power.n_samples,
                "method": power.method,
            }
        return record | {"provenance": self.stated()}

    def stated(self) -> dict[str, Any]:
        """How it was made, by name."""
        return {**self.provenance.stated(), "voxel_size": {"value": self.spacing, "unit": self.unit}}

    def _region(self, roi: Tensor, mean: Measurement) -> Iterator[Row]:
        yield _measured("mean of |x|", mean, "± its σ, correlations between voxels included")
        yield Row("SNR of the mean", mean.ratio, "", "mean / its σ")
        if self.noise_map is not None:
            independent = float(self.noise_map.magnitude_std[roi].square().sum().sqrt() / roi.sum())
            yield Row("σ of the mean / uncorrelated", mean.std / independent, "", "1 if the voxels were independent")

    def _contrast(self, difference: Measurement) -> Iterator[Row]:
        if self.background_mean is not None:
            yield _measured("mean of |x|", self.background_mean, "of the background")
        yield _measured("difference of means", difference, "± its σ, correlations between voxels included")
        yield Row("CNR of the means", difference.ratio, "", "difference / its σ: how surely the means differ")
        if self.noise_map is not None and self.roi is not None and self.background is not None:
            cnr = contrast_to_noise(self.noise_map, self.roi, self.background)
            yield Row("CNR of voxels", cnr, "", "|difference| / σ of |x| of a voxel, mean of both regions")

    def _noise(self, power: NoisePowerSpectrum) -> Iterator[Row]:
        sigma = power.variance**0.5
        error = 0.5 * power.variance_error / sigma if sigma > 0 else None
        yield Row("σ of |x|", sigma, "a.u.", f"root mean square, from {power.n_samples} noise images", error)
        for axis, length, uncertain in zip(self._axes(), power.length, power.length_error, strict=True):
            yield Row(
                f"autocorrelation length, {axis}",
                length,
                power.unit,
                "full width at half maximum; one voxel for white noise",
                uncertain,
            )

    def _voxel(self) -> Iterator[Row]:
        if self.voxel_value is not None:
            yield _measured("|x|", self.voxel_value, "± its σ")
            yield Row("SNR", self.voxel_value.ratio, "", "|x| / its σ")
        if self.point_spread is not None:
            spread = self.point_spread
            size = f"{spread.lesion_width:g} {spread.unit}" if spread.lesion_width else "one voxel"
            yield Row("contrast recovery", spread.contrast_recovery, "", f"response to a lesion of {size}, contrast 1")
            for axis, width in zip(self._axes(), spread.width, strict=True):
                yield Row(f"resolution, {axis}", width, spread.unit, "full width at half maximum of the response")
        if self.correlation is not None and self.correlation.coefficient is not None and self.voxel is not None:
            rho = self.correlation.coefficient.nan_to_num(0.0)
            own = self.voxel[-rho.ndim :]
            rho = rho.index_put(tuple(torch.tensor(i) for i in own), torch.tensor(0.0, dtype=rho.dtype))
            place = tuple(int(i) for i in torch.unravel_index(rho.abs().argmax(), rho.shape))
            yield Row("strongest correlation", float(rho[place]), "", f"of its noise, with voxel {place}")

    def _axes(self) -> tuple[str, ...]:
        return AXES[-len(self.spacing) :]


def _measured(quantity: str, found: Measurement, definition: str) -> Row:
    return Row(quantity, found.value, "a.u.", definition, found.std, found.interval())


def measure(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    *,
    roi: Tensor | None = None,
    background: Tensor | None = None,
    voxel: Sequence[int] | None = None,
    noise_power: bool = False,
    lesion_width: float = 0.0,
    n_samples: int = 320,
    target_error: float = 0.05,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Measurements:
    """Everything that is read from a region, a pair of regions or a voxel, in one call.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`.
    roi
        Bool, image-shaped: its mean, exact.
    background
        A second region: difference and contrast-to-noise ratios. Needs ``roi``.
    voxel
        Index into the image: SNR, noise correlation and, with coil maps, point spread.
    noise_power
        Noise power spectrum in ``roi``.
    lesion_width
        As for `point_spread`.
    n_samples
        As for `noise_power_spectrum`.
    target_error
        Of the noise map that ``background`` and ``voxel`` need.
    seed
        Of all noise samples.
    progress
        Told what is being done, how much of it is done, and of how much.

    Returns
    -------
    Measurements
        What was asked for; ``sections()`` has it as rows.

    Raises
    ------
    InputError
        If there is nothing to measure, or as the functions for each part.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi, background = torch.zeros(2, 16, 12, dtype=torch.bool)
    >>> roi[3:6, 4:8], background[7:9, 5:7] = True, True
    >>> found = measure(CgSense(1e-3), simulate((16, 12), 4, snr=20.0), roi=roi, background=background, voxel=(8, 6))
    >>> round(found.mean.value, 3), round(found.difference.ratio, 1), round(found.voxel_value.ratio, 1)
    (0.533, -8.4, 21.3)
    """
    check_seed(seed)
    if (roi is None and voxel is None) or (roi is None and (background is not None or noise_power)):
        raise InputError(
            "nothing to measure",
            expected="a region, a voxel, or both; a region for a background or a noise power spectrum",
            received="no region" + (" and no voxel" if voxel is None else ""),
            remedy="Give a region.",
        )
    weights: dict[str, Tensor] = {}
    if roi is not None:
        weights["mean"] = bool_region(roi)
        if background is not None:
            weights |= {"background_mean": background, "difference": difference_weights(roi, background)}
    image = image_of(reconstruction, acquisition).abs().cpu()
    place = None if voxel is None else tuple(int(i) for i in voxel)
    if place is not None:
        weights["voxel_value"] = _at(place, image)
    found = dict(zip(weights, weighted_sums(reconstruction, acquisition, list(weights.values())), strict=True))

    power = spread = nm = correlation = None
    if roi is not None and noise_power:

        def counted(done: int, total: int) -> None:
            if progress is not None:
                progress("noise power spectrum", done, total)

        power = noise_power_spectrum(reconstruction, acquisition, roi, n_samples=n_samples, seed=seed, progress=counted)
    if place is not None and acquisition.coil_maps is not None:
        spread = point_spread(reconstruction, acquisition, place, lesion_width=lesion_width)
    if background is not None or place is not None:

        def mapped(image: int, n_images: int, done: int, total: int, error: float) -> None:
            if progress is not None:
                progress("noise map", image * total + done, n_images * total)

        nm = noise_map(reconstruction, acquisition, target_error=target_error, seed=seed, progress=mapped)
        if nm.interrupted:
            raise KeyboardInterrupt
    if place is not None:
        correlation = noise_correlation(reconstruction, acquisition, place, nm)
    steps, unit = spacing(acquisition)
    return Measurements(
        image=image,
        spacing=steps,
        unit=unit,
        roi=roi,
        background=background,
        voxel=place,
        correlation=correlation,
        point_spread=spread,
        noise_power=power,
        noise_map=nm,
        provenance=replace(
            of_scan(acquisition, as_reconstruction(reconstruction).estimates_coil_maps),
            reconstruction=as_reconstruction(reconstruction).title,
            seed=seed,
        ),
        **found,
    )


def _at(voxel: tuple[int, ...], image: Tensor) -> Tensor:
    if len(voxel) != image.ndim or any(not 0 <= i < n for i, n in zip(voxel, image.shape, strict=False)):
        raise no_such_voxel(tuple(image.shape), voxel)
    weights = torch.zeros(image.shape, dtype=torch.bool)
    weights[voxel] = True
    return weights
