"""Coverage and width of 95 % intervals over seeds: docs/measured.md.

    python benchmarks/interval_coverage.py [--seeds 200] [--only gaussian probe controlled stop trajectories]
        [--json FILE]

Gaussian noise of prescribed impropriety κ in independent voxels for `sketch` and replicas, 54 correlated voxels of a
dense operator for `probe` and for control variates. Beside it the interval with an unbiased κ̂², and the width relative
to an interval that knows κ. Then the certified stop: how often the realised error of the region is below the target.
Last, CG-SENSE of small scans along trajectories, Ψ of condition 20, as dense operators (spots: benchmarks/spots.py).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from scipy import stats

from mrnoise.estimators import Estimate, Plan, monte_carlo, nonlinear, probe, region_error, sketch
from mrnoise.estimators.choice.colouring import Sublattice
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import SampleMoments
from mrnoise.linearization import linearize
from mrnoise.reconstruction import CgSense
from mrnoise.result.noise_map import NoiseMap
from mrnoise.sampling.named_trajectories import sampling_trajectory
from mrnoise.simulation import simulate

IMPROPRIETIES = (0.0, 0.3, 0.7, 0.95, 1.0)
SAMPLES = (2, 3, 4, 8, 32, 128)
VOXELS, LEVEL, IMAGE = 300, 0.95, (6, 9)
EXPLAINED = (0.3, 0.9, 0.99)
# Matrices of the small scans, their coils, R and λ.
TRAJECTORIES = {"radial": (14, 12), "spiral": (13, 15), "radial_3d": (6, 8, 7)}
COILS, ACCELERATION, WEIGHT, ALONG_SAMPLES = 4, 2, 1e-2, (8, 32, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name in options.only:
        record[name] = TABLES[name](options.seeds)
        print(flush=True)
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n")


def gaussian_table(seeds: int) -> dict[str, dict]:
    record = {}
    print("| interval | S | " + " | ".join(f"κ = {k:g}" for k in IMPROPRIETIES) + " |")
    print("|---|---|" + "---|" * len(IMPROPRIETIES))
    for n in SAMPLES:
        cases = [gaussian(kappa, n, seeds) for kappa in IMPROPRIETIES]
        record[str(n)] = {name: [case[name] for case in cases] for name in cases[0]}
        for row in gaussian_rows(n, record[str(n)]):
            print(row, flush=True)
    return record


def probe_table(seeds: int) -> dict[str, dict]:
    record = {}
    print(
        "| probe, total / magnitude σ | relative s.e. of a sample | S = 8 | S = 32 | S = 128 |\n|---|---|---|---|---|"
    )
    for name in ("proper", "improper", "real", "alias pairs"):
        record[name] = probing(DenseOperator(name), seeds)
        print(probe_row(name, record[name]), flush=True)
    return record


def controlled_table(seeds: int) -> dict[str, dict]:
    record = {}
    print("| control variates, total / magnitude σ | noise | explained | S = 8 | S = 16 | S = 32 | S = 128 |")
    print("|---|---|---|---|---|---|---|")
    for method in (sketch, monte_carlo):
        for name in ("proper", "improper", "real"):
            for share in EXPLAINED:
                found = controlled(DenseOperator(name), method, share, seeds)
                record[f"{method.__name__}, {name}, {share:g}"] = found
                print(controlled_row(method.__name__, name, share, found), flush=True)
    return record


def stop_table(seeds: int) -> dict[str, dict]:
    record = {}
    print("| method | noise | target | samples expected | samples certified | below the target | covered |")
    print("|---|---|---|---|---|---|---|")
    for name in ("proper", "improper", "six samples"):
        for method, target in ((sketch, 0.1), (monte_carlo, 0.1), (probe, 0.25)):
            if (method, name) == (probe, "six samples"):
                continue  # more than 500 products a seed
            found = stopping(DenseOperator(name), method, target, seeds)
            record[f"{method.__name__}, {name}"] = found
            print(stop_row(f"{method.__name__}, {name}", found), flush=True)
    return record


def trajectory_table(seeds: int) -> dict[str, dict]:
    record = {}
    print("| trajectory | method, total / magnitude σ | " + " | ".join(f"S = {n}" for n in ALONG_SAMPLES) + " |")
    print("|---|---|" + "---|" * len(ALONG_SAMPLES))
    for name, shape in TRAJECTORIES.items():
        operator = ScanOperator(name, shape)
        for method in ALONG:
            found = record[f"{name}, {method}"] = along(operator, method, seeds)
            cells = " | ".join(f"{100 * total:.1f} / {100 * magnitude:.1f} %" for total, magnitude in found.values())
            print(f"| {name} | {method} | {cells} |", flush=True)
    return record


TABLES = {
    "gaussian": gaussian_table,
    "probe": probe_table,
    "controlled": controlled_table,
    "stop": stop_table,
    "trajectories": trajectory_table,
}


def gaussian(kappa: float, n: int, seeds: int) -> dict[str, float]:
    """Coverage of voxels with E|δ|² = 1, E δ² = κ."""
    g = torch.Generator().manual_seed(1000 * n + round(100 * kappa))
    moments = SampleMoments("sketch", known_mean=True)
    for _ in range(n):
        a, b = torch.randn(2, seeds, VOXELS, dtype=torch.float64, generator=g)
        sample = torch.complex((0.5 + 0.5 * kappa) ** 0.5 * a, (0.5 - 0.5 * kappa) ** 0.5 * b)
        moments.add(sample[None], sample)
    nm = NoiseMap(torch.ones(seeds, VOXELS, dtype=torch.complex128), moments.estimate(False))
    low, high = nm.confidence_interval(LEVEL, "variance")
    plain = (nm.variance / nm.estimate.variance_error).square() * 2
    known = 2 * n / (1 + kappa**2)
    one_seed = torch.zeros(seeds, VOXELS, dtype=torch.bool)
    one_seed[0] = True
    band = nm.confidence_interval(LEVEL, "variance", simultaneous=one_seed)
    tails = stats.chi2.ppf([0.5 - 0.5 * LEVEL, 0.5 + 0.5 * LEVEL], known)
    return {
        "total": float(within((low, high), 1.0).mean()),
        "unbiased": float(within(chi_square(nm.variance, plain), 1.0).mean()),
        "width": float((high / low).log().mean() / torch.tensor(tails[1] / tails[0]).log()),
        "magnitude": float(within(nm.confidence_interval(LEVEL, "magnitude_std"), (0.5 + 0.5 * kappa) ** 0.5).mean()),
        "simultaneous": float(within(band, 1.0).min(1).values.mean()),
    }


GAUSSIAN_ROWS = {
    "total": "total σ",
    "unbiased": "total σ, unbiased κ̂²",
    "magnitude": "magnitude σ",
    "simultaneous": f"all of {VOXELS} voxels",
    "width": "width, relative",
}


def gaussian_rows(n: int | str, found: dict[str, list[float]]) -> list[str]:
    def cell(name: str, value: float) -> str:
        return f"{value:.2f}" if name == "width" else f"{100 * value:.1f} %"

    return [
        f"| {title} | {n} | " + " | ".join(cell(name, value) for value in found[name]) + " |"
        for name, title in GAUSSIAN_ROWS.items()
    ]


class DenseOperator:
    """L v = A v + B v̄ with random matrices: 54 voxels from 40 samples, from 6, or correlated in pairs."""

    noise_dtype, device, complex_linear = torch.complex128, torch.device("cpu"), False
    image_shape: tuple[int, ...] = IMAGE

    def __init__(self, kind: str) -> None:
        g = torch.Generator().manual_seed(0)
        voxels = IMAGE[0] * IMAGE[1]
        columns = {"six samples": 6, "alias pairs": voxels}.get(kind, 40)
        self.noise_shape = (columns,)
        self.a, other = torch.randn(2, voxels, columns, dtype=torch.complex128, generator=g)
        self.b = {"proper": 0 * other, "real": other}.get(kind, 0.6 * self.a.conj() + 0.2 * other)
        if kind == "alias pairs":
            pair = torch.tensor([[1, 0.5], [0.5, 1]], dtype=torch.complex128)
            self.a = torch.linalg.cholesky(torch.kron(torch.eye(voxels // 2), pair))
            self.b = 0 * self.a
        self.real = kind == "real"
        self.image_dtype = torch.float64 if self.real else torch.complex128

    def apply(self, v: torch.Tensor) -> torch.Tensor:
        """L v."""
        x = (v @ self.a.T + v.conj() @ self.b.T).reshape(-1, *self.image_shape)
        return x.real if self.real else x

    def adjoint(self, w: torch.Tensor) -> torch.Tensor:
        """Lᵀ w."""
        w = w.reshape(len(w), -1).to(torch.complex128)
        return w @ self.a.conj() + w.conj() @ self.b

    def replicas(self, v: torch.Tensor) -> torch.Tensor:
        """The operator is linear."""
        return self.apply(v)

    @property
    def std(self) -> torch.Tensor:
        """σ, exactly."""
        if self.real:
            return (0.5 * (self.a + self.b.conj()).abs().square().sum(1)).sqrt().reshape(self.image_shape)
        return (self.a.abs().square() + self.b.abs().square()).sum(1).sqrt().reshape(self.image_shape)

    @property
    def image(self) -> torch.Tensor:
        """Of magnitude 1 and every phase, so that its noise lies along strong and weak components."""
        phase = torch.linspace(0, 6, len(self.a), dtype=torch.float64).reshape(self.image_shape)
        return phase.cos().sign() if self.real else torch.exp(1j * phase)

    @property
    def magnitude_std(self) -> torch.Tensor:
        """σ along the phase of the image, exactly."""
        if self.real:
            return self.std
        along = self.image.conj().reshape(-1, 1)
        return (0.5 * (along * self.a + (along * self.b).conj()).abs().square().sum(1)).sqrt().reshape(self.image_shape)


class ScanOperator(DenseOperator):
    """CG-SENSE of a small scan along a trajectory, column by column of L."""

    complex_linear, real, image_dtype = True, False, torch.complex128

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        trajectory = sampling_trajectory(name, ACCELERATION, shape)
        (operator,) = linearize(CgSense(WEIGHT), simulate(shape, COILS, trajectory=trajectory))
        n = math.prod(operator.noise_shape)
        units = torch.eye(n, dtype=operator.noise_dtype).reshape(n, *operator.noise_shape)
        self.a = torch.cat([operator.apply(some) for some in units.split(64)]).flatten(1).T.to(torch.complex128)
        self.b = torch.zeros_like(self.a)
        self.noise_shape, self.image_shape = (n,), shape


def coloured(operator: DenseOperator, plan: Plan, *, key: Key) -> Estimate:
    """Probes of every third voxel along the last two axes."""
    return probe(operator, plan, colours=Sublattice(3, 3, 0).colours(operator.image_shape[-2:]), key=key)


ALONG = {"monte_carlo": monte_carlo, "nonlinear": nonlinear, "sketch": sketch, "probe": probe, "coloured": coloured}


def along(operator: DenseOperator, method: str, seeds: int) -> dict[str, tuple[float, float]]:
    """Coverage of the total and of the magnitude σ, by the number of samples."""
    found = {}
    for n in ALONG_SAMPLES:
        estimates = [ALONG[method](operator, Plan(n_samples=n), key=Key(seed)) for seed in range(seeds)]
        found[str(n)] = tuple(
            sum(covered(estimate, operator, quantity) for estimate in estimates) / seeds
            for quantity in ("std", "magnitude_std")
        )
    return found


def probing(operator: DenseOperator, seeds: int) -> dict[str, float]:
    found, spread = {}, 0.0
    for n in (8, 32, 128):
        estimates = [probe(operator, Plan(n_samples=n), key=Key(seed)) for seed in range(seeds)]
        found[str(n)] = sum(covered(estimate, operator) for estimate in estimates) / seeds
        found[f"{n}, magnitude"] = sum(covered(estimate, operator, "magnitude_std") for estimate in estimates) / seeds
        spread = float(torch.stack([(e.variance_error / operator.std.square()).square() for e in estimates]).mean())
        found["relative_error"] = (n * spread) ** 0.5
    return found


def probe_row(name: str, found: dict[str, float]) -> str:
    coverage = " | ".join(f"{100 * found[n]:.1f} / {100 * found[f'{n}, magnitude']:.1f} %" for n in ("8", "32", "128"))
    return f"| {name} | {found['relative_error']:.2f} | {coverage} |"


class DenseFeatures:
    """Three images f = F v, one of which resembles A v: their product has this share of both variances, squared."""

    n_images = 3

    def __init__(self, operator: DenseOperator, share: float) -> None:
        g = torch.Generator().manual_seed(1)
        a, b = operator.a, operator.b
        one, two, three = torch.randn(3, *a.shape, dtype=torch.complex128, generator=g)
        self._f = torch.stack([share**0.5 * a + (1 - share) ** 0.5 * one, two + 0.3 * b.conj(), 0.5 * a + three])
        self.covariance = torch.einsum("kin,lin->kli", self._f, self._f.conj()).reshape(3, 3, *IMAGE)

    def __call__(self, noise: torch.Tensor) -> torch.Tensor:
        """Of a batch."""
        return torch.einsum("kin,bn->bki", self._f, noise).reshape(len(noise), 3, *IMAGE)


def controlled(operator: DenseOperator, method, share: float, seeds: int) -> dict[str, float]:
    found, features = {}, DenseFeatures(operator, share)
    for n in (8, 16, 32, 128):
        estimates = [method(operator, Plan(n_samples=n), key=Key(seed), features=features) for seed in range(seeds)]
        for quantity in ("std", "magnitude_std"):
            found[f"{n}, {quantity}"] = sum(covered(estimate, operator, quantity) for estimate in estimates) / seeds
    return found


def controlled_row(method: str, name: str, share: float, found: dict[str, float]) -> str:
    pairs = [(100 * found[f"{n}, std"], 100 * found[f"{n}, magnitude_std"]) for n in (8, 16, 32, 128)]
    coverage = " | ".join(f"{total:.1f} / {magnitude:.1f} %" for total, magnitude in pairs)
    return f"| {method} | {name} | {100 * share:g} % | {coverage} |"


def stopping(operator: DenseOperator, method, target: float, seeds: int) -> dict[str, float]:
    """Certified stops, and the number of samples at which the expected error meets the target."""
    runs = [method(operator, Plan(target_error=target, batch_size=4), key=Key(seed)) for seed in range(seeds)]
    realised = [float((run.variance.sqrt() / operator.std - 1).square().mean().sqrt()) for run in runs]
    return {
        "target": target,
        "expected": sum(run.n_samples * (region_error(run, None) / target) ** 2 for run in runs) / seeds,
        "certified": sum(run.n_samples for run in runs) / seeds,
        "below": sum(error <= target for error in realised) / seeds,
        "coverage": sum(covered(run, operator) for run in runs) / seeds,
    }


def stop_row(name: str, found: dict[str, float]) -> str:
    method, noise = name.split(", ")
    return (
        f"| {method} | {noise} | {found['target']:g} | {found['expected']:.0f} | {found['certified']:.0f} | "
        f"{100 * found['below']:.1f} % | {100 * found['coverage']:.1f} % |"
    )


def covered(estimate: Estimate, operator: DenseOperator, quantity: str = "std") -> float:
    nm = NoiseMap(operator.image, estimate)
    truth = operator.std if quantity == "std" else operator.magnitude_std
    return float(within(nm.confidence_interval(LEVEL, quantity), truth).mean())


def within(interval: tuple[torch.Tensor, torch.Tensor], truth: torch.Tensor | float) -> torch.Tensor:
    return ((interval[0] <= truth) & (truth <= interval[1])).double()


def chi_square(variance: torch.Tensor, freedom: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    tail = 0.5 - 0.5 * LEVEL
    low, high = (torch.from_numpy(quantile(tail, freedom)) for quantile in (stats.chi2.isf, stats.chi2.ppf))
    return variance * freedom / low, variance * freedom / high


if __name__ == "__main__":
    main()
