"""`mrnoise map`: the noise map of a scan."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrnoise.cli import options
from mrnoise.errors import InputError

if TYPE_CHECKING:
    from mrnoise.result.noise_map import NoiseMap


def map_(
    scan: options.ScanFile,
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
    mean_over: options.MeanOver = None,
    tsnr_over: options.TsnrOver = None,
    coil_maps: options.CoilMaps = "fixed",
    acceleration: options.Acceleration = None,
    spacing: options.Spacing = None,
    pattern: options.Pattern = "equispaced",
    calibration: options.Calibration = None,
    sampling_seed: options.SamplingSeed = 0,
    device: options.Device = "cpu",
    part: options.Slice = None,
    method: options.Method = "auto",
    samples: options.Samples = None,
    target_error: options.TargetError = None,
    control_variate: options.ControlVariate = None,
    half_precision: options.HalfPrecision = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="From at most 30 samples: σ smoothed inside the object where that helps.")
    ] = False,
    output: options.Output = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the .h5 that an interrupted run left in the output.")
    ] = False,
) -> None:
    """Noise, SNR and g-factor of every voxel of a reconstructed scan.

    Ctrl-C keeps the estimate so far, with its error bar; --resume goes on from it. Of several images those that are
    done are also kept in OUTPUT.partial.h5, for a run that is killed.
    """
    from mrnoise.cli.display import ERR, print_map, print_written
    from mrnoise.cli.output import INTERRUPTED, targets, write
    from mrnoise.cli.recipe import Recipe
    from mrnoise.estimators import method as method_named
    from mrnoise.mapping.run import noise_map
    from mrnoise.measurement import temporal_snr
    from mrnoise.progress import progress_bar
    from mrnoise.result.preview import check_few
    from mrnoise.result.preview import preview as smoothed

    if tsnr_over is not None:
        asked_for = {
            "--mean-over": mean_over is not None,
            "--method": method != "auto",
            "--control-variate": control_variate is not None,
            "--half-precision": half_precision is not None,
            "--resume": resume,
            "--preview": preview,
        }
        _check_tsnr([name for name, given in asked_for.items() if given])
    if preview:
        check_few(samples)
    asked = method_named(method, control_variate=control_variate, half_precision=half_precision)
    files = targets(output, scan.parent / f"{scan.name.split('.')[0]}_noise")
    kept = _kept(files)
    partial = None if kept is None else kept.with_suffix(".partial.h5")
    earlier = _earlier(kept, partial) if resume else None
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
        mean_over=mean_over,
        tsnr_over=tsnr_over,
        coil_maps=coil_maps,
        acceleration=acceleration,
        spacing=spacing,
        pattern=pattern,
        calibration=calibration,
        sampling_seed=sampling_seed,
        part=part,
    )
    method_of = recipe.method()
    acquisition = recipe.acquisition(method_of, device)
    with progress_bar(reconstruction) as progress:
        if tsnr_over is None:
            nm = noise_map(
                method_of,
                acquisition,
                method=asked,
                n_samples=samples,
                target_error=target_error,
                seed=seed,
                batch_size=batch_size,
                progress=progress,
                resume=earlier,
                checkpoint=None if partial is None else lambda so_far: write(so_far, [partial]),
            )
        else:
            nm = temporal_snr(
                method_of,
                acquisition,
                axis=tsnr_over,
                n_samples=samples,
                target_error=target_error,
                seed=seed,
                batch_size=batch_size,
                progress=progress,
            )
    if preview:
        nm = smoothed(nm)
    nm = dataclasses.replace(nm, provenance=dataclasses.replace(nm.provenance, command=recipe.stated()))
    written = write(nm, files)
    if partial is not None:
        partial.unlink(missing_ok=True)
    print_map(nm, f"{scan.name}: {reconstruction}")
    print_written(written)
    if nm.interrupted:
        ERR.print("interrupted: the map holds the estimate so far", style="yellow")
        raise typer.Exit(INTERRUPTED)


def _check_tsnr(others: list[str]) -> None:
    if others:
        raise InputError(
            "tSNR has a method of its own",
            expected="--tsnr-over with --samples, --target-error, --seed and --batch-size",
            received=f"--tsnr-over with {', '.join(others)}",
            remedy="Leave these out; for the noise of the mean itself there is --mean-over.",
        )


def _kept(files: list[Path]) -> Path | None:
    """The first .h5 of the output, from which a run can go on."""
    return next((path for path in files if path.suffix == ".h5"), None)


def _earlier(kept: Path | None, partial: Path | None) -> NoiseMap:
    """The map that an earlier run of the same command left, when it was killed or at its end."""
    from mrnoise.io import read_noise_map

    for path in (partial, kept):
        if path is not None and os.path.exists(path):
            return read_noise_map(path)
    raise InputError(
        "nothing to resume",
        expected="an .h5 map of an earlier run in the output",
        received="an output without .h5" if kept is None else f"{kept}, which does not exist",
        remedy="Leave --resume out, or give the --output of the interrupted run.",
    )
