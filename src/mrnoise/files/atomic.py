"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrnoise.errors import InputError


@contextmanager
def replacing(*targets: Path) -> Iterator[list[Path]]:
    """Temporary paths to write; they become ``targets`` together when the block ends without an exception.

    The temporary files lie beside the targets, so that renaming is atomic, and keep their suffixes. After an
    exception or Ctrl-C they are removed and older targets are untouched. Missing folders are made.
    """
    for target in targets:
        _check(target)
    token = secrets.token_hex(4)
    partial = [target.with_name(f".{token}-{target.name}") for target in targets]
    try:
        yield partial
        for path in partial:
            _to_disk(path)
        with _without_interruption():
            for path, target in zip(partial, targets, strict=True):
                os.replace(path, target)
    finally:
        for path in partial:
            path.unlink(missing_ok=True)


def _check(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "cannot make the folder of the output",
            expected="a folder that exists or can be made",
            received=f"{target.parent} ({error.strerror})",
            remedy="Choose another output path.",
        ) from error
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        raise InputError(
            "cannot write the output",
            expected="a path to a file in a writable folder",
            received=f"{target} ({'a folder' if target.is_dir() else 'its folder is read-only'})",
            remedy="Choose another output path.",
        )


def _to_disk(path: Path) -> None:
    # Without this a power loss after the rename can leave an empty file under the final name.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _without_interruption() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done; only the main thread receives it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: Any) -> None:
        held.append(number)

    previous = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        # ``None`` stands for a handler that was not set from Python and cannot be set back.
        signal.signal(signal.SIGINT, signal.SIG_DFL if previous is None else previous)
    if held:
        raise KeyboardInterrupt
