"""`mrnoise review`: a page to walk through maps and measure in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mrnoise.result.noise_map import NoiseMap
    from mrnoise.review import Source


def review(
    maps: Annotated[
        Path, typer.Argument(help="Folder with maps (.h5), in it or below; or one map.", show_default=False)
    ],
    port: Annotated[int, typer.Option(help="Of this machine; 0: any that is free.", min=0, max=65535)] = 0,
    scan: Annotated[
        Path | None,
        typer.Option(
            help="Scan of the maps, or the folder where scans lie, if they are not where mrnoise map found them.",
            show_default=False,
        ),
    ] = None,
    reconstruction: Annotated[
        list[str] | None,
        typer.Option(
            "--reconstruction",
            "-r",
            help="Command, module:name or network file that maps were made by: a map alone may not have them run. Of "
            "a map that does not say how it was made, its reconstruction. May be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Walk through maps in a browser on this machine: image beside σ, SNR and g, two maps compared, regions drawn.

    The σ of a region's mean is exact, by one backward pass through scan and reconstruction, as in mrnoise roi. Ctrl-C
    ends it.
    """
    from mrnoise.cli.display import OUT
    from mrnoise.cli.remake import source_of
    from mrnoise.errors import InputError
    from mrnoise.review import Folder, ReviewServer

    if scan is not None and not scan.exists():
        raise InputError(
            "no such scan",
            expected="a file, or a folder with scans",
            received=f"--scan {scan}",
            remedy="Check the path.",
        )
    folder = Folder(maps)
    held: dict[tuple[str, str | None], Source] = {}

    def find(name: str, nm: NoiseMap) -> Iterator[str | Source]:
        """From memory, if the last region was in the same map."""
        key = (name, nm.provenance.created)
        if key not in held:
            held.clear()
            for step in source_of(nm, folder.maps()[name], scan, reconstruction or []):
                if isinstance(step, str):
                    yield step
                else:
                    held[key] = step
        yield held[key]

    with ReviewServer(folder, find, port) as server:
        OUT.print(f"{len(folder.maps())} maps. Open this address, on this machine only:", highlight=False)
        OUT.print(server.url, highlight=False, soft_wrap=True)
        if left_out := folder.left_out():
            OUT.print(f"left out, since they hold no map: {', '.join(left_out)}", highlight=False, soft_wrap=True)
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            OUT.print("stopped", highlight=False)
