"""The grid of cells, computed side by side."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Protocol

import torch

from mrnoise.errors import InputError
from mrnoise.files.atomic import check_writable
from mrnoise.reproduction.shards import Cell, compute, is_done

POLL = 0.5  # seconds
# Of its predicted cost, what a cell that is not done yet counts as at most.
ALMOST = 0.9


class GridProgress(Protocol):
    """Told of the cells in work and of predicted seconds done and to do."""

    def __call__(self, label: str, done: float, total: float) -> None:
        """Report."""
        ...


def run(
    cells: Sequence[Cell],
    folder: Path,
    data: Path | None = None,
    *,
    device: str = "cpu",
    workers: int = 1,
    progress: GridProgress | None = None,
) -> None:
    """Compute the cells that are not there yet.

    A cell is there if its shard has the same parameters, version and input. Each is computed on one thread of a
    process, which writes its shard atomically: killed at any moment, the same call goes on, and the shards are those of
    a run left alone, but for seconds and for what ``auto`` decides on seconds.

    Parameters
    ----------
    cells
        What to compute.
    folder
        Of the shards.
    data
        Folder with anatomies and scans; ``None``: the generated phantom.
    device
        Where to compute.
    workers
        Cells at a time.
    progress
        Called about twice a second.

    Raises
    ------
    InputError
        If a shard cannot be written, or a measured file not be read.
    RuntimeError
        If a cell fails otherwise, with its traceback.
    KeyboardInterrupt
        After Ctrl-C; cells in work are given up.
    """
    for cell in cells:
        check_writable(cell.path(folder))
    waiting = deque(cell for cell in cells if not is_done(cell, folder, data))
    total = sum(cell.cost for cell in cells)
    done = total - sum(cell.cost for cell in waiting)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    idle = [_Worker(context, folder, data, device) for _ in range(min(workers, len(waiting)))]
    running: dict[Connection, tuple[_Worker, Cell, float]] = {}
    try:
        while waiting or running:
            while waiting and idle:
                worker, cell = idle.pop(), waiting.popleft()
                worker.pipe.send(cell)
                running[worker.pipe] = (worker, cell, time.monotonic())
            for pipe in [pipe for pipe in wait(list(running), timeout=POLL) if isinstance(pipe, Connection)]:
                worker, cell, _ = running.pop(pipe)
                idle.append(worker)
                failure = worker.answer()
                if isinstance(failure, InputError):
                    raise failure
                if failure is not None:
                    raise RuntimeError(f"cell {cell.table}/{cell.key} failed\n{failure}")
                done += cell.cost
            if progress is not None:
                now = time.monotonic()
                part = sum(min(now - started, ALMOST * cell.cost) for _, cell, started in running.values())
                label = ", ".join(f"{cell.table} {cell.key}" for _, cell, _ in running.values())
                progress(label, done + part, total)
    finally:
        for worker in [*idle, *(worker for worker, _, _ in running.values())]:
            worker.process.terminate()
            worker.process.join()


class _Worker:
    """A process that computes the cells it is sent, and ends when nobody is there to send any."""

    def __init__(self, context: ForkServerContext, folder: Path, data: Path | None, device: str) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, folder, data, device), daemon=True)
        self.process.start()
        theirs.close()

    def answer(self) -> str | InputError | None:
        """How the cell failed, ``None`` if it did not."""
        try:
            failure: str | InputError | None = self.pipe.recv()
        except EOFError:
            return "the process was killed, perhaps for want of memory"
        return failure


def _work(pipe: Connection, folder: Path, data: Path | None, device: str) -> None:
    # Ctrl-C goes to the whole group; a map cut short by it must not become a shard.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        while True:
            cell = pipe.recv()
            try:
                compute(cell, folder, data, device)
                pipe.send(None)
            except InputError as error:
                pipe.send(error)
            except Exception:
                pipe.send(traceback.format_exc())
    except (EOFError, BrokenPipeError):
        pass
