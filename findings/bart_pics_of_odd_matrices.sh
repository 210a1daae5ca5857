#!/usr/bin/env bash
# BART's pics on a grid: the opposite sign where half the matrix is odd, one voxel off where the matrix is odd.
#
# Fully sampled k-space, coil maps of one: the solution is the inverse transform, which `bart fft -i -u` gives for every
# matrix. That of pics is the same for a matrix that is a multiple of 4, the negative of it for 10 voxels along one
# axis, and for 9 shifted by one voxel along that axis: where coil maps vary, the image lies beside them.
#
# Seen with BART 0.8.00. Needs bart and numpy. Fails where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1
cd "$folder"
for n in 12 10 9; do
  bart ones 4 8 $n 1 2 ones
  bart noise -s 1 ones kspace
  bart slice 3 0 kspace one
  bart join 3 one one kspace
  bart fft -i -u 3 one transform
  bart pics -S -l2 -r 0.000001 -i 100 kspace ones "pics$n" >/dev/null
  bart copy transform "transform$n"
done
python3 - <<'PYTHON'
import numpy as np

for n in (12, 10, 9):
    transform, pics = (np.fromfile(f"{name}{n}.cfl", np.complex64).reshape(n, 8) for name in ("transform", "pics"))
    factor = np.vdot(transform, pics) / np.vdot(transform, transform)
    left = np.linalg.norm(pics - factor * transform) / np.linalg.norm(pics)
    ratio = np.fft.fft(pics, axis=0) / np.fft.fft(transform, axis=0)
    shift = -np.angle(ratio[1:] / ratio[:-1]).mean() * n / (2 * np.pi)
    print(f"8 × {n}: pics = {factor.real:+.3f} times the transform, {left:.3f} of it left; shift {abs(shift):.2f} voxels")
    if n == 9:
        assert left > 0.5 and np.isclose(shift, 1, atol=1e-3), "the behaviour has changed"
    else:
        assert left < 1e-3 and np.isclose(factor, 1 if n == 12 else -1, atol=1e-3), "the behaviour has changed"
PYTHON
