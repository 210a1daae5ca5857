"""Siemens raw data written by `twix_writer`, which three readers of others find to be what it should be."""

import contextlib
import io
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.fourier import to_image
from mrnoise.io.scans.scan_file import read
from test_read_mrd import close, oversampled, unit_noise
from test_read_mrd import line as mrd_line
from test_read_mrd import write as write_mrd
from twix_writer import line, protocol, sync, write

pytest.importorskip("turbotwix")

COILS, NY, NX, OVERSAMPLED = 3, 10, 12, 24
MIXING = np.array([[1, 0, 0], [0.3j, 2, 0], [0.1, 0.5, 3]])
NAMES = {"VB": "syngo MR B17", "VD": "syngo MR E11"}
ELEMENTS = [("Head", "H3", 3), ("Head", "H1", 1), ("Head", "H2", 2)]  # with the number of the channel


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture(params=["VB", "VD"])
def version(request):
    return request.param


def text(version, **options):
    return protocol((1, NY, NX), version=NAMES[version], **options)


def noise_lines(rng, count=4, n=256, mixing=MIXING):
    return [line(mixing @ unit_noise(rng, COILS, n), ["NOISEADJSCAN"]) for _ in range(count)]


def image_lines(k, flags=(), **counters):
    """Lines of k (coil, y, x)."""
    return [line(k[:, y], flags, centre=(k.shape[2] // 2, NY // 2, 0), Lin=y, **counters) for y in range(k.shape[1])]


def covariance(lines):
    """(1/N) N Nᴴ of all samples of lines."""
    samples = np.concatenate([data for _, data, _ in lines], 1)
    return samples @ samples.conj().T / samples.shape[1]


# Lines that are no image, and those of them that other readers know as such.
KNOWN = ["PHASCOR", "RTFEEDBACK", "HPFEEDBACK", "REFPHASESTABSCAN"]
OTHERS = [*KNOWN, "RETRO_DUMMYSCAN", "FIDNAV"]


def scan(rng, version, others=OTHERS):
    """Two slices, noise lines within, physiological signals between, and what is no image."""
    k = oversampled(unit_noise(rng, 2, COILS, NY, NX))
    noise = noise_lines(rng)
    wrong = 1e6 * np.ones((COILS, OVERSAMPLED))
    lines = [*noise, sync(), *(line(wrong, [flag], Lin=3) for flag in others)]
    for s in (1, 0):
        lines += [sync(), *image_lines(k[s], Sli=s)]
    return k, noise, (text(version, coils=ELEMENTS), lines)


# -- the writer ----------------------------------------------------------------------------------------------


def test_twixtools_finds_what_was_written(tmp_path, rng, version):
    twixtools = pytest.importorskip("twixtools")
    k, noise, content = scan(rng, version, KNOWN)
    found = twixtools.read_twix(str(write(tmp_path / "a.dat", content, version=version)), verbose=False)[-1]
    blocks = found["mdb"]
    image = [block for block in blocks if block.is_image_scan()]
    assert [(block.cSlc, block.cLin) for block in image] == [(s, y) for s in (1, 0) for y in range(NY)]
    assert np.array_equal([block.data for block in image], [k[s][:, y] for s in (1, 0) for y in range(NY)])
    assert all(block.mdh.CenterCol == OVERSAMPLED // 2 and block.mdh.CenterLin == NY // 2 for block in image)
    adjust = [block.data for block in blocks if block.is_flag_set("NOISEADJSCAN")]
    assert np.array_equal(adjust, [data for _, data, _ in noise])
    assert [block.is_flag_set("PHASCOR") for block in blocks].count(True) == 1
    assert found["hdr"]["MeasYaps"]["sKSpace"]["lBaseResolution"] == NX
    assert found["hdr"]["MeasYaps"]["sSliceArray"]["asSlice"][0]["dPhaseFOV"] == 100
    assert found["hdr"]["Meas"]["flReadoutOSFactor"] == 2


def test_pymapvbvd_finds_what_was_written(tmp_path, rng, version):
    mapvbvd = pytest.importorskip("mapvbvd")
    k, noise, content = scan(rng, version, KNOWN)
    path = write(tmp_path / "a.dat", content, version=version)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = mapvbvd.mapVBVD(str(path), quiet=True)
        found.image.flagRemoveOS = found.noise.flagRemoveOS = False
        image, adjust = found.image.unsorted(), found.noise.unsorted()
    assert image.shape == (OVERSAMPLED, COILS, 2 * NY)
    assert np.array_equal(image, np.concatenate([k[1], k[0]], 1).transpose(2, 0, 1))
    assert np.array_equal(adjust, np.stack([data for _, data, _ in noise], 2).swapaxes(0, 1))
    assert found.image.Lin.tolist() == 2 * list(range(NY)) and found.image.Sli.tolist() == NY * [1] + NY * [0]
    assert float(found.hdr.MeasYaps[("sKSpace", "lBaseResolution")]) == NX


def test_turbotwix_finds_what_was_written(tmp_path, rng, version):
    import turbotwix

    k, noise, content = scan(rng, version, KNOWN)
    with turbotwix.open_twix(str(write(tmp_path / "a.dat", content, version=version))) as found:
        image = found.read(found.lines.image)
        assert np.array_equal(image, np.concatenate([k[1], k[0]], 1))
        assert np.array_equal(found.read(found.lines.noise), np.stack([data for _, data, _ in noise], 1))


# -- image ---------------------------------------------------------------------------------------------------


def test_lines_become_slices_without_oversampling(tmp_path, rng, version):
    images = unit_noise(rng, 2, COILS, NY, NX)
    k = oversampled(images)
    lines = [sync(), *(one for s in (1, 0) for one in (*image_lines(k[s], Sli=s), sync()))]
    acq = read(write(tmp_path / "a.dat", (text(version), [*noise_lines(rng), *lines]), version=version))
    assert close(to_image(acq.kspace), images)
    assert acq.axes == ("slice",) and acq.source == "a.dat (twix)" and bool(acq.mask.all())


def test_what_is_no_image_is_left_out_with_a_count(tmp_path, rng, version):
    k, _, content = scan(rng, version)
    acq = read(write(tmp_path / "a.dat", content, version=version))
    assert float(acq.kspace.abs().max()) < 100
    (words,) = [note for note in acq.notes if "no part of the image" in note]
    for kind in (
        "navigation",
        "phase correction",
        "high-priority feedback",
        "dummy scans",
        "real-time feedback",
        "phase stabilisation reference",
    ):
        assert f"1 of {kind}" in words


def test_counters_are_axes_and_averages_are_averaged(tmp_path, rng, version):
    k = unit_noise(rng, 2, 3, 4, COILS, NY, OVERSAMPLED)  # repetition, echo, average
    lines = [
        one
        for r, e, a in np.ndindex(2, 3, 4)
        for one in image_lines(k[r, e, a], Rep=r, Eco=e, Ave=a, Seg=a % 2, Ida=r, Ide=9)
    ]
    more = {"sSliceArray.asSlice[0].dReadoutFOV": 240.0, "sKSpace.lBaseResolution": OVERSAMPLED}
    content = text(version, oversampling=1, more=more), [*noise_lines(rng), *lines]
    acq = read(write(tmp_path / "a.dat", content, version=version))
    assert acq.axes == ("frame", "echo")
    assert close(acq.kspace, k.mean(2))
    assert bool((acq.averages == 4).all())


def plain(version, **options):
    """Without oversampling: the samples of the file are those of k-space."""
    more = {"sKSpace.lBaseResolution": OVERSAMPLED, **options.pop("more", {})}
    return text(version, oversampling=1, more=more, **options)


def test_reflected_lines_are_turned_round(tmp_path, rng, version):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    lines = []
    for y in range(NY):
        odd = y % 2 == 1
        flags, column = (["REFLECT"], OVERSAMPLED // 2 - 1) if odd else ([], OVERSAMPLED // 2)
        lines.append(line(k[:, y, :: -1 if odd else 1], flags, centre=(column, NY // 2, 0), Lin=y))
    acq = read(write(tmp_path / "a.dat", (plain(version), [*noise_lines(rng), *lines]), version=version))
    assert close(acq.kspace, k)


def test_asymmetric_echo_cutoff_and_partial_fourier(tmp_path, rng, version):
    """The centre of k-space lands at n // 2 though neither axis is complete."""
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    skipped_x, skipped_y, junk = 5, 3, 2
    lines = []
    for y in range(skipped_y, NY):
        data = np.concatenate([1e6 * np.ones((COILS, junk)), k[:, y, skipped_x:], 1e6 * np.ones((COILS, 1))], 1)
        centre = OVERSAMPLED // 2 - skipped_x + junk, NY // 2 - skipped_y, 0
        lines.append(line(data, centre=centre, cutoff=(junk, 1), Lin=y - skipped_y))
    content = plain(version, xprotocol={"iNoOfFourierLines": NY - skipped_y}), [*noise_lines(rng), *lines]
    acq = read(write(tmp_path / "a.dat", content, version=version))
    wanted = np.zeros((NY, OVERSAMPLED), bool)
    wanted[skipped_y:, skipped_x:] = True
    assert torch.equal(acq.mask, torch.from_numpy(wanted))
    assert close(acq.kspace, k * wanted)
    assert acq.acceleration == 1


@pytest.mark.parametrize("mode", ["embedded", "separate"])
def test_reference_lines_calibrate(tmp_path, rng, version, mode):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    reference, lines = range(3, 8), []
    for y in range(NY):
        acquired = y % 2 == 0
        if acquired and y in reference and mode == "embedded":
            lines.append(line(k[:, y], ["PATREFANDIMASCAN"], centre=(OVERSAMPLED // 2, NY // 2, 0), Lin=y))
            continue
        if acquired:
            lines.append(line(k[:, y], centre=(OVERSAMPLED // 2, NY // 2, 0), Lin=y))
        if y in reference:
            other = k[:, y] if mode == "embedded" else 2 * k[:, y]
            lines.append(line(other, ["PATREFSCAN"], centre=(OVERSAMPLED // 2, NY // 2, 0), Lin=y))
    value = {"embedded": "0x2", "separate": "0x4"}[mode]
    content = plain(version, more={"sPat.ucRefScanMode": value}), [*noise_lines(rng), *lines]
    acq = read(write(tmp_path / "a.dat", content, version=version))
    rows, calibrating = np.zeros((NY, 1)), np.zeros((NY, 1))
    rows[::2], calibrating[list(reference)] = 1, 1
    if mode == "embedded":
        rows = np.maximum(rows, calibrating)
        assert "3 calibration lines are part of the image: the header says embedded." in acq.notes
        assert acq.calibration is None
    else:
        assert close(acq.calibration, 2 * k * calibrating)
    assert close(acq.kspace, k * rows)


def test_a_volume_with_slice_partial_fourier(tmp_path, rng, version):
    nz, skipped = 6, 2
    k = unit_noise(rng, COILS, nz, NY, OVERSAMPLED)
    lines = [
        line(k[:, z, y], centre=(OVERSAMPLED // 2, NY // 2, nz // 2 - skipped), Lin=y, Par=z - skipped)
        for z in range(skipped, nz)
        for y in range(NY)
    ]
    buffers = protocol(
        (nz, NY, OVERSAMPLED),
        fov=(15, 100, 240),
        oversampling=1,
        version=NAMES[version],
        more={"sKSpace.dSliceOversamplingForDialog": 0.2},
        xprotocol={"iNoOfFourierPartitions": nz - skipped},
    )
    acq = read(write(tmp_path / "a.dat", (buffers, [*noise_lines(rng), *lines]), version=version))
    wanted = np.zeros((nz, NY, OVERSAMPLED), bool)
    wanted[skipped:] = True
    assert acq.spatial_dims == 3 and torch.equal(acq.mask, torch.from_numpy(wanted))
    assert close(acq.kspace, k * wanted)
    assert acq.geometry.voxel_size == pytest.approx((3, 10, 10))


def test_geometry_is_that_of_the_quaternion(tmp_path, rng, version):
    """Against twixtools, which has its own: columns phase, readout and slice, the first two turned round by it."""
    geometry = pytest.importorskip("twixtools.geometry")
    quaternion = np.array([0.3, -0.4, 0.5, 0.7]) / np.sqrt(0.99)
    phase, readout, normal = geometry.quat_to_rotmat(*quaternion).T
    where = [np.array([12.0, -7.0, 40.0]) + 6.5 * s * normal for s in range(3)]
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    lines = [
        line(k[:, y], centre=(12, 5, 0), Lin=y, Sli=s, position=where[s], quaternion=quaternion)
        for s in range(3)
        for y in range(NY)
    ]
    acq = read(write(tmp_path / "a.dat", (text(version), [*noise_lines(rng), *lines]), version=version))
    assert acq.geometry.voxel_size == pytest.approx((6.5, 10, 10))
    for x, y, z in [(0, 0, 0), (11, 0, 2), (6, 5, 1)]:
        lps = where[z] + 10 * (x - 6) * readout + 10 * (y - 5) * phase
        assert acq.geometry.affine @ [x, y, z, 1] == pytest.approx([-lps[0], -lps[1], lps[2], 1], abs=1e-3)


def test_echo_planar_lines_are_read_as_those_of_mrd(tmp_path, rng, version):
    """Ramp-sampled lines, every second reflected, three for phase correction, reference lines of another kind."""
    n = 40
    ramps = {"rampUpTime": 40, "flatTopTime": 120, "rampDownTime": 40, "acqDelayTime": 0}
    k, reference = unit_noise(rng, COILS, NY, n), unit_noise(rng, COILS, 4, OVERSAMPLED)
    noise = noise_lines(rng)
    twix = [*noise, *(line(k[:, 0], ["PHASCOR"], Lin=5) for _ in range(3))]
    old = [mrd_line(noise[0][1], flags=(19,), dwell=30.0)]
    for _, data, _ in noise[1:]:
        old.append(mrd_line(data, flags=(19,), dwell=30.0))
    for y in range(NY):
        odd = y % 2 == 1
        twix.append(line(k[:, y], ["REFLECT"] if odd else [], centre=(n // 2, NY // 2, 0), Lin=y, Seg=y % 2))
        old.append(mrd_line(k[:, y], y, flags=(22,) if odd else (), segment=y % 2))
    for y in range(4):
        twix.append(line(reference[:, y], ["PATREFSCAN"], centre=(12, NY // 2, 0), Lin=y + 3))
        old.append(mrd_line(reference[:, y], y + 3, flags=(20,), space=1))
    if version == "VB":  # without rounding to tenths
        for acq in old[: len(noise)]:
            acq.sample_time_us = 1e6 / 130 / 256
    values = {
        "alRegridMode": [2, 2],
        "alRegridRampupTime": [40, 0],
        "alRegridFlattopTime": [120, 0],
        "alRegridRampdownTime": [40, 0],
        "alRegridDelaySamplesTime": [0, 0],
    }
    content = text(version, more={"sFastImaging.lEPIFactor": NY}, xprotocol=values), twix
    got = read(write(tmp_path / "a.dat", content, version=version))
    space = (
        "<matrixSize><x>{}</x><y>10</y><z>1</z></matrixSize>"
        "<fieldOfView_mm><x>{}</x><y>100</y><z>5</z></fieldOfView_mm>"
    )
    step = "<minimum>0</minimum><maximum>9</maximum><center>5</center>"
    limits = f"<encodingLimits><kspace_encoding_step_1>{step}</kspace_encoding_step_1></encodingLimits>"
    timing = "".join(
        f"<userParameterLong><name>{name}</name><value>{value}</value></userParameterLong>"
        for name, value in ramps.items()
    )
    xml = (
        "<ismrmrdHeader><acquisitionSystemInformation><systemVendor>SIEMENS</systemVendor>"
        "</acquisitionSystemInformation>"
        f"<encoding><encodedSpace>{space.format(NX, 120)}</encodedSpace>"
        f"<reconSpace>{space.format(NX, 120)}</reconSpace>"
        f"{limits}<trajectory>epi</trajectory><trajectoryDescription>{timing}</trajectoryDescription></encoding>"
        f"<encoding><encodedSpace>{space.format(OVERSAMPLED, 240)}</encodedSpace>"
        f"<reconSpace>{space.format(NX, 120)}</reconSpace>{limits}<trajectory>cartesian</trajectory></encoding>"
        "</ismrmrdHeader>"
    )
    wanted = read(write_mrd(tmp_path / "a.h5", old, xml))
    assert close(got.kspace, wanted.kspace) and close(got.calibration, wanted.calibration)
    assert close(got.averages, wanted.averages)
    assert got.noise_covariance.matrix.numpy() == pytest.approx(wanted.noise_covariance.matrix.numpy(), rel=1e-5)
    assert "Lines that are no part of the image were left out: 3 of phase correction." in got.notes


# -- noise ---------------------------------------------------------------------------------------------------


def test_noise_lines_within_a_scan_are_scaled_by_their_bandwidth(tmp_path, rng, version):
    """256 samples of 130 Hz a pixel take 30.05 µs each, rounded to 30.0 in VD; those of the image 5 µs."""
    _, noise, content = scan(rng, version)
    acq = read(write(tmp_path / "a.dat", content, version=version))
    dwell = {"VB": 1e6 / 130 / 256, "VD": 30.0}[version]
    assert acq.noise_covariance.matrix.numpy() == pytest.approx(covariance(noise) * dwell / 5 / 0.793, rel=1e-5)
    assert any("30" in note and "130 Hz a pixel" in note for note in acq.notes)


def test_noise_of_another_measurement_with_its_own_dwell_time_and_coil_order(tmp_path, rng):
    noise = noise_lines(rng)
    adjust = protocol((1, 32, 32), name="AdjCoilSens", dwell_ns=5000, coils=ELEMENTS)
    # Lines of the body coil that make a small image of the scanner's own.
    body = [line(unit_noise(rng, 2, 64), centre=(32, 16, 0), Lin=y) for y in range(32)]
    order = [("Head", "H2", 1), ("Head", "H3", 2), ("Head", "H1", 3)]
    image = image_lines(oversampled(unit_noise(rng, COILS, NY, NX)))
    later = text("VD", dwell_ns=10000, coils=order)
    acq = read(write(tmp_path / "a.dat", (adjust, [*noise, *body]), (later, image)))
    index = [1, 2, 0]  # H2, H3, H1 among H1, H2, H3
    expected = covariance(noise)[np.ix_(index, index)] * 0.5 / 0.793
    assert acq.noise_covariance.matrix.numpy() == pytest.approx(expected, rel=1e-5)
    assert "Of 2 measurements measurement 2 (gre) was read." in acq.notes
    assert "The noise scan is that of measurement 1 (AdjCoilSens)." in acq.notes


def test_channels_are_in_the_order_of_their_numbers(tmp_path, rng, version):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    noise = noise_lines(rng)
    lines = [line(k[[2, 0, 1], y], centre=(12, 5, 0), Lin=y, channels=(2, 0, 1)) for y in range(NY)]
    acq = read(write(tmp_path / "a.dat", (plain(version), [*noise, *lines]), version=version))
    assert close(acq.kspace, k)


def test_dwell_time_of_an_adjustment_that_its_header_lacks_or_contradicts(tmp_path, rng):
    image = image_lines(oversampled(unit_noise(rng, COILS, NY, NX)))
    noise = noise_lines(rng)
    for dwell_ns, used, words in ((0, 4, "in no header, taken as 4 µs"), (8000, 8, "siemens_to_ismrmrd has 4 µs")):
        adjust = protocol((1, 32, 32), name="AdjQuietCoilSens", dwell_ns=dwell_ns)
        acq = read(write(tmp_path / "a.dat", (adjust, noise), (text("VD"), image)))
        expected = covariance(noise) * used / 5 / 0.793
        assert acq.noise_covariance.matrix.numpy() == pytest.approx(expected, rel=1e-5)
        assert any(words in note for note in acq.notes)


def test_the_noise_of_one_file_serves_another(tmp_path, rng, version):
    """Of twix for twix, of twix for MRD, and unflagged lines of a scan without excitation."""
    image = image_lines(oversampled(unit_noise(rng, COILS, NY, NX)))
    noise = noise_lines(rng)
    silent = [line(data, centre=(128, 0, 0), Lin=i) for i, (_, data, _) in enumerate(noise)]
    scan_file = write(tmp_path / "a.dat", (text(version, dwell_ns=10000, coils=ELEMENTS), image), version=version)
    name = text(version, coils=ELEMENTS)
    flagged = write(tmp_path / "n.dat", (name, [*noise, *image]), version=version)
    unflagged = write(tmp_path / "u.dat", (name, silent), version=version)
    dwell = {"VB": 1e6 / 130 / 256, "VD": 30.0}[version]
    for path, used in ((flagged, dwell), (unflagged, 5)):
        psi = read(scan_file, noise=path).noise_covariance
        assert psi.matrix.numpy() == pytest.approx(covariance(noise) * used / 10 / 0.793, rel=1e-5)
    np.savez(tmp_path / "a.npz", kspace=unit_noise(rng, COILS, NY, NX))
    psi = read(tmp_path / "a.npz", noise=flagged).noise_covariance
    assert psi.matrix.numpy() == pytest.approx(covariance(noise), rel=1e-5)


# -- which measurement, errors -------------------------------------------------------------------------------


def test_one_of_several_scans_is_asked_for(tmp_path, rng):
    k = oversampled(unit_noise(rng, 2, COILS, NY, NX))
    adjust = protocol((1, 32, 32), name="AdjCoilSens"), noise_lines(rng)
    scans = [(text("VD", name=name), image_lines(k[i])) for i, name in enumerate(("t1", "t2"))]
    path = write(tmp_path / "a.dat", adjust, *scans)
    with pytest.raises(InputError, match=r"several scans.*2 \(t1\), 3 \(t2\).*--group 3"):
        read(path)
    with pytest.raises(InputError, match=r"no group.*1 \(AdjCoilSens\) or 2 \(t1\) or 3 \(t2\).*received 4"):
        read(path, group="4")
    second = read(path, group="2")
    assert not close(second.kspace, read(path, group="3").kspace)
    assert "The noise scan is that of measurement 1 (AdjCoilSens)." in second.notes
    with pytest.raises(InputError, match="no image lines.*noise="):
        read(path, group="1")


@pytest.mark.parametrize(
    ("more", "xprotocol", "words"),
    [
        ({"sKSpace.ucTrajectory": "0x2"}, {}, "radial"),
        ({"sSliceAcceleration.lMultiBandFactor": 2}, {}, "multiband factor of 2"),
        ({"sFastImaging.lEPIFactor": NY}, {"alRegridMode": [4, 4]}, "readout gradient .* is a sine"),
        ({"sKSpace.lBaseResolution": 0}, {}, "sKSpace.lBaseResolution = 0"),
        ({"sSliceArray.asSlice[0].dPhaseFOV": '"x"'}, {}, "dPhaseFOV = nothing"),
        ({}, {"flReadoutOSFactor": -1.0}, "flReadoutOSFactor = -1"),
        ({"sKSpace.lPhaseEncodingLines": 4}, {"iNoOfFourierLines": 4}, "do not fit the encoded matrix"),
        ({"sSliceArray.asSlice[10000].dThickness": 1.0}, {}, "the protocol"),
    ],
)
def test_what_cannot_be_read_is_one_error(tmp_path, rng, version, more, xprotocol, words):
    lines = [*noise_lines(rng), *image_lines(oversampled(unit_noise(rng, COILS, NY, NX)))]
    path = write(tmp_path / "a.dat", (text(version, more=more, xprotocol=xprotocol), lines), version=version)
    with pytest.raises(InputError, match=words):
        read(path)


def test_later_contrasts_of_another_dwell_time_are_in_doubt(tmp_path, rng, version):
    more = {"lContrasts": 2, "sRXSPEC.alDwellTime[1]": 2500}
    lines = [*noise_lines(rng), *image_lines(oversampled(unit_noise(rng, COILS, NY, NX)))]
    acq = read(write(tmp_path / "a.dat", (text(version, more=more), lines), version=version))
    assert any("5 µs, was taken for all" in note and "2.5 µs" in note for note in acq.notes)


def test_damaged_files_are_one_error(tmp_path, rng, version):
    _, _, content = scan(rng, version)
    whole = write(tmp_path / "whole.dat", content, version=version).read_bytes()
    path, draw = tmp_path / "a.dat", random.Random(2)
    last = len(whole.rstrip(b"\0")) - 200  # within the block that ends the lines
    for end in [*(draw.randrange(1, last) for _ in range(60)), last]:
        path.write_bytes(whole[:end])
        with pytest.raises(InputError):
            read(path)
    start = len(whole) - NY * COILS * OVERSAMPLED * 8
    path.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
    with pytest.raises(InputError, match=r"cannot read a.dat: expected a complete Siemens raw data file"):
        read(path)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 30))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            read(path)


BLOCKED = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "turbotwix" else find(name, *more)
sys.modules["turbotwix"] = None
from mrnoise.cli.main import run
run()
"""


def test_without_the_extra_it_is_named(tmp_path, rng):
    path = write(tmp_path / "a.dat", scan(rng, "VD")[2])
    words = [sys.executable, "-c", BLOCKED, "info", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "pip install 'mrnoise[twix]'" in done.stderr and "Traceback" not in done.stderr
