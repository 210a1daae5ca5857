#!/usr/bin/env bash
# Two images of the same samples by SigPy's TotalVariationRecon or L1WaveletRecon differ.
#
# Their step comes from the largest eigenvalue, by a power iteration that starts from NumPy's global random state. The
# same k-space gives images that differ, by more the fewer the iterations of either; numpy.random.seed before each
# makes them equal. SenseRecon, which needs no step, repeats itself.
#
# Seen with sigpy 0.1.27, numpy 1.26.4, Python 3.11. Fails where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "sigpy==0.1.27" "numpy==1.26.4"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from sigpy.mri.app import SenseRecon, TotalVariationRecon

# A box, four coils around it, every other line.
y, x = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 40), indexing="ij")
box = ((abs(y) < 0.7) & (abs(x) < 0.6)).astype(complex)
maps = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2)) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]).astype(complex)
kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(maps * box, (1, 2)), norm="ortho"), (1, 2))
kspace[:, ::2] = 0


def difference(app, seeded):
    images = []
    for _ in range(2):
        if seeded:
            np.random.seed(0)
        images.append(app(kspace, maps, lamda=0.01, max_iter=50, show_pbar=False).run())
    return np.linalg.norm(images[0] - images[1]) / np.linalg.norm(images[0])


tv, tv_seeded = difference(TotalVariationRecon, False), difference(TotalVariationRecon, True)
sense = difference(SenseRecon, False)
print(f"TotalVariationRecon twice: {tv:.1e}, seeded before each: {tv_seeded:.1e}; SenseRecon twice: {sense:.1e}")
assert tv > 1e-4 and tv_seeded == 0 and sense == 0, "the behaviour has changed"
PYTHON
