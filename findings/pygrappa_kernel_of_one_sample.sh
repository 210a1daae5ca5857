#!/usr/bin/env bash
# GRAPPA of pygrappa 0.26.3 with a kernel of one sample along an axis returns k-space without samples along that axis.
#
# The filled k-space is cropped by [half:-half] along each axis, half of the kernel size; half is 0 for a size of 1, and
# [0:-0] is empty. A kernel across lines alone, kernel_size=(3, 1), is a usual one.
#
# Seen with pygrappa 0.26.3, numpy 2.4, Python 3.11. Fails where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pygrappa==0.26.3" numpy scikit-image tqdm
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from pygrappa import grappa

rng = np.random.default_rng(0)
full = rng.standard_normal((21, 12, 3)) + 1j * rng.standard_normal((21, 12, 3))
undersampled = full.copy()
undersampled[1::2] = 0
shapes = {size: grappa(undersampled, full, kernel_size=(3, size)).shape for size in (1, 3)}
print("k-space (21, 12, 3) filled with kernels of", shapes)
assert shapes == {1: (21, 0, 3), 3: (21, 12, 3)}, "the behaviour has changed"
PYTHON
