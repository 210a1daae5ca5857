"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.interruption import without_interruption

# What keeps a file from being written.
NOT_WRITTEN = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "ENAMETOOLONG", "ENOTDIR", "EISDIR")
} - {None}


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
    with without_interruption(), _explained([target for _, target in those.renames]):
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
        check_writable(target)
    token = secrets.token_hex(4)
    # The end of the name is enough: a name as long as it may be has no room for more.
    partial = [target.with_name(f".{token}-{target.name[-24:]}") for target in targets]
    try:
        with _explained(targets):
            for folder in {target.parent for target in targets}:
                folder.mkdir(parents=True, exist_ok=True)
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


def check_writable(target: Path) -> None:
    """Raise `InputError` if a file cannot be written; tried without leaving anything behind.

    Examples
    --------
    >>> check_writable(Path("map.h5"))
    """
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder, names = target.absolute().parent, [target.name]
        while not os.path.exists(folder):
            folder, names = folder.parent, [*names, folder.name]
        for path in (target.absolute(), *(folder / name for name in names)):
            with suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(path)  # is it too long, or one of its names?
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write([target], error) from error


def _cannot_write(targets: Sequence[Path], error: OSError) -> InputError:
    return InputError(
        "cannot write the output",
        expected="a path to a file in a writable folder",
        received=f"{', '.join(map(str, targets))} ({' '.join((error.strerror or str(error)).split())[:200]})",
        remedy="Choose another output path.",
    )


@contextmanager
def _explained(targets: Sequence[Path]) -> Iterator[None]:
    """Within, a disk that is full, or that takes no more, is an `InputError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        raise _cannot_write(targets, error) from error


def _to_disk(path: Path) -> None:
    # Without this a power loss after the rename can leave an empty file under the final name.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
