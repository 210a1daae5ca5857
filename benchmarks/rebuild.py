"""Speed beside another commit: the race of `auto`, a stack of slices, the preflight, the first map of a process.

    python benchmarks/rebuild.py [--base 77b8665] [--only ROW ...] [--repeats 3] [--json FILE] [--quick]

Each measurement is a fresh process of one thread, in turn with the sources of the base commit and with those of this
checkout. Seconds are those of the process at work; peak memory is that of the process. Ratios are new over base, the
median over repeats with the smallest and the largest. "stack / singles" is one map of 20 slices by this checkout over
20 single maps by the base, "stack / stack" over one map of the stack by the base.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKER = """
import json, resource, sys, time
started = time.process_time()
import numpy as np, torch
torch.set_num_threads(1)
import mrnoise
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.simulation import simulate
try:
    from mrnoise.sampling import poisson_disc, random_1d
    from mrnoise.calibration import with_coil_maps
except ImportError:
    from mrnoise.acquisition.sampling import poisson_disc, random_1d
    from mrnoise.acquisition import with_coil_maps

def lines(shape, n=4, width=8):
    return random_1d(shape, n, width, 0)

def every(shape, n):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[::n] = True
    return mask

def scan(shape, mask, **more):
    return simulate(shape, 8, snr=50, seed=0, **more).undersample(mask)

def network(name):
    return mrnoise.networks.pretrained(name)

def seconds(work):
    begin = time.process_time()
    work()
    return time.process_time() - begin

def mapped(reconstruction, acquisition, warm=True):
    if warm:
        first = next(iter(acquisition.slices()))
        mrnoise.noise_map(reconstruction, first, method="sketch", n_samples=2)
    return seconds(lambda: mrnoise.noise_map(reconstruction, acquisition, target_error=0.03, seed=0))

def singles(reconstruction, acquisition):
    mapped(reconstruction, next(iter(acquisition.slices())))
    return sum(mapped(reconstruction, one, warm=False) for one in acquisition.slices())

def preflights(reconstruction, acquisition, n=5):
    def once():
        for operator in mrnoise.linearization.linearize(reconstruction, acquisition):
            # What a map by auto asks for, and the check at its end; the base finds out everything at once.
            operator.preflight.jvp_mode, operator.complex_linear
            getattr(operator, "check_unchanged", lambda: None)()
    import mrnoise.linearization
    once()
    return min(seconds(once) for _ in range(n))

def first_map():
    shape = (160, 128)
    mask = every(shape, 3)
    mask[68:92] = True
    acquisition = with_coil_maps(simulate(shape, 8, snr=25, seed=0).replace(coil_maps=None)).undersample(mask)
    mrnoise.noise_map(CgSense(1e-2), acquisition, target_error=0.03, seed=0)
    return time.process_time() - started

row, slices, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
S, SMALL, STACK = (80, 64), (56, 48), (side, side)
poisson = lambda: poisson_disc(SMALL, 4, 8, seed=0)
rows = {
    "race sense R=4": lambda: mapped(Sense(), scan(S, every(S, 4))),
    "race cg-sense random 1D": lambda: mapped(CgSense(1e-2), scan(SMALL, lines(SMALL))),
    "race n2r R=4": lambda: mapped(network("n2r"), scan(S, lines(S))),
    "race varnet R=4": lambda: mapped(network("varnet"), scan(S, lines(S))),
    "race measured brain": lambda: mapped(network("n2r"), measured()),
    "cg-sense stack": lambda: mapped(CgSense(1e-2), scan(STACK, lines(STACK, 4, 24), n_slices=slices)),
    "cg-sense singles": lambda: singles(CgSense(1e-2), scan(STACK, lines(STACK, 4, 24), n_slices=slices)),
    "varnet stack": lambda: mapped(network("varnet"), scan(STACK, lines(STACK, 4, 24), n_slices=slices)),
    "varnet singles": lambda: singles(network("varnet"), scan(STACK, lines(STACK, 4, 24), n_slices=slices)),
    "preflight cg-sense": lambda: preflights(CgSense(1e-2), scan(SMALL, poisson())),
    "preflight varnet": lambda: preflights(network("varnet"), scan(S, lines(S))),
    "first map": first_map,
}

def measured():
    kspace = torch.from_numpy(np.load(sys.argv[4])["kspace"])
    from mrnoise.acquisition import Acquisition
    try:
        from mrnoise.acquisition import estimate_noise_covariance
    except ImportError:
        from mrnoise.acquisition.noise_estimation import estimate_noise_covariance
    whole = with_coil_maps(Acquisition(kspace, estimate_noise_covariance(kspace)))
    return whole.undersample(poisson_disc((128, 128), 4, 20, seed=0))

spent = rows[row]()
print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
# Row of the table: the measurement with this checkout, that with the base, and the goal.
ROWS = {
    "race, SENSE R = 4": ("race sense R=4", "race sense R=4", 1.0),
    "race, CG-SENSE random 1D": ("race cg-sense random 1D", "race cg-sense random 1D", 1.0),
    "race, N2R R = 4": ("race n2r R=4", "race n2r R=4", 1.0),
    "race, VarNet R = 4": ("race varnet R=4", "race varnet R=4", 1.0),
    "race, measured brain": ("race measured brain", "race measured brain", 1.0),
    "CG-SENSE, stack / singles": ("cg-sense stack", "cg-sense singles", 0.6),
    "CG-SENSE, stack / stack": ("cg-sense stack", "cg-sense stack", None),
    "VarNet, stack / singles": ("varnet stack", "varnet singles", 0.85),
    "preflight, CG-SENSE": ("preflight cg-sense", "preflight cg-sense", 0.5),
    "preflight, VarNet": ("preflight varnet", "preflight varnet", 0.5),
    "import and first map": ("first map", "first map", 0.7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="77b8665")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--matrix", type=int, default=160)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="Stacks of 3 slices of 64×64, once.")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.slices, options.matrix = 1, 3, 64
    record = {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        git = ["git", "-C", str(ROOT)]
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(base), options.base], check=True)
        try:
            print("| row | new / base | seconds, base → new | peak memory, new / base | goal |\n|---|---|---|---|---|")
            for name in options.only:
                if "brain" in name and not (options.data / "cima16_brain.npz").exists():
                    continue
                record[name] = measure(*ROWS[name][:2], base, options)
                print(shown(name, record[name], ROWS[name][2]), flush=True)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(base)], check=True)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def measure(new: str, old: str, base: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds and MiB of both, in turn."""
    found: dict[str, list[float]] = {"base seconds": [], "seconds": [], "base memory": [], "memory": []}
    for _ in range(options.repeats):
        for prefix, source, row in (("base ", base, old), ("", ROOT, new)):
            words = [row, str(options.slices), str(options.matrix), str(options.data / "cima16_brain.npz")]
            environment = os.environ | {"PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, "-c", WORKER, *words], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{row} with {source}: {done.stderr[-2000:]}")
            seconds, memory = json.loads(done.stdout.splitlines()[-1])
            found[f"{prefix}seconds"].append(seconds)
            found[f"{prefix}memory"].append(memory)
    return found


def shown(name: str, found: dict[str, list[float]], goal: float | None) -> str:
    """A row of the table."""
    ratios = [new / old for new, old in zip(found["seconds"], found["base seconds"], strict=True)]
    memory = [new / old for new, old in zip(found["memory"], found["base memory"], strict=True)]
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    before, after = (statistics.median(found[key]) for key in ("base seconds", "seconds"))
    wanted = "" if goal is None else f"≤ {goal:g}"
    return (
        f"| {name} | {statistics.median(ratios):.2f}{spread} | {before:.3g} → {after:.3g} | "
        f"{statistics.median(memory):.2f} | {wanted} |"
    )


if __name__ == "__main__":
    main()
