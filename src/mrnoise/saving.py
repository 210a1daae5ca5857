"""Write a noise map; the suffix chooses the format."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.result.noise_map import NoiseMap

SUFFIXES = (".nii", ".nii.gz", ".h5", ".png", ".html")


def save(noise_map: NoiseMap, path: str | PathLike[str]) -> list[Path]:
    """Write ``noise_map`` and return the files that were written.

    ``.nii`` and ``.nii.gz`` give one file a quantity, ``out_std.nii.gz``, … with a JSON file beside each;
    ``.h5`` holds everything and is read back by `read_noise_map`; ``.png`` is a figure; ``.html`` a report
    that opens without a network. The files appear only when all of them are complete.

    Parameters
    ----------
    noise_map
        What is saved.
    path
        Its suffix says the format; the stem is that of every file.

    Returns
    -------
    list of Path
        The files, the main one first.

    Raises
    ------
    InputError
        If the suffix is unknown or the path cannot be written.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4), n_samples=16)
    >>> [path.name for path in save(nm, "head.h5")]
    ['head.h5']
    >>> [path.name for path in save(nm, "head.nii.gz")][:3]
    ['head_image.nii.gz', 'head_image.json', 'head_std.nii.gz']
    """
    target = Path(path)
    check_format(target)
    name = target.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from mrnoise.io.maps.nifti import write_nifti

        return write_nifti(noise_map, target)
    if name.endswith(".h5"):
        from mrnoise.io.maps.hdf5 import write_hdf5

        write_hdf5(noise_map, target)
    elif name.endswith(".png"):
        from mrnoise.figures.panel import write_png

        write_png(noise_map, target)
    else:
        from mrnoise.report import write_html

        write_html(noise_map, target)
    return [target]


def check_format(path: Path) -> None:
    """Raise if the suffix is none that `save` writes."""
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(
            "unknown output format",
            expected=f"a path that ends in {', '.join(SUFFIXES)}",
            received=str(path),
            remedy="Choose .h5 to keep everything, .nii.gz for other programs, .html to look at it; "
            "for DICOM, BIDS and denoisers mrnoise export.",
        )
