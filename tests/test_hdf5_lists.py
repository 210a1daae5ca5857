"""Lists in HDF5 files, read from where they lie: the same numbers as through HDF5, whatever the layout."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from mrnoise.errors import InputError
from mrnoise.files.lists import REFERENCE, fields, fields_and_lists

N = 11
HEAD = np.dtype({"names": ["n", "x"], "formats": ["<u2", ("<f4", (3,))], "offsets": [0, 4], "itemsize": 20})


def records(dtype="<f4", head=HEAD):
    rng = np.random.default_rng(0)
    values = np.zeros(N, [("head", head), ("traj", h5py.vlen_dtype(np.float32)), ("data", h5py.vlen_dtype(dtype))])
    values["head"]["n"], values["head"]["x"] = np.arange(N), rng.standard_normal((N, 3))
    for number in range(N):
        values["traj"][number] = np.zeros(0, np.float32)
        # The third is longer than a collection usually is, the fourth empty.
        values["data"][number] = rng.standard_normal([7, 5, 9000, 0][number % 4]).astype(dtype)
    return values


def written(path, values, userblock=0, **layout):
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("scan/data", data=values, **layout)
    return path


def read(path):
    with h5py.File(path) as file:
        heads, (lists,) = fields_and_lists(file["scan/data"], "head", ["data"])
        return fields(file["scan/data"], "head"), heads, lists


@pytest.mark.parametrize(
    ("values", "layout", "at_its_place"),
    [
        (records(), {"chunks": (4,), "maxshape": (None,)}, True),
        (records(), {"chunks": (1,)}, True),
        (records(), {"chunks": (40,), "maxshape": (None,)}, True),
        (records(), {}, True),
        (records(), {"userblock": 512}, True),
        (records(), {"userblock": 1024, "chunks": (3,)}, True),
        (records(">f8", np.dtype([("n", ">u2"), ("x", ">f8", (3,))])), {"chunks": (4,)}, True),
        (records(), {"chunks": (4,), "compression": "gzip"}, False),
        (records(), {"chunks": (4,), "fletcher32": True}, False),
    ],
)
def test_lists_are_those_of_hdf5(values, layout, at_its_place, tmp_path):
    heads, again, found = read(written(tmp_path / "a.h5", values, **layout))
    assert isinstance(found.places, np.ndarray) == at_its_place
    assert heads.dtype == again.dtype == values.dtype["head"]
    for name in heads.dtype.names:
        assert (heads[name] == values["head"][name]).all() and (again[name] == values["head"][name]).all()
    assert found.dtype == values["data"][0].dtype
    assert found.counts.tolist() == [len(numbers) for numbers in values["data"]]
    chosen = np.array([10, 2, 2, 3, 0])
    for number, numbers in zip(chosen, found.read(chosen), strict=True):
        assert numbers.tobytes() == values["data"][number].tobytes()


def test_records_that_were_never_written_are_those_of_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("scan/data", (N,), records().dtype, chunks=(2,))[4:6] = records()[4:6]
    heads, _, found = read(tmp_path / "a.h5")
    assert heads["n"].tolist() == [0] * 4 + [4, 5] + [0] * 5
    assert found.counts.tolist() == [0] * 4 + [7, 5] + [0] * 5
    assert next(found.read(np.array([5]))).tobytes() == records()["data"][5].tobytes()


@pytest.mark.parametrize(("field", "value"), [("count", 2**31), ("collection", 2**40), ("index", 77), ("count", 16)])
def test_a_list_that_is_not_where_its_record_says_is_refused(field, value, tmp_path):
    path = written(tmp_path / "a.h5", records())
    with h5py.File(path) as file:
        start, size = file["scan/data"].id.get_offset(), file["scan/data"].id.get_type().get_size()
    data = bytearray(path.read_bytes())
    reference = np.frombuffer(data, REFERENCE, 1, start + 5 * size - REFERENCE.itemsize)  # a view
    reference[field] = value
    path.write_bytes(data)
    with pytest.raises(InputError, match="line 4 of a.h5 is damaged"):
        read(path)


def test_a_file_that_has_become_shorter_is_refused(tmp_path):
    path = written(tmp_path / "a.h5", records())
    _, _, found = read(path)
    path.write_bytes(path.read_bytes()[: int(found.places[6]) + 100])
    assert len(next(found.read(np.array([1])))) == 5
    with pytest.raises(InputError, match="line 6 of a.h5 is damaged"):
        list(found.read(np.array([6])))
