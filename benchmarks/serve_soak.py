"""A server for a long time: replays, damaged and cut messages, connections that drop; memory and lost slices.

    python benchmarks/serve_soak.py [--seconds 3600] [--malformed 10000] [--good 2] [--json FILE] [--log FILE]

The server is a process of its own. Good clients replay scans one after the other; every image of every replay is
compared with the first one, bit for bit. Beside them four clients send damaged messages, at a rate that spreads them
over the time, and one leaves in the middle of scans. Memory is that of the process, from its size after a tenth of the
time on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from serve import of, replay, scan

from mrnoise.io.scans.mrd_stream import Line
from mrnoise.serving.messages import CLOSING, HEADER, TEXT, with_line, with_text

SHAPE, COILS, SLICES, SPACING, CALIBRATION = (32, 24), 3, 2, 2, 12
QUANTITIES, SENDERS = 4, 4


class Soak:
    """What is counted."""

    def __init__(self, port: int, process: psutil.Process, end: float) -> None:
        self.port, self.process, self.end = port, process, end
        self.xml, self.lines = scan(SHAPE, COILS, SLICES, SPACING, CALIBRATION)
        self.first: dict[tuple[str, int], bytes] = {}
        self.replays = self.lost = self.different = self.malformed = self.dropped = 0
        self.memory: list[tuple[float, float]] = []

    @property
    def going_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.end

    async def good(self) -> None:
        """Replay after replay."""
        while self.going_on:
            texts: list[str] = []
            try:
                _, came = await replay(self.port, self.xml, self.lines, texts.append)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                came = []
                texts.append(repr(error))
            self.replays += 1
            images = [image for _, image in of(came, "certified")]
            if missing := SLICES * QUANTITIES - len(images):
                self.lost += missing
                print(f"{missing} images lost: {texts}", flush=True)
            for image in images:
                key = (image.attribute("mrnoise_quantity"), int(image.head["slice"]))
                content = image.values.tobytes()
                self.different += self.first.setdefault(key, content) != content

    async def damaged(self, count: int, pause: float, seed: int) -> None:
        """Messages that are cut, changed or none, one a connection."""
        rng = random.Random(seed)
        whole = with_text(HEADER, self.xml) + b"".join(map(with_line, self.lines[:6])) + CLOSING
        for _ in range(count):
            if not self.going_on:
                return
            content = bytearray(whole)
            kind = rng.randrange(4)
            if kind == 0:
                content = content[: rng.randrange(1, len(content))]
            elif kind == 1:
                for _ in range(rng.randrange(1, 8)):
                    content[rng.randrange(len(content))] = rng.randrange(256)
            elif kind == 2:
                content = bytearray(rng.randbytes(rng.randrange(1, 600)))
            else:
                content = bytearray(struct.pack("<HI", rng.choice((2, 3, TEXT)), rng.randrange(2**32))) + content
            await self.talk(bytes(content), wait=rng.random() < 0.5)
            self.malformed += 1
            await asyncio.sleep(pause * rng.random() * 2)

    async def leaving(self, seed: int) -> None:
        """A client that leaves in the middle of scans."""
        rng = random.Random(seed)
        while self.going_on:
            some: list[Line] = self.lines[: rng.randrange(len(self.lines))]
            await self.talk(with_text(HEADER, self.xml) + b"".join(map(with_line, some)), wait=False)
            self.dropped += 1
            await asyncio.sleep(rng.random())

    async def talk(self, content: bytes, *, wait: bool) -> None:
        """Send something, and wait for the end of the connection or not."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with suppress(OSError, TimeoutError):  # the server may have ended it
            writer.write(content)
            await writer.drain()
            if wait:
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 60)
        writer.close()

    async def watch(self) -> None:
        """The memory of the server."""
        started = time.monotonic()
        while self.going_on:
            self.memory.append((time.monotonic() - started, self.process.memory_info().rss / 2**20))
            await asyncio.sleep(min(10.0, max(0.5, (self.end - started) / 200)))

    async def run(self, malformed: int, good: int, seconds: float) -> None:
        """All of them at once."""
        await asyncio.gather(
            *(self.good() for _ in range(good)),
            *(self.damaged(malformed // SENDERS, 0.8 * seconds * SENDERS / malformed, seed) for seed in range(SENDERS)),
            self.leaving(seed=SENDERS),
            self.watch(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--malformed", type=int, default=10_000)
    parser.add_argument("--good", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="what the server says")
    options = parser.parse_args()
    command = [sys.executable, "-m", "mrnoise", "serve", "--port", "0"]
    with tempfile.TemporaryFile("w+") as said, options.log.open("w") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment)
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        drained = threading.Thread(target=lambda: log.writelines(process.stdout or ()))
        drained.start()
        soak = Soak(port, psutil.Process(process.pid), time.monotonic() + options.seconds)
        try:
            asyncio.run(soak.run(options.malformed, options.good, options.seconds))
            alive = process.poll() is None
        finally:
            process.terminate()
            process.wait(60)
            drained.join()
        said.seek(0)
        errors = said.read()
        log.write(errors)
    tenth = max(1, len(soak.memory) // 10)
    tenths = [[mib for _, mib in soak.memory[first : first + tenth]] for first in range(0, 10 * tenth, tenth)]
    before, after = (sum(mib) / len(mib) for mib in (tenths[1], tenths[-1]))
    found = {
        "seconds": options.seconds,
        "replays": soak.replays,
        "lost_images": soak.lost,
        "different_images": soak.different,
        "malformed": soak.malformed,
        "dropped": soak.dropped,
        "mib_after_a_tenth": before,
        "mib_at_the_end": after,
        "growth": after / before - 1,
        "mib_of_each_tenth": [round(sum(mib) / len(mib), 1) for mib in tenths],
        "alive": alive,
        "tracebacks": errors.count("Traceback"),
        "exit_code": process.returncode,
    }
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
