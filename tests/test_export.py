"""Files for denoisers: what each tool documents, by the tool where there is a package of it."""

import dataclasses
import json
import shutil
import subprocess

import nibabel
import numpy as np
import pytest
import torch
from scipy.io import loadmat

from mrnoise import Geometry, InputError, export
from mrnoise.estimators.estimate import Estimate
from mrnoise.estimators.sampling_error import NoError
from mrnoise.result.noise_map import NoiseMap
from small_maps import OBLIQUE, small_map

FRAMES, SHAPE = 40, (7, 20, 18)  # (z, y, x)


def noisy_series(complex_image=True, snr=30.0, axes=("frame", "slice"), dims=2, seed=5):
    """Volumes that hold the same object and, each, noise of the σ that the map states: 1 to 2 along x."""
    random = torch.Generator().manual_seed(seed)
    std = torch.linspace(1, 2, SHAPE[-1], dtype=torch.float64).expand(FRAMES, *SHAPE).contiguous()
    signal = snr * std * torch.exp(1j * torch.linspace(0, 1, SHAPE[-2], dtype=torch.float64))[:, None]
    noise = torch.view_as_complex(torch.randn(FRAMES, *SHAPE, 2, generator=random, dtype=torch.float64)) / 2**0.5
    image = signal + std * noise
    pseudo = torch.zeros_like(image)
    if not complex_image:
        image, std = image.abs(), std / 2**0.5
        pseudo = std.square().to(torch.complex128)
    nm = NoiseMap(
        image=image.to(torch.complex64 if complex_image else torch.float32),
        estimate=Estimate(std.square(), pseudo, NoError(), "exact", 1, 1, False),
        geometry=Geometry((3.0, 0.9, 1.1), OBLIQUE),
        spatial_dims=dims,
        # g of 1.5: the fully sampled σ at R = 4.
        reference_std=std / (1.5 * 2),
        acceleration=4.0,
        axes=axes,
    )
    return nm, signal


def load(path):
    return nibabel.load(path).get_fdata(dtype=np.complex128)


def record(folder):
    found = json.loads((folder / "export.json").read_text())
    assert {"for", "files", "sigma", "scale", "axes", "remarks"} <= set(found)
    assert {p.name for p in folder.iterdir()} == {*found["files"], "export.json"}
    return found


# Of a σ from all numbers of the series, relative: 1/√(2n).
FLOOR = (2 * FRAMES * np.prod(SHAPE)) ** -0.5


def test_nordic_finds_white_noise_of_one_level(tmp_path):
    """The arithmetic of NORDIC.m: all but the last volume are divided by it, the noise level is std(real(noise))."""
    nm, signal = noisy_series()
    export.nordic(nm, tmp_path, seed=3)
    mat = loadmat(tmp_path / "KSP.mat")
    ksp = mat["KSP"]
    assert ksp.shape == (*SHAPE[::-1], FRAMES + 2) and np.iscomplexobj(ksp)
    assert mat["KSP_processed"].shape == (1, SHAPE[0]) and not mat["KSP_processed"].any()
    g = ksp[..., -1]
    assert not g.imag.any()
    flat = ksp[..., :-1] / g[..., None]
    level = flat[..., -1].real.std()
    clean = signal.permute(3, 2, 1, 0).numpy() / g[..., None]
    residual = (flat[..., :-1] - clean).real
    assert residual.std() == pytest.approx(1, abs=5 * FLOOR)
    # Along x, where σ doubles.
    assert np.abs(residual.std((1, 2, 3)) - 1).max() < 5 * FLOOR * SHAPE[-1] ** 0.5
    assert level == pytest.approx(1, abs=5 * (2 * np.prod(SHAPE)) ** -0.5)
    assert "std/√2" in record(tmp_path)["sigma"]


def test_nifti_nordic_has_the_noise_volume_last(tmp_path):
    nm, _ = noisy_series()
    export.nordic(nm, tmp_path)
    ksp = loadmat(tmp_path / "KSP.mat")["KSP"]
    magnitude, phase = (nibabel.load(tmp_path / f"{n}.nii.gz") for n in ("magnitude", "phase"))
    assert magnitude.shape == phase.shape == (*SHAPE[::-1], FRAMES + 1)
    np.testing.assert_allclose(magnitude.affine, OBLIQUE, atol=1e-5)
    joined = magnitude.get_fdata() * np.exp(1j * phase.get_fdata())
    np.testing.assert_allclose(joined, ksp[..., :-1], atol=1e-3)


def test_voxels_without_noise_do_not_change_the_level_of_nordic(tmp_path):
    nm, _ = noisy_series()
    variance = nm.variance.clone()
    variance[..., :9] = torch.nan
    image = nm.image.clone()
    image[..., :9] = torch.nan
    estimate = dataclasses.replace(nm.estimate, variance=variance)
    export.nordic(dataclasses.replace(nm, image=image, estimate=estimate), tmp_path)
    ksp = loadmat(tmp_path / "KSP.mat")["KSP"]
    assert np.isfinite(ksp).all()
    noise = (ksp[..., -2] / ksp[..., -1]).real
    assert noise.std() == pytest.approx(1, abs=5 * (2 * np.prod(SHAPE)) ** -0.5)
    assert any("have no σ" in remark for remark in record(tmp_path)["remarks"])


@pytest.mark.parametrize(("axes", "dims"), [(("frame", "slice"), 2), (("slice", "frame"), 2), (("frame",), 3)])
def test_snraware_has_noise_of_g_in_each_channel(tmp_path, axes, dims):
    nm, signal = noisy_series(axes=("frame", "slice") if dims == 2 else axes, dims=dims)
    if axes == ("slice", "frame"):
        turned = {name: getattr(nm, name).swapaxes(0, 1) for name in ("image", "reference_std")}
        nm = dataclasses.replace(nm, **turned, estimate=nm.estimate.map(lambda v: v.swapaxes(0, 1)), axes=axes)
    export.snraware(nm, tmp_path)
    values = np.load(tmp_path / "input.npy")
    nz, ny, nx = SHAPE
    assert values.dtype == np.float32
    assert values.shape == ((nz, 3, FRAMES, ny, nx) if dims == 2 else (FRAMES, 3, nz, ny, nx))
    np.testing.assert_allclose(values[:, 2], 1.5, rtol=1e-5)
    time = 1 if dims == 2 else 0
    for channel in (0, 1):
        sd = values[:, channel].std(axis=time, ddof=1)
        assert np.sqrt((sd**2).mean()) == pytest.approx(1.5, rel=5 * FLOOR)
    record(tmp_path)


@pytest.mark.parametrize("complex_image", [True, False])
def test_dwidenoise2_takes_what_dwidenoise_writes(tmp_path, complex_image):
    """The total over both channels for complex series, that of one for magnitudes."""
    nm, signal = noisy_series(complex_image)
    export.dwidenoise2(nm, tmp_path)
    dwi, noise = load(tmp_path / "dwi.nii.gz"), load(tmp_path / "noise.nii.gz").real
    clean = signal.permute(3, 2, 1, 0).numpy()
    residual = dwi - (clean if complex_image else np.abs(clean))
    measured = np.sqrt((np.abs(residual) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(noise.mean((1, 2)) / measured, 1, atol=5 * FLOOR * SHAPE[-1] ** 0.5 + 2e-3)
    assert ("√2" in record(tmp_path)["sigma"]) == complex_image


@pytest.mark.skipif(shutil.which("dwidenoise") is None, reason="MRtrix is not installed")
@pytest.mark.parametrize(("image", "sigma"), [("complex", "sigma_complex"), ("magnitude", "sigma_magnitude")])
def test_dwidenoise_finds_the_sigma_that_is_exported(tmp_path, image, sigma):
    """Estimate of 125 × 40 numbers a voxel of a patch; its own bias is 1 to 2 %."""
    nm, _ = noisy_series()
    export.mppca(nm, tmp_path)
    record(tmp_path)
    words = ["dwidenoise", "-quiet", tmp_path / f"{image}.nii.gz", tmp_path / "out.nii", "-noise", tmp_path / "n.nii"]
    subprocess.run(words, check=True)
    ratio = (load(tmp_path / "n.nii") / load(tmp_path / f"{sigma}.nii.gz")).real[3:-3, 3:-3, 3:-3]
    assert np.median(ratio) == pytest.approx(1, abs=0.03)


def test_dipy_finds_the_sigma_that_is_exported(tmp_path):
    localpca = pytest.importorskip("dipy.denoise.localpca")
    nm, signal = noisy_series()
    export.mppca(nm, tmp_path)
    magnitude = load(tmp_path / "magnitude.nii.gz").real
    sigma = load(tmp_path / "sigma_magnitude.nii.gz").real
    _, found = localpca.mppca(magnitude, patch_radius=2, return_sigma=True)
    assert np.median((found / sigma)[3:-3, 3:-3, 3:-3]) == pytest.approx(1, abs=0.03)
    # Given to localpca it takes away nearly all noise.
    denoised = localpca.localpca(magnitude, sigma=sigma, patch_radius=2)
    clean = np.abs(signal.permute(3, 2, 1, 0).numpy())
    left = np.sqrt(((denoised - clean)[3:-3, 3:-3, 3:-3] ** 2).mean() / (sigma[3:-3] ** 2).mean())
    assert left < 0.3


def test_noise_that_differs_between_volumes_is_said(tmp_path):
    nm, _ = noisy_series()
    strength = torch.linspace(1, 3, FRAMES, dtype=torch.float64).reshape(-1, 1, 1, 1)
    uneven = dataclasses.replace(nm, estimate=dataclasses.replace(nm.estimate, variance=nm.variance * strength))
    for folder, one in ((tmp_path / "even", nm), (tmp_path / "uneven", uneven)):
        export.dwidenoise2(one, folder)
    assert record(tmp_path / "even")["remarks"] == []
    assert "between volumes" in record(tmp_path / "uneven")["remarks"][0]
    pooled = load(tmp_path / "uneven" / "noise.nii.gz") / load(tmp_path / "even" / "noise.nii.gz")
    np.testing.assert_allclose(pooled, 2**0.5, rtol=1e-5)


def test_what_a_tool_cannot_take_is_refused(tmp_path):
    one = small_map((5, 22, 17))
    for write in (export.nordic, export.dwidenoise2, export.mppca):
        with pytest.raises(InputError, match="compares volumes"):
            write(one, tmp_path)
    magnitude, _ = noisy_series(complex_image=False)
    for write in (export.nordic, export.snraware):
        with pytest.raises(InputError, match="takes complex images"):
            write(magnitude, tmp_path)
    with pytest.raises(InputError, match="takes a g-factor map"):
        export.snraware(small_map(reference=False), tmp_path)
    with pytest.raises(InputError, match="invalid seed"):
        export.nordic(noisy_series()[0], tmp_path, seed=-1)
    assert list(tmp_path.iterdir()) == []
