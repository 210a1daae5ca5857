"""The methods that benchmarks race are right themselves: each against the exact σ, within its own sampling error."""

from pathlib import Path

import pytest
import torch

from mrnoise import noise_map
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.sampling import equispaced, random_2d
from mrnoise.simulation import simulate

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SHAPE, COILS, R = (14, 11), 5, 2
SAMPLES = {"paper": 400, "replicas": 400, "batched replicas": 400, "pico": 400, "xdiag": 40}


@pytest.fixture(scope="module", params=[True, False], ids=["complex-linear", "real-linear"])
def case(request):
    """Problem and exact image covariance, as unit noise in, image noise out, for real and imaginary noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import peers
    scan = simulate(SHAPE, COILS, mask=equispaced(SHAPE, R), seed=3)
    scan = scan.replace(kspace=scan.kspace.to(torch.complex128))
    sense = Sense().bind(scan)

    def improper(kspace):
        image = sense(kspace)
        return torch.complex(image.real, 0.3 * image.imag)

    function = sense if request.param else improper
    problem = peers.Problem(function, scan.kspace, scan.colour, scan.colour_adjoint, linear=request.param)
    return peers, problem, noise_map(function, scan, method="exact").variance


@pytest.mark.parametrize("regularization", [1e-2, 0.3])
def test_closed_form_of_cg_sense_is_the_exact_map(monkeypatch, regularization):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import estimators

    scan = simulate(SHAPE, COILS, mask=random_2d(SHAPE, 3, 3), seed=3)
    scan = scan.replace(kspace=scan.kspace.to(torch.complex128))
    exact = noise_map(CgSense(regularization, tolerance=1e-9), scan, method="exact").variance
    assert error_of(estimators.cg_sense_variance(scan, regularization), exact) < 1e-5
    assert error_of(2 * estimators.cg_sense_variance(scan, regularization), exact) > 0.4


def leakage(problem):
    """√ of Σ_{j≠i} of the squared real covariance over 2V_i: error of σ of one image probe, relative, RMS."""
    n = SHAPE[0] * SHAPE[1]
    units = torch.eye(n, dtype=torch.complex128).reshape(n, *SHAPE)
    gram = torch.func.vjp(problem.reconstruct, problem.kspace)[1]

    def column(w):
        image = problem.colour(problem.colour_adjoint(gram(w)[0]))
        return torch.func.jvp(problem.reconstruct, (problem.kspace,), (image,))[1].flatten()

    columns = torch.stack([column(w) for w in units])
    turned = torch.stack([column(1j * w) for w in units])
    # LLᵀw = V w + P w̄ between every two voxels.
    v, p = 0.5 * (columns - 1j * turned), 0.5 * (columns + 1j * turned)
    diagonal = v.diagonal().real
    spread = 0.5 * (v.abs().square() + p.abs().square()).sum(0) - 0.5 * diagonal.square()
    return float((spread / (4 * diagonal.square())).mean().sqrt())


def error_of(variance, exact):
    return float((variance.clamp_min(0).sqrt() / exact.sqrt() - 1).square().mean().sqrt())


@pytest.mark.parametrize("name", SAMPLES)
def test_peer_agrees_with_the_exact_map(case, name):
    peers, problem, exact = case
    count = SAMPLES[name]
    *_, (samples, variance, seconds) = peers.PEERS[name](problem, (count // 2, count), 1)
    assert samples == count and seconds > 0
    # Relative error of σ: √((1+κ²) / 4S) with κ ≤ 1 for samples of the noise, the leakage for probes of the image.
    # XDiag with 40 probes of 154 unknowns has about that of plain probing with as many; near full rank it has more.
    floor = (leakage(problem) if name in ("pico", "xdiag") else (0.25 if problem.linear else 0.5) ** 0.5) / count**0.5
    assert error_of(variance, exact) < 1.3 * floor
    assert abs(float((variance.sqrt() / exact.sqrt()).mean()) - 1) < 0.5 * floor
    # A factor of √2 in σ must not pass.
    assert error_of(2 * variance, exact) > 1.3 * floor
    assert error_of(0.5 * variance, exact) > 1.3 * floor


def test_xdiag_of_as_many_probes_as_unknowns_leaves_one_direction_to_chance(case):
    """Its low-rank part is nearly everything then; without it the error is that of probing."""
    peers, problem, exact = case
    n = exact.numel() * (1 if problem.linear else 2)
    *_, (_, variance, _) = peers.xdiag(problem, (n,), 1)
    assert error_of(variance, exact) < 0.1 * leakage(problem) / n**0.5


def test_own_xdiag_is_that_of_the_package(case):
    pytest.importorskip("skerch")
    peers, problem, exact = case
    matrix = peers._Matrix(peers._covariance(problem), real=not problem.linear)
    ours = matrix.variance(peers.exchangeable_diagonal(matrix, 40, 1))
    theirs = matrix.variance(peers._diagonal_by_skerch(matrix, 40, 1))
    a, b = error_of(ours, exact), error_of(theirs, exact)
    assert 0.7 < a / b < 1.4
