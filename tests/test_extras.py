"""Without the packages of an extra: one error that names it, and everything else works."""

import subprocess
import sys

BLOCKED = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("yaml", "skimage") else find(name, *more)
for name in ("yaml", "skimage"):
    sys.modules[name] = None
from mrnoise.cli.main import run
run()
"""


def blocked(*words):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_missing_extra_is_named():
    for words in (("train", "varnet-brain"), ("reproduce", "--quick")):
        done = blocked(*words)
        assert done.returncode == 2, done.stderr
        assert "pip install 'mrnoise[train]'" in done.stderr and "Traceback" not in done.stderr


def test_the_rest_works_without(tmp_path):
    scan = tmp_path / "scan.npz"
    assert blocked("simulate", str(scan), "--matrix", "24,20", "--coils", "4").returncode == 0
    for words in (
        ("info", str(scan)),
        ("map", str(scan), "-m", "sketch", "-n", "4", "-o", str(tmp_path / "map.h5")),
        ("roi", str(scan), "--region", "circle:12,10,4"),
        ("gfactor", str(scan), "-R", "2", "-o", str(tmp_path / "g.h5")),
    ):
        done = blocked(*words)
        assert done.returncode == 0, (words, done.stderr)
