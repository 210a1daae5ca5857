"""The evaluation: its scans, its figures of merit, and that killing it changes nothing."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mrnoise import Acquisition, InputError, noise_map
from mrnoise.cli.main import app
from mrnoise.estimators import Sketch
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.sampling_error import GaussianError
from mrnoise.files.record import plain
from mrnoise.linearization import image_of
from mrnoise.reconstruction import ZeroFilled
from mrnoise.reproduction import GRID, SIZES, Cell, cells, possible, read_shard, run
from mrnoise.reproduction.figures import figures
from mrnoise.reproduction.measure import measure, real, sampling_correlation
from mrnoise.reproduction.page import page, read_tables, write_page
from mrnoise.reproduction.scans import SIGMA, anatomy_file, make_scan, paper_scan
from mrnoise.reproduction.tables import TABLES, in_floors
from mrnoise.result.noise_map import NoiseMap
from mrnoise.simulation import head_phantom

ROOT = Path(__file__).resolve().parents[1]
PAPER = {"kind": "paper", "anatomy": "brain", "matrix": (24, 20), "n_coils": 4, "acceleration": 4, "pattern": "poisson"}
PAPER |= {"alpha": 1, "covariance": "white"}
REGULAR = {"kind": "regular", "matrix": (16, 12), "n_coils": 5, "pattern": "equispaced", "acceleration": 2}
SKETCH = {"method": "sketch", "n_samples": 6, "seed": 1}
REPLICAS = {"method": "monte_carlo", "n_samples": 7, "seed": 2}


def tiny_cells():
    """A cell of six tables each, in parameters like those of the grid."""
    network = {"reconstruction": "n2r", "weights": "brain", "batch_size": 8}
    agreement = {**network, "scan": PAPER, "maps": {"sketch": SKETCH}, "reference": REPLICAS}
    nonlinear = {"method": "nonlinear", "n_samples": 9, "seed": 3}
    auto = {"method": "auto", "n_samples": 8, "seed": 3}
    sense = {"scan": REGULAR, "reconstruction": "sense", "batch_size": 8, "reference": {"method": "closed_form"}}
    lattice = {"method": "lattice", "n_samples": 1, "seed": 1}
    sense["maps"] = {"replicas": REPLICAS, "sketch": SKETCH, "probe": {**SKETCH, "method": "probe"}, "lattice": lattice}
    swept = {**agreement, "maps": {"sketch": SKETCH, "auto": auto}}
    made = [
        Cell(
            "methods",
            "n2r-brain",
            {**agreement, "maps": {"sketch": SKETCH, "nonlinear": nonlinear}, "shown": "sketch"},
            2,
        ),
        Cell("noise_level", "n2r-alpha20", {**swept, "scan": {**PAPER, "alpha": 20}}, 2),
        Cell("samples", "n2r", {**agreement, "maps": {"sketch, 6": SKETCH, "auto to 3 %": auto}}, 2),
        Cell("g_factor", "equispaced-R2", {**sense, "shown": "sketch"}, 1),
        Cell("pico", "N6", sense, 1),
    ]
    made += [
        Cell(
            "ranking",
            f"{name}-brain-alpha1",
            {**network, "reconstruction": name, **{k: swept[k] for k in ("scan",)}, "maps": {"sketch": SKETCH}},
            2,
        )
        for name in ("ssdu", "n2r", "vortex")
    ]
    return made


# Those of four tables, to be killed in.
SOME = tiny_cells()[2:]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a small anatomy for the brain."""
    folder = tmp_path_factory.mktemp("data")
    slices = head_phantom((40, 48, 40), np.linspace(-0.25, 0.55, 40).tolist()).numpy()
    np.savez(folder / anatomy_file("brain"), volume=slices[::-1, ::-1])  # (superior, posterior, x)
    return folder


# -- the grid --------------------------------------------------------------------------------------------------


def test_grid_is_complete_json_and_without_doubles():
    assert set(GRID) == set(TABLES)
    for size in SIZES:
        grid = cells(size)
        paths = [cell.path(Path()) for cell in grid]
        assert len(set(paths)) == len(paths)
        assert {cell.table for cell in grid} == set(GRID)
        for cell in grid:
            assert json.loads(json.dumps(plain(cell.parameters))) == plain(cell.parameters)
            used = [spec.get("seed") for spec in cell.parameters["maps"].values()]
            assert cell.parameters.get("reference", {}).get("seed") not in used  # of other noise than the maps
    assert len(cells("quick", ["methods"])) == 12


def test_measured_files_are_asked_for_only_where_they_are_used(tmp_path):
    without = possible(cells("quick"), None)
    assert "measured" not in {cell.table for cell in without}
    assert {cell.parameters["scan"].get("covariance") for cell in without} == {"white", "correlated", None}
    with pytest.raises(InputError, match="lacks the anatomy"):
        possible(cells("quick"), tmp_path)
    assert possible(cells("quick", ["pico"]), tmp_path)
    with pytest.raises(InputError, match="no such table"):
        cells("quick", ["nothing"])


# -- scans and figures of merit --------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["white", "correlated"])
def test_noise_of_the_paper_has_the_level_of_the_paper(covariance, data):
    """σ₀ α in each real channel where the 95th percentile of the zero-filled magnitude is 1; 3 % sampling floor."""
    alpha = 50
    quiet, loud = (
        paper_scan("brain", data, (48, 40), 5, acceleration=4, alpha=a, covariance=covariance).acquisition
        for a in (1e-6, alpha)
    )
    level = SIGMA * alpha * float(image_of(ZeroFilled(), quiet).abs().quantile(0.95))
    noise = (loud.kspace - quiet.kspace)[:, loud.mask]
    assert noise.numel() > 2000
    for part in (noise.real, noise.imag):
        assert float(part.square().mean().sqrt()) == pytest.approx(level, rel=0.1)
    found = noise @ noise.mH / noise.shape[1]
    assert torch.allclose(found, loud.noise_covariance.matrix.to(found), atol=8 * level**2 / noise.shape[1] ** 0.5)
    assert (loud.noise_covariance.largest_correlation > 0.2) == (covariance == "correlated")


def test_measure_knows_exact_from_wrong():
    """The lattice agrees with the closed form; a sketch is within its floor; fixed seeds give the same figures."""
    sense = next(cell for cell in tiny_cells() if cell.table == "g_factor")
    maps = {"sketch": {**SKETCH, "n_samples": 400}, "lattice": sense.parameters["maps"]["lattice"]}
    found, arrays = measure({**sense.parameters, "maps": maps}, None)
    assert found["lattice"]["g_nrmse"] < 1e-5 and in_floors(found["lattice"], "g_nrmse") == "–"
    # 1/(2√400) = 2.5 %, √2 - 1 = 41 %.
    assert found["sketch"]["floor"] == pytest.approx(0.025, rel=0.05)
    assert 0.7 < found["sketch"]["g_nrmse"] / found["sketch"]["floor"] < 1.3
    assert arrays["map"].shape == arrays["reference"].shape == arrays["inside"].shape == (16, 12)
    assert arrays["reference"][arrays["inside"]].min() > 0.999  # g of SENSE
    again, _ = measure({**sense.parameters, "maps": maps}, None)
    assert without_seconds(again) == without_seconds(found)


def test_real_probes_are_biased_for_real_linear_maps_and_circular_ones_are_not():
    """x = Re Σy has half the variance of Σy; real probes never see the imaginary half. 400 probes: floor below 1 %."""
    kspace = torch.randn(3, 24, 20, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    scan = Acquisition(kspace, torch.eye(3, dtype=torch.complex128))

    def ratio(distribution):
        found = noise_map(lambda y: y.sum(-3).real, scan, method=Sketch(distribution), n_samples=400)
        return float(found.variance.mean() / 1.5)

    assert ratio("phase") == pytest.approx(1, abs=0.05)
    assert ratio(real) == pytest.approx(2, abs=0.05)


def test_correlation_of_sampling_is_what_two_noisy_maps_have():
    """Maps of one σ reach it, to the floor of a correlation of 3072 pixels; another σ does not."""
    generator = torch.Generator().manual_seed(4)
    sigma = torch.linspace(1, 1.4, 64 * 48, dtype=torch.float64).reshape(64, 48)

    def made(std, n):
        noise = torch.randn(n, 64, 48, dtype=torch.complex128, generator=generator) * std
        zero = torch.zeros_like(std, dtype=torch.complex128)
        error = GaussianError(torch.tensor(float(n)))
        return NoiseMap(std, Estimate(noise.abs().square().mean(0), zero, error, "sketch", n, n))

    def correlation(a, b):
        return float(torch.corrcoef(torch.stack([a.std.flatten(), b.std.flatten()]))[0, 1])

    a, b = made(sigma, 100), made(sigma, 60)
    assert 0.6 < sampling_correlation(a, b) < 0.95
    assert correlation(a, b) == pytest.approx(sampling_correlation(a, b), abs=0.02)
    other = made(sigma.flip(0), 60)
    assert correlation(a, other) < sampling_correlation(a, b) - 0.2


# -- the runner ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data):
    """Shards of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    calls = []
    run(tiny_cells(), folder, data, progress=lambda *call: calls.append(call))
    assert calls[-1][1] == pytest.approx(calls[-1][2]) == sum(cell.cost for cell in tiny_cells())
    return folder


def test_killed_run_ends_with_the_report_of_one_left_alone(alone, data, tmp_path):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_reproduction import SOME, run\n"
        "if __name__ == '__main__': run(SOME, Path(sys.argv[2]), Path(sys.argv[3]))\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, script, Path(__file__).parent, folder, data])
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = sum(read_shard(cell, folder) is not None for cell in SOME)
    assert 1 <= found < len(SOME)
    run(SOME, folder, data)
    for cell in SOME:
        a, b = (cell.path(f).read_text() for f in (alone, folder))
        assert without_seconds(json.loads(a)) == without_seconds(json.loads(b))
    write_page(SOME, tmp_path / "a", tmp_path / "empty.html")  # nothing there yet is no error
    texts = []
    for shards in (read_tables(SOME, alone), read_tables(SOME, folder)):
        texts.append(page({name: [without_seconds(s) for s in found] for name, found in shards.items()}, "all"))
    assert texts[0] == texts[1]


def test_only_what_is_missing_or_changed_is_computed(alone, tmp_path):
    grid = [cell for cell in tiny_cells() if cell.table in ("pico", "g_factor")]
    first, second = grid
    run(grid, tmp_path)
    before = {cell.key: cell.path(tmp_path).stat().st_mtime_ns for cell in grid}
    run(grid, tmp_path)
    assert before == {cell.key: cell.path(tmp_path).stat().st_mtime_ns for cell in grid}
    # Another version, half a file, another parameter.
    path = second.path(tmp_path)
    path.write_text(path.read_text().replace(f'"mrnoise": "{version("mrnoise")}"', '"mrnoise": "0.0.1"'))
    first.path(tmp_path).write_text(first.path(tmp_path).read_text()[:100])
    run(grid, tmp_path)
    for cell in grid:
        a, b = (json.loads(cell.path(folder).read_text()) for folder in (tmp_path, alone))
        assert without_seconds(a) == without_seconds(b)
    other = dataclasses.replace(
        second, parameters={**second.parameters, "maps": {"sketch": {**SKETCH, "n_samples": 5}}}
    )
    assert read_shard(other, tmp_path) is None
    run([other], tmp_path)
    assert list(read_shard(other, tmp_path)["result"]) == ["sketch"]


def test_options_of_a_method_reach_it(tmp_path):
    """Cells with ``control_variate`` failed: `noise_map` takes it no more, its methods do."""
    options = {"method": "sketch", "control_variate": False, "n_samples": 4, "seed": 1}
    parameters = {"scan": REGULAR, "reconstruction": "sense", "batch_size": 8, "maps": {"x": options}}
    cell = Cell("pico", "option", parameters, 1)
    run([cell], tmp_path)
    assert read_shard(cell, tmp_path)["result"]["x"]["control_variate"] is False


def test_shards_that_cannot_be_written_are_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the output"):
        run(tiny_cells()[:1], tmp_path / "file")


def test_cell_that_fails_is_named_and_leaves_no_shard(tmp_path):
    bad = Cell(
        "pico",
        "broken",
        {"scan": REGULAR, "reconstruction": "sense", "batch_size": 8, "maps": {"x": {"method": "exact", "typo": 1}}},
        1,
    )
    with pytest.raises(RuntimeError, match="pico/broken failed(.|\n)*typo"):
        run([bad], tmp_path)
    assert not list(tmp_path.rglob("*.json"))


# -- the report ------------------------------------------------------------------------------------------------


def test_report_is_whole_and_needs_nothing_from_outside(alone, tmp_path):
    write_page(tiny_cells(), alone, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    for name in ("methods", "noise_level", "samples", "g_factor", "pico", "ranking"):
        assert f'id="{name}"' in text
        assert figures(name, read_tables(tiny_cells(), alone)[name])
    assert text.count("<figure>") == 6
    assert not re.search(r"<td[^>]*>(nan|inf|None)", text)


def test_report_says_where_no_anatomy_was_given(alone):
    tables = read_tables(tiny_cells(), alone)
    assert "generated head phantom" not in page(tables, "all")
    tables["methods"][0]["input"]["anatomy"] = "generated phantom"
    assert "generated head phantom" in page(tables, "all")


def test_tables_have_every_row_and_the_published_value(alone):
    shards = read_tables(tiny_cells(), alone)
    lines = TABLES["pico"].markdown(shards["pico"]).splitlines()
    assert len(lines) == 2 + 4 and len({line.count("|") for line in lines}) == 1
    row = shards["methods"][0]["result"]["sketch"]
    text = TABLES["methods"].markdown([{**shards["methods"][0], "key": "varnet-knee"}])
    assert f"| {100 * row['correlation']:.2f} % |" in text and "| 99.9 % |" in text and "| 0.7 % |" in text
    assert f"| {row['nrmse'] / row['floor']:.2f} |" in text


# -- the command -----------------------------------------------------------------------------------------------


def test_command_writes_the_report_and_says_how_to_go_on(data, tmp_path, monkeypatch):
    quick = [cell for cell in tiny_cells() if cell.table == "pico"]
    monkeypatch.setattr("mrnoise.reproduction.cells", lambda size, only=(): quick)
    arguments = ["reproduce", "--workers", "1", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "Cartesian experiment of PICO: 1 cells" in done.output
    report = tmp_path / "out" / "quick" / "report.html"
    whole = report.read_text()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mrnoise.reproduction.run", interrupted)
    assert CliRunner().invoke(app, arguments).exit_code == 130
    assert report.read_text() == whole


def without_seconds(value):
    """Everything but what a clock put there."""
    if isinstance(value, dict):
        return {k: 0 if k == "seconds" else without_seconds(v) for k, v in value.items()}
    return value


def test_scan_of_a_cell_without_maps_has_none(data):
    assert make_scan({**PAPER, "coil_maps": "estimated"}, data).acquisition.coil_maps is None
