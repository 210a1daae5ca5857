"""`mrnoise demo`: a map without any input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options

SHAPE, COILS, SNR, ACCELERATION, CALIBRATION = (256, 256), 12, 60.0, 3, 24


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the map, figure and report.")] = Path(
        "mrnoise_demo"
    ),
    target_error: Annotated[float, typer.Option(help="Relative error of σ inside the object.")] = 0.05,
    seed: options.Seed = 0,
) -> None:
    """Map the noise of a simulated head scan: 12 coils, threefold acceleration, CG-SENSE."""
    from mrnoise.acquisition import with_coil_maps
    from mrnoise.acquisition.sampling import equispaced
    from mrnoise.cli.display import OUT, map_progress, print_map, print_written
    from mrnoise.cli.output import targets, write
    from mrnoise.mapping import noise_map
    from mrnoise.reconstruction import CgSense
    from mrnoise.simulation import simulate

    files = targets([output], output)
    OUT.print(
        f"Simulating a head: {SHAPE[0]}×{SHAPE[1]}, {COILS} coils, SNR {SNR:g}, "
        f"R = {ACCELERATION} with {CALIBRATION} calibration lines, seed {seed}",
        highlight=False,
    )
    mask = equispaced(SHAPE, ACCELERATION, calibration=CALIBRATION)
    scan = simulate(SHAPE, COILS, snr=SNR, mask=mask, seed=seed)
    acquisition = with_coil_maps(scan)
    with map_progress("cg-sense") as progress:
        nm = noise_map(CgSense(), acquisition, target_error=target_error, seed=seed, progress=progress)
    written = write(nm, files)
    print_map(nm, "Simulated head: cg-sense")
    print_written(written)
