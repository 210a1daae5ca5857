"""Interpolation of scattered values by a polyharmonic spline, which knows its own errors."""

from __future__ import annotations

import torch
from torch import Tensor

# Points evaluated at once.
CHUNK = 2**13


class PolyharmonicSpline:
    """f(x) = Σ_k w_k |x - x_k|³ + c₀ + c·x through the values y_k, of any number of columns.

    The thin-plate kernel r² ln r belongs to planes; r³ is conditionally positive definite of second order in planes
    and volumes alike, and closer where both were tried. With b(x) = (|x - x_k|³, 1, x) and the matrix M of the
    equations f(x_k) = y_k, Σ w_k = 0, Σ w_k x_k = 0,

        f(x) = b(x)ᵀ M⁻¹ (y, 0, 0),   P²(x) = -b(x)ᵀ M⁻¹ b(x),

    P the power function: the error at x of a typical function of the space of the spline, relative to its size, zero
    at the points and growing with the distance to the nearest of them. Without point k the spline misses y_k by

        w_k / (M⁻¹)_kk,   where P²(x_k) = 1 / (M⁻¹)_kk

    (Rippa 1999, doi:10.1023/A:1018975909870): no spline is fitted twice.

    Parameters
    ----------
    points
        x_k, (n, d). Residuals are not defined unless there are more than d + 1.
    values
        y_k, (n, columns).

    Examples
    --------
    >>> x = torch.tensor([[0, 0], [0, 4], [4, 0], [4, 4], [2, 2], [1, 3]], dtype=torch.float64)
    >>> spline = PolyharmonicSpline(x, x @ x.new_tensor([[3.0], [1.0]]) + 1)
    >>> values, power = spline(x.new_tensor([[3.0, 2.0], [2.0, 2.0]]))
    >>> values.flatten().round(decimals=6).tolist(), bool(power[1] < 1e-9 < power[0])
    ([12.0, 9.0], True)
    >>> bool(spline.left_out.abs().max() < 1e-9)  # a plane is reproduced
    True
    """

    def __init__(self, points: Tensor, values: Tensor) -> None:
        n, dims = points.shape
        # In units of the extent, so that the equations are well scaled.
        self._centre = points.mean(0)
        self._scale = (points - self._centre).abs().amax().clamp_min(1.0)
        self._points = self._units(points)
        b = self._basis(self._points)
        matrix = torch.cat([b, torch.cat([b[:, n:].mT, b.new_zeros(dims + 1, dims + 1)], 1)])
        # Of points in a plane of their own some slopes are not determined: the least.
        self._inverse = torch.linalg.pinv(matrix, hermitian=True)
        self._weights = self._inverse[:, :n] @ values
        own = self._inverse.diagonal()[:n]
        self.left_out: Tensor = self._weights[:n] / own[:, None]
        """y_k less the spline of the other points, (n, columns)."""
        self.left_out_power: Tensor = 1 / own
        """P² at x_k of the other points, (n,)."""

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """f, (m, columns), and P², (m,), at points (m, d)."""
        parts = []
        for some in points.split(CHUNK):
            b = self._basis(self._units(some))
            parts.append((b @ self._weights, -((b @ self._inverse) * b).sum(1)))
        values, power = (torch.cat(part) for part in zip(*parts, strict=True))
        return values, power.clamp_min(0)

    def _units(self, points: Tensor) -> Tensor:
        return (points - self._centre) / self._scale

    def _basis(self, points: Tensor) -> Tensor:
        distance = torch.cdist(points, self._points, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.cat([distance**3, torch.ones_like(points[:, :1]), points], 1)
