"""A noise covariance from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.files.opening import check_kind, reading

ZIP_START, NPY_START = b"PK", b"\x93NUMPY"
# What an array in an archive of several may be called.
NAMES = ("noise_covariance", "covariance", "psi")
# A covariance of 2048 coils in text; a larger file is something else.
LARGEST = 256 * 2**20
EXPECTED = "a square array (coil, coil), real or complex: .npy, .npz, or text with commas"


def read_covariance(path: Path) -> Tensor:
    """Ψ, (coil, coil), complex128, from .npy, .npz or text.

    An archive holds it alone, or under the name noise_covariance, covariance or psi. In text each line is a row, with
    commas between numbers such as ``1.5`` or ``0.2-0.1j``. The content decides, not the name. Whether it is Hermitian
    and positive definite is checked by `NoiseCovariance`.

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.
    """
    with reading(path, EXPECTED, "Check the path and the permissions of the file."), path.open("rb") as file:
        start, size = file.read(6), path.stat().st_size
    if size > LARGEST:
        raise _no_covariance(path, f"{size} bytes")
    with reading(path, EXPECTED, "Save it with numpy.save, or as text: numpy.savetxt(path, psi, delimiter=',')."):
        if start.startswith(ZIP_START):
            with np.load(path, allow_pickle=False) as archive:
                names = [name for name in NAMES if name in archive.files] or list(archive.files)
                given = np.asarray(archive[names[0]]) if len(names) == 1 else None
        elif start == NPY_START:
            given = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
        else:
            given = np.loadtxt(path, dtype=complex, delimiter=",", ndmin=2)
    if given is None:
        raise _no_covariance(path, f"an archive of the arrays {', '.join(names) or 'none'}")
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
        raise _no_covariance(path, f"{given.dtype}, shape {given.shape}")
    return torch.from_numpy(check_kind(given, "the noise covariance", path).astype(np.complex128))


def _no_covariance(path: Path, received: str) -> InputError:
    return InputError(
        f"{path.name} holds no noise covariance",
        expected=EXPECTED,
        received=received,
        remedy="Give Ψ = (1/N) N Nᴴ of noise N (coil, sample); a noise scan itself is given by noise= or --noise.",
    )
