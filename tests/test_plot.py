"""The figure of a noise map."""

import dataclasses

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import image as pictures

import mrnoise
from mrnoise.errors import InputError
from mrnoise.figures.panel import comparison, panel, window, write_comparison_png
from mrnoise.foreground import foreground
from mrnoise.result.noise_map import NoiseMap
from small_maps import small_map


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts] + [axes.get_xlabel()]
    return found


def test_png_is_a_picture_and_leaves_pyplot_alone(tmp_path):
    before = matplotlib.get_backend()
    mrnoise.save(small_map(), tmp_path / "out.png")
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


def quieter(nm, *, intensity=1.0):
    """The map of another reconstruction: less noise on the left, more on the right, at another intensity."""
    factor = intensity * torch.logspace(-0.5, 0.1, nm.image.shape[-1], dtype=torch.float64)
    estimate = nm.estimate
    estimate = dataclasses.replace(
        estimate,
        variance=estimate.variance * factor.square(),
        pseudo_variance=estimate.pseudo_variance * factor.square(),
    )
    return dataclasses.replace(nm, image=intensity * nm.image, estimate=estimate)


def drawn(figure):
    return [axes.images for axes in figure.axes if axes.images]


def test_comparison_has_the_same_colours_in_both_rows_and_veils_the_background():
    first = small_map()
    second = quieter(first)
    pictures_of = drawn(comparison(first, second, ("one", "two")))
    assert len(pictures_of) == 7
    for column in (0, 2, 4):
        (upper, *_), (lower, *_) = pictures_of[column : column + 2]
        assert upper.get_clim() == lower.get_clim()
        assert upper.get_cmap().name == lower.get_cmap().name
    (shown, _) = pictures_of[3]
    np.testing.assert_array_equal(shown.get_array(), second.std[2])
    inside = foreground(first.image)
    both = torch.cat([first.std[inside], second.std[inside]])
    assert shown.get_clim() == pytest.approx(tuple(np.percentile(both, (1, 99))))
    outside = ~inside[2].numpy()
    for images in pictures_of[2:]:
        np.testing.assert_array_equal(images[1].get_array()[..., 3] > 0, outside)


def test_comparison_shows_the_ratio_of_snr_centred_at_one():
    first = small_map()
    second = quieter(first, intensity=7.0)  # of which it is free
    figure = comparison(first, second, ("one", "two"))
    shown = drawn(figure)[-1][0]
    np.testing.assert_allclose(shown.get_array(), (second.snr / first.snr)[2], rtol=1e-12)
    low, high = shown.get_clim()
    assert high > 2
    assert low * high == pytest.approx(1)
    assert shown.norm(1.0) == pytest.approx(0.5)
    figure.canvas.draw()
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == ["×0.5", "×1", "×2"]
    median = float((second.snr / first.snr)[foreground(first.image)].median())
    assert f"two / one, median ×{median:.2f} inside the object" in texts(figure)


@pytest.mark.parametrize(("intensity", "warned"), [(1.05, False), (0.8, True), (1.3, True)])
def test_comparison_warns_where_intensities_differ(intensity, warned):
    first = small_map()
    footer = texts(comparison(first, quieter(first, intensity=intensity), ("one", "two")))[2]
    assert (f"INTENSITY of two ×{intensity:.2g} that of one" in footer) == warned
    assert footer.startswith("one: sketch, 40 probes")
    assert footer.count("R = 3.5") == 1


@pytest.mark.parametrize("shape", [(22, 17), (2, 3, 5, 22, 17), (4, 60)])
def test_comparison_of_any_number_of_axes(shape, tmp_path):
    first = small_map(shape, error="none")
    write_comparison_png(first, first, ("one", "two"), tmp_path / "out.png")  # a ratio of 1 everywhere
    assert pictures.imread(tmp_path / "out.png").shape[1] > 2000


def test_comparison_needs_one_grid():
    with pytest.raises(InputError, match="differ in shape"):
        comparison(small_map(), small_map((5, 22, 18)), ("one", "two"))


def test_a_long_source_of_the_covariance_stays_within_the_panel():
    """It was cut at the edge of the picture; now it ends in an ellipsis before."""
    nm = small_map()
    source = "estimated from the background of the image, an upper bound; " * 6
    nm = dataclasses.replace(nm, provenance=dataclasses.replace(nm.provenance, noise_covariance={"source": source}))
    figure = panel(nm)
    footer = figure.texts[-1]
    renderer = figure.canvas.get_renderer()
    assert footer.get_text().endswith("…")
    assert footer.get_window_extent(renderer).x1 < figure.bbox.x1
