"""Lines of an MRD file that differ: dwell times, numbers of channels, several leading axes."""

import numpy as np
import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.fourier import to_kspace
from mrnoise.io.scans.scan_file import read
from mrnoise.mapping.run import noise_map
from mrnoise.reconstruction import Sense
from test_read_mrd import COILS, close, header, line, noise_line, unit_noise, write

N1, N0, N2 = 40, 36, 8
RNG_SEED = 11
# Of contrasts 0 and 1.
DWELLS = [(5.0, 2.5), (2.0, 6.0)]


@pytest.fixture
def rng():
    return np.random.default_rng(RNG_SEED)


def coil_images(shape):
    """A disc, or ball, in coils with smooth maps, (coil, *shape); with the maps."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    maps = np.stack([np.exp(-((grid[-1] - np.cos(a)) ** 2) - (grid[-2] - np.sin(a)) ** 2) for a in (0.3, 2.4, 4.5)])
    maps = maps / np.sqrt((maps**2).sum(0))
    return (30 * (sum(x**2 for x in grid) < 0.5) * maps).astype(np.complex64), torch.from_numpy(
        maps.astype(np.complex64)
    )


def xml(shape):
    return header((1, *shape)[-3:], recon_x=(shape[-1], 240))


def contrast_lines(rng, shape, dwell, variance, **options):
    """Lines of the object with noise of this variance, one for each phase encoding."""
    kspace = to_kspace(torch.from_numpy(coil_images(shape)[0]), len(shape)).numpy()
    kspace = kspace + variance**0.5 * unit_noise(rng, *kspace.shape)
    places = np.ndindex(*shape[:-1])
    return [line(kspace[:, *k], k[-1], k[0] if len(k) > 1 else 0, dwell=dwell, **options) for k in places]


# -- dwell times ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dwells", DWELLS)
@pytest.mark.parametrize("shape", [(N1, N0), (N2, N1, N0)])
@pytest.mark.parametrize("noise", ["scan", "estimated"])
def test_contrasts_of_two_bandwidths(tmp_path, rng, shape, dwells, noise):
    """A receiver of white noise of density 10 / µs: each contrast has the noise of its own dwell time."""
    density, dims = 10.0, len(shape)
    variances = [density / dwell for dwell in dwells]
    lines = [acq for c in (0, 1) for acq in contrast_lines(rng, shape, dwells[c], variances[c], contrast=c)]
    if noise == "scan":
        lines.append(noise_line(rng, n=4000, dwell=4.0, mixing=(density / 4.0) ** 0.5 * np.eye(COILS)))
    acq = read(write(tmp_path / "a.h5", lines, xml(shape)))
    assert acq.axes == ("echo",) and acq.batch_shape == (2,)
    assert any(f"{dwells[0]:g} µs" in note and f"{dwells[1]:g} µs" in note for note in acq.notes)
    assert acq.noise_covariance.mean_variance == pytest.approx(max(variances), rel=0.1)  # 1 % and 3 % of sampling
    drawn = (
        acq.colour(torch.from_numpy(unit_noise(rng, *acq.kspace.shape))).abs().square().mean(list(range(1, dims + 2)))
    )
    assert drawn.tolist() == pytest.approx(variances, rel=0.1)
    assert not any("Ψ has a mean variance" in note for note in acq.notes)


@pytest.mark.parametrize("dwells", DWELLS)
def test_a_map_of_two_bandwidths_is_that_of_each_contrast_alone(tmp_path, rng, dwells):
    noise = noise_line(rng, n=4000, dwell=4.0)
    contrasts = [contrast_lines(rng, (N1, N0), dwell, 4.0 / dwell, contrast=c) for c, dwell in enumerate(dwells)]
    maps = coil_images((N1, N0))[1]

    def mapped(name, lines):
        scan = read(write(tmp_path / name, [noise, *lines], xml((N1, N0)))).replace(coil_maps=maps)
        return noise_map(Sense(), scan, method="closed_form")

    both = mapped("both.h5", [*contrasts[0], *contrasts[1]])
    for c in (0, 1):
        alone = mapped(f"{c}.h5", contrasts[c])
        torch.testing.assert_close(both.std[c], alone.std, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(both.g_factor[c], alone.g_factor, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert float((both.std[0] / both.std[1]).nanmedian()) == pytest.approx((dwells[1] / dwells[0]) ** 0.5, rel=1e-4)


def test_lines_of_one_place_with_two_dwell_times_are_weighted_by_them(tmp_path, rng):
    """Twice as long, half the variance: the mean of the least variance is (a + 2 b) / 3."""
    a, b = unit_noise(rng, 2, COILS, N1, N0)
    lines = [
        line(k[:, y], y, dwell=dwell, average=i) for i, (k, dwell) in enumerate([(a, 3.0), (b, 6.0)]) for y in range(N1)
    ]
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml((N1, N0))))
    assert close(acq.kspace, (a + 2 * b) / 3)
    assert acq.averages.unique().tolist() == [3]


def test_seconds_of_two_bandwidths(tmp_path, rng):
    lines = [acq for c, dwell in enumerate((5e-6, 1e-5)) for acq in contrast_lines(rng, (N1, N0), dwell, 1, contrast=c)]
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml((N1, N0))))
    assert acq.averages[:, 0, 0].tolist() == pytest.approx([1, 2])
    assert sum("taken as seconds" in note for note in acq.notes) == 2


def test_a_dwell_time_that_a_part_of_the_lines_lacks(tmp_path, rng):
    lines = [acq for c, dwell in enumerate((0.0, 5.0)) for acq in contrast_lines(rng, (N1, N0), dwell, 1, contrast=c)]
    with pytest.raises(InputError, match=f"dwell time of a part.*{N1} of {2 * N1} lines without.*5 µs"):
        read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml((N1, N0))))
