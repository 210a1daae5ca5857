"""`mrnoise map`: the noise map of a scan."""

from __future__ import annotations

import typer

from mrnoise.cli import options


def map_(
    scan: options.ScanFile,
    noise: options.NoiseFile = None,
    reconstruction: options.ReconstructionName = "cg-sense",
    regularization: options.Regularization = 1e-3,
    coil_maps: options.CoilMaps = "fixed",
    acceleration: options.Acceleration = None,
    pattern: options.Pattern = "equispaced",
    calibration: options.Calibration = 24,
    slice_index: options.Slice = None,
    method: options.Method = "auto",
    samples: options.Samples = None,
    target_error: options.TargetError = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    output: options.Output = None,
) -> None:
    """Noise, SNR and g-factor of every voxel of a reconstructed scan.

    Ctrl-C keeps the estimate so far, with its error bar.
    """
    from mrnoise.cli.display import ERR, map_progress, print_map, print_written
    from mrnoise.cli.main import INTERRUPTED
    from mrnoise.cli.output import targets, write
    from mrnoise.cli.scan import load_reconstruction, load_scan
    from mrnoise.mapping import noise_map

    files = targets(output, scan.parent / f"{scan.name.split('.')[0]}_noise")
    method_of = load_reconstruction(reconstruction, regularization)
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
    with map_progress(reconstruction) as progress:
        nm = noise_map(
            method_of,
            acquisition,
            method=method,
            n_samples=samples,
            target_error=target_error,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
    written = write(nm, files)
    print_map(nm, f"{scan.name}: {reconstruction}")
    print_written(written)
    if nm.provenance["interrupted"]:
        ERR.print("[yellow]interrupted: the map holds the estimate so far[/yellow]")
        raise typer.Exit(INTERRUPTED)
