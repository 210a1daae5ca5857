"""Ctrl-C at any moment leaves whole sums: what there is, is right."""

import signal

import pytest
import torch

from mrnoise import estimators
from mrnoise.estimators import Plan
from mrnoise.estimators.key import Key
from mrnoise.estimators.moments import SampleMoments
from mrnoise.interruption import without_interruption
from test_estimators import dense


def struck(number, done):
    with without_interruption():
        signal.raise_signal(number)
        done.append(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_held_back_comes_after(number):
    previous = signal.signal(number, signal.default_int_handler)
    done = []
    try:
        with pytest.raises(KeyboardInterrupt):
            struck(number, done)
    finally:
        signal.signal(number, previous)
    assert done


def test_ctrl_c_within_a_sum(monkeypatch):
    """Taken in half way, a batch left samples counted that were never added: σ was too low, and nothing said so."""
    operator = dense("proper")
    terms, calls = SampleMoments._terms, []

    def struck(self, samples, indices):
        calls.append(len(samples))
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return terms(self, samples, indices)

    monkeypatch.setattr(SampleMoments, "_terms", struck)
    found = estimators.sketch(operator, Plan(n_samples=400, batch_size=16), key=Key(3))
    monkeypatch.undo()
    assert found.interrupted and found.n_samples == 32
    assert torch.equal(
        found.variance, estimators.sketch(operator, Plan(n_samples=32, batch_size=16), key=Key(3)).variance
    )
