"""Reading npz archives and fastMRI files, telling formats apart, and what is said of bad files."""

import re

import h5py
import numpy as np
import pytest
import torch

from mrnoise.errors import InputError
from mrnoise.io.scans.scan_file import read

COILS, NY, NX = 3, 40, 56
MIXING = np.array([[1.0, 0, 0], [0.4j, 1.5, 0], [0, -0.3, 0.7]])
PSI = MIXING @ MIXING.conj().T


def complex_noise(rng, *shape):
    return ((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)).astype(np.complex64)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def kspace(rng):
    return complex_noise(rng, COILS, NY, NX) + 1


@pytest.fixture
def scan(rng):
    return (MIXING @ complex_noise(rng, COILS, 20000)).astype(np.complex64)


def test_npz_with_everything(tmp_path, kspace, scan):
    mask = np.zeros((NY, NX), bool)
    mask[::2] = True
    maps = np.ones((COILS, NY, NX), np.complex64)
    np.savez(
        tmp_path / "a.npz", kspace=kspace, noise=scan, mask=mask, coil_maps=maps, voxel_size=[4, 2, 1.5], extra="x"
    )
    acq = read(tmp_path / "a.npz")
    assert torch.equal(acq.kspace, torch.from_numpy(kspace * mask))
    assert torch.equal(acq.mask, torch.from_numpy(mask))
    assert acq.geometry.voxel_size == (4, 2, 1.5)
    assert acq.geometry.measured
    assert acq.coil_maps.shape == (COILS, NY, NX)
    assert acq.source == "a.npz (npz)"
    assert acq.noise_covariance.n_samples == 20000
    # Sampling error of an entry is 0.7 %; Ψ per real channel would be half, N−1 is no matter.
    scale = np.sqrt(np.outer(np.diag(PSI), np.diag(PSI)).real)
    assert np.abs((acq.noise_covariance.matrix.numpy() - PSI) / scale).max() < 0.035


def test_npz_volume_and_leading_axes(tmp_path, rng):
    values = complex_noise(rng, 2, COILS, 6, NY, NX)
    np.savez(tmp_path / "a.npz", kspace=values, noise=complex_noise(rng, COILS, 4, 50), spatial_dims=3)
    acq = read(tmp_path / "a.npz")
    assert (acq.batch_shape, acq.n_coils, acq.spatial_shape) == ((2,), COILS, (6, NY, NX))
    assert acq.noise_covariance.n_samples == 200
    assert not acq.geometry.measured


def test_npz_of_other_byte_order(tmp_path, kspace, scan):
    np.savez(tmp_path / "a.npz", kspace=kspace.astype(">c8"), noise=scan.astype(">c16"))
    assert torch.equal(read(tmp_path / "a.npz").kspace, torch.from_numpy(kspace))


def test_without_noise_scan_psi_is_estimated_and_says_so(tmp_path, rng):
    np.savez(tmp_path / "a.npz", kspace=complex_noise(rng, COILS, NY, NX))
    psi = read(tmp_path / "a.npz").noise_covariance
    assert psi.source.startswith("estimated from the image background")
    assert abs(psi.mean_variance - 1) < 0.05  # 2000 samples × 3 coils: 1.3 %


def write_fastmri(path, kspace, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in {"kspace": kspace, **arrays}.items():
            file[name] = values


HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>40</x><y>56</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>400</x><y>168</y><z>4.5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>20</x><y>20</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>200</x><y>160</y><z>4.5</z></fieldOfView_mm></reconSpace>
  <encodingLimits/><trajectory>cartesian</trajectory>
 </encoding>
</ismrmrdHeader>"""


def test_fastmri_axes_mask_padding_and_voxel_size(tmp_path, rng):
    values = complex_noise(rng, 2, COILS, NY, NX)
    values[..., :5] = 0  # padded columns, which fastMRI masks may call sampled
    columns = np.zeros(NX, bool)
    columns[::4] = True
    columns[20:30] = True
    write_fastmri(tmp_path / "f.h5", values, mask=columns, ismrmrd_header=HEADER)
    acq = read(tmp_path / "f.h5")
    assert (acq.batch_shape, acq.n_coils, acq.spatial_shape) == ((2,), COILS, (NY, NX))
    wanted = columns & (np.arange(NX) >= 5)
    assert torch.equal(acq.mask, torch.from_numpy(wanted).expand(NY, NX))
    assert torch.equal(acq.kspace, torch.from_numpy(values * wanted))
    # Rows: readout, 400 mm over 40 samples with oversampling. Columns: 168 mm over 56.
    assert acq.geometry.voxel_size == pytest.approx((4.5, 10, 3))
    assert "background of the readouts" in acq.noise_covariance.source


def test_fastmri_single_coil_without_header(tmp_path, rng):
    values = complex_noise(rng, 4, NY, NX)
    write_fastmri(tmp_path / "f.h5", values, noise=complex_noise(rng, 1, 100))
    acq = read(tmp_path / "f.h5")
    assert acq.kspace.shape == (4, 1, NY, NX)
    assert acq.noise_covariance.n_samples == 100
    assert not acq.geometry.measured


def test_the_name_does_not_decide(tmp_path, kspace, scan):
    np.savez(tmp_path / "a.npz", kspace=kspace, noise=scan)
    (tmp_path / "a.npz").rename(tmp_path / "a.h5")
    assert read(tmp_path / "a.h5").source == "a.h5 (npz)"


@pytest.mark.parametrize("form", ["npz", "h5"])
def test_separate_noise_file_replaces_the_own_scan(tmp_path, kspace, scan, form):
    np.savez(tmp_path / "a.npz", kspace=kspace, noise=scan * 10)
    noise = tmp_path / f"n.{form}"
    if form == "npz":
        np.savez(noise, noise=scan)
    else:
        with h5py.File(noise, "w") as file:
            file["noise"] = scan.reshape(COILS, 100, 200)
    psi = read(tmp_path / "a.npz", noise=noise).noise_covariance
    assert psi.matrix.numpy() == pytest.approx(scan @ scan.conj().T / 20000, rel=1e-4, abs=1e-4)
    assert f"n.{form}" in psi.source


def garbage(path, content):
    path.write_bytes(content)
    return path


def bad_files(folder, rng):
    """Each bad input: path, noise path or None, and words of the error."""
    kspace, scan = complex_noise(rng, COILS, NY, NX), complex_noise(rng, COILS, 50)

    def npz(name, **arrays):
        np.savez(folder / name, **arrays)
        return folder / name

    def hdf5(name, **arrays):
        with h5py.File(folder / name, "w") as file:
            for key, values in arrays.items():
                file[key] = values
        return folder / name

    good = npz("good.npz", kspace=kspace, noise=scan)
    good_h5 = hdf5("good.h5", kspace=kspace[None], noise=scan)
    nan = kspace.copy()
    nan[0, 1, 2] = np.nan
    yield "missing", folder / "no.npz", None, "no file"
    yield "folder", folder, None, "a folder"
    yield "text", garbage(folder / "t.npz", b"hello world"), None, "no known format.*hello"
    yield "empty", garbage(folder / "e.h5", b""), None, "no known format.*0 bytes"
    yield "png", garbage(folder / "p.h5", b"\x89PNG\r\n\x1a\n" + bytes(64)), None, "no known format.*PNG"
    half = good.read_bytes()
    yield "cut npz", garbage(folder / "c.npz", half[: len(half) // 2]), None, "cannot read c.npz.*truncated"
    half = good_h5.read_bytes()
    yield "cut HDF5", garbage(folder / "c.h5", half[: len(half) // 2]), None, "cannot read c.h5.*truncated"
    yield "other HDF5", hdf5("o.h5", weather=[1.0]), None, "no k-space.*weather"
    yield "empty HDF5", hdf5("oo.h5"), None, "no k-space.*nothing"
    yield "no kspace", npz("nk.npz", image=kspace, voxel_mm=1), None, "no k-space.*image, voxel_mm"
    yield "pickled", npz("pk.npz", kspace=np.array([{}], dtype=object)), None, "cannot read pk.npz.*pickled"
    yield "words", npz("w.npz", kspace=np.array(["a"])), None, "not numeric"
    yield "rank", npz("r.npz", kspace=kspace[0], noise=scan), None, "which axis.*--axes ky,kx"
    yield "rank, no noise", npz("rn.npz", kspace=kspace[0]), None, "which axis.*--axes ky,kx"
    yield "real", npz("re.npz", kspace=kspace.real, noise=scan), None, "not complex"
    yield "NaN", npz("nan.npz", kspace=nan, noise=scan), None, "NaN.*1 of"
    yield "NaN, no noise", npz("nn.npz", kspace=nan), None, "NaN.*1 of"
    yield "short noise", npz("sn.npz", kspace=kspace, noise=scan[:, :COILS]), None, "too few noise samples"
    yield "noise NaN", npz("nz.npz", kspace=kspace, noise=scan * np.nan), None, "noise samples contain NaN"
    yield "coils", npz("co.npz", kspace=kspace, noise=scan[:2]), None, "coil count.*3 coils.*2 in"
    yield "noise rank", npz("nr.npz", kspace=kspace, noise=scan[0]), None, "noise samples.*wrong shape"
    yield "real noise", npz("rl.npz", kspace=kspace, noise=scan.real), None, "noise samples.*type"
    yield "mask", npz("ma.npz", kspace=kspace, noise=scan, mask=np.ones(NY + 1)), None, "mask has the wrong shape"
    yield "voxels", npz("vo.npz", kspace=kspace, noise=scan, voxel_size=[1, 2]), None, "voxel_size"
    yield "dims", npz("di.npz", kspace=kspace, noise=scan, spatial_dims=2.5), None, "spatial_dims"
    yield "dims 4", npz("d4.npz", kspace=kspace, noise=scan, spatial_dims=4), None, "2 or 3"
    yield "fastMRI rank", hdf5("fr.h5", kspace=kspace[None, None]), None, "which axis.*slice,coil,ky,kx"
    yield "fastMRI real", hdf5("fl.h5", kspace=kspace.real), None, "not complex"
    yield "fastMRI mask", hdf5("fm.h5", kspace=kspace[None], mask=np.ones(NY + 1)), None, "mask has the wrong shape"
    yield "fastMRI header", hdf5("fh.h5", kspace=kspace[None], noise=scan, ismrmrd_header="<a/>"), None, "header"
    yield "fastMRI coils", hdf5("fc.h5", kspace=kspace[None], noise=scan[:2]), None, "coil count"
    yield "noise as scan", hdf5("ns.h5", noise=scan), None, "holds a noise scan, but no k-space"
    yield "no noise npz", good, npz("x.npz", kspace=kspace), "no array noise.*kspace"
    yield "no noise HDF5", good, hdf5("x.h5", kspace=kspace[None]), "holds no noise scan"
    yield "missing noise", good, folder / "absent.npz", "no file"


def test_bad_input_is_explained(tmp_path, rng):
    for case, path, noise, words in bad_files(tmp_path, rng):
        with pytest.raises(InputError) as caught:
            read(path, noise=noise)
        assert re.search(words, str(caught.value), re.DOTALL), case
        assert caught.value.remedy, case
