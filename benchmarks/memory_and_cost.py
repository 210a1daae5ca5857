"""Peak memory against the number of probes, and the cost of a probe in reconstructions.

    python benchmarks/memory_and_cost.py [--json FILE]

Every case runs in a process of its own, so that its peak is its own. Times are ratios within one process.

The C library keeps freed blocks for later, by an amount that fluctuates by 10 % between runs and has no trend in the
number of probes. For the peak it is told to return blocks above 1 MiB at once, which leaves what is really held.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

SHAPE, COILS, R = (128, 128), 8, 4
FEW, MANY = 64, 2048
METHODS = ("sketch", "monte_carlo", "probe")
RECONSTRUCTIONS = ("sense", "cg-sense")


def make(name: str):
    from mrnoise.reconstruction import CgSense, Sense
    from mrnoise.sampling import sampling_mask
    from mrnoise.simulation import simulate

    scan = simulate(SHAPE, COILS, mask=sampling_mask("equispaced", R, SHAPE, calibration=0), seed=0)
    return (Sense() if name == "sense" else CgSense(1e-2)), scan


def measure_memory(name: str, method: str, n_samples: int) -> dict:
    from mrnoise import noise_map

    reconstruction, scan = make(name)
    nm = noise_map(reconstruction, scan, method=method, n_samples=n_samples, seed=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mib": peak, "error": float(nm.relative_error.median())}


def measure_cost(name: str) -> dict:
    """Seconds a probe over seconds a reconstruction, best of three."""
    import torch

    from mrnoise.estimators.key import Key
    from mrnoise.estimators.sampler import sampler
    from mrnoise.linearization import linearize

    reconstruction, scan = make(name)
    (operator,) = linearize(reconstruction, scan)
    batch = 8
    v = sampler(operator.noise_shape, operator.noise_dtype, key=Key(0))(range(batch))
    w = sampler(operator.image_shape, operator.image_dtype, key=Key(1))(range(batch))

    def best(work) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return min(times)

    with torch.no_grad():
        one = best(lambda: operator.function(scan.kspace))
    return {
        "reconstruction_seconds": one,
        "jvp": best(lambda: operator.apply(v)) / batch / one,
        "vjp": best(lambda: operator.adjoint(w)) / batch / one,
        "replica": best(lambda: operator.replicas(v)) / batch / one,
        "batch": batch,
    }


def in_own_process(*arguments: str) -> dict:
    command = [sys.executable, __file__, "--case", *arguments]
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": str(2**20)} if arguments[0] == "memory" else {})
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", nargs="+")
    options = parser.parse_args()
    if options.case:
        kind, name, *rest = options.case
        result = measure_cost(name) if kind == "cost" else measure_memory(name, rest[0], int(rest[1]))
        print(json.dumps(result))
        return

    print(f"{SHAPE[0]}×{SHAPE[1]}, {COILS} coils, R = {R}\n")
    print(f"| reconstruction | method | peak, S={FEW} | peak, S={MANY} | ratio | error at S={MANY} |")
    print("|---|---|---|---|---|---|")
    memory = []
    for name in RECONSTRUCTIONS:
        for method in METHODS:
            few, many = (in_own_process("memory", name, method, str(n)) for n in (FEW, MANY))
            ratio = many["peak_mib"] / few["peak_mib"]
            memory.append({"reconstruction": name, "method": method, "few": few, "many": many, "ratio": ratio})
            print(
                f"| {name} | {method} | {few['peak_mib']:.0f} MiB | {many['peak_mib']:.0f} MiB | {ratio:.3f} | "
                f"{100 * many['error']:.2f} % |",
                flush=True,
            )
    print("\n| reconstruction | one reconstruction | a jvp costs | a vjp costs | a replica costs |")
    print("|---|---|---|---|---|")
    cost = {}
    for name in RECONSTRUCTIONS:
        c = cost[name] = in_own_process("cost", name)
        print(
            f"| {name} | {1000 * c['reconstruction_seconds']:.0f} ms | {c['jvp']:.2f} | {c['vjp']:.2f} | "
            f"{c['replica']:.2f} |",
            flush=True,
        )
    print("\nin reconstructions, batches of", cost["sense"]["batch"])
    if options.json:
        import torch

        record = {
            "machine": {
                "cpu": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            },
            "shape": SHAPE,
            "coils": COILS,
            "acceleration": R,
            "samples": [FEW, MANY],
            "memory": memory,
            "cost": cost,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    worst = max(m["ratio"] for m in memory)
    if worst > 1.05:
        raise SystemExit(f"peak memory grows with the number of probes: {worst:.3f}")


if __name__ == "__main__":
    main()
