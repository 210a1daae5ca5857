"""`mrnoise review`: the server and its page, walked through in a browser; σ of a region is that of `mrnoise roi`."""

import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mrnoise
from browser import Browser, needs_chromium
from mrnoise.cli.main import app
from mrnoise.cli.recipe import Recipe
from mrnoise.cli.remake import recipe_of, source_of
from mrnoise.measurement import roi_mean
from mrnoise.reconstruction import CgSense
from mrnoise.report.html import page
from mrnoise.review import Folder, Missing, ReviewServer, Source
from mrnoise.review.pages import agreement, review_page
from mrnoise.review.region import drawn, exact, of_map
from mrnoise.simulation import simulate
from small_maps import small_map

pytestmark = pytest.mark.xdist_group("review")  # one server, one browser
SHAPE, SLICES = (24, 20), 3
NARROW, WIDE = 390, 1280


def run(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Two maps of a scan of three slices, which lies beside their folder."""
    root = tmp_path_factory.mktemp("review")
    scan = root / "scan.npz"
    run("simulate", scan, "--matrix", f"{SHAPE[0]},{SHAPE[1]}", "--coils", 4, "--slices", SLICES)
    run("map", scan, "-R", 2, "-n", 40, "-m", "sketch", "-o", root / "maps" / "a.h5")
    run("map", scan, "-R", 2, "--regularization", 0.1, "-m", "probe", "-n", 20, "-o", root / "maps" / "inner" / "b.h5")
    (root / "maps" / "scan.h5").write_bytes(b"no map")
    return root / "maps"


@pytest.fixture(scope="module")
def server(maps):
    folder = Folder(maps)

    def find(name, nm):
        yield from source_of(nm, folder.maps()[name], None, [])

    with ReviewServer(folder, find) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


# -- the page ----------------------------------------------------------------------------------------------------


def answered(browser):
    """The numbers of the region as the page has them, not rounded, and what it says."""
    browser.until("document.getElementById('region-status').dataset.state === 'answered'")
    cells = browser.run(
        "[...document.querySelectorAll('.measured tr')].map((r) => [r.dataset.row, ...[...r.cells].slice(1)"
        ".map((c) => c.dataset.value ?? null)])"
    )
    return {row[0]: row[1:] for row in cells if row[0]}, browser.text("#region-status")


def draw(browser, tool, canvas, *places, touch=False):
    browser.run("delete document.getElementById('region-status').dataset.state; 0")
    browser.press(tool) if len(tool) == 1 else browser.click(f"[data-tool={tool}]")
    points = [browser.place(canvas, *place) for place in places]
    (browser.swipe if touch else browser.drag)(*points)
    return answered(browser)


def region_of(browser):
    """The mask that the page would save."""
    name = "report.region"
    found = browser.run(f"[{name}.slice, {name}.frame, {name}.rows]")
    assert found[1] == 0
    mask = torch.zeros(SLICES, *SHAPE, dtype=torch.bool)
    for y, first, behind in found[2]:
        mask[found[0], y, first:behind] = True
    return mask


@needs_chromium
def test_a_region_that_is_drawn_has_the_numbers_of_mrnoise_roi(browser, server, maps, tmp_path):
    browser.size(WIDE)
    browser.open(f"{server.url}?map=a.h5#voxel=10,12,1")
    found, words = draw(browser, "x", "#plane-z1", (0.4, 0.4), (0.5, 0.5), (0.6, 0.65))
    assert browser.console() == []
    assert "one backward pass through CgSense of scan.npz" in words
    mask = region_of(browser)
    assert 4 < mask.sum() < 80 and mask[1].any()
    np.save(tmp_path / "region.npy", mask.numpy())
    scan = maps.parent / "scan.npz"
    run("roi", scan, "-R", 2, "--region", tmp_path / "region.npy", "--json", tmp_path / "roi.json")
    (rows,) = json.loads((tmp_path / "roi.json").read_text())["measurements"].values()
    mean = rows[0]
    assert float(found["mean"][0]) == pytest.approx(mean["value"], rel=1e-9)
    assert float(found["std"][0]) == pytest.approx(mean["error"], rel=1e-9)
    assert [float(v) for v in found["interval"][0].split(",")] == pytest.approx(mean["interval"], rel=1e-9)
    assert float(found["snr"][0]) == pytest.approx(rows[1]["value"], rel=1e-9)
    # The wrong sum is another number: the check can fail.
    nm = mrnoise.read_noise_map(maps / "a.h5")
    assert abs(of_map(nm, mask)["uncorrelated"] / mean["error"] - 1) > 0.1


@needs_chromium
@pytest.mark.parametrize("shape", ["ellipse", "freehand"])
def test_voxels_of_a_shape_are_those_whose_centres_lie_in_it(browser, server, shape):
    browser.size(WIDE)
    browser.open(server.url)
    size = [6, 5]
    corners = {"ellipse": [[1, 0.5], [5, 4.5]], "freehand": [[0, 0], [5, 0], [5, 4]]}[shape]
    found = np.reshape(browser.run(f"[...voxelsIn('{shape}', {corners}, {size})]"), size[::-1])
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    if shape == "ellipse":
        inside = ((x - 3) / 2) ** 2 + ((y - 2.5) / 2) ** 2 <= 1
    else:
        inside = (x < 5) & (y < 0.8 * x)
    np.testing.assert_array_equal(found, inside)
    one = browser.run(f"[...voxelsIn('{shape}', [[2.2, 3.1], [2.21, 3.1]], {size})]")
    assert one.index(1) == 3 * size[0] + 2 and sum(one) == 1  # that under the pointer


@needs_chromium
def test_two_maps_compared(browser, server, maps):
    browser.size(WIDE)
    browser.open(f"{server.url}?map=a.h5&second=inner%2Fb.h5#voxel=9,11,2&quantity=snr")
    a, b = (mrnoise.read_noise_map(maps / name) for name in ("a.h5", "inner/b.h5"))
    row = "tr[data-quantity=snr]"
    texts = [browser.text(f"{row} {cell}") for cell in (".value", ".value.second", ".ratio")]
    values = [float(nm.snr[2, 11, 9]) for nm in (a, b)]
    assert [float(text) for text in texts] == pytest.approx([*values, values[1] / values[0]], rel=6e-3)
    # The cursors are linked: the pointer over the second map reads both.
    browser.mouse("Moved", *browser.place("#plane-z1", 0.5, 0.45), held=False)
    x, y = (int(n) for n in browser.text("#place").replace("z 2", "").replace("x ", "").split("y "))
    values = [float(nm.snr[2, y, x]) for nm in (a, b)]
    assert (x, y) != (9, 11)
    assert [float(browser.text(f"{row} {cell}")) for cell in (".value", ".value.second")] == pytest.approx(
        values, rel=6e-4
    )
    assert browser.run("report.views.every((view) => view.report.pointed !== null)")
    found, words = draw(browser, "ellipse", "#plane-z2", (0.4, 0.4), (0.6, 0.6))
    assert "A: Exact" in words and "B: Exact" in words and "CgSense of scan.npz" in words
    mask = region_of(browser)
    for k, name in enumerate(("a.h5", "inner/b.h5")):
        nm = (a, b)[k]
        *_, source = source_of(nm, maps / name, None, [])
        assert float(found["std"][k]) == pytest.approx(exact(nm, source, mask).std, rel=1e-9)
    assert agreement(a, b) in browser.text(".agreement")
    assert browser.console() == []


@needs_chromium
def test_keys_walk_through_maps_slices_quantities_and_windows(browser, server):
    browser.size(WIDE)
    browser.open(server.url)
    state = "[report.shown.name, report.voxel[2], report.layout, location.search, ...report.shown.window]"
    *before, low, high = browser.run(state)
    assert before == ["std", 1, "beside", ""]
    for key in ("3", "ArrowUp", "+", ".", "b"):
        browser.press(key)
    name, z, layout, _, *window = browser.run(state)
    assert (name, z, layout) == ("magnitude_std", 2, "one")
    browser.press("0")
    full = browser.run("report.shown.window")
    span = full[1] - full[0]
    wide = span * math.exp(0.1)
    assert window[1] - window[0] == pytest.approx(wide, rel=1e-6)
    assert sum(window) / 2 == pytest.approx(sum(full) / 2 + 0.1 * wide, rel=1e-6)
    browser.press("-")
    narrow = browser.run("report.shown.window")
    browser.press("n")
    browser.until("location.search.includes('b.h5') && document.documentElement.dataset.status === 'ready'")
    name, z, layout, _, *window = browser.run(state)
    assert (name, z, layout) == ("magnitude_std", 2, "one") and window == pytest.approx(narrow)
    browser.press("n")  # the last
    browser.press("p")
    browser.until("location.search.includes('map=a.h5') && document.documentElement.dataset.status === 'ready'")
    listed = browser.text("#keys")
    for words in ("slice", "quantity", "window", "next map", "draw", "side by side"):
        assert words in listed
    # Keys typed into a field are no commands.
    browser.run("document.getElementById('low').focus()")
    browser.press("1")
    assert browser.run("report.shown.name") == "magnitude_std"
    assert browser.console() == []


@needs_chromium
def test_the_window_follows_the_right_button(browser, server):
    browser.size(WIDE)
    browser.open(server.url)
    low, high = browser.run("report.shown.window")
    at = browser.place("#plane-z1")
    browser.drag(at, (at[0] + 30, at[1]), button="right")
    wider = browser.run("report.shown.window")
    assert wider[1] - wider[0] == pytest.approx((high - low) * math.exp(0.1), rel=1e-6)
    assert browser.run("report.voxel") == [10, 12, 1]  # the cross stays


@needs_chromium
def test_by_touch_on_a_narrow_page(browser, server):
    browser.size(NARROW, 800, touch=True)
    browser.open(server.url)
    assert browser.run("document.documentElement.scrollWidth") == NARROW
    found, _ = draw(browser, "box", "#plane-z", (0.4, 0.4), (0.5, 0.5), (0.6, 0.6), touch=True)
    assert float(found["std"][0]) > 0
    assert browser.run("document.documentElement.scrollWidth") == NARROW
    browser.click("#clear")
    assert browser.run("report.region === null && document.querySelector('.measured').hidden")
    assert browser.console() == []


@needs_chromium
@pytest.mark.parametrize("second", ["", "&second=inner%2Fb.h5"])
def test_it_prints_on_one_page(browser, server, second):
    browser.size(WIDE)
    browser.open(f"{server.url}?map=a.h5{second}")
    draw(browser, "e", "#plane-z", (0.4, 0.4), (0.6, 0.6))
    assert len(re.findall(rb"/Type\s*/Page\b", browser.pdf())) == 1


# Bytes of the file that the page would save.
SAVED = """(async () => {
  let saved;
  const { createObjectURL } = URL;
  URL.createObjectURL = (blob) => ((saved = blob), createObjectURL(blob));
  report.keep();
  URL.createObjectURL = createObjectURL;
  return [...new Uint8Array(await saved.arrayBuffer())];
})()"""


@needs_chromium
def test_the_saved_region_is_read_by_mrnoise_roi(browser, server, tmp_path):
    browser.size(WIDE)
    browser.open(f"{server.url}#voxel=3,4,2")
    draw(browser, "f", "#plane-z", (0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6))
    found = browser.run(SAVED)
    (tmp_path / "region.npy").write_bytes(bytes(found))
    np.testing.assert_array_equal(np.load(tmp_path / "region.npy"), region_of(browser).numpy())


@needs_chromium
def test_what_is_missing_is_said_and_no_wrong_sigma_given(browser, maps, tmp_path):
    """Without its scan a region has a mean and the most that its σ can be."""
    nm = mrnoise.read_noise_map(maps / "a.h5")
    (tmp_path / "far" / "maps").mkdir(parents=True)
    command = nm.provenance.command | {"scan": "elsewhere/gone.npz"}
    mrnoise.save(replace(nm, provenance=replace(nm.provenance, command=command)), tmp_path / "far" / "maps" / "a.h5")
    folder = Folder(tmp_path / "far" / "maps")
    with ReviewServer(folder, lambda name, nm: source_of(nm, folder.maps()[name], None, [])) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        browser.size(WIDE)
        browser.open(server.url)
        found, words = draw(browser, "x", "#plane-z", (0.4, 0.4), (0.6, 0.6))
        mask = region_of(browser)
        server.shutdown()
        thread.join()
    assert float(found["mean"][0]) == pytest.approx(float(nm.image.abs()[mask].double().mean()), rel=1e-6)
    assert found["std"] == found["interval"] == found["snr"] == [None]
    assert "gone.npz, is not at hand" in words and "--scan" in words and "at most about" in words


# -- the server --------------------------------------------------------------------------------------------------


def ask(server, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return SimpleNamespace(status=answer.status, text=text, headers=answer.headers)


def test_only_who_knows_the_token_and_asks_this_host(server):
    home = f"/{server.token}/"
    assert ask(server, home).status == 200
    assert ask(server, home, Host=f"localhost:{server.server_port}").status == 200
    for path in ("/", "/wrong/", f"/{server.token[:-1]}/", f"/{server.token}x/", "/favicon.ico", "/%ff/"):
        found = ask(server, path)
        assert found.status == 403 and "token" in found.text and server.token not in found.text
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1:1"):
        assert ask(server, home, Host=host).status == 403
    message = json.dumps({"map": "a.h5", "frame": 0, "slice": 0, "rows": [[3, 4, 6]]})
    assert ask(server, f"{home}region", "POST", message, Origin="http://evil.example").status == 403
    assert ask(server, f"{home}region", "POST", message, Origin=server.url[: server.url.index("/", 8)]).status == 200
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, home).headers["Referrer-Policy"] == "no-referrer"
    assert ask(server, home, "PUT").status == 501


def test_nothing_outside_the_folder(server, maps):
    outside = maps.parent / "outside.h5"
    mrnoise.save(small_map((22, 17)), outside)
    links = {"link.h5": outside, "nowhere.h5": maps / "gone.h5", "circle.h5": maps / "circle.h5", "up": maps.parent}
    for name, target in links.items():
        (maps / name).symlink_to(target)
    try:
        assert sorted(server.folder.maps()) == ["a.h5", "inner/b.h5"]
        for name in ("../outside.h5", str(outside), "link.h5", "inner/../../outside.h5", "scan.h5"):
            found = ask(server, f"/{server.token}/?map={name}")
            assert found.status == 422 and "no such map" in found.text
        for path in ("../scan.npz", "maps/a.h5", "%2e%2e/scan.npz"):
            assert ask(server, f"/{server.token}/{path}").status == 404
    finally:
        for name in links:
            (maps / name).unlink()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        "no json",
        "[" * 5000,
        json.dumps({"map": "a.h5"}),
        json.dumps({"map": "../a.h5", "frame": 0, "slice": 0, "rows": [[3, 4, 6]]}),
        json.dumps({"map": "a.h5", "frame": 0, "slice": 3, "rows": [[3, 4, 6]]}),
        json.dumps({"map": "a.h5", "frame": 0, "slice": -1, "rows": [[3, 4, 6]]}),
        json.dumps({"map": "a.h5", "frame": True, "slice": 0, "rows": [[3, 4, 6]]}),
        json.dumps({"map": "a.h5", "frame": 0, "slice": 0, "rows": [[24, 4, 6]]}),
        json.dumps({"map": "a.h5", "frame": 0, "slice": 0, "rows": [[3, 6, 6]]}),
        json.dumps({"map": "a.h5", "frame": 0, "slice": 0, "rows": []}),
        json.dumps({"map": "a.h5", "frame": 0, "slice": 0, "rows": [[3, 4.5, 6]]}),
        json.dumps({"map": ["a.h5"], "frame": 0, "slice": 0, "rows": [[3, 4, 6]]}),
    ],
)
def test_messages_that_are_none(server, body):
    found = ask(server, f"/{server.token}/region", "POST", body)
    assert found.status == 400 and "expected" in found.text


def test_steps_come_before_the_outcome(server, maps):
    message = {"map": "a.h5", "frame": 0, "slice": 1, "rows": [[10, 8, 13], [11, 8, 13]]}
    found = ask(server, f"/{server.token}/region", "POST", json.dumps(message))
    first, *steps, last = map(json.loads, found.text.splitlines())
    nm = mrnoise.read_noise_map(maps / "a.h5")
    mask = drawn(message, tuple(nm.image.shape))
    assert first["map"] == pytest.approx(of_map(nm, mask)) and first["map"]["voxels"] == 10
    assert [step["step"].split()[0] for step in steps] == ["making", "reading", "one"]
    assert last["std"] == pytest.approx(exact(nm, source(nm, maps / "a.h5"), mask).std, rel=1e-12)


def test_a_message_that_is_too_long_is_not_read(server):
    found = ask(server, f"/{server.token}/region", "POST", None, **{"Content-Length": str(1 << 40)})
    assert found.status == 400 and "at most" in found.text


def test_maps_of_two_shapes_are_not_compared(maps, server):
    mrnoise.save(small_map((22, 17)), maps / "other.h5")
    try:
        found = ask(server, f"/{server.token}/?map=a.h5&second=other.h5")
        assert found.status == 422 and "differ in shape" in found.text
    finally:
        (maps / "other.h5").unlink()


def test_a_damaged_map_is_said_to_be_one(maps, server):
    damaged = maps / "damaged.h5"
    mrnoise.save(small_map((22, 17)), damaged)
    with h5py.File(damaged, "r+") as file:
        del file["image"]
    try:
        found = ask(server, f"/{server.token}/?map=damaged.h5")
        assert found.status == 422 and "cannot read a noise map" in found.text
    finally:
        damaged.unlink()


def test_names_of_maps_cannot_run(maps, tmp_path):
    name = "<img src=x onerror=alert(1)>.h5"
    mrnoise.save(small_map((22, 17)), tmp_path / name)
    nm = mrnoise.read_noise_map(tmp_path / name)
    assert "<img src=x" not in review_page([name, "b.h5"], name, nm, None, None)


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command_serves_until_ctrl_c(maps, tmp_path):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "mrnoise", "review", str(maps)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline().startswith("2 maps")
        url = process.stdout.readline().strip()
        assert process.stdout.readline().strip() == "left out, since they hold no map: scan.h5"
        port = int(url.split(":")[2].split("/")[0])
        assert ask(SimpleNamespace(server_port=port), "/" + url.split("/", 3)[3]).status == 200
        used = CliRunner().invoke(app, ["review", str(maps), "--port", str(port)])
        assert used.exception.problem == "cannot listen on this port" and "in use" in used.exception.received
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_port_in_use_is_exit_code_2(maps):
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = ["review", str(maps), "--port", str(other.getsockname()[1])]
        code = f"import sys; sys.argv[1:] = {words!r}; from mrnoise.cli.main import run; run()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "which is in use" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_folder_without_maps(tmp_path, what):
    folder = tmp_path / what
    if what == "empty":
        folder.mkdir()
    with pytest.raises(mrnoise.InputError, match="no maps to look at"):
        Folder(folder)


# -- from a map to its source ------------------------------------------------------------------------------------


def source(nm, path, scan=None, reconstructions=()):
    *steps, found = source_of(nm, path, scan, list(reconstructions))
    assert all(isinstance(step, str) for step in steps) and isinstance(found, Source)
    return found


def with_command(nm, **changes):
    command = None if changes.get("command", 0) is None else nm.provenance.command | changes
    return replace(nm, provenance=replace(nm.provenance, command=command))


def test_the_recipe_of_a_map_comes_back(maps, monkeypatch):
    nm = mrnoise.read_noise_map(maps / "a.h5")
    recipe = Recipe.of(nm.provenance.command)
    assert recipe.acceleration == 2 and recipe.reconstruction == "cg-sense" and recipe.scan == maps.parent / "scan.npz"
    assert Recipe.of(recipe.stated()) == recipe
    bare = with_command(nm, scan="scan.npz")
    monkeypatch.chdir(maps)
    assert recipe_of(bare, maps / "a.h5", None, []).scan == maps.parent / "scan.npz"  # beside the folder
    assert recipe_of(bare, Path("/nowhere/a.h5"), maps.parent, []).scan == maps.parent / "scan.npz"
    assert recipe_of(bare, Path("/nowhere/a.h5"), maps.parent / "scan.npz", []).scan == maps.parent / "scan.npz"
    with pytest.raises(Missing, match="not at hand"):
        recipe_of(bare, Path("/nowhere/a.h5"), None, [])


def test_a_map_of_python_needs_scan_and_reconstruction(maps):
    nm = with_command(mrnoise.read_noise_map(maps / "a.h5"), command=None)
    with pytest.raises(Missing, match="does not say how it was made"):
        source(nm, maps / "a.h5", maps.parent / "scan.npz")
    with pytest.raises(Missing, match="not the scan of this map"):  # it was accelerated
        source(nm, maps / "a.h5", maps.parent / "scan.npz", ["cg-sense"])
    with pytest.raises(Missing, match="what is at hand is"):
        source(nm, maps / "a.h5", maps.parent / "scan.npz", ["rss"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"acceleration": 3.0}, "not the scan of this map"),
        ({"regularization": 0.5}, "what is at hand is"),
        ({"reconstruction": "os:getcwd"}, "may not have run by itself"),
        ({"reconstruction": "bart pics {kspace} {sens}"}, "may not have run by itself"),
        ({"reconstruction": "network.pt"}, "may not have run by itself"),
        ({"tsnr_over": "frame"}, "temporal SNR"),
        ({"acceleration": "many"}, "cannot be read"),
        ({"scan": 3}, "cannot be read"),
        ({"noise": "lost.npz"}, r"made with \(noise\), lost.npz"),
        ({"weights": "lost.safetensors"}, r"made with \(weights\), lost.safetensors"),
    ],
)
def test_another_source_than_that_of_the_map_is_refused(maps, changes, message):
    nm = with_command(mrnoise.read_noise_map(maps / "a.h5"), **changes)
    with pytest.raises(Missing, match=message):
        source(nm, maps / "a.h5")


def test_a_reconstruction_that_was_given_may_run(maps):
    nm = with_command(mrnoise.read_noise_map(maps / "a.h5"), reconstruction="mrnoise.reconstruction:CgSense")
    assert source(nm, maps / "a.h5", None, ["mrnoise.reconstruction:CgSense"]).words == "CgSense of scan.npz"


def test_another_image_than_that_of_the_map_is_refused(maps):
    nm = mrnoise.read_noise_map(maps / "a.h5")
    mask = drawn({"frame": 0, "slice": 1, "rows": [[10, 8, 13], [11, 8, 13]]}, tuple(nm.image.shape))
    found = source(nm, maps / "a.h5")
    assert exact(nm, found, mask).std > 0
    with pytest.raises(Missing, match="not that of the map"):
        exact(replace(nm, image=1.1 * nm.image), found, mask)


def test_noise_of_another_level_is_scaled(maps):
    nm = mrnoise.read_noise_map(maps / "a.h5")
    mask = drawn({"frame": 0, "slice": 1, "rows": [[10, 8, 13]]}, tuple(nm.image.shape))
    found = source(nm, maps / "a.h5")
    assert exact(nm.scaled(3.0), found, mask).std == pytest.approx(3 * exact(nm, found, mask).std)


def test_what_a_map_says_of_a_region_bounds_the_exact_sigma():
    """By spots of one voxel to the whole image, of noise that is strongly correlated and of noise that is not."""
    scan = simulate((16, 12), 4, snr=20.0)
    nm = mrnoise.noise_map(CgSense(0.3), scan, method="exact")
    for rows in ([[8, 6, 7]], [[8, 4, 8], [9, 4, 8]], [[y, 0, 12] for y in range(16)]):
        mask = drawn({"frame": 0, "slice": 0, "rows": rows}, (16, 12))
        found = of_map(nm, mask)
        sigma = roi_mean(CgSense(0.3), scan, mask).std
        assert sigma <= found["most"] * (1 + 1e-6)
        if len(rows) == 1:
            assert sigma == pytest.approx(found["most"], rel=1e-5)


def test_frames_and_slices_of_a_drawn_region():
    message = {"frame": 3, "slice": 1, "rows": [[2, 0, 5], [4, 4, 5]]}
    mask = drawn(message, (2, 3, 4, 6, 5))
    assert mask.nonzero().tolist() == [[1, 0, 1, 2, x] for x in range(5)] + [[1, 0, 1, 4, 4]]


def test_the_report_compares_two_maps():
    nm = small_map()
    text = page(nm, second=replace(nm, acceleration=2.0))
    assert 'id="volume-second-std"' in text and "Summary of A" in text and "B  ·" in text
