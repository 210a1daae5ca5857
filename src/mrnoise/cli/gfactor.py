"""`mrnoise gfactor`: noise amplification of parallel imaging."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options


def gfactor(
    scan: Annotated[
        Path,
        typer.Argument(
            help="Raw data for the closed form, or the map (.h5) of the accelerated scan.", show_default=False
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option(help="Map (.h5) of the fully sampled scan.", show_default=False)
    ] = None,
    noise: options.NoiseFile = None,
    group: options.Group = None,
    axes: options.Axes = None,
    trajectory: options.TrajectoryFile = None,
    matrix: options.Matrix = None,
    trajectory_unit: options.TrajectoryUnit = None,
    correct_gradient_delays: options.CorrectGradientDelays = False,
    noise_covariance: options.NoiseCovarianceFile = None,
    drop_coils: options.DropCoils = None,
    regularization: Annotated[
        float | None,
        typer.Option(
            help="Tikhonov weight, relative to |S|² = 1.  [default: 0; 0.001 along a trajectory]", show_default=False
        ),
    ] = None,
    acceleration: options.Acceleration = None,
    spacing: options.Spacing = None,
    pattern: options.Pattern = "equispaced",
    part: options.Slice = None,
    device: options.Device = "cpu",
    output: options.Output = None,
) -> None:
    """The g-factor: of SENSE with regular sampling in closed form, of CG-SENSE along a trajectory, or of two maps."""
    import dataclasses

    from mrnoise.cli.display import print_map, print_written
    from mrnoise.cli.output import targets, write
    from mrnoise.cli.scan import Undersampling, load_scan
    from mrnoise.io import read_noise_map
    from mrnoise.mapping.run import noise_map
    from mrnoise.reconstruction import CgSense, Sense
    from mrnoise.result.ratio import g_factor
    from mrnoise.sampling import Trajectory

    undersampling = Undersampling(acceleration, spacing, pattern, 0, 0)
    files = targets(output, scan.parent / f"{scan.name.split('.')[0]}_gfactor")
    if reference is not None:
        nm, full = read_noise_map(scan), read_noise_map(reference)
        g = g_factor(nm, full, nm.acceleration / full.acceleration if acceleration is None else acceleration)
        # The interval of g in a map is that of its own σ; the reference's error is told in words.
        error = 100 * float(full.relative_error.nanmedian())
        words = f"{reference}, whose own error of {error:.1f} % comes on top"
        record = dataclasses.replace(nm.provenance, g_reference=words)
        nm = dataclasses.replace(nm, reference_std=full.std, acceleration=g.acceleration, provenance=record)
    else:
        acquisition = load_scan(
            scan,
            noise,
            group=group,
            axes=axes,
            trajectory=trajectory,
            matrix=matrix,
            trajectory_unit=trajectory_unit,
            correct_gradient_delays=correct_gradient_delays,
            noise_covariance=noise_covariance,
            drop_coils=drop_coils,
            part=part,
            coil_maps="fixed",
            undersampling=undersampling,
            device=device,
        )
        if isinstance(acquisition.sampling, Trajectory):
            nm = noise_map(CgSense() if regularization is None else CgSense(regularization), acquisition)
        else:
            nm = noise_map(Sense(regularization or 0.0), acquisition, method="closed_form")
    print_map(nm, f"{scan.name}: g-factor")
    print_written(write(nm, files))
