"""Orthogonal wavelet transform of an image, periodic, differentiable and batched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import EllipsisType

import pywt
import torch
from torch import Tensor
from torch.nn.functional import pad

from mrnoise.errors import InputError


@dataclass(frozen=True)
class Wavelets:
    """The details W x of the last axes of an image, on a grid that is a multiple of 2^levels.

    W is the separable periodic transform (Mallat 1989, doi:10.1109/34.192463) of `pywt.Wavelet`, orthogonal, less its
    coarsest approximation, which has zeros in its place: W Wᴴ W = W.

    Parameters
    ----------
    shape
        Of the axes.
    name
        An orthogonal wavelet, e.g. ``"db4"``.
    levels
        Number of scales.

    Raises
    ------
    InputError
        If there is no such orthogonal wavelet, or it is longer than an axis of the coarsest scale but one.

    Examples
    --------
    >>> details = Wavelets((15, 12), "db2", 2)
    >>> flat = torch.ones(15, 12)
    >>> flat[:, 5:] = 2  # an edge
    >>> details.padded, int((details.forward(details.extended(flat)).abs() > 1e-6).sum())
    ((16, 12), 66)
    """

    shape: tuple[int, ...]
    name: str
    levels: int

    inner_steps = 1

    def __post_init__(self) -> None:
        check_wavelet(self.name, self.levels)
        length, finest = pywt.Wavelet(self.name).dec_len, min(self.padded) >> (self.levels - 1)
        if length > finest:
            raise InputError(
                "the image is too small for this wavelet transform",
                expected=f"at least {length << (self.levels - 1)} voxels along every axis",
                received=f"a matrix of {self.shape}",
                remedy="Take fewer levels or a shorter wavelet.",
            )

    @property
    def padded(self) -> tuple[int, ...]:
        """Multiples of 2^levels."""
        step = 1 << self.levels
        return tuple(-(-n // step) * step for n in self.shape)

    @property
    def norm2(self) -> float:
        """‖W‖²."""
        return 1.0

    def extended(self, image: Tensor) -> Tensor:
        """(..., *shape) → (..., *padded), zeros behind."""
        ends = [full - n for n, full in zip(self.shape, self.padded, strict=True)]
        return pad(image, [width for end in reversed(ends) for width in (0, end)])

    def cropped(self, image: Tensor) -> Tensor:
        """(..., *padded) → (..., *shape), its adjoint."""
        for axis, n in zip(self._axes, self.shape, strict=True):
            image = image.narrow(axis, 0, n)
        return image

    def forward(self, image: Tensor) -> Tensor:
        """W x, (..., *padded)."""
        return self._analysed(image, self.levels)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Wᴴ u."""
        return self._synthesized(coefficients, self.levels)

    def grouped(self, values: Tensor) -> Tensor:
        """Each coefficient by itself."""
        return values

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.shape), 0))

    def _analysed(self, image: Tensor, levels: int) -> Tensor:
        if levels == 0:
            return torch.zeros_like(image)
        for axis in self._axes:
            image = _along(axis, _matrix(self.name, image.shape[axis]).to(image), image)
        corner = self._corner(image)
        inner = self._analysed(image[corner], levels - 1)
        image = image.clone()
        image[corner] = inner
        return image

    def _synthesized(self, coefficients: Tensor, levels: int) -> Tensor:
        corner = self._corner(coefficients)
        image = coefficients.clone()
        image[corner] = (
            torch.zeros_like(image[corner]) if levels == 1 else self._synthesized(coefficients[corner], levels - 1)
        )
        for axis in self._axes:
            image = _along(axis, _matrix(self.name, image.shape[axis]).T.to(image), image)
        return image

    def _corner(self, image: Tensor) -> tuple[EllipsisType | slice, ...]:
        return (..., *(slice(image.shape[axis] // 2) for axis in self._axes))


def check_wavelet(name: str, levels: int) -> None:
    """Raise `InputError` unless there is such an orthogonal wavelet, and a level."""
    orthogonal = name in pywt.wavelist(kind="discrete") and pywt.Wavelet(name).orthogonal
    if not orthogonal or levels < 1:
        raise InputError(
            "there is no such wavelet transform",
            expected="the name of an orthogonal wavelet (haar, db2 to db38, sym2 to sym20, coif1 to coif17), "
            "and at least one level",
            received=f"{name}, {levels} levels",
            remedy='Take wavelet="db4".',
        )


def _along(axis: int, matrix: Tensor, image: Tensor) -> Tensor:
    return torch.tensordot(matrix, image, ([1], [axis % image.ndim])).movedim(0, axis)


@cache
def _matrix(name: str, n: int) -> Tensor:
    """One scale of n samples: n/2 averages, then n/2 details; orthogonal, float64."""
    wavelet = pywt.Wavelet(name)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    rows = torch.arange(n // 2)
    for half, taps in enumerate((wavelet.rec_lo, wavelet.rec_hi)):
        for shift, tap in enumerate(taps):
            matrix.index_put_(
                (rows + half * (n // 2), (2 * rows + shift) % n),
                torch.tensor(tap, dtype=torch.float64),
                accumulate=True,
            )
    return matrix
