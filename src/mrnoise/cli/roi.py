"""`mrnoise roi`: what is measured in a region and at a voxel, with its error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options


def roi(
    scan: options.ScanFile,
    region: Annotated[
        str | None,
        typer.Option(help="circle:Y,X,RADIUS or box:Y0,X0,Y1,X1 in voxels, or a mask file.", show_default=False),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(help="Second region: difference of means and contrast-to-noise.", show_default=False),
    ] = None,
    noise_power: Annotated[
        bool, typer.Option("--noise-power", help="Noise power spectrum and autocorrelation length in the region.")
    ] = False,
    voxel: Annotated[
        str | None,
        typer.Option(
            help="Y,X or SLICE,Y,X, or centre (of the region): its SNR, noise correlation and point spread.",
            show_default=False,
        ),
    ] = None,
    lesion_width: Annotated[
        float, typer.Option(help="Full width at half maximum in mm of the lesion at the voxel; 0: one voxel.")
    ] = 0.0,
    noise: options.NoiseFile = None,
    group: options.Group = None,
    axes: options.Axes = None,
    trajectory: options.TrajectoryFile = None,
    matrix: options.Matrix = None,
    trajectory_unit: options.TrajectoryUnit = None,
    correct_gradient_delays: options.CorrectGradientDelays = False,
    noise_covariance: options.NoiseCovarianceFile = None,
    drop_coils: options.DropCoils = None,
    reconstruction: options.ReconstructionName = "cg-sense",
    weights: options.Weights = "brain",
    normalization: options.Normalization = "propagated",
    regularization: options.Regularization = None,
    coil_maps: options.CoilMaps = "fixed",
    acceleration: options.Acceleration = None,
    spacing: options.Spacing = None,
    pattern: options.Pattern = "equispaced",
    calibration: options.Calibration = None,
    sampling_seed: options.SamplingSeed = 0,
    device: options.Device = "cpu",
    part: options.Slice = None,
    samples: Annotated[int, typer.Option("--samples", "-n", help="Noise images a slice of --noise-power.")] = 320,
    target_error: Annotated[
        float, typer.Option(help="Relative error of the σ map that --background and --voxel need.")
    ] = 0.05,
    seed: options.Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page with tables and pictures (.html).", show_default=False)
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Numbers for other programs (.json).", show_default=False)] = None,
) -> None:
    """Mean of a region with its exact error bar; contrast, noise texture and resolution on request.

    Error bars of means, differences and voxels need no sampling: all correlations between voxels are in one backward
    pass.
    """
    from mrnoise.cli.display import OUT, measurement_progress, print_measurements, print_written
    from mrnoise.cli.output import figures_and_numbers
    from mrnoise.cli.recipe import Recipe
    from mrnoise.cli.region import region as read_region
    from mrnoise.cli.region import voxel as read_voxel
    from mrnoise.files.atomic import replacing
    from mrnoise.files.record import to_json
    from mrnoise.files.text import printable
    from mrnoise.linearization import Images
    from mrnoise.mapping.assembly import grid_of
    from mrnoise.measurement import measure
    from mrnoise.report import measurement_page

    files = figures_and_numbers(output, "page", ".html", json)
    recipe = Recipe(
        scan=scan,
        noise=noise,
        group=group,
        axes=axes,
        trajectory=trajectory,
        matrix=matrix,
        trajectory_unit=trajectory_unit,
        correct_gradient_delays=correct_gradient_delays,
        noise_covariance=noise_covariance,
        drop_coils=drop_coils,
        reconstruction=reconstruction,
        weights=weights,
        normalization=normalization,
        regularization=regularization,
        coil_maps=coil_maps,
        acceleration=acceleration,
        spacing=spacing,
        pattern=pattern,
        calibration=calibration,
        sampling_seed=sampling_seed,
        part=part,
    )
    method = recipe.method()
    acquisition = recipe.acquisition(method, device)
    grid = grid_of(Images.of(method, acquisition))
    inside, outside = (None if text is None else read_region(text, grid) for text in (region, background))
    place = None if voxel is None else read_voxel(voxel, grid.shape, inside)
    with measurement_progress(reconstruction) as progress:
        found = measure(
            method,
            acquisition,
            roi=inside,
            background=outside,
            voxel=place,
            noise_power=noise_power,
            lesion_width=lesion_width,
            n_samples=samples,
            target_error=target_error,
            seed=seed,
            progress=progress,
        )
    title = printable(f"{scan.name}: {reconstruction}")
    texts = {output: lambda: measurement_page(found, title), json: lambda: to_json(found.record(), indent=2)}
    with replacing(*files) as partial:
        for path, temporary in zip(files, partial, strict=True):
            temporary.write_text(texts[path](), encoding="utf-8")
    print_measurements(found, title)
    if place is not None and found.point_spread is None:
        OUT.print("no resolution: a lesion reaches k-space through coil maps, and the scan has none", soft_wrap=True)
    OUT.print(f"Ψ: {acquisition.noise_covariance.source}", highlight=False, soft_wrap=True)
    print_written(files)
