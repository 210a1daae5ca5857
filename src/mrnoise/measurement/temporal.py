"""Temporal SNR as far as thermal noise goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.estimators import Estimate, Key, Plan
from mrnoise.estimators.batching.stream import stream
from mrnoise.estimators.moments import Accumulator
from mrnoise.estimators.sampler import sampler
from mrnoise.estimators.sampling_error import EmpiricalError
from mrnoise.foreground import foreground
from mrnoise.linearization import Images, NoiseToImage
from mrnoise.mapping.assembly import MappedImage, assemble
from mrnoise.mapping.provenance import of_scan
from mrnoise.mapping.run import DEFAULT_TARGET_ERROR
from mrnoise.progress import MapProgress
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction, as_reconstruction
from mrnoise.reconstruction.series import Series, series_axis
from mrnoise.reconstruction.temporal_mean import TemporalMean
from mrnoise.result.noise_map import NoiseMap


def temporal_snr(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    *,
    axis: str | None = None,
    n_samples: int | None = None,
    target_error: float | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: MapProgress | None = None,
) -> NoiseMap:
    """The tSNR that thermal noise leaves to a series, |x̄| / σ_t: what physiology and drifts lower further.

    σ_t is the standard deviation over time that fMRI measures, of noise alone,

        σ_t² = E 1/(T-1) Σ_t (δ_t - δ̄)²,   δ_t = Re(ū_t δx_t)

    with u the phase of the voxel: the σ of a frame where frames are independent, less where their noise is correlated
    and moves with the mean. The σ of the mean itself is that of a map of `mrnoise.reconstruction.TemporalMean`.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`. Where the derivative fails the preflight, the noise is that of replicas.
    axis
        Of the series. ``None``: the only leading axis beside slices.
    n_samples, target_error, seed, batch_size, progress
        As for `mrnoise.noise_map`. One sample of all T images counts as T - 1 of a voxel.

    Returns
    -------
    NoiseMap
        Of the mean of |x_t|: its ``std`` is σ_t and its ``snr`` the tSNR, with their intervals.

    Raises
    ------
    InputError
        If the scan has no such axis, only one image along it, or an option is invalid.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> found = temporal_snr(CgSense(1e-3), simulate((16, 12), 4, n_frames=20, snr=30.0), target_error=0.1)
    >>> round(float(found.snr[8, 6]), 1), found.n_samples, bool(found.certified_error < 0.1)
    (44.8, 14, True)
    """
    if n_samples is None and target_error is None:
        target_error = DEFAULT_TARGET_ERROR
    started = time.perf_counter()
    inner = as_reconstruction(reconstruction)
    name = series_axis(acquisition, axis)
    n_images = acquisition.batch_shape[acquisition.axes.index(name)]
    if n_images < 2:
        raise InputError(
            "nothing varies over time",
            expected=f"at least 2 images along {name}",
            received=str(n_images),
            remedy="Give the whole series.",
        )
    images, means = Images.of(Series(inner, name), acquisition), Images.of(TemporalMean(inner, name), acquisition)
    place, first_order = images.within.index(name), True
    mapped: list[MappedImage] = []
    for index, operator in enumerate(images):
        mean = operator.value.abs().mean(place)
        told = None if progress is None else partial(progress, index, images.count)
        plan = Plan(n_samples, target_error, foreground(mean), batch_size, told)
        first_order = first_order and operator.preflight.jvp_mode is not None
        try:
            estimate = _over_time(operator, place, plan, Key(seed, index))
        except KeyboardInterrupt:
            if not mapped:
                raise
            break
        operator.check_unchanged()
        mapped.append(MappedImage(mean.cpu(), estimate.cpu(), preflight=operator.preflight))
        if estimate.interrupted:
            break
    assert mapped[0].preflight is not None
    provenance = replace(
        of_scan(acquisition, inner.estimates_coil_maps),
        reconstruction=f"mean over {name} of {inner.title}; σ is that of {name}s around it",
        why="σ over time from noise images of the whole series",
        noise_model="first order in the noise" if first_order else "replicas at the noise level of the scan",
        seed=seed,
        distribution="phase" if first_order else "gaussian",
        target_error=target_error,
        preflight=mapped[0].preflight.describe(),
        seconds=round(time.perf_counter() - started, 3),
    )
    return assemble(means, mapped, provenance)


def _over_time(operator: NoiseToImage, place: int, plan: Plan, key: Key) -> Estimate:
    phase, first_order = operator.phase.conj(), operator.preflight.jvp_mode is not None

    def along_phase(image: Tensor) -> Tensor:
        noise = phase * image
        return noise.real if noise.is_complex() else noise

    readout = operator.followed_by(along_phase)
    distribution = "phase" if first_order else "gaussian"
    draw = sampler(readout.noise_shape, readout.noise_dtype, key=key, distribution=distribution, device=readout.device)

    def evaluate(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        noise = draw(indices)
        return (readout.apply(noise) if first_order else readout.replicas(noise)), noise

    return stream(evaluate, _VarianceOverTime(place), plan, readout)


class _VarianceOverTime(Accumulator):
    """Running Σq and Σq² of q = 1/(T-1) Σ_t (δ_t - δ̄)² of real noise images."""

    def __init__(self, place: int) -> None:
        self._place, self.count = place, 0
        self._sum: Tensor | float = 0.0
        self._square: Tensor | float = 0.0

    def add(self, samples: Tensor, probes: Tensor) -> None:
        """Take in δ, (B, *series)."""
        q = samples.double().var(self._place + 1)
        self._sum, self._square = self._sum + q.sum(0), self._square + q.square().sum(0)
        self.count += len(q)

    def estimate(self, interrupted: bool) -> Estimate:
        """Their mean, as the variance of real noise."""
        n = self.count
        mean = torch.as_tensor(self._sum) / n
        spread = (
            (torch.as_tensor(self._square) / n - mean.square()).clamp_min(0) / (n - 1) if n > 1 else mean * torch.nan
        )
        freedom = torch.tensor(float(n - 1))
        complex_spread = spread.to(torch.complex128)
        return Estimate(
            variance=mean,
            pseudo_variance=mean.to(torch.complex128),
            error=EmpiricalError(spread, complex_spread, spread, complex_spread, freedom),
            method="temporal_snr",
            n_samples=n,
            n_products=n,
            interrupted=interrupted,
        )
