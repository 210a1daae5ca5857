"""A method, a quantity and a reconstruction from outside the package: one file, and they are everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch

from mrnoise import simulation
from mrnoise.io.scans.npz import write_npz

TOY = '''
from dataclasses import dataclass

import torch

from mrnoise.estimators import Method, Plan, sketch
from mrnoise.reconstruction import Reconstruction, ZeroFilled
from mrnoise.result.quantities import Quantity, Style


@dataclass(frozen=True)
class Toy(Method):
    """Three probes, whatever is asked for."""

    @property
    def name(self):
        return "toy"

    def estimate(self, image, plan, key, start=None):
        import dataclasses
        return dataclasses.replace(sketch(image.operator, Plan(n_samples=3), key=key), method="toy")


class Doubled(Reconstruction):
    """Twice the zero-filled image."""

    unit_gain = False

    def bind(self, acquisition):
        inner = ZeroFilled().bind(acquisition)
        return lambda kspace: 2 * inner(kspace)

    def __repr__(self):
        return "Doubled()"


def doubled(settings):
    return Doubled()


FANO = Quantity(
    "image units", "variance over magnitude, a toy", lambda nm: nm.variance / nm.image.abs().clamp_min(1e-12),
    component="std", rule="squared", style=Style("Toy", "V / |x|", "magma", True), asked_first=True,
)
'''
ENTRY_POINTS = """
[mrnoise.methods]
toy = toy_noise:Toy
[mrnoise.reconstructions]
doubled = toy_noise:doubled
[mrnoise.quantities]
fano = toy_noise:FANO
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as an installer would leave it: one module and its metadata."""
    site = tmp_path / "site"
    info = site / "toy_noise-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toy_noise.py").write_text(TOY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-noise\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


def mrnoise(site: Path, *words: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    code = "from mrnoise.cli.main import run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_they_appear_in_command_line_file_and_report(installed, tmp_path):
    scan = tmp_path / "scan.npz"
    acq = simulation.simulate((16, 12), 3, snr=30, seed=1)
    write_npz(acq, scan, acq.noise_covariance.colour(torch.randn(3, 200, dtype=acq.kspace.dtype), 0))
    assert "doubled" in mrnoise(installed, "map", "--help").stdout
    done = mrnoise(installed, "map", str(scan), "-r", "doubled", "-m", "toy", "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "fano" in done.stdout and "toy (asked for)" in done.stdout
    with h5py.File(tmp_path / "out" / "map.h5") as file:
        assert file["maps/fano"].attrs["definition"] == "variance over magnitude, a toy"
        assert file["estimate"].attrs["method"] == "toy" and file["estimate"].attrs["n_samples"] == 3
        assert '"reconstruction": "Doubled()"' in file["provenance"].asstr()[()]
    assert (tmp_path / "out" / "map_fano.nii.gz").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "variance over magnitude, a toy" in page and '"name": "fano"' in page.replace('"name":"', '"name": "')


def test_without_the_package_they_are_unknown(tmp_path):
    scan = tmp_path / "scan.npz"
    write_npz(simulation.simulate((16, 12), 3, snr=30, seed=1), scan)
    done = mrnoise(tmp_path, "map", str(scan), "-r", "doubled")
    assert done.returncode == 2 and "unknown reconstruction" in done.stderr
    done = mrnoise(tmp_path, "map", str(scan), "-m", "toy")
    assert done.returncode == 2 and "unknown method" in done.stderr
