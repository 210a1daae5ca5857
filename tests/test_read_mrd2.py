"""Streams of MRD version 2, written with mrd-python: the same scan in both versions gives the same acquisition."""

import subprocess
import sys

import ismrmrd
import numpy as np
import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.io.scans.scan_file import read
from test_read_mrd import COILS, NX, NY, OVERSAMPLED, header, labels, line, noise_line, oversampled, unit_noise, write

mrd = pytest.importorskip("mrd")


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def space(z, y, x, fov):
    size = mrd.FieldOfViewMm(x=fov[2], y=fov[1], z=fov[0])
    return mrd.EncodingSpaceType(matrix_size=mrd.MatrixSizeType(x=x, y=y, z=z), field_of_view_mm=size)


def header2(trajectory="CARTESIAN"):
    """That of `header` with vendor, bandwidth and coil names."""
    limit = mrd.LimitType(minimum=0, maximum=NY - 1, center=NY // 2 - 1)
    coils = [mrd.CoilLabelType(coil_number=i, coil_name=name) for i, name in enumerate(("A<1", "B", "C"))]
    return mrd.Header(
        experimental_conditions=mrd.ExperimentalConditionsType(h1resonance_frequency_hz=63500000),
        acquisition_system_information=mrd.AcquisitionSystemInformationType(
            system_vendor="V & Co", relative_receiver_noise_bandwidth=0.75, receiver_channels=COILS, coil_label=coils
        ),
        encoding=[
            mrd.EncodingType(
                encoded_space=space(1, NY, OVERSAMPLED, (5, 100, 240)),
                recon_space=space(1, NY, NX, (5, 100, 120)),
                encoding_limits=mrd.EncodingLimitsType(kspace_encoding_step_1=limit),
                trajectory=mrd.Trajectory[trajectory],
            )
        ],
    )


def line2(old):
    """An acquisition of version 1 in version 2."""
    head = old.getHead()
    idx = mrd.EncodingCounters(
        kspace_encode_step_1=head.idx.kspace_encode_step_1,
        slice=head.idx.slice or None,
        repetition=head.idx.repetition or None,
    )
    new = mrd.AcquisitionHeader(
        flags=mrd.AcquisitionFlags(head.flags),
        idx=idx,
        center_sample=head.center_sample,
        encoding_space_ref=0,
        sample_time_us=head.sample_time_us,
        **{name: np.array(getattr(head, name)[:], np.float32) for name in ("position", "read_dir", "phase_dir")},
        slice_dir=np.array(head.slice_dir[:], np.float32),
    )
    return mrd.Acquisition(head=new, data=old.data.copy())


def stream(path, lines, top, others=()):
    with mrd.BinaryMrdWriter(str(path)) as file:
        file.write_header(top)
        file.write_data([*(mrd.StreamItem.Acquisition(line2(old)) for old in lines), *others])
    return path


def scan(rng):
    """Two slices and two frames of which the second is undersampled, a reversed line, noise lines of another dwell."""
    k = oversampled(unit_noise(rng, 2, 2, COILS, NY, NX))
    lines = [noise_line(rng, dwell=4.0), noise_line(rng, dwell=4.0)]
    for frame, slice_, y in np.ndindex(2, 2, NY - 1):
        if frame and y % 2:
            continue
        values = k[frame, slice_, :, y]
        reverse, centre = y == 4, OVERSAMPLED // 2
        if reverse:  # of an odd number, whose middle is the middle either way
            values, centre = values[:, :0:-1], centre - 1
        flags = (ismrmrd.ACQ_IS_REVERSE,) if reverse else ()
        where = {"position": (0, 0, 6 * slice_), "directions": np.eye(3)}
        lines.append(line(values, y, flags=flags, centre=centre, repetition=frame, slice=slice_, **where))
    return lines


def header1():
    limits = f"<kspace_encoding_step_1><minimum>0</minimum><maximum>{NY - 1}</maximum><center>{NY // 2 - 1}</center>"
    system = (
        "<systemVendor>V &amp; Co</systemVendor><relativeReceiverNoiseBandwidth>0.75</relativeReceiverNoiseBandwidth>"
    )
    system += f"<receiverChannels>{COILS}</receiverChannels>" + labels("A&lt;1", "B", "C")
    return header(limits=limits + "</kspace_encoding_step_1>", system=system)


def test_both_versions_give_the_same_acquisition(tmp_path, rng):
    lines = scan(rng)
    old = read(write(tmp_path / "old.h5", lines, header1()))
    new = read(stream(tmp_path / "new.mrd", lines, header2()))
    assert old.axes == new.axes == ("frame", "slice") and new.source == "new.mrd (MRD v2)"
    assert torch.equal(old.kspace, new.kspace) and torch.equal(old.mask, new.mask)
    assert torch.equal(old.noise_covariance.matrix, new.noise_covariance.matrix)
    assert "0.75" in new.noise_covariance.source and new.noise_covariance.n_samples == 800
    assert old.geometry.voxel_size == new.geometry.voxel_size
    assert np.array_equal(old.geometry.affine, new.geometry.affine)


def test_a_stream_as_noise_scan_and_what_is_left_out(tmp_path, rng):
    lines = scan(rng)
    picture = mrd.Image(
        data=np.zeros((1, 1, 4, 4), np.float32), head=mrd.ImageHeader(image_type=mrd.ImageType.MAGNITUDE)
    )
    path = stream(tmp_path / "a.mrd", lines, header2(), [mrd.StreamItem.ImageFloat(picture)])
    found = read(path, noise=path)
    assert "1 images and waveforms" in found.notes[-1]
    silent = stream(tmp_path / "b.mrd", lines[2:], header2())
    assert torch.equal(read(silent, noise=path).noise_covariance.matrix, found.noise_covariance.matrix)
    assert any("is flagged as noise: its" in note for note in read(path, noise=silent).notes)


def test_streams_that_are_refused(tmp_path, rng):
    lines = scan(rng)
    good = stream(tmp_path / "a.mrd", lines, header2())
    data = good.read_bytes()
    (tmp_path / "cut.mrd").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot read cut.mrd"):
        read(tmp_path / "cut.mrd")
    # Another version declares other records.
    (tmp_path / "other.mrd").write_bytes(data.replace(b"encodingSpaceRef", b"encodingSpaceRe2", 1))
    with pytest.raises(InputError, match=r"Invalid schema.*Install the mrd-python that wrote the stream"):
        read(tmp_path / "other.mrd")
    # The schema, a text, declares a million bytes, more than the file has.
    (tmp_path / "long.mrd").write_bytes(data[:9] + b"\xc0\x84\x3d" + data[9:])
    with pytest.raises(InputError, match="cannot read long.mrd.*a value of 1000000 bytes"):
        read(tmp_path / "long.mrd")
    named = header2()
    named.acquisition_system_information.system_model = "a\0b"
    with pytest.raises(InputError, match="cannot read zero.mrd: expected a header and lines that HDF5 can hold"):
        read(stream(tmp_path / "zero.mrd", lines, named))
    with pytest.raises(InputError, match="not readouts of one trajectory"):
        read(stream(tmp_path / "s.mrd", lines, header2("SPIRAL")))
    for name, some, top in (("n.mrd", [], header2()), ("h.mrd", lines, None)):
        with pytest.raises(InputError, match="holds no raw data"):
            read(stream(tmp_path / name, some, top))


def test_without_mrd_python_the_extra_is_named(tmp_path, rng):
    path = stream(tmp_path / "a.mrd", scan(rng), header2())
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'mrd' else find(name, *more)\n"
        "from mrnoise.cli.main import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", code, "info", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "pip install 'mrnoise[mrd2]'" in done.stderr, done.stderr
