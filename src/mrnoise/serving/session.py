"""One connection: messages in, maps out."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.files.text import printable
from mrnoise.io.scans.given_noise import GivenNoise
from mrnoise.io.scans.mrd_header import parse_header
from mrnoise.io.scans.mrd_stream import Line
from mrnoise.serving.arrivals import Arrivals, Place
from mrnoise.serving.capture import LINES_AT_ONCE, Capture
from mrnoise.serving.messages import (
    ACQUISITION,
    CLOSE,
    CLOSING,
    CONFIG_FILE,
    CONFIG_TEXT,
    HEADER,
    IMAGE,
    NAMES,
    TEXT,
    WAVEFORM,
    Message,
    read_message,
    with_text,
)
from mrnoise.serving.parameters import Parameters
from mrnoise.serving.pictures import ROOM, Picture, slope_of
from mrnoise.serving.scan_mapper import ScanMapper
from mrnoise.serving.worker import Worker

# How long a connection is kept for another scan.
NEXT_SCAN_SECONDS = 10.0


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    Parameters
    ----------
    scan_bytes
        Of the lines of a scan.
    clients
        Connections that are served at a time; as many more wait, others are refused.
    idle_seconds
        Without a message, or until a client takes what is sent, after which a connection is closed.

    Examples
    --------
    >>> Limits(clients=2).scan_bytes == 4 * 2**30
    True
    """

    scan_bytes: int = 4 * 2**30
    clients: int = 8
    idle_seconds: float = 600.0


@dataclass(eq=False)
class Session:
    """A connection.

    Parameters
    ----------
    reader, writer
        Of the connection.
    parameters, given, limits
        Of the server.
    capture
        Folder for the raw stream, or none.
    worker
        Who maps.
    report
        Told what happens, for people.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parameters: Parameters
    given: GivenNoise
    limits: Limits
    capture: Path | None
    worker: Worker
    report: Callable[[str], None]
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Serve scans until the connection ends."""
        try:
            if await self._scan(self.limits.idle_seconds):
                with contextlib.suppress(TimeoutError):
                    while await self._scan(NEXT_SCAN_SECONDS):
                        pass
        except InputError as error:
            await self._leave(str(error))
        except asyncio.IncompleteReadError:
            await self._leave("the connection ended within a message")
        except TimeoutError:
            await self._leave(f"nothing came or could be sent for {self.limits.idle_seconds:g} s")
        except ConnectionError as error:
            self.report(f"connection lost: {error}")
        finally:
            self.writer.close()

    async def _leave(self, why: str) -> None:
        self.report(why)
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._say("ERR", why)
            await self._send(CLOSING)

    async def _scan(self, wait: float) -> bool:
        """Take one scan and send its maps; false where there is none."""
        message = await asyncio.wait_for(read_message(self.reader, self.limits.scan_bytes), wait)
        if message is None:
            return False
        scan = _Scan(self)
        try:
            while message.number != CLOSE:
                await scan.take(message)
                reading = read_message(self.reader, self.limits.scan_bytes)
                message = await asyncio.wait_for(reading, self.limits.idle_seconds)
                if message is None:
                    raise ConnectionError("it ended without a close message")
            await scan.end()
        finally:
            await scan.stop()
        await self._send(CLOSING)
        return True

    async def _say(self, level: str, text: str) -> None:
        await self._send(with_text(TEXT, f"{level} {printable(text)}"))

    async def _send(self, content: bytes) -> None:
        async with self._sending:
            self.writer.write(content)
            await asyncio.wait_for(self.writer.drain(), self.limits.idle_seconds)


class _Scan:
    """A scan while it comes in: `take` is fast, the mapping runs beside it."""

    def __init__(self, session: Session) -> None:
        self.session, self.parameters = session, session.parameters
        self.arrivals, self.config = Arrivals(), ""
        self.ignored: dict[int, int] = {}
        self.unwritten: list[Line] = []
        self.capturing = session.capture is not None
        self.xml = ""
        self.to_file: Capture | None = None
        self.complete: asyncio.Queue[Place | None] = asyncio.Queue()
        self.mapper: ScanMapper | None = None
        self.mapping: asyncio.Task[None] | None = None
        self.out: list[Picture | tuple[str, str]] = []
        self.held: list[Picture] = []
        self.slopes: dict[int, float] = {}

    # -- in --------------------------------------------------------------------------------------------------

    async def take(self, message: Message) -> None:
        """One message of the scan."""
        if message.number == ACQUISITION:
            assert message.line is not None
            await self._line(message.line)
        elif message.number == HEADER:
            await self._header(message.text)
        elif message.number == CONFIG_TEXT:
            await self._configuration(message.text)
        elif message.number in (IMAGE, WAVEFORM):
            if message.number not in self.ignored:
                await self._say("WRN", f"{NAMES[message.number]}s are not used: lines are mapped")
            self.ignored[message.number] = self.ignored.get(message.number, 0) + 1
        elif message.number == CONFIG_FILE:
            self.session.report(f"configuration {printable(message.text[:40])}")
        elif message.number == TEXT:
            self.session.report(f"client says: {printable(message.text[:200])}")

    async def _configuration(self, text: str) -> None:
        self.config = text
        if self.mapper is not None:
            await self._say("WRN", "a configuration after the header is not used")
            return
        self.parameters, notes = self.session.parameters.changed(text)
        for note in notes:
            await self._say("WRN", note)

    async def _header(self, text: str) -> None:
        if self.arrivals.header is not None:
            same = text == self.xml
            await self._say("WRN", f"a second header{', the same,' * same} is not used: close ends a scan")
            return
        if self.arrivals.lines:
            await self._say("WRN", f"the header came after {len(self.arrivals.lines)} lines")
        self.xml = text
        await self._keep(lambda file: file.write_header(text, self.config))
        try:
            self.arrivals.header = parse_header(text.encode(), Path("the stream"))
            self.mapper = ScanMapper(self.parameters, self.session.given, self.arrivals, self.out.append, self._later)
        except InputError as error:
            await self._say("ERR", str(error))
            return
        self.mapping = asyncio.create_task(self._map())
        for place in self.arrivals.complete:
            self.complete.put_nowait(place)

    async def _line(self, line: Line) -> None:
        if self.arrivals.n_bytes + line.n_bytes > self.session.limits.scan_bytes:
            raise InputError(
                "the scan is too large",
                expected=f"at most {self.session.limits.scan_bytes} bytes of lines",
                received="more",
                remedy="Send less at a time, or start the server with a larger --scan-mib.",
            )
        found = self.arrivals.add(line)
        if self.mapper is not None:
            for place in found:
                self.complete.put_nowait(place)
        if self.capturing:
            self.unwritten.append(line)
            if len(self.unwritten) >= LINES_AT_ONCE:
                await self._write()

    async def _write(self) -> None:
        if self.unwritten:
            lines, self.unwritten = self.unwritten, []
            await self._keep(lambda file: file.write(lines))

    async def _keep(self, write: Callable[[Capture], None]) -> None:
        """Write into the file of the raw stream; where that fails the scan goes on without it."""
        folder = self.session.capture
        if folder is None or not self.capturing:
            return

        def work() -> None:
            if self.to_file is None:
                self.to_file = Capture(folder)
            write(self.to_file)

        try:
            await asyncio.to_thread(work)
        except (OSError, RuntimeError, InputError) as error:
            self.capturing = False
            await self._say("WRN", f"the raw stream is not kept: {error}")

    # -- mapping ---------------------------------------------------------------------------------------------

    async def _map(self) -> None:
        """Previews first, then maps, while lines come; at the end whatever is left."""
        assert self.mapper is not None
        waiting: deque[Place] = deque()
        ended = False
        while not ended or waiting:
            while not self.complete.empty() or not (waiting or ended):
                place = await self.complete.get()
                if place is None:
                    ended = True
                    continue
                await self._look(place)
                waiting.append(place)
            if waiting:
                place = waiting.popleft()
                if self._as_in_the_whole():
                    await self._work(partial(self.mapper.map_early, place))
        steps: Iterator[None] = self.mapper.finish()
        while await self._work(lambda: next(steps, True) is None):
            pass
        await self._send_held()

    def _as_in_the_whole(self) -> bool:
        """Whether nothing tells so far that more lines of an image, or of noise, come after it."""
        known = self.arrivals.has_noise or bool(self.session.given.scans) or self.session.given.covariance is not None
        return known and self.arrivals.in_order and not self.arrivals.late_noise

    async def _look(self, place: Place) -> None:
        assert self.mapper is not None
        await self._work(partial(self.mapper.look, place, self.arrivals.file(place), self.arrivals.index(place)))

    async def _work(self, work: Callable[[], object]) -> object:
        try:
            return await self.session.worker.do(work)
        finally:
            await self._send_out()

    # -- out -------------------------------------------------------------------------------------------------

    def _later(self, level: str, text: str) -> None:
        """Say what the mapping has to say, from its thread."""
        self.out.append((level, text))

    async def _say(self, level: str, text: str) -> None:
        self.session.report(f"{level} {text}")
        await self.session._say(level, text)

    async def _send_out(self) -> None:
        while self.out:
            one = self.out.pop(0)
            if isinstance(one, tuple):
                await self._say(*one)
            elif not self.parameters.integers:
                await self.session._send(one.message())
            elif one.preview:
                slope = self.slopes.setdefault(one.series, slope_of(ROOM * one.largest))
                await self.session._send(one.message(slope))
            else:
                self.held.append(one)

    async def _send_held(self) -> None:
        """Integers of all of a series have one slope: that of its largest value."""
        for series in dict.fromkeys(picture.series for picture in self.held):
            those = [picture for picture in self.held if picture.series == series]
            slope = slope_of(max(picture.largest for picture in those))
            for picture in those:
                await self.session._send(picture.message(slope))

    # -- end -------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """All lines have come: wait until everything is sent."""
        await self._write()
        for number, count in self.ignored.items():
            await self._say("WRN", f"{count} {NAMES[number]}s were not used")
        if self.mapping is None:
            if self.arrivals.lines and not self.xml:
                await self._say("ERR", f"{len(self.arrivals.lines)} lines came without a header: nothing is mapped")
            return
        if not self.arrivals.images:
            await self._say("WRN", f"none of {len(self.arrivals.lines)} lines is of an image: nothing is mapped")
            return
        for place in self.arrivals.end():
            self.complete.put_nowait(place)
        self.complete.put_nowait(None)
        try:
            await self.mapping
        except (InputError, ArithmeticError, RuntimeError, ValueError, LookupError) as error:
            await self._say("ERR", f"mapping failed: {type(error).__name__}: {error}")
        lines, images = len(self.arrivals.lines), len(self.arrivals.images)
        self.session.report(f"{lines} lines of {images} images mapped")

    async def stop(self) -> None:
        """Whatever happened: what came is in the file, and nothing goes on."""
        if self.mapping is not None:
            self.mapping.cancel()
            await asyncio.gather(self.mapping, return_exceptions=True)
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._write()
