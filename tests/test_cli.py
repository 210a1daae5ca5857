"""The commands as a user runs them, chained."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from mrnoise import noise_map, read, read_noise_map
from mrnoise.cli.main import run as cli
from mrnoise.foreground import foreground
from mrnoise.reconstruction import CgSense
from mrnoise.sampling import PATTERNS, REGULAR, caipi, equispaced

pytestmark = pytest.mark.xdist_group("command line")


def run(*arguments, cwd=None, code=0):
    """In this process, through the entry point that the shell calls."""
    out = io.StringIO()
    previous = Path.cwd()
    os.chdir(cwd or previous)
    try:
        with redirect_stdout(out), redirect_stderr(out), patch.object(sys, "argv", ["mrnoise", *map(str, arguments)]):
            cli()
        found = 0
    except SystemExit as leaving:
        found = leaving.code
    finally:
        os.chdir(previous)
    assert found == code, out.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    run("simulate", folder / "scan.npz", "--matrix", "48,40", "--coils", 5, "--seed", 3)
    return folder / "scan.npz"


@pytest.fixture(scope="module")
def maps(scan):
    common = ["--spacing", 2, "--calibration", 16, "--reconstruction", "cg-sense", "--regularization", 0.01]
    for method, n, seed in (("sketch", 100, 0), ("monte_carlo", 150, 1)):
        run("map", scan, *common, "-m", method, "-n", n, "--seed", seed, "-o", scan.parent / f"{method}.h5")
    return scan.parent / "sketch.h5", scan.parent / "monte_carlo.h5"


def test_series(tmp_path):
    """Lines move from frame to frame; each reconstruction of series by its name, their mean and tSNR."""
    file = tmp_path / "cine.npz"
    run(
        "simulate",
        file,
        "--matrix",
        "24,20",
        "--coils",
        4,
        "--frames",
        4,
        "-R",
        2,
        "--calibration",
        4,
        "--true-coil-maps",
    )
    masks = read(file).mask
    assert masks.shape == (4, 24, 20) and not bool((masks == masks[0]).all())
    for arguments, shape in (
        (["-r", "sliding-window"], (4, 24, 20)),
        (["-r", "low-rank", "--regularization", 0.02], (4, 24, 20)),
        (["-r", "sliding-window", "--mean-over", "frame"], (24, 20)),
        (["--tsnr-over", "frame"], (24, 20)),
    ):
        text = run("map", file, *arguments, "-n", 3, "-o", tmp_path / "map.h5", "-o", tmp_path / "map.html")
        nm = read_noise_map(tmp_path / "map.h5")
        assert nm.image.shape == shape and "relative_error" in text
        assert nm.axes == (("frame",) if len(shape) == 3 else ())
    assert nm.method == "temporal_snr" and "mean over frame of CgSense" in nm.provenance.reconstruction


def test_a_map_of_grappa_has_a_g_factor(scan, tmp_path):
    given = ["-r", "grappa", "--spacing", 2, "--calibration", 20, "-m", "sketch", "-n", 20]
    text = run("map", scan, *given, "-o", tmp_path / "map.h5")
    nm = read_noise_map(tmp_path / "map.h5")
    assert "g_factor" in text and not nm.image.is_complex() and 1 < float(nm.g_factor.median()) < 2
    assert "Grappa(kernel=(4, 5), regularization=0.001" in nm.provenance.reconstruction
    run("map", scan, "-r", "grappa", "--spacing", 2, "-o", tmp_path / "other.h5", code=2)


def test_help_names_every_command_and_needs_no_torch():
    text = run("--help")
    for command in [
        "demo",
        "map",
        "gfactor",
        "roi",
        "compare",
        "export",
        "rank",
        "simulate",
        "train",
        "evaluate",
        "reproduce",
        "info",
    ]:
        assert command in text
    code = "import sys; import mrnoise.cli.main; assert not {'torch', 'numpy', 'scipy', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version_and_self_checks():
    assert re.match(r"mrnoise \d+\.\d+\.\d+", run("--version"))
    text = run("info")
    assert text.count(" ok") == 2
    assert "FAILED" not in text


def test_info_describes_a_scan(scan):
    text = run("info", scan)
    assert "(5, 48, 40)" in text
    assert "noise scan" in text
    assert "condition number" in text


def test_map_writes_everything(scan):
    folder = scan.parent / "all"
    text = run("map", scan, "--spacing", 2, "--calibration", 16, "-n", 20, "-o", folder)
    names = {p.name for p in folder.iterdir()}
    assert {"map.h5", "panel.png", "report.html", "map_std.nii.gz", "map_std.json", "map_g_factor.nii.gz"} <= names
    for quantity in ("std", "magnitude_std", "snr", "g_factor"):
        assert quantity in text
    assert json.loads((folder / "map_std.json").read_text())["units"]


def test_two_estimators_agree(maps):
    text = run("compare", *maps)
    ratio = float(re.search(r"NRMSE / floor[^\d]*([\d.]+)", text).group(1))
    # An estimate of agreement from about 1000 voxels whose noise is correlated.
    assert 0.8 < ratio < 1.25
    assert "correlation" in text
    assert "paper" in text


def test_masks_of_another_shape_are_refused(scan, maps):
    mask = maps[0].parent / "transposed.npy"
    np.save(mask, np.ones((40, 48), bool))
    assert "mask does not fit" in run("compare", *maps, "--mask", mask, code=2)
    assert "mask does not fit" in run("roi", scan, "--region", mask, code=2)


def test_comparison_inside_a_mask(maps):
    mask = maps[0].parent / "mask.npy"
    inside = np.zeros((48, 40), bool)
    inside[20:30, 10:25] = True
    np.save(mask, inside)
    assert re.search(r"voxels[^\d]*150\b", run("compare", *maps, "--mask", mask))


def test_g_factor_in_closed_form_and_of_two_maps(scan, maps):
    folder = scan.parent
    run("gfactor", scan, "-R", 2, "-o", folder / "g.h5")
    closed = read_noise_map(folder / "g.h5")
    assert float(closed.g_factor.nan_to_num(1).min()) > 0.99
    run("map", scan, "-r", "sense", "-R", 2, "--calibration", 0, "-n", 150, "-o", folder / "fast.h5")
    run("map", scan, "-r", "sense", "-R", 1, "--calibration", 0, "-n", 150, "--seed", 5, "-o", folder / "full.h5")
    text = run("gfactor", folder / "fast.h5", "--reference", folder / "full.h5", "-R", 2, "-o", folder / "ratio.h5")
    ratio = read_noise_map(folder / "ratio.h5")
    inside = closed.g_factor.isfinite()
    deviation = (ratio.g_factor / closed.g_factor - 1)[inside]
    assert float(deviation.square().mean().sqrt()) < 1.3 * (2 / (4 * 150)) ** 0.5
    assert "g_factor" in text


UNDERSAMPLED = ["--spacing", 2, "--calibration", 16]


def test_roi_prints_the_mean_with_its_error(scan):
    text = run("roi", scan, "--region", "circle:24,20,5", *UNDERSAMPLED)
    value, sigma = (float(v) for v in re.search(r"mean of \|x\|[^\d]*([\d.]+) ± ([\d.]+)", text).groups())
    assert 0 < sigma < value
    assert "Region, 81 voxels" in text
    assert "background" not in text


def test_roi_measures_everything_and_writes_it_down(scan, tmp_path):
    regions = ["--region", "circle:24,20,5", "--background", "box:30,14,34,20"]
    options = [*UNDERSAMPLED, "--noise-power", "-n", 32, "--target-error", 0.2]
    files = ["-o", tmp_path / "roi.html", "--json", tmp_path / "new" / "roi.json"]
    text = run("roi", scan, *regions, "--voxel", "centre", *options, *files)
    record = json.loads((tmp_path / "new" / "roi.json").read_text())
    page = (tmp_path / "roi.html").read_text(encoding="utf-8")
    rows = {(name, row["quantity"]): row for name, found in record["measurements"].items() for row in found}
    assert list(record["measurements"]) == [
        "Region, 81 voxels",
        "Against background, 24 voxels",
        "Noise in the region",
        "Voxel (24, 20)",
    ]
    for name, quantity in rows:
        for place in (text, page):
            assert name in place
            assert quantity in place
    difference = rows["Against background, 24 voxels", "difference of means"]
    region, outside = rows["Region, 81 voxels", "mean of |x|"], rows["Against background, 24 voxels", "mean of |x|"]
    assert difference["value"] == pytest.approx(region["value"] - outside["value"])
    ratio = rows["Against background, 24 voxels", "CNR of the means"]["value"]
    assert ratio == pytest.approx(difference["value"] / difference["error"])
    assert 0.5 < rows["Voxel (24, 20)", "contrast recovery"]["value"] <= 1
    assert len(record["noise_power_spectrum"]["value"]) == len(record["noise_power_spectrum"]["frequency"]) > 4
    assert record["provenance"]["input"]["source"].startswith("scan.npz")


@pytest.mark.parametrize("voxel", ["20,30", "centre"])
def test_roi_of_a_voxel_alone_is_its_snr(scan, voxel, tmp_path):
    region = ["--region", "box:20,30,21,31"] if voxel == "centre" else []
    run("roi", scan, *region, "--voxel", voxel, *UNDERSAMPLED, "--target-error", 0.3, "--json", tmp_path / "v.json")
    (rows,) = (r for n, r in json.loads((tmp_path / "v.json").read_text())["measurements"].items() if "Voxel" in n)
    found = {row["quantity"]: row for row in rows}
    assert found["SNR"]["value"] == pytest.approx(found["|x|"]["value"] / found["|x|"]["error"])
    assert {"resolution, y", "resolution, x", "strongest correlation"} <= set(found)


def test_roi_says_that_resolution_needs_coil_maps(scan):
    text = run("roi", scan, "--voxel", "20,30", "-r", "rss", "--coil-maps", "propagated", "--target-error", 0.3)
    assert "no resolution: a lesion reaches k-space through coil maps" in text
    assert "contrast recovery" not in text


def test_rank_patterns(scan, tmp_path):
    chosen = ["--patterns", "equispaced,random_1d", "--draws", 2, "-n", 8]
    files = ["-o", tmp_path / "patterns.png", "--json", tmp_path / "patterns.json"]
    text = run("rank", "patterns", scan, "-R", 4, "--roi", "circle:24,20,6", *chosen, *files)
    found = json.loads((tmp_path / "patterns.json").read_text())["patterns"]
    assert {row["pattern"] for row in found} == {"equispaced", "random_1d"}
    assert found[0]["roi_std"]["value"] <= found[1]["roi_std"]["value"]
    assert all(row["psnr"] > 10 and row["linearity"] == "linear" for row in found)
    assert (tmp_path / "patterns.png").stat().st_size > 10_000
    assert "PSNR" in text
    # Two draws of random lines tell next to nothing: t of one degree of freedom is 12.7.
    assert "σ of the mean: cannot be told apart" in text
    assert "phase encodes" not in text


def test_rank_networks(scan, tmp_path):
    chosen = ["-r", "cg-sense", "-r", "almost:same", "--repeats", 2, "-n", 16, "--pattern", "equispaced"]
    (tmp_path / "almost.py").write_text("from mrnoise.reconstruction import CgSense\nsame = CgSense(0.011)\n")
    files = ["-o", "networks.png", "--json", "networks.json"]
    text = run("rank", "networks", scan, "-R", 2, "--roi", "box:14,10,34,30", *chosen, *files, cwd=tmp_path)
    found = json.loads((tmp_path / "networks.json").read_text())
    assert {row["name"] for row in found["networks"]} == {"cg-sense", "almost:same"}
    assert all(len(row["autocorrelation_length"]) == 2 and row["resolution"] for row in found["networks"])
    assert (tmp_path / "networks.png").stat().st_size > 10_000
    # The same image but for a hundredth of λ.
    assert "Equal PSNR A" in text
    assert "undecided" in text


def test_own_reconstruction(scan):
    (scan.parent / "mine.py").write_text(
        "from mrnoise.fourier import to_image\n\ndef combine(kspace):\n    return to_image(kspace).abs().sum(-3)\n"
    )
    text = run("map", scan, "-r", "mine:combine", "-n", 10, "-o", "own.h5", cwd=scan.parent)
    assert "10 samples" in text
    assert read_noise_map(scan.parent / "own.h5").provenance.reconstruction == "combine"


def test_propagated_coil_maps(scan):
    run("map", scan, "-n", 5, "--coil-maps", "propagated", "-o", scan.parent / "p.h5")
    assert "reconstruction" in read_noise_map(scan.parent / "p.h5").provenance.coil_maps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["map", "nothing.npz"], "no file"),
        (["map", "SCAN", "-r", "compressed"], "unknown reconstruction: expected one of sense"),
        (["map", "SCAN", "-r", "nowhere:thing"], "cannot load the reconstruction"),
        (["map", "SCAN", "-m", "magic"], "unknown method"),
        (["map", "SCAN", "-r", "rss", "--regularization", "0.5"], "a setting changes nothing"),
        (["roi", "SCAN", "-r", "tv", "--region", "box:1,1,4,4", "--weights", "knee"], "a setting changes nothing"),
        (["map", "SCAN", "-o", "map.xyz"], "unknown output format"),
        (["map", "SCAN", "-o", "SCAN/map.h5"], "cannot write the output"),
        (["map", "SCAN", "-R", "0.5"], "acceleration is not possible: expected between 1 and 48"),
        (["simulate", "out.npz", "-R", "nan"], "acceleration is not possible"),
        (["roi", "SCAN", "--voxel", "9,9", "-R", "inf"], "acceleration is not possible"),
        (["map", "SCAN", "-R", "4", "--calibration", "13"], "at most 12 calibration samples at acceleration 4"),
        (["map", "SCAN", "-R", "4", "--spacing", "4"], "acceleration and spacing exclude each other"),
        (["simulate", "out.npz", "-R", "4", "--spacing", "4"], "received --acceleration 4 --spacing 4."),
        (["roi", "SCAN", "--voxel", "9,9", "--spacing", "4", "--pattern", "poisson"], "the pattern has no spacing"),
        (["simulate", "out.npz", "--trajectory", "radial", "--pattern", "poisson"], "Leave --pattern out"),
        (["gfactor", "SCAN", "--spacing", "2", "--pattern", "random_1d"], "--spacing with equispaced or caipi"),
        (["map", "SCAN", "--pattern", "poisson"], "nothing is undersampled: expected --acceleration or --spacing"),
        (["roi", "SCAN", "--voxel", "9,9", "--calibration", "12"], "received --pattern equispaced --calibration 12"),
        (["simulate", "out.npz", "--matrix", "16,12", "--pattern", "caipi"], "nothing is undersampled"),
        (["map", "SCAN", "--spacing", "2.5"], "cannot read the spacing: expected a whole number;"),
        (["map", "SCAN", "--spacing", "2,2"], "cannot read the spacing: expected a whole number;"),
        (["map", "SCAN", "--spacing", "2,2,2", "--pattern", "caipi"], "cannot read the spacing: expected a whole"),
        (["map", "SCAN", "--spacing", "0"], "spacing of a regular pattern is not possible"),
        (["map", "SCAN", "--pattern", "spiral", "-R", "2"], "unknown sampling pattern"),
        (["map", "SCAN", "--slice", "4"], "no such slice: expected no --slice: the scan is one image"),
        (["map", "SCAN", "--coil-maps", "magic"], "unknown choice of coil maps"),
        (["map", "SCAN", "--regularization", "-1"], "invalid regularisation"),
        (["map", "SCAN", "--target-error", "3"], "invalid target error"),
        (["map", "SCAN", "-r", "sense", "-R", "2"], "not a regular lattice"),
        (["gfactor", "SCAN", "-R", "2", "--pattern", "poisson"], "not a regular lattice"),
        (["roi", "SCAN", "--region", "here"], "invalid region"),
        (["roi", "SCAN", "--region", "circle:500,500,2"], "empty region"),
        (["roi", "SCAN"], "nothing to measure: expected a region"),
        (["roi", "SCAN", "--noise-power", "--voxel", "3,4"], "nothing to measure"),
        (["roi", "SCAN", "--background", "box:1,1,4,4", "--voxel", "3,4"], "nothing to measure"),
        (["roi", "SCAN", "--region", "box:1,1,4,4", "--background", "there"], "invalid region"),
        (["roi", "SCAN", "--voxel", "48,0"], "no such voxel: expected 2 whole numbers inside the image (48, 40)"),
        (["roi", "SCAN", "--voxel", "1,2,3"], "no such voxel"),
        (["roi", "SCAN", "--voxel", f"{'9' * 30},1"], "no such voxel"),
        (["roi", "SCAN", "--voxel", "centre"], "no such voxel"),
        (["roi", "SCAN", "--voxel", "9,9", "--lesion-width", "-1"], "invalid width of the lesion"),
        (["roi", "SCAN", "--voxel", "9,9", "--target-error", "2"], "invalid target error"),
        (["roi", "SCAN", "--region", "box:1,1,4,4", "--noise-power", "-n", "3"], "too few noise samples"),
        (["roi", "SCAN", "--region", "box:1,1,2,4", "--noise-power"], "region too small"),
        (["roi", "SCAN", "--region", "box:1,1,4,4", "-o", "roi.pdf"], "unknown output format"),
        (["roi", "SCAN", "--region", "box:1,1,4,4", "--json", "roi.html"], "unknown output format"),
        (["roi", "SCAN", "--region", "box:1,1,4,4", "-o", "SCAN/roi.html"], "cannot write the output"),
        (["rank", "patterns", "SCAN", "-R", "4", "--roi", "there"], "invalid region"),
        (["rank", "patterns", "SCAN", "-R", "4", "--roi", "circle:200,9,3"], "empty region"),
        (["rank", "patterns", "SCAN", "-R", "99", "--roi", "box:9,9,20,20"], "acceleration is not possible"),
        (["rank", "patterns", "SCAN", "-R", "4", "--roi", "box:9,9,20,20", "--patterns", "helix"], "unknown sampling"),
        (["rank", "patterns", "SCAN", "-R", "4", "--roi", "box:9,9,20,20", "--draws", "1"], "too few repetitions"),
        (["rank", "networks", "SCAN", "-R", "4", "--roi", "there", "-r", "cg-sense"], "invalid region"),
        (["rank", "networks", "SCAN", "-R", "4", "-o", "ranking.html"], "unknown output format"),
        (["compare", "SCAN", "SCAN"], "cannot read a noise map"),
        (["reproduce", "--only", "table-1"], "no such table: expected one of methods"),
        (["reproduce", "--data", "nowhere"], "the data folder lacks the anatomy"),
        (["reproduce", "--only", "pico", "-o", "SCAN"], "cannot write the output"),
        (["reproduce", "--device", "cuda:64"], "no such device: expected one of cpu"),
        (["simulate", "out.txt"], "cannot simulate this"),
        # Numbers that are none, or not possible.
        (["map", "SCAN", "--seed", "-1"], "invalid seed"),
        (["map", "SCAN", "--seed", "4294967296"], "invalid seed"),
        (["map", "SCAN", "-R", "2", "--pattern", "random_1d", "--calibration", "4", "--sampling-seed", "-1"], "seed"),
        (["map", "SCAN", "-m", "sketch", "-n", "-1"], "invalid n_samples"),
        (["map", "SCAN", "-m", "sketch", "-n", "99999999999999999999"], "invalid n_samples"),
        (["map", "SCAN", "-m", "sketch", "-n", "8", "--batch-size", "0"], "invalid batch_size"),
        (["map", "SCAN", "--target-error", "nan"], "invalid target error"),
        (["map", "SCAN", "--target-error", "-inf"], "invalid target error"),
        (["map", "SCAN", "--regularization", "nan"], "invalid regularisation"),
        (["map", "SCAN", "--regularization", "inf"], "invalid regularisation"),
        (["map", "SCAN", "--slice", "-1"], "no such slice"),
        (["map", "SCAN", "--device", "meta"], "no such device"),
        (["map", "SCAN", "-r", ":smile:"], "cannot load the reconstruction"),
        (["gfactor", "SCAN", "--regularization", "nan"], "invalid regularisation"),
        (["roi", "SCAN", "--region", "box:1,1,4,4", "--seed", "-1"], "invalid seed"),
        (["roi", "SCAN", "--region", f"box:{'9' * 30},1,2,3"], "empty region"),
        (["roi", "SCAN", "--region", "box:1,1,4,4", "--noise-power", "-n", "99999999999999999999"], "noise samples"),
        (["roi", "SCAN", "--voxel", "9,9", "--lesion-width", "inf"], "invalid width of the lesion"),
        (["rank", "patterns", "SCAN", "-R", "2", "--roi", "box:9,9,20,20", "--draws", f"{10**12}"], "repetitions"),
        (["rank", "patterns", "SCAN", "-R", "2", "--roi", "box:9,9,20,20", "--seed", "-1"], "invalid seed"),
        (["rank", "networks", "SCAN", "-R", "2", "-r", "sense", "--repeats", "-1"], "too few repetitions"),
        (["simulate", "out.npz", "--matrix", "100000,100000"], "too large for this computer"),
        (["simulate", "out.npz", "--matrix", "10000000000,4"], "too large for this computer"),
        (["simulate", "out.npz", "--matrix", "2,2,10000000000"], "too large for this computer"),
        (["simulate", "out.npz", "--matrix", "10000000000,4", "-R", "2"], "too large for this computer"),
        (["simulate", "out.npz", "--coils", "0"], "invalid number of coils"),
        (["simulate", "out.npz", "--coils", "99999999999999999999"], "invalid number of coils"),
        (["simulate", "out.npz", "--matrix", "16,12", "--slices", "99999999999999999999"], "too large"),
        (["simulate", "out.npz", "--matrix", "16,12", "--frames", "0"], "invalid number of frames"),
        (["simulate", "out.npz", "--matrix", "9000,9000", "--frames", "4096"], "too large"),
        (["map", "SCAN", "--mean-over", "frame"], "this is no series"),
        (["map", "SCAN", "-r", "low-rank"], "this is no series"),
        (["map", "SCAN", "--tsnr-over", "frame", "-m", "exact", "--preview"], "--tsnr-over with --method, --preview"),
        (["simulate", "out.npz", "--matrix", "16,12", "--noise-samples", "-1"], "invalid number of noise samples"),
        (["simulate", "out.npz", "--matrix", "16,12", "--snr", "nan"], "signal-to-noise ratio"),
        (["simulate", "out.npz", "--seed", "-1"], "invalid seed"),
        (["demo", "--seed", "-1"], "invalid seed"),
        (["demo", "--target-error", "nan"], "invalid target error"),
        # Names.
        (["info", "n" * 300], "there is no file"),
        (["info", "[/red]"], "there is no file"),
        (["compare", "n" * 300, "[/]"], "cannot read a noise map"),
        (["roi", "SCAN", "--region", "n" * 300 + ".npy"], "cannot read"),
        (["train", "n" * 300], "cannot read the recipe"),
        (["train", "/dev/zero"], "cannot read the recipe"),
        (["evaluate", "n" * 300], "cannot read the weights"),
        (["evaluate", "."], "cannot read the weights"),
        (["map", "SCAN", "--nonsense"], "No such option"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(scan, tmp_path, arguments, message):
    arguments = [a.replace("SCAN", str(scan)) for a in arguments]
    text = run(*arguments, cwd=tmp_path, code=2)
    assert message in text.replace("\n", " ")
    if "No such option" not in message:
        assert len(text.strip().splitlines()) == 1
        assert "received" in text
    assert list(tmp_path.iterdir()) == []  # nothing half-written


LONG = "n" * 300
UNWRITABLE = ["SCAN/x{}", f"{LONG}{{}}", f"{LONG}/x{{}}", f"{'a/' * 2100}x{{}}", "/dev/null/x{}", "/proc/none{}"]


@pytest.mark.parametrize("place", UNWRITABLE, ids=["below a file", "long", "longer", "deep", "device", "proc"])
@pytest.mark.parametrize(
    ("command", "ending"),
    [
        (["map", "SCAN"], "/"),
        (["gfactor", "SCAN"], ".h5"),
        (["roi", "SCAN", "--region", "box:4,4,9,9"], ".html"),
        (["rank", "patterns", "SCAN", "-R", "2", "--roi", "box:4,4,9,9"], ".png"),
        (["rank", "networks", "SCAN", "-R", "2"], ".png"),
        (["reproduce", "--only", "pico"], ""),
        (["train", "unet-brain"], ""),
        (["demo"], ""),
        (["simulate"], ".npz"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_outputs_that_cannot_be_written_are_refused_before_the_work(scan, tmp_path, command, ending, place):
    output = place.format(ending).replace("SCAN", str(scan))
    words = [word.replace("SCAN", str(scan)) for word in command]
    if ending == "/" and place.startswith("/proc"):
        return  # a file of that name, not a folder
    text = run(*words, *([] if command[0] == "simulate" else ["-o"]), output, cwd=tmp_path, code=2)
    assert "cannot write the output" in text
    assert len(text.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


ODD = ["[/red]a[red]b:smile:%s{0}ü", os.fsdecode(b"a\nb\xff")]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_names_are_no_markup_and_need_not_be_text(scan, tmp_path, name):
    """Brackets were taken for markup by the terminal library; bytes that are no UTF-8 could not be printed."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    path = tmp_path / f"{name}.npz"
    path.write_bytes(scan.read_bytes())
    command = [sys.executable, "-m", "mrnoise"]
    outputs = ["-o", tmp_path / "out.h5", "-o", tmp_path / f"{name}.html", "-o", tmp_path / f"{name}.nii"]
    for words in (["info", path], ["map", path, "-n", "4", "-m", "sketch", *outputs, "-o", tmp_path / f"{name}.png"]):
        done = subprocess.run([*command, *words], capture_output=True, check=False, timeout=120, cwd=tmp_path)
        assert done.returncode == 0, done.stderr.decode()
        assert "Warning" not in done.stderr.decode()
        if name.isprintable():
            assert Path(name).name in done.stdout.decode()
    assert read_noise_map(tmp_path / "out.h5").provenance.input["source"].endswith(".npz (npz)")
    assert (tmp_path / f"{name}.html").exists() and (tmp_path / f"{name}.png").exists()


def test_an_odd_name_as_long_as_may_be(scan, tmp_path):
    """The temporary file had a longer name than the file itself."""
    name = "n" * 250 + ".npz"
    run("simulate", tmp_path / name, "--matrix", "16,12", "--noise-samples", 200)
    assert [path.name for path in tmp_path.iterdir()] == [name]


FULL = """
import resource, signal, sys
from mrnoise.cli.main import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
run()
"""


@pytest.mark.parametrize("suffix", [".h5", ".nii.gz", ".html", ".npz"])
def test_a_disk_that_takes_no_more_is_one_error(scan, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    words = ["map", scan, "-n", "4", "-m", "sketch", "-o", output]
    if suffix == ".npz":
        words = ["simulate", output, "--matrix", "16,12"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert "cannot write the output" in done.stderr
    if suffix != ".h5":  # there HDF5 has words of its own at the end of the process, and may crash
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


DEMO_FILES = {"map.h5", "panel.png", "report.html", "map_snr.nii.gz"}


@pytest.fixture
def small_demo(monkeypatch):
    for name, value in {
        "SHAPE": (40, 36),
        "COILS": 5,
        "ACCELERATION": 1.5,
        "CALIBRATION": 14,
        "NETWORK": "unet",
    }.items():
        monkeypatch.setattr(f"mrnoise.cli.demo.{name}", value)


def test_demo_maps_two_reconstructions_and_compares_them(small_demo, tmp_path):
    text = run("demo", "--target-error", 0.2, "-o", tmp_path / "demo")
    maps = []
    for name in ("cg-sense", "unet"):
        assert {path.name for path in (tmp_path / "demo" / name).iterdir()} >= DEMO_FILES
        assert f"Simulated head: {name}" in text
        maps.append(read_noise_map(tmp_path / "demo" / name / "map.h5"))
    assert (tmp_path / "demo" / "panel.png").stat().st_size > 10_000
    ratio = (maps[1].snr / maps[0].snr)[foreground(maps[0].image)]
    assert f"median ×{float(ratio.quantile(0.5)):.2f}" in text
    assert f"lower in {100 * float((ratio < 1).double().mean()):.1f} % of the voxels" in text


@pytest.mark.parametrize("reached", [False, True])
def test_interrupted_demo_leaves_what_it_has(small_demo, tmp_path, monkeypatch, reached):
    """Ctrl-C in the second map, before and after its first batch."""

    def interrupted(reconstruction, *arguments, **options):
        if isinstance(reconstruction, CgSense):
            return noise_map(reconstruction, *arguments, **options)
        if not reached:
            raise KeyboardInterrupt

        def stop(*_):
            raise KeyboardInterrupt

        return noise_map(reconstruction, *arguments, **options | {"progress": stop})

    monkeypatch.setattr("mrnoise.mapping.run.noise_map", interrupted)
    text = run("demo", "--target-error", 0.3, "-o", tmp_path, code=130)
    assert "interrupted" in text
    assert "before there was anything to write" not in text
    assert {path.name for path in (tmp_path / "cg-sense").iterdir()} >= DEMO_FILES
    assert {path.name for path in tmp_path.iterdir()} == (
        {"cg-sense", "unet", "panel.png"} if reached else {"cg-sense"}
    )


# Ctrl-C a second after the first slice has been linearised.
INTERRUPTED = """
import os, signal, sys, threading
import mrnoise.estimators.sketching as sketching
from mrnoise.cli.main import run
go = sketching.stream
def armed(*given, **more):
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    return go(*given, **more)
sketching.stream = armed
run()
"""


def test_interrupted_map_leaves_its_estimate(scan):
    out = scan.parent / "interrupted.h5"
    options = ["-m", "sketch", "-n", "100000", "--batch-size", "2", "-o", out]
    command = [sys.executable, "-c", INTERRUPTED, "map", scan, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 130, result.stdout + result.stderr
    assert "interrupted" in result.stderr
    nm = read_noise_map(out)
    assert nm.interrupted
    assert 2 <= nm.n_samples < 100000
    assert float(nm.relative_error.nanmedian()) < 0.5
    # Going on from it is one run with as many probes.
    n = nm.n_samples + 10
    run("map", scan, "-n", n, "-o", out, "--resume")
    run("map", scan, "-m", "sketch", "-n", n, "-o", scan.parent / "whole.h5")
    resumed, whole = read_noise_map(out), read_noise_map(scan.parent / "whole.h5")
    assert resumed.n_samples == n
    assert not resumed.interrupted
    assert float((resumed.std - whole.std).abs().max() / whole.std.max()) < 1e-5


def test_nothing_to_resume(scan):
    assert "nothing to resume" in run("map", scan, "-o", scan.parent / "none.h5", "--resume", code=2)


def test_preview_of_few_samples(scan, tmp_path):
    common = ["map", scan, "--spacing", 2, "--calibration", 16, "-m", "sketch", "--preview"]
    for samples in ([], ["-n", 31]):
        assert "2 ≤ S ≤ 30" in run(*common, *samples, "-o", tmp_path / "out.h5", code=2)
    text = run(*common, "-n", 12, "-o", tmp_path / "out.h5")
    assert re.search(r"Preview: σ is smoothed .* predicted to be wrong by \d+\.\d% instead of 1\d\.\d%", text)
    assert read_noise_map(tmp_path / "out.h5").provenance.preview["width_voxels"] > 0


def test_being_told_to_terminate_is_an_interruption(tmp_path):
    """SIGTERM left temporary files; now it is Ctrl-C: what there is, is written."""
    code = "import os, signal; from mrnoise.cli import main; main.app = lambda: os.kill(os.getpid(), signal.SIGTERM); "
    done = subprocess.run(
        [sys.executable, "-c", code + "main.run()"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130 and "interrupted" in done.stderr


def test_the_seed_of_the_noise_does_not_draw_the_sampling(scan, tmp_path):
    """Two maps "with another seed" were of two scans."""
    found = {}
    for name, words in {"a": [], "b": ["--seed", "1"], "c": ["--sampling-seed", "1"]}.items():
        path = tmp_path / f"{name}.h5"
        undersampled = ["-R", "2", "--pattern", "random_1d", "--calibration", "4", "-m", "sketch", "-n", "4"]
        run("map", scan, *undersampled, *words, "-o", path)
        found[name] = read_noise_map(path)
    sha = {name: nm.provenance.input["sha256"] for name, nm in found.items()}
    assert sha["a"] == sha["b"] != sha["c"]
    assert bool((found["a"].std != found["b"].std).any())


def test_a_device_that_is_not_there(scan):
    for words in (("map", scan), ("gfactor", scan), ("roi", scan, "--region", "box:4,4,9,9")):
        text = run(*words, "--device", "cuda:9", code=2)
        assert "no such device" in text and "cuda:9" in text


def recorded(scan, command, folder, *words):
    """Net acceleration of what a command did with a pattern."""
    path = folder / f"{command.replace(' ', '_')}.h5"
    if command == "simulate":
        text = run("simulate", folder / "s.npz", "--matrix", "48,40", "--coils", 5, "--noise-samples", 100, *words)
        found = read(folder / "s.npz").acceleration
        assert f"R = {found:.2f}" in text and f"R = {found:.3f}" in run("info", folder / "s.npz")
        return found
    if command == "roi":
        run("roi", scan, "--region", "circle:24,20,5", *words, "--json", folder / "roi.json")
        return json.loads((folder / "roi.json").read_text())["provenance"]["sampling"]["acceleration"]
    run(command, scan, *(["-m", "sketch", "-n", 4] if command == "map" else []), *words, "-o", path)
    return read_noise_map(path).acceleration


@pytest.mark.parametrize("command", ["simulate", "map", "roi"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_acceleration_is_net_for_every_command_and_pattern(scan, tmp_path, command, pattern):
    """-R 4 was 2.56 or 4.0 by the pattern."""
    words = ["--pattern", pattern, "--calibration", 6]
    assert recorded(scan, command, tmp_path, *words, "-R", 4) == pytest.approx(4, rel=0.06)
    if pattern in REGULAR:
        spaced = recorded(scan, command, tmp_path, *words, "--spacing", 4)
        lattice = {"equispaced": equispaced((48, 40), 4, 6), "caipi": caipi((48, 40), (4, 4), calibration=6)}[pattern]
        assert spaced == pytest.approx(lattice.numel() / int(lattice.sum()))
        assert abs(spaced - 4) > 0.5


def test_acceleration_of_a_g_factor_is_that_of_the_lattice(scan, tmp_path):
    for pattern, spacing in (("equispaced", "4"), ("caipi", "2,2"), ("caipi", "2")):
        for words in (("-R", 4), ("--spacing", spacing)):
            assert recorded(scan, "gfactor", tmp_path, "--pattern", pattern, *words) == 4


def test_rankings_are_at_the_net_acceleration(scan, tmp_path):
    json_file = tmp_path / "found.json"
    chosen = ["--roi", "circle:24,20,6", "-n", 16, "--json", json_file]
    run("rank", "patterns", scan, "-R", 4, "--draws", 2, *chosen)
    rows = json.loads(json_file.read_text())["patterns"]
    assert {row["pattern"] for row in rows} == set(PATTERNS)
    assert all(row["acceleration"] == pytest.approx(4, rel=0.1) for row in rows)
    images = {}
    for words in ((), ("--seed", 1), ("--sampling-seed", 1)):
        chosen_network = ["-r", "cg-sense", "--repeats", 2, "--pattern", "random_1d"]
        run("rank", "networks", scan, "-R", 4, *chosen, *chosen_network, *words)
        images[words] = json.loads(json_file.read_text())["networks"][0]
    psnr = [row["psnr"] for row in images.values()]
    assert psnr[0] == psnr[1] != psnr[2]
    assert images[()]["snr"] != images["--seed", 1]["snr"]
