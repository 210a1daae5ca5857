"""What is given on the noise of a scan, and the acquisition with the noise that follows from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mrnoise.acquisition import (
    Acquisition,
    NoiseCovariance,
    disagreement,
    estimate_noise_covariance,
    faulty_coils,
    processing_findings,
)
from mrnoise.acquisition.background import UPPER_BOUND
from mrnoise.errors import InputError
from mrnoise.io.scans.noise_scan import NoiseScan, nearest_dwell, plausible_dwell
from mrnoise.sampling import Trajectory

# Images and coils of which k-space is looked at for doubts, of large ones so many that these are all of the samples.
ENOUGH, ENOUGH_SAMPLES = 8, 2**21


@dataclass(frozen=True, eq=False)
class GivenNoise:
    """What is given beside a scan on its noise; a reader hands over what it found, and gets Ψ.

    Parameters
    ----------
    scans
        Noise scans of a file of their own; those of the scan itself are not used then.
    covariance
        Ψ itself, (coil, coil), in squared units of this k-space. It goes before any noise scan and is not scaled.
    source
        Where ``covariance`` is from.
    drop_coils
        Coils to leave out, counted from 0, or "auto" for those that are dead or a copy of another.
    """

    scans: tuple[NoiseScan, ...] = ()
    covariance: Tensor | None = None
    source: str = "given"
    drop_coils: Sequence[int] | Literal["auto"] = ()

    def settled(
        self,
        acquisition: Acquisition,
        own: Sequence[NoiseScan] = (),
        *,
        dwell_us: float | None = None,
        labels: tuple[str, ...] = (),
    ) -> Acquisition:
        """The acquisition with the Ψ of its noise, without the coils to leave out, and what is to be said on both.

        Parameters
        ----------
        acquisition
            As read; whatever Ψ it has is replaced.
        own
            Noise scans of the file itself.
        dwell_us
            Dwell time of the image in µs; 0 where the file does not know it, ``None`` where it has no place for it.
        labels
            Coil names of the image; empty where unknown.

        Raises
        ------
        InputError
            If the noise scan does not fit, does not hold noise, or Ψ is not positive definite.
        """
        n_coils, scan, notes = acquisition.n_coils, None, list(acquisition.notes)
        dwell_us, words = plausible_dwell(dwell_us, "image")
        if self.covariance is None:
            scan, found = self._scan(own, n_coils, dwell_us, labels)
            notes += found
        if scan is not None:
            notes += words + scan.notes + _unscaled(scan.dwell_us, dwell_us)
        matrix = self.covariance
        _check_size(matrix, n_coils, self.source)
        dropped = self._dropped(acquisition, scan.samples if scan is not None and matrix is None else None)
        if dropped:
            kept = [i for i in range(n_coils) if i not in dropped]
            if not kept:
                raise _no_such_coils(self.drop_coils, n_coils)
            index = torch.tensor(kept)
            acquisition = acquisition.select_coils(kept)
            scan = None if scan is None else scan.select(kept)
            matrix = None if matrix is None else matrix[index][:, index]
            notes.append("left out: " + ", ".join(f"coil {i} ({why})" for i, why in sorted(dropped.items())))
        if matrix is not None:
            psi = NoiseCovariance(matrix, self.source)
        elif scan is not None:
            psi = scan.covariance(dwell_us)
        else:
            psi = estimated(acquisition)
            if UPPER_BOUND in psi.source:
                notes.append(
                    "Ψ is an upper bound, σ may be many times too large: hardly any of this k-space is free of signal. "
                    "Give a noise scan (--noise) or Ψ (--noise-covariance)."
                )
        notes += _doubts(acquisition, None if matrix is None and scan is None else psi)
        return acquisition.replace(noise_covariance=psi, notes=notes)

    def _scan(
        self, own: Sequence[NoiseScan], n_coils: int, dwell_us: float | None, labels: tuple[str, ...]
    ) -> tuple[NoiseScan | None, list[str]]:
        """The noise scan to use, with the coils of the image, and what is to be said of the others."""
        notes, usable = [], []
        for scan in self.scans or own:
            if scan.fault and self.scans:
                raise InputError(
                    f"the {scan.source} holds no noise",
                    expected="samples taken without excitation",
                    received=scan.fault,
                    remedy="Give the noise scan taken with this scan, or leave it out to estimate Ψ from k-space.",
                )
            if scan.fault:
                notes.append(f"the {scan.source} was not used: {scan.fault}")
            else:
                usable.append(_with_plausible_dwell(scan))
        fitting = [scan for scan in usable if scan.n_coils == n_coils]
        fitting = fitting or [scan for scan in usable if labels and set(labels) <= set(scan.labels)]
        # What was asked for, or an array beside k-space, says why it does not fit; lines of other coils are left out.
        fitting = fitting or [scan for scan in usable if self.scans or scan.dwell_us is None]
        chosen = nearest_dwell(fitting, dwell_us) if fitting else None
        notes += [
            f"{scan.samples.shape[1]} noise samples of {scan.n_coils} coils"
            + (f" and dwell time {scan.dwell_us:g} µs" if scan.dwell_us else "")
            + " were left out"
            for scan in usable
            if scan is not chosen
        ]
        return None if chosen is None else chosen.matched(n_coils, labels), notes

    def _dropped(self, acquisition: Acquisition, samples: Tensor | None) -> dict[int, str]:
        """Coils to leave out, and why."""
        n_coils = acquisition.n_coils
        if self.drop_coils != "auto":
            if any(not 0 <= i < n_coils for i in self.drop_coils):
                raise _no_such_coils(self.drop_coils, n_coils)
            return dict.fromkeys(self.drop_coils, "as asked")
        image = acquisition.kspace.movedim(acquisition.coil_axis, 0).flatten(1).to(torch.complex128)
        dead = dict.fromkeys((~(image != 0).any(1)).nonzero().flatten().tolist(), "dead")
        if self.covariance is not None:
            return faulty_coils(self.covariance) | dead
        values = image if samples is None else samples.to(torch.complex128)
        return faulty_coils(values @ values.mH) | dead


NOTHING_GIVEN = GivenNoise()


def estimated(acquisition: Acquisition) -> NoiseCovariance:
    """Ψ from k-space itself; the mean of N lines has the noise of one line over √N."""
    if isinstance(acquisition.sampling, Trajectory):
        raise InputError(
            f"{acquisition.source} says nothing of the noise of its trajectory",
            expected="an array noise (coil, sample), or a noise scan given beside it",
            received="neither",
            remedy="Give --noise or --noise-covariance: Ψ is estimated from k-space on a grid only.",
        )
    return estimate_noise_covariance(
        _of_one_average(acquisition), acquisition.mask, spatial_dims=acquisition.spatial_dims
    )


def _of_one_average(acquisition: Acquisition) -> Tensor:
    """K-space with the noise of one line everywhere."""
    if acquisition.averages is None:
        return acquisition.kspace
    return acquisition.kspace * acquisition.averages.clamp_min(1).sqrt().unsqueeze(acquisition.coil_axis)


def _doubts(acquisition: Acquisition, psi: NoiseCovariance | None) -> list[str]:
    """What the noise in k-space tells of a Ψ from elsewhere and of filters; some images and coils tell enough."""
    if isinstance(acquisition.sampling, Trajectory):
        return []
    dims, mask, averages = acquisition.spatial_dims, acquisition.mask, acquisition.averages
    kspace = acquisition.kspace.reshape(-1, *acquisition.kspace.shape[-dims - 1 :])
    most = min(ENOUGH, max(2, math.isqrt(ENOUGH_SAMPLES // math.prod(kspace.shape[2:]))))
    images, coils = (torch.linspace(0, n - 1, min(n, most)).long() for n in kspace.shape[:2])
    kspace = kspace[images[:, None], coils]
    if mask.ndim > dims:
        mask = mask.flatten(0, -dims - 1)[images]
    if averages is not None:
        averages = averages.flatten(0, -dims - 1)[images] if averages.ndim > dims else averages
        kspace = kspace * averages.clamp_min(1).sqrt().unsqueeze(-dims - 1)
    doubts = processing_findings(kspace, mask, spatial_dims=dims)
    if psi is not None:
        doubts = (disagreement(psi.select(coils.tolist()), kspace, mask, spatial_dims=dims), *doubts)
    return [doubt for doubt in doubts if doubt]


def _with_plausible_dwell(scan: NoiseScan) -> NoiseScan:
    dwell_us, words = plausible_dwell(scan.dwell_us, "noise scan")
    return dataclasses.replace(scan, dwell_us=dwell_us, notes=scan.notes + words)


def _unscaled(noise_us: float | None, image_us: float | None) -> tuple[str, ...]:
    """Says so where a file should know a dwell time and does not; arrays know none."""
    if (noise_us is None and image_us is None) or (noise_us and image_us):
        return ()
    whose = " and the ".join(name for name, us in (("noise scan", noise_us), ("image", image_us)) if not us)
    return (f"the dwell time of the {whose} is unknown: Ψ of the noise scan was not scaled to the bandwidth",)


def _check_size(matrix: Tensor | None, n_coils: int, source: str) -> None:
    if matrix is not None and tuple(matrix.shape) != (n_coils, n_coils):
        raise InputError(
            "the noise covariance does not fit the k-space",
            expected=f"{n_coils} × {n_coils}, one row for each coil",
            received=f"shape {tuple(matrix.shape)}, {source}",
            remedy="Give that of all coils of the scan; --drop-coils takes coils out of both.",
        )


def _no_such_coils(given: object, n_coils: int) -> InputError:
    return InputError(
        "these coils cannot be left out",
        expected=f"some of 0 to {n_coils - 1}, not all",
        received=str(given),
        remedy="Coils are counted from 0.",
    )
