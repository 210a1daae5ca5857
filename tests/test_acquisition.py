import dataclasses

import pytest
import torch

import mrnoise
from mrnoise import Acquisition, Geometry, InputError, NoiseCovariance
from mrnoise.acquisition import noise_covariance_from_scan
from mrnoise.fourier import to_image, to_kspace
from mrnoise.reconstruction import Sense
from mrnoise.sampling import alias_lattice, caipi, equispaced
from mrnoise.simulation import simulate

SHAPE = (2, 3, 6, 10)  # slice, coil, k1, k0


def kspace(shape=SHAPE, seed=0):
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def covariance(n=3, seed=0):
    a = torch.randn(n, 2 * n, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))
    return a @ a.mH


def test_shapes_are_named():
    acq = Acquisition(kspace(), covariance())
    assert (acq.n_coils, acq.batch_shape, acq.spatial_shape, acq.image_shape) == (3, (2,), (6, 10), (2, 6, 10))
    volume = Acquisition(kspace((3, 4, 6, 10)), covariance(), spatial_dims=3)
    assert (volume.n_coils, volume.batch_shape, volume.image_shape) == (3, (), (4, 6, 10))
    assert volume.kspace.shape[volume.coil_axis] == 3


def test_frozen_and_input_untouched():
    y = kspace()
    before = y.clone()
    acq = Acquisition(y, covariance(), mask=equispaced((6, 10), 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        acq.kspace = y
    torch.testing.assert_close(y, before)


def test_unsampled_k_space_is_zero_and_mask_is_found():
    mask = equispaced((6, 10), 2)
    acq = Acquisition(kspace(), covariance(), mask=mask)
    assert float(acq.kspace[..., ~mask].abs().max()) == 0
    found = Acquisition(acq.kspace, covariance())
    assert bool((found.mask == mask).all())
    assert found.acceleration == pytest.approx(2.0)


def test_different_masks_per_slice():
    masks = torch.stack([equispaced((6, 10), 2), equispaced((6, 10), 3)])
    acq = Acquisition(kspace(), covariance(), mask=masks)
    first, second = acq.slices()
    assert bool((first.mask == masks[0]).all()) and bool((second.mask == masks[1]).all())
    assert first.kspace.shape == (3, 6, 10)


def test_noise_has_the_covariance_that_was_asked_for():
    """Total complex variance, with the right Cholesky side: Ψ, not its conjugate, not half of it."""
    psi = covariance()
    acq = Acquisition(kspace((3, 40, 50)), psi, mask=equispaced((40, 50), 2))
    n = 40
    v = torch.randn((n, 3, 40, 50), dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    noise = acq.colour(v)
    assert float(noise[..., ~acq.mask].abs().max()) == 0
    samples = noise[..., acq.mask].movedim(1, 0).reshape(3, -1)
    found = samples @ samples.mH / samples.shape[1]
    floor = samples.shape[1] ** -0.5  # of each entry, relative to √(Ψ_aa Ψ_bb)
    scale = psi.diagonal().real.sqrt()
    assert float(((found - psi).abs() / (scale[:, None] * scale)).max()) < 4 * floor
    assert float(((found.conj() - psi).abs() / (scale[:, None] * scale)).max()) > 20 * floor


def test_averages_reduce_the_noise():
    averages = torch.full((6, 10), 4.0)
    v = kspace((3, 6, 10), 5)
    once = Acquisition(kspace((3, 6, 10)), covariance())
    torch.testing.assert_close(once.replace(averages=averages).colour(v), once.colour(v) / 2)


def test_colour_adjoint():
    acq = Acquisition(
        kspace((3, 6, 10)).to(torch.complex128),
        covariance(),
        mask=equispaced((6, 10), 2),
        averages=torch.randint(1, 4, (6, 10), generator=torch.Generator().manual_seed(0)),
    )
    v, w = (kspace((3, 6, 10), s).to(torch.complex128) for s in (7, 8))
    left, right = (acq.colour(v).conj() * w).sum(), (v.conj() * acq.colour_adjoint(w)).sum()
    torch.testing.assert_close(left, right)


def test_whitening_inverts_colouring():
    psi = NoiseCovariance(covariance())
    v = kspace((5, 3, 4), 2).to(torch.complex128)
    torch.testing.assert_close(psi.whiten(psi.colour(v, 1), 1), v)
    torch.testing.assert_close(psi.factor @ psi.factor.mH, psi.matrix)


def test_covariance_of_a_noise_scan():
    psi = NoiseCovariance(covariance())
    n = 20_000
    noise = psi.colour(kspace((3, n), 3).to(torch.complex128), 0)
    found = noise_covariance_from_scan(noise)
    assert float((found.matrix - psi.matrix).abs().max() / psi.matrix.abs().max()) < 4 * n**-0.5
    assert found.n_samples == n and str(n) in found.source
    report = found.describe()
    assert report["condition_number"] == pytest.approx(psi.condition_number, rel=0.1)


def test_largest_correlation():
    psi = torch.tensor([[4.0, 1.2j, 0], [-1.2j, 1, 0], [0, 0, 9]])
    assert NoiseCovariance(psi).largest_correlation == pytest.approx(0.6)
    assert NoiseCovariance(torch.diag(torch.tensor([1.0, 5.0]))).largest_correlation == pytest.approx(0)


@pytest.mark.parametrize("shape", [(5, 6), (7, 4, 9)])
def test_fourier_is_unitary_and_centred(shape):
    dims = len(shape)
    x = kspace(shape).to(torch.complex128)
    y = to_kspace(x, dims)
    torch.testing.assert_close(to_image(y, dims), x)
    torch.testing.assert_close(y.norm(), x.norm())
    constant = to_kspace(torch.ones(shape, dtype=torch.complex128), dims)
    centre = tuple(n // 2 for n in shape)
    assert constant[centre].real == pytest.approx(x.numel() ** 0.5)
    constant[centre] = 0
    assert float(constant.abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("mask", "r"),
    [
        (equispaced((12, 10), 3, offset=1), 3),
        (caipi((12, 10), (2, 2)), 4),
        (caipi((6, 9, 5), (2, 3)), 6),
        (torch.ones(4, 5, dtype=torch.bool), 1),
    ],
)
def test_alias_lattice_predicts_the_aliases(mask, r):
    lattice = alias_lattice(mask)
    assert lattice.acceleration == r
    assert not any(lattice.shifts[0])
    x = kspace(tuple(mask.shape), 4).to(torch.complex128)
    aliased = to_image(to_kspace(x, mask.ndim) * mask, mask.ndim)
    coefficients = lattice.coefficients.reshape(-1, *[1] * mask.ndim)
    torch.testing.assert_close((coefficients * lattice.aliases(x)).sum(0), aliased)


@pytest.mark.parametrize("mask", [equispaced((12, 10), 3, calibration=4), equispaced((10, 10), 3)])
def test_irregular_sampling_has_no_lattice(mask):
    with pytest.raises(InputError, match=r"not a regular lattice.*CgSense"):
        alias_lattice(mask)


def bad(**changes):
    fields = {"kspace": kspace(), "noise_covariance": covariance()}
    return lambda: Acquisition(**(fields | changes))


NAN = kspace()
NAN[0, 1, 2, 3] = complex("nan")
INF = kspace()
INF[0, 1, 2, 3] = complex("inf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad(kspace=NAN), "NaN or infinite samples.*1 of 360"),
        (bad(kspace=INF), "NaN or infinite samples.*1 of 360"),
        (bad(kspace=kspace((6, 10))), "k-space has the wrong shape.*coil, k1, k0.*kspace.None."),
        (bad(kspace=kspace((3, 0, 10))), "no axis empty"),
        (bad(kspace=torch.zeros(SHAPE)), "not complex.*torch.float32"),
        (bad(spatial_dims=1), "spatial_dims 2 or 3"),
        (bad(noise_covariance=covariance(4)), "coil count.*3 × 3.*4 × 4"),
        (bad(mask=torch.ones(10, 6)), r"mask has the wrong shape.*\(6, 10\).*\(10, 6\)"),
        (bad(mask=torch.zeros(6, 10)), "mask is empty"),
        (bad(kspace=torch.zeros(SHAPE, dtype=torch.complex64)), "k-space is zero"),
        (bad(coil_maps=torch.zeros(3, 10, 6, dtype=torch.complex64)), "coil maps do not fit"),
        (bad(coil_maps=torch.full((3, 6, 10), torch.nan, dtype=torch.complex64)), "coil maps contain NaN"),
        (bad(averages=torch.zeros(6, 10)), "averages do not fit"),
        (bad(calibration=kspace((3, 6, 10))), "calibration lines do not fit"),
        (bad(calibration=torch.full_like(kspace(), torch.nan)), "calibration lines contain NaN"),
        (bad(noise_covariance=covariance() + 1j), "not Hermitian"),
        (bad(noise_covariance=torch.diag(torch.tensor([2.0, 1.0, -0.5]))), "eigenvalue 0 of 3 = -0.5"),
        (bad(noise_covariance=torch.diag(torch.tensor([2.0, 1.0, 0.0]))), "not positive definite"),
        (bad(noise_covariance=torch.ones(3, 2)), "square matrix"),
        (bad(noise_covariance=torch.full((3, 3), torch.nan)), "NaN or infinite entries"),
        (lambda: Geometry((1.0, 0.0, 1.0)), "invalid voxel size"),
        (lambda: Geometry(affine=torch.zeros(4, 4).numpy()), "invalid affine"),
        (lambda: noise_covariance_from_scan(kspace((8, 8))), "more than 8 samples for 8 coils.*received 8"),
        (lambda: noise_covariance_from_scan(NAN[0]), "noise samples contain NaN"),
        (lambda: Acquisition(kspace(), covariance()).undersample(torch.ones(3, 3)), "mask has the wrong shape"),
    ],
)
def test_bad_input_gets_one_clear_error(make, message):
    with pytest.raises(InputError, match=f"(?s){message}") as caught:
        make()
    assert caught.value.expected and caught.value.received and caught.value.remedy


def test_geometry_affine_centres_the_image():
    affine = Geometry((3.0, 2.0, 1.0)).affine_for((5, 7, 9))
    centre = affine @ [4, 3, 2, 1]  # voxel (x, y, z)
    assert list(centre[:3]) == [0, 0, 0]
    assert list(affine.diagonal()) == [1, 2, 3, 1]


def test_notes_of_a_reader_go_along(tmp_path):
    scan = simulate((12, 10), 3).replace(notes=("4 lines of encoding space 1 left out",))
    assert scan.at().notes == scan.undersample(scan.mask).notes == scan.notes
    nm = mrnoise.noise_map(Sense(), scan, n_samples=4)
    mrnoise.save(nm, tmp_path / "map.h5")
    assert mrnoise.read_noise_map(tmp_path / "map.h5").provenance.notes == scan.notes
