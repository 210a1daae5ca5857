"""Files for denoisers, each in the convention that the tool documents; docs/export.md has the sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mrnoise.checks import check_seed
from mrnoise.errors import InputError
from mrnoise.export.series import Series
from mrnoise.files.atomic import replacing
from mrnoise.files.record import to_json, to_numpy
from mrnoise.io.maps.nifti import nifti_image
from mrnoise.result.noise_map import NoiseMap

# What a MATLAB file of version 5 can hold in one variable.
MATLAB_LIMIT = 2**31
WRITTEN_BESIDE = "export.json"
SCALE = "1: intensities are those of the map"


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

    return _write(
        folder,
        series,
        {
            "KSP.mat": mat,
            "magnitude.nii.gz": _nifti(series, np.abs(volumes), "magnitude, noise volume last"),
            "phase.nii.gz": _nifti(series, np.angle(volumes), "phase in radians, noise volume last"),
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
        },
    )


def snraware(noise_map: NoiseMap, folder: str | PathLike[str]) -> list[Path]:
    """Write what SNRAware takes (https://github.com/microsoft/SNRAware): an image in SNR units and the g-factor.

    ``input.npy``, float32, (slice, channel, time, y, x), or (volume, channel, z, y, x) of 3D scans; channels are the
    real part, the imaginary part and g. The image is x √2 g / std: without acceleration noise has standard deviation
    1 in each real channel (SNR units of Kellman and McVeigh, doi:10.1002/mrm.20713), in an accelerated image g.

    Parameters
    ----------
    noise_map
        Of a complex image, with a g-factor.
    folder
        For the files.

    Returns
    -------
    list of Path
        ``input.npy`` and ``export.json``, which says what it holds.

    Raises
    ------
    InputError
        If the image is not complex, or the map has no g-factor.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4, n_slices=3), method="closed_form")
    >>> np.load(snraware(nm, "for_snraware")[0]).shape
    (3, 3, 1, 16, 12)
    """
    series = Series.of(noise_map)
    series.check_complex("SNRAware")
    if noise_map.g_factor is None:
        raise InputError(
            "SNRAware takes a g-factor map",
            expected="a map with a g-factor",
            received=f"none for {noise_map.provenance.reconstruction or 'this reconstruction'}",
            remedy="Map sense, cg-sense or a network with coil maps; see g_factor in CONVENTIONS.md, C12.",
        )
    grid = series.grid
    g, std = (
        grid.volumes(to_numpy(value)).reshape(-1, *grid.spatial_shape) for value in (noise_map.g_factor, noise_map.std)
    )
    known = np.isfinite(g) & np.isfinite(std) & (std > 0)
    image = np.where(known, series.image * 2**0.5 * np.where(known, g, 1) / np.where(known, std, 1), 0)
    channels = np.stack([image.real, image.imag, np.where(known, g, 1)], 1).astype(np.float32)
    # (volume, channel, z, y, x)
    values = channels if grid.spatial_dims == 3 else channels.transpose(2, 1, 0, 3, 4)
    return _write(
        folder,
        series,
        {"input.npy": lambda path: np.save(path, np.ascontiguousarray(values))},
        {
            "for": "SNRAware: input of the model, [B, C, T/F, H, W]",
            "files": {
                "input.npy": "float32, channels real, imaginary, g-factor; "
                + ("(volume, channel, z, y, x)" if grid.spatial_dims == 3 else "(slice, channel, time, y, x)")
            },
            "scale": "√2 g / std, voxel by voxel",
            "sigma": "noise of each real channel has standard deviation g, total complex √2 g",
            "without_value": "image 0 and g 1",
        },
    )


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
    return _write(
        folder,
        series,
        {
            "dwi.nii.gz": _nifti(series, whole, "complex series" if series.is_complex else "magnitude series"),
            "noise.nii.gz": _nifti(series, sigma, "std" if series.is_complex else "magnitude_std"),
        },
        {
            "for": "dwidenoise2 of MRtrix3",
            "run": "dwidenoise2 dwi.nii.gz out.nii.gz -noise_in noise.nii.gz -schedule apriori",
            "files": {"dwi.nii.gz": "image units", "noise.nii.gz": "image units"},
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
        "magnitude.nii.gz": _nifti(series, np.abs(series.image), "magnitude series"),
        "sigma_magnitude.nii.gz": _nifti(series, series.magnitude_std, "magnitude_std"),
    }
    sigma = {"sigma_magnitude.nii.gz": "magnitude_std, σ of one real channel, above SNR 3 that of |x|"}
    if series.is_complex:
        files |= {
            "complex.nii.gz": _nifti(series, series.image, "complex series"),
            "sigma_complex.nii.gz": _nifti(series, series.std, "std"),
        }
        sigma["sigma_complex.nii.gz"] = "std, the total over real and imaginary channel, √2 times that of one channel"
    return _write(
        folder,
        series,
        files,
        {
            "for": "MP-PCA: dipy localpca and mppca (magnitude), MRtrix3 dwidenoise (complex or magnitude)",
            "files": dict.fromkeys(files, "image units"),
            "sigma": sigma,
        },
    )


def _nifti(series: Series, volumes: np.ndarray, words: str) -> Callable[[Path], None]:
    """Writes volumes (…, z, y, x)."""
    kept = volumes.astype(np.complex64 if np.iscomplexobj(volumes) else np.float32)
    return lambda path: nifti_image(kept, series.grid, words).to_filename(path)


def _write(
    folder: str | PathLike[str],
    series: Series,
    files: Mapping[str, Callable[[Path], None]],
    record: Mapping[str, Any],
) -> list[Path]:
    targets = [Path(folder) / name for name in (*files, WRITTEN_BESIDE)]
    axes = {"volumes": len(series.image), "axes": ["x", "y", "z", *reversed(series.grid.other_axes)]}
    with replacing(*targets) as partial:
        for write, path in zip(files.values(), partial, strict=False):
            write(path)
        text = to_json({"scale": SCALE, **record, **axes, "remarks": series.remarks}, indent=2)
        partial[-1].write_text(text + "\n", encoding="utf-8")
    return targets
