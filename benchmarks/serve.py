"""A server beside `mrnoise map`: when previews and maps of a stream leave it, and what the stream costs.

    python benchmarks/serve.py [--reconstruction cg-sense] [--slices 20] [--threads 1] [--json FILE]

One slice of 192 × 144 in 14 coils, every third line and 24 for calibration: seconds from its last line to its preview
and to its certified map. Then a stream of slices, sent as fast as it is taken, against `mrnoise map` on the
file of the same lines: a process from its start to its end, one .h5 written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mrnoise.io import read_noise_map
from mrnoise.io.scans.mrd_stream import HEAD, Line
from mrnoise.sampling import equispaced
from mrnoise.serving import Parameters, Server
from mrnoise.serving.arrivals import LAST_IN_SLICE
from mrnoise.serving.capture import Capture
from mrnoise.serving.messages import (
    CLOSE,
    CLOSING,
    HEADER,
    IMAGE,
    TEXT,
    ReceivedImage,
    read_message,
    with_line,
    with_text,
)
from mrnoise.simulation import simulated_head

SHAPE, COILS, SPACING, CALIBRATION, SNR = (192, 144), 14, 3, 24, 40
NOISE_FLAG, NOISE_SAMPLES = 19, 4096


def line(samples: np.ndarray, flags: tuple[int, ...] = (), position: float = 0.0, **counters: int) -> Line:
    """A line of (coil, sample)."""
    head = np.zeros(1, HEAD)
    head["version"], head["flags"] = 1, sum(1 << (flag - 1) for flag in flags)
    head["active_channels"], head["number_of_samples"] = samples.shape
    head["available_channels"], head["center_sample"] = samples.shape[0], samples.shape[1] // 2
    head["sample_time_us"] = 5.0
    head["position"][0, 2] = position
    head["read_dir"][0, 0] = head["phase_dir"][0, 1] = head["slice_dir"][0, 2] = 1
    for name, value in counters.items():
        head["idx"][name] = value
    return Line(head.tobytes(), b"", np.ascontiguousarray(samples, np.complex64).tobytes())


def header(shape: tuple[int, int], slices: int, repetitions: int = 1) -> str:
    """XML of a Cartesian scan of slices."""
    ny, nx = shape
    sizes = f"<matrixSize><x>{nx}</x><y>{ny}</y><z>1</z></matrixSize>"
    space = f"{sizes}<fieldOfView_mm><x>{1.5 * nx}</x><y>{1.5 * ny}</y><z>5</z></fieldOfView_mm>"
    counts = {"kspace_encoding_step_1": ny, "slice": slices, "repetition": repetitions}
    limits = "".join(
        f"<{name}><minimum>0</minimum><maximum>{n - 1}</maximum><center>{n // 2 if n == ny else 0}</center></{name}>"
        for name, n in counts.items()
    )
    return (
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"<encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace>"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def scan(
    shape: tuple[int, int], coils: int, slices: int, spacing: int, calibration: int, repetitions: int = 1, seed: int = 0
) -> tuple[str, list[Line]]:
    """Header and lines of a head: noise first, then slice by slice."""
    mask = equispaced(shape, spacing, calibration=calibration)
    head = simulated_head(shape, coils, n_slices=slices, mask=mask, snr=SNR)
    lines = [line(head.noise_scan(NOISE_SAMPLES, seed).numpy(), (NOISE_FLAG,))]
    rows = mask.any(1).nonzero().flatten().tolist()
    for repetition in range(repetitions):
        kspace = head.acquire(seed + repetition).kspace.reshape(slices, coils, *shape).numpy()
        for number, one in enumerate(kspace):
            for row in rows:
                flags = (LAST_IN_SLICE,) if row == rows[-1] else ()
                steps = {"kspace_encode_step_1": row, "slice": number, "repetition": repetition}
                lines.append(line(one[:, row], flags, 5.0 * number, **steps))
    return header(shape, slices, repetitions), lines


@contextmanager
def served(server: Server) -> Iterator[int]:
    """A server in a thread of its own; its port."""
    ready, found = threading.Event(), {}

    async def run() -> None:
        listening = await server.listen("127.0.0.1", 0)
        found["port"], found["loop"] = listening.sockets[0].getsockname()[1], asyncio.get_running_loop()
        found["stop"] = asyncio.Event()
        ready.set()
        await found["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield found["port"]
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join()


async def replay(
    port: int, xml: str, lines: list[Line], say: Callable[[str], None] = lambda text: None
) -> tuple[float, list[tuple[float, ReceivedImage]]]:
    """When the last line was sent, and when each image came, in seconds from the first message."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started, came = time.perf_counter(), []

    async def listen() -> None:
        while (message := await read_message(reader)) is not None and message.number != CLOSE:
            if message.number == IMAGE:
                came.append((time.perf_counter() - started, message.image))
            elif message.number == TEXT:
                say(message.text)

    listening = asyncio.create_task(listen())
    writer.write(with_text(HEADER, xml))
    for one in lines:
        writer.write(with_line(one))
        await writer.drain()
    last = time.perf_counter() - started
    writer.write(CLOSING)
    await writer.drain()
    await listening
    writer.close()
    return last, came


def of(came: list[tuple[float, ReceivedImage]], status: str) -> list[tuple[float, ReceivedImage]]:
    return [one for one in came if one[1].attribute("mrnoise_status") == status]


def one_slice(port: int) -> dict[str, float]:
    """Seconds from the last line to the last picture of the preview, and of the map."""
    xml, lines = scan(SHAPE, COILS, 1, SPACING, CALIBRATION, seed=1)
    last, came = asyncio.run(replay(port, xml, lines))
    preview, certified = (max(t for t, _ in of(came, status)) - last for status in ("preview", "certified"))
    return {"preview_seconds": preview, "map_seconds": certified, "ratio": preview / certified}


def stream(port: int, slices: int, folder: Path, threads: int, reconstruction: str) -> dict[str, float]:
    """Seconds until the last certified map of a stream, and of `mrnoise map` on its file."""
    xml, lines = scan(SHAPE, COILS, slices, SPACING, CALIBRATION)
    file = Capture(folder)
    file.write(lines)
    file.write_header(xml, "")
    _, came = asyncio.run(replay(port, xml, lines))
    certified = of(came, "certified")
    target = folder / "map.h5"
    started = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "mrnoise",
        "map",
        str(file.path),
        "-r",
        reconstruction,
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    seconds = time.perf_counter() - started
    nm = read_noise_map(target)
    same = sum(
        np.array_equal(
            image.values[0, 0],
            nm.quantity(image.attribute("mrnoise_quantity"))
            .reshape(slices, *SHAPE)[int(image.head["slice"])]
            .numpy()
            .astype("<f4"),
            equal_nan=True,
        )
        for _, image in certified
    )
    return {
        "slices": slices,
        "stream_seconds": max(t for t, _ in certified),
        "map_seconds": seconds,
        "ratio": max(t for t, _ in certified) / seconds,
        "first_certified_seconds": min(t for t, _ in certified),
        "images": len(certified),
        "images_with_the_bits_of_the_map": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reconstruction", default="cg-sense")
    parser.add_argument("--slices", type=int, default=20, help="0: the slice alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {}
    with served(Server(Parameters(options.reconstruction))) as port, tempfile.TemporaryDirectory() as folder:
        one_slice(port)  # imports and caches
        found["slice"] = one_slice(port)
        print(found["slice"])
        if options.slices:
            found["stream"] = stream(port, options.slices, Path(folder), options.threads, options.reconstruction)
            print(found["stream"])
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
