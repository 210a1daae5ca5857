"""Training: what each paradigm may see, what a step depends on, and what survives being killed."""

import os
import random
import signal
import subprocess
import sys
import time
from math import pi

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mrnoise import InputError
from mrnoise.cli.main import app
from mrnoise.networks import build, load_weights
from mrnoise.reconstruction import CgSense, ZeroFilled
from mrnoise.sampling import equispaced
from mrnoise.simulation import simulate
from mrnoise.training import (
    SSDU,
    VORTEX,
    Noise2Recon,
    ScanSettings,
    SimulatedScans,
    Supervised,
    evaluate_scan,
    psnr,
    read_anatomy,
    read_recipe,
    recipes,
    ssim,
    train,
)
from mrnoise.training.evaluation import REGULARIZATIONS, compare
from mrnoise.training.loop import CHECKPOINT, is_labelled, learning_rate
from mrnoise.training.paradigms import Sample, added_noise, distance, moved, reconstruct
from mrnoise.training.recipe import Optimization

runner = CliRunner()
TINY = {
    "name": "tiny-brain",
    "network": {"architecture": "unrolled-resnet", "settings": {"unrolls": 2, "features": 4}},
    "paradigm": {"paradigm": "supervised"},
    "data": {
        "file": "tiny.npz",
        "matrix": [[26, 22]],
        "coils": [3, 4],
        "accelerations": [2],
        "patterns": ["random_2d"],
    },
    "optimization": {"steps": 12, "learning_rate": 0.003, "validate_every": 4},
}


@pytest.fixture
def data(tmp_path):
    """A folder with a small anatomy: ellipsoids that change from slice to slice."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (60, 30, 28)), indexing="ij")
    volume = 200.0 * (y**2 + x**2 < 0.8 - 0.2 * z**2) - 90 * ((y - 0.2 * z) ** 2 + (x + 0.3) ** 2 < 0.1)
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "tiny.npz", volume=np.clip(volume, 0, 255).astype(np.uint8))
    return folder


@pytest.fixture
def recipe(tmp_path):
    def write(**changes):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump({**TINY, **changes}))
        return path

    return write


@pytest.fixture
def sample(data):
    scans = SimulatedScans(
        read_anatomy(data / "tiny.npz"), "train", ScanSettings(((26, 22),), (4, 4), (2,), ("poisson",))
    )
    return Sample.of(scans.example(5), torch.device("cpu"))


def network(architecture="unrolled-resnet", **settings):
    torch.manual_seed(0)
    made = build(architecture, **(settings or {"unrolls": 2, "features": 4}))
    for parameter in made.parameters():  # the last layers start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_target(sample, target, labelled):
    return Sample(sample.kspace, sample.mask, sample.maps, target, labelled)


# -- paradigms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paradigm", [SSDU(), Noise2Recon(), VORTEX()])
def test_an_unlabelled_scan_does_not_reveal_its_target(paradigm, sample):
    """The same loss whatever the target is; a labelled one depends on it."""
    net = network()
    other = torch.full_like(sample.target, torch.nan)
    losses = [paradigm.loss(net, with_target(sample, t, False), generator()) for t in (sample.target, other)]
    torch.testing.assert_close(losses[0], losses[1])
    assert bool(losses[0].isfinite())
    assert not bool(Supervised().loss(net, with_target(sample, other, True), generator()).isfinite())


def test_ssdu_holds_samples_out(sample):
    """The network does not see what it must predict: changing those samples changes the loss, not the input."""
    seen = []

    class Spy:
        estimates_coil_maps = False
        training = True

        def __call__(self, kspace, encoding):
            seen.append((kspace, encoding.mask))
            return encoding.adjoint(kspace)

    share = 0.4
    SSDU(share=share).loss(Spy(), sample, generator(3))
    kspace, mask = seen[0]
    held_out = sample.mask - mask
    assert bool((held_out >= 0).all()) and not bool((kspace * held_out).any())
    outside = sample.mask.sum() - 16
    spread = (share * (1 - share) * outside) ** 0.5
    assert abs(held_out.sum() - share * outside) < 4 * spread
    centre = mask[13 - 2 : 13 + 2, 11 - 2 : 11 + 2]
    assert bool((centre == 1).all())
    # The prediction of a noise-free linear image from all its samples costs nothing, that from half of them does.
    assert SSDU().loss(Spy(), sample, generator(3)) > 0.1


def test_added_noise_has_the_stated_level(sample):
    """White, circular, on acquired samples only; 1000 samples estimate σ to 1.6 %, √2 is 41 %."""
    noise = added_noise(sample, (0.3, 0.3), generator(1))
    assert not bool((noise * (1 - sample.mask)).any())
    values = noise[:, sample.mask.bool()]
    assert values.numel() > 1000
    assert float(values.abs().square().mean().sqrt()) == pytest.approx(0.3, rel=0.08)
    assert float(values.square().mean().abs().sqrt()) < 0.1


def test_motion_is_a_displacement_of_the_object(sample):
    """One block moved by whole voxels: its image is rolled; the central block stays."""
    shots, shift = 2, 1.5
    n1, n0 = sample.kspace.shape[-2:]
    displaced = moved(sample.kspace, shift, shots, generator(2))
    block = torch.arange(n1) * shots // n1
    still = block == block[n1 // 2]
    torch.testing.assert_close(displaced[:, still], sample.kspace[:, still])
    torch.testing.assert_close(displaced.abs(), sample.kspace.abs())
    ratio = displaced[:, ~still] / sample.kspace[:, ~still]
    d = shift * (2 * torch.rand((shots, 2), generator=generator(2)) - 1)[int(block[~still][0])]
    k1 = ((torch.arange(n1)[:, None] - n1 // 2) / n1)[~still]
    k0 = (torch.arange(n0) - n0 // 2) / n0
    wanted = torch.exp(-2j * pi * (k1 * d[0] + k0 * d[1])).expand_as(ratio)
    measured = sample.kspace[:, ~still] != 0
    torch.testing.assert_close(ratio[measured], wanted[measured], rtol=1e-4, atol=1e-4)


def test_network_with_its_own_maps_is_compared_in_their_phase(sample):
    """A perfect image in the phase of other maps costs nothing."""
    turn = torch.polar(torch.ones(26, 22), torch.linspace(0, 2, 26)[:, None].expand(26, 22))

    class Perfect:
        estimates_coil_maps = True
        training = True

        def coil_maps(self, calibration):
            return sample.maps * turn

        def __call__(self, kspace, encoding):
            return sample.target * turn.conj()

    support = sample.maps.abs().sum(0) > 0
    assert bool(support.any())
    assert float(Supervised().loss(Perfect(), sample, generator())) < 1e-5
    assert float(distance(sample.target * turn.conj(), sample.target)) > 0.1


# -- loop ----------------------------------------------------------------------------------------------------


def test_schedules():
    cosine = Optimization(steps=200, learning_rate=0.01, schedule="cosine")
    cycle = Optimization(steps=200, learning_rate=0.01, schedule="one-cycle")
    assert learning_rate(cosine, 0) == pytest.approx(0.01)
    assert learning_rate(cosine, 100) == pytest.approx(0.005)
    rates = [learning_rate(cycle, step) for step in range(200)]
    assert rates[0] < 0.001 and np.argmax(rates) == 20 and max(rates) == pytest.approx(0.01)
    assert rates[-1] < 1e-5


def test_labels_are_a_share_of_the_slices_evenly_spread():
    for share in (0.0, 0.25, 0.5, 0.8, 1.0):
        chosen = [is_labelled(i, share) for i in range(120)]
        assert sum(chosen) == 120 * share
        assert sum(chosen[:60]) == 60 * share


def test_training_improves_the_image(data, recipe, tmp_path):
    """Of noisy scans, where there is something to learn."""
    noisy = {**TINY["data"], "snr": [6, 8]}
    optimization = {"steps": 150, "learning_rate": 0.003, "validate_every": 30, "average": 0.9}
    calls = []
    trained = train(
        read_recipe(recipe(data=noisy, optimization=optimization)),
        data,
        tmp_path / "out",
        progress=lambda *call: calls.append(call),
    )
    assert trained.steps == 150 and [h["step"] for h in trained.history] == [30, 60, 90, 120, 150]
    assert [call[:2] for call in calls] == [(step, 150) for step in range(1, 151)]
    assert trained.history[-1]["psnr"] > trained.history[0]["psnr"] + 1


KILLED = """
import sys
from pathlib import Path
from mrnoise.training import read_recipe, train
train(read_recipe(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), save_every=0.0)
"""


@pytest.mark.parametrize("paradigm", ["supervised", "vortex"])
def test_killed_and_resumed_equals_left_alone(paradigm, data, recipe, tmp_path):
    """SIGKILL at a random step; the resumed run ends with the same weights, average, optimiser and history."""
    path = recipe(
        paradigm={"paradigm": paradigm}, optimization={"steps": 40, "learning_rate": 0.003, "validate_every": 15}
    )
    chosen = read_recipe(path)
    alone = train(chosen, data, tmp_path / "alone")

    folder = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(path), str(data), str(folder)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (folder / CHECKPOINT).exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = torch.load(folder / CHECKPOINT, weights_only=True)["step"]
    assert 0 < reached <= 40
    assert not (folder / "w").exists()

    resumed = train(chosen, data, folder)
    assert resumed.steps == 40
    for name, wanted in alone.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], wanted), (reached, name)
    assert [h["step"] for h in resumed.history] == [h["step"] for h in alone.history]
    assert resumed.history[-1] == alone.history[-1]


def test_another_seed_trains_other_weights(data, recipe, tmp_path):
    first, second = (train(read_recipe(recipe(seed=seed)), data, tmp_path / f"seed{seed}") for seed in (0, 1))
    assert any(
        not torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True)
    )


def test_checkpoint_of_another_recipe_is_refused(data, recipe, tmp_path):
    train(read_recipe(recipe()), data, tmp_path / "out")
    with pytest.raises(InputError, match="another recipe"):
        train(read_recipe(recipe(seed=1)), data, tmp_path / "out")


def test_a_damaged_checkpoint_is_one_clear_error(data, recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / CHECKPOINT).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="cannot read checkpoint.pt"):
        train(read_recipe(recipe()), data, tmp_path / "out")


# -- recipes -------------------------------------------------------------------------------------------------


def test_every_recipe_is_valid_in_every_size():
    assert recipes() == sorted(
        f"{name}-{anatomy}"
        for name in ("unet", "varnet", "modl", "ssdu", "n2r", "vortex")
        for anatomy in ("brain", "knee")
    )
    for name in recipes():
        for size in ("cpu", "gpu"):
            found = read_recipe(name, size)
            assert found.name == name
            net = build(found.network.architecture, **found.network.settings)
            assert sum(p.numel() for p in net.parameters()) * 2 < 3.2e6, "half precision, about 3 MB"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": {}}, "networks"),
        ({"optimization": {"steps": 0}}, "optimization.steps"),
        ({"paradigm": {"paradigm": "ssdu", "labelled": 0.5}}, "labelled"),
        ({"paradigm": {"paradigm": "unsupervised"}}, "paradigm"),
        *(({"name": name}, "at name") for name in ("../out", "/tmp/out", "a/b", "..", "", ".hidden", "n" * 99, "a\nb")),
        ({"initial": "../../else"}, "at initial"),
        ({"seed": -1}, "at seed"),
        ({"optimization": {"steps": 2, "learning_rate": float("inf")}}, "at optimization.learning_rate"),
        ({"optimization": {"steps": 2, "clip": float("nan")}}, "at optimization.clip"),
    ],
)
def test_bad_recipes_are_one_clear_error(changes, message, recipe):
    with pytest.raises(InputError, match=message):
        read_recipe(recipe(**changes))


def test_missing_recipes_and_sizes(recipe, tmp_path):
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="no such size"):
        read_recipe(recipe(), "huge")


# -- quality -------------------------------------------------------------------------------------------------


def test_psnr_and_ssim_of_known_images():
    reference = torch.zeros(20, 16)
    reference[4:12, 3:9] = 2.0
    assert psnr(reference + 0.02, reference) == pytest.approx(40.0, abs=1e-3)
    assert ssim(reference * torch.exp(torch.tensor(1j)), reference) == pytest.approx(1.0, abs=1e-6)
    assert ssim(reference.flip(0), reference) < 0.7


def test_baseline_has_the_best_regularization(data):
    settings = ScanSettings(((26, 22),), (6, 6), (3,), ("random_2d",), (15.0, 15.0), augment=False)
    example = SimulatedScans(read_anatomy(data / "tiny.npz"), "test", settings).example(0)
    scan = example.acquisition
    found = compare({"also": CgSense(1e-3)}, scan, example.target)
    each = [psnr(CgSense(weight).bind(scan)(scan.kspace), example.target) for weight in REGULARIZATIONS]
    assert found["cg-sense"][0] == pytest.approx(max(each), abs=0.05)
    assert found["cg-sense"][0] >= found["also"][0] - 0.05


def test_measured_scan_is_its_own_reference():
    """A reconstruction of all samples is perfect; an undersampled scan cannot serve."""
    scan = simulate((48, 44), 6, snr=60, seed=1).replace(coil_maps=None)
    found = evaluate_scan({"also": CgSense(1e-2)}, scan, (2,))
    assert set(found[2]) == {"equispaced", "random_1d", "random_2d", "poisson", "all"}
    assert found[2]["all"]["cg-sense"]["psnr"] > found[2]["all"]["zero-filled"]["psnr"] + 3
    assert evaluate_scan({"also": ZeroFilled()}, scan, (1,))[1]["poisson"]["also"]["psnr"] > 80
    with pytest.raises(InputError, match="cannot serve as a reference"):
        evaluate_scan({}, scan.undersample(equispaced((48, 44), 2)), (2,))


def test_reconstruct_returns_the_maps_in_use(sample):
    assert reconstruct(network(), sample.kspace, sample.mask, sample.maps)[1] is sample.maps
    varnet = network("varnet", cascades=1, features=4, poolings=1, map_features=2, map_poolings=1)
    maps = reconstruct(varnet, sample.kspace, sample.mask, sample.maps)[1]
    assert maps is not sample.maps
    power = maps.detach().abs().square().sum(0)
    bright = sample.target.abs() > 0.3 * sample.target.abs().max()
    assert float(power[bright].min()) > 0.9 and float(power.max()) <= 1.1


# -- command line --------------------------------------------------------------------------------------------


def test_train_and_evaluate_on_the_command_line(data, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("mrnoise.training.evaluation.MATRIX", (44, 40))
    monkeypatch.setattr("mrnoise.training.evaluation.N_SLICES", 1)
    out = tmp_path / "out"
    result = runner.invoke(app, ["train", str(recipe()), "--data", str(data), "-o", str(out)])
    assert result.exit_code == 0, result.output
    path = out / "tiny-brain.safetensors"
    assert load_weights(path)[1]["recipe"]["optimization"]["steps"] == 12
    result = runner.invoke(app, ["evaluate", str(path), "--data", str(data), "--accelerations", "2"])
    assert result.exit_code == 0, (result.output, result.exception)
    card = (out / "tiny-brain.md").read_text()
    for word in ("UnrolledResNet", "tiny.npz", "CG-SENSE", "| 2 | all |", "12 steps", "mrnoise"):
        assert word in card
    assert "tiny-brain" in result.output


def test_training_data_that_are_missing_are_one_clear_error(recipe, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        train(read_recipe(recipe()), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
