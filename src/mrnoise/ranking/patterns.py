"""Sampling patterns at equal acceleration, in the order of the noise in a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.encoding import resample
from mrnoise.linearization import image_of
from mrnoise.measurement.roi import bool_region, roi_std
from mrnoise.ranking.order import Uncertain
from mrnoise.ranking.sketches import (
    RankingProgress,
    check_counts,
    check_samples,
    counter,
    psnr_against,
    repeated_maps,
    worst,
)
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap
from mrnoise.sampling import (
    PATTERNS,
    REGULAR,
    TRAJECTORIES,
    Grid,
    Trajectory,
    sampling_mask,
    sampling_trajectory,
)


@dataclass(frozen=True, eq=False)
class PatternNoise:
    """Noise in a region with one sampling pattern.

    Parameters
    ----------
    pattern
        Its name in `mrnoise.sampling.PATTERNS` or `mrnoise.sampling.TRAJECTORIES`.
    acceleration
        Net R: all samples over acquired samples, calibration counted; of a trajectory voxels over samples.
    roi_std
        σ of the mean of |x| over the region, image units: exact for a regular pattern or a trajectory, the mean over
        its draws for a random one.
    voxel_std
        Root mean square of `NoiseMap.magnitude_std` in the region, mean over repetitions.
    psnr
        Of the image in dB against the same reconstruction of all samples; ``None`` where the scan is not fully sampled.
    linearity
        Worst verdict over all masks and slices, as in `mrnoise.NoiseMap.linearity`.
    sampling, noise_map
        Mask or trajectory of the first draw, and its map.
    n_draws
        Masks that were tried; of a trajectory 1.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> roi = scan.coil_maps[0].abs() > 0.1
    >>> (row,) = rank_patterns(CgSense(1e-2), scan, 2, roi, patterns=["poisson"], n_draws=2, n_samples=8)
    >>> row.acceleration, row.n_draws, row.linearity
    (2.0, 2, 'linear')
    >>> low, high = row.voxel_std.interval
    >>> low < row.voxel_std.value < high
    True
    """

    pattern: str
    acceleration: float
    roi_std: Uncertain
    voxel_std: Uncertain
    psnr: float | None
    linearity: str
    sampling: Tensor | Trajectory
    noise_map: NoiseMap
    n_draws: int


def rank_patterns(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    acceleration: float,
    roi: Tensor,
    *,
    patterns: Sequence[str] = PATTERNS,
    n_draws: int = 4,
    n_samples: int = 32,
    sampling_seed: int = 0,
    seed: int = 0,
    progress: RankingProgress | None = None,
) -> list[PatternNoise]:
    """Noise in a region with each sampling pattern at one net acceleration, least noise first.

    The scan is undersampled retrospectively; no truth is needed. σ of the mean over the region is that of
    `mrnoise.roi_std`, one backward pass a mask; the voxel σ comes from a sketch a draw. Both are to first order, and
    noise only: the aliasing that undersampling leaves is in the PSNR. Along a trajectory the scan is resampled, see
    `mrnoise.encoding.resample`, at as many samples as R says.

    Parameters
    ----------
    reconstruction
        As for `mrnoise.noise_map`; bound anew to each mask.
    acquisition
        The scan, fully sampled or, without trajectories, with every sample of the patterns.
    acceleration
        Net R; see `mrnoise.sampling.sampling_mask` for the calibration that is counted in it, and
        `mrnoise.sampling.sampling_trajectory`.
    roi
        Bool, image-shaped.
    patterns
        Names of `mrnoise.sampling.PATTERNS` and `mrnoise.sampling.TRAJECTORIES`.
    n_draws
        Masks of each random pattern, and σ maps of every pattern, whose spread gives the intervals.
    n_samples
        Probes of each map and slice.
    sampling_seed
        The mask of draw k has the seed ``sampling_seed + k``; the one mask of a regular pattern has the seed 0.
    seed
        The probes of draw k have the seed ``seed + k``.
    progress
        Told which pattern, how many maps are done, and of how many.

    Returns
    -------
    list of PatternNoise
        Sorted by ``roi_std``. After Ctrl-C: the patterns that are done, where there are two.

    Raises
    ------
    InputError
        If a pattern is unknown or cannot be drawn, the scan lacks its samples, the region does not fit, there are
        fewer than 2 draws or 8 samples, or the derivative fails the preflight.

    Examples
    --------
    >>> import torch
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> roi = torch.zeros(24, 20, dtype=torch.bool)
    >>> roi[8:16, 6:14] = True
    >>> scan, patterns = simulate((24, 20), 4), ("equispaced", "poisson")
    >>> for row in rank_patterns(CgSense(1e-2), scan, 2, roi, patterns=patterns, n_draws=2, n_samples=8):
    ...     print(f"{row.pattern:10s} σ of the mean {row.roi_std.value:.4f}")
    poisson    σ of the mean 0.0020
    equispaced σ of the mean 0.0027
    """
    roi = bool_region(roi)
    check_counts(n_draws, n_samples)
    reference = image_of(reconstruction, acquisition) if bool(acquisition.mask.all()) else None
    names = list(dict.fromkeys(patterns))
    drawn: dict[str, Sequence[Tensor | Trajectory]] = {}
    for name in names:
        if name in TRAJECTORIES:
            drawn[name] = [sampling_trajectory(name, acceleration, acquisition.spatial_shape)]
            continue
        seeds = [0] if name in REGULAR else range(sampling_seed, sampling_seed + n_draws)
        masks = [sampling_mask(name, acceleration, acquisition.spatial_shape, one) for one in seeds]
        for mask in masks:
            check_samples(acquisition, mask, name)
        drawn[name] = masks
    total = len(names) * n_draws
    found: list[PatternNoise] = []
    try:
        for index, name in enumerate(names):
            exact, sigmas, quality, verdicts, maps = [], [], [], [], []
            repeats = n_draws // len(drawn[name])
            for draw, sampling in enumerate(drawn[name]):
                if isinstance(sampling, Trajectory):
                    scan = resample(acquisition, sampling)
                else:
                    scan = acquisition.undersample(sampling)
                report = counter(progress, name, index * n_draws + draw, total)
                exact.append(roi_std(reconstruction, scan, roi))
                probes = range(seed + draw, seed + draw + repeats)
                repeated, verdict = repeated_maps(reconstruction, scan, probes, n_samples, report)
                sigmas += [float(nm.magnitude_std[roi].square().mean().sqrt()) for nm in repeated]
                quality.append(psnr_against(reference, repeated[0].image))
                verdicts.append(verdict)
                maps.append(repeated[0])
            first = drawn[name][0]
            known = [value for value in quality if value is not None]
            found.append(
                PatternNoise(
                    pattern=name,
                    acceleration=(first if isinstance(first, Trajectory) else Grid(first, first.ndim)).acceleration,
                    roi_std=Uncertain.repeated(exact) if len(exact) > 1 else Uncertain.exact(exact[0]),
                    voxel_std=Uncertain.repeated(sigmas),
                    psnr=sum(known) / len(known) if known else None,
                    linearity=worst(verdicts),
                    sampling=first,
                    noise_map=maps[0],
                    n_draws=len(exact),
                )
            )
    except KeyboardInterrupt:
        if len(found) < 2:
            raise
    return sorted(found, key=lambda row: row.roi_std.value)
