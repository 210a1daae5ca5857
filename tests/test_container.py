"""The label of Open Recon, and the entry point of the container, run without one."""

import base64
import copy
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mrnoise.io import read_noise_map
from mrnoise.serving.label import KEY, encoded, label, written
from mrnoise.serving.parameters import CONTROLS, Parameters
from test_read_mrd import write
from test_serve import assert_bits, exchange, of, run, scan_lines, xml

pytestmark = pytest.mark.xdist_group("server")

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {
    "device_trade_name",
    "production_identifier",
    "manufacturer_address",
    "made_in",
    "manufacture_date",
    "material_number",
    "gtin",
    "udi",
    "safety_advices",
    "special_operating_instructions",
    "additional_relevant_information",
}
WHOLE = (-(2**31), 2**31 - 1)


def english(found):
    return isinstance(found, dict) and isinstance(found.get("en"), str)


def faults_of_parameter(one):
    """What schema 1.1.0 has against a parameter."""
    kind, known = one.get("type"), {"type", "id", "label", "information", "default"}
    needed = {"type", "id", "label"} | ({"default"} if kind != "string" else set())
    known |= {"choice": {"values"}, "string": {"isLargeText"}}.get(kind, set())
    if kind in ("int", "double"):
        known, needed = known | {"minimum", "maximum", "unit"}, needed | {"minimum", "maximum"}
    name, default = one.get("id"), one.get("default")
    yield from (f"{name}: {key} is missing" for key in needed - set(one))
    yield from (f"{name}: {key} is unknown" for key in set(one) - known)
    if not re.fullmatch(r"[A-Za-z0-9]+", str(name)):
        yield f"{name}: letters and figures only"
    if not english(one.get("label")) or not english(one.get("information", {"en": ""})):
        yield f"{name}: no English label"
    if kind == "choice":
        ids = [value.get("id") for value in one.get("values", [])]
        if not ids or default not in ids or not all(english(value.get("name")) for value in one["values"]):
            yield f"{name}: a default among its values"
    elif kind == "boolean":
        if not isinstance(default, bool):
            yield f"{name}: true or false"
    elif kind in ("int", "double"):
        numbers = [one.get(key, 0) for key in ("minimum", "default", "maximum")]
        if kind == "int" and any(not isinstance(n, int) or not WHOLE[0] <= n <= WHOLE[1] for n in numbers):
            yield f"{name}: whole numbers of 32 bits"
        if kind == "double" and any(abs(10 * n - round(10 * n)) > 1e-9 for n in numbers):
            yield f"{name}: multiples of 0.1"
        if numbers != sorted(numbers):
            yield f"{name}: a default within its range"
        if "unit" in one and not (english(one["unit"]) and 1 <= len(one["unit"]["en"]) <= 3):
            yield f"{name}: a unit of one to three characters"
    elif kind != "string":
        yield f"{name}: no such type"


def faults(found):
    """What schema 1.1.0 has against a label, and what this server needs beside it."""
    general, recon, parameters = (found.get(key, {}) for key in ("general", "reconstruction", "parameters"))
    if set(found) != {"general", "reconstruction", "parameters"}:
        yield "three parts"
    if set(general) != {"name", "version", "vendor", "information", "id", "regulatory_information"}:
        yield "general"
    if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", general.get("version", "")):
        yield "version"
    if set(general.get("regulatory_information", {})) != TEXTS:
        yield "regulatory"
    if not re.fullmatch(r"[A-Za-z0-9]+", general.get("id", "")):
        yield "id"
    expected = {
        "transfer_protocol": {"protocol": "ISMRMRD", "version": "1.4.1"},
        "port": 9002,
        "emitter": "raw",
        "injector": "image",
        "can_process_adjustment_data": True,
        "content_qualification_type": "RESEARCH",
        "require_readout_filter_off": True,
        "channel_compression": {"require_state": "off"},
    }
    yield from (f"{key}" for key, value in expected.items() if recon.get(key) != value)
    counts = ("min_count_required_gpus", "min_required_gpu_memory", "min_required_memory")
    for key in (*counts, "min_count_required_cpu_cores"):
        if type(recon.get(key)) is not int or recon[key] < (key == "min_count_required_cpu_cores"):
            yield key
    if set(recon) - set(expected) - {*counts, "can_use_gpu", "min_count_required_cpu_cores"}:
        yield "unknown"
    if len(parameters) > 14 or len({one.get("id") for one in parameters}) < len(parameters):
        yield "at most fourteen parameters, each once"
    for one in parameters:
        yield from faults_of_parameter(one)


def test_the_label_is_as_the_schema_wants_it():
    found = label()
    assert list(faults(found)) == []
    assert f'version = "{found["general"]["version"]}"' in (ROOT / "pyproject.toml").read_text()
    file = ROOT / "container" / "openrecon.json"
    assert file.read_text(encoding="utf-8") == written() and json.loads(written()) == found
    assert json.loads(base64.b64decode(encoded())) == found
    assert f'"{KEY}"' in (ROOT / "container" / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("reconstruction", "emitter"), "image"),
        (("reconstruction", "require_readout_filter_off"), False),
        (("reconstruction", "channel_compression"), {"require_state": "on"}),
        (("reconstruction", "min_required_memory"), "8 GB"),
        (("general", "version"), "0.1"),
        (("general", "regulatory_information"), {}),
        (("parameters", 5, "id"), "target_error"),
        (("parameters", 5, "default"), 3.05),
        (("parameters", 5, "unit"), {"en": "percent"}),
        (("parameters", 6, "maximum"), 1e12),
        (("parameters", 0, "default"), "nothing"),
        (("parameters", 1, "minimum"), 0),
        (("parameters",), [label()["parameters"][7] | {"id": f"s{i}"} for i in range(15)]),
    ],
)
def test_a_label_that_is_wrong_is_found(path, value):
    found = copy.deepcopy(label())
    part = found
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert list(faults(found)) != []


def test_defaults_of_the_console_are_those_of_the_command():
    defaults = {name: control.default for name, control in CONTROLS.items()}
    found, notes = Parameters().changed(json.dumps({"parameters": defaults}))
    assert notes == [] and found == Parameters(target_error=0.03)
    assert found.made()[1] == Parameters().made()[1]


def test_the_entry_point_serves(tmp_path):
    """As the container starts it, and as it is told to end."""
    tool = tmp_path / "bin" / "mrnoise"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from mrnoise.cli.main import run; run()" "$@"\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    kept = tmp_path / "kept"
    environment = {
        **os.environ,
        "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "MRNOISE_HOST": "127.0.0.1",
        "MRNOISE_PORT": "0",
        "MRNOISE_CAPTURE": str(kept),
    }
    command = ["sh", str(ROOT / "container" / "start.sh"), "--no-preview"]
    lines = scan_lines(slices=1)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline().rpartition(":")[2])
            _, images = exchange(port, lines, xml(1))
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=30)[0]
    assert process.returncode == 0 and "ended" in said and "Traceback" not in said
    run("map", write(tmp_path / "scan.h5", lines, xml(1)), "-o", tmp_path / "map.h5")
    assert_bits(read_noise_map(tmp_path / "map.h5"), of(images))
    assert len(images) == 4 and len(list(kept.iterdir())) == 1
