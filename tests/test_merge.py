"""Running sums of blocks of probes from several processes: the bits of one run, whatever the split."""

import itertools
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from mrnoise.estimators.batching.running_sums import BLOCK, RunningSums
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import SampleMoments
from mrnoise.estimators.sampler import sampler

SHAPE = (5, 7)


def response(probes):
    """An improper map of each probe alone, badly scaled so that the order of a sum shows."""
    return (probes * 3 + 0.5 * probes.conj()) * torch.logspace(-6, 6, 7)


def part(first, end, batch, known_mean=True):
    """Moments of the probes first ≤ k < end, as another process would draw them."""
    draw = sampler(SHAPE, torch.complex64, key=Key(4, 1), distribution="gaussian")
    moments = SampleMoments("sketch", known_mean, first=first)
    for start in range(first, end, batch):
        probes = draw(range(start, min(start + batch, end)))
        moments.add(response(probes), probes)
    return moments


def bits(moments):
    found = moments.estimate(False)
    return [found.variance, found.pseudo_variance, found.error_sample, found.mean]


def same(a, b):
    return all(x is y is None or torch.equal(x, y) for x, y in zip(bits(a), bits(b), strict=True))


@pytest.mark.parametrize("known_mean", [True, False])
@pytest.mark.parametrize(("ends", "batch"), [((12,), 5), ((3, 4, 29), 1), ((16,), 8), ((7, 15, 23, 31), 3)])
def test_parts_add_up_to_the_bits_of_one_run(ends, batch, known_mean):
    n, one = 37, part(0, 37, 37, known_mean)
    edges = [0, *ends, n]
    parts = [part(a, b, batch, known_mean) for a, b in itertools.pairwise(edges)]
    forwards, backwards = parts[0], pickle.loads(pickle.dumps(parts[-1]))
    others = [pickle.loads(pickle.dumps(p)) for p in parts]
    for other in parts[1:]:
        forwards.merge(other)
    for other in reversed(others[:-1]):
        backwards.merge(other)
    assert forwards.count == backwards.count == n
    assert same(forwards, one) and same(backwards, one)


def test_two_processes_merge_to_the_bits_of_one_run():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        first, second = pool.map(part, (0, 20), (20, 40), (6, 9))
    second.merge(first)
    assert same(second, part(0, 40, 8))


def test_plain_sums_would_not():
    """What the test above has to see: sums in order of arrival depend on the split."""
    x = response(sampler(SHAPE, torch.complex64, key=Key(4))(range(40))).to(torch.complex128).abs().square()
    assert not torch.equal(x[:20].cumsum(0)[-1] + x[20:].cumsum(0)[-1], x.cumsum(0)[-1])


def test_exact_addition_rounded_once():
    """Terms that cancel to 2⁻⁶⁰ of their size."""
    big = torch.tensor([2.0**60, 1.0, -(2.0**60), 2.0**-10], dtype=torch.float64)
    sums = RunningSums(lambda x, indices: (x.sum(0),))
    for value in big:
        sums.add(value.repeat(BLOCK)[:, None])
    assert float(sums.totals()[0]) == BLOCK * (1 + 2.0**-10)


def test_the_same_samples_are_not_merged_twice():
    a, b = part(0, 5, 5), part(0, 5, 5)
    with pytest.raises(ValueError, match="twice"):
        a.merge(b)
