"""The figure of a noise map."""

import dataclasses

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import image as pictures

from mrnoise.plot import panel, window
from mrnoise.result import NoiseMap
from small_maps import small_map


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts] + [axes.get_xlabel()]
    return found


def test_png_is_a_picture_and_leaves_pyplot_alone(tmp_path):
    before = matplotlib.get_backend()
    small_map().save(tmp_path / "out.png")
    picture = pictures.imread(tmp_path / "out.png")
    assert picture.shape[1] > 2000
    assert picture[..., :3].std() > 0.1
    assert matplotlib.get_backend() == before


@pytest.mark.parametrize(
    ("options", "last"),
    [({}, "g-factor"), ({"reference": False}, "Error of σ"), ({"reference": False, "error": "none"}, "Noise of |x|")],
)
def test_panel_shows_what_the_map_has(options, last):
    found = texts(panel(small_map(**options)))
    for title in ("Image", "Noise σ", "SNR", last):
        assert title in found


def test_footer_states_method_error_and_source():
    nm = small_map(interrupted=True)
    footer = texts(panel(nm))[0]
    for part in ("sketch", "40 probes", "R = 3.5", "Ψ: noise scan", "slice 3 of 5", "INTERRUPTED"):
        assert part in footer
    assert "no sampling error" in texts(panel(small_map(error="none")))[0]


def test_small_numbers_carry_their_power_of_ten():
    assert any("10^{-7}" in text and "a.u." in text for text in texts(panel(small_map(scale=1e-5))))


def test_the_slice_shown_is_one_that_was_computed():
    nm = small_map()
    image = nm.image.clone()
    image[2:] = torch.nan
    assert "slice 2 of 5" in texts(panel(dataclasses.replace(nm, image=image)))[0]


@pytest.mark.parametrize("shape", [(22, 17), (2, 3, 5, 22, 17), (4, 60)])
def test_any_number_of_axes(shape):
    assert isinstance(small_map(shape), NoiseMap)
    assert len(panel(small_map(shape)).axes) == 8


def test_window_ignores_background_and_outliers():
    values = np.linspace(1, 3, 1000)
    values[0], values[1] = 1e9, np.nan
    inside = np.ones(1000, dtype=bool)
    low, high = window(np.append(values, -50.0), np.append(inside, False), from_zero=False)
    assert 1 < low < 1.1
    assert 2.9 < high < 3
    assert window(np.full(5, 2.0), np.ones(5, dtype=bool), from_zero=False) == (0, 2)
    assert window(np.full(5, np.nan), np.ones(5, dtype=bool), from_zero=True) == (0, 1)
