"""A noise scan as read from a file, and the covariance of the image data that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrnoise.acquisition import NoiseCovariance, noise_covariance_from_scan
from mrnoise.errors import InputError


@dataclass(frozen=True, eq=False)
class NoiseScan:
    """Samples that hold noise only, and how the receiver took them.

    Parameters
    ----------
    samples
        Complex, (coil, sample).
    source
        File the samples come from.
    dwell_us
        Time between samples in µs; 0 where unknown.
    bandwidth
        Relative receiver noise bandwidth: mean noise density over the sampled band, divided by the
        density in its flat middle. At most 1.
    bandwidth_source
        Where ``bandwidth`` comes from.
    labels
        Coil names in the order of the samples; empty where unknown.
    """

    samples: Tensor
    source: str
    dwell_us: float = 0.0
    bandwidth: float = 1.0
    bandwidth_source: str = "assumed"
    labels: tuple[str, ...] = ()

    def covariance(self, n_coils: int, dwell_us: float = 0.0, labels: tuple[str, ...] = ()) -> NoiseCovariance:
        """Ψ of image data with these coils and this dwell time.

        Parameters
        ----------
        n_coils
            Coils of the image data.
        dwell_us
            Dwell time of the image data in µs; 0 where unknown.
        labels
            Coil names of the image data; empty where unknown.

        Raises
        ------
        InputError
            If a coil of the image data is missing from the noise scan, the numbers of coils differ,
            or the samples do not determine Ψ.
        """
        psi = noise_covariance_from_scan(self.samples, self.source)
        if labels and self.labels and labels != self.labels:
            psi = psi.select(_matched(labels, self.labels))
        if psi.n_coils != n_coils:
            raise InputError(
                "coil count of the noise scan does not match the k-space",
                expected=f"{n_coils} coils",
                received=f"{psi.n_coils} in {self.source}",
                remedy="Give the noise scan taken with the coils of this scan, (coil, sample).",
            )
        factor = bandwidth_factor(dwell_us, self.dwell_us, self.bandwidth)
        if factor == 1.0:
            return psi
        return psi.scaled(
            factor,
            f"scaled by {factor:.4g} for dwell {self.dwell_us:g} to {dwell_us:g} µs and "
            f"receiver noise bandwidth {self.bandwidth:g} ({self.bandwidth_source})",
        )


def bandwidth_factor(dwell_us: float, noise_dwell_us: float, bandwidth: float) -> float:
    r"""Factor from the covariance of the noise scan to that of the image data.

        Ψ = Ψ_scan · (T_noise / T) / B

    White noise of density S, averaged by the receiver over one dwell time T, has the variance S / T: a
    longer dwell time means a narrower band and less noise. The receiver filter attenuates the edges of the
    sampled band, so the variance of a noise sample is only B S / T_noise, while the object lies in the
    flat middle of the band, where the density is S. Divide the two.

    B was measured on a noise scan of 96 readouts, twice oversampled, 16 coils: its density in the middle
    half of the band is 1 / 0.7925 of the mean.

    The literature writes the reciprocal, T / T_noise · B, because it multiplies the square of the whitening
    matrix, or the whitened data, and not Ψ (Kellman and McVeigh 2005, doi:10.1002/mrm.20713).

    Parameters
    ----------
    dwell_us, noise_dwell_us
        Dwell times of the image data and of the noise scan, same unit.
    bandwidth
        B, the relative receiver noise bandwidth.

    Returns
    -------
    float
        1 where a dwell time is unknown (zero): without the two, nothing is known of the receiver.
    """
    if dwell_us <= 0 or noise_dwell_us <= 0:
        return 1.0
    return noise_dwell_us / dwell_us / bandwidth


def _matched(wanted: tuple[str, ...], present: tuple[str, ...]) -> list[int]:
    """Index into the noise scan of each coil of the image data, by name."""
    missing = [name for name in wanted if name not in present]
    if missing or len(set(present)) < len(present) or len(set(wanted)) < len(wanted):
        raise InputError(
            "coils of the noise scan do not match those of the k-space",
            expected=f"each of {list(wanted)} once",
            received=f"{list(present)}" + (f", without {missing}" if missing else ", names repeated"),
            remedy="Give the noise scan taken with the coils of this scan.",
        )
    return [present.index(name) for name in wanted]
