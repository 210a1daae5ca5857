"""QA series: a dead coil and a slow drift are found, and nothing else is."""

import csv
import datetime
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from mrnoise import InputError, noise_map
from mrnoise.acquisition import NoiseCovariance
from mrnoise.cli.main import app
from mrnoise.foreground import foreground
from mrnoise.io.scans.npz import write_npz
from mrnoise.quality import History, Quality, Record, charts, findings, measure_quality
from mrnoise.quality.phantom import CoilQuality
from mrnoise.reconstruction import CgSense
from mrnoise.simulation import simulate

SHAPE, N_COILS, WEEKS, BASELINE = (20, 16), 4, 12, 5
FIRST = datetime.date(2026, 1, 5)
PHANTOM = simulate(SHAPE, N_COILS, snr=60.0, seed=1)


def weekly(week, *, sigma=1.0, dead=None, seed=0):
    """The phantom scanned again: another noise, gains of coils off by 0.3 %, receivers of ``sigma`` times the noise."""
    generator = torch.Generator().manual_seed(1000 * seed + week)
    gains = 1 + 0.003 * torch.randn(N_COILS, 1, 1, generator=generator)
    unit = torch.randn(N_COILS, *SHAPE, dtype=torch.complex64, generator=generator)
    signal = simulate(SHAPE, N_COILS, snr=1e9, seed=1).kspace * gains
    if dead is not None:
        signal[dead] = 0
    psi = PHANTOM.noise_covariance.scaled(sigma**2 * float(gains.mean()) ** 2, "noise scan")
    return PHANTOM.replace(kspace=signal + psi.colour(unit, 0).to(signal), noise_covariance=psi)


def record(week, scan):
    found = measure_quality(CgSense(1e-3), scan)
    return Record(FIRST + datetime.timedelta(7 * week), f"week{week}.h5", f"{week}", "CgSense(0.001), object", found)


def series(scans):
    history = History()
    for week, scan in enumerate(scans):
        history = history.with_record(record(week, scan))
        yield history


@pytest.mark.parametrize("seed", range(3))
def test_twelve_weeks_with_a_dead_coil_and_a_slow_drift(seed):
    """Receivers grow noisier by 1 % a week from the third on; coil 2 is dead from the ninth on."""
    scans = [
        weekly(week, sigma=1.01 ** max(0, week - 2), dead=2 if week >= 8 else None, seed=seed) for week in range(WEEKS)
    ]
    found = [{finding.name for finding in findings(history)} for history in series(scans)]
    noisier = {"snr", "std", "noise"}
    assert not any(found[:BASELINE])
    for week in range(BASELINE, 8):
        assert found[week] <= noisier, week
    for week in range(8, WEEKS):
        assert "signal of coil 2" in found[week] and found[week] <= noisier | {"signal of coil 2"}, week
    assert "noise" in found[-1] and "std" in found[-1]


@pytest.mark.parametrize("seed", range(4))
def test_a_year_in_order_raises_no_alarm(seed):
    """Floor: 36 scans, alarms at 0.27 % a scan and kind: 0.2 expected."""
    history = History()
    generator = torch.Generator().manual_seed(seed)
    alarms = 0
    for week in range(40):
        x = (0.02 * torch.randn(3 + 2 * N_COILS, generator=generator)).exp().tolist()
        coils = {c: CoilQuality(x[3 + c], x[3 + N_COILS + c]) for c in range(N_COILS)}
        quality = Quality(30 * x[0], 0.1 * x[1], 0.2 * x[2], 0.3 + 0.01 * x[0], coils)
        day = FIRST + datetime.timedelta(7 * week)
        history = history.with_record(Record(day, "scan.h5", str(week), "way", quality))
        alarms += bool(findings(history))
    assert alarms <= 2


def test_limits_know_a_rise_of_noise_by_root_two():
    """And the least change keeps what does not matter from raising an alarm."""
    for factor, broken in ((2**0.5, True), (1.01, False)):
        scans = [weekly(week, sigma=factor if week == 6 else 1.0) for week in range(7)]
        *_, history = series(scans)
        assert ("std" in {finding.name for finding in findings(history)}) == broken


def test_numbers_are_those_of_the_map_and_of_the_noise():
    scan = weekly(0)
    nm = noise_map(CgSense(1e-3), scan, target_error=0.01)
    inside, found = foreground(nm.image), measure_quality(CgSense(1e-3), scan)
    assert found.snr == pytest.approx(float(nm.snr[inside].median()))
    assert found.std == pytest.approx(float(nm.std[inside].median()))
    own = scan.noise_covariance.matrix.diagonal().real.sqrt()
    assert [found.coils[c].noise for c in range(N_COILS)] == pytest.approx(own.tolist())
    clean = simulate(SHAPE, N_COILS, snr=1e9, seed=1).kspace.abs().square().mean((-2, -1)).sqrt()
    # Floor: 320 samples know the power of a signal of 3 σ to 2 %.
    assert [found.coils[c].signal for c in range(N_COILS)] == pytest.approx(clean.tolist(), rel=0.05)


def test_signal_of_a_coil_is_without_its_noise_where_lines_are_missing_or_averaged():
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[::2] = True
    psi = NoiseCovariance(torch.diag(torch.tensor([1.0, 4.0])))
    unit = torch.randn(2, *SHAPE, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    averages = torch.full(SHAPE, 3.0)
    noise = psi.colour(unit, 0).to(torch.complex64) / 3**0.5
    maps = torch.ones(2, *SHAPE, dtype=torch.complex64) / 2**0.5
    scan = PHANTOM.replace(
        kspace=noise + 5, noise_covariance=psi, averages=averages, coil_maps=maps, mask=mask, calibration=None
    )
    found = measure_quality(CgSense(1e-2), scan, torch.ones(SHAPE, dtype=torch.bool))
    assert [found.coils[c].signal for c in range(2)] == pytest.approx([5, 5], rel=0.05)
    assert scan.coil_numbers == (0, 1)


# -- the command -------------------------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(app, ["qa", *map(str, words)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weeks")
    for week in range(6):
        scan = weekly(week)
        if week == 5:
            kspace = scan.kspace.clone()
            kspace[1] = 0  # not even noise
            scan = scan.replace(kspace=kspace)
        generator = torch.Generator().manual_seed(week)
        noise = scan.noise_covariance.colour(torch.randn(N_COILS, 4000, dtype=torch.complex128, generator=generator), 0)
        if week == 5:
            noise[1] = 0
        write_npz(scan, folder / f"week{week}.npz", noise.to(torch.complex64))
    return folder


def test_the_command_grows_a_table_and_breaks_on_a_dead_coil(files, tmp_path):
    table = tmp_path / "history.csv"
    for week in range(6):
        done = command(table, files / f"week{week}.npz", "--date", FIRST + datetime.timedelta(7 * week))
        assert done.exit_code == (1 if week == 5 else 0), done.output
    assert "noise of coil 1 is zero" in done.output and "signal of coil 1 is zero" in done.output
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["date"] for row in rows][-1] == "2026-02-09" and rows[-1]["noise_1"] == "0" != rows[-1]["noise_2"]
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    again = command(table)
    assert again.exit_code == 1 and "noise of coil 1 is zero" in again.output
    before = table.read_bytes()
    twice = command(table, files / "week3.npz")
    assert twice.exit_code == 1 and isinstance(twice.exception, InputError) and "line 5" in str(twice.exception)
    other = command(table, files / "week3.npz", "--region", "box:5,5,9,9")
    assert isinstance(other.exception, InputError) and "another way" in str(other.exception)
    larger = simulate((30, 20), N_COILS)
    write_npz(larger, tmp_path / "larger.npz", larger.noise_covariance.colour(torch.randn(N_COILS, 999) + 0j, 0))
    other = command(table, tmp_path / "larger.npz")
    assert isinstance(other.exception, InputError) and "30 × 20" in str(other.exception)
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns a, b"),
        ("{head}\n2026-05-04,s,9,way,1,1,1,x,1,1\n", "line 2"),
        ("{head}\n4.5.2026,s,9,way,1,1,1,1,1,1\n", "line 2"),
        ("{head}\n2026-05-04,s,9,way,1,1,1,-1,1,1\n", "line 2"),
        ("{head}\n2026-05-04,s,9,way,1,1\n", "line 2"),
    ],
)
def test_what_is_no_table_is_refused(text, named, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(text.format(head="date,scan,sha256,measured,snr,std,noise,correlation,noise_0,signal_0"))
    if not text:
        assert History.read(path) == History()
        path.write_text("nothing\n")  # the file of somebody else is not written over
    with pytest.raises(InputError, match=named):
        History.read(path)


def test_tables_round_trip_and_take_later_coils_for_dead(tmp_path):
    found = measure_quality(CgSense(1e-3), weekly(0))
    history = History().with_record(Record(FIRST, "a,b\n.h5", "1", "way", found))
    fewer = replace(found, coils={c: found.coils[c] for c in range(3)})
    history = history.with_record(Record(FIRST, "c.h5", "2", "way", fewer))
    assert history.records[1].quality.coils[3] == CoilQuality(0.0, 0.0)
    history.write(tmp_path / "history.csv")
    read = History.read(tmp_path / "history.csv")
    assert [one.scan for one in read.records] == ["a,b\n.h5", "c.h5"]
    (tmp_path / "marked.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "history.csv").read_bytes())
    assert History.read(tmp_path / "marked.csv") == read
    assert read.records[0].quality.snr == pytest.approx(found.snr, rel=1e-5)
    more = replace(found, coils=found.coils | {4: CoilQuality(1.0, 1.0)})
    with pytest.raises(InputError, match="more coils"):
        history.with_record(Record(FIRST, "d.h5", "3", "way", more))
    with pytest.raises(InputError, match="3 scans or more"):
        charts(history, baseline=2)
