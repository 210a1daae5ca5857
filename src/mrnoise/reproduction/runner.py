"""The grid of cells: computed side by side, each with a file of its own."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mrnoise.io.atomic import replacing
from mrnoise.io.record import plain
from mrnoise.networks.weights import SHIPPED, shipped_weights
from mrnoise.provenance import hardware, versions
from mrnoise.reproduction.measure import measure
from mrnoise.reproduction.scans import BRAIN_SCAN, NOISE_SCAN, anatomy_file

POLL = 0.5  # seconds
# Of its predicted cost, what a cell that is not done yet counts as at most.
ALMOST = 0.9


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of the evaluation: a pure function of its parameters.

    Parameters
    ----------
    table
        Name of its table.
    key
        What tells it from the other cells of the table.
    parameters
        JSON-able, see `measure`.
    cost
        Predicted seconds on one core of 2020.
    """

    table: str
    key: str
    parameters: Mapping[str, Any]
    cost: float

    def path(self, folder: Path) -> Path:
        """Its shard."""
        return folder / self.table / f"{self.key}.json"


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
    RuntimeError
        If a cell fails, with its traceback.
    KeyboardInterrupt
        After Ctrl-C; cells in work are given up.
    """
    waiting = deque(cell for cell in cells if not _is_done(cell, folder, data))
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

    def answer(self) -> str | None:
        """How the cell failed, ``None`` if it did not."""
        try:
            failure: str | None = self.pipe.recv()
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
                _compute(cell, folder, data, device)
                pipe.send(None)
            except Exception:
                pipe.send(traceback.format_exc())
    except (EOFError, BrokenPipeError):
        pass


def read_shard(cell: Cell, folder: Path) -> dict[str, Any] | None:
    """The shard of a cell, ``None`` where there is none with its parameters; arrays under ``"arrays"``."""
    path = cell.path(folder)
    try:
        shard: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if shard.get("parameters") != plain(cell.parameters):
        return None
    shard["arrays"] = {}
    if path.with_suffix(".npz").exists():
        with np.load(path.with_suffix(".npz")) as arrays:
            shard["arrays"] = dict(arrays)
    return shard


def _is_done(cell: Cell, folder: Path, data: Path | None) -> bool:
    shard = read_shard(cell, folder)
    return (
        shard is not None
        and shard["versions"]["mrnoise"] == version("mrnoise")
        and shard["input"] == _inputs(cell, data)
    )


def _compute(cell: Cell, folder: Path, data: Path | None, device: str) -> None:
    started = time.perf_counter()
    result, arrays = measure(cell.parameters, data, device)
    shard = {
        "table": cell.table,
        "key": cell.key,
        "parameters": cell.parameters,
        "input": _inputs(cell, data),
        "result": result,
        "hardware": hardware(torch.device(device)),
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 2),
    }
    path = cell.path(folder)
    # The arrays come first: where there is a shard, they are there.
    targets = [path.with_suffix(".npz"), path] if arrays else [path]
    with replacing(*targets) as partial:
        if arrays:
            np.savez_compressed(partial[0], **arrays)  # type: ignore[arg-type]  # numpy's stub
        partial[-1].write_text(json.dumps(plain(shard), ensure_ascii=False, indent=1) + "\n")


def files_of(cell: Cell) -> dict[str, str]:
    """What a cell reads from the data folder: ``anatomy``, ``scan``, ``noise scan``."""
    scan = cell.parameters["scan"]
    files = {}
    if scan["kind"] == "paper":
        files["anatomy"] = anatomy_file(scan["anatomy"])
    if scan["kind"] == "measured":
        files["scan"] = BRAIN_SCAN
    if scan.get("covariance") == "measured":
        files["noise scan"] = NOISE_SCAN
    return files


def _inputs(cell: Cell, data: Path | None) -> dict[str, str]:
    """SHA-256 of the files that a cell depends on, by name."""
    found = {
        name: "generated phantom" if data is None else _digest(data / file) for name, file in files_of(cell).items()
    }
    if cell.parameters["reconstruction"] in SHIPPED:
        found["weights"] = _digest(shipped_weights(cell.parameters["reconstruction"], cell.parameters["weights"]))
    return found


_digests: dict[tuple[Path, int], str] = {}


def _digest(path: Path) -> str:
    """Of a file, read once."""
    key = (path, path.stat().st_mtime_ns)
    if key not in _digests:
        _digests[key] = sha256(path.read_bytes()).hexdigest()
    return _digests[key]
