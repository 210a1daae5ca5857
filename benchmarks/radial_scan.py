"""Image, σ, SNR and g of a measured radial scan: docs/radial.png.

The file holds ``kspace`` (coil, spoke, sample), spokes evenly over 180°, the centre of k-space in the middle of each.
Ψ is that of the ends of the spokes, where there is noise alone; the central samples are mapped, of every other spoke.

python benchmarks/radial_scan.py ankara4_radial_phantom_sol24.npz [--figure docs/radial.png]
"""

from __future__ import annotations

import argparse
from math import pi
from pathlib import Path

import numpy as np
import torch

import mrnoise
from mrnoise import Acquisition
from mrnoise.calibration import with_coil_maps
from mrnoise.foreground import foreground
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import radial, readout_mask

MATRIX, ENDS, SPACING, REGULARIZATION = 128, 8, 2, 1e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--figure", type=Path, default=Path("docs/radial.png"))
    options = parser.parse_args()
    acquisition = with_coil_maps(scan(options.scan))
    acquisition = acquisition.undersample(readout_mask(acquisition.sampling, spacing=SPACING))
    nm = mrnoise.noise_map(CgSense(REGULARIZATION, tolerance=1e-4), acquisition)
    mrnoise.save(nm, options.figure)
    inside = foreground(nm.image)
    snr, g = (float(values[inside].nanmedian()) for values in (nm.snr, nm.g_factor))
    print(f"{nm.method}, R = {nm.acceleration:.2f}: median SNR {snr:.1f}, g {g:.2f}, {nm.provenance.seconds:.0f} s")


def scan(path: Path) -> Acquisition:
    """The central samples of all spokes."""
    with np.load(path) as file:
        spokes = torch.from_numpy(file["kspace"])
    _, n_spokes, n_samples = spokes.shape
    ends = torch.cat([spokes[..., :ENDS], spokes[..., -ENDS:]], dim=-1).flatten(1)
    angles = torch.arange(n_spokes, dtype=torch.float64) * pi / n_spokes
    first = (n_samples - MATRIX) // 2
    trajectory = radial((MATRIX, MATRIX), n_spokes, MATRIX, angles=angles)
    source = "ends of the spokes"
    covariance = mrnoise.NoiseCovariance(torch.cov(ends), source=source)
    return Acquisition(spokes[..., first : first + MATRIX], covariance, sampling=trajectory, source=path.name)


if __name__ == "__main__":
    main()
