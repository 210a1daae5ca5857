"""`mrnoise compare`: whether two maps agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    first: Annotated[Path, typer.Argument(help="Map (.h5).", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Reference map (.h5).", show_default=False)],
    mask: Annotated[
        Path | None,
        typer.Option(help="Bool image (.npy, .npz, .nii.gz); the object if left out.", show_default=False),
    ] = None,
) -> None:
    """Error of one σ map against another, beside what sampling alone explains."""
    from rich.table import Table

    from mrnoise.cli.display import OUT
    from mrnoise.foreground import foreground
    from mrnoise.io import read_mask, read_noise_map
    from mrnoise.result.ratio import compare as compare_maps

    a, b = read_noise_map(first), read_noise_map(second)
    inside = read_mask(mask, b.image_grid) if mask is not None else foreground(b.image)
    found = compare_maps(a, b, inside)
    table = Table(title=f"{first.name} against {second.name}", title_justify="left", title_style="bold")
    table.add_column("σ, total complex")
    table.add_column("", justify="right")
    table.add_column("definition")
    table.add_row("masked NRMSE", f"{100 * found.nrmse:.2f} %", "rms difference / mean σ, inside the object")
    table.add_row("sampling floor", f"{100 * found.floor:.2f} %", "√((1+κ²)(1/4S + 1/4N)), from the stated errors")
    table.add_row("NRMSE / floor", f"{found.nrmse / found.floor:.2f}" if found.floor else "—", "1 for agreement")
    table.add_row("paper's NRMSE", f"{100 * found.paper_nrmse:.2f} %", "rms difference / max σ, all pixels")
    table.add_row("correlation", f"{found.correlation:.4f}", "Pearson, all pixels")
    table.add_row("mean ratio", f"{found.ratio:.4f}", "mean σ, first / second, inside the object")
    table.add_row("voxels", str(found.voxels), "inside the object")
    OUT.print(table)
