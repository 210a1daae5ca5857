"""`mrnoise info`: versions and self-checks, or what is in a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrnoise.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from mrnoise.acquisition import Acquisition


def info(
    scan: Annotated[Path | None, typer.Argument(help="Scan to describe.", show_default=False)] = None,
    noise: options.NoiseFile = None,
    group: options.Group = None,
    axes: options.Axes = None,
    trajectory: options.TrajectoryFile = None,
    matrix: options.Matrix = None,
    trajectory_unit: options.TrajectoryUnit = None,
    noise_covariance: options.NoiseCovarianceFile = None,
    drop_coils: options.DropCoils = None,
) -> None:
    """Versions, device and self-checks; with SCAN: its shape, sampling and noise covariance."""
    from rich.table import Table

    from mrnoise.cli.display import OUT

    table = Table(show_header=False, title=str(scan or "mrnoise"), title_justify="left", title_style="bold")
    passed = True
    if scan is None:
        passed = _describe_installation(table)
    else:
        from mrnoise.cli.scan import coils
        from mrnoise.io import read

        found = read(
            scan,
            noise=noise,
            noise_covariance=noise_covariance,
            drop_coils=coils(drop_coils),
            group=group,
            axes=axes,
            trajectory=trajectory,
            matrix=matrix,
            trajectory_unit=trajectory_unit,
        )
        _describe_scan(table, found)
    OUT.print(table)
    if not passed:
        raise typer.Exit(1)


def _describe_scan(table: Table, acquisition: Acquisition) -> None:
    from mrnoise.mapping.provenance import of_scan
    from mrnoise.sampling import Grid

    sampling = acquisition.sampling
    if isinstance(sampling, Grid):
        names = ("k2", "k1", "k0")[-acquisition.spatial_dims :]
        acquired = f"{int(sampling.mask.sum())} of {sampling.mask.numel()}"
    else:
        names = ("partition", "readout", "sample")[-sampling.sample_ndim :]
        reach = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in sampling.extent)
        acquired = f"trajectory of {sampling.n_samples} samples in {sampling.spatial_dims}D, {reach} cycles per field "
        acquired += (
            f"of view, image {sampling.image_shape}, density {'given' if sampling.density is not None else 'none'}"
        )
    table.add_row("file", acquisition.source)
    table.add_row("k-space", f"{tuple(acquisition.kspace.shape)} ({', '.join([*acquisition.axes, 'coil', *names])})")
    table.add_row("sampling", f"{acquired}, R = {acquisition.acceleration:.3f}")
    if not isinstance(sampling, Grid):
        left = sampling.undetermined(acquisition.n_coils)
        found = f"{left} voxels or more are not determined without regularization" if left else "enough for all voxels"
        table.add_row("", f"{acquisition.n_coils} coils × {sampling.n_samples} samples: {found}")
    if isinstance(sampling, Grid) and (encoded := sampling.encoded()) is not None:
        resolution = of_scan(acquisition).sampling or {}
        mm = " × ".join(f"{size:.3g}" for size in resolution["resolution_mm"])
        table.add_row("encoded", f"{encoded}; R counts what was encoded; resolution {mm} mm")
    if acquisition.averages is not None:
        counts = acquisition.averages[sampling.weight > 0]
        table.add_row("averages", f"{float(counts.min()):g} to {float(counts.max()):g} of each sample")
    table.add_row("coil maps", "in the file" if acquisition.coil_maps is not None else "none")
    size = ", ".join(f"{v:.3g}" for v in acquisition.geometry.voxel_size)
    known = "" if acquisition.geometry.measured else "; assumed, the file gives none"
    table.add_row("voxel size (z, y, x)", f"{size} mm{known}")
    for note in acquisition.notes:
        table.add_row("note", note)
    for name, value in acquisition.noise_covariance.describe().items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(f"Ψ {name.replace('_', ' ')}", shown)


def _describe_installation(table: Table) -> bool:
    import torch

    from mrnoise.closed_form import sense_std
    from mrnoise.mapping.provenance import versions
    from mrnoise.mapping.run import noise_map
    from mrnoise.reconstruction import Sense
    from mrnoise.sampling import equispaced
    from mrnoise.simulation import simulate

    for name, value in versions().items():
        table.add_row(name, value)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    table.add_row("device", device)
    scan = simulate((16, 20), 4, mask=equispaced((16, 20), 2), seed=1)
    truth = sense_std(scan)
    worst = float((noise_map(Sense(), scan, method="exact").std / truth - 1).abs().max())
    samples = 100
    sketched = noise_map(Sense(), scan, method="sketch", n_samples=samples)
    error = float((sketched.std / truth - 1).square().mean().sqrt()) * (4 * samples) ** 0.5
    table.add_row("self-check: exact against closed form", f"{worst:.1e} {'ok' if worst < 1e-4 else 'FAILED'}")
    table.add_row("self-check: sketch, error / floor", f"{error:.2f} {'ok' if error < 1.3 else 'FAILED'}")
    return worst < 1e-4 and error < 1.3
