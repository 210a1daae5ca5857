"""Files that are damaged, lie about themselves or hold something else: one clear error each.

Every file is made here. `benchmarks/fuzz.py` looks for more of the kind.
"""

import logging
import struct
import subprocess
import sys
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from mrnoise import read_noise_map, save
from mrnoise.acquisition.geometry import Geometry
from mrnoise.acquisition.image_grid import ImageGrid
from mrnoise.checks import check_count, check_memory, check_seed
from mrnoise.errors import InputError
from mrnoise.files.heaps import check_heaps
from mrnoise.files.opening import attribute, get, reading
from mrnoise.files.record import to_json
from mrnoise.io import read_mask
from mrnoise.io.scans.mrd_header import parse_header
from mrnoise.io.scans.scan_file import read
from small_maps import small_map
from test_read_mrd import COILS, NY, OVERSAMPLED, header, line, noise_line, unit_noise, write

HUGE = 2**40
SCAN = {"fastmri": "kspace", "mrd": "dataset/data", "map": "estimate/variance"}


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def arrays(rng):
    return {"kspace": unit_noise(rng, COILS, 32, 40) + 1, "noise": unit_noise(rng, COILS, 500)}


def mrd(path, rng, xml=None, **options):
    lines = [noise_line(rng), *(line(unit_noise(rng, COILS, OVERSAMPLED), y, **options) for y in range(NY))]
    return write(path, lines, header() if xml is None else xml)


def bart(path, kspace, more=""):
    shape = [*kspace.T.shape[:2], 1, COILS]
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, shape))}{more}\n")
    kspace.tofile(path)
    return path


def mask_reader(path):
    return read_mask(path, ImageGrid((6, 8), 2, (), Geometry()))


def whole(kind, path, rng):
    """A file without fault, and its reader."""
    if kind == "npz":
        np.savez(path.with_suffix(".npz"), **arrays(rng))
        return path.with_suffix(".npz"), read
    if kind == "packed":
        np.savez_compressed(path.with_suffix(".npz"), **arrays(rng))
        return path.with_suffix(".npz"), read
    if kind == "fastmri":
        with h5py.File(path, "w") as file:
            file["kspace"], file["noise"] = arrays(rng)["kspace"][None], arrays(rng)["noise"]
        return path, read
    if kind == "mrd":
        return mrd(path, rng), read
    if kind in ("mat", "packed.mat"):
        scipy.io.savemat(path.with_suffix(".mat"), arrays(rng), do_compression=kind == "packed.mat")
        return path.with_suffix(".mat"), lambda path: read(path, axes="coil,ky,kx")
    if kind == "cfl":
        return bart(path.with_suffix(".cfl"), arrays(rng)["kspace"]), read
    if kind == "map":
        save(small_map(), path)
        return path, read_noise_map
    mask = np.zeros((8, 6), np.uint8)
    mask[2:4, 3:5] = 1
    if kind == "npy":
        np.save(path.with_suffix(".npy"), mask)
        return path.with_suffix(".npy"), mask_reader
    import nibabel

    nibabel.Nifti1Image(mask, np.eye(4)).to_filename(path.with_suffix(f".{kind}"))
    return path.with_suffix(f".{kind}"), mask_reader


def refused(reader, path):
    """One `InputError` with all its parts, that names the file; no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            reader(path)
    error = caught.value
    assert all((error.expected, error.received, error.remedy))
    return str(error)


# -- bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["npz", "packed", "fastmri", "mrd", "mat", "packed.mat", "cfl", "map", "npy", "nii", "nii.gz"]
)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_files_that_were_cut_off(tmp_path, rng, kind, part):
    path, reader = whole(kind, tmp_path / "a.h5", rng)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert path.name in refused(reader, path)


@pytest.mark.parametrize("kind", ["fastmri", "mrd", "map"])
def test_hdf5_whose_groups_are_broken(tmp_path, rng, kind):
    """Found only when a group is listed, long after the file was opened."""
    path, reader = whole(kind, tmp_path / "a.h5", rng)
    data = path.read_bytes()
    for mark in (b"SNOD", b"TREE", b"HEAP"):
        if mark in data:
            path.write_bytes(data.replace(mark, b"XXXX"))
            refused(reader, path)


def test_packed_numbers_that_cannot_be_unpacked(tmp_path, rng):
    """`zlib.error` is none of the exceptions that a zip file is said to raise."""
    path, reader = whole("packed", tmp_path / "a.h5", rng)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("kspace.npy")
        start = entry.header_offset + 30 + len(entry.filename) + 40
    data = bytearray(path.read_bytes())
    data[start : start + 500] = b"\xff" * 500
    path.write_bytes(bytes(data))
    assert "cannot read a.npz" in refused(reader, path)


@pytest.mark.parametrize(("field", "value"), [(8, 1), (10, 97)])
def test_zip_entries_that_are_encrypted_or_packed_by_nobody_knows_what(tmp_path, rng, field, value):
    path, reader = whole("npz", tmp_path / "a.h5", rng)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + field : at + field + 2] = value.to_bytes(2, "little")
        at = data.find(b"PK\x01\x02", at + 4)
    path.write_bytes(bytes(data))
    refused(reader, path)


def collection(objects, size=256):
    """A global heap collection: (index, bytes) of each object, then what is left."""
    body = b"".join(
        struct.pack("<HHIQ", index, 1, 0, len(data)) + data + bytes(-len(data) % 8) for index, data in objects
    )
    free = size - 16 - len(body)
    return b"GCOL\1\0\0\0" + struct.pack("<Q", size) + body + struct.pack("<HHIQ", 0, 0, 0, free) + bytes(free - 16)


def test_heaps_that_end_in_zeros_or_ones_are_found(tmp_path):
    """These bytes are no HDF5 file."""
    path = tmp_path / "a.h5"
    good = collection([(1, b"text"), (2, b"12345678"), (3, b"")])
    path.write_bytes(bytes(100) + good + good + b"GCOL")
    check_heaps(path)
    path.write_bytes(bytes(100) + good + good[:40] + bytes(216))
    assert "an object of 0 bytes at byte 396" in refused(check_heaps, path)
    path.write_bytes(bytes(100) + good + good[:40] + b"\xff" * 216)
    assert f"an object of {2**64 - 1} bytes at byte 396" in refused(check_heaps, path)
    path.write_bytes(b"")
    check_heaps(path)


@pytest.mark.parametrize("before", [2**12 - 4, 2**12 + 100, 2**22 - 6, 2**22 + 2**20 - 3])
def test_heaps_are_found_behind_anything(before, tmp_path):
    """Also where their signature lies across blocks that are read, behind a collection that is itself broken."""
    path = tmp_path / "a.h5"
    good, large = collection([(1, b"text")]), collection([(1, bytes(9000))], 2**14)
    zeros = good[:40] + bytes(216)
    for start in (bytes(before), bytes(before) + large, large + bytes(before), b"GCOL\1\0\0\0" + bytes(before)):
        path.write_bytes(start + good)
        check_heaps(path)
        path.write_bytes(start + zeros)
        assert f"an object of 0 bytes at byte {len(start) + 40}" in refused(check_heaps, path)


# -- structure -------------------------------------------------------------------------------------------------


def test_lists_of_an_unknown_kind(tmp_path, rng):
    """Told from the type; the dataset is empty."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("xml", (0,), h5py.vlen_dtype(np.uint8))
        file.attrs.create("axes", np.zeros(0, object), dtype=h5py.vlen_dtype(np.uint8))
    data = path.read_bytes()
    kind = b"\x19\0\0\0\x10\0\0\0\x10\0\0\0\x01\0\0\0"  # class 9, version 1; kind 0; 16 bytes; of bytes
    assert data.count(kind) == 2
    path.write_bytes(data.replace(kind, b"\x19\x06" + kind[2:]))
    with h5py.File(path) as file:
        for found in (get, attribute):
            with pytest.raises(InputError, match="(xml|axes) is a list of an unknown kind"):
                found(file, "xml" if found is get else "axes")


def replaced(file, name, how):
    """Something else under the name of a dataset."""
    del file[name]
    if how == "group":
        file.create_group(name)
    elif how == "nowhere":
        file[name] = h5py.SoftLink("/nowhere")
    elif how == "circle":
        file[name] = h5py.SoftLink(f"/{name}")
    elif how == "other file":
        file[name] = h5py.ExternalLink("nowhere.h5", "/kspace")
    elif how == "no space":
        file[name] = h5py.Empty("c8")
    elif how == "text":
        file[name] = "text"
    elif how == "empty":
        file[name] = np.zeros((0, 3, 4, 5), np.complex64)
    elif how == "list":
        file.create_dataset(name, (3,), dtype=h5py.vlen_dtype(np.float32))
    elif how == "huge":
        file.create_dataset(name, (10**4, 8, 10**4, 10**3), "c8", chunks=(1, 1, 8, 8))


@pytest.mark.parametrize("kind", list(SCAN))
@pytest.mark.parametrize(
    "how", ["gone", "group", "nowhere", "circle", "other file", "no space", "text", "empty", "list", "huge"]
)
def test_hdf5_with_something_else_in_the_place_of_data(tmp_path, rng, kind, how):
    path, reader = whole(kind, tmp_path / "a.h5", rng)
    with h5py.File(path, "r+") as file:
        replaced(file, SCAN[kind], how)
    message = refused(reader, path)
    if how == "huge":
        assert "declares more than its file can hold" in message


@pytest.mark.parametrize("name", ["mask", "noise", "ismrmrd_header"])
@pytest.mark.parametrize("how", ["no space", "huge", "list", "nowhere", "circle", "other file"])
def test_hdf5_with_something_else_beside_the_data(tmp_path, rng, name, how):
    path, reader = whole("fastmri", tmp_path / "a.h5", rng)
    with h5py.File(path, "r+") as file:
        file.require_group("/").attrs["a"] = 1
        if name not in file:
            file[name] = 0
        replaced(file, name, how)
    if (name, how) != ("ismrmrd_header", "no space"):
        refused(reader, path)


@pytest.mark.parametrize("shape", [(HUGE, 2, 2), (10**6, 10**6), (COILS, 32, 400), (2**62, 2**62)])
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_npz_that_declares_more_than_it_holds(tmp_path, rng, shape, packing):
    path = tmp_path / "a.npz"
    head = f"{{'descr': '<c8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("kspace.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(640))
    assert "declares more than its entry holds" in refused(read, path)


@pytest.mark.parametrize("name", ["kspace", "noise", "mask", "coil_maps", "voxel_size", "spatial_dims"])
@pytest.mark.parametrize(
    "other",
    [
        np.zeros(3, [("a", "f8"), ("b", "i2")]),
        np.array(["text"]),
        np.array([b"text"]),
        np.zeros(3, "M8[s]"),
        np.zeros(3, "V5"),
        np.array([None, 1]),
        np.zeros((0, 4)),
        np.zeros((3, 0, 4), np.complex64),
        np.array(np.nan),
    ],
    ids=lambda array: f"{array.dtype.kind}{array.shape}",
)
def test_npz_with_arrays_of_another_kind(tmp_path, rng, name, other):
    np.savez(tmp_path / "a.npz", **arrays(rng) | {name: other})
    if name != "mask" or other.dtype.kind != "f" or other.ndim:
        refused(read, tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("density", np.ones(400, np.complex64)),
        ("density", np.full(400, np.inf)),
        ("density", np.ones(0)),
        ("image_shape", np.array([[32, 40]])),
        ("image_shape", np.array([32, -40])),
        ("image_shape", np.array([32.0, np.nan])),
        ("trajectory", np.full((2, 400), np.nan)),
        ("trajectory", np.zeros((2, 0))),
        ("trajectory", np.zeros((2, 400), np.complex64)),
    ],
)
def test_npz_with_a_trajectory_that_is_none(tmp_path, rng, name, other):
    given = {"kspace": unit_noise(rng, COILS, 400), "noise": unit_noise(rng, COILS, 500), "density": np.ones(400)}
    given |= {"trajectory": rng.uniform(-8, 8, (2, 400)), "image_shape": np.array([32, 40])}
    np.savez(tmp_path / "a.npz", **given)
    assert read(tmp_path / "a.npz").spatial_shape == (32, 40)
    np.savez(tmp_path / "b.npz", **given | {name: other})
    refused(read, tmp_path / "b.npz")


def test_extended_precision_is_read_as_double(tmp_path, rng):
    given = arrays(rng)
    np.savez(tmp_path / "a.npz", **given, voxel_size=np.array([5, 1, 2], np.longdouble), mask=np.ones((32, 40), "g"))
    scan = read(tmp_path / "a.npz")
    assert scan.geometry.voxel_size == (5, 1, 2) and bool(scan.mask.all())
    np.savez(tmp_path / "b.npz", **{name: array.astype(np.clongdouble) for name, array in given.items()})
    assert read(tmp_path / "b.npz").kspace.dtype == torch.complex128
    save(small_map(), tmp_path / "map.h5")
    with h5py.File(tmp_path / "map.h5", "r+") as file:
        file.attrs["acceleration"] = np.longdouble(2)
    nm = read_noise_map(tmp_path / "map.h5")
    assert (
        nm.acceleration == 2 and to_json({"a": nm.acceleration, "b": np.longdouble("nan")}) == '{"a": 2.0, "b": null}'
    )


@pytest.mark.parametrize(
    ("kspace", "mask", "words"),
    [
        ((3, 32, 40), (40, 32), "sampling mask has the wrong shape"),
        ((3, 32, 40), (2, 32, 40), "sampling mask has the wrong shape"),
        ((3, 0, 40), (32, 40), "k-space has the wrong shape"),
        ((0, 32, 40), (32, 40), "sampling mask is empty"),
    ],
)
def test_averages_with_a_mask_that_does_not_fit(tmp_path, kspace, mask, words):
    np.savez(tmp_path / "a.npz", kspace=np.ones(kspace, complex), mask=np.ones(mask))
    assert words in refused(lambda path: read(path, axes="average,ky,kx"), tmp_path / "a.npz")


@pytest.mark.parametrize("axis", range(4))
def test_fastmri_without_samples(tmp_path, axis):
    shape = [2, 3, 32, 40]
    shape[axis] = 0
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"], file["ismrmrd_header"] = np.zeros(shape, np.complex64), header()
    assert "k-space" in refused(read, tmp_path / "a.h5")


def test_noise_that_is_infinite_is_no_spike(tmp_path, rng):
    given = arrays(rng)
    given["noise"][1, 7] = np.inf
    np.savez(tmp_path / "a.npz", **given)
    assert "noise samples contain NaN or infinite" in refused(read, tmp_path / "a.npz")


@pytest.mark.parametrize("more", [" -1", " 0", " 2", " 1.5", " x", " 1" * 13, " " + "9" * 20, (" " + "9" * 20) * 12])
def test_bart_with_other_dimensions(tmp_path, rng, more):
    """Of many, the size is no float, and there is no array of more than 64."""
    refused(read, bart(tmp_path / "a.cfl", arrays(rng)["kspace"], more))


# -- MRD -------------------------------------------------------------------------------------------------------


def relabelled(path, change):
    """The lines with another record."""
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        head = lines.dtype["head"]
        fields = change({name: head[name] for name in head.names})
        record = np.dtype([("head", list(fields.items())), *((name, lines.dtype[name]) for name in ("traj", "data"))])
        found = np.zeros(len(lines), record)
        for name in fields:
            if fields[name] == head[name]:
                found["head"][name] = lines["head"][name]
        found["traj"], found["data"] = lines["traj"], lines["data"]
        del file["dataset/data"]
        vlen = h5py.vlen_dtype(np.float32)
        stored = np.dtype([("head", record["head"]), ("traj", vlen), ("data", vlen)])
        file.create_dataset("dataset/data", data=found.astype(stored))


NEEDED = ("flags", "active_channels", "number_of_samples", "center_sample", "discard_pre", "position", "channel_mask")


@pytest.mark.parametrize("field", [*NEEDED, "sample_time_us", "slice_dir", "encoding_space_ref", "idx"])
@pytest.mark.parametrize("how", ["missing", "another type", "an array"])
def test_mrd_lines_whose_record_is_another(tmp_path, rng, field, how):
    def change(fields):
        kept = {name: dtype for name, dtype in fields.items() if name != field}
        other = {"missing": {}, "another type": {field: np.dtype("S4")}, "an array": {field: np.dtype(("u2", (2, 2)))}}
        return kept | other[how]

    path = mrd(tmp_path / "a.h5", rng)
    relabelled(path, change)
    message = refused(read, path)
    assert "are not those of MRD" in message and (field == "idx" or f"field {field}" in message)


@pytest.mark.parametrize("counter", ["kspace_encode_step_1", "slice", "repetition", "set"])
def test_mrd_lines_without_a_counter(tmp_path, rng, counter):
    def change(fields):
        idx = fields["idx"]
        return fields | {"idx": np.dtype([(name, idx[name]) for name in idx.names if name != counter])}

    path = mrd(tmp_path / "a.h5", rng)
    relabelled(path, change)
    assert f"field {counter}" in refused(read, path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["sample_time_us", "position", "slice_dir"])
def test_mrd_lines_with_numbers_that_are_none(tmp_path, rng, field, value):
    path = mrd(tmp_path / "a.h5", rng, directions=np.eye(3))
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        lines["head"][field] = value
        file["dataset/data"][...] = lines
    assert "is no number" in refused(read, path)


def test_mrd_lines_of_zeros(tmp_path, rng):
    """Blocks that were never written: no channel, no sample."""
    path = mrd(tmp_path / "a.h5", rng)
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        lines["head"] = np.zeros(len(lines), lines["head"].dtype)
        lines["data"] = [np.zeros(0, np.float32)] * len(lines)
        file["dataset/data"][...] = lines
    assert "hold no channel" in refused(read, path)


@pytest.mark.parametrize("number", [0, 9])
def test_mrd_lines_of_which_everything_is_discarded(tmp_path, rng, number):
    """Line 0 is one of noise."""
    path = mrd(tmp_path / "a.h5", rng)
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        lines["head"]["discard_pre"][number] = lines["head"]["number_of_samples"][number] - 3
        lines["head"]["discard_post"][number] = 3
        file["dataset/data"][...] = lines
    assert f"line {number} of a.h5 has no samples" in refused(read, path)


def test_mrd_lines_without_samples_that_say_they_have_coordinates(tmp_path, rng):
    path = mrd(tmp_path / "a.h5", rng)
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        lines["head"]["number_of_samples"][9], lines["head"]["trajectory_dimensions"][9] = 0, 2
        lines["data"][9] = np.zeros(0, np.float32)
        file["dataset/data"][...] = lines
    assert "line 9 of a.h5 has no samples" in refused(read, path)


def test_mrd_lines_whose_energy_is_beyond_single_precision(tmp_path, rng):
    lines = [noise_line(rng), *(line(1e25 * unit_noise(rng, COILS, OVERSAMPLED), y) for y in range(NY))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan = read(write(tmp_path / "a.h5", lines, header()))
    assert torch.isfinite(scan.kspace.abs()).all()


LIMITS = "<kspace_encoding_step_1><minimum>0</minimum><maximum>9</maximum><center>{}</center></kspace_encoding_step_1>"
SYSTEM = "<relativeReceiverNoiseBandwidth>{}</relativeReceiverNoiseBandwidth>"


@pytest.mark.parametrize("number", ["INF", "-INF", "NaN", "x", "", "9" * 30, "1e400"])
@pytest.mark.parametrize("place", ["matrix", "field of view", "centre", "bandwidth"])
def test_headers_with_numbers_that_are_none(tmp_path, rng, place, number):
    made = {
        "matrix": lambda: header(shape=(1, NY, number)),
        "field of view": lambda: header(fov=(5, 100, number)),
        "centre": lambda: header(limits=LIMITS.format(number)),
        "bandwidth": lambda: header(system=SYSTEM.format(number)),
    }
    path = mrd(tmp_path / "a.h5", rng, made[place]())
    if number == "" and place in ("centre", "bandwidth"):  # not given
        read(path)
    else:
        refused(read, path)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (header(shape=(1, NY, 10**9)), "too large for this computer"),
        (header(shape=(1, NY, 10**5)), "the encoded matrix of a.h5 does not fit its lines"),
        (header(shape=(1, 10**9, OVERSAMPLED)), "too large for this computer"),
        (header(shape=(1, NY, -4)), "matrix size"),
        (header(shape=(1, NY, 0)), "matrix size"),
        (header(recon_x=(12, 1)), "no voxel along the readout"),
        (header().replace("encodedSpace", "codedSpace"), "header of a.h5 cannot be used"),
    ],
)
def test_headers_that_cannot_be_meant(tmp_path, rng, xml, words):
    assert words in refused(read, mrd(tmp_path / "a.h5", rng, xml))


# -- maps and masks --------------------------------------------------------------------------------------------

WRONG = {
    "estimate": {
        "n_samples": [np.nan, np.inf, -1, "many"],
        "n_products": [-np.inf, -3],
        "method": [np.nan, ""],
        "interrupted": [10, "no"],
    },
    "geometry": {"voxel_size": [np.nan, [np.nan] * 3, [1, -1, 1], "small", [1, 2]], "measured": [2 + 1j, -1, np.inf]},
    "estimate/error": {"kind": ["Unheard", 3, h5py.Empty("f8")]},
    "/": {
        "spatial_dims": [np.nan, np.inf, 0, 4, 2 + 1j],
        "acceleration": [np.nan, np.inf, 0, -1, "fast"],
        "axes": [["slice", "frame"]],
        "format_version": [99, 0, -np.inf, "new"],
    },
}


@pytest.mark.parametrize(
    ("group", "name", "value"), [(g, n, v) for g, names in WRONG.items() for n, values in names.items() for v in values]
)
def test_maps_with_attributes_that_cannot_be(tmp_path, group, name, value):
    path = tmp_path / "a.h5"
    save(small_map(), path)
    with h5py.File(path, "r+") as file:
        file[group].attrs[name] = value
    assert str(path) in refused(read_noise_map, path)


@pytest.mark.parametrize("name", ["image", "estimate/variance", "estimate/pseudo_variance", "reference_std"])
@pytest.mark.parametrize("other", [np.zeros((5, 22)), np.zeros((5, 17, 22)), np.zeros((5, 22, 17), np.uint8)])
def test_maps_whose_parts_do_not_fit(tmp_path, name, other):
    path = tmp_path / "a.h5"
    save(small_map(), path)
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = other
    refused(read_noise_map, path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "null", b"\xff\xfe"])
def test_maps_whose_record_is_none(tmp_path, text):
    path = tmp_path / "a.h5"
    save(small_map(), path)
    with h5py.File(path, "r+") as file:
        del file["provenance"]
        file["provenance"] = text
    refused(read_noise_map, path)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros(4, [("a", "f8")]),
        np.zeros(4, "V3"),
        np.array(["a"]),
        np.array([[1, np.nan]]),
        np.array([[np.inf, 0]]),
        np.zeros((6, 0)),
    ],
    ids=lambda mask: mask.dtype.kind + str(mask.shape),
)
def test_masks_of_another_kind(tmp_path, mask):
    np.save(tmp_path / "a.npy", mask)
    assert "the mask" in refused(mask_reader, tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("sizeof_hdr", 0, struct.pack("<i", 340)),
        ("bitpix", 72, struct.pack("<h", 16)),
        ("vox_offset", 108, bytes(4)),
        ("qform_code", 252, struct.pack("<h", 99)),
        ("sform_code", 254, struct.pack("<h", 99)),
    ],
)
def test_nifti_whose_header_contradicts_itself(tmp_path, rng, capfd, name, place, value):
    """nibabel corrects it, or takes the header for data; the type alone does not say that it is another."""
    path, reader = whole("nii", tmp_path / "a.h5", rng)
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    path.write_bytes(bytes(data))
    assert f"a header with {name}" in refused(reader, path)
    assert not capfd.readouterr().err


# -- the door, and checks of numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("a"), MemoryError(), zipfile.BadZipFile("b"), ValueError("a\nb"), OSError(5)]
)
def test_whatever_a_library_raises_is_one_error_of_one_line(tmp_path, error):
    path = tmp_path / "a.h5"
    path.write_bytes(b"1234")
    with pytest.raises(InputError, match="cannot read a.h5: expected a file; received .*4 bytes") as caught:  # noqa: SIM117
        with reading(path, "a file"):
            raise error
    assert caught.value.__cause__ is error and "\n" not in str(caught.value)


def test_the_door_lets_input_errors_and_interruptions_pass(tmp_path):
    for error in (InputError("a", expected="b", received="c", remedy="d"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, reading(tmp_path / "a", "a file"):
            raise error
        assert caught.value is error


def test_libraries_log_nothing_within_the_door(tmp_path, caplog):
    log = logging.getLogger("library")
    with reading(tmp_path / "a", "a file"):
        log.critical("within")
    log.warning("behind")
    assert caplog.messages == ["behind"]


def test_seeds_counts_and_sizes():
    for seed in (-1, 1.0, "1", None, np.nan):
        with pytest.raises(InputError, match="invalid seed"):
            check_seed(seed)
    check_seed(np.int64(3))
    check_seed(2**40)
    for count in (0, -1, 2**31, 1.5, np.nan):
        with pytest.raises(InputError, match="invalid number of coils"):
            check_count(count, "number of coils")
    check_count(np.int64(1), "number of coils")
    check_memory(1, "a byte")
    with pytest.raises(InputError, match="k-space is too large .* received 9.31e\\+08 GiB"):
        check_memory(1e18, "k-space")


# -- warnings --------------------------------------------------------------------------------------------------


def test_a_header_with_odd_values_is_read_in_silence(tmp_path):
    """xsdata warned of each, with the path of its own source."""
    xml = header().replace("63500000", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_header(xml.encode(), tmp_path / "a.h5").encoding


def test_reading_mrd_shows_no_more_warnings_than_before(tmp_path, rng):
    """Importing part of ismrmrd has Python show every warning, and torch's of its own future came to the terminal."""
    mrd(tmp_path / "a.h5", rng)
    code = (
        "import sys, warnings, torch; from mrnoise.cli.main import app; from mrnoise import read; read(sys.argv[1]); "
        "assert ('default', None, Warning, None, 0) not in warnings.filters; "
        "app(['map', sys.argv[1], *'-n 4 -m sketch -r rss --coil-maps propagated -o'.split(), sys.argv[2]])"
    )
    words = [sys.executable, "-c", code, tmp_path / "a.h5", tmp_path / "map.h5"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "site-packages" not in done.stderr and "Warning" not in done.stderr
