"""`mrnoise demo`: two maps without any input, and what lies between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrnoise.cli import options

if TYPE_CHECKING:
    from mrnoise.reconstruction import Reconstruction
    from mrnoise.result.noise_map import NoiseMap

SHAPE, COILS, SNR, ACCELERATION, CALIBRATION = (160, 160), 8, 40.0, 2.5, 16
NETWORK = "varnet"


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the comparison, and a folder for each map and report.")
    ] = Path("mrnoise_demo"),
    target_error: Annotated[float, typer.Option(help="Relative error of σ inside the object.")] = 0.05,
    seed: options.Seed = 0,
) -> None:
    """Map the noise of CG-SENSE and of a trained network on one simulated head scan, side by side."""
    from mrnoise.calibration import with_coil_maps
    from mrnoise.checks import check_seed
    from mrnoise.cli.display import ERR, OUT, print_map, print_written
    from mrnoise.cli.output import INTERRUPTED, targets, write
    from mrnoise.estimators import Plan
    from mrnoise.figures.panel import write_comparison_png
    from mrnoise.mapping.run import noise_map
    from mrnoise.networks import pretrained
    from mrnoise.progress import progress_bar
    from mrnoise.reconstruction import CgSense
    from mrnoise.sampling import sampling_mask
    from mrnoise.simulation import simulate

    check_seed(seed)
    Plan(target_error=target_error)
    reconstructions: dict[str, Reconstruction] = {"cg-sense": CgSense(), NETWORK: pretrained(NETWORK)}
    (figure,) = targets([output / "panel.png"], output)
    files = {name: targets([output / name], output) for name in reconstructions}
    OUT.print(
        f"Simulating a head: {SHAPE[0]}×{SHAPE[1]}, {COILS} coils, SNR {SNR:g}, "
        f"R = {ACCELERATION} with {CALIBRATION} calibration lines, seed {seed}",
        highlight=False,
    )
    mask = sampling_mask("equispaced", ACCELERATION, SHAPE, calibration=CALIBRATION)
    acquisition = with_coil_maps(simulate(SHAPE, COILS, snr=SNR, mask=mask, seed=seed))
    maps: dict[str, NoiseMap] = {}
    written: list[Path] = []
    for name, reconstruction in reconstructions.items():
        OUT.print(f"Map {len(maps) + 1} of {len(reconstructions)}: {name}", highlight=False)
        try:
            with progress_bar(name) as progress:
                nm = noise_map(reconstruction, acquisition, target_error=target_error, seed=seed, progress=progress)
        except KeyboardInterrupt:
            if not maps:
                raise
            break
        maps[name] = nm
        write(nm, files[name])
        written.append(output / name)
        print_map(nm, f"Simulated head: {name}")
        if nm.interrupted:
            break
    if len(maps) == len(reconstructions):
        first, second = maps.values()
        write_comparison_png(first, second, ("cg-sense", NETWORK), figure)
        OUT.print(_gain(first, second), highlight=False, soft_wrap=True)
        written.append(figure)
    print_written(written)
    if len(maps) < len(reconstructions) or nm.interrupted:
        ERR.print("interrupted: the folder holds what was known by then", style="yellow")
        raise typer.Exit(INTERRUPTED)


def _gain(first: NoiseMap, second: NoiseMap) -> str:
    """The ratio of SNR inside the object in one line."""
    from mrnoise.foreground import foreground
    from mrnoise.result.ratio import snr_ratio

    ratio = snr_ratio(first, second)[foreground(first.image)]
    ratio = ratio[ratio.isfinite()]
    median, low, high = (float(ratio.quantile(q)) for q in (0.5, 0.05, 0.95))
    lost = 100 * float((ratio < 1).double().mean())
    return (
        f"SNR of {NETWORK} / cg-sense inside the object: median ×{median:.2f}, "
        f"5–95 % ×{low:.2f} to ×{high:.2f}; lower in {lost:.1f} % of the voxels"
    )
