#!/usr/bin/env bash
# MIRTorch's conjugate gradients return zero for data in small units.
#
# CG stops at a squared residual of 0.01, absolute, unless it is given rtol or atol. Data of norm 0.05 are below it from
# the start: the result is the initial zero. The same data times 1000 give the solution. With rtol both do.
#
# Seen with mirtorch 0.4.0, torch 2.13.0. Needs a python3 with torch, scipy, finufft and PyWavelets, such as that of the
# tests. Fails where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-deps --target "$folder" "mirtorch==0.4.0" "torchkbnufft==1.5.1"
PYTHONPATH=$folder python3 -W ignore - <<'PYTHON'
import torch
from mirtorch.alg import CG
from mirtorch.linear import Diag

eigenvalues = torch.linspace(1, 3, 20)
b = torch.ones(20)


def error(scale, **stop):
    """Of the solution of diag(eigenvalues) x = b, b of this norm, relative."""
    right = b / b.norm() * scale
    x = CG(Diag(eigenvalues), max_iter=50, **stop).run(torch.zeros(20), right)
    return float((x - right / eigenvalues).norm() / (right / eigenvalues).norm())


small, large, relative = error(0.05), error(50.0), error(0.05, rtol=1e-6)
print(f"relative error for data of norm 0.05: {small:.3f}, of norm 50: {large:.1e}, of norm 0.05 with rtol: {relative:.1e}")
assert small == 1 and large < 1e-2 and relative < 1e-4, "the behaviour has changed"
PYTHON
