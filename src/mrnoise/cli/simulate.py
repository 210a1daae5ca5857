"""`mrnoise simulate`: a scan with a known answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options


def simulate(
    output: Annotated[Path, typer.Argument(help="File to write (.npz).", show_default=False)],
    matrix: Annotated[str, typer.Option(help="NY,NX for slices or NZ,NY,NX for a volume.")] = "256,256",
    slices: Annotated[int | None, typer.Option(help="Number of slices; one without it.", show_default=False)] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="Frames of a heart beat, of a disc in the head; one image without it.", show_default=False),
    ] = None,
    coils: Annotated[int, typer.Option(help="Receive coils around the head.")] = 8,
    snr: Annotated[float, typer.Option(help="Mean SNR of the fully sampled optimal combination.")] = 30.0,
    acceleration: options.Acceleration = None,
    spacing: options.Spacing = None,
    pattern: options.Pattern = "equispaced",
    trajectory: options.TrajectoryName = None,
    calibration: options.Calibration = None,
    sampling_seed: options.SamplingSeed = 0,
    noise_samples: Annotated[int, typer.Option(help="Samples of the noise scan.")] = 20_000,
    true_coil_maps: Annotated[bool, typer.Option(help="Write the true coil maps too.")] = False,
    seed: options.Seed = 0,
) -> None:
    """Simulate a head scan with a noise scan: Biot–Savart coils, correlated complex noise."""
    from dataclasses import replace

    import torch

    from mrnoise.cli.display import OUT, print_written
    from mrnoise.cli.output import check_writable
    from mrnoise.cli.scan import Undersampling
    from mrnoise.errors import InputError
    from mrnoise.io.scans.npz import write_npz
    from mrnoise.sampling import sampling_trajectory
    from mrnoise.simulation import simulated_head

    try:
        shape = tuple(int(n) for n in matrix.split(","))
    except ValueError:
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1 or output.suffix != ".npz":
        raise InputError(
            "cannot simulate this",
            expected="--matrix NY,NX or NZ,NY,NX and a file that ends in .npz",
            received=f"--matrix {matrix} and {output}",
            remedy="For example: mrnoise simulate scan.npz --matrix 192,160",
        )
    check_writable([output])
    chosen = None if pattern == "equispaced" else pattern
    cartesian = {"spacing": spacing, "calibration": calibration, "pattern": chosen}
    left_out = {name: value for name, value in cartesian.items() if value is not None}
    if trajectory is not None and left_out:
        raise InputError(
            "a trajectory has no pattern, no spacing and no calibration lines",
            expected="--trajectory with --acceleration, or neither",
            received=" ".join(f"--{name} {value}" for name, value in {"trajectory": trajectory, **left_out}.items()),
            remedy=f"Leave {' and '.join(f'--{name}' for name in left_out)} out.",
        )
    rate = 1.0 if acceleration is None else acceleration
    along = None if trajectory is None else sampling_trajectory(trajectory, rate, shape)
    undersampling = Undersampling(acceleration, spacing, pattern, calibration, sampling_seed)
    mask = undersampling.mask(shape) if along is None else None
    head = simulated_head(
        shape, coils, snr=snr, mask=mask, trajectory=along, n_slices=slices, n_frames=frames, seed=seed
    )
    if frames is not None and acceleration is not None and along is None:
        # Of each frame another: a regular pattern moves, a random one is drawn anew.
        drawn = [replace(undersampling, seed=sampling_seed + k).mask(shape) for k in range(frames)]
        head = replace(head, mask=torch.stack([one for one in drawn if one is not None]))
    scan = head.acquire(seed)
    noise = head.noise_scan(noise_samples, seed)
    write_npz(scan if true_coil_maps else scan.replace(coil_maps=None), output, noise)
    OUT.print(
        f"k-space {tuple(scan.kspace.shape)}, R = {scan.acceleration:.2f}, SNR {head.snr:.3g}, "
        f"Ψ with condition number {scan.noise_covariance.condition_number:.3g}, seed {seed}",
        highlight=False,
    )
    print_written([output])
