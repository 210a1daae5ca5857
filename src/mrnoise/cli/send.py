"""`mrnoise send`: replay a scan to a server of the MRD streaming protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options
from mrnoise.errors import InputError


def send(
    scan: Annotated[Path, typer.Argument(help="MRD (ISMRMRD HDF5) file.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="HOST:PORT of the server.")] = "127.0.0.1:9002",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for the images.  [default: a folder beside SCAN]", show_default=False
        ),
    ] = None,
    group: options.Group = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of a parameter of the server. May be repeated.", show_default=False),
    ] = None,
) -> None:
    """Send a scan line by line, as a scanner does, and write what comes back: a NIfTI file for each series."""
    from mrnoise.cli.display import ERR, OUT, print_written
    from mrnoise.files.atomic import check_writable
    from mrnoise.io.scans.mrd_stream import stored_lines
    from mrnoise.serving.client import send as exchange
    from mrnoise.serving.client import write_series

    host, _, port = to.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(
            "cannot read the address of the server",
            expected="HOST:PORT",
            received=f"--to {to}",
            remedy="For example: --to 127.0.0.1:9002",
        )
    chosen = {name: value for name, _, value in (one.partition("=") for one in parameter or [])}
    if not all(chosen) or any("=" not in one for one in parameter or []):
        raise InputError(
            "cannot read a parameter",
            expected="NAME=VALUE",
            received=", ".join(f"--set {one}" for one in parameter or []),
            remedy="For example: --set method=sketch",
        )
    folder = output or scan.parent / f"{scan.name.split('.')[0]}_sent"
    check_writable(folder / "image.nii.gz")
    header, lines = stored_lines(scan, group)
    config = json.dumps({"parameters": chosen}) if chosen else ""
    faults = 0

    def say(text: str) -> None:
        nonlocal faults
        faults += text.startswith("ERR")
        ERR.print(text, style="yellow", soft_wrap=True)

    images = exchange(header, lines, host, int(port), config=config, say=say)
    written = write_series(images, folder)
    print_written(written)
    if older := sorted({path.name for path in folder.glob("*.nii.gz")} - {path.name for path in written}):
        OUT.print(f"of before, not of this scan, in {folder}: {', '.join(older)}", highlight=False, soft_wrap=True)
    if not images:
        OUT.print("no image came back")
    if faults or not images:
        raise typer.Exit(1)
