"""`mrnoise export`: a map in the convention of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.errors import InputError

DENOISERS = ("nordic", "snraware", "dwidenoise2", "mppca")
IMAGES = ("dicom", "dicom-mr")
# Which target takes which option.
TAKES = {"bids": ("--name",), **dict.fromkeys(IMAGES, ("--reference", "--anonymous"))}


def export(
    map_file: Annotated[Path, typer.Argument(metavar="MAP", help="Map (.h5).", show_default=False)],
    target: Annotated[
        str, typer.Option("--for", help=f"{', '.join((*DENOISERS, 'bids', *IMAGES))}.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option(help="For bids: entities and suffix of the image, such as sub-01_T1w.", show_default=False),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="For dicom: DICOM image of the same study, or the MRD file of the scan.", show_default=False),
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="For dicom: without patient, in a new study.")] = False,
) -> None:
    """A map and its image as files for denoisers, as a BIDS derivative or as DICOM.

    What each gets, which σ and which √2, is in docs/export.md and in export.json beside the files.
    """
    from mrnoise import export as write
    from mrnoise.cli.display import print_written
    from mrnoise.io import read_noise_map

    _check(target, {"--name": name is not None, "--reference": reference is not None, "--anonymous": anonymous})
    nm = read_noise_map(map_file)
    if target == "bids":
        written = write.bids(nm, output, name or "")
    elif target in IMAGES:
        images = write.dicom if target == "dicom" else write.dicom_mr
        written = images(nm, output, reference=reference, anonymous=anonymous)
    else:
        written = getattr(write, target)(nm, output)
    print_written(written)


def _check(target: str, given: dict[str, bool]) -> None:
    known = (*DENOISERS, "bids", *IMAGES)
    if target not in known:
        raise InputError(
            "unknown program to export for",
            expected=f"--for {', '.join(known)}",
            received=target,
            remedy="mrnoise map -o writes .nii.gz, .h5, .png and .html.",
        )
    takes = TAKES.get(target, ())
    unused = [option for option, there in given.items() if there and option not in takes]
    if unused:
        raise InputError(
            "an option that the target does not take",
            expected=f"{', '.join(takes) or 'none of --name, --reference, --anonymous'} for {target}",
            received=", ".join(unused),
            remedy="Leave it out: --name is for bids, --reference and --anonymous are for dicom and dicom-mr.",
        )
