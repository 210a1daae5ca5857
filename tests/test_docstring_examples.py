"""Every public function and class has an example in its docstring, and every example runs and prints what it says."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import mrnoise

MODULES = [
    "mrnoise",
    *(m.name for m in pkgutil.walk_packages(mrnoise.__path__, "mrnoise.") if not m.name.startswith("mrnoise.cli")),
]
# Public names without an example, and why.
WITHOUT = {
    "mrnoise.reproduction.run": "starts processes that load torch anew, seconds each",
    "mrnoise.training.evaluate": "reconstructs scans of 176×160 with 12 coils by the dozen: minutes",
    "mrnoise.reconstruction.Deepinv": "deepinv is not installed with mrnoise",
    "mrnoise.reconstruction.Mirtorch": "MIRTorch is not installed with mrnoise",
    "mrnoise.reconstruction.Mrpro": "mrpro is not installed with mrnoise",
}


def public():
    """Functions and classes in an ``__all__``, by the first name they can be imported by."""
    found = {}
    for module in sorted(MODULES, key=lambda name: (name == "mrnoise", name)):
        for name in getattr(importlib.import_module(module), "__all__", ()):
            thing = getattr(importlib.import_module(module), name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found.setdefault(thing, f"{module}.{name}")
    return {name: thing for thing, name in found.items()}


PUBLIC = public()


def examples(docstring):
    return doctest.DocTestParser().get_examples(docstring or "")


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - WITHOUT.keys()))
def test_public_name_has_an_example(name):
    docstring = PUBLIC[name].__dict__.get("__doc__") if inspect.isclass(PUBLIC[name]) else PUBLIC[name].__doc__
    assert examples(docstring), f"{name} has no Examples section with a runnable example"


def test_exceptions_are_public_names_without_an_example():
    for name in WITHOUT:
        assert name in PUBLIC, f"{name} is not public any more"
        assert not examples(PUBLIC[name].__doc__), f"{name} has an example"


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(exclude_empty=True)
    for test in finder.find(importlib.import_module(name)):
        runner = doctest.DocTestRunner(verbose=False)
        report = []
        runner.run(test, out=report.append)
        assert runner.failures == 0, "".join(report)


def test_there_are_examples():
    assert len(PUBLIC) > 100
