"""Commands with one odd value each."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from malformed.bases import base, weights
from malformed.changes import Case

COUNTS = ("-1", "0", "-9223372036854775809", "99999999999999999999", "1e3", "nan", "x", "")
FLOATS = ("nan", "inf", "-inf", "-1", "1e400", "x", "")
SEEDS = ("-1", "-99999999999999999999", "x")
BASES = ("SCAN", "MAP", "SERIES")
LONG = "n" * 300
NAMES = (
    LONG,
    f"{LONG}/{LONG}",
    "a[red]b",
    "[/]",
    "[/red]x",
    "b\udcffc",
    "a\nb",
    ":smile:",
    "no/such/thing",
    "/proc/none",
    "/dev/null/x",
    "SCAN/x",
    ".",
    "",
    "%s{0}",
    "ünïcode",
)
INDICES = ("-1", "9", "99999999999999999999", "x", "slice=0", "frame=x", "=1", "slice=", "[/]=0", "slice=0,slice=0")


def _commands() -> list[tuple[str, dict[str, tuple[str, ...]], set[str]]]:
    """A command, odd values of each option ("": of the argument), and the options of which every value is wrong."""
    box = "roi SCAN --region box:4,4,12,12"
    endings = (".h5", "", ".png", ".html", ".nii.gz", ".json", ".x")
    given = {
        "--slice": INDICES,
        "--noise": NAMES,
        "--device": ("[/]", "", "cuda:99", "meta", "cpu:7", "vulkan"),
        "--regularization": FLOATS,
        "": NAMES,
    }
    scan = given | {
        "--seed": SEEDS,
        "-r": (*NAMES, "x:y", "os:getcwd", "[a]:b"),
        "--weights": NAMES,
        "--coil-maps": ("[/]", "", "FIXED"),
    }
    drawn = {
        "--calibration": ("-1", "999", "99999999999999999999"),
        "--sampling-seed": SEEDS,
        "--pattern": ("", "[/]"),
        "-R": ("nan", "inf", "-inf", "0", "-1", "0.5", "1e400", "x"),
    }
    along = {
        "--trajectory": ("", "[/]", "Radial", "cones", LONG),
        "--matrix": ("1,1", "4", "2,2,2", "9999999,9999999"),
        "-R": ("nan", "inf", "-inf", "0", "-1", "1e400", "x"),
    }
    outputs = {"-o": tuple(name + ending for name in NAMES for ending in endings)}
    numbers = {"--json": tuple(f"{name}.json" for name in NAMES)}
    figure = {"-o": tuple(f"{name}.png" for name in NAMES), **numbers}
    ranked = {"-n": COUNTS, "-R": ("0", "-1", "99", "nan", "x"), "--seed": SEEDS, **figure}
    matrices = ("10000000000,4", "100000,100000", "1,1", "0,4", "-1,4", "4", "4,4,4,4", "x", "", "2,2,10000000000")
    simulated = {
        "--matrix": matrices,
        "--slices": COUNTS[:4],
        "--coils": COUNTS[:4],
        "--snr": (*FLOATS, "0"),
        "--noise-samples": ("-1", "0", "99999999999999", "99999999999999999999"),
        "--seed": SEEDS,
        "": tuple(f"{name}.npz" for name in NAMES),
    }
    regions = ("box:1,1,1,1", "circle:9,9,9e9", f"circle:{'9' * 400},1,1", f"box:{'9' * 30},1,2,3", *NAMES)
    places = {"--background": NAMES, "--voxel": (*NAMES, "1,2,3", "9" * 30 + ",1")}
    masks = {"--draws": COUNTS[:4], "--patterns": ("", ",", "equispaced,", "[/]", "all"), "--roi": NAMES}
    rates = ("", "0", "-1", "nan", "1", "\u00b2", "4,,8", "9" * 30)
    targets = {"--target-error": (*FLOATS, "0")}
    wrong = {"--seed", "--sampling-seed", "--slice", "-R", "--snr", "--coils", "--slices", "--target-error"}
    patterns = "rank patterns SCAN -R 2 --roi box:4,4,12,12 -n 16 --draws 2 --patterns equispaced,random_1d"
    networks = "rank networks SCAN -R 2 -r cg-sense -n 16 --repeats 2"
    read = {
        "--noise-covariance": NAMES,
        "--drop-coils": ("0,1,2", "3", "-1", "99999999999999999999", "0,,1", "x", "", "AUTO", "\u00b2"),
        "--axes": ("coil,ky", "ky,kx", "ky,ky,kx", "coil,kz,ky,kx", "[/],ky,kx", "", ",", "kx,ky,coil,coil"),
        "--group": NAMES,
        "--trajectory": NAMES,
        "--matrix": ("4,4", "x", "", "0,4", "99999999,4", "4,4,4,4"),
        "--trajectory-unit": ("mm", "", "[/]", "cycles/fov"),
    }
    bids = "export MAP --for bids --name sub-01_T1w -o out"
    exported = {"-o": NAMES, "": NAMES, "--for": ("", "[/]", "DICOM", "mppca,bids")}
    return [
        ("info SCAN", {"--noise": NAMES, "": NAMES, **read}, {*wrong, *read} - {"--noise-covariance"}),
        (bids, {**exported, "--name": ("", "T1w", "sub-", "a/b_T1w", "[/]", f"sub-{LONG}_T1w", "sub-01")}, {"--for"}),
        ("export MAP --for dicom-mr --anonymous -o out", {**exported, "--reference": NAMES}, {"--for", "--reference"}),
        ("export MAP --for dicom -o out", {"--reference": NAMES}, {"--reference"}),
        ("export SERIES --for nordic -o out", {**exported, "--name": NAMES}, {"--for", "--name"}),
        ("map SCAN -n 8 -m sketch", {**scan, **outputs, "-m": ("[/]", ""), "--resume": ("",)}, wrong),
        ("map SCAN -m sketch", {**targets, "-n": COUNTS, "--batch-size": COUNTS[:4]}, {*wrong, "-n", "--batch-size"}),
        ("map SCAN -n 8 -m sketch -R 2 --pattern random_1d --calibration 4", drawn, wrong),
        ("gfactor SCAN", {**given, **outputs, "--reference": NAMES}, wrong),
        ("gfactor MAP --reference MAP", {**outputs, "-R": drawn["-R"][:5]}, wrong),
        (box, {**scan, **numbers, **places}, wrong),
        (f"{box} --noise-power -n 32", {"-n": COUNTS, "-o": tuple(f"{name}.html" for name in NAMES)}, {"-n"}),
        ("roi SCAN --voxel 9,9", {"--lesion-width": FLOATS, **targets}, {"--target-error"}),
        ("roi SCAN", {"--region": regions}, wrong),
        ("compare MAP MAP", {"--mask": NAMES, "": NAMES}, wrong),
        (patterns, {**ranked, **masks, **given}, wrong - {"-R"}),
        (networks, {**ranked, "--repeats": COUNTS[:4]}, wrong - {"-R"}),
        ("simulate out.npz --matrix 16,12 --noise-samples 100", simulated, wrong),
        ("simulate out.npz --matrix 16,12 -R 2 --pattern random_1d --calibration 2", drawn, wrong),
        ("simulate out.npz --matrix 16,12 -R 2 --trajectory radial", along, set(along)),
        ("evaluate WEIGHTS", {"--accelerations": rates, "": NAMES, "--data": NAMES[:14]}, {"--accelerations"}),
        ("train RECIPE", {"": (*NAMES, "RECIPE"), "--size": ("[/]", "")}, {""}),
        ("reproduce --only pico", {"--only": ("[/]", ""), "--workers": ("0", "-1")}, {"--workers", "--only"}),
        ("demo", {"--seed": SEEDS, **targets}, wrong),
    ]


UNWRITABLE = (LONG, f"{LONG}/x", "/proc/none", "/dev/null/x", "SCAN/x", "/proc/1/x")


def command(rng: random.Random, folder: Path) -> Case:
    """A command with one odd value, or an output that cannot be written."""
    usual, options, wrong = rng.choice(_commands())
    words = usual.split()
    if "-o" in options and rng.random() < 0.2:
        options, wrong = {"-o": UNWRITABLE}, {"-o"}
    if words[0] in ("reproduce", "demo", "train") and rng.random() < 0.5:
        options, wrong = {"-o": UNWRITABLE}, {"-o"}
    option = rng.choice(list(options))
    value = rng.choice(options[option])
    if option.startswith("--"):
        words.append(f"{option}={value}")
    elif option:
        words += [option, value]
    else:
        at = next((i for i, word in enumerate(words) if word.isupper() or word == "out.npz"), len(words))
        if words[at] in BASES and rng.random() < 0.6:
            # A file of that name, which may be as odd as it likes.
            with contextlib.suppress(OSError):
                shutil.copy(base(words[at].lower()), folder / value)
        words[at] = value
    if option == "--resume":
        words[-1] = "--resume"
    recipe = folder / "recipe.yaml"
    if "RECIPE" in words:
        from importlib.resources import files

        text = (files("mrnoise.training") / "recipes" / "unet-brain.yaml").read_text()
        name = rng.choice(("../out", "/tmp/out", "a/b", "", ".", "..", "x\0y", LONG, "3", "a\\nb"))
        lines = [f'name: "{name}"' if line.startswith("name:") else line for line in text.splitlines()]
        recipe.write_text("\n".join(lines))
    given = folder.with_name(folder.name + "-given")
    given.mkdir()
    places = {name: Path(shutil.copy(base(name.lower()), given)) for name in BASES}
    places |= {"WEIGHTS": Path(shutil.copy(weights(), given)), "RECIPE": recipe}
    for word, path in places.items():
        words = [part.replace(word, str(path)) for part in words]
    return Case(" ".join(words), lambda: use_command(words, folder), option in wrong)


def use_command(words: list[str], folder: Path) -> None:
    """In this process, with streams as strict as those of a terminal."""
    from mrnoise.cli.main import run
    from mrnoise.errors import InputError

    before = set(folder.rglob("*"))
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace")]
    previous, argv = Path.cwd(), sys.argv
    code: Any = 0
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            sys.argv = ["mrnoise", *words]
            warnings.resetwarnings()
            warnings.simplefilter("ignore", DeprecationWarning)  # as Python does
            run()
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv = argv
        os.chdir(previous)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams)
    if "site-packages" in err + out or "Warning" in err:
        raise RuntimeError(f"a warning reached the terminal: {(err + out)[:400]}")
    if code in (0, None):
        return
    left = set(folder.rglob("*")) - before
    one = "Usage:" in err or err.count("mrnoise: ") == 1
    if code != 2 or not one or left:
        raise RuntimeError(f"exit code {code}, left {sorted(p.name[:40] for p in left)}: {err[-400:]}")
    raise InputError("refused", expected="", received="", remedy=err)
