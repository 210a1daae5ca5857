"""Milliseconds of A, Aᴴ and AᴴA along a trajectory against other packages, one thread, at their real error or better.

    python benchmarks/transforms.py [--only "radial 128²"] [--rounds 11] [--json FILE]

A = E S with 8 coils, single precision, as each package comes; `sigpy`, `torchkbnufft`, `mri-nufft` and `mrpro` where
they are installed. The error of each is measured: against our transform in double precision at a tolerance of 10⁻¹³,
which is itself held to sums over all voxels at a few samples. Ours then runs at the loosest tolerance whose error is
no larger. Each round times every candidate once, so that what else the machine does falls on all; medians of process
time. Plans and kernels that a package keeps are made before; ours plans at each transform.

- Gram: Toeplitz where the package has it (torchkbnufft, mrpro, SigPy's `NUFFT(toeplitz=True)`), else Aᴴ after A.
- limit: what the Fourier transforms in ours take alone; in A and Aᴴ those of the finer grid.
- derivatives: a jvp of A with its value relative to A, and a vjp relative to Aᴴ, at the default tolerance.
- solve: 30 conjugate-gradient steps for one image and for 8 at once, relative to as many products AᴴA.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrnoise.encoding import NonCartesian, Nufft
from mrnoise.encoding.non_cartesian import point_spread
from mrnoise.encoding.normal_equations import NormalEquations
from mrnoise.sampling import Trajectory, radial, radial_3d, spiral
from mrnoise.simulation import simulated_head

COILS = 8
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7)
OPERATIONS = ("A", "Aᴴ", "AᴴA")
CHECKED, STEPS, IMAGES = 50, 30, 8


def cases() -> dict[str, Trajectory]:
    return {
        "radial 128², R = 2": radial((128, 128), 101, 256),
        "spiral 96², R = 4": spiral((96, 96), 8, 288),
        "radial 48³, R = 4": radial_3d((48, 48, 48), 905, 96),
    }


@dataclass(frozen=True)
class Operator:
    """A, Aᴴ and AᴴA of a package: each takes and gives its own kind of array, here times ``scale`` ours."""

    image: Any
    samples: Any
    forward: Callable[[Any], Any]
    adjoint: Callable[[Any], Any]
    gram: Callable[[Any], Any]
    scale: float = 1.0

    def work(self, operation: str) -> Callable[[], Any]:
        """One operation, ready to be timed."""
        calls = {"A": (self.forward, self.image), "Aᴴ": (self.adjoint, self.samples), "AᴴA": (self.gram, self.image)}
        call, argument = calls[operation]
        return lambda: call(argument)

    def error(self, operation: str, truth: Tensor) -> float:
        """Of one operation, relative."""
        found = self.work(operation)()
        found = torch.as_tensor(found[0] if isinstance(found, tuple) else found).flatten().to(torch.complex128)
        found = found / (self.scale**2 if operation == "AᴴA" else self.scale)
        return float((found - truth.flatten()).norm() / truth.norm())


def ours(trajectory: Trajectory, maps: Tensor, image: Tensor, samples: Tensor, tolerance: float) -> Operator:
    a = NonCartesian(maps, trajectory, transform_tolerance=tolerance)
    return Operator(image, samples, a.forward, a.adjoint, a.gram)


# -- what others do ------------------------------------------------------------------------------------------------


def by_sigpy(trajectory: Trajectory, maps: Tensor, image: Tensor, samples: Tensor) -> Operator:
    from sigpy import linop

    coordinates = trajectory.coordinates.movedim(0, -1).float().numpy()
    s = linop.Multiply(tuple(image.shape), maps.numpy())
    e = linop.NUFFT(tuple(maps.shape), coordinates, toeplitz=True)
    a = e * s
    return Operator(image.numpy(), samples.numpy(), a, a.H, s.H * e.N * s)


def by_torchkbnufft(trajectory: Trajectory, maps: Tensor, image: Tensor, samples: Tensor) -> Operator:
    import torchkbnufft as tkbn

    omega = radians(trajectory)
    shape = tuple(image.shape)
    forward, adjoint, gram = tkbn.KbNufft(shape), tkbn.KbNufftAdjoint(shape), tkbn.ToepNufft()
    kernel = tkbn.calc_toeplitz_kernel(omega, shape)
    return Operator(
        image[None, None],
        samples.flatten(1)[None],
        lambda x: forward(x, omega, smaps=maps[None]),
        lambda y: adjoint(y, omega, smaps=maps[None]),
        lambda x: gram(x, kernel, smaps=maps[None]),
        image.numel() ** 0.5,
    )


def by_mri_nufft(trajectory: Trajectory, maps: Tensor, image: Tensor, samples: Tensor) -> Operator:
    import mrinufft

    points = (radians(trajectory).T / (2 * math.pi)).numpy()
    operator = mrinufft.get_operator("finufft")(
        points, tuple(image.shape), n_coils=COILS, smaps=maps.numpy(), n_trans=COILS
    )
    x, y = image.numpy(), samples.flatten(1).numpy()
    return Operator(
        x, y, operator.op, operator.adj_op, lambda v: operator.adj_op(operator.op(v)), 2 ** (-image.ndim / 2)
    )


def by_mrpro(trajectory: Trajectory, maps: Tensor, image: Tensor, samples: Tensor) -> Operator:
    from mrpro.data import KTrajectory, SpatialDimension
    from mrpro.operators import FourierOp

    dims = image.ndim
    size = SpatialDimension(*(1,) * (3 - dims), *image.shape)
    k = trajectory.coordinates.float()
    zero = torch.zeros(1, 1, 1, 1, 1)
    zyx = [zero] * (3 - dims) + [one.reshape(1, 1, 1, *one.shape) for one in k]
    e = FourierOp(size, size, KTrajectory(*zyx))
    t = e.gram
    s = maps.reshape(1, COILS, *size.zyx)

    def combined(x: Tensor) -> Tensor:
        return (s.conj() * x).sum(1, keepdim=True)

    return Operator(
        image.reshape(1, 1, *size.zyx),
        samples.reshape(1, COILS, 1, *trajectory.sample_shape),
        lambda x: e(s * x),
        lambda y: combined(e.adjoint(y)[0]),
        lambda x: combined(t(s * x)[0]),
    )


PEERS: dict[str, Callable[[Trajectory, Tensor, Tensor, Tensor], Operator]] = {
    "sigpy": by_sigpy,
    "torchkbnufft": by_torchkbnufft,
    "mri-nufft": by_mri_nufft,
    "mrpro": by_mrpro,
}
MODULES = {"mri-nufft": "mrinufft"}


def radians(trajectory: Trajectory) -> Tensor:
    """Radians a voxel, (dimension, M)."""
    n = torch.tensor(trajectory.image_shape, dtype=torch.float64)
    return (2 * math.pi * trajectory.coordinates.double().flatten(1) / n[:, None]).float()


# -- the measurement -----------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    peers = [peer for peer in PEERS if installed(peer)]
    print("| case | operation | ours, default | limit | " + " | ".join(peers) + " |")
    print("|" + "---|" * (4 + len(peers)))
    record = {}
    for name, trajectory in cases().items():
        if name.startswith(options.only):
            record[name] = measured(name, trajectory, peers, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def installed(peer: str) -> bool:
    """Whether it can be imported; its version, or why not, is printed."""
    try:
        importlib.import_module(MODULES.get(peer, peer))
    except ImportError as missing:
        print(f"{peer}: not installed ({missing})")
        return False
    print(f"{peer} {importlib.metadata.version(peer)}")
    return True


def measured(name: str, trajectory: Trajectory, peers: list[str], rounds: int) -> dict[str, Any]:
    """All operations of one case, printed as rows."""
    shape = trajectory.image_shape
    maps = simulated_head(shape, COILS).coil_maps.to(torch.complex64)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, dtype=torch.complex64, generator=generator)
    samples = torch.randn(COILS, *trajectory.sample_shape, dtype=torch.complex64, generator=generator)
    truth = exact(trajectory, maps, image, samples)
    others = {peer: PEERS[peer](trajectory, maps, image, samples) for peer in peers}
    at = {tolerance: ours(trajectory, maps, image, samples, tolerance) for tolerance in TOLERANCES}
    default = ours(trajectory, maps, image, samples, 1e-6)
    record: dict[str, Any] = {}
    for operation in OPERATIONS:
        own = {tolerance: a.error(operation, truth[operation]) for tolerance, a in at.items()}
        errors = {peer: a.error(operation, truth[operation]) for peer, a in others.items()}
        equal = {
            peer: next((t for t in TOLERANCES if own[t] <= error), TOLERANCES[-1]) for peer, error in errors.items()
        }
        work = {"default": default.work(operation), "limit": fourier(trajectory, operation)}
        work |= {peer: a.work(operation) for peer, a in others.items()}
        work |= {str(tolerance): at[tolerance].work(operation) for tolerance in set(equal.values())}
        ms = medians(work, rounds)
        cells = [
            f"{ms[peer]:.1f} ({errors[peer]:.0e}), ours {ms[str(equal[peer])]:.1f} ({own[equal[peer]]:.0e}): "
            f"{ms[str(equal[peer])] / ms[peer]:.2f}"
            for peer in peers
        ]
        error = default.error(operation, truth[operation])
        head = f"| {name} | {operation} | {ms['default']:.1f} ({error:.0e}) | {ms['limit']:.1f} | "
        print(head + " | ".join(cells) + " |", flush=True)
        record[operation] = {"ms": ms, "error": errors, "own_error": own, "tolerance": equal}
    record |= derivatives(trajectory, maps, image, samples, rounds) | solution(trajectory, maps, image, rounds)
    print(f"{name}: " + ", ".join(f"{key} {record[key]:.2f}" for key in list(record)[len(OPERATIONS) :]), flush=True)
    return record


def exact(trajectory: Trajectory, maps: Tensor, image: Tensor, samples: Tensor) -> dict[str, Tensor]:
    """A x, Aᴴ y and AᴴA x in double precision; A x is compared with sums over the voxels at a few samples."""
    maps, image, samples = (values.to(torch.complex128) for values in (maps, image, samples))
    e = Nufft(trajectory.coordinates, trajectory.image_shape, 1e-13)

    def adjoint(y: Tensor) -> Tensor:
        return (maps.conj() * e.adjoint(y)).sum(0)

    y = e.forward(maps * image)
    at = torch.linspace(0, trajectory.n_samples - 1, CHECKED).long()
    sums = maps * image
    for d in reversed(range(image.ndim)):
        n = image.shape[d]
        phase = -2j * math.pi / n * (torch.arange(n, dtype=torch.float64) - n // 2)
        column = torch.exp(trajectory.coordinates.double().flatten(1)[d, at, None] * phase)
        sums = sums @ column.T if d == image.ndim - 1 else torch.einsum("...yp,py->...p", sums, column)
    dense = sums / image.numel() ** 0.5
    difference = (y.flatten(1)[:, at] - dense).norm() / dense.norm()
    assert difference < 1e-11, f"our transform in double precision is off by {float(difference):.1e}"
    return {"A": y, "Aᴴ": adjoint(samples), "AᴴA": adjoint(y)}


def fourier(trajectory: Trajectory, operation: str) -> Callable[[], Any]:
    """The Fourier transforms in one operation of ours, nothing else."""
    shape = trajectory.image_shape
    dims = tuple(range(-len(shape), 0))
    if operation == "AᴴA":
        # Lines of n voxels, twice as many sets of them along each further axis; back as well.
        x = torch.randn(COILS, *shape, dtype=torch.complex64)
        return lambda: [torch.fft.fft(x) for _ in range(2 * (2 ** (len(shape) + 1) - 2))]
    factor = 1.25 if len(shape) == 2 else 2
    fine = torch.randn(COILS, *(int(factor * n) for n in shape), dtype=torch.complex128)
    return lambda: torch.fft.fftn(fine, dim=dims)


def derivatives(trajectory: Trajectory, maps: Tensor, image: Tensor, samples: Tensor, rounds: int) -> dict[str, float]:
    """Seconds of a jvp and of a vjp, with the value, over those of A; and of a vjp alone over those of Aᴴ."""
    a = NonCartesian(maps, trajectory)
    _, pullback = torch.func.vjp(a.forward, image)
    ms = medians(
        {
            "A": lambda: a.forward(image),
            "Aᴴ": lambda: a.adjoint(samples),
            "jvp": lambda: torch.func.jvp(a.forward, (image,), (image,)),
            "vjp": lambda: pullback(samples),
        },
        rounds,
    )
    return {"jvp with value / A": ms["jvp"] / ms["A"], "vjp / Aᴴ": ms["vjp"] / ms["Aᴴ"]}


def solution(trajectory: Trajectory, maps: Tensor, image: Tensor, rounds: int) -> dict[str, float]:
    """Of conjugate gradients for one image and for several at once, relative to their products AᴴA."""
    a = NonCartesian(maps, trajectory)
    equations = NormalEquations(point_spread(trajectory).convolution(maps), -image.ndim - 1)
    several = torch.randn(IMAGES, *trajectory.image_shape, dtype=torch.complex64)
    weight = torch.tensor(1e-6, dtype=torch.float64)  # too small to converge

    def solve(b: Tensor) -> Callable[[], Any]:
        return lambda: equations.conjugate_gradients(b, maps, weight, most=STEPS)

    work = {"one": solve(image), "several": solve(several), "gram": lambda: [a.gram(image) for _ in range(STEPS)]}
    ms = medians(work, max(3, rounds // 4))
    return {
        "solve of one image / AᴴA": ms["one"] / ms["gram"],
        f"of {IMAGES} at once": ms["several"] / (IMAGES * ms["gram"]),
    }


def medians(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of process time, each once a round."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, call in work.items():
            began = time.process_time()
            call()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - began)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
