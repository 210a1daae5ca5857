"""Seconds of one thread to the σ of CG-SENSE along a trajectory, by `auto`, relative to what others do.

    python benchmarks/trajectories.py [--sizes 96 128] [--accelerations 2 4] [--weights 1e-2 1e-3] [--targets 0.03 0.01]
        [--published] [--only radial spiral] [--json FILE]

Simulated scans, 8 coils, Ψ of condition 20. Ours runs through `noise_map` as a user runs it, asked for a certified
error, all set-up included but what is loaded once in a process. The real error is that of random voxels inside the
object whose exact σ is computed apart.

The others are timed for one sample each, after one that is not counted, and their seconds to an error ε are those of
1/4ε² samples, as many as an error of ε takes, without certifying it.

- sigpy: `sigpy.mri.app.SenseRecon` as it comes, 100 iterations, a replica at a time.
- bart: `bart pics -t -l2 -r λ`, its process included, a replica at a time: as it comes, 30 iterations, which has not
  converged and is another reconstruction; and with the iterations that plain conjugate gradients take to 10⁻³.
- batched: replicas of plain conjugate gradients to a residual of 10⁻³ over pairs of our transform at a tolerance of
  10⁻³, eight at once.
- probing (of the covariance C in the image, a probe at a time), XDiag (Epperly, Tropp and Webber 2024,
  doi:10.1137/23M1548323) and XRowNorm (the same with the rows of L, C = L Lᴴ): solves of the batched replicas, two for
  a product with C and one with L, and as many as an error takes on the dense covariance of such a scan at 40².
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import torch
from peers import exchangeable_diagonal
from torch import Tensor

from mrnoise import Acquisition, noise_map
from mrnoise.closed_form.voxels import cg_sense_voxel_variance
from mrnoise.encoding import Nufft
from mrnoise.encoding.convolution import PointSpread
from mrnoise.foreground import foreground
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import Trajectory, radial, spiral
from mrnoise.simulation import simulate

COILS, SNR, SEED = 8, 50.0, 1
CHECKED, BATCH, LOOSE = 60, 8, 1e-3
# Matrix, products and draws by which the estimators of the image are judged.
SMALL, PRODUCTS, DRAWS = 40, 256, 8
TIMED, JUDGED = ("sigpy", "bart", "bart, converged", "batched"), ("probing", "XDiag", "XRowNorm")
HEAD = (
    "| scan | λ | target | method | samples | certified | real error | s | "
    + " | ".join([f"{peer}: s a replica" for peer in TIMED] + [f"of {peer}" for peer in (*TIMED, *JUDGED)])
    + " |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[96, 128])
    parser.add_argument("--accelerations", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--weights", type=float, nargs="*", default=[1e-2, 1e-3])
    parser.add_argument("--targets", type=float, nargs="*", default=[0.03, 0.01])
    parser.add_argument("--only", nargs="*", default=["radial", "spiral"])
    parser.add_argument("--published", action="store_true", help="the spiral of 220², 60 interleaves of 1536, λ = 0.1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEAD + "\n|" + "---|" * (HEAD.count("|") - 1))
    noise_map(CgSense(1e-2), simulate((16, 12), 4, trajectory=radial((16, 12), 20)))  # what is loaded once
    record = []
    for name, make, n, weights in scans(options):
        for weight in weights:
            for row in rows(make, n, weight, options.targets):
                record.append({"scan": name, "weight": weight, **row})
                print(line(record[-1]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def scans(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[int], Trajectory], int, list[float]]]:
    """Name, trajectory of a matrix n², n, and the weights to take."""
    if options.published:
        make = lambda n: spiral((n, n), round(60 * n / 220), round(1536 * n / 220))  # noqa: E731
        yield "spiral 220², 60 × 1536", make, 220, [0.1]
        return
    for kind in options.only:
        for n in options.sizes:
            for r in options.accelerations:
                # Full sampling: spokes a cycle apart at the edge, or the voxels of the matrix.
                make = {
                    "radial": lambda n, r=r: radial((n, n), round(torch.pi / 2 * n / r), 2 * n),
                    "spiral": lambda n, r=r: spiral((n, n), 8, round(n * n / 8 / r)),
                }[kind]
                yield f"{kind} {n}², R = {r}", make, n, options.weights


def rows(make: Callable[[int], Trajectory], n: int, weight: float, targets: list[float]) -> Iterator[dict[str, Any]]:
    """What was measured, a target a row."""
    scan, small = (simulate((size, size), COILS, trajectory=make(size), snr=SNR, seed=SEED) for size in (n, SMALL))
    replica = one_replica(scan, weight)
    solves = relative_solves(small, weight)
    places = truth = None
    for target in targets:
        began = time.process_time()
        nm = noise_map(CgSense(weight), scan, target_error=target)
        seconds = time.process_time() - began
        if truth is None:
            inside = foreground(nm.image).nonzero()
            places = inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(0))[:CHECKED]]
            truth = exact(scan, weight, places)
        assert places is not None
        error = float(((nm.variance[tuple(places.T)] / truth).sqrt() - 1).square().mean().sqrt())
        costs = {**replica, **{name: factor * replica["batched"] for name, factor in solves.items()}}
        yield {
            "target": target,
            "method": nm.method,
            "samples": nm.n_samples,
            "certified": nm.certified_error,
            "real": error,
            "seconds": seconds,
            "replica": replica,
            "solves": solves,
            "ratio": {name: seconds / (one / (4 * target**2)) for name, one in costs.items()},
            "at_equal_error": {name: seconds / (one / (4 * error**2)) for name, one in costs.items()},
        }


def exact(scan: Acquisition, weight: float, places: Tensor) -> Tensor:
    """Variance of single voxels."""
    variance = cg_sense_voxel_variance(CgSense(weight), scan, error=1e-4)
    assert variance is not None
    return torch.cat([variance(one[None]) for one in places])


# -- what others do ------------------------------------------------------------------------------------------------


def one_replica(scan: Acquisition, weight: float) -> dict[str, float]:
    """Process seconds of one replica of each."""
    found = {"sigpy": min(sigpy_replica(scan, weight) for _ in range(2))}
    found["batched"], iterations = batched_replica(scan, weight)
    if which("bart") is not None:
        found["bart"] = bart_replica(scan, weight, 30)
        found["bart, converged"] = bart_replica(scan, weight, iterations)
    return found


def sigpy_replica(scan: Acquisition, weight: float) -> float:
    """Process seconds of one reconstruction."""
    import sigpy.mri as mr

    y, maps, k = plain(scan)
    began = time.process_time()
    mr.app.SenseRecon(y, maps, lamda=weight, coord=k, show_pbar=False).run()
    return time.process_time() - began


def bart_replica(scan: Acquisition, weight: float, iterations: int) -> float:
    """Process seconds of one reconstruction, those of its process."""
    y, maps, k = plain(scan)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write_cfl(path / "y", y.reshape(len(y), 1, -1, 1).transpose(3, 2, 1, 0))
        write_cfl(path / "maps", maps.transpose(2, 1, 0)[:, :, None])
        points = np.concatenate([k.reshape(-1, 2)[:, ::-1], np.zeros((k.size // 2, 1))], axis=1)
        write_cfl(path / "k", points.T[:, :, None])
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = ["bart", "pics", "-l2", f"-r{weight}", f"-i{iterations}", "-t", "k", "y", "maps", "x"]
        subprocess.run(
            command, cwd=path, check=True, capture_output=True, env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def batched_replica(scan: Acquisition, weight: float) -> tuple[float, int]:
    """Process seconds of one of a batch of reconstructions of noise, and the iterations that they take."""
    e = Nufft(scan.trajectory.coordinates, scan.spatial_shape, LOOSE)
    maps = scan.whiten_maps(scan.coil_maps).to(torch.complex64)

    def adjoint(y: Tensor) -> Tensor:
        return torch.linalg.vecdot(maps, e.adjoint(y), dim=-3)

    began = time.process_time()
    b = adjoint(torch.randn(BATCH, COILS, *scan.trajectory.sample_shape, dtype=torch.complex64))
    x, r = torch.zeros_like(b), b
    p, rs = r, r.abs().square().sum((-2, -1), keepdim=True)
    goal = LOOSE**2 * rs
    count = 0
    while bool((rs > goal).any()):
        hp = adjoint(e.forward(maps * p[:, None])) + weight * p
        step = rs / (p.conj() * hp).real.sum((-2, -1), keepdim=True)
        x, r = x + step * p, r - step * hp
        previous, rs = rs, r.abs().square().sum((-2, -1), keepdim=True)
        p = r + rs / previous * p
        count += 1
    return (time.process_time() - began) / BATCH, count


def relative_solves(scan: Acquisition, weight: float) -> dict[str, float]:
    """Solves to an error of σ² inside the object, as a part of those of replicas, of the estimators of the image."""
    maps = scan.whiten_maps(scan.coil_maps).to(torch.complex128).flatten(1)
    shape = scan.spatial_shape
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 2)
    h = PointSpread.of(scan.trajectory.coordinates, shape).between(grid, grid) * (maps.mH @ maps)
    p = torch.linalg.inv(h + weight * torch.eye(len(h), dtype=h.dtype))
    c = p - weight * p @ p
    c = (c + c.mH) / 2
    factor = torch.linalg.cholesky(c + 1e-9 * c.diagonal().real.mean() * torch.eye(len(c), dtype=c.dtype))
    truth = c.diagonal().real
    inside = foreground(CgSense(weight).bind(scan)(scan.kspace)).flatten()
    generator = torch.Generator().manual_seed(SEED)

    def phases(n: int) -> Tensor:
        angle = 2 * torch.pi * torch.rand(len(c), n, generator=generator, dtype=torch.float64)
        return torch.polar(torch.ones_like(angle), angle)

    def probing() -> Tensor:
        w = phases(PRODUCTS)
        return (w.conj() * (c @ w)).real.mean(1)

    def xdiag() -> Tensor:
        return exchangeable_diagonal(Dense(c), PRODUCTS // 2, int(torch.randint(2**31, (), generator=generator))).real

    def xrownorm() -> Tensor:
        y = factor @ phases(PRODUCTS // 2)
        return exchangeable_row_norms(y, lambda q: factor.mH @ q)

    estimators = {"probing": (probing, 2), "XDiag": (xdiag, 2), "XRowNorm": (xrownorm, 1)}
    found = {}
    for name, (estimate, solves) in estimators.items():
        errors = [((estimate() / truth)[inside] - 1).square().mean() for _ in range(DRAWS)]
        # One replica has a relative variance of 1.
        found[name] = float(torch.stack(errors).mean()) * PRODUCTS * solves
    return found


@dataclass(frozen=True)
class Dense:
    """A Hermitian matrix as `peers.exchangeable_diagonal` wants it."""

    values: Tensor

    @property
    def shape(self) -> torch.Size:
        """Its shape."""
        return self.values.shape

    @property
    def dtype(self) -> torch.dtype:
        """Its type."""
        return self.values.dtype

    def __matmul__(self, columns: Tensor) -> Tensor:
        return self.values @ columns


def exchangeable_row_norms(y: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean over i of ‖(Q_i Q_iᴴ L)_j‖² + |y_i|² - |Q_i Q_iᴴ y_i|², y_i = L ω_i, Q_i a basis of the others.

    With y = QR and s_i the normalised column i of R^{-H}: Q_i Q_iᴴ = Q (1 - s_i s_iᴴ) Qᴴ.
    """
    q, r = torch.linalg.qr(y)
    inverse = torch.linalg.inv(r).mH
    s = inverse / inverse.norm(dim=0)
    lq = adjoint(q)  # Lᴴ Q
    gram = lq.mH @ lq
    n = y.shape[1]
    total = torch.zeros(len(y), dtype=torch.float64)
    for i in range(n):
        left = torch.eye(n, dtype=q.dtype) - torch.outer(s[:, i], s[:, i].conj())
        rows = ((q @ (left @ gram @ left)) * q.conj()).sum(1).real
        total += rows + y[:, i].abs().square() - (q @ (left @ r[:, i])).abs().square()
    return total / n


def plain(scan: Acquisition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whitened samples (coil, *samples), maps (coil, y, x), and coordinates (*samples, 2) in the order (y, x)."""
    y, maps = scan.whiten(scan.kspace), scan.whiten_maps(scan.coil_maps)
    k = scan.trajectory.coordinates.movedim(0, -1).float()
    return y.to(torch.complex64).numpy(), maps.to(torch.complex64).numpy(), k.numpy()


def write_cfl(path: Path, values: np.ndarray) -> None:
    """As BART reads it, first axis fastest."""
    header = "# Dimensions\n" + " ".join(map(str, values.shape)) + "\n"
    path.with_suffix(".hdr").write_text(header, encoding="ascii")
    values.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def line(row: dict[str, Any]) -> str:
    """Of the table."""
    replica = [f"{row['replica'][peer]:.2g}" if peer in row["replica"] else "–" for peer in TIMED]
    ratios = [f"1/{1 / row['ratio'][peer]:.0f}" if peer in row["ratio"] else "–" for peer in (*TIMED, *JUDGED)]
    return (
        f"| {row['scan']} | {row['weight']:g} | {row['target']:.0%} | {row['method']} | {row['samples']} "
        f"| {row['certified']:.2%} | {row['real']:.2%} | {row['seconds']:.1f} | "
        + " | ".join([*replica, *ratios])
        + " |"
    )


if __name__ == "__main__":
    main()
