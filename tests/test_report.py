"""The HTML report: offline, and the viewer reads the values of the map."""

import base64
import dataclasses
import gzip
import json
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch

import mrnoise
from mrnoise.acquisition.geometry import Geometry
from mrnoise.files.text import significant
from mrnoise.report import volumes
from mrnoise.report.packing import pack
from small_maps import OBLIQUE, small_map

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


def rendered(path, address=""):
    """The page after its script has run, and what it wrote to the console."""
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={path.parent / 'profile'}",
            "--virtual-time-budget=8000",
            "--dump-dom",
            f"{path.as_uri()}#{address}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def readout(page):
    """{quantity: [value, interval]} of the voxel, as shown."""
    rows = re.findall(r'<tr data-quantity="(\w+)".*?</tr>', page, re.S)
    cells = {}
    for name in rows:
        row = re.search(rf'<tr data-quantity="{name}".*?</tr>', page, re.S).group()
        cells[name] = re.findall(r'class="(?:value|interval)">(.*?)</td>', row)
    return cells


def numbers(text):
    """Numbers as the report writes them: 0.0123, 4.5 × 10⁻⁶, (1.2 – 1.4) × 10⁻⁶."""
    power = re.search(r"× 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text)
    factor = 10.0 ** int(power.group(1).translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) if power else 1.0
    return [float(n) * factor for n in re.findall(r"\d+\.?\d*", text.split("×")[0])]


def check_readout(page, nm, index):
    shown = readout(page)
    assert set(shown) >= {"image", "std", "magnitude_std", "phase_std", "snr"}
    for name, (value, interval) in shown.items():
        factor = 100 if name == "relative_error" else 1
        assert numbers(value) == pytest.approx([factor * float(nm.quantity(name)[index])], rel=6e-4), name
        if name in ("image", "relative_error"):
            assert interval == ""
        elif nm.estimate.variance_error.any():
            expected = [float(bound[index]) for bound in nm.confidence_interval(0.95, name)]
            assert numbers(interval) == pytest.approx(expected, rel=1e-3), name
        else:
            assert interval == "exact"


@needs_chromium
@pytest.mark.parametrize("error", ["gaussian", "empirical"])
def test_readout_equals_the_map(tmp_path, error):
    nm = small_map(error=error, geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE), scale=1e-5)
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(tmp_path / "out.html", "voxel=11,6,4&quantity=snr")
    assert 'data-status="ready"' in page
    assert console == []
    assert '<span id="place">x 11  y 6  z 4</span>' in page
    assert '<span id="side">inside the object</span>' in page
    assert re.search(r'data-quantity="snr" aria-pressed="true"', page)
    check_readout(page, nm, (4, 6, 11))
    assert readout(page).keys() == {
        "image",
        "std",
        "magnitude_std",
        "phase_std",
        "snr",
        "g_factor",
        "relative_error",
    }


@needs_chromium
def test_volumes_with_frames_and_without_sampling_error(tmp_path):
    nm = small_map((2, 6, 22, 17), error="none", spatial_dims=3, reference=False, interrupted=True)
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(tmp_path / "out.html", "voxel=3,20,5,1")
    assert 'data-status="ready"' in page
    assert console == []
    assert 'class="viewer volume"' in page
    check_readout(page, nm, (1, 5, 20, 3))
    assert ">2 of 2</output>" in page


@needs_chromium
def test_sliders_have_the_names_of_the_axes(tmp_path):
    nm = dataclasses.replace(small_map((2, 3, 4, 22, 17)), axes=("frame", "slice", "echo"))
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(tmp_path / "out.html", "voxel=3,20,1,4")  # frame slider at 4: frame 2, slice 2
    assert console == []
    assert ">Frame, Slice</span>" in page and ">2 of 2, 2 of 3</output>" in page
    assert ">Echo</span>" in page and ">2 of 4</output>" in page
    check_readout(page, nm, (1, 1, 1, 20, 3))


@needs_chromium
def test_large_images_are_thinned_and_say_so(tmp_path, monkeypatch):
    nm = small_map((9, 22, 17))
    monkeypatch.setattr(volumes, "LARGEST", 4 * 22 * 17)
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(tmp_path / "out.html", "voxel=3,20,6")
    assert console == []
    assert "one slice in 3" in page
    assert ">7 of 9</output>" in page
    check_readout(page, nm, (6, 20, 3))


@needs_chromium
def test_the_page_tells_when_it_cannot_start(tmp_path):
    mrnoise.save(small_map((22, 17)), tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(text.replace('id="volume-std">', 'id="volume-std">%%%'), encoding="utf-8")
    page, _ = rendered(tmp_path / "bad.html")
    assert 'data-status="ready"' not in page
    assert "The viewer could not start" in page


def test_one_file_that_loads_nothing(tmp_path):
    nm = small_map()
    mrnoise.save(nm, tmp_path / "out.html")
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert re.findall(r"https?://|(?:src|href)\s*=|url\(|@import|fetch\(|XMLHttpRequest|import\(", text) == []


def test_text_of_the_scan_cannot_run(tmp_path):
    hostile = '</script><script>alert("1")</script>'
    nm = small_map((22, 17))
    nm = dataclasses.replace(nm, provenance=dataclasses.replace(nm.provenance, why=hostile, input={"source": hostile}))
    mrnoise.save(nm, tmp_path / "out.html")
    assert hostile not in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_tables_and_banners(tmp_path):
    nm = small_map(interrupted=True, geometry=Geometry(measured=False))
    mrnoise.save(nm, tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    for part in ("<b>Interrupted.</b>", "<b>Geometry assumed.</b>", "noise scan", "brain.h5", "✗ adjoint dot", "12.5"):
        assert part in text
    mrnoise.save(small_map(geometry=Geometry(affine=OBLIQUE)), tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert 'class="banner">' not in text
    settings = json.loads(re.search(r'id="settings">(.*?)</script>', text).group(1))
    assert settings["directions"] == ["LR", "PA", "IS"]


def test_an_empty_image_still_gives_a_report(tmp_path):
    nm = small_map((22, 17))
    mrnoise.save(dataclasses.replace(nm, image=torch.zeros_like(nm.image)), tmp_path / "out.html")
    assert "374 of 374 voxels" in (tmp_path / "out.html").read_text(encoding="utf-8").replace("\u2009", "")


def test_packing_keeps_four_digits():
    values = np.concatenate([np.geomspace(1e-12, 1e12, 501), [0, -2.5, np.nan, np.inf, 1e300]])
    planes = np.frombuffer(gzip.decompress(base64.b64decode(pack(values))), np.uint8)
    back = np.ascontiguousarray(planes.reshape(4, -1).T).view("<f4")[:, 0]
    np.testing.assert_allclose(back[:503], values[:503], rtol=2e-5)
    assert np.isnan(back[503:]).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (19.44, "19.4"),
        (0.00123, "0.00123"),
        (9.996, "10.0"),
        (4.8449e-6, "4.84 × 10⁻⁶"),
        (9.999e7, "1.00 × 10⁸"),
    ],
)
def test_numbers_are_written_with_three_digits(value, text):
    assert significant(value) == text


def test_voxels_about_which_nothing_is_known_give_no_warning():
    """A few thousandths of a degree of freedom: the upper end of the interval overflows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = volumes._factor_table(np.array([2e-3, 5e-3, 0.3, 60.0]))
    assert table["high"][0] == np.inf and 0 < table["high"][-1] < 0.3
