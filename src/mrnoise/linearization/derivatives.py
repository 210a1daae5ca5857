"""Ways to push tangents, cotangents and replicas through a function, from fastest to most patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
Batched = Callable[[Function, Tensor, Tensor], Tensor]


@contextmanager
def differentiable() -> Iterator[None]:
    """Fused attention has no forward-mode derivative; the plain implementation has."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


def in_half_precision(function: Function) -> Function:
    """The same function with its convolutions and matrix products of real numbers in bfloat16."""

    def approximate(kspace: Tensor) -> Tensor:
        with torch.autocast(kspace.device.type, torch.bfloat16):
            return function(kspace)

    return approximate


def jvp_vmap(function: Function, point: Tensor, tangents: Tensor) -> Tensor:
    """J t for a batch of tangents; the primal is evaluated once."""

    def jvp(tangent: Tensor) -> Tensor:
        return torch.func.jvp(function, (point,), (tangent,))[1]

    # Forward mode needs no graph; without no_grad the parameters of a network would keep one.
    with differentiable(), torch.no_grad():
        return torch.func.vmap(jvp)(tangents)


def jvp_loop(function: Function, point: Tensor, tangents: Tensor) -> Tensor:
    """J t one tangent at a time."""
    with differentiable(), torch.no_grad():
        return torch.stack([torch.func.jvp(function, (point,), (t,))[1] for t in tangents])


def jvp_double_reverse(function: Function, point: Tensor, tangents: Tensor) -> Tensor:
    """J t as the derivative of w ↦ Jᵀ w; needs reverse mode only."""
    with differentiable(), torch.enable_grad():
        point = point.detach().requires_grad_()
        value = function(point)
        w = torch.zeros_like(value).requires_grad_()
        (pulled,) = torch.autograd.grad(value, point, w, create_graph=True)
        rows = [torch.autograd.grad(pulled, w, t, retain_graph=True)[0] for t in tangents]
    return torch.stack(rows).detach()


def vjp_vmap(function: Function, point: Tensor, cotangents: Tensor) -> Tensor:
    """Jᵀ w for a batch of cotangents, one forward pass for all."""
    with differentiable(), torch.enable_grad():
        point = point.detach().requires_grad_()
        value = function(point)
        total = value.real.sum()

        def pull(w: Tensor) -> Tensor:
            # By a hook: given cotangents, torch loads symbolic shapes, most of a second of a first map
            # (findings/torch_loads_its_compiler_for_a_derivative.sh).
            hook = value.register_hook(lambda _: w)
            (pulled,) = torch.autograd.grad(total, point, retain_graph=True)
            hook.remove()
            return pulled

        return torch.func.vmap(pull)(cotangents).detach()


def vjp_loop(function: Function, point: Tensor, cotangents: Tensor) -> Tensor:
    """Jᵀ w one cotangent at a time."""
    with differentiable(), torch.enable_grad():
        point = point.detach().requires_grad_()
        value = function(point)
        rows = [torch.autograd.grad(value, point, w, retain_graph=True)[0] for w in cotangents]
    return torch.stack(rows).detach()


def evaluate_vmap(function: Function, point: Tensor, offsets: Tensor) -> Tensor:
    """g(y + n) for a batch of n."""
    with torch.no_grad():
        return torch.func.vmap(function)(point + offsets)


def evaluate_loop(function: Function, point: Tensor, offsets: Tensor) -> Tensor:
    """g(y + n) one at a time; a copy, where the function writes each into the same memory."""
    with torch.no_grad():
        return torch.stack([function(point + n).clone() for n in offsets])


def own_jvp(function: Function, point: Tensor, tangents: Tensor) -> Tensor:
    """J t by the function's own ``jvp(point, tangents)``; a linear black box has J t = g(t)."""
    return function.jvp(point, tangents)  # type: ignore[attr-defined]


def own_vjp(function: Function, point: Tensor, cotangents: Tensor) -> Tensor:
    """Jᵀ w by the function's own ``vjp(point, cotangents)``, in the real inner product."""
    return function.vjp(point, cotangents)  # type: ignore[attr-defined]


def jvp_of_linear(function: Function, point: Tensor, tangents: Tensor) -> Tensor:
    """J t = g(t), of a function that is linear; nothing is differentiated."""
    return evaluate_loop(function, torch.zeros_like(point), tangents)


def jvp_of_linear_vmap(function: Function, point: Tensor, tangents: Tensor) -> Tensor:
    """J t = g(t) for a batch of tangents."""
    return evaluate_vmap(function, torch.zeros_like(point), tangents)


OWN_JVP, OWN_VJP, OF_LINEAR, OF_LINEAR_VMAP = "own jvp", "own vjp", "J t = g(t)", "vmap(J t = g(t))"
JVP_MODES: dict[str, Batched] = {
    OWN_JVP: own_jvp,
    "vmap(jvp)": jvp_vmap,
    "looped jvp": jvp_loop,
    "double reverse": jvp_double_reverse,
    OF_LINEAR_VMAP: jvp_of_linear_vmap,
    OF_LINEAR: jvp_of_linear,
}
# The order in which they are tried. Where a function is linear by its own word nothing is differentiated.
JVP_WALK = (OWN_JVP, "vmap(jvp)", "looped jvp", "double reverse", OF_LINEAR)
JVP_WALK_OF_LINEAR = (OWN_JVP, OF_LINEAR_VMAP, OF_LINEAR)

VJP_MODES: dict[str, Batched] = {OWN_VJP: own_vjp, "vmap(vjp)": vjp_vmap, "looped vjp": vjp_loop}
EVALUATION_MODES: dict[str, Batched] = {"vmap": evaluate_vmap, "loop": evaluate_loop}
