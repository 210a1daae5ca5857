"""`mrnoise qa`: a phantom scan added to a series, and what has changed."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options
from mrnoise.errors import InputError

# Exit code where a limit is broken.
BROKEN = 1


def qa(
    history: Annotated[Path, typer.Argument(help="Table of the series (.csv); made where there is none.")],
    scan: Annotated[
        Path | None,
        typer.Argument(help="Phantom scan to add; left out: the limits of the table as it is.", show_default=False),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(
            help="When the scan was taken, as 2026-05-04.  [default: when its file changed]", show_default=False
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            help="circle:Y,X,RADIUS or box:Y0,X0,Y1,X1 in voxels, or a mask file.  [default: the object]",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[int, typer.Option(help="The first so many scans tell what is usual.")] = 5,
    least_change: Annotated[float, typer.Option(help="Relative changes that do not matter.")] = 0.03,
    noise: options.NoiseFile = None,
    group: options.Group = None,
    axes: options.Axes = None,
    noise_covariance: options.NoiseCovarianceFile = None,
    reconstruction: options.ReconstructionName = "cg-sense",
    regularization: options.Regularization = None,
    part: options.Slice = None,
    target_error: Annotated[float, typer.Option(help="Relative error of the σ map.")] = 0.01,
    seed: options.Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Figure (.png).  [default: beside the table]", show_default=False),
    ] = None,
) -> None:
    """SNR, σ, noise and signal of every coil of a phantom over weeks, with control limits.

    Exit code 1 where a number of the newest scan lies outside its limits, or drifts.
    """
    from mrnoise.cli.display import print_quality, print_written
    from mrnoise.cli.output import figures_and_numbers
    from mrnoise.cli.recipe import Recipe
    from mrnoise.cli.region import region as read_region
    from mrnoise.figures.quality import quality_figure
    from mrnoise.files.atomic import all_or_nothing, replacing
    from mrnoise.linearization import Images
    from mrnoise.mapping.assembly import grid_of
    from mrnoise.mapping.provenance import fingerprint
    from mrnoise.progress import progress_bar
    from mrnoise.quality import History, Record, charts, findings, measure_quality

    if history.suffix != ".csv":
        raise InputError(
            "unknown format of the table",
            expected="a path that ends in .csv",
            received=str(history),
            remedy="For example: mrnoise qa history.csv scan.h5",
        )
    figure = history.with_suffix(".png") if output is None else output
    figures_and_numbers(figure, "figure", ".png", None)
    series = History.read(history)
    if scan is not None:
        recipe = Recipe(
            scan=scan,
            noise=noise,
            group=group,
            axes=axes,
            noise_covariance=noise_covariance,
            drop_coils="auto",
            reconstruction=reconstruction,
            regularization=regularization,
            part=part,
        )
        method = recipe.method()
        acquisition = recipe.acquisition(method)
        inside = None if region is None else read_region(region, grid_of(Images.of(method, acquisition)))
        with progress_bar(reconstruction) as progress:
            quality = measure_quality(
                method, acquisition, inside, target_error=target_error, seed=seed, progress=progress
            )
        matrix = " × ".join(map(str, acquisition.image_shape))
        measured = ", ".join([repr(method), matrix, region or "object", *([] if part is None else [f"slice {part}"])])
        record = Record(_date(date, scan), scan.name, fingerprint(acquisition), measured, quality)
        series = series.with_record(record)
    elif not series.records:
        raise InputError(
            "there is no scan to judge",
            expected="a phantom scan, or a table that holds some",
            received=f"{history}, which is empty or not there",
            remedy="For example: mrnoise qa history.csv scan.h5",
        )
    known = charts(series, baseline=baseline, least_change=least_change)
    wrong = findings(series, baseline=baseline, least_change=least_change)
    with all_or_nothing():
        if scan is not None:
            series.write(history)
        with replacing(figure) as (temporary,):
            dates = [record.date for record in series.records]
            quality_figure(dates, known, wrong).savefig(temporary, dpi=130, format="png")
    print_quality(series, known, wrong, baseline)
    print_written([history, figure] if scan is not None else [figure])
    if wrong:
        raise typer.Exit(BROKEN)


def _date(text: str | None, scan: Path) -> datetime.date:
    if text is None:
        return datetime.date.fromtimestamp(scan.stat().st_mtime)
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            "cannot read the date",
            expected="year, month and day",
            received=text,
            remedy="For example: --date 2026-05-04",
        ) from error
