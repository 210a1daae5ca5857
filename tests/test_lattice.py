"""Probing alias sets: exact in R products where the reconstruction treats them apart, honest where it does not."""

import pytest
import torch
from torch import Tensor

from mrnoise import InputError, noise_map
from mrnoise.closed_form import sense_std
from mrnoise.reconstruction import CgSense, Sense
from mrnoise.sampling import caipi, equispaced, random_2d
from mrnoise.sampling.lattice import alias_colours, alias_lattice
from mrnoise.simulation import random_noise_covariance, simulate

SHAPE = (36, 32)
FULL = simulate(SHAPE, 8, snr=40, noise_covariance=random_noise_covariance(8, condition_number=25.0, seed=4), seed=2)
MASKS = {
    "R=2": equispaced(SHAPE, 2),
    "R=3": equispaced(SHAPE, 3, offset=1),
    "R=4": equispaced(SHAPE, 4),
    "CAIPI 2x2": caipi(SHAPE, (2, 2)),
}


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("name", MASKS)
def test_every_alias_set_has_every_colour(name):
    lattice = alias_lattice(MASKS[name])
    colours = alias_colours(MASKS[name])
    sets = lattice.aliases(colours).sort(0).values
    assert bool((sets == torch.arange(lattice.acceleration)[:, None, None]).all())


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("regularization", [0.0, 0.02])
def test_exact_in_r_products(name, regularization):
    """No sampling error: 1e-3 is round-off and the tolerance of the solver; √2 would be 0.41."""
    acq = FULL.undersample(MASKS[name])
    truth = sense_std(acq, regularization)
    r = alias_lattice(MASKS[name]).acceleration
    for reconstruction in (Sense(regularization), CgSense(regularization, tolerance=1e-7)):
        nm = noise_map(reconstruction, acq, method="lattice", n_samples=1)
        assert float((nm.std / truth - 1).abs().max()) < 1e-3
        assert float(nm.relative_error.max()) < 1e-3
        assert nm.n_products == 2 * r  # R vector-Jacobian and R Jacobian-vector products
        assert float(nm.estimate.pseudo_variance.abs().max()) == 0


def conjugate(kspace: Tensor, reconstruct) -> Tensor:
    """Improper noise that stays inside the alias sets: x + 0.6i x*."""
    x = reconstruct(kspace)
    return x + 0.6j * x.conj()


def test_real_linear_reconstructions_take_twice_as_many():
    acq = FULL.undersample(MASKS["R=3"])
    reconstruct = Sense().bind(acq)
    truth = sense_std(acq)
    nm = noise_map(lambda k: conjugate(k, reconstruct), acq, method="lattice", n_samples=1)
    assert float((nm.std / (truth * 1.36**0.5) - 1).abs().max()) < 1e-3
    # E(δ + 0.6i δ*)² = 1.2i E|δ|² for proper δ.
    torch.testing.assert_close(
        nm.estimate.pseudo_variance, 1.2j * truth.square().to(torch.complex128), rtol=1e-3, atol=1e-9
    )
    assert nm.n_products == 4 * 3


def test_magnitude_images_take_two_draws():
    acq = FULL.undersample(MASKS["R=4"])
    reconstruct = Sense().bind(acq)
    one = noise_map(lambda k: reconstruct(k).abs(), acq, method="lattice", n_samples=1)
    assert bool(one.relative_error.isnan().all())
    two = noise_map(lambda k: reconstruct(k).abs(), acq, method="lattice", target_error=0.01)
    assert two.n_samples == 2
    assert float((two.std / (sense_std(acq) / 2**0.5) - 1).abs().max()) < 1e-3


def blurred(kspace: Tensor, reconstruct) -> Tensor:
    x = reconstruct(kspace)
    return x + 0.5 * x.roll(1, -1) + 0.3 * x.roll(1, -2)


def test_leakage_is_reported_where_alias_sets_are_mixed():
    """The checker that must not pass: neighbours of the same colour are correlated, and the error bar says so.

    Floor: 12 draws of 1152 correlated voxels know the spread to about 3 %.
    """
    acq = FULL.undersample(MASKS["R=2"])
    reconstruct = Sense().bind(acq)
    truth = noise_map(lambda k: blurred(k, reconstruct), acq, method="exact").variance
    found, stated = [], []
    for seed in range(12):
        nm = noise_map(lambda k: blurred(k, reconstruct), acq, method="lattice", n_samples=1, seed=seed)
        found.append(nm.variance / truth - 1)
        stated.append(nm.estimate.variance_error / truth)
    assert rms(torch.stack(stated)) > 0.1
    assert 0.85 < rms(torch.stack(stated)) / rms(torch.stack(found)) < 1.18
    assert noise_map(lambda k: blurred(k, reconstruct), acq, method="lattice", target_error=0.1).n_samples > 2


@pytest.mark.parametrize("axis", [0, 1])
def test_any_sampling_along_one_axis_has_lines_as_alias_sets(axis):
    """Exact in as many products as a line has voxels; against the dense Jacobian."""
    mask = equispaced(SHAPE, 3, 8) if axis == 0 else equispaced(SHAPE[::-1], 3, 8).T.contiguous()
    colours = alias_colours(mask)
    assert int(colours.max()) == SHAPE[axis] - 1
    assert bool((colours.movedim(axis, 0).diff(dim=0) == 1).all())
    acq = FULL.undersample(mask)
    truth = noise_map(CgSense(0.02), acq, method="exact").std
    nm = noise_map(CgSense(0.02), acq, method="lattice", n_samples=1)
    assert float((nm.std / truth - 1).abs().max()) < 1e-3
    assert nm.n_products == 2 * SHAPE[axis]


def test_sets_of_a_lattice_with_holes_are_those_of_the_lattice():
    """Every second line, of these every third left out: the pattern repeats after six, so sets have six voxels."""
    mask = equispaced(SHAPE, 2) & ~equispaced(SHAPE, 6)
    assert bool((alias_colours(mask) == (torch.arange(36) // 6)[:, None]).all())


def test_irregular_sampling_of_two_axes_has_no_alias_sets():
    with pytest.raises(InputError, match="too many voxels alias onto each other.*sets of 1152"):
        noise_map(CgSense(0.02), FULL.undersample(random_2d(SHAPE, 3, 8, 0)), method="lattice")


def test_cropped_images_are_coloured_as_their_field_of_view():
    acq = FULL.undersample(MASKS["R=4"])
    reconstruct = Sense().bind(acq)
    nm = noise_map(lambda k: reconstruct(k)[3:-3, 5:-4], acq, method="lattice", n_samples=1)
    assert float((nm.std / sense_std(acq)[3:-3, 5:-4] - 1).abs().max()) < 1e-3


def test_auto_takes_alias_sets_where_they_are_apart():
    acq = FULL.undersample(MASKS["CAIPI 2x2"])
    nm = noise_map(CgSense(0.02), acq)
    assert nm.method == "lattice" and "alias sets" in nm.provenance.why
    assert nm.n_products == 8
    assert float((nm.std / sense_std(acq, 0.02) - 1).abs().max()) < 1e-3
    assert noise_map(CgSense(0.02), acq, n_samples=50).n_products == 8
    # Not where it mixes them, nor for other sampling or improper noise.
    reconstruct = Sense().bind(FULL.undersample(MASKS["R=2"]))
    half = FULL.undersample(MASKS["R=2"])
    assert noise_map(lambda k: blurred(k, reconstruct), half, n_samples=4).method == "sketch"
    assert noise_map(lambda k: conjugate(k, reconstruct), half, n_samples=4).method == "sketch"
    # Lines with 36 voxels take 72 products: as many as samples, and no more than a plain sketch to 5 % takes.
    lines = FULL.undersample(equispaced(SHAPE, 2, 8))
    assert noise_map(CgSense(0.02), lines, target_error=0.05).n_products == 72
    assert noise_map(CgSense(0.02), lines, n_samples=71).method != "lattice"
    assert noise_map(CgSense(0.02), lines, target_error=0.06).method != "lattice"
    scattered = FULL.undersample(random_2d(SHAPE, 3, 8, 0))
    assert noise_map(CgSense(0.02), scattered, n_samples=4).method == "sketch"
