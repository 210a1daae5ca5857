"""Files of arrays by independent writers (numpy, h5py, scipy, BART, SigPy), and which axis is which."""

import itertools
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from mrnoise.errors import InputError
from mrnoise.io.scans.axis_order import Evidence, axis_order, parsed_axes
from mrnoise.io.scans.scan_file import read
from mrnoise.reconstruction import RootSumOfSquares
from mrnoise.saving import save
from small_maps import small_map
from test_cli import run

# A different length on every axis.
SLICES, COILS, NY, NX = 3, 5, 36, 44
MIXING = np.eye(COILS) + 0.3j * np.diag(np.ones(COILS - 1), 1) - 0.2 * np.diag(np.ones(COILS - 2), -2)
PSI = MIXING @ MIXING.conj().T


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def circular(rng, *shape):
    return ((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)).astype(np.complex64)


@pytest.fixture
def kspace(rng):
    """(slice, coil, ky, kx)."""
    return circular(rng, SLICES, COILS, NY, NX) + 2


@pytest.fixture
def noise(rng):
    return (MIXING @ circular(rng, COILS, 4000)).astype(np.complex64)


def records(values, names=("real", "imag"), kind="<f4"):
    out = np.empty(values.shape, [(name, kind) for name in names])
    out[names[0]], out[names[1]] = values.real, values.imag
    return out


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def matlab73(path, **arrays):
    """As MATLAB writes it: a block of text before HDF5, axes reversed, complex numbers as records."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            values = np.asarray(values).T
            file[name] = records(values) if np.iscomplexobj(values) else values
            file[name].attrs["MATLAB_class"] = np.bytes_("single")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 1 2024 HDF5 schema 1.00 .".ljust(512))
    return path


def same(scan, kspace):
    assert torch.equal(scan.kspace, torch.from_numpy(np.ascontiguousarray(kspace)))


# -- complex numbers ---------------------------------------------------------------------------------------------------


WAYS = {
    "complex64": lambda k: k,
    "complex128": lambda k: k.astype(np.complex128),
    "big-endian": lambda k: k.astype(">c8"),
    "real/imag": records,
    "r/i": lambda k: records(k, ("r", "i"), "<f8"),
    "Re/Im": lambda k: records(k, ("Re", "Im")),
    "int16 records": lambda k: records(k, ("r", "i"), "<i2"),
    "last axis": lambda k: np.stack([k.real, k.imag], -1),
    "int16 pairs": lambda k: np.stack([k.real, k.imag], -1).astype(np.int16),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["npz", "HDF5", "npy"])
def test_complex_numbers_in_every_layout(tmp_path, kspace, noise, way, form):
    kspace, noise = np.round(50 * kspace), np.round(50 * noise)  # whole numbers survive every layout
    stored, scan = WAYS[way](kspace), WAYS[way](noise)
    if form == "npz":
        np.savez(tmp_path / "a", kspace=stored, noise=scan)
        found = read(tmp_path / "a.npz")
    elif form == "HDF5":
        found = read(hdf5(tmp_path / "a.h5", kspace=stored, noise=scan))
    else:
        np.save(tmp_path / "a", stored)
        np.save(tmp_path / "n", scan)
        found = read(tmp_path / "a.npy", noise=tmp_path / "n.npy", axes="slice,coil,ky,kx")
    assert torch.equal(found.kspace, torch.from_numpy(kspace).to(found.kspace.dtype))
    assert found.noise_covariance.n_samples == 4000
    assert torch.allclose(
        found.noise_covariance.matrix, torch.from_numpy(noise @ noise.conj().T / 4000).to(torch.complex128)
    )


@pytest.mark.parametrize("form", ["npy", "h5"])
def test_real_and_imaginary_parts_in_turn_along_the_coils(tmp_path, kspace, form):
    """As in Calgary-Campinas: (slice, y, x, 2 · coil). Read with all axes named, else refused."""
    pairs = np.stack([kspace.real, kspace.imag], -1).transpose(0, 2, 3, 1, 4).reshape(SLICES, NY, NX, 2 * COILS)
    path = tmp_path / f"a.{form}"
    np.save(path, pairs) if form == "npy" else hdf5(path, kspace=pairs)
    same(read(path, axes="slice,ky,kx,coil"), kspace)
    with pytest.raises(InputError, match=r"not complex.*--axes slice,ky,kx,coil"):
        read(path)


def test_records_of_other_things_are_refused(tmp_path):
    other = np.zeros((COILS, NY, NX), [("real", "f4"), ("weight", "f4")])
    with pytest.raises(InputError, match="kspace in a.h5 is not numeric"):
        read(hdf5(tmp_path / "a.h5", kspace=other))


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_matlab(tmp_path, kspace, noise, version):
    """(kx, ky, coil, slice), as MATLAB users have it, with mask, coil maps and noise in their order."""
    scipy_io = pytest.importorskip("scipy.io")
    arrays = {"kspace_full": kspace.T, "noise": noise.T, "mask": np.ones((NX, NY), np.uint8)}
    arrays["coil_maps"] = np.ones((NX, NY, COILS), np.complex64) * np.arange(1, NX + 1)[:, None, None]
    arrays["mask"][:, 1] = 0
    path = tmp_path / "scan.mat"
    if version == "5":
        scipy_io.savemat(path, arrays, do_compression=True)
    else:
        matlab73(path, **arrays)
    scan = read(path, axes="kx,ky,coil,slice")
    kept = kspace.copy()
    kept[..., 1, :] = 0
    same(scan, kept)
    assert scan.axes == ("slice",) and scan.source == "scan.mat (MATLAB)"
    assert scan.noise_covariance.n_samples == 4000 and scan.noise_covariance.n_coils == COILS
    assert torch.equal(scan.coil_maps[0, 0].real, torch.arange(1.0, NX + 1))
    with pytest.raises(InputError, match=r"which axis.*--axes kx,ky,coil,slice"):
        read(path)
    with pytest.raises(InputError, match=r"in reverse.*--axes kx,ky,coil,slice"):
        read(path, axes="slice,coil,ky,kx")


@pytest.mark.parametrize("order", [("ky", "kx", "coil"), ("coil", "ky", "kx")])
@pytest.mark.parametrize("version", ["5", "7.3"])
def test_matlab_slices_are_told_by_their_noise_scan(tmp_path, kspace, noise, order, version):
    import scipy.io

    one = kspace[0] if order[0] == "coil" else np.moveaxis(kspace[0], 0, -1)
    path = tmp_path / "a.mat"
    write = scipy.io.savemat if version == "5" else lambda p, arrays: matlab73(p, **arrays)
    write(path, {"kspace": one, "noise": noise})
    same(read(path), kspace[0])


needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="no bart")


def bart(folder, *words):
    subprocess.run(["bart", *map(str, words)], cwd=folder, check=True, capture_output=True)


def cfl(path, values):
    """Array with BART's dimensions."""
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, values.shape)) + "\n")
    np.asarray(values, np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))
    return path.with_suffix(".cfl")


@needs_bart
def test_bart_writes_kspace_and_noise(tmp_path):
    """BART's phantom with BART's noise: its order of dimensions, and Ψ within sampling error of the variance given."""
    bart(tmp_path, "phantom", "-k", "-s", 4, "-x", 40, "clean")
    bart(tmp_path, "noise", "-n", 3, "clean", "k")
    bart(tmp_path, "zeros", 4, 1000, 1, 1, 4, "z")
    bart(tmp_path, "noise", "-n", 3, "z", "n")
    scan = read(tmp_path / "k.cfl", noise=tmp_path / "n.hdr")
    assert (scan.n_coils, scan.spatial_shape, scan.axes) == (4, (40, 40), ())
    # 4000 samples: 1.6 %.
    assert scan.noise_covariance.mean_variance == pytest.approx(3, rel=0.07)
    raw = np.fromfile(tmp_path / "k.cfl", np.complex64).reshape(4, 40, 40)  # BART's fastest, the readout, last
    same(scan, raw)
    bart(tmp_path, "flip", 1, "k", "flipped")
    same(read(tmp_path / "flipped.hdr"), raw[..., ::-1])


def test_bart_volumes_slices_echoes_frames_and_averages(tmp_path, rng):
    shape = [9, 12, 7, COILS, 1, 2, 1, 1, 1, 1, 4, 1, 1, 3, 1, 1]
    values = circular(rng, *shape)
    scan = read(cfl(tmp_path / "volume", values), noise=cfl(tmp_path / "n", circular(rng, 500, 1, 1, COILS)))
    assert scan.axes == ("slice", "frame", "echo") and scan.image_shape == (3, 4, 2, 7, 12, 9)
    same(scan, values.transpose(13, 10, 5, 3, 2, 1, 0, *[i for i in range(16) if shape[i] == 1]).squeeze())
    flat = circular(rng, 20, 24, 1, COILS, *[1] * 10, 3)
    scan = read(cfl(tmp_path / "flat", flat))
    assert scan.image_shape == (24, 20) and float(scan.averages.min()) == 3
    assert torch.allclose(scan.kspace, torch.from_numpy(flat.mean(-1)[..., 0].squeeze().T), atol=1e-6)


def test_bart_arrays_of_something_else(tmp_path, rng):
    path = cfl(tmp_path / "maps", circular(rng, 8, 9, 1, 4, 2))
    with pytest.raises(InputError, match="dimensions 4 in use"):
        read(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="does not fit its header"):
        read(path)
    path.with_suffix(".hdr").unlink()
    with pytest.raises(InputError, match=r"Both \.cfl and \.hdr"):
        read(path)


def test_sigpy_writes_npy(tmp_path, noise):
    sigpy = pytest.importorskip("sigpy")
    images = sigpy.shepp_logan((NY, NX)).astype(np.complex64) * np.arange(1, COILS + 1)[:, None, None]
    kspace = sigpy.fft(images, axes=(-2, -1)).astype(np.complex64)
    np.save(tmp_path / "k.npy", kspace)
    np.save(tmp_path / "n.npy", noise)
    scan = read(tmp_path / "k.npy", noise=tmp_path / "n.npy")
    same(scan, kspace)
    assert scan.notes[0] == "axes recognized as coil, ky, kx: 5 coils by the noise scan"
    image = RootSumOfSquares().bind(scan)(scan.kspace)
    assert torch.allclose(image, torch.from_numpy(np.linalg.norm(images, axis=0)).to(image.dtype), atol=1e-4)


def test_kspace_by_another_name_or_in_a_group(tmp_path, kspace):
    same(read(hdf5(tmp_path / "a.h5", kspace_full=kspace)), kspace)
    scan = read(hdf5(tmp_path / "b.h5", **{"data/kspace": kspace, "data/sens_maps": kspace, "noise_cov": np.eye(5)}))
    same(scan, kspace)
    assert any("not used: data/sens_maps, noise_cov" in note for note in scan.notes)
    with pytest.raises(InputError, match=r"several arrays.*kspace_a, kspace_b"):
        read(hdf5(tmp_path / "c.h5", kspace_a=kspace, kspace_b=kspace))


@pytest.mark.parametrize("write", [hdf5, matlab73])
def test_companions_lie_beside_kspace_in_its_group(tmp_path, kspace, noise, write):
    """A struct of MATLAB is such a group; its noise was left aside and Ψ estimated."""
    volume = kspace.transpose(1, 2, 3, 0)  # (coil, ky, kx, slice)
    path = write(tmp_path / "a", **{"data/kspace": volume, "data/noise": noise, "TR": np.ones(1)})
    acq = read(path, axes="coil,ky,kx,slice")
    same(acq, kspace)
    assert acq.noise_covariance.source.startswith("noise scan of") and acq.noise_covariance.n_samples == 4000
    np.testing.assert_allclose(acq.noise_covariance.matrix, PSI, atol=0.2)
    other = read(hdf5(tmp_path / "b.h5", kspace=kspace), noise=path)
    assert torch.equal(other.noise_covariance.matrix, acq.noise_covariance.matrix)


def test_structs_of_matlab_5_are_named(tmp_path, kspace, noise):
    for name, held in (("struct", {"kspace": kspace}), ("cell array", np.array([kspace, 1], dtype=object))):
        scipy.io.savemat(tmp_path / "a.mat", {"data": held, "TR": 3.0})
        with pytest.raises(InputError, match=rf"received data \(a {name}\). Save the fields of a struct"):
            read(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "a.mat", {"kspace": kspace, "noise": noise, "data": {"TR": 3.0}})
    same(read(tmp_path / "a.mat", axes="slice,coil,ky,kx"), kspace)


def test_a_saved_map_is_no_scan(tmp_path):
    save(small_map(), tmp_path / "map.h5")
    with pytest.raises(InputError, match="map.h5 is a noise map, not a scan"):
        read(tmp_path / "map.h5")
    with pytest.raises(InputError, match="map.h5 is a noise map, not a scan"):
        read(tmp_path / "map.h5", noise=tmp_path / "map.h5")


def test_bart_names_a_pair_without_a_suffix(tmp_path, kspace, noise):
    cfl(tmp_path / "k.v2.cfl", kspace[0].T[:, :, None])
    cfl(tmp_path / "noise.cfl", noise.T[:, None, None])
    acq = read(tmp_path / "k.v2", noise=tmp_path / "noise")
    same(acq, kspace[0])
    assert acq.noise_covariance.n_samples == 4000
    with pytest.raises(InputError, match="there is no file .*k.v3"):
        read(tmp_path / "k.v3")


def test_covariance_in_the_file(tmp_path, kspace):
    np.savez(tmp_path / "a.npz", kspace=kspace, noise_covariance=PSI)
    scan = read(tmp_path / "a.npz")
    assert torch.allclose(scan.noise_covariance.matrix, torch.from_numpy(PSI).to(torch.complex128))
    assert scan.notes == ()


def test_a_filter_that_is_missing_is_named(tmp_path, kspace):
    import h5py.h5z as filters

    space, options = h5py.h5s.create_simple(kspace.shape), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_chunk((1, *kspace.shape[1:]))
    options.set_filter(32004, filters.FLAG_OPTIONAL, (0,))  # LZ4
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.h5t.py_create(kspace.dtype, logical=True)
        data = h5py.h5d.create(file.id, b"kspace", kind, space, dcpl=options)
        data.write_direct_chunk((0, 0, 0, 0), bytes(kspace[0].nbytes), 0)
    with pytest.raises(InputError, match=r"compressed by a filter.*h5repack"):
        read(tmp_path / "a.h5")


# -- axes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", itertools.permutations(("slice", "coil", "ky", "kx")))
def test_named_axes_in_any_order(tmp_path, kspace, noise, order):
    there = ("slice", "coil", "ky", "kx")
    moved = kspace.transpose([there.index(name) for name in order])
    np.savez(tmp_path / "a.npz", kspace=moved, noise=noise)
    same(read(tmp_path / "a.npz", axes=",".join(order)), kspace)
    same(read(tmp_path / "a.npz", axes=order), kspace)


@pytest.mark.parametrize(
    "order", [p for p in itertools.permutations(("coil", "ky", "kx")) if p.index("ky") < p.index("kx")]
)
@pytest.mark.parametrize("companion", ["noise", "coil_maps", "noise_covariance"])
def test_slices_are_told_by_what_stands_beside_them(tmp_path, kspace, noise, order, companion):
    there = ("coil", "ky", "kx")
    moved = kspace[0].transpose([there.index(name) for name in order])
    maps = np.broadcast_to(np.arange(1, COILS + 1, dtype=np.complex64)[:, None, None], kspace[0].shape)
    beside = {"noise": noise, "coil_maps": maps, "noise_covariance": PSI}[companion]
    np.savez(tmp_path / "a.npz", kspace=moved, **{companion: beside})
    found = read(tmp_path / "a.npz")
    same(found, kspace[0])
    assert found.coil_maps is None or torch.equal(found.coil_maps, torch.from_numpy(maps.copy()))


def test_a_mask_tells_no_coils_from_slices(tmp_path, kspace):
    mask = np.ones((NY, NX), bool)
    mask[3] = False
    np.savez(tmp_path / "a.npz", kspace=kspace[0], mask=mask)
    scan = read(tmp_path / "a.npz")
    same(scan, kspace[0] * mask)
    assert "nothing in the file confirms it" in scan.notes[0]
    np.savez(tmp_path / "b.npz", kspace=np.moveaxis(kspace[0], 0, 1), mask=mask)
    with pytest.raises(InputError, match="which axis.*36 × 44 by mask.*--axes ky,coil,kx"):
        read(tmp_path / "b.npz")


SHAPES = {
    "coil last (meddlr)": (48, 36, 30, 8),
    "coil last, few slices": (4, 64, 48, 6),
    "coil in the middle, frames": (20, 64, 6, 48),
    "averages": (3, 4, 6, 64, 48),
    "echoes, coil last (SKM-TEA)": (32, 24, 20, 2, 6),
    "more coils than samples": (1, 200, 64, 48),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("form", ["npz", "h5", "npy"])
def test_what_cannot_be_told_is_asked(tmp_path, rng, shape, form):
    path, values = tmp_path / f"a.{form}", circular(rng, *shape)
    if form == "npz":
        np.savez(path, kspace=values)
    else:
        np.save(path, values) if form == "npy" else hdf5(path, kspace=values)
    with pytest.raises(
        InputError, match=r"which axis of its k-space is which.*--axes [a-z,]+ \(in Python axes="
    ) as caught:
        read(path)
    assert str(shape) in caught.value.received


def test_one_slice_of_hdf5_may_be_coils_or_slices(tmp_path, kspace):
    with pytest.raises(InputError, match="which axis.*--axes coil,ky,kx"):
        read(hdf5(tmp_path / "a.h5", kspace=kspace[0]))
    assert read(tmp_path / "a.h5", axes="slice,ky,kx").kspace.shape == (COILS, 1, NY, NX)


def test_the_order_of_a_format_holds_unless_something_speaks_against_it():
    usual = (("coil", "ky", "kx"), ("slice", "coil", "ky", "kx"))
    names, note = axis_order((3, 5, 36, 44), "a", Evidence(), usual, "npz")
    assert names == usual[1] and "nothing in the file confirms it" in note
    assert axis_order((3, 5, 36, 44), "a", Evidence(coils={"x": 5}), usual, "npz") == (usual[1], None)
    # Slices or partitions: no size tells.
    with pytest.raises(InputError):
        axis_order((5, 3, 36, 44), "a", Evidence(coils={"x": 5}, spatial={"mask": (36, 44)}), usual, "npz")
    known = Evidence(coils={"x": 5}, spatial={"mask": (36, 44)}, flat=True)
    assert axis_order((5, 3, 36, 44), "a", known, usual, "npz")[0] == ("coil", "slice", "ky", "kx")
    # Two axes of five: whichever the format has.
    assert axis_order((5, 5, 36, 44), "a", Evidence(coils={"x": 5}), usual, "npz") == (usual[1], None)


@pytest.mark.parametrize("axes", ["coil,ky", "coil,ky,kx,kx", "coils,ky,kx", "", ("coil", "x", "y")])
def test_names_that_are_none(axes):
    with pytest.raises(InputError, match="names of the axes"):
        parsed_axes(axes)


def test_names_of_another_number(tmp_path, kspace):
    np.savez(tmp_path / "a.npz", kspace=kspace)
    with pytest.raises(InputError, match="do not fit"):
        read(tmp_path / "a.npz", axes="coil,ky,kx")


def test_mrd_needs_no_names(tmp_path, rng):
    from test_malformed_files import mrd

    with pytest.raises(InputError, match="Leave --axes out"):
        read(mrd(tmp_path / "a.h5", rng), axes="coil,ky,kx")


def test_a_volume_by_name(tmp_path, rng):
    values = circular(rng, COILS, 12, 14, 16)
    np.save(tmp_path / "a.npy", values.transpose(1, 2, 3, 0))
    scan = read(tmp_path / "a.npy", axes="kz,ky,kx,coil")
    assert scan.spatial_dims == 3 and scan.axes == ()
    same(scan, values)


def test_single_coil_without_a_coil_axis(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace[:, 0])
    assert read(tmp_path / "a.npy", axes="frame,ky,kx").kspace.shape == (SLICES, 1, NY, NX)
    np.save(tmp_path / "b.npy", kspace[0, 0])
    assert read(tmp_path / "b.npy", axes="ky,kx").image_shape == (NY, NX)


# -- averages ----------------------------------------------------------------------------------------------------------


def test_averages_are_averaged_and_counted(tmp_path, rng, noise):
    """As in fastMRI prostate: averages 0 and 2 measured even lines, average 1 odd ones. C4: Ψ / m."""
    signal = circular(rng, 2, COILS, NY, NX)
    repeats = np.stack([signal + circular(rng, 2, COILS, NY, NX) for _ in range(3)])
    repeats[0::2, ..., 1::2, :] = 0
    repeats[1, ..., ::2, :] = 0
    path = hdf5(tmp_path / "a.h5", kspace=repeats, noise=noise)
    with pytest.raises(InputError, match="which axis.*--axes average,slice,coil,ky,kx"):
        read(path)
    scan = read(path, axes="average,slice,coil,ky,kx")
    wanted = np.empty_like(signal)
    wanted[..., ::2, :] = (repeats[0] + repeats[2])[..., ::2, :] / 2
    wanted[..., 1::2, :] = repeats[1, ..., 1::2, :]
    assert torch.allclose(scan.kspace, torch.from_numpy(wanted), atol=1e-6)
    assert bool(scan.mask.all()) and scan.averages[:, 0].tolist() == [2, 1] * (NY // 2)
    assert "averaged over 3 measurements" in " ".join(scan.notes)
    # The last axis may be the averages as well.
    last = hdf5(tmp_path / "b.h5", kspace=np.moveaxis(repeats, 0, -1), noise=noise)
    assert torch.equal(read(last, axes="slice,coil,ky,kx,average").averages, scan.averages)


def test_noise_of_averages_without_a_noise_scan(tmp_path, rng):
    """Ψ is that of one measurement: 3 × that of the mean. 4 averages, 4·10⁴ samples: 0.3 %."""
    repeats = 1.7 * circular(rng, 4, COILS, 64, 64)
    np.save(tmp_path / "a.npy", repeats)
    scan = read(tmp_path / "a.npy", axes="average,coil,ky,kx")
    assert scan.noise_covariance.mean_variance == pytest.approx(1.7**2, rel=0.03)
    assert float(scan.averages.max()) == 4


# -- fastMRI: header and mask ------------------------------------------------------------------------------------------


def header(x, y, channels=None):
    system = f"<receiverChannels>{channels}</receiverChannels>" if channels else ""
    system = f"<acquisitionSystemInformation>{system}</acquisitionSystemInformation>" if channels else ""
    space = f"<matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>"
    space += f"<fieldOfView_mm><x>{4 * x}</x><y>{3 * y}</y><z>5</z></fieldOfView_mm>"
    return (
        f'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">{system}<experimentalConditions>'
        "<H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding><encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace><encodingLimits/>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def test_phase_encoding_first_is_seen_by_the_header(tmp_path, kspace):
    usual = read(hdf5(tmp_path / "a.h5", kspace=kspace, ismrmrd_header=header(NY, NX, COILS)))
    assert usual.geometry.voxel_size == (5, 4, 3) and usual.notes == ()
    turned = read(hdf5(tmp_path / "b.h5", kspace=kspace, ismrmrd_header=header(NX, NY, COILS)))
    assert turned.geometry.voxel_size == (5, 3, 4) and "last axis" in turned.notes[0]


def test_coils_last_are_seen_by_the_header(tmp_path, kspace):
    last = np.moveaxis(kspace, 1, -1)
    scan = read(hdf5(tmp_path / "a.h5", kspace=last, reconstruction_rss=np.ones((SLICES, 20, 20)),
                     ismrmrd_header=header(NY, NX, COILS)))  # fmt: skip
    same(scan, kspace)
    assert "recognized as slice, ky, kx, coil: 5 coils by the header, 3 slices by reconstruction_rss" in scan.notes[0]


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("along", ["ky", "kx"])
def test_a_mask_of_lines_is_put_along_the_axis_that_it_fits(tmp_path, rng, square, along):
    """By its length, or where that fits both, by the lines that were not measured."""
    values = circular(rng, SLICES, COILS, NX if square else NY, NX)
    n = values.shape[-2] if along == "ky" else NX
    mask = np.zeros(n, bool)
    mask[::3] = True
    mask[20:24] = True
    spread = mask[:, None] if along == "ky" else mask
    scan = read(hdf5(tmp_path / "a.h5", kspace=values * spread, mask=mask.astype(np.float32)))
    assert torch.equal(scan.mask, torch.from_numpy(np.broadcast_to(spread, values.shape[-2:]).copy()))
    assert any("mask runs along ky" in note for note in scan.notes) == (along == "ky")


def test_a_mask_of_columns_where_nothing_else_tells(tmp_path, rng):
    values = circular(rng, SLICES, COILS, NX, NX)
    mask = np.arange(NX) % 3 == 0
    scan = read(hdf5(tmp_path / "a.h5", kspace=values, mask=mask))  # fastMRI: columns
    assert torch.equal(scan.mask[7], torch.from_numpy(mask))
    np.savez(tmp_path / "b.npz", kspace=values, mask=mask)
    with pytest.raises(InputError, match="Expand a line mask"):
        read(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", kspace=values, mask=np.ones(NX, bool))
    assert bool(read(tmp_path / "c.npz").mask.all())


def test_single_coil_fastmri_with_header(tmp_path, kspace):
    scan = read(hdf5(tmp_path / "a.h5", kspace=kspace[:, 0], ismrmrd_header=header(NY, NX, 15)))
    assert scan.kspace.shape == (SLICES, 1, NY, NX)


# -- the command -------------------------------------------------------------------------------------------------------


def test_info_says_what_was_understood(tmp_path, kspace, noise):
    path = hdf5(tmp_path / "a.h5", kspace=records(np.moveaxis(kspace, 1, -1)), noise=noise)
    text = run("info", path, "--axes", "slice,ky,kx,coil")
    assert "a.h5 (HDF5)" in text and "(3, 5, 36, 44) (slice, coil, k1, k0)" in text
    np.save(tmp_path / "b.npy", np.stack([kspace[0]] * 2))
    text = run("info", tmp_path / "b.npy", "--axes", "average,coil,ky,kx")
    assert "b.npy (npy)" in text and "2 to 2 of each sample" in text


def test_the_commands_take_names_of_axes(tmp_path, kspace, noise):
    np.save(tmp_path / "a.npy", np.moveaxis(kspace, 1, -1))
    np.save(tmp_path / "n.npy", noise)
    common = (
        tmp_path / "a.npy",
        "--noise",
        tmp_path / "n.npy",
        "--axes",
        "slice,ky,kx,coil",
        "--slice",
        1,
        "-r",
        "rss",
    )
    run("map", *common, "-m", "sketch", "-n", 2, "-o", tmp_path / "m.h5")
    run("roi", *common, "--region", "circle:18,20,6")
    assert "which axis" in run("map", tmp_path / "a.npy", "-r", "rss", code=2)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_numbers_of_matlab_5_are_those_of_scipy(tmp_path, rng, compressed):
    """Every class of number, stored in as few bytes as scipy finds; other variables beside them."""
    import scipy.io

    from mrnoise.io.scans.matlab5 import matrices

    real = {
        kind: rng.integers(0, 100, (3, 4, 5)).astype(kind) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
    }
    both = {
        f"c{kind}": values.astype(kind)
        for kind, values in (("c8", circular(rng, 4, 6)), ("c16", circular(rng, 2, 7, 3)))
    }
    arrays = {f"n{kind}": values for kind, values in (real | both).items()} | {"one": np.array([[2.5]])}
    others = {"words": "text", "struct": {"a": 1}, "cells": np.array([1, "a"], object), "none": np.zeros((0, 3))}
    scipy.io.savemat(tmp_path / "a.mat", arrays | others, do_compression=compressed)
    found, _ = matrices((tmp_path / "a.mat").read_bytes())
    assert set(found) == {*arrays, "none"}
    for name, wanted in arrays.items():
        values = found[name].values()
        assert values.dtype == wanted.dtype and np.array_equal(values, wanted), name


@pytest.mark.parametrize("form", ["npy", "mat 5", "mat 5 compressed", "mat 7.3", "cfl"])
def test_damaged_files_are_read_or_refused(tmp_path, rng, kspace, noise, form):
    import random

    import scipy.io

    path = tmp_path / f"a.{form.split()[0]}"
    if form == "npy":
        np.save(path, kspace[0])
    elif form == "cfl":
        cfl(path, kspace[0].T[:, :, None])
    elif form == "mat 7.3":
        matlab73(path, kspace=kspace[0], noise=noise[:, :50])
    else:
        arrays = {"kspace": kspace[0], "noise": noise[:, :50]}
        scipy.io.savemat(path, arrays, do_compression=form.endswith("compressed"))
    parts = [path, path.with_suffix(".hdr")] if form == "cfl" else [path]
    whole = [part.read_bytes() for part in parts]
    draw = random.Random(4)
    refused = 0
    for trial in range(60):
        data = [bytearray(part) for part in whole]
        some = data[trial % len(data)]
        if trial < 12:
            del some[draw.randrange(len(some)) :]
        else:
            for _ in range(draw.choice([1, 3, 20])):
                some[draw.randrange(min(len(some), 3000))] = draw.choice([0, 255, draw.randrange(256)])
        for part, values in zip(parts, data, strict=True):
            part.write_bytes(values)
        try:
            read(path, axes="coil,ky,kx" if form == "npy" else None)
        except InputError:
            refused += 1
    assert refused >= 12
