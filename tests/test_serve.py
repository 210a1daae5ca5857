"""The server, talked to by a client written from the description of the protocol, with struct and numpy alone."""

import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
import time
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.fourier import to_kspace
from mrnoise.io import read, read_noise_map
from mrnoise.io.scans.mrd_header import parse_header
from mrnoise.io.scans.mrd_stream import Line
from mrnoise.mapping.provenance import fingerprint
from mrnoise.sampling import equispaced
from mrnoise.serving import Limits, Parameters, Server
from mrnoise.serving.arrivals import Arrivals
from mrnoise.serving.messages import IMAGE_HEAD, parsed_meta, written_meta
from mrnoise.simulation import simulated_head
from test_cli import run
from test_mrd_lines import coil_images
from test_read_mrd import header, line, write

pytestmark = pytest.mark.xdist_group("server")

SHAPE, COILS, CALIBRATION = (26, 20), 3, 12
LAST_IN_SLICE, NOISE = ismrmrd.ACQ_LAST_IN_SLICE, ismrmrd.ACQ_IS_NOISE_MEASUREMENT


# -- scans ---------------------------------------------------------------------------------------------------


def limits(**counts):
    return "".join(
        f"<{name}><minimum>0</minimum><maximum>{n - 1}</maximum><center>{centre}</center></{name}>"
        for name, (n, centre) in counts.items()
    )


def xml(slices=2, repetitions=1, announced=True):
    steps = {"kspace_encoding_step_1": (SHAPE[0], SHAPE[0] // 2)}
    images = {"slice": (slices, 0), "repetition": (repetitions, 0)} if announced else {}
    fov = (5, 4 * SHAPE[0], 3 * SHAPE[1])
    return header((1, *SHAPE), fov=fov, recon_x=(SHAPE[1], 3 * SHAPE[1]), limits=limits(**steps, **images))


def scan_lines(slices=2, repetitions=1, noise="first", order="slices", descending=False):
    """Lines of a head; noise once before all, before each slice too, or never."""
    mask = equispaced(SHAPE, 2, calibration=CALIBRATION)
    head = simulated_head(SHAPE, COILS, n_slices=slices, mask=mask, snr=30.0)
    rows = mask.any(1).nonzero().flatten().tolist()

    def noise_line(n):
        return line(head.noise_scan(n, seed=n).numpy(), flags=(NOISE,))

    found = [] if noise == "none" else [noise_line(1500)]
    for repetition in range(repetitions):
        kspace = head.acquire(seed=repetition).kspace.numpy().reshape(slices, COILS, *SHAPE)
        places = [(s, y) for s in range(slices) for y in rows]
        if order == "interleaved":
            places.sort(key=lambda place: place[1])
        for number, (s, y) in enumerate(places):
            if noise == "interleaved" and number and y == rows[0]:
                found.append(noise_line(400 + s))
            where = (0, 0, 5.0 * (slices - s if descending else s))
            flags = (LAST_IN_SLICE,) if y == rows[-1] else ()
            more = {"slice": s, "repetition": repetition, "position": where, "directions": np.eye(3)}
            found.append(line(kspace[s][:, y], y, flags=flags, **more))
    return found


# -- a client of its own -------------------------------------------------------------------------------------

TYPES = {1: "<u2", 2: "<i2", 3: "<u4", 4: "<i4", 5: "<f4", 6: "<f8", 7: "<c8", 8: "<c16"}


def text(number, content):
    content = content.encode() + b"\0"
    return struct.pack("<HI", number, len(content)) + content


def acquisition(acq):
    """As ISMRMRD lays it down: 340 bytes, trajectory, samples."""
    head = bytes(acq.getHead())
    assert len(head) == 340
    return struct.pack("<H", 1008) + head + acq.traj.astype("<f4").tobytes() + acq.data.astype("<c8").tobytes()


CLOSE = struct.pack("<H", 4)


class Client:
    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)

    def send(self, *messages):
        for message in messages:
            self.socket.sendall(message)

    def exactly(self, n):
        found = b""
        while len(found) < n:
            part = self.socket.recv(n - len(found))
            if not part:
                raise EOFError
            found += part
        return found

    def receive(self):
        """(number, content) of the next message."""
        (number,) = struct.unpack("<H", self.exactly(2))
        if number == 5:
            (size,) = struct.unpack("<I", self.exactly(4))
            content = self.exactly(size)
            assert content.endswith(b"\0") and content.count(b"\0") == 1
            return number, content[:-1].decode()
        if number == 1022:
            head = self.exactly(198)
            (size,) = struct.unpack("<Q", self.exactly(8))
            attributes = self.exactly(size)
            version, data_type = struct.unpack_from("<HH", head)
            nx, ny, nz = struct.unpack_from("<3H", head, 16)
            (channels,) = struct.unpack_from("<H", head, 34)
            kind = np.dtype(TYPES[data_type])
            values = np.frombuffer(self.exactly(kind.itemsize * nx * ny * nz * channels), kind)
            assert version == 1 and channels == 1 and struct.unpack_from("<I", head, 194)[0] == size
            return number, Image(head, attributes, values.reshape(nz, ny, nx))
        assert number == 4, number
        return number, None

    def until_close(self):
        texts, images = [], []
        while True:
            number, content = self.receive()
            if number == 4:
                return texts, images
            (texts if number == 5 else images).append(content)

    def drain(self):
        """Whatever comes until the server ends the connection."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(2**16):
                pass

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class Image:
    def __init__(self, head, attributes, values):
        self.head, self.values = head, values
        root = ET.fromstring(attributes)
        assert root.tag == "ismrmrdMeta"
        self.meta = {m.find("name").text: [v.text for v in m.findall("value")] for m in root.findall("meta")}
        self.fov = struct.unpack_from("<3f", head, 22)
        self.position, self.read, self.phase, self.normal = np.frombuffer(head[36:84], "<f4").reshape(4, 3)
        names = ("average", "slice", "contrast", "phase_", "repetition", "set")
        self.counters = dict(zip(names, struct.unpack_from("<6H", head, 96), strict=True))
        self.type, self.index, self.series = struct.unpack_from("<3H", head, 124)

    @property
    def quantity(self):
        return self.meta["mrnoise_quantity"][0]

    @property
    def status(self):
        return self.meta["mrnoise_status"][0]


def exchange(port, lines, head, *before):
    with Client(port) as client:
        client.send(*before, text(3, head), *(acquisition(acq) for acq in lines), CLOSE)
        return client.until_close()


def of(images, status="certified"):
    return [image for image in images if image.status == status]


@contextmanager
def served(**options):
    """A server in a thread; its port, and what it reports."""
    ready, found, said = threading.Event(), {}, []

    async def main():
        listening = await Server(report=said.append, **options).listen("127.0.0.1", 0)
        found.update(port=listening.sockets[0].getsockname()[1], loop=asyncio.get_running_loop(), stop=asyncio.Event())
        ready.set()
        await found["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield found["port"], said
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join(20)


@pytest.fixture(scope="module")
def server():
    with served() as found:
        yield found


def mapped(tmp_path, lines, head, *options):
    """`mrnoise map` on the file of the same lines."""
    write(tmp_path / "scan.h5", lines, head)
    run("map", tmp_path / "scan.h5", "-o", tmp_path / "map.h5", *options)
    return read_noise_map(tmp_path / "map.h5")


def value(nm, quantity, image, axes):
    array = nm.quantity(quantity).numpy().astype("<f4")
    return array[tuple(image.counters[{"frame": "repetition"}.get(axis, axis)] for axis in axes)]


def assert_bits(nm, images):
    """Each image of each quantity once, with the bits of the map."""
    assert len({(i.quantity, *i.counters.values()) for i in images}) == len(images)
    count = int(np.prod(nm.image.shape[:-2], dtype=int))
    assert [sum(i.quantity == q for i in images) for q in ("image", "snr", "std", "g_factor")] == [count] * 4
    for image in images:
        np.testing.assert_array_equal(image.values[0], value(nm, image.quantity, image, nm.axes))


# -- the map of the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["first", "interleaved", "none"])
def test_a_stream_gives_the_bits_of_the_file(tmp_path, server, noise):
    lines, head = scan_lines(noise=noise), xml()
    nm = mapped(tmp_path, lines, head)
    texts, images = exchange(server[0], lines, head)
    doubts = [t for t in texts if t.startswith(("ERR", "WRN"))]
    assert [t[:18] for t in doubts] == ["WRN Ψ: estimated f"] * (noise == "none")
    assert_bits(nm, of(images))
    assert len(of(images, "preview")) == 8
    series = {(i.quantity, i.status): i.series for i in images}
    assert len(set(series.values())) == 8 and all(series[i.quantity, i.status] == i.series for i in images)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"slices": 3, "order": "interleaved"}, {}),
        ({"slices": 3, "descending": True}, {}),
        ({"slices": 1, "repetitions": 2}, {}),
        ({"slices": 2, "repetitions": 2, "noise": "interleaved"}, {}),
        ({"slices": 2}, {"announced": False}),
        ({"slices": 2}, {"slices": 3}),  # more announced than come
    ],
)
def test_any_order_gives_the_bits_of_the_file(tmp_path, server, options, more):
    lines = scan_lines(**options)
    head = xml(**{"slices": options["slices"], "repetitions": options.get("repetitions", 1), **more})
    nm = mapped(tmp_path, lines, head)
    texts, images = exchange(server[0], lines, head)
    certified = of(images)
    replaced = {(i.quantity, *i.counters.values()) for i in certified if "mrnoise_replaces" in i.meta}
    kept = [i for i in certified if "mrnoise_replaces" in i.meta or (i.quantity, *i.counters.values()) not in replaced]
    # Slices are in the order of their positions.
    if options.get("descending"):
        for image in kept:
            image.counters["slice"] = options["slices"] - 1 - image.counters["slice"]
    assert_bits(nm, kept)
    assert len(replaced) == sum("sent again" in t for t in texts)


def test_a_map_leaves_before_the_next_slice_comes(server):
    """Preview and map of a slice whose last line is flagged, while the scan goes on."""
    lines = scan_lines()
    half = len(lines) // 2 + 1
    with Client(server[0]) as client:
        client.send(text(3, xml()), *(acquisition(acq) for acq in lines[:half]))
        first = [client.receive()[1] for _ in range(8)]
        assert [i.status for i in first] == ["preview"] * 4 + ["certified"] * 4
        assert {i.counters["slice"] for i in first} == {0}
        client.send(*(acquisition(acq) for acq in lines[half:]), CLOSE)
        _, rest = client.until_close()
    assert {i.counters["slice"] for i in rest} == {1} and len(rest) == 8


def completed(head, lines):
    """Number of the line with which each slice is complete."""
    arrivals = Arrivals(parse_header(head.encode(), Path("head")))
    found = {}
    for number, acq in enumerate(lines):
        content = acquisition(acq)[2:]
        for place in arrivals.add(Line(content[:340], b"", content[340:])):
            found[place[-1]] = number
    assert arrivals.in_order
    return found


def test_an_image_is_complete_with_its_last_part():
    """Slices in turns of several lines, averages and segments: no map leaves before the last line of its image."""
    data = np.ones((2, 8))
    rows = [range(5), range(5, 10)]
    turns = [(s, y) for shot in rows for s in range(2) for y in shot]
    firsts, lasts = {0: (ismrmrd.ACQ_FIRST_IN_SLICE,)}, {9: (LAST_IN_SLICE,)}
    lines = [line(data, y, slice=s, flags=firsts.get(y, ()) + lasts.get(y, ())) for s, y in turns]
    assert completed(xml(), lines) == {0: 14, 1: 19}

    parts = header((1, *SHAPE), limits=limits(average=(2, 0), segment=(3, 0)))
    inner = [(y, a, n) for y in range(4) for a in range(2) for n in range(3)]
    lines = [line(data, y, slice=s, average=a, segment=n) for s in range(2) for y, a, n in inner]
    assert completed(parts, lines) == {0: 24}  # with the first line of the next slice
    outer = [(a, n, y) for a in range(2) for n in range(3) for y in range(4)]
    flagged = [line(data, y, average=a, segment=n, flags=lasts[9] if y == 3 else ()) for a, n, y in outer]
    assert completed(parts, flagged) == {0: 23}


def test_a_single_image_with_calibration_of_its_own(tmp_path, server):
    """Calibration without axes before the coils, as one slice has it."""
    head = xml(1).replace(
        "<trajectory>",
        "<parallelImaging><calibrationMode>separate</calibrationMode></parallelImaging><trajectory>",
    )
    lines = scan_lines(1)
    centre = range((SHAPE[0] - CALIBRATION) // 2, (SHAPE[0] + CALIBRATION) // 2)
    for acq in lines[1:]:
        if acq.idx.kspace_encode_step_1 in centre:
            even = acq.idx.kspace_encode_step_1 % 2 == 0
            both, alone = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
            acq.setFlag(both if even else alone)
    nm = mapped(tmp_path, lines, head)
    texts, images = exchange(server[0], lines, head)
    assert not [t for t in texts if t.startswith("ERR")]
    assert_bits(nm, of(images))


def test_noise_that_comes_late_is_said_and_corrected(tmp_path, server):
    """A map that was sent before a noise line came is sent again: what was certified is never left wrong."""
    lines = scan_lines()
    late = line(simulated_head(SHAPE, COILS).noise_scan(700, seed=9).numpy(), flags=(NOISE,))
    half = len(lines) // 2 + 1
    nm = mapped(tmp_path, [*lines, late], xml())
    with Client(server[0]) as client:
        client.send(text(3, xml()), *(acquisition(acq) for acq in lines[:half]))
        early = [client.receive()[1] for _ in range(8)]
        client.send(*(acquisition(acq) for acq in [*lines[half:], late]), CLOSE)
        texts, rest = client.until_close()
    assert sum("is sent again" in t and t.startswith("WRN") for t in texts) == 4
    last = {(i.quantity, i.counters["slice"]): i for i in of([*early, *rest])}
    assert_bits(nm, list(last.values()))
    again = [i for i in of(rest) if i.counters["slice"] == 0]
    assert len(again) == 4 and all("mrnoise_replaces" in i.meta for i in again)


def test_a_reconstruction_of_a_series_waits_for_all_of_it(tmp_path, server):
    lines, head = scan_lines(slices=1, repetitions=3), xml(1, 3)
    options = ("-r", "sliding-window", "-m", "sketch", "-n", 6)
    nm = mapped(tmp_path, lines, head, *options)
    asked = {"parameters": {"reconstruction": "sliding-window", "method": "sketch", "samples": "6"}}
    _, images = exchange(server[0], lines, head, text(2, json.dumps(asked)))
    assert_bits(nm, images)


def test_a_volume_is_one_image(tmp_path, server):
    shape = (6, 14, 16)
    kspace = to_kspace(torch.from_numpy(coil_images(shape)[0]), 3).numpy()
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((3, 900)) + 1j * rng.standard_normal((3, 900))).astype(np.complex64)
    lines = [line(noise, flags=(NOISE,))]
    lines += [line(kspace[:, z, y], y, z, directions=np.eye(3)) for z in range(shape[0]) for y in range(shape[1])]
    head = header(shape, fov=(30, 140, 160), recon_x=(16, 160))
    options = ("-r", "rss", "-m", "monte_carlo", "-n", 4)
    nm = mapped(tmp_path, lines, head, *options)
    asked = {"reconstruction": "rss", "method": "monte_carlo", "samples": 4, "gfactor": "false"}
    _, images = exchange(server[0], lines, head, text(2, json.dumps(asked)))
    certified = {i.quantity: i for i in of(images)}
    assert sorted(certified) == ["image", "snr", "std"]
    for quantity, image in certified.items():
        np.testing.assert_array_equal(image.values, nm.quantity(quantity).numpy().astype("<f4"))
    assert certified["std"].fov == pytest.approx((160, 140, 30))


# -- images --------------------------------------------------------------------------------------------------


def test_heads_are_those_of_the_library():
    fields = {name: getattr(ismrmrd.ImageHeader, name).offset for name, _ in ismrmrd.ImageHeader._fields_}
    assert {name: IMAGE_HEAD.fields[name][1] for name in IMAGE_HEAD.names} == fields and IMAGE_HEAD.itemsize == 198


def test_images_say_what_they_are(server):
    lines = scan_lines()
    for number, acq in enumerate(lines):
        acq.measurement_uid, acq.patient_table_position[:] = 77, (1, 2, 3)
        acq.scan_counter = number
    _, images = exchange(server[0], lines, xml())
    for image in images:
        assert image.fov == pytest.approx((3 * SHAPE[1], 4 * SHAPE[0], 5))
        assert image.position.tolist() == [0, 0, 5.0 * image.counters["slice"]]
        assert np.array_equal([image.read, image.phase, image.normal], np.eye(3))
        assert image.type == 1 and image.index == image.counters["slice"] + 1
        assert struct.unpack_from("<I", image.head, 12)[0] == 77
        assert image.meta["Keep_image_geometry"] == ["1"]
        assert image.meta["ImageRowDir"] == ["1.0", "0.0", "0.0"]
        assert ("Quantitative" in image.meta["DataRole"]) == (image.quantity != "image")
        assert "RescaleSlope" not in image.meta
        assert ("preview" in image.meta["ImageComments"][0]) == (image.status == "preview")
        assert image.meta["mrnoise_unit"] == ["image units" if image.quantity in ("image", "std") else "1"]
    # The library reads them too.
    image = ismrmrd.Image(images[0].head)
    assert tuple(image.matrix_size) == (*SHAPE[::-1], 1) and image.image_series_index == images[0].series
    meta = {"a": "1 < 2", "b": [1.5, -2]}
    assert ismrmrd.Meta.deserialize(written_meta(meta)) == {"a": "1 < 2", "b": ["1.5", "-2"]}
    assert parsed_meta(written_meta(meta)) == {"a": ["1 < 2"], "b": ["1.5", "-2"]}
    assert parsed_meta("no XML") == {}


def test_integers_have_one_slope_a_series(tmp_path, server):
    lines = scan_lines()
    nm = mapped(tmp_path, lines, xml())
    _, images = exchange(server[0], lines, xml(), text(2, json.dumps({"parameters": {"integers": True}})))
    slopes = {}
    for image in of(images):
        assert image.values.dtype == np.dtype("<i2") and image.values.min() >= 0
        slope, intercept = float(image.meta["RescaleSlope"][0]), float(image.meta["RescaleIntercept"][0])
        slopes.setdefault(image.series, set()).add(slope)
        truth = value(nm, image.quantity, image, nm.axes)
        known = np.isfinite(truth)
        assert intercept == 0 and (image.values[0][~known] == 0).all()
        assert np.abs(slope * image.values[0] - truth)[known].max() <= 0.5001 * slope
    assert len(slopes) == 4 and all(len(each) == 1 for each in slopes.values())
    assert max(i.values.max() for i in of(images)) == 4095
    previews = {i.series: i.meta["RescaleSlope"][0] for i in of(images, "preview")}
    assert all(i.meta["RescaleSlope"][0] == previews[i.series] for i in of(images, "preview"))


# -- parameters ----------------------------------------------------------------------------------------------


def test_parameters_of_the_configuration(tmp_path, server):
    lines, head = scan_lines(slices=1), xml(1)
    nm = mapped(tmp_path, lines, head, "-m", "sketch", "-n", 12, "--seed", 5, "--regularization", 0.02)
    parameters = {"method": "sketch", "samples": "12", "seed": 5, "regularization": "0.02", "preview": "False"}
    wrong = {"colour": 1, "weights": "../../secret", "gfactor": "perhaps", "coilmaps": "none"}
    config = json.dumps({"version": "1.1.0", "parameters": {**parameters, **wrong}})
    name = struct.pack("<H", 1) + b"../../etc/passwd".ljust(1024, b"\0")
    texts, images = exchange(server[0], lines, head, name, text(2, config))
    assert_bits(nm, images)  # and no preview
    warned = [t for t in texts if t.startswith("WRN")]
    assert len(warned) == 4
    for one in wrong:
        assert any(re.search(rf"parameter {one}", t) for t in warned)


@pytest.mark.parametrize(
    "value", ["os:system", "touch {kspace}", "sigpy:SenseRecon", "/tmp/net.pt", "nothing", 7, None, ["sense"]]
)
def test_a_client_cannot_name_code_or_files(value):
    found, notes = Parameters().changed(json.dumps({"reconstruction": value}))
    assert found == Parameters() and len(notes) == 1 and "expected one of sense, cg-sense" in notes[0]


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        ('{"parameters": {"targeterror": 5.0}}', {"target_error": 0.05}),
        ('{"parameters": {"targeterror": 5.0, "samples": 20}}', {"samples": 20}),
        ('{"parameters": {"samples": 20, "targeterror": 5.0}}', {"samples": 20}),
        ('{"targeterror": 3, "method": "exact"}', {"method": "exact"}),
        ('{"method": "exact", "targeterror": 3, "samples": 9}', {"method": "exact"}),
        ('{"std": false, "snr": "0"}', {"sent": ("g_factor",)}),
        ("", {}),
    ],
)
def test_parameters_that_are_understood(config, changed):
    found, notes = Parameters().changed(config)
    assert notes == [] and found == Parameters(**changed)


@pytest.mark.parametrize(
    "config",
    ["<xml/>", "[1]", "{", '{"parameters": 3}', '{"seed": -1}', '{"samples": 1e99}', '{"regularization": "-1"}'],
)
def test_parameters_that_are_not(config):
    found, notes = Parameters().changed(config)
    assert found == Parameters() and len(notes) == 1


def test_a_parameter_that_nothing_takes_is_named():
    found, notes = Parameters().changed('{"reconstruction": "rss", "regularization": 0.02, "weights": "brain"}')
    assert found.reconstruction == "rss" and notes == ["parameter regularization changes nothing: rss takes none"]
    with pytest.raises(InputError, match="changes nothing"):
        asyncio.run(Server(found).listen("127.0.0.1", 0))


# -- faults --------------------------------------------------------------------------------------------------


def test_a_fault_of_one_slice_never_loses_the_scan(server):
    lines = scan_lines(slices=3)
    at = [i for i, acq in enumerate(lines) if acq.idx.slice == 1 and not acq.isFlagSet(NOISE)]
    lines[at[3]].data[:] = np.nan
    texts, images = exchange(server[0], lines, xml(3))
    assert any(t.startswith("ERR") and "slice 1" in t for t in texts), texts
    last = {(i.quantity, i.counters["slice"]): i for i in images if i.status != "preview"}
    assert last["image", 1].status == "without a map" and last["image", 0].status == "certified"
    assert {s for q, s in last if q == "std"} == {0, 2}
    assert {s for q, s in last if q == "image"} == {0, 1, 2}  # of the samples that are numbers
    assert np.isfinite(last["image", 1].values).all() and last["image", 1].values.max() > 0


def test_without_noise_figures_the_image_comes_alone(server):
    """A dead coil: no Ψ, no map; a root sum of squares and a word on what failed."""
    lines = scan_lines()
    for acq in lines:
        acq.data[1] = 0
    texts, images = exchange(server[0], lines, xml())
    assert any(t.startswith("ERR") and "coil" in t for t in texts)
    alone = sorted((i.quantity, i.counters["slice"]) for i in of(images, "without a map"))
    assert len(images) == 2 and alone == [("image", 0), ("image", 1)]
    assert all(np.isfinite(i.values).all() and i.values.max() > 0 for i in images)
    assert all("without a noise map" in i.meta["ImageComments"][0] for i in images)


@pytest.mark.parametrize(("name", "title"), [("zero-filled", "ZeroFilled"), ("l1-wavelet", "RootSumOfSquares")])
def test_a_mapping_that_fails_leaves_the_image(server, name, title):
    """By the reconstruction, which has no closed form; without one where that fails too: the image is too small."""
    asked = text(2, json.dumps({"reconstruction": name, "method": "closed_form", "preview": False}))
    texts, images = exchange(server[0], scan_lines(), xml(), asked)
    errors = [t for t in texts if t.startswith("ERR")]
    assert len(errors) == 2 and "slice 1" in errors[1] and "preview" not in " ".join(errors)
    assert [i.quantity for i in images] == ["image", "image"]
    assert all(title in i.meta["ImageComments"][0] for i in images)


def image_message():
    image = ismrmrd.Image.from_array(np.ones((4, 5), np.float32), transpose=False)
    content = []
    image.serialize_into(content.append)
    return struct.pack("<H", 1022) + b"".join(bytes(part) for part in content)


def waveform_message():
    head = struct.pack("<HxxxxxxQIIIHHfHxx", 1, 0, 0, 0, 0, 6, 2, 1.0, 0)
    assert len(head) == 40
    return struct.pack("<H", 1026) + head + np.zeros(12, "<u4").tobytes()


def test_images_and_waveforms_are_ignored_and_named(tmp_path, server):
    lines = scan_lines(slices=1)
    nm = mapped(tmp_path, lines, xml(1))
    before = (image_message(), waveform_message(), waveform_message(), text(5, "DBG hello"))
    texts, images = exchange(server[0], lines, xml(1), *before)
    assert_bits(nm, of(images))
    assert "WRN 2 waveforms were not used" in texts and "WRN 1 images were not used" in texts


def test_several_scans_on_a_connection(server):
    with Client(server[0]) as client:
        for slices in (1, 2):
            lines = scan_lines(slices=slices)
            client.send(text(3, xml(slices)), *(acquisition(acq) for acq in lines), CLOSE)
            assert len(of(client.until_close()[1])) == 4 * slices


def test_headers_out_of_place(tmp_path, server):
    lines = scan_lines(slices=1)
    nm = mapped(tmp_path, lines, xml(1))
    with Client(server[0]) as client:
        sent = [acquisition(acq) for acq in lines]
        client.send(*sent[:9], text(3, xml(1)), *sent[9:], text(3, xml(2)), CLOSE)
        texts, images = client.until_close()
    assert_bits(nm, of(images))
    assert any("header came after 9 lines" in t for t in texts) and any("second header" in t for t in texts)
    with Client(server[0]) as client:
        client.send(*sent, CLOSE)
        texts, images = client.until_close()
    assert images == [] and any("without a header" in t for t in texts)
    texts, images = exchange(server[0], lines, "<no header")
    assert images == [] and any(t.startswith("ERR") and "header" in t for t in texts)
    texts, images = exchange(server[0], lines[:1], xml(1))
    assert images == [] and any("none of 1 lines is of an image" in t for t in texts)


def test_lines_along_a_trajectory(tmp_path, server):
    rng = np.random.default_rng(1)
    n, spokes = 24, 40
    found = [line((rng.standard_normal((3, 800)) + 1j * rng.standard_normal((3, 800))) / 2, flags=(NOISE,))]
    for number in range(spokes):
        angle = np.pi * number / spokes
        radius = np.arange(n) - n // 2
        acq = ismrmrd.Acquisition.from_array(
            (rng.standard_normal((3, n)) + 1j * rng.standard_normal((3, n))).astype(np.complex64) + 3,
            np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32),
        )
        acq.sample_time_us, acq.center_sample, acq.idx.kspace_encode_step_1 = 5.0, n // 2, number
        acq.read_dir[:], acq.phase_dir[:], acq.slice_dir[:] = np.eye(3)
        found.append(acq)
    head = header((1, n, n), fov=(5, 96, 96), recon_x=(n, 96)).replace("cartesian", "radial")
    nm = mapped(tmp_path, found, head, "-r", "gridding")
    _, images = exchange(server[0], found, head, text(2, '{"reconstruction": "gridding"}'))
    for image in of(images):
        np.testing.assert_array_equal(image.values[0], nm.quantity(image.quantity).numpy().astype("<f4"))


# -- damaged messages ----------------------------------------------------------------------------------------


def messages():
    lines = scan_lines(slices=1)[:4]
    return [struct.pack("<H", 1) + b"x" * 1024, text(2, "{}"), text(3, xml(1)), *(acquisition(acq) for acq in lines)]


def test_damaged_messages_end_their_connection_only(tmp_path, server):
    """Cut anywhere, bytes changed, lengths that are not true, numbers of no message: a word, and the next is served."""
    rng = np.random.default_rng(0)
    whole = b"".join(messages())
    for number in range(300):
        content = bytearray(whole)
        if number % 3 == 0:
            content = content[: rng.integers(1, len(content))]
        elif number % 3 == 1:
            for at in rng.integers(0, len(content), 4):
                content[at] = rng.integers(256)
        else:
            start = rng.integers(0, len(content))
            content = bytearray(rng.integers(0, 256, 40, dtype=np.uint8).tobytes()) + content[start:]
        with Client(server[0]) as client:
            client.send(bytes(content))
            if number % 2:
                client.socket.shutdown(socket.SHUT_WR)
                client.drain()
    lines = scan_lines(slices=1)
    nm = mapped(tmp_path, lines, xml(1))
    assert_bits(nm, of(exchange(server[0], lines, xml(1))[1]))


def test_a_message_of_no_number_is_named(server):
    with Client(server[0]) as client:
        client.send(text(3, xml(1)), struct.pack("<H", 777))
        texts, _ = client.until_close()
    assert any(t.startswith("ERR") and "777" in t for t in texts)


@pytest.mark.parametrize(
    "message",
    [
        struct.pack("<HI", 2, 2**32 - 1),
        struct.pack("<HI", 3, 2**31),
        struct.pack("<H", 1008) + b"\xff" * 340,
        struct.pack("<H", 1022) + b"\0" * 198 + struct.pack("<Q", 2**60),
        struct.pack("<H", 1026) + b"\xff" * 40,
    ],
)
def test_what_is_too_large_is_refused_before_it_comes(server, message):
    with Client(server[0]) as client:
        client.send(message)
        texts, _ = client.until_close()
    assert any(t.startswith("ERR") and "too large" in t for t in texts)


def test_a_header_of_a_huge_matrix_is_refused(server):
    head = header((1, 30000, 30000), fov=(5, 100, 100), recon_x=(30000, 100))
    texts, images = exchange(server[0], scan_lines(slices=1), head)
    assert images == [] and any(t.startswith("ERR") and "far more than was measured" in t for t in texts)


# -- limits --------------------------------------------------------------------------------------------------


def test_limits_of_size_and_time():
    lines = scan_lines(slices=1)
    size = sum(340 + acq.data.nbytes for acq in lines)
    with served(limits=Limits(scan_bytes=size - 1, idle_seconds=1.0)) as (port, _):
        texts, images = exchange(port, lines, xml(1))
        assert images == [] and any("the scan is too large" in t for t in texts)
        with Client(port) as client:
            client.send(text(3, xml(1)))
            started = time.monotonic()
            assert any("nothing came" in t for t in client.until_close()[0])
            assert time.monotonic() - started < 5


def test_a_client_too_many_waits_and_another_is_refused():
    lines = scan_lines(slices=1)
    with served(limits=Limits(clients=1)) as (port, said), Client(port) as first, Client(port) as second:
        first.send(text(3, xml(1)))
        second.send(text(3, xml(1)), *(acquisition(acq) for acq in lines), CLOSE)
        while sum("connection from" in line for line in said) < 2:
            time.sleep(0.02)
        with Client(port) as third:
            assert any("busy" in t for t in third.until_close()[0])
        second.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.receive()
        second.socket.settimeout(60)
        first.close()
        assert len(of(second.until_close()[1])) == 4


def test_two_clients_take_turns(tmp_path, server):
    """Both are served at once: neither waits until the other is done."""
    lines, head = scan_lines(slices=3), xml(3)
    nm = mapped(tmp_path, lines, head)
    found, times = {}, {}

    def one(name):
        with Client(server[0]) as client:
            client.send(text(3, head), *(acquisition(acq) for acq in lines), CLOSE)
            images = []
            while (message := client.receive())[0] != 4:
                if message[0] == 1022:
                    images.append(message[1])
                    times.setdefault(name, []).append(time.monotonic())
        found[name] = images

    threads = [threading.Thread(target=one, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for name in "ab":
        assert_bits(nm, of(found[name]))
    assert times["a"][0] < times["b"][-1] and times["b"][0] < times["a"][-1]


def test_a_client_that_leaves_is_forgotten(tmp_path, server):
    lines, head = scan_lines(slices=2), xml(2)
    for cut in (3, len(lines) // 2, len(lines)):
        client = Client(server[0])
        client.send(text(3, head), *(acquisition(acq) for acq in lines[:cut]))
        client.close()
    assert_bits(mapped(tmp_path, lines, head), of(exchange(server[0], lines, head)[1]))


# -- the raw stream ------------------------------------------------------------------------------------------


def test_the_raw_stream_is_kept(tmp_path):
    lines = scan_lines()
    write(tmp_path / "scan.h5", lines, xml())
    folder = tmp_path / "kept"
    with served(capture=folder) as (port, _):
        name = struct.pack("<H", 1) + b"../outside".ljust(1024, b"\0")
        exchange(port, lines, xml(), name, text(2, '{"method": "sketch", "samples": 4}'))
        with Client(port) as client:  # cut within a line
            sent = b"".join([text(3, xml()), *(acquisition(acq) for acq in lines)])
            client.send(sent[:-100])
        time.sleep(0.5)
    whole, cut = sorted(folder.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "scan.h5"]
    assert fingerprint(read(whole)) == fingerprint(read(tmp_path / "scan.h5"))
    with ismrmrd.Dataset(str(whole), "dataset", create_if_needed=False) as file, h5py.File(cut) as part:
        assert file.number_of_acquisitions() == len(lines) and len(part["dataset/data"]) == len(lines) - 1
        for number, acq in enumerate(lines):
            kept = file.read_acquisition(number)
            assert bytes(kept.getHead()) == bytes(acq.getHead()) and np.array_equal(kept.data, acq.data)
    run("map", whole, "-m", "sketch", "-n", 4, "-o", tmp_path / "map.h5")


# -- commands ------------------------------------------------------------------------------------------------


def test_send_writes_what_comes_back(tmp_path, server):
    lines = scan_lines(slices=2, repetitions=3)
    nm = mapped(tmp_path, lines, xml(2, 3))
    said = run("send", tmp_path / "scan.h5", "--to", f"127.0.0.1:{server[0]}", "-o", tmp_path / "out", "--set", "x=1")
    assert "unknown parameter x" in said
    import nibabel

    found = nibabel.load(tmp_path / "out" / "std.nii.gz")
    run("map", tmp_path / "scan.h5", "-o", tmp_path / "map.nii.gz")
    truth = nibabel.load(tmp_path / "map_std.nii.gz")
    assert np.allclose(found.affine, truth.affine)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(truth.dataobj))
    assert nm.std.shape == (3, 2, *SHAPE)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"image.nii.gz", "snr.nii.gz", "g_factor.nii.gz", "snr_preview.nii.gz", "snr.json"} <= names


def test_send_says_what_failed_and_what_is_old(tmp_path, server):
    lines = scan_lines(slices=1)
    for acq in lines:
        acq.data[1] = 0
    write(tmp_path / "scan.h5", lines, xml(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "std.nii.gz").write_bytes(b"of another scan")
    said = run("send", tmp_path / "scan.h5", "--to", f"127.0.0.1:{server[0]}", "-o", tmp_path / "out", code=1)
    assert "ERR" in said and "image.nii.gz" in said
    assert re.search(r"of before, not of this scan, in .*: std.nii.gz", said)


def test_noise_of_another_group_is_sent_first(tmp_path, server):
    lines = scan_lines(slices=1)
    for group, some in (("dataset_1", lines[:1]), ("dataset_2", lines[1:])):
        with ismrmrd.Dataset(str(tmp_path / "two.h5"), group, create_if_needed=True) as file:
            file.write_xml_header(xml(1).encode())
            for acq in some:
                file.append_acquisition(acq)
    run("send", tmp_path / "two.h5", "--to", f"127.0.0.1:{server[0]}", "-o", tmp_path / "out")
    nm = mapped(tmp_path, lines, xml(1))
    import nibabel

    sent = np.asarray(nibabel.load(tmp_path / "out" / "snr.nii.gz").dataobj)
    np.testing.assert_array_equal(sent[..., 0].T, nm.snr.numpy().astype("<f4"))


@pytest.mark.parametrize("to", ["nowhere", "127.0.0.1:0", "127.0.0.1:x"])
def test_addresses_that_are_none(tmp_path, to):
    write(tmp_path / "scan.h5", scan_lines(slices=1), xml(1))
    assert "HOST:PORT" in run("send", tmp_path / "scan.h5", "--to", to, code=2)


def test_no_server_and_no_scan(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    write(tmp_path / "scan.h5", scan_lines(slices=1), xml(1))
    assert "there is no server" in run("send", tmp_path / "scan.h5", "--to", f"127.0.0.1:{port}", code=2)
    np.savez(tmp_path / "scan.npz", kspace=np.ones((2, 8, 8), np.complex64))
    run("send", tmp_path / "scan.npz", "--to", f"127.0.0.1:{port}", code=2)
    assert "there is no file" in run("send", tmp_path / "none.h5", code=2)


@pytest.mark.parametrize("given", ["method", "=sketch"])
def test_a_parameter_that_is_none(tmp_path, given):
    write(tmp_path / "scan.h5", scan_lines(slices=1), xml(1))
    assert "NAME=VALUE" in run("send", tmp_path / "scan.h5", "--set", given, code=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "n_samples"),
        ({"target_error": 3.0}, "target error"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_numbers_that_make_no_sense_end_a_server_before_a_scan_comes(options, words):
    with pytest.raises(InputError, match=words):
        asyncio.run(Server(Parameters(**options)).listen("127.0.0.1", 0))


def test_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = run("serve", "--port", taken.getsockname()[1], code=2)
    assert "cannot listen" in said and "choose another --port" in said


def test_only_loopback_answers(server):
    """The usual address is no other one of this computer."""
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in (a for a in addresses if not a.startswith("127.")):
        with pytest.raises(OSError):
            socket.create_connection((address, server[0]), timeout=2).close()
    with Client(server[0]):
        pass
