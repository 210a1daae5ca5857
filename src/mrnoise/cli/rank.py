"""`mrnoise rank`: sampling patterns by noise in a region, reconstructions by SNR."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrnoise.cli import options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mrnoise.ranking import NetworkNoise, PatternNoise, Uncertain

rank = typer.Typer(help="Which sampling pattern, or which reconstruction, has less noise.", no_args_is_help=True)

Net = Annotated[
    float, typer.Option("--acceleration", "-R", help="Net, calibration counted; of a trajectory voxels over samples.")
]
Png = Annotated[Path | None, typer.Option("--output", "-o", help="Figure (.png).", show_default=False)]
Json = Annotated[Path | None, typer.Option(help="Numbers for other programs (.json).", show_default=False)]
Samples = Annotated[int, typer.Option("--samples", "-n", help="Probes of each noise map and slice.")]
# The 1e-3 of other commands leaves the noise of random patterns in the image.
Regularization = Annotated[float, typer.Option(help="Tikhonov weight of sense and cg-sense, relative to |S|² = 1.")]


@rank.command(name="patterns")
def patterns(
    scan: options.ScanFile,
    roi: Annotated[
        str, typer.Option(help="circle:Y,X,RADIUS or box:Y0,X0,Y1,X1 in voxels, or a mask file.", show_default=False)
    ],
    acceleration: Net,
    patterns: Annotated[
        str, typer.Option(help="Comma-separated; radial, spiral and other trajectories too.")
    ] = "equispaced,caipi,random_1d,random_2d,poisson",
    draws: Annotated[int, typer.Option(help="Masks of each random pattern.")] = 4,
    noise: options.NoiseFile = None,
    noise_covariance: options.NoiseCovarianceFile = None,
    drop_coils: options.DropCoils = None,
    group: options.Group = None,
    axes: options.Axes = None,
    reconstruction: options.ReconstructionName = "cg-sense",
    weights: options.Weights = "brain",
    normalization: options.Normalization = "propagated",
    regularization: Regularization = 1e-2,
    coil_maps: options.CoilMaps = "fixed",
    part: options.Slice = None,
    device: options.Device = "cpu",
    samples: Samples = 32,
    sampling_seed: options.SamplingSeed = 0,
    seed: options.Seed = 0,
    output: Png = None,
    json: Json = None,
) -> None:
    """Sampling patterns at equal net acceleration by the noise they leave in a region, from one fully sampled scan.

    The σ of the mean over the region is exact, one backward pass a mask. Patterns whose 95 % intervals overlap share a
    rank.
    """
    from mrnoise.catalogue import Settings
    from mrnoise.catalogue import reconstruction as reconstruction_named
    from mrnoise.cli.display import ERR, print_written, ranking_progress
    from mrnoise.cli.output import INTERRUPTED, figures_and_numbers
    from mrnoise.cli.region import region as read_region
    from mrnoise.cli.scan import load_scan
    from mrnoise.figures.rankings import pattern_figure
    from mrnoise.linearization import Images
    from mrnoise.mapping.assembly import grid_of
    from mrnoise.mapping.provenance import of_scan
    from mrnoise.ranking import rank_patterns
    from mrnoise.reconstruction.protocol import as_reconstruction

    files = figures_and_numbers(output, "figure", ".png", json)
    settings = Settings(regularization, weights, normalization, coil_maps)
    method = reconstruction_named(reconstruction, settings)
    settings.check_taken(reconstruction)
    acquisition = load_scan(
        scan,
        noise,
        noise_covariance=noise_covariance,
        drop_coils=drop_coils,
        group=group,
        axes=axes,
        part=part,
        coil_maps=coil_maps,
        device=device,
    )
    region = read_region(roi, grid_of(Images.of(method, acquisition)))
    names = patterns.split(",")
    with ranking_progress() as progress:
        rows = rank_patterns(
            method,
            acquisition,
            acceleration,
            region,
            patterns=names,
            n_draws=draws,
            n_samples=samples,
            sampling_seed=sampling_seed,
            seed=seed,
            progress=progress,
        )
    record = {
        "reconstruction": as_reconstruction(method).title,
        "acceleration": acceleration,
        "roi": roi,
        "samples": samples,
        "sampling_seed": sampling_seed,
        "seed": seed,
        "patterns": [_pattern_record(row) for row in rows],
        "provenance": of_scan(acquisition).stated(),
    }
    _write(files, lambda: pattern_figure(rows, region), record)
    _print_patterns(rows, f"{scan.name}: {reconstruction}, R = {acceleration:g}, {roi}", acquisition.spatial_dims)
    print_written(files)
    if len(rows) < len(set(names)):
        ERR.print("interrupted: these are the patterns that were done", style="yellow")
        raise typer.Exit(INTERRUPTED)


@rank.command(name="networks")
def networks(
    scan: options.ScanFile,
    acceleration: Net,
    pattern: Annotated[
        str,
        typer.Option(
            help="equispaced, caipi, random_1d, random_2d or poisson; radial, spiral or another trajectory, along "
            "which a fully sampled scan is resampled. Of a scan along a trajectory -R leaves out spokes or interleaves."
        ),
    ] = "equispaced",
    roi: Annotated[
        str | None,
        typer.Option(help="As for rank patterns; the object if left out.", show_default=False),
    ] = None,
    reconstruction: Annotated[
        list[str] | None,
        typer.Option(
            "--reconstruction",
            "-r",
            help="Any that mrnoise map takes; may be repeated.  [default: cg-sense and every shipped network]",
            show_default=False,
        ),
    ] = None,
    noise: options.NoiseFile = None,
    noise_covariance: options.NoiseCovarianceFile = None,
    drop_coils: options.DropCoils = None,
    group: options.Group = None,
    axes: options.Axes = None,
    trajectory: options.TrajectoryFile = None,
    matrix: options.Matrix = None,
    trajectory_unit: options.TrajectoryUnit = None,
    correct_gradient_delays: options.CorrectGradientDelays = False,
    weights: options.Weights = "brain",
    normalization: options.Normalization = "propagated",
    regularization: Regularization = 1e-2,
    coil_maps: options.CoilMaps = "fixed",
    part: options.Slice = None,
    device: options.Device = "cpu",
    repeats: Annotated[int, typer.Option(help="Noise maps of each, whose spread gives the interval of SNR.")] = 4,
    samples: Samples = 32,
    sampling_seed: options.SamplingSeed = 0,
    seed: options.Seed = 0,
    output: Png = None,
    json: Json = None,
) -> None:
    """Reconstructions of one scan by SNR, beside PSNR, noise texture and resolution.

    Smoothing raises SNR too: among those of equal PSNR the noise decides. PSNR is against the scan's own full sampling.
    """
    from mrnoise.catalogue import Settings
    from mrnoise.catalogue import reconstruction as reconstruction_named
    from mrnoise.cli.display import ERR, print_written, ranking_progress
    from mrnoise.cli.output import INTERRUPTED, figures_and_numbers
    from mrnoise.cli.region import region as read_region
    from mrnoise.cli.scan import load_scan
    from mrnoise.figures.rankings import network_figure
    from mrnoise.mapping.provenance import of_scan
    from mrnoise.networks.weights import SHIPPED
    from mrnoise.ranking import rank_networks
    from mrnoise.reconstruction.protocol import as_reconstruction
    from mrnoise.sampling import Grid

    files = figures_and_numbers(output, "figure", ".png", json)
    names = list(dict.fromkeys(reconstruction or ("cg-sense", *SHIPPED)))
    settings = Settings(regularization, weights, normalization, coil_maps)
    methods = {name: reconstruction_named(name, settings) for name in names}
    settings.check_taken(*names)
    acquisition = load_scan(
        scan,
        noise,
        noise_covariance=noise_covariance,
        drop_coils=drop_coils,
        group=group,
        axes=axes,
        trajectory=trajectory,
        matrix=matrix,
        trajectory_unit=trajectory_unit,
        correct_gradient_delays=correct_gradient_delays,
        part=part,
        coil_maps=coil_maps,
        device=device,
    )
    with ranking_progress() as progress:
        rows = rank_networks(
            methods,
            acquisition,
            acceleration,
            pattern=pattern,
            roi=None if roi is None else read_region(roi, acquisition.image_grid),
            n_repeats=repeats,
            n_samples=samples,
            sampling_seed=sampling_seed,
            seed=seed,
            progress=progress,
        )
    record = {
        "reconstructions": {name: as_reconstruction(method).title for name, method in methods.items()},
        "acceleration": acceleration,
        "pattern": pattern if isinstance(acquisition.sampling, Grid) else None,
        "roi": roi,
        "samples": samples,
        "repeats": repeats,
        "sampling_seed": sampling_seed,
        "seed": seed,
        "networks": [_network_record(row) for row in rows],
        "provenance": of_scan(acquisition).stated(),
    }
    _write(files, lambda: network_figure(rows), record)
    sampled = pattern if isinstance(acquisition.sampling, Grid) else "its trajectory"
    _print_networks(rows, f"{scan.name}: {sampled}, R = {acceleration:g}, {roi or 'the object'}")
    print_written(files)
    if len(rows) < len(names):
        ERR.print("interrupted: these are the reconstructions that were done", style="yellow")
        raise typer.Exit(INTERRUPTED)


# -- in and out ------------------------------------------------------------------------------------------------


def _write(files: Sequence[Path], figure: Callable[[], Figure], record: Mapping[str, Any]) -> None:
    """Figure and numbers, all or nothing."""
    from mrnoise.files.atomic import replacing
    from mrnoise.files.record import to_json

    with replacing(*files) as partial:
        for path, temporary in zip(files, partial, strict=True):
            if path.suffix == ".png":
                figure().savefig(temporary, dpi=130, format="png")
            else:
                temporary.write_text(to_json(record, indent=2), encoding="utf-8")


def _pattern_record(row: PatternNoise) -> dict[str, Any]:
    return {
        "pattern": row.pattern,
        "acceleration": row.acceleration,
        "draws": row.n_draws,
        "roi_std": asdict(row.roi_std),
        "voxel_std": asdict(row.voxel_std),
        "psnr": row.psnr,
        "linearity": row.linearity,
    }


def _network_record(row: NetworkNoise) -> dict[str, Any]:
    spread = row.point_spread
    return {
        "name": row.name,
        "snr": asdict(row.snr),
        "psnr": row.psnr,
        "autocorrelation_length": row.noise_power.length,
        "autocorrelation_length_error": row.noise_power.length_error,
        "unit": row.noise_power.unit,
        "resolution": None if spread is None else spread.width,
        "contrast_recovery": None if spread is None else spread.contrast_recovery,
        "linearity": row.linearity,
    }


# -- tables ----------------------------------------------------------------------------------------------------


def _print_patterns(rows: Sequence[PatternNoise], title: str, spatial_dims: int) -> None:
    from rich.table import Table

    from mrnoise.cli.display import OUT
    from mrnoise.ranking import ranks

    table = Table(title=title, title_justify="left", title_style="bold")
    means, voxels = [row.roi_std for row in rows], [row.voxel_std for row in rows]
    (of_mean, mean_texts), (of_voxel, voxel_texts) = _column("σ of the mean", means), _column("voxel σ, rms", voxels)
    for heading in ("rank", "pattern", "net R", "masks", of_mean, "rank", of_voxel, "PSNR (dB)"):
        table.add_column(heading, justify="left" if heading == "pattern" else "right")
    for row, *cells in zip(rows, ranks(means), mean_texts, ranks(voxels), voxel_texts, strict=True):
        place, mean, voxel_place, voxel = map(str, cells)
        table.add_row(
            place, row.pattern, f"{row.acceleration:.2f}", str(row.n_draws), mean, voxel_place, voxel, _db(row.psnr)
        )
    OUT.print(table)
    _say("σ of |x| in image units, ± standard error over masks and probes; without ±: exact.")
    names = [row.pattern for row in rows]
    _say(_cannot_tell(names, means, "σ of the mean"))
    _say(_cannot_tell(names, voxels, "voxel σ"))
    _say("σ is noise alone: the aliasing that a pattern leaves lowers its PSNR, not its σ.")
    net = [row.acceleration for row in rows]
    if max(net) > 1.01 * min(net):
        _say(
            "Net R differs: a regular pattern takes the spacing that comes nearest. Without regularisation σ grows at "
            "least as √R."
        )
    over_both = [row.pattern for row in rows if row.pattern in ("caipi", "random_2d", "poisson")]
    if spatial_dims == 2 and over_both:
        _say(f"Both axes have to be phase encodes, as in a slice of a volume, for {', '.join(over_both)}.")
    _warn_not_linear([(row.pattern, row.linearity) for row in rows])


def _print_networks(rows: Sequence[NetworkNoise], title: str) -> None:
    from rich.table import Table

    from mrnoise.cli.display import OUT
    from mrnoise.files.text import plus_minus, significant
    from mrnoise.ranking import equal_psnr, ranks

    groups = dict(zip("ABCDEFGH", equal_psnr(rows), strict=False))
    unit = rows[0].noise_power.unit
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("reconstruction")
    for heading in ("SNR", "PSNR (dB)", "equal PSNR", f"noise width ({unit})", f"resolution ({unit})", "contrast"):
        table.add_column(heading, justify="right")
    for row, place in zip(rows, ranks([row.snr for row in rows], largest_first=True), strict=True):
        power, spread = row.noise_power, row.point_spread
        table.add_row(
            str(place),
            row.name,
            _number(row.snr),
            _db(row.psnr),
            next((letter for letter, group in groups.items() if row in group), ""),
            ", ".join(plus_minus(v, e) for v, e in zip(power.length, power.length_error, strict=True)),
            "–" if spread is None else ", ".join(significant(width) for width in spread.width),
            "–" if spread is None else f"{spread.contrast_recovery:.2f}",
        )
    OUT.print(table)
    _say(
        "SNR: median of |x| / σ of |x|, ± standard error. Noise width: autocorrelation length, y and x; one voxel for "
        "white noise. Resolution and contrast: response to a lesion of one voxel at the centre of the region."
    )
    _say(_cannot_tell([row.name for row in rows], [row.snr for row in rows], "SNR"))
    for letter, group in groups.items():
        order = ranks([row.snr for row in group], largest_first=True)
        best = [row.name for row, place in zip(group, order, strict=True) if place == 1]
        among = f"Equal PSNR {letter} ({', '.join(row.name for row in group)})"
        _say(f"{among}: least noise with {best[0]}." if len(best) == 1 else f"{among}: undecided, {' or '.join(best)}.")
    if all(row.psnr is None for row in rows):
        _say("No PSNR: the scan is not fully sampled.")
    _warn_not_linear([(row.name, row.linearity) for row in rows])


def _number(value: Uncertain) -> str:
    from mrnoise.files.text import plus_minus

    return plus_minus(value.value, value.error or None)


def _column(heading: str, numbers: Sequence[Uncertain]) -> tuple[str, list[str]]:
    """Heading with the power of ten that all numbers share, and the numbers without it."""
    from mrnoise.files.text import SUPERSCRIPTS, plus_minus

    power = math.floor(math.log10(max(number.value for number in numbers)))
    power = 0 if -2 < power < 4 else power
    unit = f" / 10{str(power).translate(SUPERSCRIPTS)}" if power else ""
    scale = 10.0**power
    return heading + unit, [plus_minus(n.value / scale, n.error / scale or None) for n in numbers]


def _db(psnr: float | None) -> str:
    return "–" if psnr is None else f"{psnr:.2f}"


def _cannot_tell(names: Sequence[str], numbers: Sequence[Uncertain], what: str) -> str:
    from mrnoise.ranking import undecided

    pairs = [" and ".join(pair) for pair in undecided(names, numbers)]
    return f"{what}: " + (f"cannot be told apart: {'; '.join(pairs)}." if pairs else "every order is decided.")


def _say(sentence: str) -> None:
    from mrnoise.cli.display import OUT

    OUT.print(sentence, soft_wrap=True, highlight=False)


def _warn_not_linear(verdicts: Sequence[tuple[str, str]]) -> None:
    from mrnoise.cli.display import ERR
    from mrnoise.estimators.choice.linearity import LINEAR

    named = [f"{name} ({verdict})" for name, verdict in verdicts if verdict != LINEAR]
    if named:
        ERR.print(
            "warning: the first-order noise may be wrong at the noise level of this scan: "
            f"{', '.join(named)}; mrnoise map --method nonlinear gives the noise that they really have",
            style="yellow",
            soft_wrap=True,
            highlight=False,
        )
