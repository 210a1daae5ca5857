"""BIDS: maps as a derivative dataset."""

from __future__ import annotations

import re
from importlib.metadata import version
from os import PathLike
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.files.atomic import all_or_nothing, replacing
from mrnoise.files.record import to_json
from mrnoise.io.maps.nifti import write_quantities
from mrnoise.result.noise_map import NoiseMap

BIDS_VERSION = "1.10.0"
NAME = re.compile(r"(sub-[0-9a-zA-Z]+)((?:_ses-[0-9a-zA-Z]+)?)((?:_[a-z]+-[0-9a-zA-Z]+)*)_([0-9a-zA-Z]+)")
# Suffixes of images that a derivative may hold as a map of one volume; there is none for σ, SNR or g.
SUFFIXES = ("T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "PDT2", "angio")
UNITS = {"image units": "arbitrary", "1": "arbitrary"}
CONVENTION = (
    "std is total complex, real plus imaginary part; σ of one real channel is std/√2; "
    "magnitude_std is σ of the magnitude"
)


def bids(noise_map: NoiseMap, dataset: str | PathLike[str], name: str) -> list[Path]:
    """Write maps as a BIDS derivative: ``sub-01/anat/sub-01_desc-std_T1w.nii.gz`` and its JSON file, and so on.

    BIDS has no suffix for σ, SNR or g: each quantity is a ``desc-`` of the image that it belongs to.
    ``dataset_description.json`` is written where there is none.

    Parameters
    ----------
    noise_map
        What is written.
    dataset
        Folder of the derivative.
    name
        That of the image, entities and suffix: ``sub-01_T1w``, ``sub-01_ses-2_acq-r4_T2w``.

    Returns
    -------
    list of Path
        The files, each followed by its JSON file.

    Raises
    ------
    InputError
        If the name is none of an anatomical image.

    Examples
    --------
    >>> from mrnoise import noise_map
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> nm = noise_map(Sense(), simulate((16, 12), 4), method="closed_form")
    >>> [path.name for path in bids(nm, "derivatives", "sub-01_acq-r1_T2w")][2:4]
    ['sub-01_acq-r1_desc-std_T2w.nii.gz', 'sub-01_acq-r1_desc-std_T2w.json']
    """
    found = NAME.fullmatch(name)
    if found is None or found[4] not in SUFFIXES or "_desc-" in name:
        raise InputError(
            "no BIDS name of an image",
            expected=f"sub-LABEL, further entities except desc, and a suffix: {', '.join(SUFFIXES)}",
            received=name,
            remedy="For example sub-01_T1w or sub-01_ses-2_acq-r4_T2w, the name of the image that was mapped.",
        )
    subject, session, entities, suffix = found.groups()
    root = Path(dataset)
    folder = root / subject / session[1:] / "anat"

    def path_of(quantity: str) -> Path:
        first, *others = quantity.split("_")
        label = first + "".join(word.capitalize() for word in others)
        return folder / f"{subject}{session}{entities}_desc-{label}_{suffix}.nii.gz"

    def more(quantity: str, unit: str, definition: str) -> dict[str, object]:
        return {
            "Description": f"{quantity}: {definition}",
            "Units": UNITS.get(unit, unit),
            "SkullStripped": False,
            "NoiseConvention": CONVENTION,
        }

    description = root / "dataset_description.json"
    with all_or_nothing():
        written = write_quantities(noise_map, path_of, ".nii.gz", more)
        if not description.exists():
            record = {
                "Name": "Noise maps",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "mrnoise", "Version": version("mrnoise")}],
            }
            with replacing(description) as (partial,):
                partial.write_text(to_json(record, indent=2) + "\n", encoding="utf-8")
            written.append(description)
    return written
