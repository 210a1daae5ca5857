"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import mrnoise

MODULES = [
    module.name
    for module in pkgutil.walk_packages(mrnoise.__path__, "mrnoise.")
    if not module.name.startswith(("mrnoise.cli", "mrnoise.training", "mrnoise.reproduction"))
]


def examples(name):
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    for test in examples(name):
        runner = doctest.DocTestRunner(verbose=False)
        report = []
        runner.run(test, out=report.append)
        assert runner.failures == 0, "".join(report)


def test_there_are_examples():
    assert sum(len(examples(name)) for name in MODULES) >= 15
