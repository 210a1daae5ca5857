"""Which samples of a noise scan hold noise: what is padding, a spike, or no noise scan at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

# Chance that a clean noise scan of white Gaussian noise loses a sample as a spike.
FALSE_ALARM = 1e-3
# A line of which so much stands out is a disturbed line: all of it goes.
DISTURBED = 0.1
# Energy of a sample counts up to this multiple of the median: a spike makes no echo.
LARGEST_ENERGY = 10.0
# Lines whose variance differs by more than this, and by so many standard errors, are of two noise scans.
LEVELS, STANDARD_ERRORS = 1.5, 8
# Spikes that lie anywhere are no more than an eighth in the middle eighth; so many tell.
MANY = 10


def no_noise(lines: Sequence[Tensor]) -> str:
    """Why lines that are called noise are none; empty where nothing speaks against them.

    - All of them are zero.
    - They fall off from their centre, as k-space does and noise does not: over all lines the middle eighth has more
      than twice the energy of the outer half, and more than eight standard errors beside it, or more than half of ten
      or more spikes.

    Parameters
    ----------
    lines
        Complex, (coil, sample) each.

    Examples
    --------
    >>> noise = torch.randn(2, 3, 40, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    >>> no_noise(noise), no_noise(0 * noise), no_noise(noise * torch.hann_window(40))
    ('', 'all samples are zero', 'they fall off from their centre, as k-space does')
    """
    if not any(bool((line != 0).any()) for line in lines):
        return "all samples are zero"
    return "they fall off from their centre, as k-space does" if _falls_off(lines) else ""


def copied(lines: Sequence[Tensor], image_lines: Iterable[Tensor]) -> str:
    """Says so where noise lines (coil, sample) equal lines of the image bit for bit.

    Converters into formats that ask for noise lines put some of the image there.

    Examples
    --------
    >>> noise = torch.randn(2, 3, 40, dtype=torch.complex64)
    >>> copied(noise, noise[1:])
    '1 of 2 lines equal a line of the image bit for bit'
    """
    shapes = {line.shape for line in lines}
    known = {_digest(line) for line in image_lines if line.shape in shapes}
    count = sum(bool((line != 0).any()) and _digest(line) in known for line in lines)
    return f"{count} of {len(lines)} lines equal a line of the image bit for bit" if count else ""


def clean_samples(lines: Sequence[Tensor], source: str) -> tuple[Tensor, tuple[str, ...]]:
    """The samples (coil, sample) of lines of noise that hold noise, and a sentence on each kind that does not.

    Left out are samples that are zero in every coil, since receivers give none, and spikes: samples whose |n|² in a
    coil exceeds ln(N/10⁻³) times the variance of that coil, N all numbers of the scan. |n|² of Gaussian noise is
    exponential, so one of 1000 clean scans loses a sample, however its coils are correlated. The variance is that of
    the median, |n|² / ln 2, which spikes do not move; the limit allows for four of its standard errors. Where a
    tenth of a line stands out the whole line goes. Lines of two levels, of two noise scans in one file, are in doubt.

    Parameters
    ----------
    lines
        Complex, (coil, sample) each, the coils the same.
    source
        Where they come from, for the sentences.
    """
    notes = []
    kept = [line[:, (line != 0).any(0)] for line in lines]
    samples = torch.cat(kept, 1)
    total = sum(line.shape[1] for line in lines)
    if zero := total - samples.shape[1]:
        notes.append(f"{source}: {zero} of {total} samples are exactly zero in every coil and were left out")
    spikes = _spikes(samples)
    parts = spikes.split([line.shape[1] for line in kept])  # views
    disturbed = [bool(part.float().sum() > DISTURBED * len(part)) for part in parts]
    for part, all_of_it in zip(parts, disturbed, strict=True):
        part[:] = part | all_of_it
    if count := int(spikes.sum()):
        lines_too = f", {sum(disturbed)} of {len(lines)} lines as a whole" if sum(disturbed) > 1 else ""
        notes.append(
            f"{source}: {count} of {len(spikes)} samples are spikes far above the noise and were left out{lines_too}"
        )
    if said := _two_levels([line for line in kept if line.shape[1]], sum(disturbed)):
        notes.append(f"{source}: {said}")
    return samples[:, ~spikes], tuple(notes)


def _digest(line: Tensor) -> int:
    return hash(line.numpy().tobytes())


def _spikes(samples: Tensor) -> Tensor:
    power = samples.abs().double().square()
    if not power.numel():
        return torch.zeros(power.shape[1], dtype=torch.bool)
    variance = power.median(1).values / math.log(2)
    live = variance > 0
    limit = math.log(power.numel() / FALSE_ALARM) * (1 + 4 / power.shape[1] ** 0.5)
    # What is not finite is no spike but damage, and is reported where Ψ is estimated.
    return ((power[live] > limit * variance[live, None]) & power[live].isfinite()).any(0)


def _two_levels(lines: Sequence[Tensor], disturbed: int) -> str:
    """Says so where noise lines are of two variances; a single disturbed line is no second scan."""
    if len(lines) < 2:
        return ""
    power = torch.stack([line.abs().square().mean(1) for line in lines], 1).double()
    power = power[power.amin(1) > 0]
    level = (power / power.mean(1, keepdim=True)).mean(0)
    high = level > (level.min() * level.max()).sqrt()
    if not high.any() or (disturbed == 1 and int(high.sum()) == 1):
        return ""
    ratio = float(level[high].mean() / level[~high].mean())
    if ratio < LEVELS or math.log(ratio) < STANDARD_ERRORS / min(line.shape[1] for line in lines) ** 0.5:
        return ""
    return (
        f"in doubt: {int(high.sum())} of {len(lines)} noise lines have {ratio:.3g} times the variance of the others, "
        "as of two noise scans with different gains; give the right one with --noise"
    )


def _falls_off(lines: Sequence[Tensor]) -> bool:
    kept = [line[:, (line != 0).any(0)] for line in lines]
    place = torch.cat([(torch.arange(line.shape[1]) + 0.5) / line.shape[1] - 0.5 for line in kept]).abs()
    samples = torch.cat(kept, 1)
    middle, outer, spikes = place < 1 / 16, place > 1 / 4, _spikes(samples)
    if int(spikes.sum()) >= MANY and spikes[middle].sum() > 0.5 * spikes.sum():
        return True
    energy = samples.abs().double().square().sum(0)
    energy = energy.clamp_max(LARGEST_ENERGY * energy.median())
    least = max(2.0, 1 + 8 / max(int(middle.sum()), 1) ** 0.5)
    return bool(energy[middle].mean() > least * energy[outer].mean())
