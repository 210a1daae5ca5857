"""Sums over samples that do not depend on how these came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

# Consecutive samples, the first of them a multiple of it, that are summed at once.
BLOCK = 8

Terms = Callable[[Tensor, Sequence[int]], tuple[Tensor, ...]]


class RunningSums:
    """Σ_k f(x_k) over samples x_k by their index k: the same bits in one run and in several that are merged.

    Samples are summed block by block, `BLOCK` consecutive ones whose first index is a multiple of it, whatever the
    batches. Blocks are added with their rounding errors (Knuth's two-sum; Dekker 1971, doi:10.1007/BF01397083): the
    total is that of exact addition, rounded once, in any order, but for a voxel in some 10¹³. Samples of blocks that
    are not complete are kept as they are: at most 2 (`BLOCK` - 1).

    Parameters
    ----------
    terms
        Samples (B, …) and their indices → their sums.
    first
        Index of the first sample.
    """

    def __init__(self, terms: Terms, first: int = 0) -> None:
        self._terms, self._next = terms, first
        self.count = 0
        self._high: list[Tensor] = []
        self._low: list[Tensor] = []
        self._open: dict[int, Tensor] = {}

    def go_on(self, totals: Sequence[Tensor], count: int) -> None:
        """Begin with the sums of the first ``count`` samples."""
        self._high, self._low = list(totals), [torch.zeros_like(total) for total in totals]
        self.count, self._next = count, count

    def add(self, samples: Tensor) -> None:
        """Take in the next samples, (B, …)."""
        # Samples that were read from a file start in host memory.
        self._open = {index: sample.to(samples.device) for index, sample in self._open.items()}
        begin, self._next = self._next, self._next + len(samples)
        self.count += len(samples)
        while len(samples):
            end = (begin // BLOCK + 1) * BLOCK
            some, samples = samples[: end - begin], samples[end - begin :]
            if len(some) == BLOCK:
                _add(self._high, self._low, self._terms(some, range(begin, end)))
            else:
                self._open |= {begin + i: sample for i, sample in enumerate(some)}
                self._close(begin // BLOCK)
            begin += len(some)

    def merge(self, other: RunningSums) -> None:
        """Take in those of other samples.

        Raises
        ------
        ValueError
            If a sample is in both, as far as that can be seen.
        """
        if self._open.keys() & other._open.keys():
            raise ValueError("the same samples cannot be merged twice")
        self.count += other.count
        self._next = max(self._next, other._next)
        if other._high:
            _add(self._high, self._low, other._high)
            self._low = [a + b for a, b in zip(self._low, other._low, strict=True)]
        self._open |= other._open
        for block in {index // BLOCK for index in other._open}:
            self._close(block)

    def totals(self) -> tuple[Tensor, ...]:
        """The sums of all samples so far; there must be one."""
        high, low = list(self._high), list(self._low)
        for block in sorted({index // BLOCK for index in self._open}):
            places = [k for k in range(block * BLOCK, (block + 1) * BLOCK) if k in self._open]
            _add(high, low, self._terms(torch.stack([self._open[k] for k in places]), places))
        return tuple(a + b for a, b in zip(high, low, strict=True))

    def state(self) -> dict[str, Tensor]:
        """All that `restore` needs."""
        kept = {f"high {i}": total for i, total in enumerate(self._high)}
        kept |= {f"low {i}": total for i, total in enumerate(self._low)}
        kept |= {f"sample {index}": sample for index, sample in self._open.items()}
        return {"count": torch.tensor([self.count, self._next]), **kept}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the sums of another run, as it left them."""
        self.count, self._next = (int(n) for n in state["count"])
        n_terms = sum(name.startswith("high") for name in state)
        self._high, self._low = ([state[f"{part} {i}"] for i in range(n_terms)] for part in ("high", "low"))
        self._open = {int(name.split()[1]): state[name] for name in state if name.startswith("sample")}

    def _close(self, block: int) -> None:
        """Add up a block that has become complete."""
        places = range(block * BLOCK, (block + 1) * BLOCK)
        if all(k in self._open for k in places):
            samples = torch.stack([self._open.pop(k) for k in places])
            _add(self._high, self._low, self._terms(samples, places))


def _add(high: list[Tensor], low: list[Tensor], terms: Sequence[Tensor]) -> None:
    """Add terms to sums high + low, exactly but for the rounding of the low part."""
    if not high:
        high += terms
        low += [torch.zeros_like(term) for term in terms]
        return
    for i, term in enumerate(terms):
        if high[i].device != term.device:  # sums that were read from a file start in host memory
            high[i], low[i] = high[i].to(term.device), low[i].to(term.device)
        total = high[i] + term
        part = total - high[i]
        low[i] = low[i] + ((high[i] - (total - part)) + (term - part))
        high[i] = total
