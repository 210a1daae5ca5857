"""The page of measurements: offline, complete, and the same for the same measurement."""

import json
import re

import pytest
import torch

from browser import Browser, needs_chromium
from mrnoise import Geometry, InputError
from mrnoise.files.record import to_json
from mrnoise.files.text import plus_minus
from mrnoise.measurement import measure, roi_mean
from mrnoise.reconstruction import RootSumOfSquares, Sense
from mrnoise.report import measurement_page
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate

SHAPE = (12, 20)
ONE = simulate(SHAPE, 4, snr=50, seed=1).undersample(equispaced(SHAPE, 2))
STACK = simulate(SHAPE, 4, n_slices=3, snr=50, seed=1).undersample(equispaced(SHAPE, 2))
VOLUME = simulate((6, 12, 10), 4, snr=50, seed=1)
FAST = {"noise_power": True, "n_samples": 32, "target_error": 0.3}


def regions(shape):
    roi, background = torch.zeros(2, *shape, dtype=torch.bool)
    roi[..., 2:7, 3:9] = True
    background[..., 8:11, 2:8] = True
    return {"roi": roi, "background": background}


def everything(acquisition, voxel, **options):
    return measure(Sense(), acquisition, voxel=voxel, **regions(acquisition.image_shape), **FAST, **options)


FOUND = everything(ONE, (4, 6))
PAGE = measurement_page(FOUND, "<scan> & sense")


@needs_chromium
def test_the_page_opens_without_a_network_and_without_complaints(tmp_path):
    path = tmp_path / "roi.html"
    path.write_text(PAGE, encoding="utf-8")
    browser = Browser(tmp_path / "profile")
    try:
        for width in (390, 1280):
            browser.size(width, touch=width == 390)
            browser.open(path.as_uri())
            assert browser.console() == []
            assert browser.run("document.documentElement.scrollWidth") == width
            assert browser.run("[...document.querySelectorAll('.scroll')].every((e) => e.scrollWidth <= e.clientWidth)")
        page = browser.run("document.documentElement.outerHTML")
    finally:
        browser.close()
    assert "<h1>&lt;scan&gt; &amp; sense</h1>" in page
    assert len(re.findall(r'<img class="figure"', page)) == 4
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_page_is_the_same_for_the_same_measurement():
    assert measurement_page(FOUND, "<scan> & sense") == PAGE


def test_every_number_is_on_the_page_and_in_the_record():
    record = json.loads(to_json(FOUND.record()))
    assert len(FOUND.sections()) == 4
    for name, rows in FOUND.sections().items():
        for row, written in zip(rows, record["measurements"][name], strict=True):
            assert f'data-column="value">{plus_minus(row.value, row.error)}</td>' in PAGE
            assert written["value"] == pytest.approx(row.value)
    alone = roi_mean(Sense(), ONE, FOUND.roi)
    assert (FOUND.mean.value, FOUND.mean.std) == pytest.approx((alone.value, alone.std), rel=1e-5)


def test_only_what_was_asked_for():
    found = measure(Sense(), ONE, roi=FOUND.roi)
    assert list(found.sections()) == ["Region, 30 voxels"]
    assert found.noise_map is None
    assert measurement_page(found, "scan").count('<img class="figure"') == 1
    bare = measure(RootSumOfSquares(), ONE.replace(coil_maps=None), voxel=(4, 6), target_error=0.3)
    assert bare.point_spread is None
    assert "contrast recovery" not in str(bare.sections())
    assert measurement_page(bare, "scan").count('<img class="figure"') == 2


@pytest.mark.parametrize(
    ("acquisition", "voxel", "lengths"),
    [(STACK, (1, 4, 6), 2), (VOLUME, (3, 4, 6), 3), (ONE.replace(geometry=Geometry(measured=False)), (4, 6), 2)],
)
def test_stacks_volumes_and_scans_without_a_voxel_size(acquisition, voxel, lengths):
    found = everything(acquisition, voxel)
    page = measurement_page(found, "scan")
    assert page.count('<img class="figure"') == 4
    assert len([row for row in found.sections()["Noise in the region"] if "length" in row.quantity]) == lengths
    units = {found.unit, found.noise_power.unit, found.point_spread.unit}
    assert units == {"mm" if acquisition.geometry.measured else "voxel"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing to measure.*no region and no voxel"),
        ({"voxel": (4, 6), "noise_power": True}, "nothing to measure.*a region for"),
        ({"roi": torch.ones(SHAPE)}, "expected a bool mask"),
        ({"roi": FOUND.roi[1:], "voxel": (4, 6)}, "does not fit the image"),
        ({"voxel": (12, 6)}, "no such voxel"),
    ],
)
def test_bad_requests_are_refused(asked, message):
    with pytest.raises(InputError, match=message):
        measure(Sense(), ONE, **asked)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (19.4403, 0.0123, "19.440 ± 0.012"),
        (-4.21e-6, 1.2e-7, "(-4.21 ± 0.12) × 10⁻⁶"),
        (1234.5, 250.0, "1234 ± 250"),
        (2.5, None, "2.500"),
        (2.5, 0.0, "2.500 ± 0"),
        (float("inf"), float("nan"), "–"),
        (3.0, float("nan"), "3.000 ± –"),
    ],
)
def test_errors_are_written_with_two_digits(value, error, text):
    assert plus_minus(value, error) == text
