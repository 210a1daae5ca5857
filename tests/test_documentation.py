"""What the documentation says is what the files beside it hold."""

import importlib
import json
import re
from pathlib import Path

import pytest

import mrnoise

ROOT = Path(__file__).resolve().parents[1]


def test_memory_and_cost_tables_are_the_measured_ones():
    text = (ROOT / "docs" / "measured.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "memory_and_cost.json").read_text())
    for case in measured["memory"]:
        few, many = (case[k]["peak_mib"] for k in ("few", "many"))
        row = f"| {case['reconstruction']} | {case['method']} | {few:.0f} MiB | {many:.0f} MiB | {case['ratio']:.3f} |"
        assert row in text
        assert case["ratio"] <= 1.05
    for name, cost in measured["cost"].items():
        seconds = 1000 * cost["reconstruction_seconds"]
        row = f"| {name} | {seconds:.0f} ms | {cost['jvp']:.2f} | {cost['vjp']:.2f} | {cost['replica']:.2f} |"
        assert row in text


def test_coverage_tables_are_the_measured_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import interval_coverage as coverage

    text = (ROOT / "docs" / "measured.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "interval_coverage.json").read_text())
    for n in ("2", "8", "32", "128"):
        found = measured["gaussian"][n]
        for row in coverage.gaussian_rows(n, found):
            assert row in text
        assert n == "2" or all(0.93 <= value <= 0.97 for value in found["total"] + found["magnitude"])
    for name, found in measured["probe"].items():
        assert coverage.probe_row(name, found) in text
        assert all(0.93 <= found[n] <= 0.97 for n in ("8", "32", "128"))
    for name, found in measured["controlled"].items():
        method, noise, share = name.split(", ")
        assert coverage.controlled_row(method, noise, float(share), found) in text
        assert all(0.93 <= found[f"{n}, {q}"] <= 0.975 for n in (8, 32, 128) for q in ("std", "magnitude_std"))
    for name, found in measured["stop"].items():
        assert coverage.stop_row(name, found) in text
        assert found["below"] >= 0.95 and found["coverage"] >= 0.93


def test_tables_of_the_networks_are_the_measured_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import frozen_derivatives
    import networks

    text = (ROOT / "docs" / "networks.md").read_text()
    results = ROOT / "benchmarks" / "results"
    agreement = json.loads((results / "network_agreement.json").read_text())["networks"]
    assert len(agreement) == 12
    for key, found in agreement.items():
        assert networks.agreement_row(key, found) in text
    for name, found in json.loads((results / "network_cost.json").read_text())["networks"].items():
        assert networks.cost_row(name, found) in text
    for name, found in json.loads((results / "frozen_derivatives.json").read_text()).items():
        assert frozen_derivatives.frozen_row(name, found) in text


def test_tables_of_linearity_are_the_measured_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import linearity

    text = (ROOT / "docs" / "measured.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "linearity.json").read_text())
    for name, points in measured["sweep"].items():
        for snr, found in points.items():
            assert linearity.sweep_row(name, snr, found) in text
            verdict, wrong = found["linearity"]["verdict"], found["error"] > found["linearity"]["tolerance"]
            assert verdict == "undecided" or (verdict == "not linear") == wrong
    for name, found in measured["low_snr"].items():
        assert linearity.low_snr_row(name, found) in text


def test_table_of_grappa_is_the_measured_one(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import grappa

    text = (ROOT / "docs" / "grappa.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "grappa.json").read_text())
    assert len(measured) == len(grappa.SNRS) * len(grappa.CALIBRATION)
    for name, found in measured.items():
        assert grappa.row(name, found) in text
        if name.startswith("100"):
            assert found["rms"] < 1.3 * found["floor"]


def test_tables_of_the_race_are_the_measured_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import estimators

    text = (ROOT / "docs" / "estimators.md").read_text()
    record = json.loads((ROOT / "benchmarks" / "results" / "estimators.json").read_text())
    for row in estimators.tables(record).splitlines():
        assert row in text
    for case in record["cases"].values():
        for name, found in case["methods"].items():
            # What is certified with 95 % probability; repeats are few, hence a margin.
            assert name not in estimators.OURS or found["points"][0]["error"] < 1.1 * record["target"]


def test_table_of_the_toolboxes_is_the_measured_one(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import toolboxes

    text = (ROOT / "docs" / "toolboxes.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "toolboxes.json").read_text())
    assert measured.keys() == toolboxes.CASES.keys()
    for name, found in measured.items():
        assert toolboxes.toolbox_row(name, found) in text
        assert found["floors"] < 1.3 and abs(found["ratio"] - 1) < 0.02


def test_tables_of_compressed_sensing_are_the_measured_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import compressed_sensing

    text = (ROOT / "docs" / "compressed_sensing.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "compressed_sensing.json").read_text())
    assert measured["rows"].keys() == compressed_sensing.METHODS.keys()
    for name, found in measured["rows"].items():
        assert compressed_sensing.row(name, found) in text
        assert all(found[f"{method} error"] < 1.1 * measured["target"] for method in ("monte_carlo", "auto"))
        if name.startswith("total variation"):
            assert found["auto seconds"] < 0.5 * found["monte_carlo seconds"]
    for name, by_probes in measured["compared"].items():
        for probes, found in by_probes.items():
            assert compressed_sensing.compared_row(name, probes, found) in text


def test_tables_of_the_rankings_are_the_measured_ones():
    text = (ROOT / "docs" / "choices.md").read_text()
    results = ROOT / "benchmarks" / "results"
    for row in json.loads((results / "rank_patterns.json").read_text())["patterns"]:
        assert pattern_row(row) in text
    found = json.loads((results / "rank_networks.json").read_text())["networks"]
    assert len(found) == 7
    for row in found:
        assert network_row(row) in text


def pattern_row(row):
    mean, voxel = (row[name] for name in ("roi_std", "voxel_std"))
    exact = f"{1e3 * mean['value']:.3f}"
    means = f"{exact} ± {1e3 * mean['error']:.3f}" if mean["error"] else exact
    voxels = f"{1e2 * voxel['value']:.3f} ± {1e2 * voxel['error']:.3f}"
    return f"| {row['pattern']} | {row['acceleration']:.2f} | {means} | {voxels} | {row['psnr']:.1f} |"


def network_row(row):
    snr = f"{row['snr']['value']:.2f} ± {row['snr']['error']:.2f}"
    width = " × ".join(f"{length:.2f}" for length in row["autocorrelation_length"])
    resolution = " × ".join("–" if length is None else f"{length:.1f}" for length in row["resolution"])
    return f"| {row['name']} | {snr} | {row['psnr']:.1f} | {width} | {resolution} | {row['contrast_recovery']:.2f} |"


def test_tables_of_the_reproduction_are_the_measured_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import reproduction

    text = reproduction.PAGE.read_text()
    assert set(re.findall(r"<!-- table (\w+) -->", text)) == set(reproduction.TABLES)
    if not reproduction.RESULTS.exists():
        pytest.skip("no results of mrnoise reproduce")
    assert reproduction.filled(text) == text


def test_a_changed_number_of_the_reproduction_is_noticed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import reproduction

    from mrnoise.files.record import to_json
    from mrnoise.reproduction import cells

    (cell,) = (cell for cell in cells(reproduction.SIZE) if (cell.table, cell.key) == ("pico", "N10"))
    found = {"n_samples": 10, "n_products": 20, "g_nrmse": 0.0625, "floor": 0.05}
    path = cell.path(tmp_path / reproduction.SIZE)
    path.parent.mkdir(parents=True)
    path.write_text(to_json({"parameters": cell.parameters, "result": {"probe": found}}))
    monkeypatch.setattr(reproduction, "RESULTS", tmp_path)
    text = reproduction.filled("<!-- table pico --> old <!-- end --> <!-- table methods --> kept <!-- end -->")
    assert "| probe | 10 | 20 | 6.25 % | 5.00 % | 1.25 |" in text and "old" not in text and "kept" in text
    assert reproduction.filled(text) == text
    assert reproduction.filled(text.replace("6.25 %", "6.24 %")) == text


PAGES = [str(page.relative_to(ROOT)) for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


def test_rooms_of_the_architecture_exist():
    rooms = re.findall(r"^\| `([^`]+)`", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    assert len(rooms) >= 10
    for room in rooms:
        assert (ROOT / "src" / "mrnoise" / room).exists(), room


def test_readme_example_runs(tmp_path, monkeypatch):
    """The Python block, with a simulated scan in place of the user's file."""
    import mrnoise
    from mrnoise.io.scans.npz import write_npz
    from mrnoise.simulation import simulate

    scan = simulate((32, 28), 5, seed=1).replace(coil_maps=None)
    write_npz(scan, tmp_path / "scan.h5.npz")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    code = code.replace("scan.h5", "scan.h5.npz").replace("target_error=0.02", "target_error=0.2")
    code = re.sub(r"(my_network|\(\"varnet\"\)), acq", r"\1, acq, n_samples=3", code)
    names = {"my_network": lambda k: mrnoise.fourier.to_image(k).sum(-3), "mask": scan.mask}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert (tmp_path / "map.html").stat().st_size > 10_000


def test_tables_of_series_are_the_measured_ones(monkeypatch):
    """σ and values of every series are covered as they should be, those of fits where first order holds."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import series

    text = (ROOT / "docs" / "series.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "results" / "series.json").read_text())
    assert len(measured["cine"]) == 4
    for name, found in measured["cine"].items():
        assert series.cine_row(name, found) in text
        assert 0.93 <= found["sigma_within"] <= 0.97 and 0.93 <= found["values_within"] <= 0.97
    for snr, found in measured["t2"].items():
        assert series.t2_row(snr, found) in text
        assert all(0.93 <= found[method]["values_within"] <= 0.98 for method in ("exact", "auto"))
        assert found["auto"]["ratio"] == pytest.approx(1, abs=0.02)
        assert found["chosen"] == {"monte_carlo": series.MAPPED}
        holds = 0.93 <= found["sigma_within"] <= 0.97
        assert ("not linear" if holds else "linear") not in found["verdicts"]


def test_examples_of_series_run(capsys):
    """The blocks of the page are one session."""
    session: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "series.md").read_text(), re.S):
        exec(code, session)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CgSense: σ of the mean 0.3") and lines[-1].endswith("by lattice")


TOOLBOXES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "toolboxes.md").read_text(), re.S)


@pytest.mark.xdist_group("toolboxes")
@pytest.mark.parametrize("code", TOOLBOXES[1:], ids=lambda code: re.findall(r"noise_map\((\w+)", code)[0])
def test_examples_of_toolboxes_run(monkeypatch, code):
    """Each after the first, which makes the scan, where its toolbox is installed."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import toolboxes

    hosts = {case.package for case in toolboxes.CASES.values()}
    for host in re.findall(rf"\b({'|'.join(hosts)})[ .]", code):
        if toolboxes.installed(host) is None:
            pytest.skip(f"{host} is not installed")
    names = {}
    exec(TOOLBOXES[0], names)
    exec(code, names)
    assert bool((names["nm"].std > 0).any())


def test_example_of_trajectories_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "trajectories.md").read_text(), re.S)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("closed_form") and lines[-1] == "closed_form"


def test_example_of_grappa_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "grappa.md").read_text(), re.S)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    g = [float(line.partition("mean g ")[2].split(",")[0]) for line in lines]
    assert len(lines) == 5 and 1 < g[0] < g[1] < g[2] and all("by lattice" in line for line in lines[:3])


def test_example_of_volumes_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "volumes.md").read_text(), re.S)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CgSense: (32, 28, 10)") and lines[1].startswith("Grappa: (32, 28, 10)")
    assert lines[2] == "(10,) planes"


def test_the_keys_of_the_page_are_those_that_are_written():
    """What stands in the table is what the page listens to."""
    text = (ROOT / "docs" / "review.md").read_text()
    written = {key for row in re.findall(r"^\| (\S(?: \S| – \S|sc)*) \| ", text, re.M) for key in row.split(" ")}
    code = "".join((ROOT / "src" / "mrnoise" / path).read_text() for path in ("report/report.js", "review/review.js"))
    listened = {
        key for keys in re.findall(r"\[\[((?:\"[^\"]+\"(?:, )?)+)\]", code) for key in re.findall(r'"([^"]+)"', keys)
    }
    symbols = {"ArrowUp": "↑", "ArrowDown": "↓", "ArrowLeft": "←", "ArrowRight": "→", "Escape": "Esc"}
    digits = set("12345678")
    assert {symbols.get(key, key) for key in listened} - digits == written - digits - {"–", "key"}


@pytest.mark.parametrize(
    ("block", "shown", "said"),
    [
        ("1 / 0", "a.png", "ZeroDivisionError"),
        ("open('a.png', 'w').close()", "b.png", "does not show a.png"),
        ("open('a.png', 'w').close()\nx = 1\n```\n\n```python\nassert x == 1", "a.png", None),
    ],
)
def test_examples_of_a_page_are_run_and_their_pictures_shown(monkeypatch, tmp_path, block, shown, said):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import build

    page = tmp_path / "page.md"
    page.write_text(f"```python\n{block}\n```\n\n![picture]({shown})\n")
    if said is None:
        assert build.run(page) == ["a.png"]
        return
    with pytest.raises(SystemExit, match=said):
        build.run(page)


def test_the_reference_describes_each_name_once(monkeypatch, tmp_path):
    """So that it is in the index, can be searched, and links to it lead there."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import build

    build.write_reference(tmp_path / "api")
    described = []
    for package in build.PACKAGES:
        text = (tmp_path / "api" / f"{package.rpartition('.')[2]}.md").read_text()
        assert f"automodule:: {package}\n" in text and "no-index" not in text
        again = {name for names in re.findall(r":exclude-members: (.*)", text) for name in names.split(", ")}
        module = importlib.import_module(package)
        described += [id(getattr(module, name)) for name in module.__all__ if name not in again]
    assert len(described) == len(set(described))
    assert {id(mrnoise.noise_map), id(mrnoise.read), id(mrnoise.acquisition.Acquisition)} <= set(described)


def test_the_index_of_the_site_has_every_page():
    text = (ROOT / "docs" / "index.md").read_text()
    listed = {
        line.strip() for block in re.findall(r"```{toctree}\n(.*?)```", text, re.S) for line in block.splitlines()
    }
    pages = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES if page.startswith("docs/")}
    assert pages - {"index"} <= listed
