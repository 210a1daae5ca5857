"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.catalogue import reconstruction_names

ScanFile = Annotated[
    Path,
    typer.Argument(
        help="Raw data: MRD (ISMRMRD), Siemens (twix), or arrays in HDF5 (fastMRI), npz, npy, MATLAB or BART files.",
        show_default=False,
    ),
]
NoiseFile = Annotated[
    Path | None, typer.Option("--noise", help="Separate noise scan, any of the same formats.", show_default=False)
]
Group = Annotated[
    str | None,
    typer.Option(help="Of several scans in a file: HDF5 group (MRD), or number (twix).", show_default=False),
]
Axes = Annotated[
    str | None,
    typer.Option(
        help="Of an array of k-space whose axes cannot be told: their names in the order of the file, such as "
        "slice,ky,kx,coil; of slice, frame, echo, set, phase, average, coil, kz, ky, kx.",
        show_default=False,
    ),
]
TrajectoryFile = Annotated[
    Path | None,
    typer.Option(
        "--trajectory",
        help="Where samples lie, where the scan does not say it or another one is meant: of BART (.cfl), npy or npz.",
        show_default=False,
    ),
]
Matrix = Annotated[
    str | None,
    typer.Option(help="Matrix of the image of a trajectory, Y,X or Z,Y,X, where no file says it.", show_default=False),
]
TrajectoryUnit = Annotated[
    str | None,
    typer.Option(
        help="Of a trajectory whose unit cannot be told: cycles/fov, cycles/voxel, radians/voxel, 1/m or "
        "cycles/encoded-fov.",
        show_default=False,
    ),
]
NoiseCovarianceFile = Annotated[
    Path | None,
    typer.Option(
        "--noise-covariance",
        help="Instead of a noise scan: Ψ, coil × coil, in squared units of k-space (.npy, .npz, or text with commas).",
        show_default=False,
    ),
]
DropCoils = Annotated[
    str | None,
    typer.Option(
        help="Coils to leave out, counted from 0, such as 3,7; or auto: those that are dead or copies of another.",
        show_default=False,
    ),
]
ReconstructionName = Annotated[
    str,
    typer.Option(
        "--reconstruction",
        "-r",
        help=f"{', '.join(reconstruction_names())}; sigpy:APP, such as sigpy:SenseRecon; a command, such as "
        "'bart pics -S -l1 -r 0.01 {kspace} {sens}'; or your own: module:name of a callable k-space → image, or a "
        "TorchScript or torch.export file.",
    ),
]
Weights = Annotated[
    str, typer.Option(help="Of a trained network: brain, knee, or a .safetensors file of mrnoise train.")
]
Normalization = Annotated[
    str, typer.Option(help="Of a trained network. propagated: its scale follows the noise. fixed: it is held.")
]
Regularization = Annotated[
    float | None,
    typer.Option(
        help="Weight: Tikhonov of sense, cg-sense, homodyne, pocs and sliding-window, relative to |S|² = 1; of the "
        "kernels of grappa, relative to the mean eigenvalue of their fit; of l1-wavelet and tv λ, relative to the "
        "largest magnitude of Aᴴy; of low-rank the σ of noise that it removes, relative to the brightest voxel; of "
        "sigpy:APP its lamda; others have none.  "
        "[default: 0.001; l1-wavelet, tv 0.003; low-rank 0.01]",
        show_default=False,
    ),
]
MeanOver = Annotated[
    str | None,
    typer.Option(
        help="Of a series: the mean of |x| over this leading axis, such as frame, instead of each image.",
        show_default=False,
    ),
]
TsnrOver = Annotated[
    str | None,
    typer.Option(
        help="Of a series: σ over this leading axis, such as frame, around that mean; SNR is then the thermal tSNR.",
        show_default=False,
    ),
]
CoilMaps = Annotated[
    str,
    typer.Option(
        help="fixed: those of the file, else ESPIRiT maps of the scan as read, held fixed. "
        "propagated: estimated inside the reconstruction, their noise included. Kernels of GRAPPA likewise."
    ),
]
Acceleration = Annotated[
    float | None,
    typer.Option(
        "--acceleration",
        "-R",
        help="Undersample the scan retrospectively to this net acceleration, calibration counted; of a trajectory by "
        "spokes or interleaves, voxels over samples.",
        show_default=False,
    ),
]
Spacing = Annotated[
    str | None,
    typer.Option(
        help="Instead of -R: distance between lines of equispaced, between spokes or interleaves, or of caipi as N or "
        "N2,N1; calibration on top.",
        show_default=False,
    ),
]
Pattern = Annotated[str, typer.Option(help="equispaced, caipi, random_1d, random_2d or poisson.")]
TrajectoryName = Annotated[
    str | None,
    typer.Option(
        "--trajectory",
        help="Instead of a pattern: radial, spiral or rosette; of a volume stack_of_stars, stack_of_spirals, radial_3d "
        "or cones. -R is then voxels over samples.",
        show_default=False,
    ),
]
CorrectGradientDelays = Annotated[
    bool,
    typer.Option(
        "--correct-gradient-delays",
        help="Of a radial scan, from its opposed spokes; a note says how far they were moved.",
    ),
]
Calibration = Annotated[
    int | None,
    typer.Option(
        help="Fully sampled central lines kept when undersampling. Left out: about a third of the lines with -R, none "
        "with --spacing.",
        show_default=False,
    ),
]
Slice = Annotated[
    str | None,
    typer.Option(
        "--slice",
        help="Only this part of a stack, counted from 0: by the names of leading axes (mrnoise info), slice=3 or "
        "echo=1,slice=3; or the number of an image, of which the last leading axis varies fastest.",
        show_default=False,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        help="auto, sketch, coloured, lattice, probe, exact, closed_form, monte_carlo, nonlinear; or of an installed "
        "package.",
    ),
]
ControlVariate = Annotated[
    bool | None,
    typer.Option(
        "--control-variate/--no-control-variate",
        help="Fewer samples: subtract noise that cheap SENSE images explain. Otherwise where auto finds that it pays.",
        show_default=False,
    ),
]
HalfPrecision = Annotated[
    bool | None,
    typer.Option(
        "--half-precision/--no-half-precision",
        help="For sketch: convolutions in bfloat16, bias removed by a few products. Otherwise where auto finds that it "
        "pays.",
        show_default=False,
    ),
]
Samples = Annotated[
    int | None, typer.Option("--samples", "-n", help="Number of probes or replicas a slice.", show_default=False)
]
TargetError = Annotated[
    float | None,
    typer.Option(
        help="Stop once σ inside the object is certified to this relative error.  [default: 0.03]", show_default=False
    ),
]
SamplingSeed = Annotated[int, typer.Option(help="Draws the sampling of -R, and nothing else.")]
Seed = Annotated[int, typer.Option(help="Every probe is seeded by (seed, slice, probe).")]
BatchSize = Annotated[
    int | None, typer.Option(help="Probes at a time; from free memory if left out.", show_default=False)
]
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        help="A folder for everything, or a file: .h5, .nii.gz, .png, .html. May be repeated.  "
        "[default: a folder beside SCAN]",
        show_default=False,
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder with the anatomy of the recipe; a generated phantom if left out."),
]


def _there(device: str) -> str:
    from mrnoise.devices import checked_device

    checked_device(device, valueless=False)
    return device


Device = Annotated[str, typer.Option(help="cpu, or cuda for a GPU.", callback=_there)]
