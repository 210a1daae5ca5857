"""The fuzzer of `benchmarks/fuzz.py`: a few inputs of each kind, and that it sees what is wrong."""

import importlib
import random
import sys
from pathlib import Path

import pytest

KINDS = [
    "npz",
    "npy",
    "matlab",
    "bart",
    "fastmri",
    "hdf5",
    "mrd",
    "mrd2",
    "twix",
    "trajectory",
    "covariance",
    "map",
    "roi",
    "dicom",
    "command",
]


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    # Its processes import it by its name.
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    module = importlib.import_module("fuzz")
    module.bases.use(tmp_path_factory.mktemp("bases"))
    sys.path.pop(0)
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_the_fuzzer(fuzz, tmp_path, kind):
    found = set()
    for seed in range(12):
        (folder := tmp_path / str(seed) / "here").mkdir(parents=True)
        column, what = fuzz.outcome(kind, seed, folder)
        assert column in ("right", "clear error"), what
        found.add(column)
    assert "clear error" in found


def test_every_kind_of_the_fuzzer_is_tried_here(fuzz):
    assert list(fuzz.KINDS) == KINDS


@pytest.mark.parametrize(
    ("planted", "column"), [(KeyError("a"), "traceback"), (MemoryError(), "killed"), (None, "silent")]
)
def test_the_fuzzer_finds_what_is_wrong(fuzz, tmp_path, monkeypatch, planted, column):
    def act():
        if planted is not None:
            raise planted

    monkeypatch.setitem(fuzz.KINDS, "npz", lambda rng, folder: fuzz.Case("planted", act, damaged=True))
    assert fuzz.outcome("npz", 0, tmp_path)[0] == column


def test_the_fuzzer_starts_a_process_anew_that_died_or_hangs(fuzz, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(fuzz.__file__).parent))
    worker = fuzz.Worker(tmp_path)
    monkeypatch.setattr(fuzz, "LIMIT_S", 0.0)
    assert worker.ask("npz", 0)[0] == "hung"
    monkeypatch.setattr(fuzz, "LIMIT_S", 60.0)
    assert worker.ask("npz", 0)[0] in ("right", "clear error")
    worker.end()


def test_the_same_seed_is_the_same_damage(fuzz):
    data = bytes(range(256)) * 20
    changes = importlib.import_module("malformed.changes")
    made = [changes.damage(data, random.Random("npz 7")) for _ in range(2)]
    assert made[0] == made[1]
