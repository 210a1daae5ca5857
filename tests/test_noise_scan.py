"""Noise scans as scanners and converters write them: what holds noise, and what is said of the rest."""

import ismrmrd
import numpy as np
import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.fourier import to_kspace
from mrnoise.io.scans.noise_lines import clean_samples, no_noise
from mrnoise.io.scans.noise_scan import plausible_dwell
from mrnoise.io.scans.scan_file import read
from test_read_mrd import COILS, header, labels, line, unit_noise, write

NOISE = ismrmrd.ACQ_IS_NOISE_MEASUREMENT
NY, NX = 40, 48
XML = header((1, NY, NX), recon_x=(NX, 240))
SAMPLES = 500  # of each of four lines: 1.3 % error of the mean variance of three coils


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def noise_lines(rng, *, count=4, n=SAMPLES, coils=COILS, scale=1.0, **options):
    return [line(scale * unit_noise(rng, coils, n), flags=(NOISE,), **options) for _ in range(count)]


def disc(scale):
    y, x = np.meshgrid(np.linspace(-1, 1, NY), np.linspace(-1, 1, NX), indexing="ij")
    return scale * (y**2 + x**2 < 0.4) * (1 + 0.3 * np.cos(7 * x)) * np.ones((COILS, 1, 1))


def image_lines(rng, *, signal=20.0, rows=range(NY), **options):
    k = to_kspace(torch.from_numpy(disc(signal).astype(np.complex64))).numpy() + unit_noise(rng, COILS, NY, NX)
    return [line(k[:, y], y, **options) for y in rows]


def scan(tmp_path, lines, xml=XML, name="a.h5", **options):
    return read(write(tmp_path / name, lines, xml), **options)


def variance(acq):
    return acq.noise_covariance.mean_variance


def said(acq, *words):
    return [note for note in acq.notes if all(word in note for word in words)]


def test_a_clean_noise_scan_needs_no_words(tmp_path, rng):
    acq = scan(tmp_path, noise_lines(rng) + image_lines(rng))
    assert acq.notes == ()
    assert acq.noise_covariance.n_samples == 4 * SAMPLES
    assert variance(acq) == pytest.approx(1, rel=0.07)


@pytest.mark.parametrize("end", ["discard_pre", "discard_post"])
def test_discarded_samples_of_noise_lines_are_left_out(tmp_path, rng, end):
    lines = noise_lines(rng)
    for acq in lines:
        acq.data[:, :70] = 1000
        if end == "discard_post":
            acq.data[:] = acq.data[:, ::-1].copy()
        setattr(acq, end, 70)
    acq = scan(tmp_path, lines + image_lines(rng))
    assert acq.noise_covariance.n_samples == 4 * (SAMPLES - 70)
    assert variance(acq) == pytest.approx(1, rel=0.07)
    assert acq.notes == ()


def test_zero_samples_are_left_out_and_counted(tmp_path, rng):
    lines = noise_lines(rng)
    for acq in lines[:3]:
        acq.data[:, 300:] = 0
    acq = scan(tmp_path, lines + image_lines(rng))
    assert said(acq, "600 of 2000 samples", "zero in every coil")
    assert variance(acq) == pytest.approx(1, rel=0.07)  # with the zeros 0.7


def test_spikes_and_disturbed_lines_are_left_out_and_counted(tmp_path, rng):
    lines = noise_lines(rng)
    lines[0].data[:, 5] += 300
    lines[2].data[1, 77] += 8
    lines[3].data[:] *= 30
    acq = scan(tmp_path, lines + image_lines(rng))
    assert said(acq, "502 of 2000 samples", "spikes")
    assert variance(acq) == pytest.approx(1, rel=0.07)


@pytest.mark.parametrize(
    ("gain", "count", "words"), [(1.5, 3, "7 noise lines have 2."), (8, 3, "7 noise lines have 6")]
)
def test_noise_scans_of_two_gains_are_in_doubt(tmp_path, rng, gain, count, words):
    """Two measurements in one file: half of the samples were called spikes, or all were averaged without a word."""
    lines = noise_lines(rng, count=7 - count) + noise_lines(rng, count=count, scale=gain)
    acq = scan(tmp_path, lines + image_lines(rng))
    assert said(acq, "in doubt: 3 of", words, "--noise")
    assert bool(said(acq, "samples are spikes", "3 of 7 lines as a whole")) == (gain == 8)


def test_noise_of_one_gain_is_not_in_doubt(rng):
    for n, coils in ((20, 1), (40, 4), (200, 16)):
        for _ in range(40):
            lines = [torch.from_numpy(unit_noise(rng, coils, n)) for _ in range(12)]
            assert clean_samples(lines, "noise")[1] == () or "in doubt" not in str(clean_samples(lines, "noise")[1])


@pytest.mark.parametrize(("coils", "lines", "n"), [(1, 1, 300), (5, 4, 90)])
def test_clean_noise_loses_a_spike_once_in_a_thousand_scans(coils, lines, n):
    """Correlated coils too; 1000 scans have 1 ± 1 such losses, and 8 once in 10⁶ tries."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(coils, coils, dtype=torch.complex64, generator=generator)
    lost = 0
    for _ in range(1000):
        noise = torch.randn(lines, coils, n, dtype=torch.complex64, generator=generator)
        samples, _ = clean_samples(list(mixing @ noise), "scan")
        lost += samples.shape[1] < lines * n
    assert lost < 8


def test_clean_noise_is_never_taken_for_k_space():
    generator = torch.Generator().manual_seed(2)
    for n in (20, 64, 300):
        for _ in range(500):
            assert no_noise(list(torch.randn(3, 2, n, dtype=torch.complex64, generator=generator))) == ""


# -- dwell times ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "image", "factor", "words"),
    [
        (5.0, 5.0, 1, None),
        (10.0, 5.0, 2, None),
        (10e-6, 5.0, 2, ("noise scan", "taken as seconds: 10 µs")),
        (10.0, 5e-6, 2, ("image", "taken as seconds: 5 µs")),
        (0.0, 5.0, 1, ("noise scan is unknown", "not scaled")),
        (10.0, 0.0, 1, ("image is unknown", "not scaled")),
        (0.0, 0.0, 1, ("noise scan and the image is unknown", "not scaled")),
        (1e6, 5.0, 1, ("noise scan, 1e+06 µs, is none of a receiver",)),
    ],
)
def test_dwell_times_of_all_kinds(tmp_path, rng, noise, image, factor, words):
    lines = noise_lines(rng, scale=factor**-0.5, dwell=noise) + image_lines(rng, dwell=image)
    acq = scan(tmp_path, lines)
    assert variance(acq) == pytest.approx(1, rel=0.07)
    assert said(acq, *words) if words else acq.notes == ()


def test_seconds_and_microseconds_do_not_meet():
    for dwell in (0.05, 1.0, 1000.0):
        assert plausible_dwell(dwell, "x") == (dwell, ())
        assert plausible_dwell(dwell / 1e6, "x")[0] == pytest.approx(dwell)
    for dwell in (-5.0, 2000.0, 0.01, 1e-9):
        assert plausible_dwell(dwell, "x")[0] == 0.0


def test_arrays_know_no_dwell_time_and_are_silent(tmp_path, rng):
    k = to_kspace(torch.from_numpy(disc(20.0).astype(np.complex64))).numpy() + unit_noise(rng, COILS, NY, NX)
    np.savez(tmp_path / "a.npz", kspace=k, noise=unit_noise(rng, COILS, 2000))
    assert read(tmp_path / "a.npz").notes == ()


# -- which lines ---------------------------------------------------------------------------------------------


def test_noise_lines_of_the_body_coil_are_left_out(tmp_path, rng):
    lines = noise_lines(rng, coils=2, count=3, scale=9, dwell=2.5) + noise_lines(rng) + image_lines(rng)
    acq = scan(tmp_path, lines)
    assert said(acq, "1500 noise samples of 2 coils", "left out")
    assert variance(acq) == pytest.approx(1, rel=0.07)


def test_of_two_prescans_the_one_with_the_dwell_time_of_the_image_is_used(tmp_path, rng):
    lines = noise_lines(rng, dwell=20.0, scale=5, count=9) + noise_lines(rng, dwell=5.0) + image_lines(rng, dwell=5.0)
    acq = scan(tmp_path, lines)
    assert said(acq, "4500 noise samples", "dwell time 20 µs", "left out")
    assert variance(acq) == pytest.approx(1, rel=0.07)


def test_unflagged_lines_of_a_noise_file_are_noise(tmp_path, rng):
    """Volumes without excitation, as NORDIC wants them."""
    noise = write(tmp_path / "n.h5", [acq for r in range(3) for acq in image_lines(rng, signal=0, repetition=r)], XML)
    acq = scan(tmp_path, image_lines(rng), noise=noise)
    assert said(acq, "no line of n.h5 is flagged as noise", f"{3 * NY} lines")
    assert acq.noise_covariance.n_samples == 3 * NY * NX
    assert variance(acq) == pytest.approx(1, rel=0.05)


def test_a_scan_given_as_its_noise_is_refused(tmp_path, rng):
    noise = write(tmp_path / "n.h5", image_lines(rng), XML)
    with pytest.raises(InputError, match="holds no noise.*fall off from their centre"):
        scan(tmp_path, image_lines(rng), noise=noise)


def test_names_of_coils_choose_from_noise_lines_with_more(tmp_path, rng):
    lines = noise_lines(rng, coils=4)
    for acq in lines:
        acq.data[:] *= np.array([[9], [1], [1], [1]])
    noise = write(tmp_path / "n.h5", lines, header(system=labels("A", "B", "C", "D")))
    xml = header((1, NY, NX), recon_x=(NX, 240), system=labels("B", "C", "D"))
    assert variance(scan(tmp_path, image_lines(rng), xml, noise=noise)) == pytest.approx(1, rel=0.07)


# -- invented noise ------------------------------------------------------------------------------------------


def made_up(kind, rng, image):
    if kind == "copied":
        return [line(acq.data, flags=(NOISE,)) for acq in image[:: NY // 3]]
    if kind == "zero":
        return [line(0 * acq.data, flags=(NOISE,)) for acq in image]
    scaled = [line(2 * acq.data, flags=(NOISE,)) for acq in image]
    return scaled if kind == "k-space" else [*scaled, *noise_lines(rng, n=NX)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("copied", "bit for bit"), ("zero", "all samples are zero"), ("k-space", "fall off"), ("mixed", "fall off")],
)
def test_lines_that_are_no_noise_are_not_used(tmp_path, rng, kind, words):
    image = image_lines(rng)
    acq = scan(tmp_path, made_up(kind, rng, image) + image)
    assert said(acq, "was not used", words)
    assert "estimated" in acq.noise_covariance.source
    assert variance(acq) == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize(("kind", "words"), [("copied", "bit for bit"), ("zero", "zero"), ("k-space", "fall off")])
@pytest.mark.parametrize("dims", [2, 3])
def test_arrays_that_are_no_noise_are_not_used(tmp_path, rng, kind, words, dims):
    image = disc(30.0) if dims == 2 else disc(30.0)[:, None] * np.array([0, 0, 1, 1.2, 0.7, 0])[:, None, None]
    k = to_kspace(torch.from_numpy(image.astype(np.complex64)), dims).numpy() + unit_noise(rng, *image.shape)
    noise = {"copied": k[..., :7, :], "zero": np.zeros((COILS, 300), np.complex64), "k-space": 1.5 * k}[kind]
    np.savez(tmp_path / "a.npz", kspace=k, noise=noise, spatial_dims=dims)
    acq = read(tmp_path / "a.npz")
    assert said(acq, "was not used", words)
    assert "estimated" in acq.noise_covariance.source
