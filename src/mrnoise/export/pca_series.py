"""For denoisers by principal components: dwidenoise2 and MP-PCA."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from mrnoise.export.described_files import nifti, write_described
from mrnoise.export.series import Series
from mrnoise.result.noise_map import NoiseMap


def dwidenoise2(noise_map: NoiseMap, folder: str | PathLike[str]) -> list[Path]:
    """Write what dwidenoise2 takes (https://github.com/Lestropie/dwidenoise2): a series and σ for ``-noise_in``.

    Of complex series σ is the total over both channels, ``std``, as its ``-noise_out`` is; of magnitude series that
    of one channel, ``magnitude_std``.

    Parameters
    ----------
    noise_map
        Of a series.
    folder
        For the files.

    Returns
    -------
    list of Path
        ``dwi.nii.gz``, ``noise.nii.gz`` and ``export.json``, which says what they hold.

    Raises
    ------
    InputError
        If there is one volume.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> series = scan.replace(kspace=scan.kspace.expand(5, 4, 16, 12), axes=("frame",))
    >>> nm = noise_map(Sense(), series, method="closed_form")
    >>> [path.name for path in dwidenoise2(nm, "for_dwidenoise2")]
    ['dwi.nii.gz', 'noise.nii.gz', 'export.json']
    """
    series = Series.of(noise_map)
    series.check_volumes("dwidenoise2")
    whole = series.image.reshape(series.grid.volumes_shape)
    sigma = series.std if series.is_complex else series.magnitude_std
    return write_described(
        folder,
        series,
        {
            "dwi.nii.gz": nifti(series, whole, "complex series" if series.is_complex else "magnitude series"),
            "noise.nii.gz": nifti(series, sigma, "std" if series.is_complex else "magnitude_std"),
        },
        {
            "for": "dwidenoise2 of MRtrix3",
            "run": "dwidenoise2 dwi.nii.gz out.nii.gz -noise_in noise.nii.gz -schedule apriori",
            "files": {"dwi.nii.gz": "image units", "noise.nii.gz": "image units, 0 where there is no σ"},
            "sigma": "noise.nii.gz is std, the total over real and imaginary channel, √2 times that of one channel"
            if series.is_complex
            else "noise.nii.gz is magnitude_std, σ of one real channel, above SNR 3 that of |x|",
        },
    )


def mppca(noise_map: NoiseMap, folder: str | PathLike[str]) -> list[Path]:
    """Write a series and σ for MP-PCA: dipy (``localpca(sigma=)``, ``mppca``), MRtrix ``dwidenoise``, DESIGNER.

    ``magnitude.nii.gz`` goes with ``sigma_magnitude.nii.gz``, σ of one real channel (``magnitude_std``), which is what
    tools estimate from magnitudes of high SNR. Complex series have besides ``complex.nii.gz`` and
    ``sigma_complex.nii.gz``, the total over both channels (``std``), which is what ``dwidenoise`` estimates from them.

    Parameters
    ----------
    noise_map
        Of a series.
    folder
        For the files.

    Returns
    -------
    list of Path
        The files, ``export.json`` last, which says what they hold.

    Raises
    ------
    InputError
        If there is one volume.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> scan = simulate((16, 12), 4)
    >>> series = scan.replace(kspace=scan.kspace.expand(5, 4, 16, 12), axes=("frame",))
    >>> nm = noise_map(Sense(), series, method="closed_form")
    >>> [path.name for path in mppca(nm, "for_mppca")][:2]
    ['magnitude.nii.gz', 'sigma_magnitude.nii.gz']
    """
    series = Series.of(noise_map)
    series.check_volumes("MP-PCA")
    files = {
        "magnitude.nii.gz": nifti(series, np.abs(series.image), "magnitude series"),
        "sigma_magnitude.nii.gz": nifti(series, series.magnitude_std, "magnitude_std"),
    }
    sigma = {"sigma_magnitude.nii.gz": "magnitude_std, σ of one real channel, above SNR 3 that of |x|"}
    if series.is_complex:
        files |= {
            "complex.nii.gz": nifti(series, series.image, "complex series"),
            "sigma_complex.nii.gz": nifti(series, series.std, "std"),
        }
        sigma["sigma_complex.nii.gz"] = "std, the total over real and imaginary channel, √2 times that of one channel"
    return write_described(
        folder,
        series,
        files,
        {
            "for": "MP-PCA: dipy localpca and mppca (magnitude), MRtrix3 dwidenoise (complex or magnitude)",
            "files": dict.fromkeys(files, "image units, σ 0 where there is none"),
            "sigma": sigma,
        },
    )
