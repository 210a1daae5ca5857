"""What all rankings are made of: σ maps to first order, repeated, and the image that a scan ought to give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from mrnoise.acquisition.acquisition import Acquisition
from mrnoise.checks import check_count
from mrnoise.errors import InputError
from mrnoise.estimators import Plan, linearity, sketch
from mrnoise.estimators.choice.linearity import LINEAR, NOT_LINEAR, UNDECIDED
from mrnoise.estimators.key import Key
from mrnoise.foreground import foreground
from mrnoise.linearization import Images
from mrnoise.linearization.checks import refuse
from mrnoise.mapping.assembly import MappedImage, assemble
from mrnoise.metrics import psnr
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.result.noise_map import NoiseMap
from mrnoise.result.provenance import Provenance

RankingProgress = Callable[[str, float, int], None]
"""Told what is being ranked, how many parts are done, and of how many."""


def counter(progress: RankingProgress | None, name: str, before: int, total: int) -> Callable[[float], None]:
    """Reports of one part of a ranking, ``before`` maps having been made earlier."""

    def report(done: float) -> None:
        if progress is not None:
            progress(name, before + done, total)

    return report


def repeated_maps(
    reconstruction: Reconstruction | KspaceToImage,
    acquisition: Acquisition,
    seeds: Sequence[int],
    n_samples: int,
    report: Callable[[float], None],
) -> tuple[list[NoiseMap], str]:
    """Independent noise maps by ``sketch`` from one linearisation, and the worst verdict of `estimators.linearity`.

    The map of a seed is that of ``noise_map(..., method="sketch", n_samples=n_samples, seed=seed)``.

    Parameters
    ----------
    reconstruction, acquisition
        As for `mrnoise.noise_map`.
    seeds
        One a map.
    n_samples
        Probes of each map and slice.
    report
        Told how many maps are done.

    Raises
    ------
    InputError
        If no derivative passes the preflight.
    KeyboardInterrupt
        On Ctrl-C: a part of the maps is of no use.
    """
    images = Images.of(reconstruction, acquisition)
    done: list[list[MappedImage]] = [[] for _ in seeds]
    verdicts = []
    for index, operator in enumerate(images):
        if operator.preflight.jvp_mode is None:
            raise refuse(operator.preflight, "derivative")
        value = operator.value.cpu()
        checked = linearity(operator, region=foreground(operator.value), key=Key(seeds[0], index))
        verdicts.append(checked.worst.verdict)
        for k, seed in enumerate(seeds):
            estimate = sketch(operator, Plan(n_samples), key=Key(seed, index))
            if estimate.interrupted:
                raise KeyboardInterrupt
            done[k].append(MappedImage(value, estimate.cpu()))
            report((index * len(seeds) + k + 1) / images.count)
    return [assemble(images, parts, Provenance()) for parts in done], worst(verdicts)


def worst(verdicts: Sequence[str]) -> str:
    """Of several verdicts on linearity."""
    return max(verdicts, key=(LINEAR, UNDECIDED, NOT_LINEAR).index)


def psnr_against(reference: Tensor | None, image: Tensor) -> float | None:
    """PSNR in dB, where there is a reference."""
    return None if reference is None else psnr(image, reference.to(image.device))


def check_counts(n_repeats: int, n_samples: int) -> None:
    """Raise `InputError` where the spread of repetitions, or of samples, cannot be told."""
    if n_repeats < 2 or n_samples < 8:
        raise InputError(
            "too few repetitions for error bars",
            expected="at least 2 repetitions of at least 8 samples",
            received=f"{n_repeats} of {n_samples}",
            remedy="Leave both out for the defaults.",
        )
    check_count(n_repeats, "number of repetitions", 2)
    check_count(n_samples, "number of samples", 8)


def check_samples(acquisition: Acquisition, mask: Tensor, what: str) -> None:
    """Raise `InputError` if the scan lacks samples of a mask: another pattern would be ranked."""
    held = acquisition.mask & mask
    if not bool((held == mask).all()):
        raise InputError(
            f"the scan does not hold the samples of {what}",
            expected="a fully sampled scan, or one that has every sample of the pattern",
            received=f"a scan with R = {acquisition.acceleration:.2f} that has "
            f"{int(held.sum())} of {int(mask.expand(held.shape).sum())} of them",
            remedy="Rank on a fully sampled scan.",
        )
