"""`mrnoise reproduce`: the evaluation of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrnoise.cli import options


def reproduce(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Sizes of the paper, for a GPU; or small ones, for two CPU cores.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this table; may be repeated.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with anatomies and measured scans; a generated phantom if left out."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the results.  [default: mrnoise_reproduction]", show_default=False
        ),
    ] = None,
    device: options.Device = "cpu",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Cells at a time.  [default: a core each, on a GPU one]", show_default=False),
    ] = None,
) -> None:
    """Run the evaluation of the paper on the shipped networks: tables as JSON, a report in HTML.

    Stopped at any moment, by Ctrl-C or otherwise, the same command goes on.
    """
    import os

    from mrnoise.cli.display import ERR, OUT, grid_progress, print_written
    from mrnoise.cli.output import INTERRUPTED, check_writable
    from mrnoise.reproduction import cells, possible, run
    from mrnoise.reproduction.page import read_tables, write_page
    from mrnoise.reproduction.tables import TABLES

    size = "full" if full else "quick"
    folder = (output or Path("mrnoise_reproduction")) / size
    everything, chosen = cells(size), possible(cells(size, only or ()), data)
    at_a_time = workers or (1 if device == "cuda" else os.cpu_count() or 1)
    report = folder / "report.html"
    check_writable([report])
    interrupted = False
    try:
        with grid_progress() as progress:
            run(chosen, folder, data, device=device, workers=at_a_time, progress=progress)
    except KeyboardInterrupt:
        interrupted = True
    tables = read_tables(everything, folder)
    if tables:
        write_page(everything, folder, report)
    for name, shards in tables.items():
        OUT.print(f"{TABLES[name].title}: {len(shards)} cells", highlight=False)
    print_written([report] if tables else [])
    if interrupted:
        ERR.print("interrupted: the same command goes on from here", style="yellow")
        raise typer.Exit(INTERRUPTED)
