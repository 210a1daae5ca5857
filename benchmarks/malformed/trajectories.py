"""Scans along a trajectory: coordinates in the lines, in a header, or in a file beside k-space."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from malformed.bases import COILS, NX, NY, SAMPLES, SPOKES, base, spokes
from malformed.changes import NO_NUMBERS, Case, damage, no_scan, other_array, other_field
from malformed.uses import use_scan

UNITS = ("cycles/fov", "cycles/voxel", "radians/voxel", "1/m", "cycles/encoded-fov", "mm", "")
MATRICES = ("24,20", "20,24", "0,4", "-1,4", "4", "60000,60000", "2,2,2", "x", "", "9999999,4")


def trajectory(rng: random.Random, folder: Path) -> Case:
    """Radial lines of MRD, or k-space with its coordinates in another file."""
    return rng.choice((_lines, _beside))(rng, folder)


def _lines(rng: random.Random, folder: Path) -> Case:
    path, damaged = folder / "scan.h5", False
    shutil.copy(base("radial"), path)
    how = rng.random()
    if how < 0.3:
        data, what, damaged = damage(path.read_bytes(), rng)
        path.write_bytes(data)
        return Case(f"file: {what}", lambda: use_scan(path), damaged)
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        at = rng.randrange(2, len(lines))
        if how < 0.7:
            values, what = other_array(lines["traj"][at], rng)
            lines["traj"][at] = np.asarray(values.ravel() if values.dtype.kind in "fiu" else [], np.float32)
            damaged = len(lines["traj"][at]) != 2 * SAMPLES or not np.isfinite(lines["traj"][at]).all()
            what = f"coordinates of line {at}: {what}"
        elif how < 0.8:
            value = rng.choice((*NO_NUMBERS, 0, 1e-30, 1e30, -1))
            lines["traj"] = [np.full_like(one, value) for one in lines["traj"]]
            what, damaged = f"all coordinates {value}", not np.isfinite(value)
        else:
            some = lines["head"][at : at + 1] if rng.random() < 0.5 else lines["head"]
            what = " = ".join(map(str, other_field(some, rng)))
        file["dataset/data"][...] = lines
    return Case(what, lambda: use_scan(path), damaged)


def _beside(rng: random.Random, folder: Path) -> Case:
    """Arrays in npy files; the coordinates in one of npy, npz or BART."""
    coordinates, ending = spokes(), rng.choice((".npy", ".npz", ".cfl"))
    values = np.random.default_rng(rng.randrange(2**32)).standard_normal((2, COILS, SPOKES, SAMPLES))
    np.save(folder / "scan.npy", (values[0] + 1j * values[1]).astype(np.complex64))
    how, what, damaged, path = rng.random(), "as it was", False, folder / f"trajectory{ending}"
    if how < 0.4:
        coordinates, what = other_array(coordinates, rng)
        damaged = no_scan(coordinates)
    _write(path, coordinates)
    if how >= 0.6:
        data, what, damaged = damage(path.read_bytes(), rng)
        path.write_bytes(data)
        damaged &= ending != ".npz"
    given: dict[str, Any] = {"trajectory": path, "noise_covariance": torch.eye(COILS)}
    if rng.random() < 0.5:
        given["matrix"] = rng.choice((MATRICES[0], rng.choice(MATRICES)))
    if rng.random() < 0.5:
        given["trajectory_unit"] = rng.choice((UNITS[0], rng.choice(UNITS)))
    read: Callable[[], None] = lambda: use_scan(folder / "scan.npy", **given)  # noqa: E731
    return Case(f"{ending} {given.get('matrix')} {given.get('trajectory_unit')}: {what}", read, damaged)


def _write(path: Path, coordinates: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, coordinates)
    elif path.suffix == ".npz":
        np.savez(path, trajectory=coordinates, image_shape=np.array([NY, NX]))
    else:
        # Of BART: (x, y, z), then readout and spokes, the first the fastest.
        real = coordinates.astype(np.complex64) if coordinates.dtype.kind in "fiucb" else np.zeros(8, np.complex64)
        flat = np.zeros((SPOKES, SAMPLES, 3), np.complex64)
        if real.shape == (2, SPOKES, SAMPLES):
            flat[..., :2] = np.moveaxis(real, 0, -1)[..., ::-1]
        path.with_suffix(".hdr").write_text(f"# Dimensions\n3 {SAMPLES} {SPOKES}\n")
        flat.tofile(path)
