"""Reconstructions of one undersampled scan, in the order of their SNR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding import resample
from mrnoise.errors import InputError
from mrnoise.foreground import foreground
from mrnoise.linearization import image_of
from mrnoise.measurement.lesion import PointSpread, point_spread
from mrnoise.measurement.noise_power import NoisePowerSpectrum, noise_power_spectrum
from mrnoise.measurement.place import central_voxel
from mrnoise.measurement.roi import bool_region
from mrnoise.ranking.order import Uncertain
from mrnoise.ranking.sketches import RankingProgress, check_counts, check_samples, counter, psnr_against, repeated_maps
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap
from mrnoise.sampling import TRAJECTORIES, Grid, Trajectory, readout_mask, sampling_mask, sampling_trajectory

# Images whose PSNR differs by less are taken as equally good, dB.
EQUAL_PSNR = 0.5


@dataclass(frozen=True, eq=False)
class NetworkNoise:
    """SNR and noise texture of one reconstruction.

    Parameters
    ----------
    name
        What it is called.
    snr
        Median of `NoiseMap.snr` in the region, mean over repetitions.
    psnr
        Of its image in dB against the fully sampled SENSE image; ``None`` where the scan is not fully sampled.
    noise_power
        Noise texture in the region: `NoisePowerSpectrum.length` is the autocorrelation length.
    point_spread
        At the voxel nearest to the centre of the region: the local resolution; ``None`` without coil maps.
    linearity
        Worst verdict over slices, as in `mrnoise.NoiseMap.linearity`.
    noise_map
        Of the first repetition.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> methods = {"CG-SENSE": CgSense(1e-2)}
    >>> (row,) = rank_networks(methods, simulate((24, 20), 4), 2, n_repeats=2, n_samples=16)
    >>> row.name, round(row.snr.value), round(row.psnr), row.linearity
    ('CG-SENSE', 13, 27, 'linear')
    >>> tuple(round(mm) for mm in row.noise_power.length), tuple(round(mm) for mm in row.point_spread.width)
    ((7, 11), (10, 11))
    """

    name: str
    snr: Uncertain
    psnr: float | None
    noise_power: NoisePowerSpectrum
    point_spread: PointSpread | None
    linearity: str
    noise_map: NoiseMap


def rank_networks(
    reconstructions: Mapping[str, Reconstruction | KspaceToImage],
    acquisition: Acquisition,
    acceleration: float,
    *,
    pattern: str = "equispaced",
    roi: Tensor | None = None,
    n_repeats: int = 4,
    n_samples: int = 32,
    sampling_seed: int = 0,
    seed: int = 0,
    progress: RankingProgress | None = None,
) -> list[NetworkNoise]:
    """SNR, noise texture, resolution and PSNR of several reconstructions of one undersampled scan, highest SNR first.

    A reconstruction that smooths has high SNR: read it beside PSNR, resolution and autocorrelation length. At equal
    PSNR, see `equal_psnr`, the noise decides. All noise is to first order; ``linearity`` says whether that holds.

    Parameters
    ----------
    reconstructions
        By name; each as for `mrnoise.noise_map`.
    acquisition
        The scan, fully sampled or with every sample of the pattern; or along a trajectory, of which spokes or
        interleaves are left out, see `mrnoise.sampling.readout_mask`.
    acceleration, pattern, sampling_seed
        As for `mrnoise.sampling.sampling_mask`, net R with calibration counted. Or a name of
        `mrnoise.sampling.TRAJECTORIES`, along which a fully sampled scan is resampled.
    roi
        Bool, image-shaped; ``None``: the object.
    n_repeats
        σ maps of each, whose spread gives the interval of SNR.
    n_samples
        Probes of each map and slice; the noise power spectrum has as many as all maps together.
    seed
        The probes of repetition k have the seed ``seed + k``.
    progress
        Told which reconstruction, how many maps are done, and of how many; a spectrum counts as its maps.

    Returns
    -------
    list of NetworkNoise
        Sorted by ``snr``. After Ctrl-C: those that are done, where there are two.

    Raises
    ------
    InputError
        If the pattern cannot be drawn, the scan lacks its samples, the region does not fit, there are fewer than 2
        repetitions or 8 samples, or a derivative fails the preflight.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> methods = {"weak": CgSense(1e-3), "strong": CgSense(1e-1)}
    >>> for row in rank_networks(methods, simulate((24, 20), 4), 2, n_repeats=2, n_samples=16):
    ...     print(f"{row.name}: SNR {row.snr.value:.0f}, contrast recovery {row.point_spread.contrast_recovery:.2f}")
    strong: SNR 32, contrast recovery 0.44
    weak: SNR 8, contrast recovery 0.96
    """
    check_counts(n_repeats, n_samples)
    complete = isinstance(acquisition.sampling, Grid) and bool(acquisition.mask.all())
    full = image_of(Sense() if complete else CgSense(), acquisition)
    region = foreground(full) if roi is None else bool_region(roi)
    scan = _accelerated(acquisition, acceleration, pattern, sampling_seed)
    parts = 2 * n_repeats
    total = len(reconstructions) * parts
    found: list[NetworkNoise] = []
    try:
        for index, (name, reconstruction) in enumerate(reconstructions.items()):
            spectrum = counter(progress, name, index * parts, total)
            maps_done = counter(progress, name, index * parts + n_repeats, total)

            def groups_done(done: int, groups: int, spectrum: Callable[[float], None] = spectrum) -> None:
                spectrum(n_repeats * done / groups)

            # First the parts that refuse a region that does not fit.
            power = noise_power_spectrum(
                reconstruction,
                scan,
                region,
                n_samples=n_repeats * n_samples,
                seed=seed,
                progress=groups_done,
            )
            spread = None
            if scan.coil_maps is not None:
                spread = point_spread(reconstruction, scan, central_voxel(region))
            seeds = range(seed, seed + n_repeats)
            maps, verdict = repeated_maps(reconstruction, scan, seeds, n_samples, maps_done)
            found.append(
                NetworkNoise(
                    name=name,
                    snr=Uncertain.repeated([float(nm.snr[region].nanmedian()) for nm in maps]),
                    psnr=psnr_against(full if complete else None, maps[0].image),
                    noise_power=power,
                    point_spread=spread,
                    linearity=verdict,
                    noise_map=maps[0],
                )
            )
    except KeyboardInterrupt:
        if len(found) < 2:
            raise
    return sorted(found, key=lambda row: -row.snr.value)


def _accelerated(acquisition: Acquisition, acceleration: float, pattern: str, sampling_seed: int) -> Acquisition:
    if isinstance(acquisition.sampling, Trajectory):
        if pattern != "equispaced":
            raise InputError(
                "a scan along a trajectory has no patterns",
                expected="no pattern: spokes or interleaves are left out",
                received=pattern,
                remedy="Leave the pattern out, or rank on a fully sampled Cartesian scan.",
            )
        return acquisition.undersample(readout_mask(acquisition.sampling, acceleration))
    if pattern in TRAJECTORIES:
        return resample(acquisition, sampling_trajectory(pattern, acceleration, acquisition.spatial_shape))
    mask = sampling_mask(pattern, acceleration, acquisition.spatial_shape, sampling_seed)
    check_samples(acquisition, mask, pattern)
    return acquisition.undersample(mask)


def equal_psnr(rows: Sequence[NetworkNoise]) -> list[list[NetworkNoise]]:
    """Groups of two or more whose PSNR lies within 0.5 dB of each other, each in the order of the rows.

    Made from the best PSNR down: a group holds all that are at most 0.5 dB below its best.

    Parameters
    ----------
    rows
        Of `rank_networks`; those without a PSNR are left out.

    Returns
    -------
    list of list of NetworkNoise
        The group of the best PSNR first.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> methods = {"0.010": CgSense(0.010), "0.011": CgSense(0.011), "1": CgSense(1.0)}
    >>> rows = rank_networks(methods, simulate((16, 12), 4), 2, n_repeats=2, n_samples=16)
    >>> [[row.name for row in group] for group in equal_psnr(rows)]
    [['0.011', '0.010']]
    """
    groups: list[list[NetworkNoise]] = []
    best = float("inf")
    for row in sorted((row for row in rows if row.psnr is not None), key=lambda row: -(row.psnr or 0.0)):
        assert row.psnr is not None
        if not groups or best - row.psnr > EQUAL_PSNR:
            groups.append([])
            best = row.psnr
        groups[-1].append(row)
    return [[row for row in rows if row in group] for group in groups if len(group) > 1]
