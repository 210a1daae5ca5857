"""The maps of a folder: their names, and the maps themselves."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io import read_noise_map
from mrnoise.io.maps.hdf5 import holds_noise_map
from mrnoise.result.noise_map import NoiseMap

# Maps that are held in memory.
HELD = 4


@dataclass(frozen=True)
class Folder:
    """The maps (.h5) below a folder, or one map.

    Parameters
    ----------
    path
        Of the folder or the map.

    Raises
    ------
    InputError
        If there is no such file or folder, or no map in it.

    Examples
    --------
    >>> from mrnoise import noise_map, save
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> (path,) = save(noise_map(Sense(), simulate((16, 12), 4), n_samples=16), "maps/head.h5")
    >>> list(Folder(Path("maps")).maps())
    ['head.h5']
    """

    path: Path
    _held: OrderedDict[tuple[Path, int], NoiseMap] = field(default_factory=OrderedDict, init=False, repr=False)
    _known: dict[tuple[Path, int], bool] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.path.exists() and self.maps():
            return
        raise InputError(
            "no maps to look at",
            expected="a folder with maps (.h5) of mrnoise map in it or below, or one map",
            received=f"{self.path}" + ("" if self.path.exists() else ", which does not exist"),
            remedy="Save maps with mrnoise map SCAN -o FOLDER/NAME.h5.",
        )

    def maps(self) -> dict[str, Path]:
        """Path of each map by its name, which is that in the folder; what a link leads out of the folder to is none."""
        if self.path.is_file():
            return {printable(self.path.name): self.path} if self._is_map(self.path) else {}
        return {self._name(path): path for path in self._files() if self._is_map(path)}

    def left_out(self) -> list[str]:
        """Names of the files with the suffix of a map that hold none: scans, or files that are damaged."""
        return [] if self.path.is_file() else [self._name(path) for path in self._files() if not self._is_map(path)]

    def read(self, path: Path) -> NoiseMap:
        """The map in a file, from memory if it was among the last that were read.

        Raises
        ------
        InputError
            As `mrnoise.read_noise_map`.
        """
        key = (path, os.stat(path).st_mtime_ns)
        if key not in self._held:
            self._held[key] = read_noise_map(path)
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def _files(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*.h5") if self._lies_within(path))

    def _name(self, path: Path) -> str:
        return printable(path.relative_to(self.path).as_posix())

    def _lies_within(self, path: Path) -> bool:
        try:
            return path.resolve(strict=True).is_relative_to(self.path.resolve())
        except (OSError, RuntimeError):  # a link that leads nowhere, or round in circles
            return False

    def _is_map(self, path: Path) -> bool:
        key = (path, os.stat(path).st_mtime_ns)
        if key not in self._known:
            self._known[key] = holds_noise_map(path)
        return self._known[key]
