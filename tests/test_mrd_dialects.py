"""MRD files as converters and people write them: headers, groups, lines, encoding spaces, echo-planar readouts."""

import ismrmrd
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mrnoise.calibration import with_coil_maps
from mrnoise.cli.main import app
from mrnoise.errors import InputError
from mrnoise.fourier import to_image, to_kspace
from mrnoise.io.scans.mrd_groups import load_scan_group
from mrnoise.io.scans.mrd_phase_encoding import phase_encoding
from mrnoise.io.scans.mrd_roles import roles
from mrnoise.io.scans.scan_file import read
from mrnoise.mapping.run import noise_map
from mrnoise.reconstruction import Sense
from test_read_mrd import COILS, NX, NY, OVERSAMPLED, close, header, labels, line, noise_line, oversampled, unit_noise

REVERSE = ismrmrd.ACQ_IS_REVERSE
CALIBRATION = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
UNCUT = (OVERSAMPLED, 240)


def encoded_rows(file, lines, axis):
    found = phase_encoding(file, lines, axis)
    return found.first, found.last


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def limits(step, low, high, centre):
    name = f"kspace_encoding_step_{step}"
    return f"<{name}><minimum>{low}</minimum><maximum>{high}</maximum><center>{centre}</center></{name}>"


def write(path, lines, xml, group="dataset"):
    with ismrmrd.Dataset(str(path), group, create_if_needed=True) as file:
        file.write_xml_header(xml if isinstance(xml, bytes) else xml.encode())
        for acq in lines:
            file.append_acquisition(acq)
    return path


def rows(k, **options):
    """One line for each row of k-space (coil, k1, k0)."""
    return [line(k[:, y], y, **options) for y in range(k.shape[1])]


def peaked(rng, shape, peak, snr=40):
    """K-space (coil, *shape) that is strongest at ``peak``, in noise of variance 1."""
    grid = np.meshgrid(*(np.arange(n) - p for n, p in zip(shape, peak, strict=True)), indexing="ij")
    signal = snr * np.exp(-sum(axis**2 for axis in grid) / 4.0)
    return (signal + unit_noise(rng, COILS, *shape)).astype(np.complex64)


def noted(acq, words):
    return any(words in note for note in acq.notes)


# -- headers -------------------------------------------------------------------------------------------------

PLAIN = header(recon_x=UNCUT)
START, END = PLAIN.index("<reconSpace>"), PLAIN.index("</reconSpace>") + len("</reconSpace>")
BEFORE = "<experimentalConditions>"


def placed(words):
    return PLAIN.replace(BEFORE, words + BEFORE)


SILENT = {
    "another version": placed("<version>3</version>"),
    "no patient position": placed("<measurementInformation><protocolName>a</protocolName></measurementInformation>"),
    "an unknown position": placed(
        "<measurementInformation><patientPosition>H</patientPosition></measurementInformation>"
    ),
    "an unknown element": placed("<newThing>1</newThing>"),
    "the name of an enumeration": PLAIN.replace("cartesian", "trajectoryType.CARTESIAN"),
    "a capital letter": PLAIN.replace("cartesian", "Cartesian"),
    "sizes with a point": header((1, f"{NY}.0", f"{OVERSAMPLED}.0"), recon_x=(f"{OVERSAMPLED}.0", 240)),
    "no frequency": PLAIN.replace("<H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz>", ""),
    "an odd time": placed("<studyInformation><studyDate/><studyTime>12:13:14.5</studyTime></studyInformation>"),
    "a name in another encoding": placed("<subjectInformation><patientName>Mü</patientName></subjectInformation>")
    .replace('<?xml version="1.0"?>', "")
    .encode("latin-1"),
    "no namespace": PLAIN.replace(' xmlns="http://www.ismrm.org/ISMRMRD"', ""),
    "no limits": PLAIN.replace("<encodingLimits></encodingLimits>", ""),
    "an impossible centre of what is not encoded": header(recon_x=UNCUT, limits=limits(2, 0, 0, -4)),
}
SAID = {
    "trajectory other": (PLAIN.replace("cartesian", "other"), "the trajectory other"),
    "no trajectory": (PLAIN.replace("<trajectory>cartesian</trajectory>", ""), "no trajectory"),
    "no reconSpace": (PLAIN[:START] + PLAIN[END:], "no reconSpace"),
    "no depth": (
        PLAIN.replace("<z>5</z></fieldOfView_mm></reconSpace>", "<z>0</z></fieldOfView_mm></reconSpace>"),
        "0 mm",
    ),
    "metres": (header(fov=(0.005, 0.1, 0.24), recon_x=(OVERSAMPLED, 0.24)), "metres"),
    "a centre that is no step": (header(recon_x=UNCUT, limits=limits(1, 0, NY - 1, -4)), "no step of it"),
}


@pytest.mark.parametrize("case", [*SILENT, *SAID])
def test_dialects_of_the_header(tmp_path, rng, case):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    xml, words = (SILENT[case], None) if case in SILENT else SAID[case]
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *rows(k)], xml))
    assert close(acq.kspace, k)
    assert acq.geometry.voxel_size == pytest.approx((5, 10, 10))
    assert not acq.notes if words is None else len(acq.notes) == 1 and words in acq.notes[0]


def test_what_a_header_cannot_do_without(tmp_path, rng):
    lines = [noise_line(rng), *rows(unit_noise(rng, COILS, NY, OVERSAMPLED))]
    for number, (xml, words) in enumerate(
        [
            (header((1, "10.4", OVERSAMPLED)), "which is not whole"),
            (header(fov=(5, 0, 240)), "above zero"),
            (PLAIN.replace(f"<y>{NY}</y>", ""), "above zero"),
            (PLAIN.replace("cartesian", "goldenangle"), "where its samples lie"),
        ]
    ):
        with pytest.raises(InputError, match=words):
            read(write(tmp_path / f"{number}.h5", lines, xml))


def test_multiband_is_refused(tmp_path, rng):
    xml = PLAIN.replace(
        "</encoding>",
        "<parallelImaging><multiband><multiband_factor>{}</multiband_factor></multiband></parallelImaging></encoding>",
    )
    lines = [noise_line(rng), *rows(unit_noise(rng, COILS, NY, OVERSAMPLED))]
    assert read(write(tmp_path / "1.h5", lines, xml.format(1))).batch_shape == ()
    with pytest.raises(InputError, match="multiband factor of 2"):
        read(write(tmp_path / "2.h5", lines, xml.format(2)))


# -- header against lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [2, 3])
def test_one_partition_is_a_slice(tmp_path, rng, partitions):
    """Siemens raw data of 2D Pulseq sequences say z = 2."""
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    xml = header((partitions, NY, OVERSAMPLED), fov=(5 * partitions, 100, 240), recon_x=UNCUT)
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *rows(k)], xml))
    assert acq.spatial_dims == 2 and close(acq.kspace, k)
    assert acq.geometry.voxel_size == pytest.approx((5, 10, 10))
    assert noted(acq, f"encodes {partitions} partitions")


def test_several_partitions_stay_a_volume(tmp_path, rng):
    k = unit_noise(rng, COILS, 2, NY, OVERSAMPLED)
    lines = [noise_line(rng)] + [line(k[:, z, y], y, z) for z in range(2) for y in range(NY)]
    acq = read(write(tmp_path / "a.h5", lines, header((2, NY, OVERSAMPLED), recon_x=UNCUT)))
    assert acq.spatial_dims == 3 and close(acq.kspace, k) and not acq.notes


@pytest.mark.parametrize("axis", [1, 2])
def test_limits_beyond_the_matrix(tmp_path, rng, axis):
    """More rows than the matrix has, with limits that say so: the grid grows, the spacing of rows stays."""
    n = 14
    if axis == 1:
        k = unit_noise(rng, COILS, n, OVERSAMPLED)
        lines, shape = rows(k), (1, NY, OVERSAMPLED)
    else:
        k = unit_noise(rng, COILS, n, NY, OVERSAMPLED)
        lines, shape = [line(k[:, z, y], y, z) for z in range(n) for y in range(NY)], (8, NY, OVERSAMPLED)
    xml = header(shape, fov=(40, 100, 240), recon_x=UNCUT, limits=limits(axis, 0, n - 1, n // 2))
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *lines], xml))
    assert close(acq.kspace, k)
    assert acq.geometry.voxel_size[2 - axis] == pytest.approx(100 / n if axis == 1 else 40 / n)
    assert noted(acq, f"{n} rows along k{axis}")
    with pytest.raises(InputError, match="do not fit"):  # nothing says that they are meant
        read(write(tmp_path / "b.h5", [noise_line(rng), *lines], header(shape, recon_x=UNCUT)))


def test_lines_beyond_the_limits_are_named(tmp_path, rng):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    xml = header(recon_x=UNCUT, limits=limits(1, 1, NY - 3, NY // 2))
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *rows(k)], xml))
    assert close(acq.kspace, k) and noted(acq, "3 lines lie beyond the encoding limits")


@pytest.mark.parametrize(("stated", "user", "centre"), [(16, 10, 10), (16, 0, 16), (16, 25, 16), (10, 16, 10)])
def test_the_centre_that_the_data_confirm(tmp_path, rng, stated, user, centre):
    """Partial Fourier of 25 of 32 rows, the centre of k-space in step 10."""
    n = 32
    k = peaked(rng, (25, OVERSAMPLED), (10, OVERSAMPLED // 2))
    lines = rows(k)
    for acq in lines:
        acq.idx.user[5] = user
    xml = header((1, n, OVERSAMPLED), recon_x=UNCUT, limits=limits(1, 0, 24, stated))
    path = write(tmp_path / "a.h5", [noise_line(rng), *lines], xml)
    acq = read(path)
    assert int(acq.mask[:, 0].nonzero()[0]) == n // 2 - centre
    assert noted(acq, "taken from the lines, 10") == (stated != centre)
    assert noted(acq, "In doubt: k-space is strongest at step 10") == (centre != 10)
    file, _ = load_scan_group(path, None)
    assert encoded_rows(file, roles(file).image, 1) == (n // 2 - centre, n // 2 - centre + 24)


def test_the_centre_of_partitions(tmp_path, rng):
    """Along k2 it is in idx.user[6]."""
    k = peaked(rng, (12, NY, OVERSAMPLED), (4, NY // 2, OVERSAMPLED // 2))
    lines = [line(k[:, z, y], y, z) for z in range(12) for y in range(NY)]
    for acq in lines:
        acq.idx.user[6] = 4
    xml = header((16, NY, OVERSAMPLED), recon_x=UNCUT, limits=limits(2, 0, 11, 8))
    path = write(tmp_path / "a.h5", [noise_line(rng), *lines], xml)
    acq = read(path)
    assert acq.mask[:, 0, 0].tolist() == [False] * 4 + [True] * 12
    assert noted(acq, "centre of k2 was taken from the lines, 4")
    file, _ = load_scan_group(path, None)
    assert encoded_rows(file, roles(file).image, 2) == (4, 15)


def test_encoded_rows_of_undersampled_lines_are_those_of_the_limits(tmp_path, rng):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    xml = header((1, NY + 4, OVERSAMPLED), recon_x=UNCUT, limits=limits(1, 0, NY - 1, NY // 2))
    path = write(tmp_path / "a.h5", [noise_line(rng), *rows(k)[1::3]], xml)
    file, _ = load_scan_group(path, None)
    assert encoded_rows(file, roles(file).image, 1) == (2, NY + 1)
    assert encoded_rows(file, roles(file).image, 2) == (0, 0)


def test_oversampling_that_the_header_forgot(tmp_path, rng):
    images = 30 * np.ones((COILS, NY, NX), np.complex64)
    k = oversampled(images) + 0.01 * unit_noise(rng, COILS, NY, OVERSAMPLED)
    xml = header((1, NY, NX), fov=(5, 100, 120), recon_x=(NX, 120))
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *rows(k)], xml))
    assert float((to_image(acq.kspace) - torch.from_numpy(images)).abs().max()) < 0.1
    assert noted(acq, "2 times as wide")
    # An object that fills the wider field of view shows that it is not.
    whole = to_kspace(torch.ones(COILS, NY, OVERSAMPLED, dtype=torch.complex64)).numpy()
    with pytest.raises(InputError, match="does not fit the encoded matrix"):
        read(write(tmp_path / "b.h5", [noise_line(rng), *rows(whole)], xml))


@pytest.mark.parametrize("convention", [0, 1])
@pytest.mark.parametrize("n", [OVERSAMPLED, OVERSAMPLED - 1])
def test_reversed_partial_echo(tmp_path, rng, convention, n):
    """The centre of a reversed line counts stored samples, by the definition (0), or one more (1)."""
    skipped = 5
    k = peaked(rng, (NY, n), (NY // 2, n // 2))
    forward, echo = [], []
    for y in range(NY):
        part = k[:, y, skipped:]
        forward.append(line(part, y, centre=n // 2 - skipped, contrast=0))
        stored = part.shape[1] - 1 - (n // 2 - skipped) + convention
        echo.append(line(part[:, ::-1], y, centre=stored, contrast=1, flags=[REVERSE]))
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *forward, *echo], header((1, NY, n), recon_x=(n, 240))))
    k[:, :, :skipped] = 0
    assert acq.axes == ("echo",)
    assert close(acq.kspace[0], k) and close(acq.kspace[1], k)
    assert noted(acq, "reversed lines lies one sample behind") == bool(convention)


def test_a_readout_off_its_centre_is_in_doubt(tmp_path, rng):
    k = peaked(rng, (NY, OVERSAMPLED), (NY // 2, 5))
    assert noted(read(write(tmp_path / "a.h5", [noise_line(rng), *rows(k)], PLAIN)), "strongest 7 samples from")


def test_a_centre_of_zero_is_not_given(tmp_path, rng):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *rows(k, centre=0)], PLAIN))
    assert close(acq.kspace, k) and noted(acq, f"{NY} lines have a center_sample of 0")


def test_coil_labels_are_in_the_order_of_the_document(tmp_path, rng):
    """siemens_to_ismrmrd writes names in the order of channels, beside numbers of a list in another order."""
    scan = noise_line(rng, mixing=np.diag([1.0, 2.0, 4.0]))
    names = "".join(
        f"<coilLabel><coilNumber>{number}</coilNumber><coilName>{name}</coilName></coilLabel>"
        for number, name in ((22, "B2"), (21, "B1"), (34, "S5"))
    )
    noise = write(tmp_path / "n.h5", [scan], header(system=names))
    data = write(
        tmp_path / "a.h5", rows(unit_noise(rng, COILS, NY, OVERSAMPLED)), header(system=labels("S5", "B2", "B1"))
    )
    found = read(data, noise=noise).noise_covariance.matrix.diagonal().real
    assert found.tolist() == pytest.approx([16, 1, 4], rel=0.3)  # 400 samples: 5 %


# -- groups and lines ----------------------------------------------------------------------------------------


def test_noise_of_another_group(tmp_path, rng):
    """siemens_to_ismrmrd -M writes the measurements of a file as dataset_1, dataset_2, …"""
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    path = write(tmp_path / "a.h5", [noise_line(rng, n=90)], PLAIN, "dataset_2")
    write(path, [noise_line(rng, n=100)], PLAIN, "dataset_9")
    write(path, rows(k), PLAIN, "dataset_10")
    acq = read(path)
    assert close(acq.kspace, k) and acq.noise_covariance.n_samples == 100
    assert noted(acq, "group dataset_9")
    assert read(path, noise=path).noise_covariance.n_samples == 100
    assert read(path, group="dataset_10").noise_covariance.n_samples == 100


def test_several_scans_in_one_file(tmp_path, rng):
    k = unit_noise(rng, 2, COILS, NY, OVERSAMPLED)
    path = write(tmp_path / "a.h5", [noise_line(rng), *rows(k[0])], PLAIN, "first")
    write(path, [noise_line(rng), *rows(k[1])], PLAIN, "inner/second")
    with pytest.raises(InputError, match=r"several scans.*first, inner/second.*--group"):
        read(path)
    assert close(read(path, group="first").kspace, k[0])
    assert close(read(path, group="inner/second").kspace, k[1])
    with pytest.raises(InputError, match="first or inner/second; received third"):
        read(path, group="third")
    np.savez(tmp_path / "a.npz", kspace=k[0], noise=unit_noise(rng, COILS, 90))
    with pytest.raises(InputError, match="has no groups"):
        read(tmp_path / "a.npz", group="first")
    words = ["map", str(path), "--group", "first", "-r", "rss", "--coil-maps", "propagated", "-m", "sketch", "-n", "4"]
    assert CliRunner().invoke(app, [*words, "-o", str(tmp_path / "map.h5")]).exit_code == 0
    assert CliRunner().invoke(app, ["info", str(path), "--group", "inner/second"]).exit_code == 0


@pytest.mark.parametrize(
    "words", ["info", "map", "roi", "gfactor", "rank patterns", "rank networks", "evaluate"], ids=lambda words: words
)
def test_commands_that_read_a_scan_take_a_group(words):
    assert "--group" in CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "200"}).output


def test_imaging_lines_that_are_flagged_as_surface_coil_correction(tmp_path, rng):
    """The converter of Siemens takes the flag from the bit for raw data correction, on every line of the scan."""
    flag = ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    noise = noise_line(rng)
    noise.setFlag(flag)
    acq = read(write(tmp_path / "a.h5", [noise, *rows(k, flags=[flag])], PLAIN))
    assert close(acq.kspace, k) and noted(acq, f"All {NY} lines of the image are flagged")
    assert acq.noise_covariance.n_samples == 400


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("stated", ["<receiverChannels>3</receiverChannels>", ""])
def test_lines_with_other_channels_are_left_out(tmp_path, rng, first, stated):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    body = rows(1e6 * unit_noise(rng, 2, NY - 1, OVERSAMPLED))
    noise = [line(unit_noise(rng, 2, 50), flags=[ismrmrd.ACQ_IS_NOISE_MEASUREMENT]), noise_line(rng)]
    lines = [*noise, *body, *rows(k)] if first else [*noise[::-1], *rows(k), *body]
    acq = read(write(tmp_path / "a.h5", lines, header(recon_x=UNCUT, system=stated)))
    assert close(acq.kspace, k) and noted(acq, f"{NY - 1} lines with another number of channels than 3")
    assert acq.noise_covariance.n_samples == 400 and noted(acq, "50 noise samples of 2 coils")


def two_spaces(first, second):
    """Header with two encoding spaces."""
    start = second.index("<encoding>")
    return first.replace("</ismrmrdHeader>", second[start:])


SMALL = (1, 6, 8)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_calibration_lines_of_another_encoding_space(tmp_path, rng, order):
    """A matrix of 8 × 6 over the same field of view: its samples are the central ones of the image."""
    image, small = order
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    low = k[:, NY // 2 - 3 : NY // 2 + 3, OVERSAMPLED // 2 - 4 : OVERSAMPLED // 2 + 4]
    headers = [PLAIN, header(SMALL, recon_x=(8, 240))]
    lines = [noise_line(rng), *rows(k, space=image)[::2], *rows(low, space=small, flags=[CALIBRATION])]
    acq = read(write(tmp_path / "a.h5", lines, two_spaces(headers[image], headers[small])))
    wanted = np.zeros_like(k)
    wanted[:, NY // 2 - 3 : NY // 2 + 3, OVERSAMPLED // 2 - 4 : OVERSAMPLED // 2 + 4] = low
    assert close(acq.calibration, wanted) and acq.acceleration == 2
    assert noted(acq, f"Calibration lines of encoding space {small}, 6,")
    other = header(SMALL, fov=(5, 80, 240), recon_x=(8, 240))
    spaces = (headers[0], other) if small else (other, headers[0])
    acq = read(write(tmp_path / "b.h5", lines, two_spaces(*spaces)))
    assert acq.calibration is None and noted(acq, "another field of view")


def test_calibration_of_a_volume_in_another_encoding_space(tmp_path, rng):
    k, low = unit_noise(rng, COILS, 5, NY, OVERSAMPLED), unit_noise(rng, COILS, 3, 6, 8)
    lines = [noise_line(rng)] + [line(k[:, z, y], y, z) for z in range(5) for y in range(NY)]
    lines += [line(low[:, z, y], y, z, space=1, flags=[CALIBRATION]) for z in range(3) for y in range(6)]
    first = header((5, NY, OVERSAMPLED), fov=(20, 100, 240), recon_x=UNCUT)
    acq = read(write(tmp_path / "a.h5", lines, two_spaces(first, header((3, 6, 8), (20, 100, 240), (8, 240)))))
    wanted = np.zeros_like(k)
    wanted[:, 1:4, NY // 2 - 3 : NY // 2 + 3, OVERSAMPLED // 2 - 4 : OVERSAMPLED // 2 + 4] = low
    assert close(acq.kspace, k) and close(acq.calibration, wanted)
    # One partition does not calibrate a volume.
    slices = [*lines[: 1 + 5 * NY], *rows(low[:, 0], space=1, flags=[CALIBRATION])]
    acq = read(write(tmp_path / "b.h5", slices, two_spaces(first, header(SMALL, (20, 100, 240), (8, 240)))))
    assert acq.calibration is None and noted(acq, "6 calibration lines were left out")


def test_images_of_another_encoding_space_are_left_out(tmp_path, rng):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    field_map = rows(1e6 * unit_noise(rng, COILS, 6, 8), space=1)
    lines = [noise_line(rng), *rows(k), *field_map]
    acq = read(write(tmp_path / "a.h5", lines, two_spaces(PLAIN, header(SMALL, recon_x=(8, 240)))))
    assert close(acq.kspace, k) and noted(acq, "6 imaging lines of other encoding spaces than 0")


@pytest.mark.parametrize("mode", ["embedded", "separate"])
def test_embedded_calibration_lines_belong_to_the_image(tmp_path, rng, mode):
    k = unit_noise(rng, 2, COILS, NY, OVERSAMPLED)
    said = f"<parallelImaging><calibrationMode>{mode}</calibrationMode></parallelImaging></encoding>"
    lines = [noise_line(rng)]
    for s in range(2):
        lines += rows(k[s], slice=s, position=(0, 0, 7 * s), directions=np.eye(3))[::2]
        lines += rows(k[s], slice=s, position=(0, 0, 7 * s), directions=np.eye(3), flags=[CALIBRATION])[3:8:2]
    acq = read(write(tmp_path / "a.h5", lines, PLAIN.replace("</encoding>", said)))
    sampled = acq.mask[:, 0].nonzero().flatten().tolist()
    if mode == "embedded":
        assert sampled == [0, 2, 3, 4, 5, 6, 7, 8] and acq.calibration is None
        assert noted(acq, "6 calibration lines are part of the image")
    else:
        assert sampled == [0, 2, 4, 6, 8] and acq.calibration is not None
    # Lines that only one of the images has calibrate all of them.
    acq = read(write(tmp_path / "b.h5", lines[:9], PLAIN.replace("</encoding>", said)))
    assert noted(acq, "part of the image") == (mode == "embedded")
    acq = read(write(tmp_path / "c.h5", lines[:-3], PLAIN.replace("</encoding>", said)))
    assert acq.calibration is not None


@pytest.mark.parametrize("name", ["average", "segment"])
def test_averages_out_of_phase_have_an_axis(tmp_path, rng, name):
    k = peaked(rng, (NY, OVERSAMPLED), (NY // 2, OVERSAMPLED // 2))
    turned = k * np.exp(1j * np.linspace(1, 3, NY, dtype=np.float32))[:, None]
    both = [noise_line(rng), *rows(k, **{name: 0}), *rows(turned, **{name: 1})]
    acq = read(write(tmp_path / "a.h5", both, PLAIN))
    assert acq.axes == (name,) and close(acq.kspace[0], k) and close(acq.kspace[1], turned)
    assert acq.averages is None and noted(acq, f"2 {name}s are out of phase")
    alike = [noise_line(rng), *rows(k, **{name: 0}), *rows(k * np.exp(0.2j), **{name: 1})]
    acq = read(write(tmp_path / "b.h5", alike, PLAIN))
    # The same lines twice: their noise is not that of a mean of two, and Ψ is said to disagree.
    assert acq.axes == () and float(acq.averages.min()) == 2
    assert not noted(acq, "out of phase")


def test_lines_out_of_phase_that_nothing_tells_apart(tmp_path, rng):
    k = peaked(rng, (NY, OVERSAMPLED), (NY // 2, OVERSAMPLED // 2))
    acq = read(write(tmp_path / "a.h5", [noise_line(rng), *rows(k), *rows(-k)], PLAIN))
    assert noted(acq, "In doubt: lines of one place are out of phase")


def test_sets_phases_and_images_without_lines(tmp_path, rng):
    k = unit_noise(rng, 2, 3, COILS, NY, OVERSAMPLED)
    lines = [noise_line(rng)]
    for s, p in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2)):
        lines += rows(k[s, p], set=s, phase=p)
    acq = read(write(tmp_path / "a.h5", lines, PLAIN))
    assert acq.axes == ("set", "phase") and close(acq.kspace[1, 2], k[1, 2])
    assert noted(acq, "1 of 6 images have no lines")


def test_a_noise_scan_that_the_header_names(tmp_path, rng):
    words = "<measurementDependency><dependencyType>Noise</dependencyType><measurementID>45</measurementID>"
    xml = placed(f"<measurementInformation>{words}</measurementDependency></measurementInformation>")
    lines = rows(unit_noise(rng, COILS, 40, OVERSAMPLED))
    xml = xml.replace(f"<y>{NY}</y>", "<y>40</y>")
    assert noted(read(write(tmp_path / "a.h5", lines, xml)), "measurement 45 as its noise scan")
    assert not read(write(tmp_path / "b.h5", [noise_line(rng), *lines], xml)).notes


# -- echo-planar ---------------------------------------------------------------------------------------------


def epi(n, described=""):
    said = (
        f"<trajectoryDescription><identifier>ConventionalEPI</identifier>{described}</trajectoryDescription></encoding>"
    )
    xml = header((1, NY, n), fov=(5, 100, 120), recon_x=(n, 120))
    return xml.replace("cartesian", "epi").replace("</encoding>", said)


def timing(**values):
    return "".join(
        f"<userParameterLong><name>{name}</name><value>{value}</value></userParameterLong>"
        for name, value in values.items()
    )


def navigators(k):
    flag = ismrmrd.ACQ_IS_PHASECORR_DATA
    return [line(1e6 * k[:, 0], NY // 2, flags=[flag, REVERSE] if i % 2 else [flag]) for i in range(3)]


@pytest.mark.parametrize("samples", [NX, OVERSAMPLED])
def test_echo_planar_lines_on_the_flat_top(tmp_path, rng, samples):
    """Oversampled lines span the matrix of the header, which is that of the image."""
    images = unit_noise(rng, COILS, NY, NX)
    k = oversampled(images) if samples == OVERSAMPLED else to_kspace(torch.from_numpy(images)).numpy()
    lines = [noise_line(rng), *navigators(k)]
    for y in range(NY):
        lines.append(line(k[:, y, ::-1], y, flags=[REVERSE]) if y % 2 else line(k[:, y], y))
    acq = read(write(tmp_path / "a.h5", lines, epi(NX, timing(rampUpTime=10, rampDownTime=10, flatTopTime=1000))))
    assert close(to_image(acq.kspace), images)
    assert noted(acq, "3 of phase correction") and noted(acq, "moves signal, not noise")
    assert acq.averages is None


UP, FLAT, DOWN, DWELL, TAKEN, N = 120, 280, 100, 4.0, 112, 44


def ramp_positions(delay):
    """k of each sample in cycles per field of view, by summing the gradient in steps of 0.01 µs."""
    fine = (np.arange(round(100 * (UP + FLAT + DOWN))) + 0.5) / 100
    gradient = np.interp(fine, [0, UP, UP + FLAT, UP + FLAT + DOWN], [0, 1, 1, 0])
    moment = np.cumsum(gradient) / 100
    at = np.interp(delay + (np.arange(TAKEN) + 0.5) * DWELL, fine, moment) - moment[-1] / 2
    start, end = np.interp([delay, delay + TAKEN * DWELL], fine, moment)
    return N * at / (end - start)


def ramp_lines(images, delay, rng, noise, **options):
    """Lines of images (coil, y, x) sampled along the trapezoid, odd ones reversed, in noise of this variance."""
    along_y = to_kspace(torch.from_numpy(images).movedim(-1, -2), 1).movedim(-1, -2).numpy()
    x = np.arange(N) - N // 2
    k = ramp_positions(delay)
    lines = []
    for y in range(NY):
        odd = y % 2 == 1
        encode = np.exp(-2j * np.pi * np.outer(-k if odd else k, x) / N) / N**0.5
        data = along_y[:, y] @ encode.T + noise**0.5 * unit_noise(rng, COILS, TAKEN)
        lines.append(line(data, y, flags=[REVERSE] if odd else [], dwell=DWELL, **options))
    return lines


def object_images():
    """Smooth coil images (coil, y, x) that end within the field of view."""
    y, x = np.meshgrid(np.linspace(-1, 1, NY), np.linspace(-1, 1, N), indexing="ij")
    inside = np.exp(-((x / 0.5) ** 4) - (y / 0.7) ** 4)
    return np.stack([inside * np.exp(-((x - c) ** 2) + 1j * c * y) for c in (-0.6, 0.1, 0.7)]).astype(np.complex64)


@pytest.mark.parametrize("delay", [None, 20])
def test_ramp_samples_are_regridded(tmp_path, rng, delay):
    images = object_images()
    stated = {} if delay is None else {"acqDelayTime": delay}
    at = (UP + FLAT + DOWN - TAKEN * DWELL) / 2 if delay is None else delay
    lines = [noise_line(rng), *ramp_lines(images, at, rng, 0.0)]
    xml = epi(N, timing(rampUpTime=UP, rampDownTime=DOWN, flatTopTime=FLAT, **stated))
    acq = read(write(tmp_path / "a.h5", lines, xml))
    assert acq.kspace.shape == (COILS, NY, N)
    error = to_image(acq.kspace) - torch.from_numpy(images)
    # An image of finite extent is not quite band-limited: ringing at the edges. A shift of half a voxel gives 0.1.
    assert float(error.abs().max()) < 0.02 * float(np.abs(images).max())


def test_noise_of_regridded_samples(tmp_path, rng):
    """σ of the map against repetitions of the scan."""
    frames, variance = 80, 0.01
    images = object_images()
    delay = (UP + FLAT + DOWN - TAKEN * DWELL) / 2
    noise = noise_line(rng, n=20000, dwell=DWELL, mixing=variance**0.5 * np.eye(COILS))
    lines = [noise] + [acq for r in range(frames) for acq in ramp_lines(images, delay, rng, variance, repetition=r)]
    xml = epi(N, timing(rampUpTime=UP, rampDownTime=DOWN, flatTopTime=FLAT))
    acq = read(write(tmp_path / "a.h5", lines, xml))
    assert noted(acq, "regridded") and "after regridding" in acq.noise_covariance.source
    # In k-space: 80 × 10 × 3 samples, 2 % for each column and 0.3 % over all.
    spread = acq.kspace.var(0, correction=1).mean((0, 1))
    stated = acq.noise_covariance.mean_variance * (1 / acq.averages).mean(0)
    assert float((spread / stated - 1).abs().max()) < 0.1
    assert float(acq.averages.max() / acq.averages.min()) > 1.5
    # In the image: 80 repetitions of 10 × 42 voxels, 1 %, and 2 % of the variance that correlations move from these
    # to the outermost columns.
    maps = torch.from_numpy(images / np.sqrt((np.abs(images) ** 2).sum(0) + 1e-3))
    scan = acq.replace(coil_maps=maps)
    bound = Sense(1e-3).bind(scan)
    seen = bound(scan.kspace).var(0, correction=1)
    predicted = noise_map(Sense(1e-3), scan.at(frame=0), method="sketch", n_samples=400, seed=1).std.square()
    ratio = seen[:, 1:-1].sum() / predicted[:, 1:-1].sum()
    assert float(ratio) == pytest.approx(1, abs=0.05)


def test_a_trapezoid_that_does_not_fit(tmp_path, rng):
    lines = [noise_line(rng), *rows(unit_noise(rng, COILS, NY, TAKEN), dwell=9.0)]
    xml = epi(N, timing(rampUpTime=UP, rampDownTime=DOWN, flatTopTime=FLAT))
    with pytest.raises(InputError, match="does not fit the trapezoid.*9 µs"):
        read(write(tmp_path / "a.h5", lines, xml))
    few = [noise_line(rng), *rows(unit_noise(rng, COILS, NY, N), dwell=9.0)]
    with pytest.raises(InputError, match="more samples than the matrix"):
        read(write(tmp_path / "b.h5", few, xml))


def test_calibration_of_another_space_gives_coil_maps(tmp_path, rng):
    """From the small matrix to coil maps and an unfolded image."""
    n = 32
    y, x = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    coils = np.stack([np.exp(-((x - np.cos(a)) ** 2) - (y - np.sin(a)) ** 2) for a in (0.3, 2.4, 4.5)])
    images = (30 * (x**2 / 0.6 + y**2 / 0.7 < 1) * coils).astype(np.complex64)
    k = to_kspace(torch.from_numpy(images)).numpy() + 0.01 * unit_noise(rng, COILS, n, n)
    low = k[:, 6:26, 6:26]
    first = header((1, n, n), fov=(5, 100, 240), recon_x=(n, 240))
    second = header((1, 20, 20), fov=(5, 100, 240), recon_x=(20, 240))
    lines = [noise_line(rng, mixing=0.01 * np.eye(COILS)), *rows(k)[::2], *rows(low, space=1, flags=[CALIBRATION])]
    scan = with_coil_maps(read(write(tmp_path / "a.h5", lines, two_spaces(first, second))))
    unfolded = Sense().bind(scan)(scan.kspace)
    assert float(unfolded.abs()[(x**2 + y**2 > 1.9)].max()) < 0.2 * float(unfolded.abs().max())
