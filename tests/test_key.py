"""Seeds: no two uses of one seed share a draw, however numpy pads them."""

import itertools

import numpy as np
import pytest
import torch

from mrnoise import InputError
from mrnoise.estimators.key import USES, Key
from mrnoise.estimators.sampler import sampler


def test_no_use_shares_a_draw_with_another():
    """`SeedSequence` pads with zeros: words that are equal but for trailing zeros are the same noise."""
    seeds, images, numbers, indices = (0, 1, 2), (0, 1, 2), (0, 1, 2, 5), range(6)
    found: dict[tuple, tuple] = {}
    for seed, image in itertools.product(seeds, images):
        own = Key(seed, image)
        keys = [own]
        for use, (_, count) in USES.items():
            keys += [own.of(use, *n) for n in itertools.product(numbers, repeat=count)]
        keys += [own.of("noise power", g).of("replicas") for g in numbers]
        for key, index in itertools.product(keys, indices):
            state = tuple(np.random.SeedSequence(key.words(index)).generate_state(2))
            assert found.setdefault(state, (key, index)) == (key, index)
    assert len(found) > 800


def test_probe_and_noise_image_of_one_seed_differ():
    """The fault: probe g of a map was noise image 0 of group g of the noise power spectrum."""
    draw, other = (sampler((3,), torch.complex64, key=key) for key in (Key(1, 2), Key(1, 2).of("noise power", 4)))
    assert not torch.equal(draw([4])[0], other([0])[0])


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "1"])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(InputError, match="invalid seed"):
        Key(seed)
