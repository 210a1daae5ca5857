"""An MRD streaming server: scans in, noise maps out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.files.atomic import check_writable
from mrnoise.io.scans.given_noise import NOTHING_GIVEN, GivenNoise
from mrnoise.serving.messages import CLOSING, TEXT, with_text
from mrnoise.serving.parameters import Parameters
from mrnoise.serving.session import Limits, Session
from mrnoise.serving.worker import Worker

LOOPBACK, PORT = "127.0.0.1", 9002


@dataclass(eq=False)
class Server:
    """Takes connections of the MRD streaming protocol (FIRE, Open Recon) and sends the noise map of each scan back.

    Parameters
    ----------
    parameters
        How scans are mapped where a client does not say so.
    given
        What is given on noise beside the lines.
    limits
        What it takes on.
    capture
        Folder that keeps the raw stream of each scan; ``None``: nothing is kept.
    report
        Told what happens, for people.

    Examples
    --------
    >>> async def address():
    ...     async with await Server().listen("127.0.0.1", 0) as listening:
    ...         return listening.sockets[0].getsockname()[0]
    >>> asyncio.run(address())
    '127.0.0.1'
    """

    parameters: Parameters = field(default_factory=Parameters)
    given: GivenNoise = NOTHING_GIVEN
    limits: Limits = field(default_factory=Limits)
    capture: Path | None = None
    report: Callable[[str], None] = lambda text: None

    async def listen(self, host: str = LOOPBACK, port: int = PORT) -> asyncio.Server:
        """Begin to listen.

        Raises
        ------
        InputError
            If the address cannot be had, parameters make no sense, or the folder cannot be written.
        """
        self.parameters.made()
        self.parameters.check_taken()
        if self.capture is not None:
            check_writable(self.capture / "scan.h5")
        self._worker, self._clients, self._number = Worker(), 0, 0
        self._places = asyncio.Semaphore(self.limits.clients)
        try:
            return await asyncio.start_server(self._serve, host, port, limit=2**20)
        except (OSError, OverflowError, socket.gaierror) as error:
            raise InputError(
                "cannot listen",
                expected="a port that is free, 0 to 65535, of an address of this computer",
                received=f"{host}:{port} ({error.strerror if isinstance(error, OSError) else error})",
                remedy="End the program that has it, or choose another --port.",
            ) from error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._number += 1
        number, peer = self._number, writer.get_extra_info("peername")

        def report(text: str) -> None:
            self.report(f"[{number}] {text}")

        most = self.limits.clients
        if self._clients >= 2 * most:
            report("refused: too many connections")
            writer.write(with_text(TEXT, f"ERR busy: {most} connections are served, {most} wait") + CLOSING)
            writer.close()
            return
        self._clients += 1
        report(f"connection from {peer[0]}" if peer else "connection")
        try:
            session = Session(
                reader, writer, self.parameters, self.given, self.limits, self.capture, self._worker, report
            )
            async with self._places:
                await session.run()
        except asyncio.CancelledError:  # the server ends
            writer.close()
        except Exception as error:  # a fault in here ends this connection, not the server
            report(f"fault: {type(error).__name__}: {error}")
            writer.close()
        finally:
            self._clients -= 1
            report("closed")
