"""Check a reconstruction before trusting its derivative, and choose how to compute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from mrnoise.errors import InputError
from mrnoise.estimators.batching.clock import Stopwatch
from mrnoise.linearization.derivatives import (
    EVALUATION_MODES,
    JVP_MODES,
    JVP_WALK,
    JVP_WALK_OF_LINEAR,
    OF_LINEAR,
    OF_LINEAR_VMAP,
    OWN_JVP,
    OWN_VJP,
    VJP_MODES,
    Function,
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
# Of what is linear by its own word, or tried as such: there round-off counts alone.
STEPS_OF_LINEAR = (1.0,)
ROUND_OFF = {torch.float32: 1e-4, torch.float64: 1e-9}
# What differs from call to call by this fraction of the noise in the image adds a thousandth to its σ.
OF_NOISE = 0.05


@dataclass(frozen=True)
class Check:
    """One finding about the reconstruction.

    Parameters
    ----------
    name
        What was tried.
    passed
        Whether it may be used.
    detail
        The figures, or what went wrong.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> (operator,) = linearize(Sense(), simulate((16, 12), 4))
    >>> operator.preflight.vjp_mode
    'vmap(vjp)'
    >>> [check.name for check in operator.preflight.checks]
    ['deterministic, finite, image-shaped', 'vmap(J t = g(t))', 'vmap(vjp)']
    """

    name: str
    passed: bool
    detail: str


class Preflight:
    """Which derivatives of a reconstruction can be trusted, found out where a method asks for them.

    Parameters
    ----------
    function
        k-space → image.
    point
        The measured k-space.
    tangent
        One realisation of its noise.
    value
        The image.

    Attributes
    ----------
    point
        Where derivatives are taken: the measured k-space, or zero for a function whose ``complex_linear`` is true. One
        that is not linear in truth disagrees with its differences.
    seconds
        That the image took.

    Examples
    --------
    >>> from mrnoise.linearization import linearize
    >>> from mrnoise.reconstruction import CgSense, RootSumOfSquares
    >>> from mrnoise.simulation import simulate
    >>> for method in (CgSense(), RootSumOfSquares()):
    ...     (operator,) = linearize(method, simulate((16, 12), 4))
    ...     found = operator.preflight
    ...     print(found.jvp_mode, found.vjp_mode, found.complex_linear)
    vmap(J t = g(t)) vmap(vjp) True
    vmap(jvp) vmap(vjp) False
    """

    def __init__(self, function: Function, point: Tensor, tangent: Tensor, value: Tensor, seconds: float) -> None:
        self._function, self._point, self._tangent, self._value = function, point, tangent, value
        self.seconds = seconds
        self._linear = linear = getattr(function, "complex_linear", False) is True
        steps = STEPS_OF_LINEAR if linear else _by_precision(STEPS, point)
        self.point = torch.zeros_like(point) if linear else point
        self._differences = _Differences(function, point, value, tangent, steps)
        self.checks = [Check("deterministic, finite, image-shaped", True, f"image {tuple(value.shape)} {value.dtype}")]

    @cached_property
    def evaluation_mode(self) -> str:
        """Name in `EVALUATION_MODES`: how replicas are evaluated."""
        change = self._differences.step * self._tangent
        together = None
        try:
            # What is at its second place is known: the image itself.
            pair = torch.stack([change, torch.zeros_like(change)])
            together = EVALUATION_MODES["vmap"](self._function, self._point, pair)
        except Exception as error:  # any failure of a user's code only rules out this way
            self.checks.append(Check("batched by vmap", False, _first_line(error)))
        if together is not None and together[1].shape == self._value.shape:
            alone = _relative(together[1], self._value)
            # Values that were mixed within the batch differ by as much as they change.
            changed = float((together[0] - self._value).norm())
            mixed = float((together[1] - self._value).norm()) / max(changed, 1e-30)
            passed = alone < _by_precision(ROUND_OFF, self._value) and mixed < 10 * _by_precision(
                TOLERANCE, self._value
            )
            self.checks.append(Check("batched by vmap", passed, f"differs from one at a time by {alone:.2g}"))
            if passed:
                self._differences.know(together[0])
                return "vmap"
        _check_repeatable(self._value, evaluate(self._function, self._point), self.noise_in_image)
        return "loop"

    def noise_in_image(self) -> Tensor:
        """g(y + t) - g(y) at the noise level of the scan."""
        return evaluate(self._function, self._point + self._tangent) - self._value

    @cached_property
    def _product(self) -> tuple[str, Tensor] | None:
        """The way to compute J t that agrees with finite differences, and J of t and of it."""
        if not self._linear:
            assert self.evaluation_mode  # its evaluations are the first differences
        tangents = torch.stack([self._tangent, 1j * self._tangent])
        for name in JVP_WALK_OF_LINEAR if self._linear else JVP_WALK:
            if name == OWN_JVP and not hasattr(self._function, "jvp"):
                continue
            try:
                candidate = JVP_MODES[name](self._function, self.point, tangents)
            except Exception as error:  # any failure of a user's code only rules out this way
                self.checks.append(Check(name, False, _first_line(error)))
                continue
            tolerance = _by_precision(TOLERANCE, self._value)
            of_linear = name in (OF_LINEAR, OF_LINEAR_VMAP)
            differences = self._loud if of_linear else self._differences
            disagreement = differences.disagreement(candidate[0], tolerance)
            passed = disagreement <= tolerance
            detail = f"differs from finite differences by {disagreement:.2g}"
            if of_linear:
                detail = f"differs from g(y + t) - g(y) by {disagreement:.2g} where t is as large as the data"
            elif not passed and float(candidate[0].abs().max()) == 0:
                detail = "is zero although the image depends on k-space: the input is detached"
            self.checks.append(Check(name, passed, detail))
            if passed:
                return name, candidate
        return None

    @property
    def _loud(self) -> _Differences:
        """Differences as large as the data."""
        if self._linear:
            return self._differences
        return _Differences(self._function, self._point, self._value, self._tangent, STEPS_OF_LINEAR)

    @property
    def jvp_mode(self) -> str | None:
        """Name in `JVP_MODES`; ``None`` where no way agrees with finite differences."""
        return None if self._product is None else self._product[0]

    @property
    def loud_pair(self) -> tuple[Tensor, Tensor] | None:
        """(g(y + h t) - g(y)) / h and J t, h t as large as the data, of a function that is linear by its own word."""
        if not self._linear or self._product is None or self._product[0] == OWN_JVP:
            return None
        return self._differences.first, self._product[1][0]

    @cached_property
    def vjp_mode(self) -> str | None:
        """Name in `VJP_MODES`: the first with Re⟨J t, w⟩ = Re⟨t, Jᵀ w⟩; ``None`` where there is none."""
        if self._product is None:
            return None
        jvp = self._product[1][0]
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(jvp.shape, dtype=jvp.dtype, generator=generator).to(jvp.device)
        for name, mode in VJP_MODES.items():
            if name == OWN_VJP and not hasattr(self._function, "vjp"):
                continue
            try:
                pulled = mode(self._function, self.point, w[None])[0]
            except Exception as error:
                self.checks.append(Check(name, False, _first_line(error)))
                continue
            left, right = _inner(jvp, w), _inner(self._tangent, pulled)
            error_size = abs(left - right) / float(jvp.norm() * w.norm() + 1e-30)
            # A wrong adjoint is wrong by the size of a random inner product, ‖Jt‖‖w‖/√n.
            passed = error_size * jvp.numel() ** 0.5 <= _by_precision(TOLERANCE, jvp)
            self.checks.append(Check(name, passed, f"adjoint identity holds to {error_size:.2g} of ‖Jt‖‖w‖"))
            if passed:
                return name
        return None

    @cached_property
    def complex_linear(self) -> bool:
        """Whether J(iv) = iJv; then image noise is proper."""
        if self._product is None or not self._value.is_complex():
            return False
        of_t, of_it = self._product[1]
        return _relative(of_it, 1j * of_t) < _by_precision(ROUND_OFF, self._value)

    def of_readout(self) -> Preflight:
        """That of a real-linear readout of the image, whose derivatives are computed alike."""
        other = copy(self)
        other.__dict__["complex_linear"] = False
        return other

    def describe(self) -> dict[str, Any]:
        """JSON-able record of what was found out; what no method asked for was not tried."""

        def found(name: str, value: str | None) -> str | None:
            return value if name in self.__dict__ else "not tried"

        product = self.__dict__.get("_product")
        mode = found("_product", None if product is None else product[0])
        return {
            "mode": mode or "replicas only",
            "adjoint": found("vjp_mode", self.__dict__.get("vjp_mode")),
            "evaluation": found("evaluation_mode", self.__dict__.get("evaluation_mode")),
            "complex_linear": self.__dict__.get("complex_linear"),
            "checks": [vars(c) for c in self.checks],
        }


def preflight(
    function: Function, point: Tensor, tangent: Tensor, batch_shape: tuple[int, ...], spatial_dims: int
) -> tuple[Function, Tensor, Preflight]:
    """Evaluate a reconstruction, see that it is a function with an image, and prepare to check its derivatives.

    Parameters
    ----------
    function
        k-space → image.
    point
        The measured k-space.
    tangent
        One realisation of its noise.
    batch_shape, spatial_dims
        Leading axes and number of spatial axes that the image must have.

    Returns
    -------
    function
        The same, on a copy of its input where it writes into that.
    value
        The image.
    preflight
        The findings.

    Raises
    ------
    InputError
        If the reconstruction fails, or is not a deterministic, finite map to an image of fixed shape.

    Examples
    --------
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> noise = scan.colour(torch.randn_like(scan.kspace))
    >>> function, image, found = preflight(Sense().bind(scan), scan.kspace, noise, (), 2)
    >>> tuple(image.shape), found.jvp_mode
    ((16, 12), 'vmap(J t = g(t))')
    """
    given, clock = point.clone(), Stopwatch(point.device)
    value = evaluate(function, given)
    seconds = clock.seconds()
    if not torch.equal(given, point):
        function = OnCopy(function)
    if value.is_conj() or value.is_neg():
        function, value = Resolved(function), value.resolve_conj().resolve_neg()
    _check_image(value, point, batch_shape, spatial_dims)
    return function, value, Preflight(function, point, tangent, value, seconds)


def check_unchanged(function: Function, point: Tensor, value: Tensor, noise: Callable[[], Tensor]) -> None:
    """Raise `InputError` unless a reconstruction still gives the image that it gave before it was mapped.

    ``noise`` is asked for that of the image where more than rounding has changed.
    """
    difference = _difference_that_counts(evaluate(function, point), value, noise)
    if difference is not None:
        raise InputError(
            "the reconstruction keeps state between calls",
            expected="the same image for the same k-space, however often it was called",
            received=f"an image that differs by {difference:.2g} after its noise was mapped",
            remedy="Make it a function of k-space alone: no running averages, counters or caches that change.",
        )


@dataclass(frozen=True)
class OnCopy:
    """A function of a copy of its input, into which it writes."""

    function: Function

    def __call__(self, kspace: Tensor) -> Tensor:
        """Its value."""
        return self.function(kspace.clone())


@dataclass(frozen=True)
class Resolved:
    """A function without lazy conjugation in its value."""

    function: Function

    def __call__(self, kspace: Tensor) -> Tensor:
        """Its value."""
        return self.function(kspace).resolve_conj().resolve_neg()


@contextmanager
def last_words(function: Function, point: Tensor) -> Iterator[None]:
    """Whatever a user's function raises becomes one `InputError` with its own last words; memory is let through."""
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if "not enough memory" in str(error):
            raise
        raise InputError(
            "the reconstruction fails on this scan",
            expected=f"an image from {_name(function)} for k-space {tuple(point.shape)}, whatever the noise in it",
            received=_first_line(error),
            remedy="Call it on acquisition.kspace, and with noise added, to see where it fails.",
        ) from error


def evaluate(function: Function, point: Tensor) -> Tensor:
    """Value of a user's function, which has to be a dense tensor where the k-space is; in memory of its own."""
    with last_words(function, point), torch.no_grad():
        value = function(point)
    if not isinstance(value, Tensor):
        raise InputError(
            "the reconstruction does not return a tensor",
            expected="a torch.Tensor, real or complex",
            received=type(value).__name__,
            remedy="A function of NumPy arrays: mrnoise.reconstruction.BlackBox(function). Else wrap it: "
            "lambda kspace: torch.as_tensor(...), with torch operations inside.",
        )
    if value.layout != torch.strided or value.device != point.device:
        raise InputError(
            "the reconstruction returns a tensor that cannot be used",
            expected=f"a dense tensor on {point.device}",
            received=f"{value.layout} on {value.device} from {_name(function)}",
            remedy="Use .to_dense(), and .to(kspace.device), inside the reconstruction.",
        )
    return value.clone()


def _name(function: Function) -> str:
    text = getattr(function, "__name__", None) or repr(function)
    return type(function).__name__ if "\n" in text else text


def _check_image(value: Tensor, point: Tensor, batch: tuple[int, ...], spatial_dims: int) -> None:
    n_axes = len(batch) + spatial_dims
    if value.ndim != n_axes or tuple(value.shape[: len(batch)]) != batch:
        raise InputError(
            "the reconstruction returns something that is not an image",
            expected=f"{n_axes} axes, {(*batch, '...')}" if batch else f"{n_axes} axes",
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


def _difference_that_counts(image: Tensor, before: Tensor, noise: Callable[[], Tensor]) -> float | None:
    """Relative difference of two images that should be equal, where it is more than rounding and matters to σ."""
    difference = _relative(image, before)
    if difference <= _by_precision(ROUND_OFF, before):
        return None
    return difference if not float((image - before).norm()) <= OF_NOISE * float(noise().norm()) else None


def _check_repeatable(first: Tensor, second: Tensor, noise: Callable[[], Tensor]) -> None:
    _check_shape(first, second)
    difference = _difference_that_counts(second, first, noise)
    if difference is not None:
        raise InputError(
            "the reconstruction is random",
            expected="the same image for the same k-space",
            received=f"two calls that differ by {difference:.2g} of the image",
            remedy="Call .eval() on networks (dropout, batch norm) and fix the seeds inside.",
        )


def _check_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise InputError(
            "the reconstruction changes the shape of its image",
            expected=f"{tuple(first.shape)} again for the same k-space, and for other noise in it",
            received=str(tuple(second.shape)),
            remedy="Make it a function of k-space alone, without state between calls or shapes that depend on values.",
        )


class _Differences:
    """Forward, backward and central differences, evaluated as far as they are needed."""

    def __init__(
        self, function: Function, point: Tensor, value: Tensor, tangent: Tensor, steps: Sequence[float]
    ) -> None:
        self._function, self._point, self._value, self._tangent = function, point, value, tangent
        scale = float(point.norm() / tangent.norm().clamp_min(1e-30)) or 1.0
        self._steps = [fraction * scale for fraction in steps]
        self._ahead: dict[float, Tensor] = {}

    @property
    def step(self) -> float:
        """The first step."""
        return self._steps[0]

    @property
    def first(self) -> Tensor:
        """The forward difference of the first step."""
        return (self._at(self.step) - self._value) / self.step

    def know(self, ahead: Tensor) -> None:
        """Take in g(y + h t) of the first step."""
        self._ahead[self.step] = ahead

    def disagreement(self, derivative: Tensor, enough: float) -> float:
        """Of a derivative with the nearest difference of each voxel, over steps until it is ``enough``."""
        nearest, disagreement = torch.full_like(derivative, torch.inf).abs(), float("inf")
        for h in self._steps:
            forward = (self._at(h) - self._value) / h
            for side in (1, -1):
                if side < 0:
                    backward = (self._value - self._at(-h)) / h
                    found = torch.stack([backward, 0.5 * (forward + backward)])
                else:
                    found = forward[None]
                nearest = torch.minimum(nearest, (derivative - found).abs().amin(0))
                disagreement = _relative(derivative + nearest, derivative)
                if disagreement <= enough:
                    return disagreement
        return disagreement

    def _at(self, h: float) -> Tensor:
        """g(y + h t)."""
        if h not in self._ahead:
            with last_words(self._function, self._point), torch.no_grad():
                self._ahead[h] = self._function(self._point + h * self._tangent).clone()
            _check_shape(self._value, self._ahead[h])
        return self._ahead[h]


def _relative(a: Tensor, b: Tensor) -> float:
    size = max(float(b.norm()), 1e-30)
    difference = float((a - b).norm()) / size
    return difference if difference == difference else float("inf")


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a.to(torch.complex128).conj() * b).sum().real)


def _by_precision(table: dict[torch.dtype, Any], value: Tensor) -> Any:
    return table.get(value.real.dtype, table[torch.float32])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    if "TorchScript interpreter" in lines[0]:
        return lines[-1][:160]  # what failed, behind a traceback of its own
    return f"{type(error).__name__}: {lines[0]}"[:160]


def refuse(
    preflight: Preflight, needed: Literal["derivative", "adjoint"], otherwise: str = 'use method="monte_carlo"'
) -> InputError:
    """The error for a method whose derivative the preflight does not trust, with what to do ``otherwise``."""
    why: dict[str, list[str]] = {}
    for check in preflight.checks:
        if not check.passed and check.name in (JVP_MODES if needed == "derivative" else VJP_MODES):
            why.setdefault(check.detail, []).append(check.name)
    expected, given = "a derivative that agrees with finite differences", ""
    # Differences of many iterations in single precision may be more round-off than derivative.
    precision = "give k-space in double precision, " if preflight.point.dtype == torch.complex64 else ""
    if needed == "adjoint":
        expected = "an adjoint with Re⟨J t, w⟩ = Re⟨t, Jᵀ w⟩"
        given = "give a linear function of NumPy arrays its adjoint, BlackBox(function, adjoint), "
    return InputError(
        f"the {needed} of the reconstruction cannot be trusted",
        expected=expected,
        received="; ".join(f"{', '.join(names)}: {detail}" for detail, names in why.items()) or "none",
        remedy="Keep torch operations differentiable from k-space to image (no .detach(), .data, no_grad, "
        f"numpy, in-place activation), iterate to convergence, {given}{precision}or {otherwise}.",
    )
