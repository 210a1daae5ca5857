"""`mrnoise serve`: noise maps of scans that come over the network, as from a scanner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this computer: whoever reaches it is served.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for any that is free.")] = 9002,
    capture: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the raw stream of each scan, an MRD file.", show_default=False),
    ] = None,
    noise: options.NoiseFile = None,
    noise_covariance: options.NoiseCovarianceFile = None,
    drop_coils: options.DropCoils = None,
    reconstruction: options.ReconstructionName = "cg-sense",
    weights: options.Weights = "brain",
    normalization: options.Normalization = "propagated",
    regularization: options.Regularization = None,
    coil_maps: options.CoilMaps = "fixed",
    device: options.Device = "cpu",
    method: options.Method = "auto",
    samples: options.Samples = None,
    target_error: options.TargetError = None,
    control_variate: options.ControlVariate = None,
    half_precision: options.HalfPrecision = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Send a preview as soon as an image is complete.")
    ] = True,
    integers: Annotated[
        bool, typer.Option("--integers", help="Send int16 with a slope, for receivers that take no float32.")
    ] = False,
    scan_mib: Annotated[int, typer.Option(min=1, help="Most MiB of lines of a scan.")] = 4096,
    clients: Annotated[int, typer.Option(min=1, help="Connections served at a time; as many more wait.")] = 8,
    idle_seconds: Annotated[
        float, typer.Option(min=0.1, help="A connection without a message for so long is closed.")
    ] = 600.0,
) -> None:
    """Map scans that come over the network: the MRD streaming protocol of FIRE and Open Recon.

    Lines come in, images go out: magnitude, SNR, noise and g-factor, each a series of its own. Clients may choose
    otherwise, within what has a name. Ctrl-C ends the server.
    """
    import asyncio
    import contextlib
    import signal

    from mrnoise.cli.display import OUT
    from mrnoise.cli.scan import coils
    from mrnoise.io.scans.scan_file import given_noise
    from mrnoise.serving import Limits, Parameters, Server

    def report(text: str) -> None:
        OUT.print(text, highlight=False, soft_wrap=True)

    parameters = Parameters(
        reconstruction,
        regularization,
        weights,
        normalization,
        coil_maps,
        method,
        target_error,
        samples,
        control_variate,
        half_precision,
        seed,
        batch_size,
        device,
        preview,
        integers=integers,
    )
    given = given_noise(noise, noise_covariance, coils(drop_coils))
    server = Server(parameters, given, Limits(scan_mib * 2**20, clients, idle_seconds), capture, report)

    async def run() -> None:
        end, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # on Windows
                loop.add_signal_handler(number, end.set)
        listening = await server.listen(host, port)
        for socket in listening.sockets:
            address = socket.getsockname()
            report(f"listening at {address[0]}:{address[1]}")
        await end.wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())
    report("ended")
