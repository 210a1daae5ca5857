"""`mrnoise evaluate`: networks against CG-SENSE on held-out scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options


def evaluate(
    weights: Annotated[
        list[Path], typer.Argument(help="Files of mrnoise train, all of one anatomy.", show_default=False)
    ],
    data: options.DataFolder = None,
    accelerations: Annotated[str, typer.Option(help="Of the simulated scans, comma-separated.")] = "4,8,12",
    scan: Annotated[
        Path | None,
        typer.Option(help="Also this fully sampled, measured slice, undersampled fourfold.", show_default=False),
    ] = None,
    group: options.Group = None,
) -> None:
    """PSNR and SSIM on held-out scans, beside zero-filled and CG-SENSE; writes a model card beside each file."""
    from rich.table import Table

    from mrnoise.cli.display import OUT, print_written, scan_progress
    from mrnoise.cli.output import check_writable
    from mrnoise.errors import InputError
    from mrnoise.io import read
    from mrnoise.networks import DeepReconstruction, load_weights
    from mrnoise.training import evaluate as evaluate_networks
    from mrnoise.training import evaluate_scan, write_card

    loaded = {path: load_weights(path) for path in weights}
    check_writable([path.with_suffix(".md") for path in weights])
    anatomies = sorted({header["recipe"]["data"]["file"] for _, header in loaded.values()})
    if len(anatomies) != 1 or not all(part.isdecimal() and int(part) > 1 for part in accelerations.split(",")):
        raise InputError(
            "cannot evaluate these together",
            expected="weights trained on one anatomy, and whole accelerations from 2",
            received=f"{', '.join(anatomies)}; {accelerations}",
            remedy="Evaluate the weights of each anatomy in a run of its own.",
        )
    networks = {header["name"]: DeepReconstruction(network, header["name"]) for network, header in loaded.values()}
    with scan_progress("held-out scans") as progress:
        found = evaluate_networks(networks, anatomies[0], data, [int(r) for r in accelerations.split(",")], progress)
    measured = None if scan is None else (scan.name, evaluate_scan(networks, read(scan, group=group)))
    for name, tables in filter(None, [("held-out scans", found), measured]):
        for acceleration, patterns in tables.items():
            table = Table(title=f"{name}, R = {acceleration}: PSNR (dB)", title_justify="left", title_style="bold")
            table.add_column("")
            for pattern in patterns:
                table.add_column(pattern, justify="right")
            for method in patterns["all"]:
                table.add_row(method, *(f"{quality[method]['psnr']:.2f}" for quality in patterns.values()))
            OUT.print(table)
    words = ["mrnoise evaluate", *(path.name for path in weights), "--data FOLDER" if data else "", "--accelerations"]
    command = " ".join(filter(None, [*words, accelerations, f"--scan {scan.name}" if scan else ""]))
    print_written([write_card(path, found, header["name"], command, measured) for path, (_, header) in loaded.items()])
