"""Lines of an MRD file that differ: dwell times, numbers of channels, several leading axes."""

import ismrmrd
import numpy as np
import pytest
import torch

from mrnoise.acquisition import Acquisition
from mrnoise.cli.scan import place_of
from mrnoise.errors import InputError
from mrnoise.fourier import to_kspace
from mrnoise.io import read_noise_map
from mrnoise.io.scans.scan_file import read
from mrnoise.mapping.run import noise_map
from mrnoise.reconstruction import Sense
from test_cli import run
from test_mrd_dialects import DOWN, DWELL, FLAT, NY, TAKEN, UP, N, epi, ramp_lines, timing
from test_read_mrd import COILS, close, header, line, noise_line, unit_noise, write

SLICE, VOLUME = (32, 36), (8, 20, 24)
N1, N0 = SLICE
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
@pytest.mark.parametrize("shape", [SLICE, VOLUME])
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
    contrasts = [contrast_lines(rng, SLICE, dwell, 4.0 / dwell, contrast=c) for c, dwell in enumerate(dwells)]
    maps = coil_images(SLICE)[1]

    def mapped(name, lines):
        scan = read(write(tmp_path / name, [noise, *lines], xml(SLICE))).replace(coil_maps=maps)
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
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml(SLICE)))
    assert close(acq.kspace, (a + 2 * b) / 3)
    assert acq.averages.unique().tolist() == [3]


def test_seconds_of_two_bandwidths(tmp_path, rng):
    lines = [acq for c, dwell in enumerate((5e-6, 1e-5)) for acq in contrast_lines(rng, SLICE, dwell, 1, contrast=c)]
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml(SLICE)))
    assert acq.averages[:, 0, 0].tolist() == pytest.approx([1, 2])
    assert sum("taken as seconds" in note for note in acq.notes) == 2


def test_a_dwell_time_that_a_part_of_the_lines_lacks(tmp_path, rng):
    lines = [acq for c, dwell in enumerate((0.0, 5.0)) for acq in contrast_lines(rng, SLICE, dwell, 1, contrast=c)]
    with pytest.raises(InputError, match=f"dwell time of a part.*{N1} of {2 * N1} lines without.*5 µs"):
        read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml(SLICE)))


# -- numbers of channels -------------------------------------------------------------------------------------

FOREIGN = 2


def foreign_lines(rng, count, *flags, n=N0, **options):
    """Lines of the body coil, with two channels."""
    return [line(9 * unit_noise(rng, FOREIGN, n), y, flags=flags, **options) for y in range(count)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("shape", [SLICE, VOLUME])
def test_image_lines_with_another_number_of_channels_are_counted(tmp_path, rng, first, shape):
    image, others = contrast_lines(rng, shape, 5.0, 1.0), foreign_lines(rng, 12, n=shape[-1])
    lines = [*others, *image] if first else [*image, *others]
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml(shape)))
    assert close(acq.kspace, read(write(tmp_path / "b.h5", [noise_line(rng), *image], xml(shape))).kspace)
    assert [note for note in acq.notes if "left out" in note] == [
        f"12 lines with another number of channels than {COILS} were left out."
    ]


def test_the_header_says_which_channels_are_those_of_the_image(tmp_path, rng):
    """More lines of the body coil than of the image."""
    system = f"<receiverChannels>{COILS}</receiverChannels>"
    told = xml(SLICE).replace(
        "<experimental", f"<acquisitionSystemInformation>{system}</acquisitionSystemInformation><experimental", 1
    )
    lines = [*foreign_lines(rng, N1), *foreign_lines(rng, N1), *contrast_lines(rng, SLICE, 5.0, 1.0)]
    for header_text, n_coils, left_out in [(told, COILS, 2 * N1), (xml(SLICE), FOREIGN, N1)]:
        acq = read(write(tmp_path / f"{n_coils}.h5", lines, header_text))
        assert acq.n_coils == n_coils
        assert f"{left_out} lines with another number of channels than {n_coils} were left out." in acq.notes


def test_calibration_lines_with_another_number_of_channels_are_counted(tmp_path, rng):
    only = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
    image = contrast_lines(rng, SLICE, 5.0, 1.0)
    fitting = [line(unit_noise(rng, COILS, N0), y, flags=[only]) for y in range(12, 20)]
    lines = [noise_line(rng), *foreign_lines(rng, 9, only), *fitting, *image]
    acq = read(write(tmp_path / "a.h5", lines, xml(SLICE)))
    assert [note for note in acq.notes if "left out" in note] == [
        f"9 calibration lines with another number of channels than {COILS} were left out."
    ]
    assert int((acq.calibration[0] != 0).any(1).sum()) == 8


def test_noise_of_other_channels_alone_is_left_out_and_counted(tmp_path, rng):
    """The adjustment of the body coil: Ψ of the array is estimated."""
    noise = foreign_lines(rng, 3, ismrmrd.ACQ_IS_NOISE_MEASUREMENT, n=200)
    image = contrast_lines(rng, SLICE, 5.0, 1.0)
    acq = read(write(tmp_path / "a.h5", [*noise, *image], xml(SLICE)))
    assert "600 noise samples of 2 coils and dwell time 5 µs were left out" in acq.notes
    assert acq.noise_covariance.source.startswith("estimated")
    assert acq.noise_covariance.mean_variance == pytest.approx(1, rel=0.1)
    with pytest.raises(InputError, match="coil count of the noise scan.*3 coils.*2 in"):
        read(write(tmp_path / "b.h5", image, xml(SLICE)), noise=write(tmp_path / "n.h5", noise, xml(SLICE)))


def test_an_estimate_is_not_regridded_for_noise_lines_that_were_left_out(tmp_path, rng):
    """Ψ of k-space has what regridding did to its noise; that of noise lines does not."""
    images = np.zeros((COILS, NY, N), np.complex64)
    lines = ramp_lines(images, (UP + FLAT + DOWN - TAKEN * DWELL) / 2, rng, 1.0)
    noise = foreign_lines(rng, 2, ismrmrd.ACQ_IS_NOISE_MEASUREMENT, n=500, dwell=DWELL)
    described = epi(N, timing(rampUpTime=UP, rampDownTime=DOWN, flatTopTime=FLAT))
    with_noise, without = (
        read(write(tmp_path / f"{len(extra)}.h5", [*extra, *lines], described)).noise_covariance
        for extra in (noise, [])
    )
    torch.testing.assert_close(with_noise.matrix, without.matrix)


def test_an_array_of_noise_with_another_number_of_coils_is_refused(tmp_path, rng):
    """Its axes may be in another order."""
    np.savez(tmp_path / "a.npz", kspace=unit_noise(rng, COILS, N1, N0), noise=unit_noise(rng, FOREIGN, 500))
    with pytest.raises(InputError, match="coil count of the noise scan"):
        read(tmp_path / "a.npz")


# -- several leading axes ------------------------------------------------------------------------------------

STACK = {"repetition": 2, "contrast": 3, "slice": 4}


def stack_file(folder, rng, shape, counters):
    """One image at each place of the stack, of another intensity."""
    image = to_kspace(torch.from_numpy(coil_images(shape)[0]), len(shape)).numpy()
    lines = [noise_line(rng)]
    for number, place in enumerate(np.ndindex(*counters.values())):
        values = (1 + number) * image + unit_noise(rng, *image.shape)
        where = dict(zip(counters, place, strict=True))
        lines += [
            line(
                values[:, *k],
                k[-1],
                k[0] if len(k) > 1 else 0,
                position=(0, 0, 5 * where["slice"]),
                directions=np.eye(3),
                **where,
            )
            for k in np.ndindex(*shape[:-1])
        ]
    return write(folder / "stack.h5", lines, xml(shape))


@pytest.mark.parametrize("shape", [(6, 8), (4, 5, 6)])
def test_each_image_of_a_stack_has_a_number_and_names(tmp_path, rng, shape):
    acq = read(stack_file(tmp_path, rng, shape, STACK))
    assert acq.axes == ("frame", "echo", "slice") and acq.batch_shape == (2, 3, 4)
    for number, (place, image) in enumerate(zip(np.ndindex(2, 3, 4), acq.slices(), strict=True)):
        named = ",".join(f"{axis}={i}" for axis, i in zip(acq.axes, place, strict=True))
        assert place_of(str(number), acq) == place_of(named, acq)
        torch.testing.assert_close(acq.at(**place_of(named, acq)).kspace, image.kspace)
    assert acq.at(**place_of(" slice = 2 ", acq)).axes == ("frame", "echo")
    torch.testing.assert_close(acq.at(**place_of("slice=2,frame=1", acq)).kspace, acq.kspace[1, :, 2])


@pytest.mark.parametrize(
    "text",
    ["24", "-1", "x", "", "slice", "slice=", "slice=4", "echo=-1", "coil=0", "slice=1,slice=1", "1,2", "9" * 5000],
)
def test_parts_that_a_stack_does_not_have(text):
    acq = Acquisition(
        torch.ones(2, 3, 4, COILS, 4, 6, dtype=torch.complex64), torch.eye(COILS), axes=("frame", "echo", "slice")
    )
    with pytest.raises(InputError, match="no such slice: expected 0 to 23, or frame=0 to frame=1, echo=0 to echo=2"):
        place_of(text, acq)


def test_a_map_of_a_part_of_a_stack(tmp_path, rng):
    """A number is one image, and which it is is said; a name leaves the other axes."""
    path = stack_file(tmp_path, rng, (12, 14), {"contrast": 2, "slice": 3})

    def mapped(*options):
        text = run("map", path, "-r", "rss", "-m", "monte_carlo", "-n", 8, "-o", tmp_path / "m.h5", *options)
        return text, read_noise_map(tmp_path / "m.h5")

    _, whole = mapped()
    assert whole.image.shape == (2, 3, 12, 14)
    text, one = mapped("--slice", 4)
    assert "image 4 of the stack is echo 1, slice 1" in " ".join(text.split())
    torch.testing.assert_close(one.image, whole.image[1, 1])
    assert float(one.geometry.affine[2, 3] - whole.geometry.affine[2, 3]) == pytest.approx(
        5
    )  # slice 1 lies 5 mm above slice 0
    _, named = mapped("--slice", "slice=1")
    torch.testing.assert_close(named.image, whole.image[:, 1])
    _, both = mapped("--slice", "echo=1,slice=1")
    torch.testing.assert_close(both.image, one.image)
    assert "no such slice" in run("map", path, "--slice", "frame=0", code=2)
