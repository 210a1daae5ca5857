"""Without the packages of an extra: one error that names it, and everything else works."""

import subprocess
import sys

BLOCKED = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("yaml", "skimage") else find(name, *more)
for name in ("yaml", "skimage"):
    sys.modules[name] = None
from mrnoise.cli.main import app, run
*first, last = (words.split() for words in sys.argv[1:])
for words in first:
    app(words, standalone_mode=False)
sys.argv[1:] = last
run()
"""


def blocked(*commands):
    """What the last of the commands says, all in one process."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *commands], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_missing_extra_is_named():
    for words in ("train varnet-brain", "reproduce --quick"):
        done = blocked(words)
        assert done.returncode == 2, done.stderr
        assert "pip install 'mrnoise[train]'" in done.stderr and "Traceback" not in done.stderr


def test_the_rest_works_without(tmp_path):
    scan = tmp_path / "scan.npz"
    done = blocked(
        f"simulate {scan} --matrix 24,20 --coils 4",
        f"info {scan}",
        f"map {scan} -m sketch -n 4 -o {tmp_path / 'map.h5'}",
        f"roi {scan} --region circle:12,10,4",
        f"gfactor {scan} -R 2 -o {tmp_path / 'g.h5'}",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.h5").exists() and (tmp_path / "g.h5").exists()
