"""Where a command writes its maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mrnoise.errors import InputError

if TYPE_CHECKING:
    from mrnoise.result.noise_map import NoiseMap

# Exit code after Ctrl-C.
INTERRUPTED = 130
# A folder gets a file of each kind.
EVERYTHING = ("map.h5", "map.nii.gz", "panel.png", "report.html")


def targets(outputs: list[Path] | None, default: Path) -> list[Path]:
    """Files to write for ``--output``; checked before any work is done.

    Raises
    ------
    InputError
        If a suffix is unknown or a folder cannot be written.
    """
    from mrnoise.saving import check_format

    files: list[Path] = []
    for path in outputs or [default]:
        if path.suffix and not os.path.isdir(path):
            check_format(path)
            files.append(path)
        else:
            files.extend(path / name for name in EVERYTHING)
    check_writable(files)
    return files


def figures_and_numbers(output: Path | None, kind: str, suffix: str, numbers: Path | None) -> list[Path]:
    """Files for ``--output``, a ``kind`` that ends in ``suffix``, and ``--json``; checked before any work is done.

    Raises
    ------
    InputError
        If a suffix is another or a folder cannot be written.
    """
    files = [path for path in (output, numbers) if path is not None]
    for path, wanted in ((output, suffix), (numbers, ".json")):
        if path is not None and path.suffix != wanted:
            raise InputError(
                "unknown output format",
                expected=f"a path that ends in {wanted}",
                received=str(path),
                remedy=f"-o writes a {kind} ({suffix}), --json the numbers (.json).",
            )
    check_writable(files)
    return files


def check_writable(files: Sequence[Path]) -> None:
    """Raise `InputError` if a file cannot be written; before any work is done."""
    from mrnoise.files import atomic

    for path in files:
        atomic.check_writable(path)


def write(nm: NoiseMap, files: list[Path]) -> list[Path]:
    """Write a map to each of the files, which appear together; returns all that were written."""
    from mrnoise.files.atomic import all_or_nothing
    from mrnoise.saving import save

    with all_or_nothing():
        return [written for path in files for written in save(nm, path)]
