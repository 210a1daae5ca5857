"""Malformed files and odd commands: each must be read right or refused with one clear error.

python benchmarks/fuzz.py [--inputs 1000] [--seed 0] [--kinds npz mrd ...]

Inputs are small, simulated and generated anew from (kind, seed); nothing that is found is stored. They run in a process
that is started anew when it dies, with 2 GiB more address space than it starts with and 20 s for each.

| column | what it counts |
|---|---|
| right | read, or done |
| clear error | `mrnoise.errors.InputError`; of a command one error, exit code 2, no file left in its folder |
| traceback | any other exception, a word of a library that reaches the terminal, more than one error of a command |
| killed | the process died, or wanted more memory than it may have |
| hung | 20 s of the processor, or a minute, were not enough |
| silent | damage that is known to be damage, and was accepted |

**Silent** is counted only where the input says by itself that it is broken: a file of which a part was cut off, an
array without a value it needs or of another rank, sizes below zero, numbers that are not finite where a length or a
count stands, an option out of its range. A changed byte inside the numbers of a file without checksums is a different
file, not a damaged one: HDF5 and NIfTI as written by most programs have none, and such inputs count as right when read.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from malformed import bases
from malformed.arrays import bart, covariance, fastmri, layouts, matlab, npy, npz
from malformed.changes import Case, SilentlyAcceptedError
from malformed.commands import command
from malformed.maps import dicom, map_, roi
from malformed.mrd import mrd, mrd2, twix
from malformed.trajectories import trajectory

LIMIT_S, LIMIT_BYTES = 20.0, 2 * 2**30
COLUMNS = ("right", "clear error", "traceback", "killed", "hung", "silent")
KINDS: dict[str, Callable[[random.Random, Path], Case]] = {
    "npz": npz,
    "npy": npy,
    "matlab": matlab,
    "bart": bart,
    "fastmri": fastmri,
    "hdf5": layouts,
    "mrd": mrd,
    "mrd2": mrd2,
    "twix": twix,
    "trajectory": trajectory,
    "covariance": covariance,
    "map": map_,
    "roi": roi,
    "dicom": dicom,
    "command": command,
}


def outcome(kind: str, seed: int, folder: Path) -> tuple[str, str]:
    """Column of one input, and what it was."""
    from mrnoise.errors import InputError

    rng = random.Random(f"{kind} {seed}")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        case = KINDS[kind](rng, folder)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            case.act()
    except InputError as error:
        return ("killed" if wanted_memory(error) else "clear error"), case.what
    except SilentlyAcceptedError as error:
        return "silent", f"{case.what}: {error}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "mrnoise" in f.filename][-1:]
        detail = f"{case.what[-200:]!r}: {type(error).__name__}: {str(error)[:300]!r} {own}"
        return "killed" if wanted_memory(error) else "traceback", detail
    if said and kind != "command":
        return "traceback", f"{case.what!r}: warned {said[0].message} {said[0].filename}:{said[0].lineno}"
    return ("silent", case.what) if case.damaged else ("right", case.what)


def wanted_memory(error: BaseException) -> bool:
    """Whether an error is, or comes from, memory that was asked for and not there: elsewhere it may be there."""
    text = "".join(traceback.format_exception(error))
    return any(
        words in text for words in ("MemoryError", "Unable to allocate", "not enough memory", "t allocate memory")
    )


def work(pipe: Connection, folder: Path) -> None:
    """Answer one request after another, until the other end of the pipe is closed."""
    import torch

    import mrnoise  # noqa: F401

    torch.set_num_threads(1)
    bases.use(folder)
    terminal = (folder / "terminal").open("a+b")
    for stream in (1, 2):  # of C libraries too
        os.dup2(terminal.fileno(), stream)
    stacks = (folder / "stack").open("w")
    faulthandler.enable(stacks, all_threads=False)
    faulthandler.register(signal.SIGUSR1, stacks, all_threads=False)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    terminal.truncate(0)
    pipe.send("ready")
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            kind, seed = pipe.recv()
            with tempfile.TemporaryDirectory() as place:
                (inner := Path(place) / "here").mkdir()
                column, what = outcome(kind, seed, inner)
            sys.stderr.flush()
            terminal.seek(0)
            if (written := terminal.read()) and column in COLUMNS[:2]:
                column, what = "traceback", f"{what}: {written[:300]!r} reached the terminal"
            terminal.truncate(0)
            pipe.send((column, what))


@dataclass
class Worker:
    """A process that is started anew when it dies."""

    folder: Path
    process: Any = None
    pipe: Any = None

    def ask(self, kind: str, seed: int) -> tuple[str, str]:
        """Column and description of one input."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=work, args=(theirs, self.folder), daemon=False)
            self.process.start()
            theirs.close()
            self.pipe.recv()
        self.pipe.send((kind, seed))
        started, before = time.monotonic(), self.computed_s()
        while not self.pipe.poll(min(1.0, LIMIT_S)):
            if self.computed_s() - before >= LIMIT_S or time.monotonic() - started >= 3 * LIMIT_S:
                os.kill(self.process.pid, signal.SIGUSR1)
                time.sleep(0.5)
                self.end()
                return "hung", self.where()
        try:
            found: tuple[str, str] = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            self.process = None
            return "killed", f"exit code {code}, {self.where()}"
        return found

    def computed_s(self) -> float:
        """Processor time of it; 0 where it has died."""
        try:
            return sum(psutil.Process(self.process.pid).cpu_times()[:2])
        except psutil.NoSuchProcess:
            return 0.0

    def where(self) -> str:
        """The innermost call of a process that hangs or has died."""
        lines = (self.folder / "stack").read_text().splitlines()
        return next((line.strip() for line in lines if line.startswith("  File")), "")

    def end(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.pipe.close()
            self.process.join(2)
            self.process.kill()
            self.process.join()
            self.process = None


def inputs(kinds: list[str], count: int, seed: int) -> Iterator[tuple[str, int]]:
    """So many (kind, seed), the kinds in turn."""
    for index in range(count):
        yield kinds[index % len(kinds)], seed + index // len(kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in options.kinds}
    failures, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Path(folder))
        try:
            for kind, seed in inputs(options.kinds, options.inputs, options.seed):
                column, what = worker.ask(kind, seed)
                counts[kind][column] += 1
                if column not in COLUMNS[:2]:
                    failures.append(f"{column}: --kinds {kind} --seed {seed} --inputs 1 ({what})")
                    print(failures[-1], file=sys.stderr, flush=True)
                elif options.inputs == 1:
                    print(column, what)
        finally:
            worker.end()
    print(f"{options.inputs} inputs in {time.monotonic() - started:.0f} s\n")
    print(f"| kind | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for kind, found in counts.items():
        print(f"| {kind} | {' | '.join(str(found[column]) for column in COLUMNS)} |")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
