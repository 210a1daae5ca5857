"""Cells of the evaluation and their shards: one result, one file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrnoise.errors import InputError
from mrnoise.files.atomic import replacing
from mrnoise.files.opening import reading
from mrnoise.files.record import plain
from mrnoise.mapping.provenance import hardware, versions
from mrnoise.networks.weights import SHIPPED, shipped_weights
from mrnoise.reproduction.measure import measure
from mrnoise.reproduction.scans import BRAIN_SCAN, NOISE_SCAN, anatomy_file


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

    Examples
    --------
    >>> cell = Cell("pico", "N32", {"scan": {"kind": "regular"}}, cost=12.0)
    >>> cell.path(Path("shards")).as_posix()
    'shards/pico/N32.json'
    """

    table: str
    key: str
    parameters: Mapping[str, Any]
    cost: float

    def path(self, folder: Path) -> Path:
        """Its shard."""
        return folder / self.table / f"{self.key}.json"


def read_shard(cell: Cell, folder: Path) -> dict[str, Any] | None:
    """The shard of a cell, ``None`` where there is none with its parameters; arrays under ``"arrays"``.

    Parameters
    ----------
    cell
        Whose shard is read.
    folder
        Of the shards.

    Returns
    -------
    dict
        ``parameters``, ``input``, ``result``, ``hardware``, ``versions``, ``seconds`` and ``arrays``.

    Examples
    --------
    >>> scan = {"kind": "regular", "matrix": (16, 12), "n_coils": 4, "pattern": "equispaced", "acceleration": 2}
    >>> maps = {"lattice": {"method": "lattice", "n_samples": 1}}
    >>> parameters = {"scan": scan, "reconstruction": "sense", "maps": maps, "batch_size": 8}
    >>> cell = Cell("g_factor", "tiny", {**parameters, "reference": {"method": "closed_form"}}, cost=0.1)
    >>> compute(cell, Path("shards"), None, "cpu")
    >>> round(read_shard(cell, Path("shards"))["result"]["lattice"]["nrmse"], 3)
    0.0
    """
    path = cell.path(folder)
    try:
        with reading(path, "a shard"):
            shard: dict[str, Any] = json.loads(path.read_text())
            if shard["parameters"] != plain(cell.parameters):
                return None
            shard["arrays"] = {}
            if os.path.exists(path.with_suffix(".npz")):
                with np.load(path.with_suffix(".npz")) as arrays:
                    shard["arrays"] = dict(arrays)
    except InputError:  # damaged: it is made anew
        return None
    return shard


def is_done(cell: Cell, folder: Path, data: Path | None) -> bool:
    """Whether there is a shard of the same parameters, version and input."""
    shard = read_shard(cell, folder)
    return (
        shard is not None
        and shard["versions"]["mrnoise"] == version("mrnoise")
        and shard["input"] == _inputs(cell, data)
    )


def compute(cell: Cell, folder: Path, data: Path | None, device: str) -> None:
    """Measure a cell and write its shard, whole or not at all."""
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


@cache
def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
