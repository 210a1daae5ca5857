"""Coloured probes: sublattices, how they are found, and what a map from few of them is worth."""

import dataclasses
from math import prod

import pytest
import torch
from torch import Tensor

from mrnoise import InputError, estimators
from mrnoise.estimators import Plan, Sublattice, coloured
from mrnoise.estimators.colouring import _candidates, colouring
from mrnoise.result import NoiseMap

SHAPE = (42, 36)
FAR = (21, 0)  # offset of a second correlated voxel, as aliasing gives it


@dataclasses.dataclass
class Filtered:
    """L v = g (k * v) + h (k * v)*, a short filter k with an echo at `FAR`, and gains that vary over the image."""

    conjugate: float = 0.0
    echo: float = 0.0
    complex_linear: bool = True
    noise_shape: tuple[int, ...] = SHAPE
    image_shape: tuple[int, ...] = SHAPE
    noise_dtype: torch.dtype = torch.complex128
    image_dtype: torch.dtype = torch.complex128
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    def __post_init__(self) -> None:
        self.complex_linear = self.conjugate == 0
        kernel = torch.zeros(SHAPE, dtype=torch.complex128)
        taps = torch.tensor([[0.2, 0.5, 0.2], [0.4, 1.0, 0.5j], [0.1, 0.4, 0.2]], dtype=torch.complex128)
        for i in range(3):
            for j in range(3):
                kernel[i - 1, j - 1] += taps[i, j]
        self.kernel = kernel + self.echo * kernel.roll(FAR, (0, 1))
        self.response = torch.fft.fft2(self.kernel)
        y = torch.linspace(0, 3, SHAPE[0], dtype=torch.float64)[:, None]
        self.gain = (1 + 0.6 * torch.sin(2 * y) * torch.linspace(0.5, 1, SHAPE[1], dtype=torch.float64)).to(
            torch.complex128
        )

    def apply(self, v: Tensor) -> Tensor:
        x = torch.fft.ifft2(self.response * torch.fft.fft2(v))
        return self.gain * (x + self.conjugate * x.conj())

    def adjoint(self, w: Tensor) -> Tensor:
        w = self.gain * w
        return torch.fft.ifft2(self.response.conj() * torch.fft.fft2(w + self.conjugate * w.conj()))

    def replicas(self, v: Tensor) -> Tensor:
        return self.apply(v)

    @property
    def variance(self) -> Tensor:
        return (1 + self.conjugate**2) * self.gain.abs().square() * self.kernel.abs().square().sum()


def products(operator, n=8):
    generator = torch.Generator().manual_seed(9)
    return operator.apply(torch.randn(n, *SHAPE, dtype=torch.complex128, generator=generator))


@pytest.mark.parametrize("cells", [Sublattice(3, 3, 2), Sublattice(1, 10, 3), Sublattice(4, 1, 0)])
def test_voxels_of_one_colour_differ_by_the_sublattice(cells):
    colours = cells.colours(SHAPE)
    assert colours.unique().tolist() == list(range(cells.n_colours))
    y, x = torch.nonzero(colours == colours[17, 11]).T
    dy, dx = y - 17, x - 11
    assert bool((dy % cells.rows == 0).all())
    assert bool(((dx - cells.shear * (dy // cells.rows)) % cells.columns == 0).all())
    assert len(y) == pytest.approx(prod(SHAPE) / cells.n_colours, rel=0.1)


def test_an_echo_is_avoided():
    """FAR is a multiple of (3, 0): without the echo 3×3 colours would do."""
    inside = torch.ones(SHAPE, dtype=torch.bool)
    for cells, _ in _candidates(products(Filtered(echo=0.8)), inside):
        colours = cells.colours(SHAPE)
        if cells.n_colours >= 7:
            assert colours[0, 0] != colours[FAR]


@pytest.mark.parametrize(
    "operator", [Filtered(), Filtered(0.5), Filtered(0.3, 0.7)], ids=["proper", "improper", "echo"]
)
def test_few_probes_reach_the_target(operator):
    """3 % from at most a third of the 278 to 556 samples of a sketch; √2 would be 41 %."""
    result = coloured(operator, Plan(target_error=0.03), seed=3)
    error = float(((result.variance / operator.variance).sqrt() - 1).square().mean().sqrt())
    assert error < float(result.certified_error) * 1.1 <= 0.033
    assert result.n_products <= 140
    sigma_error = 0.5 * (result.variance_error / result.variance).square().mean().sqrt()
    assert error == pytest.approx(float(sigma_error), rel=0.35)


def test_certificate_holds():
    """Of 60 maps from one draw, at most 7 may be worse than certified with 95 % (chance 1 %)."""
    operator = Filtered(0.4)
    for cells in (Sublattice(1, 6, 2), Sublattice(1, 12, 2)):
        worse = 0
        for seed in range(60):
            result = coloured(operator, Plan(n_samples=1, target_error=1e-4), cells, seed=seed)
            error = ((result.variance / operator.variance).sqrt() - 1).square().mean().sqrt()
            worse += bool(error > result.certified_error)
            assert result.certified_error < 1.3 * error
        assert worse <= 7


def test_what_costs_too_much_is_not_tried():
    operator = Filtered()
    inside = torch.ones(SHAPE, dtype=torch.bool)
    assert colouring(operator, products(operator), inside, 0.03, probe_seconds=1.0, most_seconds=2.0) is None
    found = colouring(operator, products(operator), inside, 0.03)
    assert found is not None and found.draws >= 1


def test_coloured_noise_map_is_that_of_the_exact_method():
    operator = Filtered(0.2)
    exact = estimators.exact(operator)
    nm = NoiseMap(torch.ones(SHAPE), coloured(operator, Plan(target_error=0.02)))
    torch.testing.assert_close(exact.variance, operator.variance, rtol=1e-8, atol=0)
    low, high = nm.confidence_interval(0.95)
    covered = ((low <= operator.variance.sqrt()) & (operator.variance.sqrt() <= high)).double().mean()
    assert float(covered) > 0.9


def test_only_complex_planes_have_colours():
    operator = Filtered()
    operator.image_dtype = torch.float64
    with pytest.raises(InputError, match="complex image of two axes"):
        coloured(operator, Plan(n_samples=1))
