"""The object mask: phantoms with a known support."""

import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.foreground import foreground


def ellipse(shape, centre=(0.0, 0.0), size=(0.7, 0.6)):
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    return ((y[:, None] - centre[0]) / size[0]) ** 2 + ((x - centre[1]) / size[1]) ** 2 < 1


def noisy(image, snr, seed=0):
    random = torch.Generator().manual_seed(seed)
    return image + torch.randn(*image.shape, dtype=torch.complex64, generator=random) / snr


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("snr", [5, 20, 1000])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_finds_an_object_of_uneven_brightness(snr, scale):
    truth = ellipse((90, 70))
    shading = torch.linspace(0.35, 1, 70)  # of a surface coil
    mask = foreground(scale * noisy(truth * shading, snr / 0.7))
    assert mask.dtype == torch.bool
    assert dice(mask, truth) > 0.93
    assert (mask & ~truth).sum() < 0.02 * truth.sum()


def test_fills_dark_cavities_and_keeps_both_legs():
    left, right = ellipse((80, 100), (0, -0.5), (0.6, 0.35)), ellipse((80, 100), (0.1, 0.5), (0.5, 0.3))
    bone = ellipse((80, 100), (0, -0.5), (0.2, 0.1))
    mask = foreground(noisy((left & ~bone).float() + right.float(), 50))
    assert mask[bone].all()
    assert dice(mask, left | right) > 0.93


def test_a_stack_shares_one_threshold():
    bright, dim = ellipse((60, 50)).float(), 0.02 * ellipse((60, 50)).float()
    stack = torch.stack([bright, bright, dim])
    mask = foreground(stack)
    assert mask[0].any()
    assert not mask[2].any()
    frames = foreground(torch.stack([stack, 10 * stack]))
    torch.testing.assert_close(frames[0], mask)
    torch.testing.assert_close(frames[1], mask)


def test_background_of_zeros_volumes_and_missing_slices():
    truth = ellipse((40, 50))
    volume = torch.stack([truth.float()] * 6 + [torch.full((40, 50), torch.nan)])
    mask = foreground(volume)
    assert dice(mask[:6], torch.stack([truth] * 6)) > 0.93
    assert not mask[6].any()
    assert not foreground(torch.zeros(8, 9)).any()
    with pytest.raises(InputError, match="at least two axes"):
        foreground(torch.ones(5))
