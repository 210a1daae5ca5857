"""Ψ as a file or a tensor, and coils that spoil it."""

import numpy as np
import pytest
import torch

from mrnoise import NoiseCovariance, noise_map, read
from mrnoise.errors import InputError
from mrnoise.fourier import to_kspace
from mrnoise.reconstruction import Sense
from test_cli import run

COILS, NY, NX = 5, 36, 40


def unit_noise(rng, *shape):
    return ((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)).astype(np.complex64)


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def psi(rng):
    mixing = np.eye(COILS) + 0.3 * unit_noise(rng, COILS, COILS)
    return mixing @ mixing.conj().T


@pytest.fixture
def arrays(rng, psi):
    """A disc in five coils, with its maps and a noise scan."""
    y, x = np.meshgrid(np.linspace(-1, 1, NY), np.linspace(-1, 1, NX), indexing="ij")
    maps = np.stack([np.exp(-((y - np.sin(a)) ** 2) - (x - np.cos(a)) ** 2 + 1j * a) for a in range(COILS)])
    maps = (maps / np.sqrt((abs(maps) ** 2).sum(0))).astype(np.complex64)
    factor = np.linalg.cholesky(psi)
    image = torch.from_numpy((30 * (y**2 + x**2 < 0.5) * maps).astype(np.complex64))
    kspace = to_kspace(image).numpy() + np.einsum("ab,byx->ayx", factor, unit_noise(rng, COILS, NY, NX))
    noise = factor @ unit_noise(rng, COILS, 4000)
    return {"kspace": kspace.astype(np.complex64), "coil_maps": maps, "noise": noise.astype(np.complex64)}


def saved(path, arrays, *names):
    np.savez(path, **{name: arrays[name] for name in names or arrays})
    return path


def covariance_files(folder, psi):
    np.save(folder / "p.npy", psi)
    np.savez(folder / "alone.npz", anything=psi)
    np.savez(folder / "named.npz", covariance=psi, other=np.ones(3))
    np.savetxt(folder / "p.csv", psi, delimiter=",")
    np.save(folder / "single.npy", np.asfortranarray(psi.astype(np.complex64)))
    return [folder / name for name in ("p.npy", "alone.npz", "named.npz", "p.csv", "single.npy")]


def test_every_kind_of_file_and_a_tensor_give_the_same(tmp_path, arrays, psi):
    path = saved(tmp_path / "a.npz", arrays)
    for file in covariance_files(tmp_path, psi):
        found = read(path, noise_covariance=file).noise_covariance
        np.testing.assert_allclose(found.matrix.numpy(), psi, rtol=1e-6)
        assert found.source == f"given by {file.name}"
    found = read(path, noise_covariance=torch.from_numpy(psi)).noise_covariance
    np.testing.assert_allclose(found.matrix.numpy(), psi)


def test_real_covariances_are_read(tmp_path, arrays):
    path = saved(tmp_path / "a.npz", arrays)
    (tmp_path / "p.csv").write_text(
        "\n".join(",".join(str(2.5 * (i == j)) for j in range(COILS)) for i in range(COILS))
    )
    np.save(tmp_path / "p.npy", 2.5 * np.eye(COILS, dtype=np.float32))
    for name in ("p.csv", "p.npy"):
        assert torch.equal(
            read(path, noise_covariance=tmp_path / name).noise_covariance.matrix.real, 2.5 * torch.eye(COILS)
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.eye(COILS - 1), f"does not fit.*{COILS} × {COILS}"),
        (np.ones((COILS, 3)), "holds no noise covariance.*shape"),
        (np.triu(np.ones((COILS, COILS))), "not Hermitian"),
        (-np.eye(COILS), "not positive definite"),
        (np.full((COILS, COILS), np.nan), "NaN"),
        ({"a": np.eye(COILS), "b": np.eye(COILS)}, "holds no noise covariance.*arrays a, b"),
        ("some words, no numbers", "cannot read"),
        ("", "no noise covariance"),
        (b"\x93NUMPY\x01\x00", "cannot read"),
        (b"PK\x03\x04", "cannot read"),
        (None, "cannot read"),
    ],
)
def test_what_is_no_covariance_is_refused(tmp_path, arrays, content, words):
    path, file = saved(tmp_path / "a.npz", arrays), tmp_path / "p.npy"
    if isinstance(content, str):
        file.write_text(content)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(tmp_path / "p.npz", **content)
        file = tmp_path / "p.npz"
    elif content is not None:
        np.save(file, content)
    with pytest.raises(InputError, match=words):
        read(path, noise_covariance=file)


def test_noise_scan_and_covariance_exclude_each_other(tmp_path, arrays, psi):
    path = saved(tmp_path / "a.npz", arrays)
    with pytest.raises(InputError, match="exclude each other"):
        read(path, noise=path, noise_covariance=torch.from_numpy(psi))


# -- coils that spoil Ψ --------------------------------------------------------------------------------------


def spoilt(arrays):
    """Coil 1 dead, coil 3 a copy of coil 0 with another gain."""
    for name in ("kspace", "noise"):
        arrays[name][1] = 0
        arrays[name][3] = 2j * arrays[name][0]
    arrays["coil_maps"][1] = 0
    return arrays


def test_spoilt_coils_are_named(tmp_path, arrays):
    path = saved(tmp_path / "a.npz", spoilt(arrays))
    with pytest.raises(InputError, match=r"coil 1 is dead; coil 3 is a copy of coil 0.*--drop-coils 1,3"):
        read(path)


@pytest.mark.parametrize("source", ["noise scan", "covariance", "background"])
@pytest.mark.parametrize("drop", ["auto", [3, 1]])
def test_dropped_coils_leave_everywhere(tmp_path, arrays, source, drop):
    spoilt(arrays)
    names = ("kspace", "coil_maps") + (("noise",) if source == "noise scan" else ())
    given = {}
    if source == "covariance":
        given["noise_covariance"] = torch.from_numpy(arrays["noise"] @ arrays["noise"].conj().T / 4000)
    acq = read(saved(tmp_path / "a.npz", arrays, *names), drop_coils=drop, **given)
    kept = [0, 2, 4]
    assert np.array_equal(acq.kspace.numpy(), arrays["kspace"][kept])
    assert np.array_equal(acq.coil_maps.numpy(), arrays["coil_maps"][kept])
    (note,) = (note for note in acq.notes if note.startswith("left out"))
    why = "coil 1 (dead), coil 3 (a copy of coil 0)" if drop == "auto" else "coil 1 (as asked), coil 3 (as asked)"
    assert note == f"left out: {why}"
    expected = arrays["noise"][kept] @ arrays["noise"][kept].conj().T / 4000
    # Some hundred voxels of background: 5 %. Coils in another order would be off by 30 %.
    tolerance = 0.15 if source == "background" else 1e-5
    assert np.abs(acq.noise_covariance.matrix.numpy() - expected).max() < tolerance * np.abs(expected).max()


def test_nothing_is_dropped_from_sound_coils(tmp_path, arrays):
    acq = read(saved(tmp_path / "a.npz", arrays), drop_coils="auto")
    assert acq.n_coils == COILS
    assert acq.notes == ()


def test_the_map_without_a_coil_is_that_of_a_scan_without_it(tmp_path, arrays):
    kept = [0, 1, 3, 4]
    dropped = read(saved(tmp_path / "a.npz", arrays), drop_coils=[2])
    without = read(saved(tmp_path / "b.npz", {name: values[kept] for name, values in arrays.items()}))
    first, second = (noise_map(Sense(), scan, method="closed_form").std for scan in (dropped, without))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("drop", [[5], [-1], [0, 1, 2, 3, 4]])
def test_coils_that_are_not_there_cannot_be_dropped(tmp_path, arrays, drop):
    with pytest.raises(InputError, match="cannot be left out.*0 to 4"):
        read(saved(tmp_path / "a.npz", arrays), drop_coils=drop)


def test_commands_take_both(tmp_path, arrays, psi):
    path = saved(tmp_path / "a.npz", arrays, "kspace", "coil_maps")
    np.save(tmp_path / "p.npy", psi)
    given = ["--noise-covariance", tmp_path / "p.npy", "--drop-coils", "0, 4"]
    text = run("info", path, *given)
    assert "given by p.npy" in text
    assert "coil 0 (as asked), coil 4 (as asked)" in text
    assert "coil 0 (as asked)" in run("gfactor", path, *given, "-o", tmp_path / "g.h5")
    run("map", path, *given, "-n", 4, "-o", tmp_path / "m.h5")
    run("roi", path, *given, "--region", "box:10,10,20,20", "--json", tmp_path / "m.json")
    for words in ("1;2", "all", "-1", ""):
        assert "cannot read the coils" in run("info", path, "--drop-coils", words, code=2)


def test_covariance_that_misses_samples_does_not_blame_coils():
    noise = torch.randn(4, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="more noise samples than coils") as caught:
        NoiseCovariance(noise @ noise.mH)
    assert "dead" not in str(caught.value)
