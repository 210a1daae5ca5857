"""Seconds to an error of σ of 3 %, all methods in one run: those of mrnoise and their peers.

    python benchmarks/estimators.py [--figure docs/estimators.png] [--data FOLDER] [--only CASE ...] [--quick]

Cases: SENSE and CG-SENSE, shipped brain networks on a simulated scan, and with ``--data`` a measured one. The error is
the root mean square of σ̂/σ - 1 inside the object. The reference σ is the closed form of SENSE and CG-SENSE, else that
of ``--reference`` samples of other seeds with control variates, whose own variance is subtracted: of a sketch for
methods that know noise to first order, of replicas for those that take replicas.

Seconds are those of one thread at work: a clock on the wall also measures what else a machine does.

Every method has a process of its own, one at a time, so that its memory and the state of its allocator are its own. It
first reconstructs (the unit of cost), then warms up. Ours run through `noise_map` as a user runs them: asked for 3 %,
which they certify with 95 % probability, preflight and check of linearity included. Peers, those of `peers.py`, certify
nothing: they take 64 and 256 samples, PICO and XDiag 16 and 64, and are given the number of samples whose real error is
3 %, interpolated in log-log, ∝ error⁻² beyond the last, their seconds linear in samples, never below those of the
fewest samples taken. A run shorter than 10 s is repeated with two other seeds: median of the seconds, root mean square
of the errors. Peak memory is that of the process above the peak of one reconstruction; for it, the sketch takes the
numbers of samples of the peers too. The call of "paper" grows with S; from where it would exceed 8 GiB, or half of what
is free, it is extrapolated.

Results are written after every method, and found ones not repeated (``--again`` does) unless scan, reconstruction,
reference or numbers of samples changed. References are kept in benchmarks/out, and gone on with after an interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from mrnoise import Acquisition
    from mrnoise.reconstruction import Reconstruction

ROOT = Path(__file__).resolve().parents[1]
JSON, DATA, OUT = (ROOT / "benchmarks/results/estimators.json", ROOT.parent / "shared/data", ROOT / "benchmarks/out")
REAL = "cima16_brain.npz"

MATRIX, SMALL, COILS, SNR, SEED = (80, 64), (56, 48), 8, 50.0, 0
TARGET = 0.03
# Samples of peers, multiples of the batches that vectorised methods take.
CHECKPOINTS, FEW_CHECKPOINTS = (64, 256), (16, 64)
REFERENCE, FEW_REFERENCE, REFERENCE_BLOCK, REFERENCE_SEED = 20_000, 512, 500, 10_000
WARM_UP, RECONSTRUCTIONS = 8, 5
SHORT, REPEATS = 10.0, 3  # seconds
LARGEST_CALL = 8 * 2**30
SMALLEST_ERROR = 1e-4  # of the figure

OURS = {
    "sketch": {"method": "sketch"},
    "sketch + cv": {"method": "sketch", "control_variate": True},
    "half precision": {"method": "sketch", "half_precision": True},
    "half precision + cv": {"method": "sketch", "half_precision": True, "control_variate": True},
    "replicas of ours": {"method": "monte_carlo"},
    "replicas of ours + cv": {"method": "monte_carlo", "control_variate": True},
    "coloured": {"method": "coloured"},
    "lattice": {"method": "lattice"},
    "auto": {"method": "auto"},
}
PEERS = ("paper", "replicas", "batched replicas", "pico", "xdiag")
METHODS = (*OURS, *PEERS)
# Of noise, and the method of its reference.
MODELS = {"first order": "sketch", "replicas": "monte_carlo"}
COSTLY = ("pico", "xdiag")


# -- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One panel.

    Parameters
    ----------
    reconstruction
        ``"sense"``, ``"cg-sense"`` or the name of a shipped network.
    sampling
        Pattern and acceleration; the patterns of `mrnoise.sampling.sampling_mask` have calibration lines,
        ``"regular"`` and ``"caipi"`` have none.
    shape
        k-space (k1, k0); ``None``: that of the measured scan.
    xdiag
        Whether to run XDiag too, whose memory and linear algebra grow with its probes.
    """

    reconstruction: str
    sampling: str
    acceleration: int
    shape: tuple[int, int] | None = MATRIX
    xdiag: bool = False

    @property
    def linear(self) -> bool:
        """Whether the reconstruction is complex-linear."""
        return self.reconstruction in ("sense", "cg-sense")

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that can be run."""
        alias_sets = self.sampling in ("regular", "caipi") or (self.linear and self.sampling == "random_1d")
        without = set() if alias_sets else {"lattice"}
        without |= {"half precision", "half precision + cv"} if self.linear else set()
        # Minutes for what loses with cheaper networks already.
        without |= {"coloured"} if self.sampling != "regular" and self.reconstruction in ("varnet", "modl") else set()
        return tuple(m for m in METHODS if m not in without | (set() if self.xdiag else {"xdiag"}))

    def make(self, data: Path) -> tuple[Reconstruction, Acquisition]:
        """Reconstruction and scan."""
        from mrnoise import read
        from mrnoise.calibration import with_coil_maps
        from mrnoise.networks import pretrained
        from mrnoise.reconstruction import CgSense, Sense
        from mrnoise.simulation import simulate

        if self.shape is None:
            scan = with_coil_maps(read(data / REAL))
            scan = scan.undersample(self.mask(scan.spatial_shape))
        else:
            scan = simulate(self.shape, COILS, snr=SNR, mask=self.mask(self.shape), seed=SEED)
        named = {"sense": Sense, "cg-sense": CgSense}
        return named[self.reconstruction]() if self.linear else pretrained(self.reconstruction), scan

    def mask(self, shape: Sequence[int]) -> Tensor:
        """Which samples are acquired."""
        from mrnoise.sampling import sampling_mask

        name = "equispaced" if self.sampling == "regular" else self.sampling
        seed, calibration = (0, 0) if name in ("equispaced", "caipi") else (SEED, None)
        return sampling_mask(name, self.acceleration, shape, seed, calibration)


NETWORKS = ("unet", "varnet", "modl", "n2r")
CASES = {
    "sense-r2": Case("sense", "regular", 2, xdiag=True),
    "sense-r4": Case("sense", "regular", 4, xdiag=True),
    "sense-caipi-2x2": Case("sense", "caipi", 4, xdiag=True),
    "cg-random-1d": Case("cg-sense", "random_1d", 3, SMALL, xdiag=True),
    "cg-poisson-r8": Case("cg-sense", "poisson", 8, SMALL, xdiag=True),
    "n2r-r2": Case("n2r", "regular", 2),
    **{f"{name}-r4": Case(name, "random_1d", 4) for name in NETWORKS},
    **{f"{name}-r8": Case(name, "poisson", 8) for name in NETWORKS},
    "real": Case("n2r", "poisson", 4, None),
}


# -- in a process of its own -----------------------------------------------------------------------------------------


def reference(case: Case, data: Path, probes: int) -> dict[str, Any]:
    """σ to compare with, written to a file; what it is."""
    import numpy as np
    import torch

    from mrnoise import noise_map
    from mrnoise.closed_form import sense_std
    from mrnoise.estimators import method as chosen
    from mrnoise.foreground import foreground
    from mrnoise.linearization import image_of
    from mrnoise.mapping.provenance import fingerprint

    reconstruction, scan = case.make(data)
    inside = foreground(image_of(reconstruction, scan))
    identity = f"{reconstruction!r} {fingerprint(scan)[:16]} {1 if case.linear else probes}"
    name = hashed(identity)
    file = OUT / f"{name}.npz"
    kept = dict(np.load(file)) if file.exists() else {"inside": inside.numpy()}

    def keep(model: str, total: Tensor, done: int, error: float) -> None:
        kept.update({f"{model} total": total.numpy(), f"{model} done": done, f"{model} error": error})
        OUT.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **kept)
        partial.replace(file)

    if case.linear and len(kept) == 1:
        if case.reconstruction == "sense":
            exact = sense_std(scan).square()
        else:
            exact = cg_sense_variance(scan, reconstruction.regularization)
        for model in MODELS:
            keep(model, exact, 1, 0.0)
    for model, method in () if case.linear else MODELS.items():
        total = torch.from_numpy(kept.get(f"{model} total", np.zeros(inside.shape)))
        done, error = int(kept.get(f"{model} done", 0)), float(kept.get(f"{model} error", 0.0))
        while done < probes:
            n = min(REFERENCE_BLOCK, probes - done)
            seed = REFERENCE_SEED + done
            nm = noise_map(reconstruction, scan, method=chosen(method, control_variate=True), n_samples=n, seed=seed)
            if nm.estimate.interrupted:
                raise KeyboardInterrupt
            # Sums over samples of |δ|² and, over blocks, of the error variance of σ times S².
            total = total + n * nm.variance
            error = math.hypot(error, n * float(nm.relative_error[inside].square().mean()) ** 0.5)
            done += n
            keep(model, total, done, error)
            print(f"  reference, {model}: {done} of {probes} samples", file=sys.stderr, flush=True)
    return {
        "key": name,
        "reconstruction": repr(reconstruction),
        "shape": list(scan.spatial_shape),
        "coils": scan.kspace.shape[-3],
        "acceleration": scan.acceleration,
        "sampling": case.sampling,
        "voxels": int(inside.sum()),
        "reference": {
            "kind": "closed form" if case.linear else "sketch and replicas",
            "samples": None if case.linear else probes,
            "error": {model: float(kept[f"{model} error"]) / int(kept[f"{model} done"]) for model in MODELS},
        },
    }


def cg_sense_variance(scan: Acquisition, regularization: float) -> Tensor:
    """σ² of converged CG-SENSE, the diagonal of ψ (H+λ)⁻¹ H (H+λ)⁻¹ with dense H = ψ AᴴΨ⁻¹A, (y, x)."""
    import torch

    maps = scan.whiten(scan.coil_maps.to(torch.complex128)).flatten(1)
    rows, columns = scan.spatial_shape
    y, x = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    spread = torch.fft.ifft2(torch.fft.ifftshift(scan.mask.double()))
    h = spread[(y[:, None] - y) % rows, (x[:, None] - x) % columns] * (maps.mH @ maps)
    inverse = torch.linalg.inv(h + regularization * torch.eye(len(h)))
    # (H+λ)⁻¹ H (H+λ)⁻¹ = (H+λ)⁻¹ (1 - λ (H+λ)⁻¹)
    diagonal = inverse.diagonal().real - regularization * inverse.abs().square().sum(1)
    return scan.noise_covariance.mean_variance * diagonal.reshape(rows, columns)


def measure(case: Case, method: str, data: Path, key: str, checkpoints: Sequence[int]) -> dict[str, Any]:
    """Error, seconds and memory of one method for increasing numbers of samples."""
    import numpy as np
    import torch

    kept = np.load(OUT / f"{key}.npz")
    inside = torch.from_numpy(kept["inside"])
    truth = {model: torch.from_numpy(kept[f"{model} total"] / kept[f"{model} done"]).sqrt() for model in MODELS}
    sampling = {model: float(kept[f"{model} error"] / kept[f"{model} done"]) ** 2 for model in MODELS}
    reconstruction, scan = case.make(data)
    function = reconstruction.bind(scan)

    def reconstruct() -> float:
        started = time.process_time()
        with torch.no_grad():
            function(scan.kspace)
        return time.process_time() - started

    reconstruct()
    memory = Peak()
    one = statistics.median(reconstruct() for _ in range(RECONSTRUCTIONS))
    base = memory.mib()
    run = ours(method, reconstruction, scan) if method in OURS else peer(method, function, scan, case.linear)
    counts = counts_of(case, method, checkpoints)
    for _ in run((min(WARM_UP, counts[0] or WARM_UP),), -1):
        pass

    points: dict[int, dict[str, Any]] = {}
    asked = counts
    cap = None
    for repeat in range(REPEATS):
        memory = Peak()
        for asked_for, (samples, variance, seconds, model) in zip(asked, run(asked, repeat), strict=False):
            square = float((variance.clamp_min(0).sqrt() / truth[model] - 1)[inside].square().mean())
            if repeat == 0:
                point = points[asked_for] = {"samples": samples, "squares": [], "times": [], "counts": []}
                point["peak_mib"] = memory.mib() - base
                cap = too_large(method, point, counts)
            point = points[asked_for]
            point["squares"].append(square - sampling[model])
            point["times"].append(seconds)
            point["counts"].append(samples)
            if repeat == 0 and cap is not None:
                break
            memory = Peak()
        asked = tuple(count for count, point in points.items() if point["times"][0] < SHORT)
        if not asked:
            break
    return {
        "reconstruction_seconds": one,
        "reconstruction_peak_mib": base,
        "stopped_by_memory_at": cap,
        "points": [
            {
                "asked": asked_for,
                "samples": round(statistics.median(point["counts"])),
                "error": max(statistics.mean(point["squares"]), 0.0) ** 0.5,
                "seconds": statistics.median(point["times"]),
                "reconstructions": statistics.median(point["times"]) / one,
                "peak_mib": point["peak_mib"],
                "repeats": len(point["times"]),
            }
            for asked_for, point in points.items()
        ],
    }


# Samples, variance, seconds and the model of noise.
Run = Callable[[Sequence[int], int], Iterator[tuple[int, "Tensor", float, str]]]


def ours(name: str, reconstruction: Reconstruction, scan: Acquisition) -> Run:
    """A method through the public interface; with 0 samples it stops at the target."""
    from mrnoise import noise_map
    from mrnoise.estimators import method as chosen

    def run(counts: Sequence[int], seed: int) -> Iterator[tuple[int, Tensor, float, str]]:
        for count in counts:
            rule = {"n_samples": count} if count else {"target_error": TARGET}
            started = time.process_time()
            nm = noise_map(reconstruction, scan, seed=seed + 1, **rule, method=chosen(**OURS[name]))
            seconds = time.process_time() - started
            if nm.estimate.interrupted:
                raise KeyboardInterrupt
            yield nm.n_samples, nm.variance, seconds, model_of(nm.method)

    return run


def peer(name: str, function: Callable[[Tensor], Tensor], scan: Acquisition, linear: bool) -> Run:
    """A method of `peers.py`."""
    import peers

    problem = peers.Problem(function, scan.kspace, scan.colour, scan.colour_adjoint, linear)
    return lambda counts, seed: ((*found, model_of(name)) for found in peers.PEERS[name](problem, counts, seed + 1))


def model_of(method: str) -> str:
    """What noise a method knows."""
    return "replicas" if "replicas" in method or method == "monte_carlo" else "first order"


def counts_of(case: Case, method: str, checkpoints: Sequence[int]) -> tuple[int, ...]:
    """Numbers of samples, 0 for the target; one draw of lattice probes is exact for linear maps."""
    if method == "sketch":
        return (0, *checkpoints)
    if method in OURS:
        return (1,) if method == "lattice" and case.linear else (0,)
    return FEW_CHECKPOINTS if method in COSTLY else tuple(checkpoints)


def too_large(method: str, point: dict[str, Any], counts: Sequence[int]) -> int | None:
    """Number of samples after which the next call of "paper" would need more memory than it may have."""
    import psutil

    later = [count for count in counts if count > point["samples"]]
    if method != "paper" or not later:
        return None
    room = min(LARGEST_CALL, psutil.virtual_memory().available // 2)
    return point["samples"] if point["peak_mib"] * 2**20 * later[0] / point["samples"] > room else None


class Peak:
    """Highest resident memory of this process since now; since its start where the system cannot tell."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def mib(self) -> float:
        """The highest so far."""
        try:
            status = Path("/proc/self/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) / 1024
        except (OSError, IndexError):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hashed(text: str) -> str:
    """Name of a file."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def child(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(1)
    what, name, *rest = options.child
    if what == "machine":
        found = machine()
    elif what == "reference":
        found = reference(CASES[name], options.data, int(rest[0]))
    else:
        found = measure(CASES[name], what, options.data, rest[0], [int(count) for count in rest[1:]])
    print(json.dumps(found))


def machine() -> dict[str, Any]:
    import peers
    import torch

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        cpu = Path("/proc/cpuinfo").read_text().split("model name")[1].split("\n")[0].strip("\t :")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "skerch": peers.skerch(),
    }


# -- the run ---------------------------------------------------------------------------------------------------------


def in_own_process(options: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--data", str(options.data), "--child", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:2])} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def run(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    checkpoints = FEW_CHECKPOINTS if options.quick else CHECKPOINTS
    here = in_own_process(options, "machine", "")
    record = json.loads(options.json.read_text()) if options.json.exists() else {"cases": {}}
    if record.get("machine", here) != here and not options.again:
        raise SystemExit(f"{options.json} was measured elsewhere: {record['machine']}. Use --again or another --json.")
    record |= {"machine": here, "target": TARGET, "snr": SNR}
    jobs = sum(1 + len(CASES[name].methods) for name in names)
    clock = Clock(jobs)
    for name in names:
        case = CASES[name]
        clock.say(f"{name}: reference")
        found = in_own_process(options, "reference", name, str(options.reference))
        kept = record["cases"].get(name, {})
        if options.again or kept.get("key") != found["key"]:
            kept = {}
        methods = kept.get("methods", {})
        record["cases"][name] = found | {"methods": methods}
        for method in case.methods:
            wanted = list(counts_of(case, method, checkpoints))
            if methods.get(method, {}).get("asked") == wanted and "failed" not in methods[method]:
                clock.skip()
                continue
            clock.say(f"{name}: {method}")
            try:
                methods[method] = in_own_process(options, method, name, found["key"], *map(str, checkpoints))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                methods[method] = {"failed": str(error), "points": []}
            methods[method]["asked"] = wanted
            write(options.json, record)
    write(options.json, record)
    return record


class Clock:
    """Progress on standard error; the time left from the mean of the jobs that were done."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._started, self._begun = jobs, time.perf_counter(), 0
        self._skipped = 0

    def say(self, what: str) -> None:
        """A job begins."""
        elapsed, done = time.perf_counter() - self._started, self._begun
        left = f", about {elapsed / done * (self._jobs - done - self._skipped) / 60:.0f} min left" if done else ""
        print(f"[{done + self._skipped + 1}/{self._jobs}{left}] {what}", file=sys.stderr, flush=True)
        self._begun += 1

    def skip(self) -> None:
        """A job is known already."""
        self._skipped += 1


def write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(path)


# -- what it says ----------------------------------------------------------------------------------------------------


def seconds_to_target(method: str, points: Sequence[dict[str, Any]], target: float = TARGET) -> float | None:
    """Seconds until the error is ``target``; those of the fewest samples where these are good enough."""
    if not points:
        return None
    if method in OURS or points[0]["error"] <= target:
        return points[0]["seconds"]
    for a, b in itertools.pairwise(points):
        if b["error"] <= target:
            if b["error"] == 0:
                return b["seconds"]
            share = math.log(a["error"] / target) / math.log(a["error"] / b["error"])
            samples = a["samples"] * (b["samples"] / a["samples"]) ** share
            return a["seconds"] + (b["seconds"] - a["seconds"]) * fraction(samples, a, b)
    last = points[-1]
    samples = last["samples"] * (last["error"] / target) ** 2
    if len(points) == 1:
        return last["seconds"] * samples / last["samples"]
    before = points[-2]
    return before["seconds"] + (last["seconds"] - before["seconds"]) * fraction(samples, before, last)


def fraction(samples: float, a: dict[str, Any], b: dict[str, Any]) -> float:
    return (samples - a["samples"]) / (b["samples"] - a["samples"])


def costs(case: dict[str, Any]) -> dict[str, float]:
    """Seconds to the target of the methods that have them."""
    found = {name: seconds_to_target(name, kept["points"]) for name, kept in case["methods"].items()}
    return {name: value for name, value in found.items() if value is not None}


def tables(record: dict[str, Any]) -> str:
    """Three tables in markdown."""
    cases = {name: record["cases"][name] for name in CASES if name in record["cases"]}
    head = "| " + " | ".join(("case", "best peer", *METHODS)) + " |\n" + "|---" * (2 + len(METHODS)) + "|"
    percent = f"{100 * record['target']:g} %"
    relative, counted = [head], [head.replace(" best peer |", " one reconstruction |")]
    for name, case in cases.items():
        found = costs(case)
        peers = {method: found[method] for method in PEERS if method in found}
        if not peers:
            continue
        best = min(peers, key=lambda method: peers[method])
        relative.append(
            row(name, f"{best}, {peers[best]:.2f} s", found, lambda method, s, b=peers[best]: f"{s / b:.2f}")
        )
        one = {method: kept.get("reconstruction_seconds", math.nan) for method, kept in case["methods"].items()}
        unit = f"{1000 * statistics.median(one[method] for method in found):.1f} ms"
        counted.append(row(name, unit, found, lambda method, s, one=one: f"{s / one[method]:.0f}"))
    memory = [
        "| case | method | samples | peak above one reconstruction | samples | peak |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        for method in ("sketch", "paper"):
            points = [p for p in case["methods"].get(method, {}).get("points", []) if p["asked"]]
            if points:
                ends = " | ".join(f"{p['samples']} | {p['peak_mib']:.0f} MiB" for p in (points[0], points[-1]))
                memory.append(f"| {name} | {method} | {ends} |")
    return "\n".join(
        (
            f"Seconds to {percent}, relative to the best peer\n",
            *relative,
            "\nThe same in reconstructions, each of the same process\n",
            *counted,
            "\nMemory\n",
            *memory,
        )
    )


def row(name: str, first: str, found: dict[str, float], cell: Callable[[str, float], str]) -> str:
    cells = [cell(method, found[method]) if method in found else "" for method in METHODS]
    return "| " + " | ".join((name, first, *cells)) + " |"


STYLES = {
    "sketch": ("#c0392b", "o", ""),
    "sketch + cv": ("#e67e22", "o", ""),
    "half precision": ("#922b21", "<", ""),
    "half precision + cv": ("#f5b041", "<", ""),
    "replicas of ours": ("#8e44ad", "s", ""),
    "replicas of ours + cv": ("#d48bd8", "s", ""),
    "lattice": ("#2e8b57", "D", ""),
    "coloured": ("#27ae60", "P", ""),
    "auto": ("#111111", "*", ""),
    "paper": ("#1f4e79", "^", "--"),
    "replicas": ("#7f8c8d", "v", "--"),
    "batched replicas": ("#5dade2", "v", "--"),
    "pico": ("#16a085", "x", "--"),
    "xdiag": ("#a08060", "+", "--"),
}
COLUMNS, PANEL = 4, (3.4, 2.7)


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel a case, and one of memory."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    cases = {name: record["cases"][name] for name in CASES if name in record["cases"]}
    n_rows = math.ceil((len(cases) + 1) / COLUMNS)
    figure = Figure((PANEL[0] * COLUMNS, PANEL[1] * n_rows + 0.6), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, COLUMNS, squeeze=False).flatten()
    for ax, (name, case) in zip(axes, cases.items(), strict=False):
        for method, (colour, marker, line) in STYLES.items():
            points = case["methods"].get(method, {}).get("points") or []
            points = points[:1] if method in OURS else points
            x = [p["seconds"] for p in points]
            y = [100 * max(p["error"], SMALLEST_ERROR) for p in points]
            size = {"": 6, "--": 4}[line] + 4 * (method == "auto")
            ax.loglog(x, y, color=colour, marker=marker, linestyle=line, markersize=size, linewidth=1.2, label=method)
        ax.axhline(100 * record["target"], color="#6a737d", linestyle="--", linewidth=0.8)
        ax.set_title(f"{name}, {'×'.join(map(str, case['shape']))}, {case['coils']} coils", fontsize=9)
        ax.set_xlabel("seconds", fontsize=8)
        ax.set_ylabel("error of σ, %", fontsize=8)
        ax.tick_params(which="both", labelsize=7)
        low, high = ax.get_ylim()
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_major_formatter(plain)
        ax.yaxis.set_major_formatter(plain)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_minor_formatter(plain if high < 20 * low else NullFormatter())
        ax.grid(alpha=0.25)
    shown = next(name for name in ("n2r-r4", *reversed(cases)) if name in cases)
    for method in ("sketch", "paper"):
        points = [p for p in cases[shown]["methods"].get(method, {}).get("points") or [] if p["asked"]]
        colour, marker, line = STYLES[method]
        x, y = ([p[key] for p in points] for key in ("samples", "peak_mib"))
        axes[len(cases)].plot(x, y, color=colour, marker=marker, linestyle=line or "-", markersize=4, label=method)
    axes[len(cases)].set_title(f"memory, {shown}", fontsize=9)
    axes[len(cases)].set_ylim(bottom=0)
    axes[len(cases)].set_xlabel("samples", fontsize=8)
    axes[len(cases)].set_ylabel("MiB above one reconstruction", fontsize=8)
    axes[len(cases)].tick_params(labelsize=7)
    axes[len(cases)].grid(alpha=0.25)
    for ax in axes[len(cases) + 1 :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=math.ceil(len(labels) / 2), fontsize=9, frameon=False
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="default: beside the other results; with --quick a temporary file")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of {REAL}; without it that case is left out")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--reference", type=int, help=f"probes of the reference, {REFERENCE} by default")
    parser.add_argument("--quick", action="store_true", help="few samples, a small reference")
    parser.add_argument("--again", action="store_true", help="repeat what is already in the file")
    parser.add_argument("--draw", action="store_true", help="measure nothing: tables and figure of the file")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    options.json = options.json or (Path(tempfile.gettempdir()) / "estimators-quick.json" if options.quick else JSON)
    options.reference = options.reference or (FEW_REFERENCE if options.quick else REFERENCE)
    names = [name for name in CASES if options.only is None or name in options.only]
    if "real" in names and not (options.data / REAL).exists():
        print(f"no {REAL} in {options.data}: the measured scan is left out", file=sys.stderr)
        names.remove("real")
    record = json.loads(options.json.read_text()) if options.draw else run(options, names)
    print(tables(record))
    if options.figure:
        draw(record, options.figure)


if __name__ == "__main__":
    main()
