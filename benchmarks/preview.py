"""Previews from few samples against maps from many: the width that is chosen, the error that is true and predicted.

    python benchmarks/preview.py [--seeds 8] [--only WORD ...] [--samples 8 16 30]

Cartesian scans with control variates too, which are fitted from 12 samples on. Truth is the closed form along
trajectories, else that of 1000 samples, its own error removed. "Support": coil maps that end 3 voxels beyond the head.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from scipy import ndimage
from torch import Tensor

import mrnoise
from mrnoise import NoiseMap, networks
from mrnoise.acquisition import Acquisition
from mrnoise.closed_form import cg_sense_std
from mrnoise.estimators import Estimate, NoError, Plan, sketch
from mrnoise.estimators.control_variate import SAMPLES_PER_COEFFICIENT
from mrnoise.estimators.key import Key
from mrnoise.foreground import foreground
from mrnoise.fourier import to_image, to_kspace
from mrnoise.linearization import NoiseToImage, linearize
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.reconstruction.protocol import KspaceToImage, Reconstruction
from mrnoise.sampling import Grid, Trajectory, equispaced, radial, sampling_mask, spiral
from mrnoise.simulation import simulated_head
from mrnoise.surrogate.sense_images import FEATURES, Surrogate, surrogate

# Samples from which on control variates are fitted.
FEWEST_CONTROLLED = 2 * SAMPLES_PER_COEFFICIENT * len(FEATURES)
SHAPE, COILS, SNR, SEED = (64, 56), 6, 40, 1
# Of scans along trajectories and of networks.
LARGE, BRAIN, MANY_COILS, WEIGHT = (96, 96), (80, 64), 8, 1e-2
TRUTH_SAMPLES, MARGIN = 1000, 3

# Reconstruction and scan.
Case = tuple[Reconstruction | KspaceToImage, Acquisition]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=[""], help="cases whose names hold one of these words")
    parser.add_argument("--samples", type=int, nargs="*", default=[8, 16, 30])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| reconstruction | S | control variates | error of σ without | of the preview | predicted | magnitude σ | σ² "
        "| width (voxels) |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, make in CASES.items():
        if not any(word in name for word in options.only):
            continue
        reconstruction, scan = make()
        (operator,) = linearize(reconstruction, scan)
        features = surrogate(scan, foreground(operator.value)) if isinstance(scan.sampling, Grid) else None
        truth, floor, along = true_map(operator, reconstruction, features)
        for n in options.samples:
            for images in (None, features) if features is not None and n >= FEWEST_CONTROLLED else (None,):
                rows = []
                for seed in range(options.seeds):
                    raw = sampled(operator, n, seed, images)
                    rows.append(row(raw, mrnoise.preview(raw), truth, floor, along))
                print(line(name, n, images is not None, torch.tensor(rows, dtype=torch.float64)), flush=True)


def small(kind: str) -> Case:
    """Scans whose noise is white, correlated or uneven."""
    mask = equispaced(SHAPE, 3, 10) if kind == "spacing 3" else equispaced(SHAPE, 2)
    scan = simulated_head(SHAPE, COILS, snr=SNR, mask=mask, seed=SEED).acquire()
    if kind == "spacing 3":
        return CgSense(WEIGHT), scan
    sense = Sense().bind(scan)
    hann = [torch.hann_window(n + 2, periodic=False)[1:-1] for n in SHAPE]
    filtered = hann[0][:, None] * hann[1]
    return (lambda k: to_image(filtered * to_kspace(sense(k)))) if kind == "filter" else sense, scan


def along_trajectory(trajectory: Trajectory, support: bool = False) -> Case:
    """CG-SENSE, of coil maps of the whole field of view or of the head."""
    head = simulated_head(LARGE, MANY_COILS, snr=SNR, trajectory=trajectory, seed=SEED)
    scan = head.acquire()
    if support:
        inside = ndimage.binary_dilation(ndimage.binary_fill_holes(head.foreground), iterations=MARGIN)
        scan = scan.replace(coil_maps=scan.coil_maps * torch.from_numpy(inside))
    return CgSense(WEIGHT), scan


def brain(pattern: str, r: float, reconstruction: Reconstruction) -> Case:
    """Irregular Cartesian sampling."""
    mask = sampling_mask(pattern, r, BRAIN, SEED)
    return reconstruction, simulated_head(BRAIN, MANY_COILS, snr=SNR, mask=mask, seed=SEED).acquire()


RADIAL, SPIRAL = radial(LARGE, 75, 192), spiral(LARGE, 8, 288)
CASES: dict[str, Callable[[], Case]] = {
    "SENSE, R = 2": lambda: small("white"),
    "SENSE, R = 2, Hann filter": lambda: small("filter"),
    "CG-SENSE, spacing 3": lambda: small("spacing 3"),
    "CG-SENSE, Poisson disc, R = 8": lambda: brain("poisson", 8, CgSense(WEIGHT)),
    "CG-SENSE, radial, R = 2": lambda: along_trajectory(RADIAL),
    "CG-SENSE, radial, R = 2, support": lambda: along_trajectory(RADIAL, support=True),
    "CG-SENSE, spiral, R = 4": lambda: along_trajectory(SPIRAL),
    "n2r, random lines, R = 4": lambda: brain("random_1d", 4, networks.pretrained("n2r")),
    "varnet, random lines, R = 4": lambda: brain("random_1d", 4, networks.pretrained("varnet")),
}


def true_map(
    operator: NoiseToImage, reconstruction: Reconstruction | KspaceToImage, features: Surrogate | None
) -> tuple[NoiseMap, Tensor, float]:
    """σ, and the mean squares of the relative errors of its total and of its magnitude."""
    if isinstance(operator.acquisition.sampling, Trajectory):
        assert isinstance(reconstruction, CgSense)
        variance = cg_sense_std(operator.acquisition, reconstruction.regularization).square()
        estimate = Estimate(variance, torch.zeros_like(variance) * 1j, NoError(), "closed_form", 1, 1)
        return NoiseMap(operator.value, estimate), torch.zeros_like(variance), 0.0
    truth = sampled(operator, TRUTH_SAMPLES, 10**6, features)
    relative = (truth.estimate.variance_error / truth.variance / 2).square()
    along, error = truth.estimate.component(operator.phase.to(torch.complex128))
    inside = foreground(operator.value)
    return truth, relative, float((error / along / 2).square()[inside].mean())


def sampled(operator: NoiseToImage, n: int, seed: int, features: Surrogate | None) -> NoiseMap:
    """A map by ``sketch``, without the checks of `noise_map`."""
    return NoiseMap(operator.value, sketch(operator, Plan(n_samples=n), key=Key(seed), features=features))


def line(name: str, n: int, controlled: bool, found: Tensor) -> str:
    """Of the table."""
    without, after, predicted, before_m, after_m = (100 * v for v in found[:, :5].square().mean(0).sqrt())
    kernels = sorted({(w, twice) for w, twice in found[:, 6:].tolist()})
    widths = " ".join(f"{w:g}" + (" (twice)" if twice else "") for w, twice in kernels)
    return (
        f"| {name} | {n} | {'with' if controlled else '–'} | {without:.1f} % | {after:.1f} % "
        f"| {predicted:.1f} ± {100 * found[:, 2].std():.1f} % | {before_m:.1f} → {after_m:.1f} % "
        f"| {found[:, 5].mean():.3f} | {widths} |"
    )


def row(raw: NoiseMap, smooth: NoiseMap, truth: NoiseMap, floor: Tensor, floor_along: float) -> list[float]:
    """Errors of σ and of magnitude σ before and after, what was predicted, the ratio of σ², the kernel."""
    inside = foreground(raw.image)

    def error(nm: NoiseMap, name: str, least: float) -> float:
        squared = (nm.quantity(name) / truth.quantity(name) - 1)[inside].square().mean() - least
        return max(float(squared), 0.0) ** 0.5

    total, along = float(floor[inside].mean()), floor_along
    record = smooth.provenance.preview
    return [
        error(raw, "std", total),
        error(smooth, "std", total),
        record["predicted_error"],
        error(raw, "magnitude_std", along),
        error(smooth, "magnitude_std", along),
        float((smooth.variance / truth.variance)[inside].mean()),
        record["width_voxels"],
        record["twice"],
    ]


if __name__ == "__main__":
    main()
