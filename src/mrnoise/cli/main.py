"""The `mrnoise` command."""

from __future__ import annotations

import io
import signal
import sys
from typing import Annotated

import typer

from mrnoise.cli.compare import compare
from mrnoise.cli.demo import demo
from mrnoise.cli.evaluate import evaluate
from mrnoise.cli.export import export
from mrnoise.cli.gfactor import gfactor
from mrnoise.cli.info import info
from mrnoise.cli.map import map_
from mrnoise.cli.output import INTERRUPTED
from mrnoise.cli.qa import qa
from mrnoise.cli.rank import rank
from mrnoise.cli.reproduce import reproduce
from mrnoise.cli.review import review
from mrnoise.cli.roi import roi
from mrnoise.cli.send import send
from mrnoise.cli.serve import serve
from mrnoise.cli.simulate import simulate
from mrnoise.cli.train import train
from mrnoise.errors import InputError

app = typer.Typer(
    name="mrnoise",
    help="Noise maps for any MRI reconstruction, with an error bar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="demo")(demo)
app.command(name="map")(map_)
app.command(name="gfactor")(gfactor)
app.command(name="roi")(roi)
app.command(name="compare")(compare)
app.command(name="review")(review)
app.command(name="export")(export)
app.add_typer(rank, name="rank")
app.command(name="qa")(qa)
app.command(name="simulate")(simulate)
app.command(name="train")(train)
app.command(name="evaluate")(evaluate)
app.command(name="reproduce")(reproduce)
app.command(name="serve")(serve)
app.command(name="send")(send)
app.command(name="info")(info)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"mrnoise {version('mrnoise')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Noise maps for any MRI reconstruction, with an error bar."""


def run() -> None:
    """Entry point: bad input is one line and exit code 2; Ctrl-C, or being told to terminate, is exit code 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app()
    except InputError as error:
        typer.secho(f"mrnoise: {error}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("mrnoise: interrupted before there was anything to write", err=True)
        sys.exit(INTERRUPTED)
