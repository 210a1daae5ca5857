"""Least squares with a norm of sparse coefficients, by accelerated proximal steps, and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mrnoise.encoding import Encoding
from mrnoise.errors import InputError

# Relative length of the step at which it has converged, and the number of steps that it may take.
TOLERANCE, MOST_STEPS = 3e-6, 5000


class Sparsifying(Protocol):
    """K: what of an image is sparse, in groups of coefficients."""

    @property
    def norm2(self) -> float:
        """A bound of ‖K‖²."""
        ...

    def extended(self, image: Tensor) -> Tensor:
        """The image on the grid of K, with zeros beside it."""
        ...

    def cropped(self, image: Tensor) -> Tensor:
        """The adjoint of `extended`."""
        ...

    def forward(self, image: Tensor) -> Tensor:
        """K x."""
        ...

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Kᴴ u."""
        ...

    def grouped(self, values: Tensor) -> Tensor:
        """Sums over each group, broadcast with u."""
        ...

    @property
    def inner_steps(self) -> int:
        """How many dual steps a proximal step takes; one is exact where K Kᴴ = 1 on its range."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Fista:
    """argmin_x ½‖A x - y‖² + λ Σ_g ‖(K x)_g‖₂ from b = Aᴴy, by accelerated proximal steps.

    From a point z, with L ≥ ‖A‖² and τ = λ/L (Beck and Teboulle 2009, doi:10.1137/080716542 and
    doi:10.1109/TIP.2009.2028250)

        g = z - (AᴴA z - b)/L,   x = g - τ Kᴴu,   u ← P(u + K (g - τ Kᴴu)/(τ ‖K‖²)),   P(v) = v / max(1, ‖v_g‖),

    the dual steps several times over, each from the u of the last. At the solution P has a derivative Q, and the
    derivative of x solves the same steps with Q for P: it is linear and symmetric in b.

    Parameters
    ----------
    encoding
        A.
    sparsifying
        K.
    norm2
        L.
    weight
        λ > 0.
    """

    encoding: Encoding
    sparsifying: Sparsifying
    norm2: float
    weight: float

    def stopped(self, b: Tensor, steps: int) -> Tensor:
        """The image after so many steps from b/L, differentiable as they are made."""
        b = self.sparsifying.extended(b)
        state = self._start(b)
        for _ in range(steps):
            state = self._step(b, state, self._projected)
        return self.sparsifying.cropped(state.x)

    def converged(self, b: Tensor) -> Tensor:
        """The solution, (..., *image), with its own derivative.

        Raises
        ------
        InputError
            If it has not converged after `MOST_STEPS`.
        """
        x: Tensor = _Solution.apply(self.sparsifying.extended(b), self)[0]
        return self.sparsifying.cropped(x)

    def solution(self, b: Tensor) -> tuple[Tensor, Tensor]:
        """X and what P is applied to there: its groups are longer than 1 where those of K x are not zero."""
        state = self._until_still(b, self._projected)
        return state.x, self._before_projection(self._descended(b, state.x), state.u)

    def tangent(self, b: Tensor, v: Tensor) -> Tensor:
        """The derivative of the solution in the direction b; v is what P is applied to there."""
        ratio = self._ratio(v)
        direction = v * ratio

        def q(w: Tensor) -> Tensor:
            radial = direction * self.sparsifying.grouped((direction.conj() * w).real)
            return torch.where(ratio < 1, ratio * (w - radial), w)

        return self._until_still(b, q).x

    def _until_still(self, b: Tensor, projected: Callable[[Tensor], Tensor]) -> _State:
        axes = tuple(range(-len(self.encoding.image_shape), 0))
        state = self._start(b)
        for _ in range(MOST_STEPS):
            before = state.x
            state = self._step(b, state, projected)
            change, size = (torch.linalg.vector_norm(t, dim=axes) for t in (state.x - before, state.x))
            if bool((change <= TOLERANCE * size).all()):
                return state
        raise InputError(
            "compressed sensing does not converge",
            expected=f"a relative step of {TOLERANCE:.0e} within {MOST_STEPS} steps",
            received=f"{float((change / size).nan_to_num().max()):.1e}",
            remedy="Give a number of iterations, a larger regularization or double precision.",
        )

    def _start(self, b: Tensor) -> _State:
        x = b / self.norm2
        return _State(x, x, torch.zeros_like(self.sparsifying.forward(x)), 1.0)

    def _step(self, b: Tensor, state: _State, projected: Callable[[Tensor], Tensor]) -> _State:
        g, u = self._descended(b, state.z), state.u
        for _ in range(self.sparsifying.inner_steps):
            u = projected(self._before_projection(g, u))
        x = self._proximal(g, u)
        z, momentum = extrapolated(x, state.x, state.momentum)
        return _State(x, z, u, momentum)

    # Factors are given as alpha: times a number, a tangent takes one more pass, and milliseconds of its own.

    def _descended(self, b: Tensor, z: Tensor) -> Tensor:
        """G."""
        k = self.sparsifying
        return torch.sub(z, k.extended(self.encoding.gram(k.cropped(z))) - b, alpha=1 / self.norm2)

    def _proximal(self, g: Tensor, u: Tensor) -> Tensor:
        return torch.sub(g, self.sparsifying.adjoint(u), alpha=self._threshold)

    def _before_projection(self, g: Tensor, u: Tensor) -> Tensor:
        k = self.sparsifying
        return torch.add(u, k.forward(self._proximal(g, u)), alpha=1 / (self._threshold * k.norm2))

    @property
    def _threshold(self) -> float:
        """τ."""
        return self.weight / self.norm2

    def _projected(self, v: Tensor) -> Tensor:
        return v * self._ratio(v)

    def _ratio(self, v: Tensor) -> Tensor:
        """1/‖v_g‖, at most 1: there its derivative is zero."""
        return self.sparsifying.grouped(v.real.square() + v.imag.square()).clamp_min(1).rsqrt()


def extrapolated(x: Tensor, before: Tensor, momentum: float) -> tuple[Tensor, float]:
    """The point from which the next accelerated step starts, x and the one before being the last two; its momentum.

    (Beck and Teboulle 2009, doi:10.1137/080716542); the first momentum is 1.
    """
    following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
    return torch.add(x, x - before, alpha=(momentum - 1) / following), following


class _State(NamedTuple):
    """x, z, u, and what the momentum follows from."""

    x: Tensor
    z: Tensor
    u: Tensor
    momentum: float


class _Solution(torch.autograd.Function):
    """What `Fista.solution` returns, x differentiated as converged, v not."""

    @staticmethod
    def forward(b: Tensor, problem: Fista) -> tuple[Tensor, Tensor]:
        return problem.solution(b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, problem = inputs
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])
        ctx.problem = problem

    @staticmethod
    def jvp(ctx: Any, db: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        (v,) = ctx.saved_tensors
        return _Tangent.apply(db, v, ctx.problem), torch.zeros_like(v)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (v,) = ctx.saved_tensors
        return _Tangent.apply(gradients[0], v, ctx.problem), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], b: Tensor, problem: Fista) -> tuple[Any, Any]:
        x, v = _Solution.apply(b.movedim(in_dims[0], 0), problem)
        return (x, v), (0, v.ndim - x.ndim)


class _Tangent(torch.autograd.Function):
    """`Fista.tangent`, linear and symmetric in b; v is held."""

    @staticmethod
    def forward(b: Tensor, v: Tensor, problem: Fista) -> Tensor:
        return problem.tangent(b, v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, v, problem = inputs
        ctx.save_for_backward(v)
        ctx.save_for_forward(v)
        ctx.problem = problem

    @staticmethod
    def jvp(ctx: Any, db: Tensor, *_: Any) -> Tensor:
        (v,) = ctx.saved_tensors
        return _Tangent.apply(db, v, ctx.problem)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (v,) = ctx.saved_tensors
        return _Tangent.apply(gradients[0], v, ctx.problem), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], b: Tensor, v: Tensor, problem: Fista) -> tuple[Tensor, int]:
        b_dim, v_dim, _ = in_dims
        if v_dim is not None:  # each at a point of its own
            pairs = zip(
                b.expand(info.batch_size, *b.shape) if b_dim is None else b.movedim(b_dim, 0),
                v.movedim(v_dim, 0),
                strict=True,
            )
            return torch.stack([_Tangent.apply(of_b, of_v, problem) for of_b, of_v in pairs]), 0
        return _Tangent.apply(b.movedim(b_dim, 0), v, problem), 0
