"""Time that a computation takes."""

from __future__ import annotations

import time

import torch

# A thread that works less than this part of the time waits for something else than a busy machine.
LEAST_WORK = 0.25


class Stopwatch:
    """Seconds at work since it was made.

    On a CPU those of the calling thread, which takes part in all that runs in parallel: what else the machine does is
    not in them, and choices that rest on them can be repeated. Those of a clock on the wall on a GPU, and where the
    thread mostly waits, as for another process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._wall, self._work = self._now()

    def seconds(self) -> float:
        """So far."""
        now_wall, now_work = self._now()
        wall, work = now_wall - self._wall, now_work - self._work
        return wall if self._device.type == "cuda" or work < LEAST_WORK * wall else work

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.thread_time()
