"""For SNRAware."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from mrnoise.errors import InputError
from mrnoise.export.described_files import write_described
from mrnoise.export.series import Series
from mrnoise.files.record import to_numpy
from mrnoise.result.noise_map import NoiseMap


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
    return write_described(
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
