"""For NORDIC and NIFTI_NORDIC."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from mrnoise.checks import check_seed
from mrnoise.errors import InputError
from mrnoise.export.described_files import nifti, write_described
from mrnoise.export.series import Series
from mrnoise.result.noise_map import NoiseMap

# What a MATLAB file of version 5 can hold in one variable.
MATLAB_LIMIT = 2**31


def nordic(noise_map: NoiseMap, folder: str | PathLike[str], *, seed: int = 0) -> list[Path]:
    """Write what NORDIC and NIFTI_NORDIC take (https://github.com/SteenMoeller/NORDIC_Raw).

    ``KSP.mat`` has KSP, complex, (x, y, z, volumes, then a noise volume, then the g-factor map), as NORDIC.m wants it.
    Its g-factor map is std/√2, σ of one real channel: divided by it noise is white, standard deviation 1 in each
    channel. The noise volume is drawn from σ, voxel by voxel; NORDIC takes no more from it than its standard
    deviation. ``magnitude.nii.gz`` and ``phase.nii.gz`` (radians) have the same volumes, that of noise last, for
    NIFTI_NORDIC with ``noise_volume_last = 1``.

    Parameters
    ----------
    noise_map
        Of a complex series.
    folder
        For the files.
    seed
        Of the noise volume.

    Returns
    -------
    list of Path
        The files, ``export.json`` last, which says what they hold.

    Raises
    ------
    InputError
        If the image is not complex, has one volume, or is larger than a MATLAB file may be.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> series = scan.replace(kspace=scan.kspace.expand(5, 4, 16, 12), axes=("frame",))
    >>> nm = noise_map(Sense(), series, method="closed_form")
    >>> [path.name for path in nordic(nm, "for_nordic")]
    ['KSP.mat', 'magnitude.nii.gz', 'phase.nii.gz', 'export.json']
    """
    check_seed(seed)
    series = Series.of(noise_map)
    series.check_complex("NORDIC")
    series.check_volumes("NORDIC")
    channel = series.std / 2**0.5
    # Where no σ is known both are set to unit noise: NORDIC takes the noise level from all voxels.
    g = np.where(channel > 0, channel, 1.0)
    real, imaginary = np.random.default_rng(seed).standard_normal((2, *g.shape))
    noise = g * (real + 1j * imaginary)
    volumes = np.concatenate([series.image, noise[None]]).astype(np.complex64)
    ksp = np.concatenate([volumes, g[None]]).astype(np.complex64).T
    if ksp.nbytes >= MATLAB_LIMIT:
        raise InputError(
            "the series is too large for a MATLAB file of version 5",
            expected=f"less than {MATLAB_LIMIT / 2**30:g} GiB",
            received=f"{ksp.nbytes / 2**30:.1f} GiB, shape {ksp.shape}",
            remedy="Map fewer frames at a time.",
        )

    def mat(path: Path) -> None:
        from scipy.io import savemat

        savemat(path, {"KSP": ksp, "KSP_processed": np.zeros((1, ksp.shape[2]))}, do_compression=True)

    return write_described(
        folder,
        series,
        {
            "KSP.mat": mat,
            "magnitude.nii.gz": nifti(series, np.abs(volumes), "magnitude, noise volume last"),
            "phase.nii.gz": nifti(series, np.angle(volumes), "phase in radians, noise volume last"),
        },
        {
            "for": "NORDIC_Raw: NORDIC.m (KSP.mat), NIFTI_NORDIC.m (magnitude and phase)",
            "run": "NORDIC('KSP.mat'); or ARG.noise_volume_last = 1; "
            "NIFTI_NORDIC('magnitude.nii.gz', 'phase.nii.gz', 'out', ARG)",
            "files": {
                "KSP.mat": "KSP complex, image units, (x, y, z, t): volumes, noise volume, g-factor map; "
                "KSP_processed zeros",
                "magnitude.nii.gz": "image units, noise volume last",
                "phase.nii.gz": "radians, noise volume last",
            },
            "sigma": "the g-factor map of KSP is std/√2, σ of one real channel in image units: KSP divided by it "
            "has noise of standard deviation 1 in each real channel; it is not the g-factor of mrnoise",
            "noise_volume": f"drawn from σ with seed {seed}, uncorrelated between voxels",
            "without_value": "image 0, g-factor map 1, noise of standard deviation 1 in each real channel",
        },
    )
