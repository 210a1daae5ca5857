"""Check a reconstruction before trusting its derivative, and choose how to compute it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.linearization.derivatives import (
    EVALUATION_MODES,
    JVP_MODES,
    VJP_MODES,
    Function,
    evaluate_loop,
)

# Finite differences of a float32 network agree with its derivative to about 0.3 %; an in-place ReLU, the
# subtlest silent fault seen, shows as 2 %.
TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-3}
# Steps of the differences, as fractions of the norm of the data, taken until a derivative agrees. For each voxel the
# best one counts: round-off asks for large steps, curvature for small ones, a kink (|x| near zero, rectifiers) for one
# of its two sides, and none agrees with a wrong derivative.
STEPS = {
    torch.float32: (1e-3, 3e-4, 3e-3, 1e-4, 3e-5, 3e-2),
    torch.float64: (3e-5, 1e-6, 3e-4, 1e-7, 3e-3, 3e-2),
}
ROUND_OFF = {torch.float32: 1e-4, torch.float64: 1e-9}


@dataclass(frozen=True)
class Check:
    """One finding about the reconstruction."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Preflight:
    """Which derivatives of a reconstruction can be trusted.

    Parameters
    ----------
    jvp_mode, vjp_mode
        Names in `JVP_MODES`, `VJP_MODES`; ``None`` where no way agrees with finite differences.
    evaluation_mode
        Name in `EVALUATION_MODES`.
    complex_linear
        Whether J(iv) = iJv; then image noise is proper.
    checks
        Everything that was tried, with figures.
    """

    jvp_mode: str | None
    vjp_mode: str | None
    evaluation_mode: str
    complex_linear: bool
    checks: tuple[Check, ...] = field(default=())

    def describe(self) -> dict[str, Any]:
        """JSON-able record."""
        return {
            "mode": self.jvp_mode or "replicas only",
            "adjoint": self.vjp_mode,
            "evaluation": self.evaluation_mode,
            "complex_linear": self.complex_linear,
            "checks": [vars(c) for c in self.checks],
        }


def preflight(
    function: Function, point: Tensor, tangent: Tensor, batch_ndim: int, spatial_dims: int
) -> tuple[Tensor, Preflight]:
    """Evaluate a reconstruction a few times and compare its derivatives with finite differences.

    Parameters
    ----------
    function
        k-space → image.
    point
        The measured k-space.
    tangent
        One realisation of its noise.
    batch_ndim, spatial_dims
        Number of leading and of spatial axes that the image must have.

    Returns
    -------
    value
        The image.
    preflight
        The findings.

    Raises
    ------
    InputError
        If the reconstruction is not a deterministic, finite map to an image of fixed shape.
    """
    value = _evaluate(function, point)
    _check_image(value, point, batch_ndim, spatial_dims)
    _check_repeatable(value, _evaluate(function, point))
    checks = [Check("deterministic, finite, image-shaped", True, f"image {tuple(value.shape)} {value.dtype}")]

    differences = _Differences(function, point, value, tangent)
    jvp_mode, jvp = None, None
    for name, mode in JVP_MODES.items():
        try:
            candidate = mode(function, point, torch.stack([tangent, 1j * tangent]))
        except Exception as error:  # any failure of a user's code only rules out this way
            checks.append(Check(name, False, _first_line(error)))
            continue
        tolerance = _by_precision(TOLERANCE, value)
        disagreement = differences.disagreement(candidate[0], tolerance)
        passed = disagreement <= tolerance
        detail = f"differs from finite differences by {disagreement:.2g}"
        if not passed and float(candidate[0].abs().max()) == 0:
            detail = "is zero although the image depends on k-space: the input is detached"
        checks.append(Check(name, passed, detail))
        if passed:
            jvp_mode, jvp = name, candidate
            break

    vjp_mode = None
    complex_linear = False
    if jvp is not None:
        complex_linear = value.is_complex() and _relative(jvp[1], 1j * jvp[0]) < _by_precision(ROUND_OFF, value)
        vjp_mode = _choose_adjoint(function, point, tangent, jvp[0], checks)
    evaluation_mode = _choose_evaluation(function, point, tangent, checks)
    return value, Preflight(jvp_mode, vjp_mode, evaluation_mode, complex_linear, tuple(checks))


def _choose_adjoint(function: Function, point: Tensor, tangent: Tensor, jvp: Tensor, checks: list[Check]) -> str | None:
    """First vjp with Re⟨J t, w⟩ = Re⟨t, Jᵀ w⟩."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(jvp.shape, dtype=jvp.dtype, generator=generator).to(jvp.device)
    for name, mode in VJP_MODES.items():
        try:
            pulled = mode(function, point, w[None])[0]
        except Exception as error:
            checks.append(Check(name, False, _first_line(error)))
            continue
        left, right = _inner(jvp, w), _inner(tangent, pulled)
        error_size = abs(left - right) / float(jvp.norm() * w.norm() + 1e-30)
        # A wrong adjoint is wrong by the size of a random inner product, ‖Jt‖‖w‖/√n.
        passed = error_size * jvp.numel() ** 0.5 <= _by_precision(TOLERANCE, jvp)
        checks.append(Check(name, passed, f"adjoint identity holds to {error_size:.2g} of ‖Jt‖‖w‖"))
        if passed:
            return name
    return None


def _choose_evaluation(function: Function, point: Tensor, tangent: Tensor, checks: list[Check]) -> str:
    single = evaluate_loop(function, point, tangent[None])
    for name, mode in EVALUATION_MODES.items():
        try:
            batch = mode(function, point, torch.stack([tangent, -tangent]))
        except Exception as error:
            checks.append(Check(f"batched by {name}", False, _first_line(error)))
            continue
        difference = _relative(batch[:1], single)
        passed = difference < _by_precision(ROUND_OFF, single)
        checks.append(Check(f"batched by {name}", passed, f"differs from one at a time by {difference:.2g}"))
        if passed:
            return name
    return "loop"


def _evaluate(function: Function, point: Tensor) -> Tensor:
    with torch.no_grad():
        value = function(point)
    if not isinstance(value, Tensor):
        raise InputError(
            "the reconstruction does not return a tensor",
            expected="a torch.Tensor, real or complex",
            received=type(value).__name__,
            remedy="Wrap it: lambda kspace: torch.as_tensor(...), with torch operations inside.",
        )
    return value


def _check_image(value: Tensor, point: Tensor, batch_ndim: int, spatial_dims: int) -> None:
    batch = tuple(point.shape[:batch_ndim])
    if value.ndim != batch_ndim + spatial_dims or tuple(value.shape[:batch_ndim]) != batch:
        raise InputError(
            "the reconstruction returns something that is not an image",
            expected=f"{batch_ndim + spatial_dims} axes, {(*batch, '...')}" if batch else f"{spatial_dims} axes",
            received=f"shape {tuple(value.shape)} for k-space {tuple(point.shape)}",
            remedy="Combine the coils and drop channel axes inside the reconstruction.",
        )
    if not (value.is_floating_point() or value.is_complex()):
        raise InputError(
            "the reconstruction returns an image that has no noise",
            expected="a floating point or complex image",
            received=str(value.dtype),
            remedy="Do not round or convert to integers inside the reconstruction.",
        )
    parts = torch.view_as_real(value) if value.is_complex() else value
    if not torch.isfinite(parts).all():
        raise InputError(
            "the reconstruction returns NaN or infinite voxels",
            expected="a finite image",
            received=f"{int((~torch.isfinite(value.abs())).sum())} of {value.numel()} voxels that are not",
            remedy="Guard divisions and square roots at zero signal.",
        )


def _check_repeatable(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise InputError(
            "the reconstruction changes the shape of its image",
            expected=f"{tuple(first.shape)} again for the same k-space",
            received=str(tuple(second.shape)),
            remedy="Make it a function of k-space alone, without state between calls.",
        )
    difference = _relative(second, first)
    if difference > _by_precision(ROUND_OFF, first):
        raise InputError(
            "the reconstruction is random",
            expected="the same image for the same k-space",
            received=f"two calls that differ by {difference:.2g} of the image",
            remedy="Call .eval() on networks (dropout, batch norm) and fix the seeds inside.",
        )


class _Differences:
    """Central, forward and backward differences, evaluated as far as they are needed."""

    def __init__(self, function: Function, point: Tensor, value: Tensor, tangent: Tensor) -> None:
        self._function, self._point, self._value, self._tangent = function, point, value, tangent
        scale = float(point.norm() / tangent.norm().clamp_min(1e-30)) or 1.0
        self._steps = [fraction * scale for fraction in _by_precision(STEPS, point)]
        self._found: list[Tensor] = []

    def disagreement(self, derivative: Tensor, enough: float) -> float:
        """Of a derivative with the nearest difference of each voxel, over steps until it is ``enough``."""
        nearest, disagreement = torch.full_like(derivative, torch.inf).abs(), float("inf")
        for index in range(len(self._steps)):
            nearest = torch.minimum(nearest, (derivative - self._at(index)).abs().amin(0))
            disagreement = _relative(derivative + nearest, derivative)
            if disagreement <= enough:
                break
        return disagreement

    def _at(self, index: int) -> Tensor:
        """Those of one step, (3, *image)."""
        if index == len(self._found):
            h = self._steps[index]
            with torch.no_grad():
                forward = self._function(self._point + h * self._tangent) - self._value
                backward = self._value - self._function(self._point - h * self._tangent)
            self._found.append(torch.stack([(forward + backward) / (2 * h), forward / h, backward / h]))
        return self._found[index]


def _relative(a: Tensor, b: Tensor) -> float:
    size = max(float(b.norm()), 1e-30)
    difference = float((a - b).norm()) / size
    return difference if difference == difference else float("inf")


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a.to(torch.complex128).conj() * b).sum().real)


def _by_precision(table: dict[torch.dtype, Any], value: Tensor) -> Any:
    return table.get(value.real.dtype, table[torch.float32])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:160]


def refuse(preflight: Preflight, needed: str, otherwise: str = 'use method="monte_carlo"') -> InputError:
    """The error for a method whose derivative the preflight does not trust, with what to do ``otherwise``."""
    failed = [f"{c.name} {c.detail}" for c in preflight.checks if not c.passed]
    return InputError(
        f"the {needed} of the reconstruction cannot be trusted",
        expected="a derivative that agrees with finite differences",
        received="; ".join(failed) or "none",
        remedy="Keep torch operations differentiable from k-space to image (no .detach(), .data, no_grad, "
        f"numpy, in-place activation), iterate to convergence, or {otherwise}.",
    )
