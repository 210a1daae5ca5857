"""A noise scan as read from a file, and the covariance of the image data that follows from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrnoise.acquisition import NoiseCovariance, noise_covariance_from_scan
from mrnoise.errors import InputError

# Dwell times of receivers in µs: bandwidths of 1 kHz to 20 MHz.
SHORTEST_DWELL, LONGEST_DWELL = 0.05, 1000.0


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
        Time between samples in µs; 0 where the file does not know it, ``None`` where it has no place for it.
    bandwidth
        Relative receiver noise bandwidth: mean noise density over the sampled band, divided by the
        density in its flat middle. At most 1.
    bandwidth_source
        Where ``bandwidth`` comes from.
    labels
        Coil names in the order of the samples; empty where unknown.
    notes
        Sentences on what was left out of the samples.
    fault
        Why the samples are no noise; empty where nothing speaks against them.
    """

    samples: Tensor
    source: str
    dwell_us: float | None = None
    bandwidth: float = 1.0
    bandwidth_source: str = "assumed"
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fault: str = ""

    @property
    def n_coils(self) -> int:
        """Number of coils."""
        return int(self.samples.shape[0])

    def matched(self, n_coils: int, labels: tuple[str, ...] = ()) -> NoiseScan:
        """The scan with the coils of image data, in their order.

        Parameters
        ----------
        n_coils
            Coils of the image data.
        labels
            Coil names of the image data; empty where unknown.

        Raises
        ------
        InputError
            If a coil of the image data is missing from the noise scan, or the numbers of coils differ.
        """
        if labels and self.labels and labels != self.labels:
            return self.select(_matched(labels, self.labels))
        if self.n_coils != n_coils:
            raise InputError(
                "coil count of the noise scan does not match the k-space",
                expected=f"{n_coils} coils",
                received=f"{self.n_coils} in {self.source}",
                remedy="Give the noise scan taken with the coils of this scan, (coil, sample).",
            )
        return self

    def select(self, coils: Sequence[int]) -> NoiseScan:
        """The scan with these coils, in this order."""
        labels = tuple(self.labels[i] for i in coils) if self.labels else ()
        return dataclasses.replace(self, samples=self.samples[torch.tensor(coils)], labels=labels)

    def covariance(self, dwell_us: float | None = None) -> NoiseCovariance:
        """Ψ of image data with this dwell time in µs; not scaled where one of the two is not known.

        Raises
        ------
        InputError
            If the samples do not determine Ψ.
        """
        psi = noise_covariance_from_scan(self.samples, self.source)
        factor = bandwidth_factor(dwell_us or 0.0, self.dwell_us or 0.0, self.bandwidth)
        if factor == 1.0:
            return psi
        return psi.scaled(
            factor,
            f"scaled by {factor:.4g} for dwell {self.dwell_us:g} to {dwell_us:g} µs and "
            f"receiver noise bandwidth {self.bandwidth:g} ({self.bandwidth_source})",
        )


def plausible_dwell(dwell_us: float | None, whose: str) -> tuple[float | None, tuple[str, ...]]:
    """A dwell time as it was meant, in µs, and a sentence where that is not what stands there.

    Receivers take a sample every 0.05 to 1000 µs. A number that is such a time in seconds, 5·10⁻⁸ to 10⁻³, is one in
    seconds. The two ranges do not meet, and any other number is as good as none.

    Parameters
    ----------
    dwell_us
        As the file has it: 0 where it is not known, ``None`` where the file has no place for it.
    whose
        What was sampled, for the sentence.

    Examples
    --------
    >>> plausible_dwell(5.0, "image")
    (5.0, ())
    >>> plausible_dwell(5e-6, "image")
    (5.0, ('the dwell time of the image, 5e-06, was taken as seconds: 5 µs',))
    """
    if not dwell_us or SHORTEST_DWELL <= dwell_us <= LONGEST_DWELL:
        return dwell_us, ()
    seconds = 1e6 * dwell_us
    # The bounds are decimals, the file holds single precision.
    if SHORTEST_DWELL * (1 - 1e-6) <= seconds <= LONGEST_DWELL * (1 + 1e-6):
        meant = float(f"{seconds:.6g}")
        return meant, (f"the dwell time of the {whose}, {dwell_us:g}, was taken as seconds: {meant:g} µs",)
    return 0.0, (f"the dwell time of the {whose}, {dwell_us:g} µs, is none of a receiver and was not used",)


def nearest_dwell(scans: Sequence[NoiseScan], dwell_us: float | None) -> NoiseScan:
    """The noise scan whose dwell time is nearest to that of the image, else the longest."""

    def distance(scan: NoiseScan) -> tuple[float, int]:
        known = dwell_us and scan.dwell_us
        return abs(math.log(scan.dwell_us / dwell_us)) if known else math.inf, -scan.samples.shape[1]  # type: ignore[operator]

    return min(scans, key=distance)


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
