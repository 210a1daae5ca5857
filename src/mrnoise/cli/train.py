"""`mrnoise train`: a network from a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe of mrnoise, or a YAML file.", show_default=False)],
    data: options.DataFolder = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for checkpoint and weights.  [default: training/NAME]"),
    ] = None,
    size: Annotated[str, typer.Option(help="Size of the recipe: cpu trains on 2 cores within an hour.")] = "cpu",
    device: options.Device = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that simulate scans ahead; for a GPU.")] = 0,
) -> None:
    """Train a reconstruction network on simulated scans.

    The folder keeps a checkpoint: the same command goes on where it was stopped, by Ctrl-C or otherwise.
    """
    from mrnoise.cli.display import ERR, OUT, print_written, training_progress
    from mrnoise.cli.output import INTERRUPTED
    from mrnoise.training import read_recipe, save_trained
    from mrnoise.training import train as train_network

    chosen = read_recipe(recipe, size)
    folder = output or Path("training") / chosen.name
    with training_progress(chosen.name) as progress:
        trained = train_network(chosen, data, folder, device=device, workers=workers, progress=progress)
    if trained.steps < chosen.optimization.steps:
        ERR.print(f"interrupted at step {trained.steps}; the same command goes on from there", style="yellow")
        raise typer.Exit(INTERRUPTED)
    path = folder / f"{chosen.name}.safetensors"
    save_trained(trained, chosen, path, device)
    last = trained.history[-1]
    OUT.print(
        f"{chosen.name}: {trained.steps} steps in {trained.seconds / 60:.1f} min, "
        f"validation PSNR {last['psnr']:.2f} dB, SSIM {last['ssim']:.3f}",
        highlight=False,
    )
    print_written([path])
    if sys.stdout.isatty():
        OUT.print(f"mrnoise evaluate {path} compares it with CG-SENSE on held-out scans", highlight=False)
