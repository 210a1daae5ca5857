"""The raw stream in a file of its own, as it came: an ISMRMRD HDF5 file that readers of such files take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrnoise.files.atomic import check_writable
from mrnoise.io.scans.mrd_stream import FLOAT, HEAD, Line, heads_of

if TYPE_CHECKING:
    import h5py

# Lines that are written at once.
LINES_AT_ONCE = 256


class Capture:
    """Writes the lines of a scan into a new file of a folder; its name is made here.

    Parameters
    ----------
    folder
        Where.
    """

    def __init__(self, folder: Path) -> None:
        check_writable(folder / "scan.h5")
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for number in itertools.count(1):
            self.path = folder / f"scan-{stamp}-{number:03}.h5"
            try:
                self.path.open("xb").close()
            except FileExistsError:
                continue
            break
        self.n_lines = 0

    def write(self, lines: Sequence[Line]) -> None:
        """Append lines; the file is closed in between, so that a kill leaves what was written."""
        if not lines:
            return
        with self._open() as file:
            data = file["dataset/data"]
            records = np.zeros(len(lines), data.dtype)
            records["head"] = heads_of(lines)
            for record, line in zip(records, lines, strict=True):
                record["traj"] = np.frombuffer(line.coordinates, FLOAT)
                record["data"] = np.frombuffer(line.samples, FLOAT)
            data.resize(self.n_lines + len(lines), axis=0)
            data[self.n_lines :] = records
        self.n_lines += len(lines)

    def write_header(self, xml: str, config: str) -> None:
        """Write the header, and the configuration where there is one."""
        import h5py

        with self._open() as file:
            for name, text in (("xml", xml), ("config", config)):
                if text:
                    file.pop(f"dataset/{name}", None)
                    file.create_dataset(f"dataset/{name}", data=[text.encode()], dtype=h5py.string_dtype())

    def _open(self) -> h5py.File:
        import h5py

        new = not self.path.stat().st_size
        file = h5py.File(self.path, "w" if new else "r+")
        if new:
            numbers = h5py.vlen_dtype(FLOAT)
            record = np.dtype([("head", HEAD), ("traj", numbers), ("data", numbers)])
            file.create_dataset("dataset/data", (0,), record, maxshape=(None,), chunks=(LINES_AT_ONCE,))
        return file
