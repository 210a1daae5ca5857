"""In a notebook: a map shows itself, on light and on dark paper; progress; datasets of xarray."""

import base64
import dataclasses
import io
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from matplotlib import image as pictures

import mrnoise
from browser import Browser, needs_chromium
from mrnoise import progress
from mrnoise.acquisition.geometry import Geometry
from mrnoise.figures import html
from mrnoise.foreground import foreground
from mrnoise.simulation import simulate
from small_maps import OBLIQUE, small_map


def images(text):
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return [pictures.imread(io.BytesIO(base64.b64decode(source)), format="png") for source in sources]


def test_a_map_shows_itself():
    nm = small_map()
    text = nm._repr_html_()
    assert text == html(nm)
    assert all(title in text for title in ("Image", "Noise σ", "SNR", "g-factor", "median"))
    shown = images(text)
    assert [picture.shape for picture in shown] == [(22, 17, 4)] * 4
    # The brightest voxel of the slice in the middle is the brightest of its picture.
    middle = nm.image[2].abs()
    inside = foreground(nm.image)[2]
    assert np.corrcoef(shown[0][..., 0][inside], middle[inside])[0, 1] > 0.99
    assert "slice 2" in text and "R = 3.5" in text
    # Self-contained: nothing runs, nothing is loaded.
    assert not re.search(r"<script|<style|https?:|url\(", text)


def test_scan_and_map_are_one_line_in_a_terminal():
    """Not all of their numbers, which notebooks would keep too."""
    scan = simulate((22, 17), 3, n_slices=4)
    assert repr(scan) == "Acquisition(3 coils, 4 × 22 × 17 voxels, R = 1, simulation, noise seed 0)"
    assert repr(small_map((22, 17))) == "NoiseMap(22 × 17 voxels, method='sketch', n_samples=40)"


def test_text_of_a_map_cannot_run():
    nm = small_map()
    nm = dataclasses.replace(nm, axes=("<script>",))
    assert "<script>" not in nm._repr_html_()


def test_what_a_reader_must_know_is_said():
    assert "Interrupted" in small_map(interrupted=True)._repr_html_()
    nm = small_map((22, 17))
    assert "Interrupted" not in nm._repr_html_() and "slice" not in nm._repr_html_()


@needs_chromium
@pytest.mark.parametrize(("paper", "ink"), [("#fff", "#000"), ("#111", "#eee")])
def test_it_is_read_on_light_and_on_dark_paper(tmp_path, paper, ink):
    page = f'<html data-status="ready"><body style="background:{paper};color:{ink}">{small_map()._repr_html_()}'
    (tmp_path / "cell.html").write_text(f'<!doctype html><meta charset="utf-8">{page}', encoding="utf-8")
    browser = Browser(tmp_path / "profile")
    try:
        browser.size(900, 600)
        browser.open((tmp_path / "cell.html").as_uri())
        assert browser.console() == []
        colours = "[...document.querySelectorAll('body, div, span, td, th')].map((e) => getComputedStyle(e).color)"
        assert browser.run(f"new Set({colours}).size") == 1  # that of the page
        papers = "[...document.querySelectorAll('table, tr, td, th')].map((e) => getComputedStyle(e).backgroundColor)"
        assert browser.run(f"{papers}.every((c) => c === 'rgba(0, 0, 0, 0)')")
        heights = browser.run("[...document.images].map((e) => [e.clientWidth, e.clientHeight, e.naturalWidth])")
        # 22 × 0.9 mm by 17 × 1.1 mm
        assert all(w / h == pytest.approx(17 * 1.1 / (22 * 0.9), abs=0.02) and n == 17 for w, h, n in heights)
    finally:
        browser.close()


def test_plot_is_a_figure_that_shows_itself():
    nm = small_map()
    figure = nm.plot()
    assert figure._repr_png_()[:4] == b"\x89PNG"
    texts = [text.get_text() for text in nm.plot(4).texts]
    assert any("slice 5 of 5" in text for text in texts)
    assert small_map((22, 17)).plot(()).axes
    for place in (5, -1, (0, 1)):
        with pytest.raises(mrnoise.InputError, match="no such slice"):
            nm.plot(place)


# -- progress ----------------------------------------------------------------------------------------------------


class Display:
    """What a notebook would show."""

    def __init__(self):
        self.shown = []

    def display(self, page, display_id):
        assert display_id
        self.shown.append(page)
        return SimpleNamespace(update=self.shown.append)


@pytest.fixture
def notebook(monkeypatch):
    screen = Display()
    python, display = ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = lambda: SimpleNamespace(kernel=object())
    display.display, display.HTML = screen.display, str
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", 0.0)
    return screen


def test_a_bar_in_a_notebook_is_replaced_and_goes(notebook):
    assert progress.in_notebook()
    with mrnoise.progress_bar("<b>") as report:
        report(0, 2, 5, 10, 0.125)
        report(1, 2, 5, 10, float("nan"))
    first, second, last = notebook.shown
    assert 'value="5" max="20"' in first and "5/20 probes · σ ± 12.5 %" in first and "&lt;b&gt;, slice 1 of 2" in first
    assert 'value="15" max="20"' in second and "σ ± ?" in second and "left" in second
    assert last == ""


def test_a_bar_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert not progress.in_notebook()
    with mrnoise.progress_bar("scan.h5") as report:
        report(0, 1, 5, 10, 0.125)
    assert capsys.readouterr().out == ""  # what a command writes is its own


def test_short_work_shows_nothing(notebook, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 60.0)
    with mrnoise.progress_bar() as report:
        report(0, 1, 5, 10, 0.1)
    assert notebook.shown == []


# -- xarray ------------------------------------------------------------------------------------------------------


def test_a_dataset_has_names_millimetres_and_definitions():
    pytest.importorskip("xarray")
    nm = dataclasses.replace(
        small_map((2, 5, 22, 17), geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE)), axes=("echo", "slice")
    )
    data = nm.to_xarray()
    assert dict(data.sizes) == {"echo": 2, "slice": 5, "y": 22, "x": 17}
    np.testing.assert_array_equal(data["snr"], nm.snr)
    assert data["std"].attrs["units"] == "image units" and "√E|δx|²" in data["std"].attrs["definition"]
    dz, dy, dx = nm.geometry.spacing
    np.testing.assert_allclose(data["y"], dy * (np.arange(22) - 11))
    np.testing.assert_allclose(data["z"], dz * (np.arange(5) - 2))
    assert data["z"].dims == ("slice",) and data["x"].attrs["units"] == "mm"
    assert float(data["x"].diff("x")[0]) == pytest.approx(dx)
    np.testing.assert_allclose(np.reshape(data.attrs["affine"], (4, 4)), OBLIQUE)
    # A step along x is as long in the coordinates as in the patient.
    assert np.linalg.norm(OBLIQUE[:3, 0]) == pytest.approx(dx)
    assert "brain.h5" in data.attrs["provenance"]
    assert set(data.data_vars) >= {"image", "variance", "std", "magnitude_std", "phase_std", "snr", "g_factor"}


def test_a_volume_and_a_scan_without_a_voxel_size():
    pytest.importorskip("xarray")
    assert dict(small_map((6, 22, 17), spatial_dims=3).to_xarray().sizes) == {"z": 6, "y": 22, "x": 17}
    data = small_map((22, 17), geometry=Geometry(measured=False)).to_xarray()
    assert "x" not in data.coords and "affine" not in data.attrs
    small_map((22, 17)).to_xarray().sel(x=0.0, method="nearest")


def test_without_xarray_it_is_named(monkeypatch):
    monkeypatch.setattr("mrnoise.errors.find_spec", lambda name: None)
    with pytest.raises(mrnoise.InputError, match=r"mrnoise\[xarray\]"):
        small_map((22, 17)).to_xarray()
