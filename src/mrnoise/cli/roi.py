"""`mrnoise roi`: the exact error bar of a region."""

from __future__ import annotations

from typing import Annotated

import typer

from mrnoise.cli import options


def roi(
    scan: options.ScanFile,
    region: Annotated[
        str,
        typer.Option(help="circle:Y,X,RADIUS or box:Y0,X0,Y1,X1 in voxels, or a mask file.", show_default=False),
    ],
    background: Annotated[
        str | None, typer.Option(help="Second region: its mean is subtracted.", show_default=False)
    ] = None,
    noise: options.NoiseFile = None,
    reconstruction: options.ReconstructionName = "cg-sense",
    weights: options.Weights = "brain",
    normalization: options.Normalization = "propagated",
    regularization: options.Regularization = 1e-3,
    coil_maps: options.CoilMaps = "fixed",
    acceleration: options.Acceleration = None,
    pattern: options.Pattern = "equispaced",
    calibration: options.Calibration = 24,
    slice_index: options.Slice = None,
    seed: options.Seed = 0,
) -> None:
    """Mean magnitude of a region with its standard deviation: exact, correlations included, one backward pass."""
    from rich.table import Table

    from mrnoise.cli.display import OUT
    from mrnoise.cli.region import region as read_region
    from mrnoise.cli.scan import load_reconstruction, load_scan
    from mrnoise.linearization import image_of
    from mrnoise.measurement import roi_std

    acquisition = load_scan(
        scan,
        noise,
        slice_index=slice_index,
        acceleration=acceleration,
        pattern=pattern,
        calibration=calibration,
        coil_maps=coil_maps,
        seed=seed,
    )
    method = load_reconstruction(reconstruction, regularization, weights, normalization)
    image = image_of(method, acquisition).abs().double()
    inside = read_region(region, tuple(image.shape))
    region_weights = inside.double() / inside.sum()
    voxels = str(int(inside.sum()))
    if background is not None:
        outside = read_region(background, tuple(image.shape))
        region_weights = region_weights - outside.double() / outside.sum()
        voxels += f" - {int(outside.sum())}"
    value = float((region_weights * image).sum())
    sigma = roi_std(method, acquisition, region_weights)
    table = Table(title=f"{scan.name}: {reconstruction}", title_justify="left", title_style="bold")
    table.add_column("difference of means" if background else "mean of |x|")
    table.add_column("", justify="right")
    table.add_row("value", f"{value:.6g}")
    table.add_row("standard deviation", f"{sigma:.4g}")
    table.add_row("95 % interval", f"{value - 1.96 * sigma:.6g} to {value + 1.96 * sigma:.6g}")
    table.add_row("value / standard deviation", f"{value / sigma:.4g}")
    table.add_row("voxels", voxels)
    OUT.print(table)
    OUT.print(f"Ψ: {acquisition.noise_covariance.source}", highlight=False, soft_wrap=True)
