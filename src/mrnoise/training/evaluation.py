"""How good networks are on held-out scans, beside zero-filled and CG-SENSE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from mrnoise.acquisition import Acquisition
from mrnoise.calibration import with_coil_maps
from mrnoise.errors import InputError
from mrnoise.linearization import image_of
from mrnoise.metrics import psnr, ssim
from mrnoise.reconstruction import CgSense, Reconstruction, ZeroFilled
from mrnoise.sampling import sampling_mask
from mrnoise.training.anatomy import Anatomy, read_anatomy
from mrnoise.training.scans import Example, ScanSettings, SimulatedScans, calibration_scan

# Tikhonov weights of which CG-SENSE takes the best for each scan, knowing the truth: the strongest baseline.
REGULARIZATIONS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
MATRIX, COILS, SNR, SEED = (176, 160), 12, 30.0, 2026
PATTERNS = ("equispaced", "random_1d", "random_2d", "poisson")
N_SLICES = 4

Quality = dict[str, dict[str, float]]
"""Per method: mean ``psnr`` in dB and ``ssim``, and ``gain``, the mean PSNR above CG-SENSE."""


def held_out(anatomy: Anatomy, acceleration: int, pattern: str) -> Iterator[Example]:
    """Scans of four slices spread over the test block: 176×160, 12 coils, SNR 30, maps by ESPIRiT.

    Parameters
    ----------
    anatomy
        Of its test block.
    acceleration, pattern
        How the scans are undersampled.

    Returns
    -------
    iterator of Example
        Four, made one by one.

    Examples
    --------
    >>> from mrnoise.simulation import head_phantom
    >>> anatomy = Anatomy("head phantom", head_phantom((30, 64, 48))[:, None], gap=1)
    >>> example = next(held_out(anatomy, acceleration=4, pattern="poisson"))
    >>> tuple(example.acquisition.kspace.shape), round(example.snr, 1)
    ((12, 176, 160), 30.0)
    """
    settings = ScanSettings((MATRIX,), (COILS, COILS), (acceleration,), (pattern,), (SNR, SNR), False, True)
    scans = SimulatedScans(anatomy, "test", settings, SEED)
    for index in np.linspace(0, len(scans) - 1, N_SLICES).round().astype(int):
        yield scans.example(int(index))


def evaluate(
    networks: Mapping[str, Reconstruction],
    file: str,
    data: Path | None,
    accelerations: Sequence[int] = (4, 8, 12),
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, dict[str, Quality]]:
    """PSNR and SSIM of the magnitude image inside held-out scans.

    Parameters
    ----------
    networks
        By name.
    file, data
        Anatomy and its folder; without a folder, the generated phantom.
    accelerations
        Each with every pattern of this module.
    progress
        Called with the scans done and to do.

    Returns
    -------
    dict
        [acceleration][pattern][method], the methods being zero-filled, cg-sense and the networks; under the
        pattern ``"all"`` their mean.
    """
    anatomy = read_anatomy(None if data is None else data / file)

    def scans(acceleration: int, pattern: str) -> Iterator[tuple[Acquisition, Tensor]]:
        for example in held_out(anatomy, acceleration, pattern):
            yield example.acquisition, example.target

    return _table(networks, scans, accelerations, N_SLICES, progress)


def evaluate_scan(
    networks: Mapping[str, Reconstruction], acquisition: Acquisition, accelerations: Sequence[int] = (4,)
) -> dict[int, dict[str, Quality]]:
    """PSNR and SSIM on a measured scan, undersampled; the reference is its fully sampled SENSE image, with its noise.

    All methods have the same calibration, as in `held_out`: the centre of the scan.

    Parameters
    ----------
    networks
        By name.
    acquisition
        One fully sampled slice.
    accelerations
        Each with every pattern of this module.

    Returns
    -------
    dict
        As `evaluate`.

    Raises
    ------
    InputError
        If the scan is not one fully sampled slice.

    Examples
    --------
    >>> from mrnoise.simulation import simulate
    >>> found = evaluate_scan({"weak": CgSense(1e-3)}, simulate((48, 40), 4), accelerations=(2,))
    >>> list(found[2]), sorted(found[2]["all"])
    (['equispaced', 'random_1d', 'random_2d', 'poisson', 'all'], ['cg-sense', 'weak', 'zero-filled'])
    >>> found[2]["all"]["cg-sense"]["psnr"] > found[2]["all"]["weak"]["psnr"]
    True
    """
    if acquisition.batch_shape or acquisition.spatial_dims != 2 or not bool(acquisition.mask.all()):
        raise InputError(
            "the scan cannot serve as a reference",
            expected="one fully sampled slice, (coil, k1, k0)",
            received=f"k-space {tuple(acquisition.kspace.shape)}, R = {acquisition.acceleration:.2f}",
            remedy="Choose a slice with --slice, or another scan.",
        )
    reference = image_of(ZeroFilled(), with_coil_maps(acquisition))
    shape = (acquisition.spatial_shape[0], acquisition.spatial_shape[1])
    calibrated = with_coil_maps(acquisition.replace(calibration=calibration_scan(acquisition.kspace)))

    def scans(acceleration: int, pattern: str) -> Iterator[tuple[Acquisition, Tensor]]:
        yield calibrated.undersample(sampling_mask(pattern, acceleration, shape, SEED)), reference

    return _table(networks, scans, accelerations, 1, None)


def _table(
    networks: Mapping[str, Reconstruction],
    scans: Callable[[int, str], Iterator[tuple[Acquisition, Tensor]]],
    accelerations: Sequence[int],
    n_scans: int,
    progress: Callable[[int, int], None] | None,
) -> dict[int, dict[str, Quality]]:
    """Mean quality over the ``n_scans`` scans of each acceleration and pattern, given with their references."""
    total, done = len(accelerations) * len(PATTERNS) * n_scans, 0
    table: dict[int, dict[str, Quality]] = {}
    for acceleration in accelerations:
        rows: dict[str, list[dict[str, tuple[float, float]]]] = {pattern: [] for pattern in PATTERNS}
        for pattern in PATTERNS:
            for scan, reference in scans(acceleration, pattern):
                rows[pattern].append(compare(networks, scan, reference))
                done += 1
                if progress is not None:
                    progress(done, total)
        rows["all"] = [row for pattern in PATTERNS for row in rows[pattern]]
        table[acceleration] = {pattern: _means(found) for pattern, found in rows.items()}
    return table


def compare(
    networks: Mapping[str, Reconstruction], acquisition: Acquisition, reference: Tensor
) -> dict[str, tuple[float, float]]:
    """(PSNR, SSIM) of zero-filled, of CG-SENSE with the best λ, and of the networks on one scan."""
    candidates = (image_of(CgSense(weight, tolerance=1e-4), acquisition) for weight in REGULARIZATIONS)
    images = {
        "zero-filled": image_of(ZeroFilled(), acquisition),
        "cg-sense": max(candidates, key=lambda image: psnr(image, reference)),
        **{name: image_of(network, acquisition) for name, network in networks.items()},
    }
    return {name: (psnr(image, reference), ssim(image, reference)) for name, image in images.items()}


def _means(rows: list[dict[str, tuple[float, float]]]) -> Quality:
    found: Quality = {}
    for method in rows[0]:
        values = np.array([row[method] for row in rows])
        baseline = np.array([row["cg-sense"] for row in rows])
        gain = float((values - baseline)[:, 0].mean())
        found[method] = {"psnr": float(values[:, 0].mean()), "ssim": float(values[:, 1].mean()), "gain": gain}
    return found
