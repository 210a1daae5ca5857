#!/usr/bin/env bash
# The first derivative of a process loads the compiler of torch, though nothing is compiled.
#
# torch.func.vjp imports torch._dynamo on its first call, and so does torch.func.jvp of a product with a number, though
# not of one of tensors: two seconds of a core. torch.autograd.grad with cotangents imports sympy for symbolic shapes,
# less than one, to compare theirs. A gradient of a scalar loads neither: a hook on the output that puts the cotangent in
# place of the gradient of its sum gives the same vector-Jacobian product, batched by vmap too. A command line that takes
# one derivative pays nearly as much for these modules as for importing torch.
#
# Seen with torch 2.13.0 on a CPU. Needs a python3 with torch, such as that of the tests. Fails where that is no longer so.
set -euo pipefail
python3 -W ignore - <<'PYTHON'
import subprocess
import sys

START = """
import sys, time
import torch
def f(x):
    return x * x.abs()
def twice(x):
    return f(x) * 2 / 2
x, w = torch.linspace(1, 2, 12), torch.ones(3, 12)
def hooked(w):
    hook = y.register_hook(lambda _: w)
    (pulled,) = torch.autograd.grad(y.sum(), z, retain_graph=True)
    hook.remove()
    return pulled
z = x.clone().requires_grad_()
y = f(z)
begin = time.process_time()
"""
END = """
loaded = [name for name in ("torch._dynamo", "sympy") if name in sys.modules]
print(f"{time.process_time() - begin:5.2f} s", *loaded)
assert torch.allclose(found, 2 * x * torch.ones_like(found))
"""
WAYS = {
    "torch.func.jvp of products": ("found = torch.func.jvp(f, (x,), (w[0],))[1]", []),
    "torch.func.jvp with a number": ("found = torch.func.jvp(twice, (x,), (w[0],))[1]", ["torch._dynamo", "sympy"]),
    "torch.func.vjp": ("found = torch.func.vjp(f, x)[1](w[0])[0]", ["torch._dynamo", "sympy"]),
    "torch.autograd.grad with cotangents": ("found = torch.autograd.grad(y, z, w[0])[0]", ["sympy"]),
    "torch.autograd.grad of the sum": ("found = torch.autograd.grad(y.sum(), z)[0]", []),
    "a hook under torch.func.vmap": ("found = torch.func.vmap(hooked)(w)", []),
}
for name, (way, expected) in WAYS.items():
    done = subprocess.run([sys.executable, "-c", START + way + END], capture_output=True, text=True, check=True)
    seconds, _, *loaded = done.stdout.split()
    print(f"{name:36s} {seconds} s, loads {', '.join(loaded) or 'neither'}")
    assert loaded == expected, "the behaviour has changed"
PYTHON
