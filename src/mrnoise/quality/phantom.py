"""What one scan of a phantom says of the scanner: SNR and σ of the image, noise and signal of each coil."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.errors import InputError
from mrnoise.foreground import foreground
from mrnoise.mapping.run import MapProgress, noise_map
from mrnoise.measurement.roi import bool_region
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction


@dataclass(frozen=True)
class CoilQuality:
    """Of one coil; both are zero where it is dead.

    Parameters
    ----------
    noise
        √Ψ_cc, total complex σ of a sample, k-space units.
    signal
        Root mean square of its samples without their noise, k-space units.

    Examples
    --------
    >>> CoilQuality(noise=0.02, signal=0.7).signal
    0.7
    """

    noise: float
    signal: float


@dataclass(frozen=True)
class Quality:
    """Numbers of one scan that a scanner in order repeats.

    Parameters
    ----------
    snr, std
        Medians of `mrnoise.NoiseMap.snr` and ``std`` over the region.
    noise
        √ψ, ψ the mean of Ψ_cc over the coils that are not dead, k-space units.
    correlation
        Largest |Ψ_ab| / √(Ψ_aa Ψ_bb) of two coils.
    coils
        Each coil by its number in the file.

    Examples
    --------
    >>> found = Quality(42.0, 0.02, 0.02, 0.3, {0: CoilQuality(0.02, 0.7)})
    >>> found.snr, len(found.coils)
    (42.0, 1)
    """

    snr: float
    std: float
    noise: float
    correlation: float
    coils: dict[int, CoilQuality]


def measure_quality(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    region: Tensor | None = None,
    *,
    target_error: float = 0.01,
    seed: int = 0,
    progress: MapProgress | None = None,
) -> Quality:
    """SNR and σ of a region, noise and signal of each coil.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`. Numbers of ``acquisition.coil_numbers`` below the largest that are missing are those
        of dead coils.
    region
        Bool, image-shaped; ``None``: the object.
    target_error, seed, progress
        As for `mrnoise.noise_map`.

    Raises
    ------
    InputError
        If the region does not fit, or holds no voxel with noise; and as `mrnoise.noise_map` does.

    Examples
    --------
    >>> from mrnoise.reconstruction import CgSense
    >>> from mrnoise.simulation import simulate
    >>> found = measure_quality(CgSense(1e-3), simulate((24, 20), 4, snr=30.0))
    >>> round(found.snr), sorted(found.coils), round(found.noise / found.coils[2].noise)
    (42, [0, 1, 2, 3], 1)
    """
    nm = noise_map(reconstruction, acquisition, target_error=target_error, seed=seed, progress=progress)
    inside = foreground(nm.image) if region is None else bool_region(region)
    if inside.shape != nm.image.shape:
        raise InputError(
            "the region does not fit the image",
            expected=f"shape {tuple(nm.image.shape)}",
            received=str(tuple(inside.shape)),
            remedy="Draw it on the image of this scan.",
        )
    inside = inside & (nm.std > 0)
    if not bool(inside.any()):
        raise InputError(
            "the region holds no noise",
            expected="voxels inside the object",
            received="none with noise",
            remedy="Give a region inside the phantom.",
        )
    psi = acquisition.noise_covariance
    variance = psi.matrix.diagonal().real
    coils = dict.fromkeys(range(max(acquisition.coil_numbers) + 1), CoilQuality(0.0, 0.0))
    for number, own, signal in zip(
        acquisition.coil_numbers, variance.tolist(), _signals(acquisition, variance).tolist(), strict=True
    ):
        coils[number] = CoilQuality(own**0.5, signal)
    return Quality(
        float(nm.snr[inside].nanmedian()),
        float(nm.std[inside].nanmedian()),
        psi.mean_variance**0.5,
        psi.largest_correlation,
        coils,
    )


def _signals(acquisition: Acquisition, variance: Tensor) -> Tensor:
    """Root mean square over the samples that were acquired, noise taken away; of each coil."""
    axis = acquisition.coil_axis
    power = acquisition.kspace.abs().double().square()
    weight = acquisition.sampling.weight.to(power)
    acquired = (weight > 0).unsqueeze(axis).expand_as(power)
    repeats = 1.0 if acquisition.averages is None else acquisition.averages.double().unsqueeze(axis).clamp_min(1)
    shape = [-1] + [1] * (-axis - 1)
    own = (power - variance.to(power).reshape(shape) / repeats) * acquired
    coils = [i for i in range(power.ndim) if i != power.ndim + axis]
    mean = own.sum(coils) / acquired.sum(coils).clamp_min(1)
    return mean.clamp_min(0).sqrt()
