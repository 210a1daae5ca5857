"""Complex numbers as array files hold them: as such, as records of two fields, as a last axis of two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.files.opening import NUMBERS, check_kind

# Names of the fields: of MATLAB and most writers of HDF5, of h5py, and others.
FIELDS = (("real", "imag"), ("r", "i"), ("re", "im"))
# What a reader has to let through for `numbers`: numbers and records.
KINDS = NUMBERS + "V"


def numbers(values: np.ndarray, name: str, path: Path) -> np.ndarray:
    """An array of numbers; records of a real and an imaginary part, floating point or whole, become complex.

    Raises
    ------
    InputError
        If it holds something else.

    Examples
    --------
    >>> pairs = np.array([(1, 2), (3, -4)], dtype=[("r", "<i2"), ("i", "<i2")])
    >>> numbers(pairs, "kspace", Path("scan.h5")).tolist()
    [(1+2j), (3-4j)]
    """
    fields = values.dtype.names or ()
    if tuple(field.lower() for field in fields) not in FIELDS:
        return check_kind(values, name, path)
    real, imaginary = (check_kind(values[field], name, path, "iuf") for field in fields)
    return _joined(real, imaginary)


def paired(values: np.ndarray, n_axes: int) -> np.ndarray:
    """Complex, of a real array whose axes are ``n_axes`` and one of two numbers; any other array as it is."""
    if np.iscomplexobj(values) or values.ndim != n_axes + 1 or values.shape[-1] != 2:
        return values
    return _joined(values[..., 0], values[..., 1])


def alternating(values: np.ndarray) -> np.ndarray:
    """Complex, of a real array in whose last axis real and imaginary parts alternate; any other array as it is."""
    if np.iscomplexobj(values) or values.shape[-1] % 2:
        return values
    return _joined(values[..., ::2], values[..., 1::2])


def as_tensor(array: np.ndarray) -> Tensor:
    """Tensor of a numeric array of any byte order; long complex numbers become complex128."""
    kind = np.complex128 if array.dtype.kind == "c" and array.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))


def noise_samples(values: np.ndarray, path: Path) -> Tensor:
    """Noise samples (coil, sample) from an array (coil, ...) or (sample, coil).

    There are more samples than coils, or they do not determine Ψ: the shorter of two axes is the coils.
    """
    if values.ndim == 3:
        values = paired(values, 2)
    if values.ndim < 2 or not values.size or not np.iscomplexobj(values):
        raise InputError(
            f"the noise samples in {path.name} have the wrong shape or type",
            expected="a complex array (coil, sample)",
            received=f"{values.dtype}, shape {values.shape}",
            remedy="Put the coil axis first; combine real and imaginary parts.",
        )
    if values.ndim == 2 and values.shape[0] > values.shape[1]:
        values = values.T
    return as_tensor(values.reshape(values.shape[0], -1))


def _joined(real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    out = np.empty(real.shape, np.result_type(real.dtype, np.complex64))
    out.real, out.imag = real, imaginary
    return out
