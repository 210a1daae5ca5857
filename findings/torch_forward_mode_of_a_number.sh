#!/usr/bin/env bash
# In forward mode torch sends every product and sum with a constant through kernels in Python.
#
# The tangent of a number or of a tensor that does not change is an efficient zero tensor. Its kernels find the shape of
# a result by the meta kernels of the operator, and those of mul, add, sub and div are Python (torch._refs): hundreds of
# Python calls and about a millisecond for each x * 2, x + c or 1 / x under torch.func.jvp, whatever the size of x, four
# times as long as jvp itself takes. Factors that are given as alpha (torch.add, torch.sub), torch.lerp, and functions of
# one tensor (reciprocal, clamp, rsqrt) stay in C++. An iteration of small images written with alpha ran 4 times faster.
#
# Seen with torch 2.13.0 on a CPU. Needs a python3 with torch, such as that of the tests. Fails where that is no longer so.
set -euo pipefail
python3 -W ignore - <<'PYTHON'
import sys
import time

import torch
from torch.func import jvp

x, t = torch.randn(40, 36), torch.randn(40, 36)
ways = {
    "x * 2": lambda x: x * 2,
    "x + 1 tensor": lambda x: x + torch.ones(()),
    "1 / x": lambda x: 1 / x,
    "torch.add(x, x, alpha=2)": lambda x: torch.add(x, x, alpha=2),
    "torch.lerp(x, c, 0.5)": lambda x: torch.lerp(x, torch.ones_like(x), 0.5),
    "x.reciprocal()": lambda x: x.reciprocal(),
}
calls = {}
for name, way in ways.items():
    jvp(way, (x,), (t,))
    count = 0

    def profile(frame, event, argument):
        global count
        count += event == "call" and ("_prims" in frame.f_code.co_filename or "_refs" in frame.f_code.co_filename)

    sys.setprofile(profile)
    jvp(way, (x,), (t,))
    sys.setprofile(None)
    calls[name] = count
    begin = time.perf_counter()
    for _ in range(100):
        jvp(way, (x,), (t,))
    print(f"{name:26s} {count:4d} calls of Python kernels, {(time.perf_counter() - begin) * 1e4:5.0f} µs")
slow, quick = list(calls.values())[:3], list(calls.values())[3:]
assert min(slow) > 20 and max(quick) == 0, "the behaviour has changed"
PYTHON
