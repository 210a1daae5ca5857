"""MRD files written line by line with the ismrmrd package, and by the generator of the ISMRMRD project."""

import re
import shutil
import subprocess
from types import SimpleNamespace

import h5py
import ismrmrd
import numpy as np
import pytest
import torch

from mrnoise.calibration import with_coil_maps
from mrnoise.errors import InputError
from mrnoise.fourier import to_image, to_kspace
from mrnoise.io.scans.noise_scan import NoiseScan, bandwidth_factor
from mrnoise.io.scans.scan_file import read
from mrnoise.reconstruction import CgSense, ZeroFilled

COILS, NY, NX, OVERSAMPLED = 3, 10, 12, 24
LOW = 1e-5  # relative, complex64


def header(shape=(1, NY, OVERSAMPLED), fov=(5, 100, 240), recon_x=(NX, 120), limits="", system=""):
    """XML with matrix (z, y, x) and field of view in mm of the encoded space."""
    (nz, ny, nx), (fz, fy, fx) = shape, fov
    lengths = "<x>{}</x><y>{}</y><z>{}</z>"
    space = f"<matrixSize>{lengths}</matrixSize><fieldOfView_mm>{lengths}</fieldOfView_mm>"
    return f"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
    {f"<acquisitionSystemInformation>{system}</acquisitionSystemInformation>" if system else ""}
    <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
    <encoding><encodedSpace>{space.format(nx, ny, nz, fx, fy, fz)}</encodedSpace>
    <reconSpace>{space.format(recon_x[0], ny, nz, recon_x[1], fy, fz)}</reconSpace>
    <encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""


def labels(*names):
    return "".join(
        f"<coilLabel><coilNumber>{i}</coilNumber><coilName>{n}</coilName></coilLabel>" for i, n in enumerate(names)
    )


def line(data, k1=0, k2=0, flags=(), centre=None, dwell=5.0, directions=None, position=(0, 0, 0), space=0, **idx):
    """One acquisition with data (coil, sample)."""
    acq = ismrmrd.Acquisition.from_array(np.ascontiguousarray(data, dtype=np.complex64))
    acq.center_sample = data.shape[1] // 2 if centre is None else centre
    acq.sample_time_us = dwell
    acq.encoding_space_ref = space
    acq.idx.kspace_encode_step_1, acq.idx.kspace_encode_step_2 = k1, k2
    for name, value in idx.items():
        setattr(acq.idx, name, value)
    for flag in flags:
        acq.setFlag(flag)
    acq.position[:] = position
    if directions is not None:
        acq.read_dir[:], acq.phase_dir[:], acq.slice_dir[:] = directions
    return acq


def write(path, lines, xml):
    with ismrmrd.Dataset(str(path), "dataset", create_if_needed=True) as file:
        if xml is not None:
            file.write_xml_header(xml.encode() if isinstance(xml, str) else xml)
        for acq in lines:
            file.append_acquisition(acq)
    return path


def unit_noise(rng, *shape):
    return ((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)).astype(np.complex64)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def noise_line(rng, n=400, mixing=None, **options):
    values = unit_noise(rng, COILS, n)
    return line(values if mixing is None else mixing @ values, flags=(ismrmrd.ACQ_IS_NOISE_MEASUREMENT,), **options)


def oversampled(image):
    """K-space (..., y, 24) of an image (..., y, 12) in the middle of a field of view twice as wide."""
    padded = np.zeros((*image.shape[:-1], OVERSAMPLED), np.complex64)
    padded[..., OVERSAMPLED // 2 - NX // 2 : OVERSAMPLED // 2 - NX // 2 + NX] = image
    return to_kspace(torch.from_numpy(padded)).numpy()


def close(a, b):
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return a.shape == b.shape and float((a - b).abs().max()) < LOW * float(b.abs().max())


def test_oversampling_is_removed_and_slices_are_ordered_by_position(tmp_path, rng):
    images = unit_noise(rng, 4, COILS, NY, NX)
    k = oversampled(images)
    where = [2, 0, 3, 1]  # place of each slice number along the normal
    lines = [noise_line(rng)] + [
        line(k[where[s], :, y], y, slice=s, position=(0, 0, 7 * where[s]), directions=np.eye(3))
        for y in rng.permutation(NY)
        for s in range(4)
    ]
    acq = read(write(tmp_path / "a.h5", lines, header()))
    assert acq.kspace.shape == (4, COILS, NY, NX)
    assert close(to_image(acq.kspace), images)
    assert bool(acq.mask.all())
    assert acq.mask.shape == (NY, NX)
    assert acq.averages is None
    assert acq.source == "a.h5 (MRD)"
    assert acq.geometry.voxel_size == pytest.approx((7, 10, 10))


def test_lines_that_are_no_image_are_left_out(tmp_path, rng):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    rows = [y for y in range(NY) if y % 2 == 1]
    lines = [noise_line(rng)]
    for y in range(NY):
        flags = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION] if y % 2 == 0 else []
        if y == 5:  # both roles
            flags = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING]
        if y == 7:
            flags = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING]
        lines.append(line(k[:, y], y, flags=flags))
    wrong = 1e6 * np.ones((COILS, OVERSAMPLED))
    lines += [
        line(wrong, 3, flags=[flag])
        for flag in (
            ismrmrd.ACQ_IS_NAVIGATION_DATA,
            ismrmrd.ACQ_IS_PHASECORR_DATA,
            ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
            ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
            ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
            ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        )
    ]
    lines.append(line(wrong[:, :6], 3, space=1))
    acq = read(write(tmp_path / "a.h5", lines, header(recon_x=(OVERSAMPLED, 240))))
    wanted = np.zeros((NY, OVERSAMPLED), bool)
    wanted[rows] = True
    assert torch.equal(acq.mask, torch.from_numpy(wanted))
    assert close(acq.kspace, k * wanted)
    assert acq.acceleration == 2
    # The lines of both kinds of calibration, and no others.
    calibrating = [y for y in range(NY) if y % 2 == 0 or y in (5, 7)]
    only = np.zeros((NY, OVERSAMPLED), bool)
    only[calibrating] = True
    assert close(acq.calibration, k * only)
    assert "1 imaging lines of other encoding spaces than 0 were left out." in acq.notes
    left = "1 of navigation, 1 of phase correction, 1 of high-priority feedback, 1 of dummy scans"
    assert any(left in note and "1 of surface coil correction" in note for note in acq.notes)


def test_repeated_lines_are_averaged_and_counted(tmp_path, rng):
    k = unit_noise(rng, 3, COILS, NY, OVERSAMPLED)
    lines = [noise_line(rng)] + [line(k[a, :, y], y, average=a) for y in range(NY) for a in range(2 + (y == 4))]
    acq = read(write(tmp_path / "a.h5", lines, header(recon_x=(OVERSAMPLED, 240))))
    mean = k[:2].mean(0)
    mean[:, 4] = k[:, :, 4].mean(0)
    assert close(acq.kspace, mean)
    counts = torch.full((NY, OVERSAMPLED), 2.0)
    counts[4] = 3
    assert torch.equal(acq.averages, counts)


def test_estimated_psi_of_averaged_lines_is_that_of_one_line(tmp_path, rng):
    n = 64
    k = unit_noise(rng, 4, COILS, n, n)
    lines = [line(k[a, :, y], y, average=a) for y in range(n) for a in range(4)]
    acq = read(write(tmp_path / "a.h5", lines, header((1, n, n), recon_x=(n, 240))))
    # 3 × 4096 samples: 0.9 %. Without the correction: 1/4.
    assert abs(acq.noise_covariance.mean_variance - 1) < 0.05
    assert float(acq.kspace.abs().square().mean()) == pytest.approx(0.25, rel=0.05)


def test_reversed_lines_are_turned_round(tmp_path, rng):
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    lines = [noise_line(rng)]
    for y in range(NY):
        odd = y % 2 == 1
        data = k[:, y, ::-1] if odd else k[:, y]
        lines.append(line(data, y, flags=[ismrmrd.ACQ_IS_REVERSE] if odd else []))
    acq = read(write(tmp_path / "a.h5", lines, header(recon_x=(OVERSAMPLED, 240))))
    assert close(acq.kspace, k)


def test_partial_echo_partial_fourier_and_discarded_samples(tmp_path, rng):
    """The centre of k-space lands at n // 2 though neither axis is complete."""
    k = unit_noise(rng, COILS, NY, OVERSAMPLED)
    skipped_x, skipped_y, junk = 5, 3, 2
    lines = [noise_line(rng)]
    for y in range(skipped_y, NY):
        data = np.concatenate([1e6 * np.ones((COILS, junk)), k[:, y, skipped_x:]], axis=1)
        lines.append(line(data, y - skipped_y, centre=OVERSAMPLED // 2 - skipped_x + junk))
        lines[-1].discard_pre = junk
    limits = (
        f"<kspace_encoding_step_1><minimum>0</minimum><maximum>{NY - skipped_y - 1}</maximum>"
        f"<center>{NY // 2 - skipped_y}</center></kspace_encoding_step_1>"
    )
    acq = read(write(tmp_path / "a.h5", lines, header(recon_x=(OVERSAMPLED, 240), limits=limits)))
    wanted = np.zeros((NY, OVERSAMPLED), bool)
    wanted[skipped_y:, skipped_x:] = True
    assert torch.equal(acq.mask, torch.from_numpy(wanted))
    assert close(acq.kspace, k * wanted)


def test_partial_echo_with_oversampling_keeps_its_extent(tmp_path, rng):
    k = oversampled(unit_noise(rng, COILS, NY, NX))
    lines = [noise_line(rng)] + [line(k[:, y, 6:], y, centre=OVERSAMPLED // 2 - 6) for y in range(NY)]
    acq = read(write(tmp_path / "a.h5", lines, header()))
    assert acq.mask[0].tolist() == [False] * 3 + [True] * 9  # 6 of 24 samples are 3 of 12


def test_volume(tmp_path, rng):
    nz = 6
    volume = unit_noise(rng, COILS, nz, NY, OVERSAMPLED)
    turn = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    lines = [noise_line(rng)] + [
        line(volume[:, z, y], y, z, directions=turn, position=(10, 20, 30)) for z in range(nz) for y in range(NY)
    ]
    xml = header((nz, NY, OVERSAMPLED), fov=(18, 100, 240), recon_x=(OVERSAMPLED, 240))
    acq = read(write(tmp_path / "a.h5", lines, xml))
    assert acq.spatial_dims == 3
    assert close(acq.kspace, volume)
    assert acq.geometry.voxel_size == pytest.approx((3, 10, 10))
    # The centre of the volume, voxel n // 2 of each axis, is at the position; LPS to RAS negates x and y.
    centre = acq.geometry.affine @ [OVERSAMPLED // 2, NY // 2, nz // 2, 1]
    assert centre[:3] == pytest.approx([-10, -20, 30])


def test_other_counters_lead_where_there_is_more_than_one(tmp_path, rng):
    k = unit_noise(rng, 2, 3, COILS, NY, OVERSAMPLED)  # repetition, contrast
    lines = [noise_line(rng)] + [
        line(k[r, c, :, y], y, repetition=5 * r, contrast=c, phase=7)
        for r in range(2)
        for c in range(3)
        for y in range(NY)
    ]
    acq = read(write(tmp_path / "a.h5", lines, header(recon_x=(OVERSAMPLED, 240))))
    assert acq.batch_shape == (2, 3)
    assert close(acq.kspace, k)


def test_sampling_that_differs_between_images_stays_apart(tmp_path, rng):
    lines = [noise_line(rng)] + [
        line(unit_noise(rng, COILS, OVERSAMPLED), y, repetition=r) for r in range(2) for y in range(r, NY, 2)
    ]
    acq = read(write(tmp_path / "a.h5", lines, header(recon_x=(OVERSAMPLED, 240))))
    assert acq.mask.shape == (2, NY, OVERSAMPLED)
    assert acq.mask[0, :, 0].tolist() == [True, False] * 5
    assert acq.mask[1, :, 0].tolist() == [False, True] * 5


# -- geometry ------------------------------------------------------------------------------------------------


def corner_file(tmp_path, rng, directions, positions):
    lines = [noise_line(rng)] + [
        line(unit_noise(rng, COILS, OVERSAMPLED), y, slice=s, directions=directions, position=p)
        for s, p in enumerate(positions)
        for y in range(NY)
    ]
    return read(write(tmp_path / "a.h5", lines, header()))


def test_affine_of_an_axial_slice(tmp_path, rng):
    geometry = corner_file(tmp_path, rng, np.eye(3), [(1, 2, 3)]).geometry
    # 10 mm in plane, 5 mm thick; 12 × 10 voxels: voxel (6, 5, 0) at LPS (1, 2, 3).
    expected = [[-10, 0, 0, -1 + 60], [0, -10, 0, -2 + 50], [0, 0, 5, 3], [0, 0, 0, 1]]
    assert geometry.affine == pytest.approx(np.array(expected))


def test_affine_of_oblique_slices(tmp_path, rng):
    c, s = np.cos(np.pi / 6), 0.5
    read_dir, phase_dir, slice_dir = (0, 1, 0), (s, 0, -c), (-c, 0, -s)
    start, gap = np.array([12.0, -7.0, 40.0]), 6.5
    positions = [start + gap * i * np.array(slice_dir) for i in range(3)]
    geometry = corner_file(tmp_path, rng, (read_dir, phase_dir, slice_dir), positions).geometry
    assert geometry.voxel_size == pytest.approx((gap, 10, 10))
    for index in [(0, 0, 0), (11, 0, 2), (6, 5, 1), (3, 9, 0)]:
        x, y, z = index
        lps = positions[z] + 10 * (x - 6) * np.array(read_dir) + 10 * (y - 5) * np.array(phase_dir)
        assert geometry.affine @ [x, y, z, 1] == pytest.approx([-lps[0], -lps[1], lps[2], 1], abs=1e-4)
    # Voxel (0, 0, 0) by hand: 12 − 25, −7 − 60, 40 + 43.30 in LPS.
    assert geometry.affine[:3, 3] == pytest.approx([13, 67, 83.301], abs=1e-3)


@pytest.mark.parametrize("positions", [[(0, 0, 0), (0, 0, 5), (0, 0, 13)], [(0, 0, 0), (4, 0, 5)]])
def test_slices_off_a_grid_have_no_affine(tmp_path, rng, positions):
    acq = corner_file(tmp_path, rng, np.eye(3), positions)
    assert acq.geometry.affine is None
    assert acq.geometry.voxel_size == pytest.approx((5, 10, 10))
    assert any("the map has no place, and their distance, 5 mm," in note for note in acq.notes)


def test_no_directions_no_affine(tmp_path, rng):
    assert corner_file(tmp_path, rng, None, [(0, 0, 0)]).geometry.affine is None


# -- noise ---------------------------------------------------------------------------------------------------


def test_bandwidth_factor_from_the_physics_of_sampling(rng):
    """One white noise, averaged over each dwell time, must give the two variances."""
    fine = unit_noise(rng, 1_000_000)
    scan, image = fine.reshape(-1, 2).mean(1), fine.reshape(-1, 10).mean(1)  # dwell 2 and 10
    predicted = bandwidth_factor(10, 2, 1) * np.mean(np.abs(scan) ** 2)
    # 100 000 samples: 0.3 %. The reciprocal would be wrong by 25.
    assert np.mean(np.abs(image) ** 2) == pytest.approx(predicted, rel=0.02)


def test_bandwidth_ratio_from_the_physics_of_the_receiver_filter(rng):
    """A filter attenuates the edges of the band; removing the oversampling keeps its flat middle."""
    n, lines = 200, 4000
    frequency = np.abs(np.arange(n) - n // 2) / (n / 2)
    gain = np.clip((1 - frequency) / 0.35, 0.2, 1) ** 0.5
    spectrum = torch.from_numpy(unit_noise(rng, lines, n) * gain.astype(np.float32))
    scan = to_kspace(spectrum, 1)
    middle = to_kspace(spectrum[:, n // 4 : n // 4 + n // 2], 1)
    ratio = float(np.mean(gain**2))
    assert 0.7 < ratio < 0.9
    predicted = bandwidth_factor(5, 5, ratio) * float(scan.abs().square().mean())
    # 400 000 samples: 0.2 %. Multiplying instead of dividing would be wrong by ratio², 35 %.
    assert float(middle.abs().square().mean()) == pytest.approx(predicted, rel=0.01)


def test_bandwidth_ratio_of_a_real_noise_scan(shared):
    """96 readouts of 192 samples: the middle half of the band has 1/0.793 of the mean density."""
    with np.load(shared / "data" / "mroptimum16_phantom_with_noise.npz") as data:
        readouts = torch.from_numpy(data["noise"]).reshape(16, 192, 96).mT
    density = to_image(readouts, 1).abs().square().mean((0, 1))
    # 16 coils × 96 lines × 96 samples: 0.3 %.
    assert float(density.mean() / density[48:144].mean()) == pytest.approx(0.793, abs=0.01)


def test_scaling_agrees_with_whitening_to_unit_variance_per_real_channel(rng):
    """Whitening with W = √(2 T B / T_noise) L⁻¹ gives noise of SD 1 in each real channel: W Ψ Wᴴ = 2 I."""
    scan = NoiseScan(torch.from_numpy(unit_noise(rng, COILS, 500)), "scan", 4.0, 0.8)
    psi = scan.covariance(dwell_us=10.0)
    unscaled = scan.covariance()
    whitening = (2 * 10 * 0.8 / 4) ** 0.5 * torch.linalg.inv(unscaled.factor)
    assert torch.allclose(whitening @ psi.matrix @ whitening.mH, 2 * torch.eye(COILS, dtype=torch.complex128))


@pytest.mark.parametrize(
    ("system", "dwell", "factor", "words"),
    [
        ("", 5, 0.5, "no vendor"),
        ("<systemVendor>ACME</systemVendor>", 5, 0.5 / 0.793, "default, ACME"),
        ("<relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth>", 5, 0.5 / 0.8, "header"),
        ("<systemVendor>ACME</systemVendor>", 0, 1, "samples"),
    ],
)
def test_scaling_by_the_header(tmp_path, rng, system, dwell, factor, words):
    scan = noise_line(rng, dwell=dwell)
    lines = [scan] + [line(unit_noise(rng, COILS, OVERSAMPLED), y, dwell=10) for y in range(NY)]
    psi = read(write(tmp_path / "a.h5", lines, header(system=system))).noise_covariance
    expected = factor * scan.data @ scan.data.conj().T / 400
    assert psi.matrix.numpy() == pytest.approx(expected, rel=1e-5)
    assert words in psi.source


def test_coils_are_matched_by_name(tmp_path, rng):
    scan = noise_line(rng, mixing=np.array([[1, 0, 0], [0.3j, 2, 0], [0.1, 0, 3]]))
    image = [line(unit_noise(rng, COILS, OVERSAMPLED), y) for y in range(NY)]
    noise = write(tmp_path / "n.h5", [scan], header(system=labels("H1", "H2", "H3")))
    data = write(tmp_path / "a.h5", image, header(system=labels("H3", "H1", "H2")))
    psi = read(data, noise=noise).noise_covariance
    order = [2, 0, 1]
    expected = (scan.data @ scan.data.conj().T / 400)[np.ix_(order, order)]
    assert psi.matrix.numpy() == pytest.approx(expected, rel=1e-5)
    assert "n.h5" in psi.source


def test_noise_scan_may_have_more_coils_where_names_tell(tmp_path, rng):
    scan = noise_line(rng)
    image = [line(unit_noise(rng, 2, OVERSAMPLED), y) for y in range(NY)]
    for acq in image:  # the header names all three coils, the channel mask the two in use
        acq.setChannelActive(0)
        acq.setChannelActive(2)
    noise = write(tmp_path / "n.h5", [scan], header(system=labels("A", "B", "C")))
    data = write(tmp_path / "a.h5", image, header(system=labels("A", "B", "C")))
    psi = read(data, noise=noise).noise_covariance
    expected = (scan.data @ scan.data.conj().T / 400)[np.ix_([0, 2], [0, 2])]
    assert psi.matrix.numpy() == pytest.approx(expected, rel=1e-5)


def test_npz_noise_for_an_mrd_file(tmp_path, rng):
    data = write(tmp_path / "a.h5", [line(unit_noise(rng, COILS, OVERSAMPLED), y) for y in range(NY)], header())
    np.savez(tmp_path / "n.npz", noise=unit_noise(rng, COILS, 90))
    assert read(data, noise=tmp_path / "n.npz").noise_covariance.n_samples == 90


# -- errors --------------------------------------------------------------------------------------------------


def bad_files(folder, rng):
    """Each bad file: its name, the lines, the header and words of the error."""

    def lines(*extra, **options):
        return [*extra, noise_line(rng), *(line(unit_noise(rng, COILS, OVERSAMPLED), y, **options) for y in range(NY))]

    nan = np.full((COILS, OVERSAMPLED), np.nan)
    yield "no header", lines(), None, "no MRD header"
    yield "broken header", lines(), "<ismrmrdHeader", "header of .* cannot be used"
    yield "other header", lines(), "<a/>", "header of .* cannot be used"
    yield "matrix 0", lines(), header((1, 0, OVERSAMPLED)), "above zero"
    yield "radial", lines(), header().replace("cartesian", "radial"), "does not say where its samples lie"
    yield "noise only", lines()[:1], header(), "no image lines.*noise="
    yield "row", lines(line(nan, 99)), header(), "phase encodings.*99"
    yield "too long", lines(), header((1, NY, 16)), "does not fit the encoded matrix.*24 samples"
    yield "off centre", lines(centre=2), header(), "does not fit the encoded matrix.*centre at 2"
    yield "NaN", lines(line(nan)), header(), "NaN"
    yield "dwell", lines(line(np.ones((COILS, OVERSAMPLED)), dwell=0)), header(), "dwell time of a part.*1 of 11"
    yield "short noise", [noise_line(rng, n=2), *lines()[1:]], header(), "too few noise samples"
    mad = "<relativeReceiverNoiseBandwidth>-1</relativeReceiverNoiseBandwidth>"
    yield "bandwidth", lines(), header(system=mad), "makes no sense.*-1"


def test_bad_files_are_explained(tmp_path, rng):
    for number, (case, lines, xml, words) in enumerate(bad_files(tmp_path, rng)):
        path = write(tmp_path / f"{number}.h5", lines, xml)
        with pytest.raises(InputError) as caught:
            read(path)
        assert re.search(words, str(caught.value), re.DOTALL), case


def test_missing_and_repeated_labels_are_explained(tmp_path, rng):
    data = [line(unit_noise(rng, COILS, OVERSAMPLED), y) for y in range(NY)]
    noise = write(tmp_path / "n.h5", [noise_line(rng)], header(system=labels("A", "B", "C")))
    for number, names in enumerate([("A", "B", "D"), ("A", "A", "B")]):
        path = write(tmp_path / f"{number}.h5", data, header(system=labels(*names)))
        with pytest.raises(InputError, match="coils of the noise scan do not match"):
            read(path, noise=noise)
    with pytest.raises(InputError, match="holds no image lines"):
        read(noise, noise=path)


def test_damaged_files_are_explained(tmp_path, rng):
    path = write(tmp_path / "a.h5", [line(unit_noise(rng, COILS, OVERSAMPLED), y) for y in range(NY)], header())
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"cannot read cut\.h5"):
        read(tmp_path / "cut.h5")
    with h5py.File(path, "r+") as file:
        record = file["dataset/data"][3]
        record["head"]["number_of_samples"] = 7
        file["dataset/data"][3] = record
    with pytest.raises(InputError, match=r"line 3 of a\.h5 is damaged"):
        read(path)
    with h5py.File(tmp_path / "o.h5", "w") as file:
        file["dataset/data"] = [1.0, 2.0]
    with pytest.raises(InputError, match="does not hold MRD acquisitions"):
        read(tmp_path / "o.h5")


# -- files of the ISMRMRD generator --------------------------------------------------------------------------

GENERATOR = shutil.which("ismrmrd_generate_cartesian_shepp_logan")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Function that writes a phantom file and gives the acquisition and the noiseless coil images."""
    if GENERATOR is None:
        pytest.skip("the generator of ismrmrd-tools is not installed")
    folder = tmp_path_factory.mktemp("generated")

    def make(*options):
        path = folder / f"{'_'.join(options)}.h5"
        subprocess.run([GENERATOR, *options, "-o", str(path)], check=True, capture_output=True)
        with h5py.File(path) as file:
            arrays = {n: file[f"dataset/{n}"][0] for n in ("phantom", "csm")}
        arrays = {n: a["real"] + 1j * a["imag"] for n, a in arrays.items()}
        return SimpleNamespace(acq=read(path), coil_images=arrays["phantom"] * arrays["csm"], path=path)

    return make


def test_generated_phantom_is_that_of_the_generator(generated):
    file = generated("-m", "48", "-c", "3", "-n", "0.000001")
    image = to_image(file.acq.kspace).numpy()
    # Left and right, up and down and the diagonal differ in this phantom.
    assert image.shape == (3, 48, 48)
    assert np.linalg.norm(image - file.coil_images) < 1e-4 * np.linalg.norm(file.coil_images)
    assert file.acq.geometry.voxel_size == pytest.approx((6, 300 / 48, 300 / 48))


def test_psi_of_the_generated_noise_scan_is_the_noise_in_k_space(generated):
    file = generated("-m", "128", "-c", "8", "-n", "0.05", "-C", "-O", "2")
    psi = file.acq.noise_covariance
    assert psi.n_samples == 256
    clean = to_kspace(torch.from_numpy(file.coil_images).to(torch.complex64))
    noise = (file.acq.kspace - clean).reshape(8, -1)
    measured = float(noise.abs().square().mean())
    # 8 × 16384 samples: 0.3 %. The generator draws 0.05 per real channel.
    assert measured == pytest.approx(2 * 0.05**2, rel=0.015)
    # 8 × 256 samples of the scan: 2.2 %. One of the two channels alone would be 50 % low.
    assert psi.mean_variance == pytest.approx(measured, rel=0.11)
    assert psi.largest_correlation < 5 / 256**0.5


def test_acceleration_and_calibration_lines_of_the_generator(generated):
    file = generated("-m", "64", "-c", "4", "-a", "4", "-w", "16", "-r", "1", "-C")
    acq = file.acq
    assert acq.batch_shape == (4,)  # the generator shifts the lines from repetition to repetition
    for repetition in range(4):
        rows = acq.mask[repetition].all(-1).nonzero().flatten().tolist()
        # Calibration lines off the grid only calibrate.
        assert rows == list(range(repetition, 64, 4))
    assert acq.acceleration == 4
    # They are kept aside, whole, as the source of coil maps; their noise is an average over repetitions.
    calibrated = (acq.calibration[0] != 0).any(0).all(-1).nonzero().flatten().tolist()
    assert calibrated == list(range(24, 40))
    clean = to_kspace(torch.from_numpy(file.coil_images).to(torch.complex64))
    deviation = (acq.calibration[0] - clean)[:, 24:40]
    assert float(deviation.abs().square().mean()) <= 1.3 * 2 * 0.05**2


def test_coil_maps_come_from_the_calibration_lines(generated):
    file = generated("-m", "64", "-c", "4", "-a", "2", "-w", "24", "-r", "1", "-C", "-n", "0.01")
    acq = with_coil_maps(file.acq)
    x = CgSense(1e-3).bind(acq)(acq.kspace)
    # Both interleaved halves unfold to the same image; without unfolding they differ by their aliases.
    assert float((x[0] - x[1]).norm() / x[0].norm()) < 0.1
    aliased = ZeroFilled().bind(acq)(acq.kspace)
    assert float((aliased[0] - aliased[1]).norm() / aliased[0].norm()) > 0.3


def test_estimate_from_generated_k_space_agrees_with_its_noise(generated):
    acq = generated("-m", "128", "-c", "8", "-n", "0.05").acq
    assert "image background" in acq.noise_covariance.source
    # 8 coils × some 1000 samples: 1 %.
    assert acq.noise_covariance.mean_variance == pytest.approx(2 * 0.05**2, rel=0.05)
