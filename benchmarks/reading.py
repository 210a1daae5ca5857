"""Time and peak memory of reading an MRD file, in those of its bytes through h5py.

    python benchmarks/reading.py [--slices 65] [--folder FOLDER] [--json FILE]

A simulated scan, 20 coils × 320 lines × 640 samples a slice with a noise scan, written line by line with `ismrmrd` as
converters do: 65 slices are 2 GiB. Every reading has a process of its own, so that its peak is its own. h5py and
mrnoise take turns after one reading that fills the cache of the file system; ratios are those of the medians, of
seconds on the clock and of the processor. ``removed``: the header has half the field of view along the readout, to
which the readout is cut by Fourier transforms.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COILS, LINES, SAMPLES, NOISE_LINES = 20, 320, 640, 32
ROUNDS = 3
READERS = ("h5py", "read", "info")
HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>123000000</H1resonanceFrequency_Hz></experimentalConditions>
<encoding><trajectory>cartesian</trajectory>
<encodedSpace><matrixSize><x>{samples}</x><y>{lines}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{samples}</x><y>{lines}</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{kept}</x><y>{lines}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{kept}</x><y>{lines}</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
</kspace_encoding_step_1></encodingLimits></encoding>
</ismrmrdHeader>"""


def write(path: Path, n_slices: int, removed: bool) -> None:
    import ismrmrd
    import numpy as np

    rng = np.random.default_rng(0)
    decay = 1 / (1 + np.abs(np.arange(SAMPLES) - SAMPLES // 2))
    with contextlib.closing(ismrmrd.Dataset(str(path))) as file:
        kept = SAMPLES // 2 if removed else SAMPLES
        sizes = {"samples": SAMPLES, "lines": LINES, "kept": kept, "last": LINES - 1, "centre": LINES // 2}
        file.write_xml_header(HEADER.format(**sizes))
        for number in range(NOISE_LINES + n_slices * LINES):
            image = number - NOISE_LINES
            values = rng.standard_normal((COILS, 2 * SAMPLES), np.float32).view(np.complex64)
            if image >= 0:
                values += (1000 * decay / (1 + abs(image % LINES - LINES // 2))).astype(np.float32)
            line = ismrmrd.Acquisition.from_array(values)
            line.sample_time_us, line.center_sample = 5.0, SAMPLES // 2
            line.read_dir[0] = line.phase_dir[1] = line.slice_dir[2] = 1
            if image < 0:
                line.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
            else:
                line.idx.slice, line.idx.kspace_encode_step_1 = divmod(image, LINES)
                line.position[2] = 5.0 * line.idx.slice
            file.append_acquisition(line)


def measure(reader: str, path: Path, small: Path) -> dict[str, float]:
    """Seconds, and how much more memory the process held at its peak than before (MiB)."""
    import h5py
    import psutil

    from mrnoise.cli.info import info
    from mrnoise.io import read

    def bytes_of_it(path: Path) -> None:
        with h5py.File(path) as file:
            file["dataset/data"][:]

    def table(path: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            info(path)

    work = {"h5py": bytes_of_it, "read": read, "info": table}[reader]
    work(small)  # imports
    before = psutil.Process().memory_info().rss
    started = time.perf_counter(), time.process_time()
    work(path)
    seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu": cpu, "mib": (peak - before) / 2**20}


def in_own_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "{}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=65)
    parser.add_argument("--folder", type=Path, help="for the file; else that of the system")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", nargs="+")
    options = parser.parse_args()
    if options.case:
        kind, path, *rest = options.case
        if kind == "write":
            write(Path(path), int(rest[0]), rest[1] == "removed")
        else:
            print(json.dumps(measure(kind, Path(path), Path(rest[0]))))
        return

    print("| oversampling | k-space | | seconds | / h5py | processor / h5py | peak memory / k-space |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for oversampling in ("none", "removed"):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path, small = (str(Path(folder) / name) for name in ("scan.h5", "small.h5"))
            in_own_process("write", path, str(options.slices), oversampling)
            in_own_process("write", small, "1", oversampling)
            in_own_process("h5py", path, small)
            turns = [{reader: in_own_process(reader, path, small) for reader in READERS} for _ in range(ROUNDS)]
        kspace = options.slices * COILS * LINES * SAMPLES * 8 / 2**20 / (2 if oversampling == "removed" else 1)
        median = {
            (reader, what): statistics.median(turn[reader][what] for turn in turns)
            for reader in READERS
            for what in ("seconds", "cpu", "mib")
        }
        for reader in READERS:
            row = {
                "oversampling": oversampling,
                "kspace_mib": kspace,
                "reader": reader,
                "seconds": median[reader, "seconds"],
                "ratio": median[reader, "seconds"] / median["h5py", "seconds"],
                "cpu_ratio": median[reader, "cpu"] / median["h5py", "cpu"],
                "memory": median[reader, "mib"] / kspace,
            }
            rows.append(row)
            print(
                f"| {oversampling} | {kspace:.0f} MiB | {reader} | {row['seconds']:.2f} | {row['ratio']:.2f} "
                f"| {row['cpu_ratio']:.2f} | {row['memory']:.2f} |",
                flush=True,
            )
    if options.json:
        record = {"cores": os.cpu_count(), "slices": options.slices, "rows": rows}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
