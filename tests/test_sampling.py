"""Sampling patterns: what they acquire, how much of it, and what they refuse."""

import time

import numpy as np
import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.sampling import (
    PATTERNS,
    REGULAR,
    caipi,
    equispaced,
    poisson_disc,
    random_1d,
    random_2d,
    sampling_mask,
)

RANDOM_2D = [random_2d, poisson_disc]


def net_acceleration(mask: torch.Tensor) -> float:
    return float(mask.numel() / mask.sum())


def test_equispaced_lines():
    mask = equispaced((20, 7), 3, calibration=4, offset=1)
    lines = mask[:, 0]
    assert torch.equal(mask, lines[:, None].expand(20, 7))
    expected = {j for j in range(20) if (j - 10 - 1) % 3 == 0} | {8, 9, 10, 11}
    assert set(lines.nonzero().ravel().tolist()) == expected
    volume = equispaced((5, 20, 7), 3, calibration=4, offset=1)
    assert torch.equal(volume, mask.expand(5, 20, 7))


@pytest.mark.parametrize("shape", [(12, 18), (13, 17), (12, 18, 5)])
def test_centre_of_kspace_is_acquired(shape):
    centre = tuple(n // 2 for n in shape)
    for mask in (equispaced(shape, 4), caipi(shape, (2, 3), 1), poisson_disc(shape, 4)):
        assert mask[centre]


@pytest.mark.parametrize(("spacing", "shift"), [((2, 2), 1), ((1, 4), 2), ((3, 2), 1), ((2, 3), 0)])
def test_caipi_lattice(spacing, shift):
    r2, r1 = spacing
    mask = caipi((36, 24), spacing, shift)
    assert net_acceleration(mask) == r2 * r1
    points = (mask.nonzero() - torch.tensor([18, 12])).tolist()
    for a, b in points:
        assert a % r2 == 0
        assert (b - shift * (a // r2)) % r1 == 0
    assert torch.equal(mask, mask.roll((r2, shift), (0, 1)))  # a period of the sheared lattice
    if shift % r1:
        assert not torch.equal(mask, mask.roll(r2, 0))  # the check above notices the shear


def test_caipi_over_both_phase_encodes_of_a_volume():
    volume = caipi((12, 18, 5), (2, 3), 1, calibration=(4, 6))
    assert torch.equal(volume, caipi((12, 18), (2, 3), 1, (4, 6))[:, :, None].expand(12, 18, 5))
    assert volume[4:8, 6:12].all()
    assert torch.equal(caipi((12, 18), 3), caipi((12, 18), (3, 3)))


def test_random_lines():
    mask = random_1d((64, 9), 4, calibration=8, seed=3)
    assert mask[:, 0].sum() == 16
    assert torch.equal(mask, mask[:, :1].expand(64, 9))
    assert mask[28:36].all()
    assert not torch.equal(mask, random_1d((64, 9), 4, calibration=8, seed=4))


@pytest.mark.parametrize("function", RANDOM_2D)
@pytest.mark.parametrize("acceleration", [2.0, 4.5, 8.0])
def test_net_acceleration_counts_calibration(function, acceleration):
    mask = function((80, 62), acceleration, (10, 14), seed=1)
    assert abs(net_acceleration(mask) - acceleration) < 0.1
    assert mask[35:45, 24:38].all()


@pytest.mark.parametrize("function", [*RANDOM_2D, random_1d])
def test_centre_is_denser(function):
    mask = torch.stack([function((80, 62), 5, seed=s) for s in range(8)]).float()
    assert mask[:, 30:50, 21:41].mean() > 1.5 * mask.mean()
    flat = torch.rand(8, 80, 62, generator=torch.Generator().manual_seed(0)) < 0.2
    assert flat[:, 30:50, 21:41].float().mean() < 1.5 * flat.float().mean()


@pytest.mark.parametrize("function", [*RANDOM_2D, random_1d])
def test_same_seed_same_mask_and_no_global_state(function):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    masks = [function((48, 34), 3, 6, seed=s) for s in (5, 5, 6)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def smallest_distance(mask: torch.Tensor) -> float:
    points = mask.nonzero().float()
    return float((torch.cdist(points, points) + 1e9 * torch.eye(len(points))).min())


def test_poisson_disc_keeps_its_distance():
    mask = poisson_disc((90, 70), 9, seed=2)
    edge = mask.clone()
    edge[20:70, 15:55] = False
    assert smallest_distance(edge) >= 2
    assert smallest_distance(random_2d((90, 70), 9, seed=2)) == 1  # the check can fail


def test_poisson_disc_leaves_the_corners():
    mask = poisson_disc((90, 70), 4, seed=2)
    y, x = torch.meshgrid((torch.arange(90) - 45) / 45, (torch.arange(70) - 35) / 35, indexing="ij")
    assert not mask[y**2 + x**2 > 1].any()
    assert poisson_disc((90, 70), 1).all()


def test_poisson_disc_is_fast():
    start = time.process_time()
    poisson_disc((320, 256), 4, 24)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("function", RANDOM_2D)
def test_volumes_are_constant_along_the_readout(function):
    volume = function((30, 44, 6), 4, (6, 8), 1)
    assert torch.equal(volume, function((30, 44), 4, (6, 8), 1)[:, :, None].expand(30, 44, 6))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: equispaced((8, 8), 2.5), "spacing.*whole number.*received 2.5"),
        (lambda: equispaced((8, 8), 0), "at least 1"),
        (lambda: equispaced((8, 8), 2, calibration=9), "calibration region does not fit"),
        (lambda: equispaced((8,), 2), "wrong shape"),
        (lambda: caipi((8, 8), (2, 0)), "spacing of a regular pattern"),
        (lambda: caipi((8, 8), (2, 2, 2)), "wrong length"),
        (lambda: caipi((8, 8), calibration=(2, 10)), "calibration region does not fit"),
        (lambda: random_1d((8, 8), 0.5), "acceleration is not possible"),
        (lambda: random_1d((8, 8), 4, calibration=6), "leaves nothing"),
        (lambda: random_2d((8, 8), 100), "acceleration is not possible"),
        (lambda: poisson_disc((8, 8), float("nan")), "acceleration is not possible"),
        (lambda: poisson_disc((40, 40), 1.1), "without corners"),
        (lambda: poisson_disc((40, 40), 8, calibration=-1), "calibration region does not fit"),
        (lambda: poisson_disc((40, 40), 8, calibration=30), "leaves nothing"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(InputError, match=match):
        call()


# -- by name, at a net acceleration -----------------------------------------------------------------------------

SHAPES = [(96, 80), (48, 130), (26, 24, 7), (20, 90, 6)]


def misses(name: str, mask: torch.Tensor, acceleration: float) -> bool:
    """Whether a mask of this pattern is not one of this net acceleration.

    Random patterns acquire as many lines, or samples of two phase encodes, as R says, rounded. Whole spacings come
    within 21 %: 5 lies between lattices of 4 and of 6.
    """
    if name in REGULAR:
        net = net_acceleration(mask)
        return max(net / acceleration, acceleration / net) > 1.21
    plane = mask.reshape(*mask.shape[:2], -1)[:, :, 0]
    sites = mask.reshape(-1, *mask.shape[-2:])[0, :, 0] if name == "random_1d" else plane.ravel()
    assert float(sites.double().mean()) == float(mask.double().mean())  # constant along the other axes
    return int(sites.sum()) != round(len(sites) / acceleration)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("calibration", [None, 0, 4])
def test_acceleration_is_net(name, shape, calibration):
    for acceleration in (1, 2, 3, 4.5, 5):
        for seed in (0, 3):
            mask = sampling_mask(name, acceleration, shape, seed, calibration)
            assert (mask.shape, mask.dtype) == (shape, torch.bool)
            assert not misses(name, mask, acceleration), (acceleration, seed, net_acceleration(mask))
            middle = [slice(n // 2 - 2, n // 2 + 2) for n in shape[:2]]
            block = (..., middle[1] if len(shape) == 3 else middle[0], slice(None))
            assert calibration != 4 or mask[block if name in ("equispaced", "random_1d") else tuple(middle)].all()


@pytest.mark.parametrize("shape", SHAPES)
def test_spacing_is_not_net_acceleration(shape):
    """The check above notices a door that passes one for the other."""
    assert misses("equispaced", equispaced(shape, 4, shape[-2] // 4), 4)
    assert misses("caipi", caipi(shape, (2, 2), calibration=(shape[0] // 2, shape[1] // 2)), 4)
    assert misses("caipi", caipi(shape, 4), 4)


@pytest.mark.parametrize("name", PATTERNS)
def test_seed_draws_random_patterns_and_moves_lattices(name):
    shape = (96, 80)
    masks = [sampling_mask(name, 6, shape, seed) for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert all(mask[47:50, 39:42].all() for mask in masks)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("acceleration", [0, 0.99, -2, float("nan"), float("inf"), 48 * 40 + 1])
def test_impossible_accelerations(name, acceleration):
    with pytest.raises(InputError, match="acceleration is not possible: expected between 1 and"):
        sampling_mask(name, acceleration, (48, 40))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("spiral", 2, (8, 8)), "unknown sampling pattern.*equispaced.*'spiral'"),
        (
            ("equispaced", 8, (48, 40), 0, 8),
            "leaves nothing.*at most 6 calibration samples at acceleration 8",
        ),
        (("caipi", 8, (48, 40), 0, 16), "leaves nothing.*at most 240.*received 256"),
        (("random_1d", 8, (48, 40), 0, 8), "leaves nothing.*at most 6"),
        (("poisson", 8, (48, 40), 0, (24, 12)), "leaves nothing.*at most 240.*received 288"),
        (("random_1d", 2, (8, 8), 0, (4, 4)), "calibration region does not fit"),
        # Between every line and every second one there is nothing.
        (("equispaced", 1.4, (48, 40), 0, 0), "not possible: expected about 1, the nearest of equispaced on 48 with 0"),
        (("caipi", 1.42, (48, 40), 0, 0), "not possible: expected about 2, the nearest of caipi on 48 × 40 with 0 × 0"),
        (("random_1d", 5.8, (8, 8)), "not possible: expected about 8, the nearest of random_1d on 8 with 1"),
    ],
)
def test_refusals_by_name(arguments, match):
    with pytest.raises(InputError, match=match):
        sampling_mask(*arguments)
