"""Iterated density compensation: what it sums to, what gridding with it gives, and where it must not be trusted."""

import math

import pytest
import torch

from mrnoise import InputError
from mrnoise.encoding import pipe_menon_density
from mrnoise.encoding.density import unit_gain
from mrnoise.sampling import Trajectory, radial, spiral, stack_of_stars, voronoi_density
from test_trajectories import FULL, PLANE, encode, smooth_object


def gridding_error(trajectory, density):
    """Root mean square of Aᴴ w A x - x relative to the largest x, for an object inside the field of view."""
    a = encode(trajectory)
    x = smooth_object(trajectory.image_shape).to(a.dtype)
    error = a.mH @ (density.flatten() * (a @ x)) - x
    return float(error.abs().square().mean().sqrt() / x.abs().max())


def test_whole_k_have_weight_one():
    """Of the grid, and each of two samples at one place half of it."""
    k = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in (7, 6)), indexing="ij")).flatten(1)
    torch.testing.assert_close(pipe_menon_density(Trajectory(k, (7, 6))), torch.ones(42).double(), rtol=0, atol=1e-4)
    twice = Trajectory(torch.cat([k, k[:, :1]], 1), (7, 6))
    expected = torch.ones(43).double()
    expected[[0, -1]] = 0.5
    torch.testing.assert_close(pipe_menon_density(twice), expected, rtol=0, atol=1e-4)


def test_against_the_kernel_as_a_matrix():
    spokes = radial((9, 8), 7, 11)
    difference = spokes.coordinates.flatten(1)[:, :, None] - spokes.coordinates.flatten(1)[:, None]
    kernel = torch.ones(77, 77).double()
    for axis, n in enumerate((9, 8)):
        r = torch.arange(-n, n).double()
        phase = 2 * math.pi * difference[axis][..., None] * r / n
        kernel = kernel * ((1 - r.abs() / n) * phase.cos()).sum(-1) / n
    w = torch.ones(77).double()
    for _ in range(3):
        w = w / (kernel @ w)
    torch.testing.assert_close(pipe_menon_density(spokes, 3).flatten(), w, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", FULL)
def test_gridding_is_the_object_within_a_hundredth(name):
    trajectory, _ = FULL[name]
    density = pipe_menon_density(trajectory)
    assert bool((density > 0).all())
    assert gridding_error(trajectory, density) < 0.01


def test_the_better_the_more_uneven():
    """Spokes that are bunched: cells and iterations both correct them, no compensation does not."""
    angles = torch.linspace(0, 1, 70, dtype=torch.float64)[:-1] ** 1.5 * math.pi
    spokes = radial(PLANE, 69, angles=angles)
    errors = [gridding_error(spokes, w) for w in (voronoi_density(spokes), pipe_menon_density(spokes))]
    assert max(errors) < 0.02 < 0.1 < gridding_error(spokes, torch.full(spokes.sample_shape, 0.2).double())


def test_gaps_cannot_be_filled():
    """A quarter of the spokes: no density makes that the image."""
    few, all_ = radial(PLANE, 10), radial(PLANE, 40)
    assert gridding_error(few, pipe_menon_density(few)) > 10 * gridding_error(all_, pipe_menon_density(all_))


def test_iterations_are_counted():
    with pytest.raises(InputError, match="number of iterations"):
        pipe_menon_density(radial(PLANE, 5), 0)


@pytest.mark.parametrize("name", ["whole", "radial", "undersampled", "spiral", "stack"])
def test_a_density_of_any_scale_has_unit_gain(name):
    """Analytic densities come back, whatever the factor, where the centre has no gaps."""
    k = torch.stack(torch.meshgrid(*(torch.arange(n).double() - n // 2 for n in (14, 12)), indexing="ij")).flatten(1)
    trajectory = {
        "whole": lambda: Trajectory(k, (14, 12), torch.ones(168).double()),
        "radial": lambda: radial((28, 32), 50, angles="uniform"),
        "undersampled": lambda: radial((64, 60), 24, angles="uniform"),
        "spiral": lambda: spiral((48, 40), 8, power=2.0),
        "stack": lambda: stack_of_stars((6, 28, 32), 50),
    }[name]()
    for factor in (1.0, 3e-7):
        ratio = unit_gain(trajectory, factor * trajectory.density) / trajectory.density
        assert float(ratio.std()) < 1e-6 and float(ratio.mean()) == pytest.approx(1, abs=0.02)
