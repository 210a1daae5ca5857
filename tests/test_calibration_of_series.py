"""Coil maps where no image has calibration lines: of a series that interleaves, or not needed at all."""

import pytest
import torch
from typer.testing import CliRunner

import mrnoise
from mrnoise import InputError
from mrnoise.calibration import with_coil_maps
from mrnoise.cli.main import app
from mrnoise.foreground import foreground
from mrnoise.io.scans.npz import write_npz
from mrnoise.linearization import image_of
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE = (48, 40)
FULL = simulate(SHAPE, 5, snr=60, seed=1)
MASKS = torch.stack([equispaced(SHAPE, 4, offset=offset) for offset in range(4)])
SERIES = FULL.replace(
    kspace=torch.stack([FULL.kspace * mask * (1 + 0.01 * i) for i, mask in enumerate(MASKS)]),
    mask=MASKS,
    coil_maps=None,
    axes=("frame",),
)
NOISE = FULL.noise_covariance.colour(
    torch.randn(5, 4096, dtype=torch.complex64, generator=torch.Generator().manual_seed(3)), 0
)


def test_maps_of_a_series_are_those_of_the_whole():
    """Within 5 % of the maps of fully sampled data, and σ of each frame within 3 %; nothing else had maps."""
    truth = with_coil_maps(FULL.replace(coil_maps=None))
    found = with_coil_maps(SERIES)
    assert "4 frames" in found.notes[-1]
    inside = foreground(image_of(CgSense(), truth))
    a, b = truth.coil_maps[:, inside], found.coil_maps[0][:, inside]
    assert float((a - b).norm() / a.norm()) < 0.05
    exact = mrnoise.noise_map(CgSense(1e-2), truth.undersample(MASKS[1]), method="closed_form")
    frame = mrnoise.noise_map(CgSense(1e-2), found.at(frame=1), method="closed_form")
    assert float((frame.std / exact.std)[inside].median()) == pytest.approx(1, abs=0.03)


def test_slices_do_not_lend_each_other_maps():
    slices = SERIES.replace(axes=("slice",))
    with pytest.raises(InputError, match="calibration"):
        with_coil_maps(slices)


@pytest.mark.parametrize("name", ["varnet", "cg-sense", "rss"])
def test_a_series_through_the_command_line(tmp_path, name):
    write_npz(SERIES, tmp_path / "cine.npz", noise=NOISE)
    done = CliRunner().invoke(
        app,
        ["map", str(tmp_path / "cine.npz"), "-r", name, "-n", "4", "-m", "monte_carlo", "-o", str(tmp_path / "m.h5")],
    )
    assert done.exit_code == 0, done.output
    assert mrnoise.read_noise_map(tmp_path / "m.h5").image.shape == (4, *SHAPE)
    one = ["map", str(tmp_path / "cine.npz"), "--slice", "1", "-r", name, "-n", "4", "-m", "monte_carlo"]
    done = CliRunner().invoke(app, [*one, "-o", str(tmp_path / "one.h5")])
    assert done.exit_code == 0, done.output
    torch.testing.assert_close(
        mrnoise.read_noise_map(tmp_path / "one.h5").image, mrnoise.read_noise_map(tmp_path / "m.h5").image[1]
    )


def test_what_needs_no_maps_does_without(tmp_path):
    one = FULL.replace(coil_maps=None, mask=equispaced(SHAPE, 2))
    write_npz(one, tmp_path / "scan.npz", noise=NOISE)
    call = ["map", str(tmp_path / "scan.npz"), "-n", "8", "-o", str(tmp_path / "m.h5"), "-r"]
    done = CliRunner().invoke(app, [*call, "rss"])
    assert done.exit_code == 0 and "no coil maps, hence no g-factor" in done.output.replace("\n", " ")
    nm = mrnoise.read_noise_map(tmp_path / "m.h5")
    assert nm.g_factor is None and "no coil maps" in nm.provenance.notes[-1]
    for name in ("cg-sense", "zero-filled"):
        assert "calibration" in str(CliRunner().invoke(app, [*call, name]).exception)
