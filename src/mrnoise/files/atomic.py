"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.interruption import without_interruption


@dataclass
class _Set:
    """Files that appear together: temporary path and target of each, and those that then go."""

    renames: list[tuple[Path, Path]] = field(default_factory=list)
    obsolete: list[Path] = field(default_factory=list)


_together: ContextVar[_Set | None] = ContextVar("files that appear together", default=None)


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Files that are written within appear together at its end, or, after an exception, none of them.

    Each `replacing` block within leaves its files under their temporary names until then. What a kill can still divide
    is the row of renames itself, some microseconds.
    """
    those = _Set()
    token = _together.set(those)
    try:
        yield
        _appear(those)
    finally:
        _together.reset(token)
        for path, _ in those.renames:
            path.unlink(missing_ok=True)


def remove_with_others(*targets: Path) -> None:
    """Remove files of an earlier result, when its new files appear."""
    those = _together.get()
    if those is not None:
        those.obsolete.extend(targets)
    else:
        _appear(_Set(obsolete=list(targets)))


def _appear(those: _Set) -> None:
    with without_interruption():
        for path, target in those.renames:
            os.replace(path, target)
        for target in those.obsolete:
            target.unlink(missing_ok=True)


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
        those = _together.get()
        renames = list(zip(partial, targets, strict=True))
        if those is None:
            _appear(_Set(renames))
        else:
            those.renames.extend(renames)
            partial = []
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
