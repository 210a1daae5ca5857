"""The HTML report: offline, and the viewer reads the values of the map."""

import base64
import dataclasses
import gzip
import json
import re
import warnings

import numpy as np
import pytest
import torch

import mrnoise
from browser import Browser, needs_chromium
from mrnoise.acquisition.geometry import Geometry
from mrnoise.files.text import significant
from mrnoise.report import volumes
from mrnoise.report.packing import pack
from mrnoise.report.tables import reconstruction_in_words
from small_maps import OBLIQUE, small_map

pytestmark = pytest.mark.xdist_group("report")  # one browser
NARROW, WIDE = 390, 1280
SLICES = small_map(geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def rendered(browser, path, address=""):
    """The page after its script has run, and what it wrote to the console."""
    browser.size(WIDE)
    browser.open(f"{path.as_uri()}#{address}")
    return browser.run("document.documentElement.outerHTML"), browser.console()


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
def test_readout_equals_the_map(browser, tmp_path, error):
    nm = small_map(error=error, geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE), scale=1e-5)
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(browser, tmp_path / "out.html", "voxel=11,6,4&quantity=snr")
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
def test_volumes_with_frames_and_without_sampling_error(browser, tmp_path):
    nm = small_map((2, 6, 22, 17), error="none", spatial_dims=3, reference=False, interrupted=True)
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(browser, tmp_path / "out.html", "voxel=3,20,5,1")
    assert 'data-status="ready"' in page
    assert console == []
    assert 'class="viewer volume"' in page
    check_readout(page, nm, (1, 5, 20, 3))
    assert ">2 of 2</output>" in page


@needs_chromium
def test_sliders_have_the_names_of_the_axes(browser, tmp_path):
    nm = dataclasses.replace(small_map((2, 3, 4, 22, 17)), axes=("frame", "slice", "echo"))
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(browser, tmp_path / "out.html", "voxel=3,20,1,4")  # frame slider at 4: frame 2, slice 2
    assert console == []
    assert ">Frame, Slice</span>" in page and ">2 of 2, 2 of 3</output>" in page
    assert ">Echo</span>" in page and ">2 of 4</output>" in page
    check_readout(page, nm, (1, 1, 1, 20, 3))


@needs_chromium
def test_large_images_are_thinned_and_say_so(browser, tmp_path, monkeypatch):
    nm = small_map((9, 22, 17))
    monkeypatch.setattr(volumes, "LARGEST", 4 * 22 * 17)
    mrnoise.save(nm, tmp_path / "out.html")
    page, console = rendered(browser, tmp_path / "out.html", "voxel=3,20,6")
    assert console == []
    assert "one slice in 3" in page
    assert ">7 of 9</output>" in page
    check_readout(page, nm, (6, 20, 3))


@needs_chromium
def test_the_page_tells_when_it_cannot_start(browser, tmp_path):
    mrnoise.save(small_map((22, 17)), tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(text.replace('id="volume-std">', 'id="volume-std">%%%'), encoding="utf-8")
    page, _ = rendered(browser, tmp_path / "bad.html")
    assert 'data-status="ready"' not in page
    assert "The viewer could not start" in page


# What is wider than its page, or lies beyond its right edge, ends of scroll bars apart.
CUT = """[...document.querySelectorAll("header *, main *")].filter((e) => {
  const box = e.getBoundingClientRect();
  const inner = e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible";
  const beyond = box.right > document.documentElement.clientWidth + 0.5;
  return box.width > 0 && (beyond || (inner && e.tagName !== "INPUT"));
}).map((e) => `${e.tagName} ${e.id} ${e.className} ${e.textContent.slice(0, 40)}`)"""
DARKEST = """(() => {
  const c = document.getElementById("histogram");
  const values = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  return Math.min(...values.filter((v, i) => i % 4 === 0 && values[i + 3] === 255));
})()"""


@needs_chromium
@pytest.mark.parametrize("width", [NARROW, 800, WIDE])
@pytest.mark.parametrize("layout", ["one", "beside"])
def test_nothing_is_cut_at_any_width(browser, tmp_path, width, layout):
    mrnoise.save(SLICES, tmp_path / "out.html")
    browser.size(width, touch=width == NARROW)
    browser.open(f"{(tmp_path / 'out.html').as_uri()}#layout={layout}")
    assert browser.console() == []
    assert browser.run(CUT) == []
    shown = browser.run("[...document.querySelectorAll('canvas')].map((c) => c.getBoundingClientRect().width)")
    assert len(shown) == (2 if layout == "one" else 5) and min(shown) > 100


@needs_chromium
def test_a_picture_that_is_too_wide_is_noticed(browser, tmp_path):
    """What the narrow page was: a grid whose column is as wide as what is in it."""
    mrnoise.save(SLICES, tmp_path / "out.html")
    browser.size(NARROW, touch=True)
    browser.open((tmp_path / "out.html").as_uri())
    browser.run("document.querySelector('.stage').style.gridTemplateColumns = '400px'")
    assert any("CANVAS plane-z" in one for one in browser.run(CUT))


@needs_chromium
def test_printed_it_is_dark_on_white_and_complete(browser, tmp_path):
    mrnoise.save(SLICES, tmp_path / "out.html")
    browser.size(700)
    browser.open((tmp_path / "out.html").as_uri())
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        assert (
            browser.run("getComputedStyle(document.querySelector('.viewer')).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert browser.run(CUT) == []
        definitions = browser.run("[...document.querySelectorAll('.summary td:last-child')].map((e) => e.offsetHeight)")
        assert len(definitions) > 5 and min(definitions) > 0
        assert browser.run("new Promise((done) => requestAnimationFrame(() => done(printing())))")
        assert browser.run(DARKEST) == 0  # handles in ink
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", browser.pdf())) <= 3


def test_the_title_is_no_constructor_call(tmp_path):
    title = "Pocs(inner=CgSense(regularization=0.001, tolerance=1e-06, iterations=None), iterations=10)"
    nm = small_map((22, 17))
    nm = dataclasses.replace(nm, provenance=dataclasses.replace(nm.provenance, reconstruction=title))
    mrnoise.save(nm, tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    head = text[text.index("<header>") : text.index("</header>")]
    assert "Pocs of CgSense  ·" in head and "regularization" not in head
    assert title in text  # in the table


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("my_network", "my_network"),
        ("SigpyApp(SenseRecon, lamda=0.01)", "SigpyApp: SenseRecon"),
        ("TemporalMean(CgSense(regularization=0.001), 'frame')", "TemporalMean of CgSense"),
        ("", ""),
        ("a" * 1000, "a" * 400 + "…"),
    ],
)
def test_reconstructions_in_words(title, words):
    assert reconstruction_in_words(title) == words


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
