"""Simulated scans of anatomy: blocks that do not touch, and examples that are what they say."""

import pickle
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import torch

from mrnoise.closed_form.sense import sense_std
from mrnoise.errors import InputError
from mrnoise.fourier import to_image, to_kspace
from mrnoise.reconstruction import Sense
from mrnoise.sampling import PATTERNS
from mrnoise.simulation import Simulation
from mrnoise.training.anatomy import PARTS, Anatomy, phantom_anatomy, read_anatomy
from mrnoise.training.scans import ScanSettings, SimulatedScans

SMALL = ScanSettings(matrix=((48, 40),), coils=(6, 8))


@pytest.fixture(scope="module")
def phantom():
    return phantom_anatomy(16, 56)


def full(**changes):
    """Fully sampled scans of the anatomy as it is."""
    return ScanSettings(
        **{"matrix": ((48, 40),), "coils": (6, 8), "accelerations": (1,), "patterns": ("equispaced",), **changes}
    )


def numbered(n, gap):
    """Anatomy whose slices carry their number."""
    return Anatomy("numbered", torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 2, 3, 5), gap)


# -- anatomy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "gap"), [(186, 8), (21, 1), (40, 3), (12, 2), (30, 0)])
def test_blocks_keep_the_gap(n, gap):
    anatomy = numbered(n, gap)
    blocks = [anatomy.split(part)[:, 0, 0, 0].int().tolist() for part in PARTS]
    for before, after in pairwise(blocks):
        assert after[0] - before[-1] == gap + 1
    assert blocks[0][0] == 0 and blocks[-1][-1] == n - 1
    assert sum(len(block) for block in blocks) == n - 2 * gap
    for block, share in zip(blocks, (0.70, 0.12, 0.18), strict=True):
        assert abs(len(block) - share * (n - 2 * gap)) <= 1


def test_too_few_slices_and_an_unknown_part_are_refused():
    with pytest.raises(InputError, match="too few slices"):
        numbered(20, 8)
    with pytest.raises(InputError, match="no such part"):
        numbered(40, 3).split("training")
    with pytest.raises(InputError, match="shape or type"):
        Anatomy("bad", torch.zeros(20, 8, 9), 1)


def test_files_are_read_with_their_axes(tmp_path):
    rng = np.random.default_rng(0)
    brain = rng.integers(100, 200, (50, 20, 14)).astype(np.uint8)
    brain[-5:] = 0  # above the head
    brain[:8] //= 4  # the neck is dark
    np.savez(tmp_path / "head.npz", volume=brain)
    anatomy = read_anatomy(tmp_path / "head.npz")
    assert (anatomy.name, anatomy.gap, tuple(anatomy.slices.shape)) == ("head", 8, (37, 1, 20, 14))
    top = np.percentile(brain[8], 99.5)
    torch.testing.assert_close(anatomy.slices[0, 0], torch.from_numpy(brain[8] / top).float().clamp(0, 1))

    knee = rng.integers(1000, 6000, (3, 12, 20, 14)).astype(np.uint16)
    np.savez(tmp_path / "leg.npz", echoes=knee)
    anatomy = read_anatomy(tmp_path / "leg.npz")
    assert (anatomy.name, anatomy.gap, tuple(anatomy.slices.shape)) == ("leg", 1, (12, 3, 20, 14))
    expected = torch.from_numpy(knee[2, 5] / np.percentile(knee[2, 5], 99.5)).float().clamp(0, 1)
    torch.testing.assert_close(anatomy.slices[5, 2], expected)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"kspace": np.ones((4, 5, 6))}, "holds no images"),
        ({"volume": np.ones((5, 6))}, "cannot be used"),
        ({"volume": np.zeros((30, 5, 6))}, "cannot be used"),
        ({"echoes": np.ones((2, 30, 5, 6), dtype=complex)}, "cannot be used"),
        ({"volume": np.full((30, 5, 6), np.nan)}, "cannot be used"),
        ({"volume": np.full((30, 5, 6), -1.0)}, "cannot be used"),
    ],
)
def test_other_content_is_refused(tmp_path, arrays, problem):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=problem):
        read_anatomy(tmp_path / "bad.npz")


def test_files_that_are_no_npz_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "single.npy", np.ones(3))
    for name in ("text.npz", "single.npy", "missing.npz"):
        with pytest.raises(InputError, match="cannot be read"):
            read_anatomy(tmp_path / name)


# -- examples --------------------------------------------------------------------------------------------------


def assert_same(a, b):
    assert (a.acceleration, a.pattern, a.snr) == (b.acceleration, b.pattern, b.snr)
    for name in ("kspace", "mask", "coil_maps"):
        assert torch.equal(getattr(a.acquisition, name), getattr(b.acquisition, name)), name
    assert torch.equal(a.acquisition.noise_covariance.matrix, b.acquisition.noise_covariance.matrix)
    assert torch.equal(a.target, b.target)


@pytest.mark.parametrize("augment", [True, False])
def test_example_is_a_function_of_its_index(phantom, augment):
    settings = ScanSettings(matrix=((48, 40), (40, 56)), coils=(4, 5), patterns=("poisson",), augment=augment)
    used = SimulatedScans(phantom, "train", settings, seed=3)
    first = [used.example(i) for i in range(8)]
    fresh = SimulatedScans(phantom, "train", settings, seed=3)
    for i in (5, 0, 7):
        assert_same(fresh.example(i), first[i])
    for other in (SimulatedScans(phantom, "train", settings, 4), SimulatedScans(phantom, "validation", settings, 3)):
        assert not torch.equal(
            other.example(0).acquisition.noise_covariance.matrix, first[0].acquisition.noise_covariance.matrix
        )
    with pytest.raises(InputError, match="does not exist"):
        used.example(-1)


def test_global_random_state_makes_no_difference_and_is_left_alone(phantom):
    torch.manual_seed(0)
    a = SimulatedScans(phantom, "train", SMALL).example(2)
    assert float(torch.rand(())) == float(torch.rand((), generator=torch.Generator().manual_seed(0)))
    torch.manual_seed(1)
    assert_same(SimulatedScans(phantom, "train", SMALL).example(2), a)


def test_whitened_maps_have_unit_norm(phantom):
    scans = SimulatedScans(phantom, "train", SMALL)
    whole = 0
    for i in range(16):
        example = scans.example(i)
        acq = example.acquisition
        norm = torch.linalg.vector_norm(acq.whiten_maps(acq.coil_maps), dim=0)
        inside = example.target.abs() > 0.1 * example.target.abs().max()
        torch.testing.assert_close(norm[inside], torch.ones_like(norm[inside]), atol=1e-5, rtol=0)
        assert float(norm.max()) <= 1 + 1e-5
        whole += bool((norm > 1 - 1e-4).all())
    assert 1 < whole < 15  # the maps of the others end at the object
    fixed = SimulatedScans(phantom, "test", full(augment=False)).example(1).acquisition
    norm = torch.linalg.vector_norm(fixed.whiten_maps(fixed.coil_maps), dim=0)
    torch.testing.assert_close(norm, torch.ones_like(norm), atol=1e-5, rtol=0)


def test_sense_of_the_noise_free_scan_is_the_target(phantom):
    scans = SimulatedScans(phantom, "train", full(augment=False, snr=(1e6, 1e6)))
    for i in (0, 3):
        example = scans.example(i)
        acq = example.acquisition
        assert acq.acceleration == 1
        image = Sense().bind(acq)(acq.kspace)
        assert float((image - example.target).abs().max() / example.target.abs().max()) < 1e-4
        assert example.target.dtype == torch.complex64 and example.target.shape == (48, 40)


def test_augmented_scans_agree_with_their_target_too(phantom):
    scans = SimulatedScans(phantom, "train", full(snr=(1e6, 1e6)))
    for i in range(6):
        acq, target = scans.example(i).acquisition, scans.example(i).target
        combined = (acq.whiten_maps(acq.coil_maps).conj() * to_image(acq.whiten(acq.kspace))).sum(0)
        assert float((combined - target).abs().max() / target.abs().max()) < 1e-4


def test_noise_has_the_covariance_of_the_acquisition(phantom):
    """Floor: ‖Ψ̂ - I‖_F of N circular samples in C coils is C/√N, relative C/√N / √C = √(C/N)."""
    scans = SimulatedScans(phantom, "train", full(augment=False, accelerations=(2,), coils=(6, 6)))
    coloured, n = 0.0, 0
    for i in range(8):
        acq, target = scans.example(i).acquisition, scans.example(i).target
        residual = (acq.kspace - to_kspace(acq.coil_maps * target))[:, acq.mask]
        white = acq.noise_covariance.whiten(residual, 0)
        coloured = coloured + white @ white.mH
        n += white.shape[1]
        assert float(acq.kspace[:, ~acq.mask].abs().max()) == 0
    found = coloured / n
    eye = torch.eye(6, dtype=found.dtype)
    floor = sqrt(6 / n)
    assert 0.6 * floor < float((found - eye).norm() / eye.norm()) < 1.5 * floor
    total = float(found.diagonal().real.mean())
    assert abs(total - 1) < 4 / sqrt(6 * n)  # a factor of √2 or 2 is far outside
    condition = [scans.example(i).acquisition.noise_covariance.condition_number for i in range(8)]
    assert min(condition) < 10 < max(condition) <= 40.001


def test_snr_is_that_of_the_simulation(phantom):
    scans = SimulatedScans(phantom, "validation", full(augment=False, snr=(12.0, 40.0)))
    drawn = []
    for i in range(6):
        example = scans.example(i)
        acq = example.acquisition
        assert example.snr == pytest.approx(
            Simulation(example.target, acq.coil_maps, acq.noise_covariance).snr, rel=1e-4
        )
        drawn.append(example.snr)
    assert min(drawn) >= 12 and max(drawn) <= 40 and max(drawn) > 1.3 * min(drawn)
    # ... and of an independent closed form: σ of SENSE at R = 1 is √ψ in every voxel.
    assert float(sense_std(acq).max()) == pytest.approx(acq.noise_covariance.mean_variance**0.5, rel=1e-4)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_masks_have_the_acceleration_asked_for(phantom, name):
    settings = ScanSettings(matrix=((128, 112), (144, 128)), coils=(1, 1), patterns=(name,), augment=False)
    scans = SimulatedScans(phantom, "train", settings)
    for i in range(9):
        example = scans.example(i)
        assert example.acceleration == settings.accelerations[i % 3] and example.pattern == name
        assert example.acquisition.acceleration == pytest.approx(example.acceleration, rel=0.1)
        n1, n0 = example.target.shape
        half = 3 if name in ("equispaced", "random_1d") else 8
        across = n0 // 2 if half == 3 else 8
        centre = example.acquisition.mask[n1 // 2 - half : n1 // 2 + half, n0 // 2 - across : n0 // 2 + across]
        assert bool(centre.all())


def test_held_out_scans_cycle_through_slices_accelerations_and_patterns(phantom):
    settings = ScanSettings(
        matrix=((48, 40),), coils=(4, 4), accelerations=(2, 4), patterns=("caipi", "random_2d"), augment=False
    )
    scans = SimulatedScans(phantom, "test", settings)
    drawn = [(e.acceleration, e.pattern) for e in (scans.example(i) for i in range(5))]
    assert drawn == [(2, "caipi"), (4, "caipi"), (2, "random_2d"), (4, "random_2d"), (2, "caipi")]


def test_estimated_maps_come_from_a_separate_scan(phantom):
    settings = full(matrix=((48, 40),), augment=False, accelerations=(4,), snr=(200.0, 200.0), estimated_maps=True)
    example = SimulatedScans(phantom, "train", settings).example(4)
    true = SimulatedScans(phantom, "train", full(augment=False, accelerations=(4,), snr=(200.0, 200.0))).example(4)
    acq = example.acquisition
    assert torch.equal(acq.kspace, true.acquisition.kspace)
    sampled = (acq.calibration != 0).any(0)
    assert int(sampled.sum()) == 24 * 24 and bool(sampled[48 // 2, 40 // 2])
    both = sampled & acq.mask
    assert not torch.equal(acq.calibration[:, both], acq.kspace[:, both])  # noise of its own
    bright = true.target.abs() > 0.2 * true.target.abs().max()
    ratio = example.target.abs()[bright] / true.target.abs()[bright]
    assert float(ratio.max()) <= 1 + 1e-4  # a projection on maps that are not quite the true ones
    assert float(ratio.median()) > 0.97


def test_impossible_settings_are_refused():
    for wrong in (
        {"patterns": ("spiral",)},
        {"snr": (0.0, 10.0)},
        {"coils": (9, 8)},
        {"accelerations": ()},
        {"matrix": ((0, 5),)},
    ):
        with pytest.raises(InputError, match="settings are not possible"):
            ScanSettings(**wrong)


# -- real anatomy ----------------------------------------------------------------------------------------------


def test_real_anatomy(shared):
    brain = read_anatomy(shared / "data" / "anatomy_brain_t1.npz")
    knee = read_anatomy(shared / "data" / "anatomy_knee_mese.npz")
    assert brain.slices.shape[1:] == (1, 384, 274) and 150 < len(brain.slices) < 220
    assert knee.slices.shape[1:] == (8, 256, 256) and 20 <= len(knee.slices) <= 24
    for anatomy in (brain, knee):
        assert float(anatomy.slices.min()) == 0 and float(anatomy.slices.max()) == 1
        example = SimulatedScans(anatomy, "test", ScanSettings()).example(0)
        assert float(example.target.abs().max()) > 0


def test_training_scans_have_a_phase_of_tissue(phantom):
    """Held-out scans have smooth phase; in training fat and local fields turn it within a few voxels.

    The change of phase from voxel to voxel, beyond that of a linear phase, is several times larger.
    """

    def roughness(augment: bool) -> float:
        scans = SimulatedScans(phantom, "train", full(augment=augment, snr=(1e5, 1e5), coils=(6, 6)))
        found = []
        for index in range(6):
            x = scans.example(index).target
            turn = (x[:, 2:] * x[:, :-2] * (x[:, 1:-1].conj() ** 2)).angle().abs()
            strong = x.abs()[:, 1:-1] > 0.3 * x.abs().max()
            found.append(float(turn[strong].mean()))
        return sum(found) / len(found)

    assert roughness(True) > 3 * roughness(False)


def test_an_error_of_a_worker_process_arrives_whole():
    raised = InputError("too few slices", expected="3", received="1", remedy="Give more.")
    arrived = pickle.loads(pickle.dumps(raised))
    assert type(arrived) is InputError and str(arrived) == str(raised) and vars(arrived) == vars(raised)
