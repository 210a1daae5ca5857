"""`mrnoise map` from a cold start: this version against another commit, in turns within one run.

    python benchmarks/cold_start.py [--against 77b8665] [--runs 4]

Both map the scan of the demo, one thread, with the packages of this environment; the first run of each, which compiles
its modules, is left out. Seconds of the processor and of the clock, medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
# As the demo does.
SIMULATE = ["simulate", "--matrix", "160,160", "--coils", "8", "--snr", "40", "-R", "2.5", "--calibration", "16"]


def seconds(source: Path, scan: Path, folder: Path) -> tuple[float, float]:
    """Of the processor and of the clock, of one process with the package in ``source``."""
    before, clock = os.times(), time.monotonic()
    run_command(["map", str(scan), "-o", str(folder / "maps")], source, folder)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4]), time.monotonic() - clock


def run_command(arguments: list[str], source: Path, folder: Path) -> None:
    """`mrnoise` with these arguments, in a process of its own that keeps what it compiles."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    command = [sys.executable, "-c", "from mrnoise.cli.main import run; run()", *arguments]
    subprocess.run(command, check=True, env=environment, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="77b8665", help="commit of this repository")
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = folder / "other"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", other, options.against], cwd=ROOT, check=True)
        try:
            scan = folder / "scan.npz"
            run_command([*SIMULATE, str(scan)], ROOT / "src", folder)
            sources = {"this": ROOT / "src", options.against: other / "src"}
            found: dict[str, list[tuple[float, float]]] = {version: [] for version in sources}
            for _ in range(1 + options.runs):
                for version, source in sources.items():
                    found[version].append(seconds(source, scan, folder))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)
    middle = {version: [median(times) for times in zip(*runs[1:], strict=True)] for version, runs in found.items()}
    for version, (processor, clock) in middle.items():
        print(f"{version}: {processor:.2f} s of the processor, {clock:.2f} s")
    ratios = [a / b for a, b in zip(middle["this"], middle[options.against], strict=True)]
    print(f"ratio {ratios[0]:.2f}, {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
